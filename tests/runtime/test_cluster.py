"""The cluster room: what is joined or started, what a cluster can ever give, where results go."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emoray.runtime import cluster
from emoray.runtime.cluster import Node, WorkerDemand
from tests.heads import REPO, clean_environment, ray_head, short_folder

HEAD = "node:__internal_head__"


def entry(cpus: float, gpus: float = 0, *, host: str = "a", head: bool = False) -> dict[str, Any]:
    """What Ray's node table says of one running node."""
    resources = {"CPU": cpus} | ({"GPU": gpus} if gpus else {}) | ({HEAD: 1.0} if head else {})
    return {
        "Alive": True,
        "NodeID": host,
        "NodeManagerHostname": host,
        "NodeManagerAddress": host,
        "Resources": resources,
    }


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The nodes of a cluster that we pretend to be connected to; it does not grow."""
    table: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: table)
    grow(monkeypatch, "")
    return table


def grow(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Let the head's monitor run with this configuration; None: no monitor is seen."""
    parsed = cluster.Scaling(False) if text is None else cluster.parse_scaling(yaml.safe_load(text))
    monkeypatch.setattr(cluster, "scaling", lambda: parsed)


# What a cluster can give --------------------------------------------------------------------------


def test_a_demand_that_fits_passes(nodes: list[dict[str, Any]]) -> None:
    nodes.append(entry(8, 1, head=True))
    cluster.check_demand(WorkerDemand(7))
    cluster.check_demand(WorkerDemand(4, 1, 0.25))


def test_more_workers_than_ever_are_refused_with_what_would_work(
    nodes: list[dict[str, Any]],
) -> None:
    nodes.append(entry(8, head=True))
    with pytest.raises(ValueError, match=r"9 workers.*1 node with 8 CPUs.*at most 7 such workers"):
        cluster.check_demand(WorkerDemand(9))


def test_workers_that_leave_data_tasks_no_cpu_are_refused(nodes: list[dict[str, Any]]) -> None:
    nodes.append(entry(2, head=True))
    with pytest.raises(ValueError, match="1 CPU for data"):
        cluster.check_demand(WorkerDemand(2))


def test_gpus_that_no_node_has_are_refused(nodes: list[dict[str, Any]]) -> None:
    nodes += [entry(8, head=True), entry(8, 1, host="b")]
    cluster.check_demand(WorkerDemand(1, 1, 1))
    with pytest.raises(ValueError, match="No node has more than 1 GPUs"):
        cluster.check_demand(WorkerDemand(1, 1, 2))
    with pytest.raises(ValueError, match="at most 1 such worker"):
        cluster.check_demand(WorkerDemand(2, 1, 1))


def test_a_worker_larger_than_every_node_is_refused(nodes: list[dict[str, Any]]) -> None:
    nodes += [entry(4, head=True), entry(4, host="b")]
    with pytest.raises(ValueError, match="Not one fits: no node has more than 4 CPUs"):
        cluster.check_demand(WorkerDemand(1, 6))


SCALING = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 2}}
  gpu: {resources: {CPU: 4, GPU: 1}, max_workers: 2}
  cpu: {resources: {CPU: 16}, max_workers: 9}
"""


def test_nodes_that_the_autoscaler_may_add_count(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.append(entry(2, head=True))
    grow(monkeypatch, SCALING)
    cluster.check_demand(WorkerDemand(2, 1, 1))
    with pytest.raises(ValueError, match=r"grows to at most 4 nodes.*at most 2 such workers"):
        cluster.check_demand(WorkerDemand(3, 1, 1))


def test_running_workers_do_not_count_twice(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes += [entry(2, head=True), entry(4, 1, host="b"), entry(4, 1, host="c")]
    grow(monkeypatch, SCALING)
    with pytest.raises(ValueError, match="at most 2 such workers"):
        cluster.check_demand(WorkerDemand(3, 1, 1))


def test_all_node_types_together_stay_below_the_clusters_limit() -> None:
    workers = cluster.parse_scaling(yaml.safe_load(SCALING)).workers
    assert workers == (Node(4, 1), Node(4, 1), Node(16, 0))


def test_a_node_type_whose_resources_nobody_knows_is_not_refused(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On premise Ray learns what a machine has when it joins."""
    nodes.append(entry(2, head=True))
    grow(
        monkeypatch,
        "{max_workers: 2, head_node_type: x, available_node_types: "
        "{x: {resources: {}, max_workers: 2}}}",
    )
    with caplog.at_level(logging.WARNING):
        cluster.check_demand(WorkerDemand(64))
    assert "waiting for more" in caplog.text


def test_an_autoscaler_that_cannot_be_asked_is_waited_for(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.append(entry(2, head=True))
    grow(monkeypatch, None)
    cluster.check_demand(WorkerDemand(64))


@pytest.mark.parametrize("wrong", [(0, 1, 0), (1, -1, 0), (1, 1, -0.5)])
def test_a_demand_without_meaning_is_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        WorkerDemand(*wrong)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=3), st.integers(1, 3))
def test_room_is_the_most_that_can_be_placed_beside_the_data(
    sizes: list[tuple[int, int]], cpus: int
) -> None:
    """Against every way of placing workers and one CPU for data on the nodes."""
    demand = WorkerDemand(1, cpus, 1)
    found = cluster.total_room([Node(c, g) for c, g in sizes], demand)
    assert found == max(placements(sizes, cpus), default=0)


def placements(sizes: Sequence[tuple[int, int]], cpus: int) -> list[int]:
    found = []
    for counts in itertools.product(*(range(g + 1) for _, g in sizes)):
        free = [c - n * cpus for (c, _), n in zip(sizes, counts, strict=True)]
        if all(f >= 0 for f in free) and any(f >= cluster.CPUS_FOR_DATA for f in free):
            found.append(sum(counts))
    return found


def test_a_tenth_of_a_gpu_fits_ten_times() -> None:
    assert Node(100, 1).room(WorkerDemand(1, 0.1, 0.1)) == 10


def test_cpus_left_open_are_shared_fairly_beside_the_data(nodes: list[dict[str, Any]]) -> None:
    nodes += [entry(8, head=True), entry(4, host="b")]
    shares = {n: cluster.connect(workers=WorkerDemand(n, 0)) for n in (1, 2, 3, 11)}
    assert {n: found.cpus_per_worker for n, found in shares.items() if found} == {
        **{1: 8, 2: 4, 3: 3},
        11: 1,
    }
    with pytest.raises(ValueError, match="12 workers of 1 CPU"):
        cluster.connect(workers=WorkerDemand(12, 0))


def test_a_worker_with_a_gpu_takes_one_cpu(nodes: list[dict[str, Any]]) -> None:
    nodes.append(entry(8, 2, head=True))
    assert cluster.connect(workers=WorkerDemand(2, 0, 1)) == WorkerDemand(2, 1, 1)


def test_connecting_for_data_alone_asks_for_no_workers(nodes: list[dict[str, Any]]) -> None:
    nodes.append(entry(1, head=True))
    assert cluster.connect() is None


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "advice"),
    [("http://127.0.0.1:8265", "ray job submit"), ("ray://127.0.0.1:10001", "part of the cluster")],
)
def test_an_address_that_no_driver_can_join_is_explained(address: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        cluster.address_to_join(address)


def test_the_job_servers_address_in_ray_address_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ValueError, match=r"RAY_ADDRESS.*job server"):
        cluster.address_to_join(None)


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="host:port of a Ray cluster, got head"):
        cluster.address_to_join("head")


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with pytest.raises(ConnectionError, match=r"nothing answers at 127\.0\.0\.1:1 "):
        cluster.address_to_join("127.0.0.1:1")


def test_the_option_comes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_answers", lambda _: True)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster.address_to_join(None) == "10.0.0.1:6379"
    assert cluster.address_to_join("10.0.0.2:6379") == "10.0.0.2:6379"
    assert cluster.address_to_join("local") is None


def test_a_cluster_that_has_died_is_not_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert cluster.address_to_join(None) is None
    with pytest.raises(ConnectionError, match="no Ray cluster runs"):
        cluster.address_to_join("auto")


def test_more_workers_than_this_machine_bears_are_refused_before_ray_starts() -> None:
    with pytest.raises(ValueError, match=r"at most \d+ workers on this machine.*got 4000"):
        cluster.start_local(WorkerDemand(4000), dashboard=False)


# Storage ------------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home folder, and no cluster."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(cluster.STORAGE_VARIABLE, raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    return tmp_path


def test_results_go_to_the_option_then_the_variable_then_the_home_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster.storage_root() == str(home / "emoray")
    monkeypatch.setenv("EMORAY_STORAGE", str(home / "variable"))
    assert cluster.storage_root() == str(home / "variable")
    assert cluster.storage_root(str(home / "option")) == str(home / "option")
    assert cluster.storage_root("~/tilde") == str(home / "tilde")
    assert cluster.storage_root(f"file://{home}/uri") == str(home / "uri")


def test_what_only_the_driver_reads_lies_in_the_storage_or_at_home(home: Path) -> None:
    assert cluster.local_folder("/data/emoray") == Path("/data/emoray")
    assert cluster.local_folder("s3://bucket/emoray") == home / "emoray"


def test_the_check_leaves_nothing_behind(home: Path) -> None:
    assert list(Path(cluster.storage_root()).iterdir()) == []


def test_a_uri_is_kept_as_it_is(home: Path) -> None:
    assert cluster.storage_root("mock:///bucket/emoray/") == "mock:///bucket/emoray"


@pytest.mark.parametrize("chosen", ["{home}/file/below", "/proc/emoray", "nosuch://bucket/x"])
def test_storage_that_cannot_be_written_is_refused(home: Path, chosen: str) -> None:
    (home / "file").touch()
    with pytest.raises(ValueError, match=r"need storage that can be written, got .*\(option\): \S"):
        cluster.storage_root(chosen.format(home=home))


def test_full_storage_is_refused(home: Path) -> None:
    """A limit on the size of files fails like a full disk: after the file was made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(
            ValueError, match=r"need storage that can be written, got .*\(default\)"
        ):
            cluster.storage_root()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((home / "emoray").iterdir()) == []


def test_a_submitted_job_refuses_a_relative_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match="absolute path or a URI in a submitted job"):
        cluster.storage_root("runs")


def test_several_machines_refuse_a_folder_of_one(home: Path, nodes: list[dict[str, Any]]) -> None:
    nodes += [entry(4, head=True), entry(4, host="b")]
    with pytest.raises(ValueError, match=r"need storage that all nodes share.*2 machines"):
        cluster.storage_root()
    assert cluster.storage_root(shared=True) == str(home / "emoray")
    assert cluster.storage_root("mock:///bucket/emoray") == "mock:///bucket/emoray"


def test_several_nodes_on_one_machine_share_its_folder(
    home: Path, nodes: list[dict[str, Any]]
) -> None:
    nodes += [entry(4, head=True), entry(4)]
    assert cluster.storage_root() == str(home / "emoray")


def test_a_cluster_that_will_grow_refuses_a_folder_of_its_head(
    home: Path, nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.append(entry(2, head=True))
    grow(monkeypatch, SCALING)
    with pytest.raises(ValueError, match="which the autoscaler extends"):
        cluster.storage_root()


# Real clusters ------------------------------------------------------------------------------------

LOCAL = """
import json, os
import ray
from emoray.runtime import cluster

demand = cluster.connect(address="local", workers=cluster.WorkerDemand(4, cpus_per_worker=0))

@ray.remote(num_cpus=demand.cpus_per_worker)
class Worker:
    def ready(self):
        return True

workers = [Worker.remote() for _ in range(4)]
ray.get([worker.ready.remote() for worker in workers])
rows = ray.data.range(8).map(lambda row: {"id": row["id"] + 1}).take_all()
facts = cluster.describe()
json.dumps(facts)
print("SAID", json.dumps({"rows": len(rows), "home": os.listdir(os.environ["HOME"]),
                          "cpus": facts["nodes"][0]["cpus"],
                          "share": demand.cpus_per_worker, "ray": facts["versions"]["ray"]}))
"""


def cores() -> int:
    return len(os.sched_getaffinity(0))


def said(output: str) -> Any:
    """What a program printed after SAID."""
    return json.loads(output.partition("SAID ")[2].splitlines()[0])


def run_program(program: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPO,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return said(done.stdout)


@pytest.mark.slow
def test_a_cluster_started_here_serves_data_beside_more_workers_than_cores() -> None:
    with short_folder() as folder:
        found = run_program(LOCAL, folder)
    assert found["rows"] == 8
    assert found["cpus"] == max(cores(), 4 * found["share"] + 2)
    assert found["share"] == max(1, cores() // 4)
    assert found["ray"] == cluster.ray.__version__
    # A token file would switch authentication on for the user's later clusters.
    assert found["home"] == []


JOINED = """
import json
import ray
from emoray.runtime import cluster

cluster.connect()

@ray.remote
def where():
    import emoray
    return emoray.__file__

refused = []
for demand in (cluster.WorkerDemand(2, 1, 1), cluster.WorkerDemand(3, 1, 1)):
    try:
        cluster.check_demand(demand)
    except ValueError as error:
        refused.append(str(error))
print("SAID", json.dumps({"where": ray.get(where.remote()), "refused": refused,
                          "address": ray.get_runtime_context().gcs_address}))
"""

FAKE_CLOUD = {
    "cluster_name": "fake",
    "provider": {"type": "fake_multinode"},
    "max_workers": 3,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 4, "GPU": 1}, "node_config": {}, "max_workers": 2},
    },
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{f"{when}_commands": [] for when in ("setup", "head_setup", "worker_setup")},
    **{f"{when}_commands": [] for when in ("initialization", "head_start_ray", "worker_start_ray")},
    **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    "file_mounts_sync_continuously": False,
    "idle_timeout_minutes": 5,
    "upscaling_speed": 1.0,
}


@pytest.mark.slow
def test_a_running_cluster_is_joined_with_our_code_and_its_autoscaler_asked(
    tmp_path: Path,
) -> None:
    """With the token that the user keeps at home, as `ray start` does."""
    config = tmp_path / "fake.yaml"
    config.write_text(yaml.safe_dump(FAKE_CLOUD))
    program = tmp_path / "program.py"
    program.write_text(JOINED)
    options = (f"--autoscaling-config={config}", "--num-cpus=2", "--include-dashboard=false")
    with ray_head(*options, environment={"RAY_FAKE_CLUSTER": "1"}, token=True) as head:
        head.environment["PYTHONPATH"] = str(REPO)
        found = said(head.run(sys.executable, program, cwd=tmp_path))
    assert found["address"] == head.address
    assert "py_modules_files" in found["where"]
    assert len(found["refused"]) == 1
    assert "at most 3 nodes with 10 CPUs and 2 GPUs" in found["refused"][0]


@pytest.mark.parametrize(
    ("gpus", "each"), [((0, 0), 0.0), ((1, 0), 0.0), ((1, 1), 1.0), ((4,), 1.0)]
)
def test_workers_take_a_gpu_each_where_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, gpus: tuple[int, ...], each: float
) -> None:
    nodes = [cluster.Node(cpus=8.0, gpus=float(n)) for n in gpus]
    monkeypatch.setattr(cluster, "_live_nodes", lambda: nodes)
    demand = cluster.WorkerDemand(2, 1.0)
    assert cluster.with_gpus(demand).gpus_per_worker == each


@pytest.mark.parametrize(
    ("asked", "gpus", "cpus"), [(None, 1.0, 1.0), (3.0, 1.0, 3.0), (0.5, 1.0, 0.5), (6.0, 0.0, 6.0)]
)
def test_workers_with_gpus_keep_the_cpus_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: float | None, gpus: float, cpus: float
) -> None:
    """Two of six CPUs do not fit beside the GPUs, and so they stay without them."""
    nodes = [Node(cpus=8.0, gpus=2.0), Node(cpus=16.0, gpus=0.0)]
    monkeypatch.setattr(cluster, "_live_nodes", lambda: nodes)
    found = cluster.with_gpus(WorkerDemand(2, asked or 12.0), cpus_per_worker=asked)
    assert (found.gpus_per_worker, found.cpus_per_worker) == (gpus, cpus)


def test_what_reads_for_itself_may_take_the_last_cpu(nodes: list[dict[str, Any]]) -> None:
    nodes.append(entry(1, head=True))
    cluster.check_demand(WorkerDemand(1), for_data=0)
    with pytest.raises(ValueError, match=r"1 worker of 2 CPU; .*no node has more than 1 CPUs$"):
        cluster.check_demand(WorkerDemand(1, 2), for_data=0)
    with pytest.raises(ValueError, match="1 CPU for data"):
        cluster.check_demand(WorkerDemand(1))

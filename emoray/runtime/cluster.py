"""Connect to Ray, what a cluster can give, where results go; only reader of the environment.

`connect` joins the cluster that the job was submitted to, one named by address, or one that
`ray start` left running on this machine; where there is none it starts Ray on this machine.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import secrets
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import yaml
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import find_bootstrap_address
from ray.exceptions import AuthenticationError

import emoray
from emoray import __version__
from emoray.runtime import ray_process
from emoray.runtime.storage import Storage, absolute, is_uri

logger = logging.getLogger(__name__)

STORAGE_VARIABLE = "EMORAY_STORAGE"
"""Folder or URI under which results go, where no option names one."""
DEFAULT_STORAGE = "~/emoray"
"""On the node of the driver: the job's own folder is a temporary one under `ray job submit`."""

CPUS_FOR_DATA = 1
"""Logical CPUs that must stay free of training workers: Ray Data waits for ever without one."""
SPARE_CPUS_LOCAL = 2
"""The same for a cluster started here: reading and transforming overlap."""
WORKERS_PER_CORE = 4
"""Most training workers per core of a cluster started here. Each is a process of 0.5-1 GB that
loads torch; beyond this the machine only swaps."""
OBJECT_STORE_BYTES = 2 * 1024**3
"""Upper bound for a cluster started here: what passes through the store is ids and reports,
signals are read where they are used."""

VERSIONED = ("ray", "torch", "numpy", "scipy", "pyarrow", "mne", "scikit-learn")
"""Packages named in run records, beside emoray."""

HEAD_RESOURCE = "node:__internal_head__"
"""Ray gives it to the head node and to no other."""


_QUIET: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
"""What workers print stays in their log files: Ray's own chatter would bury the job's lines. Errors
reach the driver as exceptions, and what a person should know of a worker is reported to it."""


_LOCAL = {
    # Workers speak to each other on the loopback interface, as all of a local cluster does.
    "GLOO_SOCKET_IFNAME": "lo" if platform.system() == "Linux" else "lo0",
    # Agents end with their raylet, however it ends; else they look for it for 40 s.
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
}
"""Environment of a cluster started here, where the user has not set it otherwise."""


@dataclass(frozen=True, slots=True)
class WorkerDemand:
    """Training workers that a run asks for; all of them must run at the same time."""

    n_workers: int = 1
    cpus_per_worker: float = 1.0
    """Logical CPUs; 0 for a fair share, which `connect` finds out."""
    gpus_per_worker: float = 0.0
    """A fraction shares a GPU between workers."""

    def __post_init__(self) -> None:
        if self.n_workers < 1:
            raise ValueError(f"need at least 1 worker, got {self.n_workers}")
        if self.cpus_per_worker < 0:
            raise ValueError(f"need CPUs per worker of 0 or more, got {self.cpus_per_worker:g}")
        if self.gpus_per_worker < 0:
            raise ValueError(f"need GPUs per worker of 0 or more, got {self.gpus_per_worker:g}")

    def __str__(self) -> str:
        gpus = f" and {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        workers = "1 worker" if self.n_workers == 1 else f"{self.n_workers} workers"
        return f"{workers} of {self.cpus_per_worker:g} CPU{gpus}"


@dataclass(frozen=True, slots=True)
class Node:
    """Logical resources of one node, running or possible."""

    cpus: float
    gpus: float

    def room(self, demand: WorkerDemand, *, kept: float = 0.0) -> int:
        """How many of the demanded workers fit beside `kept` CPUs."""
        # A small excess, so that 0.1 CPU fits ten times into one.
        room = math.floor(max(self.cpus - kept, 0.0) / demand.cpus_per_worker + 1e-6)
        if demand.gpus_per_worker:
            room = min(room, math.floor(self.gpus / demand.gpus_per_worker + 1e-6))
        return room


# --- connecting ---------------------------------------------------------------------------------


def connect(
    *,
    address: str | None = None,
    workers: WorkerDemand | None = None,
    dashboard: bool = False,
    spare_cpus: int = SPARE_CPUS_LOCAL,
) -> WorkerDemand | None:
    """Join a running Ray cluster, or start one on this machine; when connected, only check.

    Args:
        address: `host:port` of a cluster's GCS; `local` starts one here even if another runs.
            None: RAY_ADDRESS (the job server sets it), else the cluster that `ray start` left
            running on this machine, else a new one.
        workers: training workers that the run will ask for. A cluster started here gets logical
            CPUs for them and for data tasks, however few cores there are; without workers it
            gets one for each core.
        dashboard: serve Ray's dashboard from a cluster started here.
        spare_cpus: logical CPUs beside those of the workers in a cluster started here, one or more.

    Returns:
        `workers`, with the CPUs of each where they were left open: all of them together take
        this machine's cores; on a running cluster, what its nodes have beside data tasks. A
        worker with a GPU takes one CPU.

    Raises:
        ValueError: the address is not one that a driver can join, or the cluster can never give
            `workers`.
        ConnectionError: nothing answers at the address, or it refuses us.
    """
    if ray.is_initialized():
        return _settle(workers)
    found = address_to_join(address)
    if found is not None:
        _join(found)
    else:
        workers = start_local(workers, dashboard=dashboard, spare_cpus=spare_cpus)
    try:
        return _settle(workers)
    except ValueError:
        ray.shutdown()  # also ends a cluster that was started for this run
        raise


def with_gpus(demand: WorkerDemand, *, cpus_per_worker: float | None = None) -> WorkerDemand:
    """The same workers with a GPU each, where the connected cluster's live nodes have room for it.

    Args:
        demand: as `connect` settled it.
        cpus_per_worker: as asked for; where nobody did, a worker with a GPU takes one.

    Returns:
        The demand unchanged where there are too few GPUs, or too few CPUs beside them.
    """
    with_one = replace(demand, cpus_per_worker=cpus_per_worker or 1.0, gpus_per_worker=1.0)
    return with_one if total_room(_live_nodes(), with_one) >= demand.n_workers else demand


def n_gpus() -> float:
    """GPUs of the connected cluster's live nodes."""
    return sum(node.gpus for node in _live_nodes())


def _settle(workers: WorkerDemand | None) -> WorkerDemand | None:
    """The demand with CPUs for each worker, once it is known that it can be met."""
    if workers is None:
        return None
    if not workers.cpus_per_worker:
        workers = _fair_share(workers, _live_nodes())
    check_demand(workers)
    return workers


def _fair_share(demand: WorkerDemand, nodes: Sequence[Node]) -> WorkerDemand:
    """As many whole CPUs for each worker as leave room for all; one where none does."""
    most = 1 if demand.gpus_per_worker else int(max((n.cpus for n in nodes), default=1))
    shares = (replace(demand, cpus_per_worker=float(cpus)) for cpus in range(most, 0, -1))
    fitting = (share for share in shares if total_room(nodes, share) >= demand.n_workers)
    return next(fitting, replace(demand, cpus_per_worker=1.0))


def address_to_join(address: str | None) -> str | None:
    """The GCS address to connect to; None when a cluster is to be started here.

    Raises:
        ValueError: a driver cannot join at such an address.
        ConnectionError: nothing answers there.
    """
    asked = address or os.environ.get("RAY_ADDRESS") or None
    source = "address" if address else "RAY_ADDRESS"
    if asked == "local":
        return None
    if asked in (None, "auto"):
        running = _running_here()
        if asked == "auto" and running is None:
            raise ConnectionError(f"{source} is `auto`, and no Ray cluster runs on this machine")
        return running
    need = f"need {source} as host:port of a Ray cluster, got {asked}"
    if asked.startswith(("http://", "https://")):
        command = f"ray job submit --address {asked} --working-dir . -- python ..."
        raise ValueError(f"{need}, which is a job server: submit to it with `{command}`")
    if asked.startswith("ray://"):
        raise ValueError(f"{need}: the driver must be part of the cluster; use `ray job submit`")
    if not asked.rpartition(":")[2].isdecimal():
        raise ValueError(need)
    if not _answers(asked):
        raise ConnectionError(f"nothing answers at {asked} ({source}): is the cluster running?")
    return asked


def _running_here() -> str | None:
    """GCS address of the cluster that `ray start` left on this machine, if it still answers."""
    found: str | None = find_bootstrap_address(None)
    if not found or not _answers(found):
        return None
    # What Ray does for clusters that it finds itself: use the user's token, if there is one.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return found


def _answers(address: str) -> bool:
    """Whether something listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except OSError:
        return False


def _join(address: str) -> None:
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    environment: dict[str, Any] = {}
    if not (submitted.get("runtime_env") or {}).get("working_dir"):
        # Other nodes may hold no emoray, or another version of it.
        package = str(Path(emoray.__file__).parent)
        environment = {"py_modules": [package], "excludes": ["__pycache__"]}
    try:
        ray_process.init(address=address, runtime_env=environment, **_QUIET)
    except (ConnectionError, AuthenticationError) as error:
        raise ConnectionError(
            f"cannot join the Ray cluster at {address}: {error}. If it uses token authentication, "
            "set RAY_AUTH_MODE=token and put its token into ~/.ray/auth_token"
        ) from error
    logger.info("joined the Ray cluster at %s: %s", address, _say(_live_nodes()))


def start_local(
    workers: WorkerDemand | None, *, dashboard: bool, spare_cpus: int = SPARE_CPUS_LOCAL
) -> WorkerDemand | None:
    """Start Ray on this machine; returns the workers with CPUs for each.

    Raises:
        ValueError: more workers are asked for than the machine bears.
    """
    n_cpus = cores = _cores()
    if workers is not None:
        limit = WORKERS_PER_CORE * cores
        if workers.n_workers > limit:
            raise ValueError(
                f"need at most {limit} workers on this machine ({WORKERS_PER_CORE} for each of "
                f"its {cores} cores), got {workers.n_workers}: ask for fewer, or join a cluster"
            )
        if not workers.cpus_per_worker:
            workers = _fair_share_here(workers, cores)
        asked = math.ceil(workers.n_workers * workers.cpus_per_worker)
        n_cpus = max(cores, asked + spare_cpus)
    _authenticate_local()
    for name, value in _LOCAL.items():
        os.environ.setdefault(name, value)
    ray_process.init_local(
        num_cpus=n_cpus,
        object_store_memory=_object_store_bytes(),
        include_dashboard=dashboard,
        **_QUIET,
    )
    logger.info("started Ray on this machine: %s", _say(_live_nodes()))
    return workers


def _fair_share_here(demand: WorkerDemand, cores: int) -> WorkerDemand:
    share = 1 if demand.gpus_per_worker else max(1, cores // demand.n_workers)
    return replace(demand, cpus_per_worker=float(share))


def _authenticate_local() -> None:
    """Give a cluster started here a token of its own, unless the user has arranged for one.

    Without this Ray writes ~/.ray/auth_token, and from then on every `ray start --head` of this
    user demands a token that `ray job submit` does not send by itself.
    """
    arranged = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    has_token = Path("~/.ray/auth_token").expanduser().exists()
    if not has_token and not any(name in os.environ for name in arranged):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # It would tell everybody who trains on a laptop how to switch authentication off.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _object_store_bytes() -> int:
    """A fifth of the memory, at most `OBJECT_STORE_BYTES`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(OBJECT_STORE_BYTES, memory // 5)


# --- what a cluster can give --------------------------------------------------------------------


def check_demand(demand: WorkerDemand, *, for_data: int = CPUS_FOR_DATA) -> None:
    """Refuse a demand that the connected cluster can never meet, instead of waiting for ever.

    Counted are the nodes that run and those that an autoscaler may add; whether other jobs
    occupy them now is not, because they end. Where an autoscaler runs that we cannot ask
    (Kubernetes), the demand passes with a warning.

    Args:
        demand: with CPUs for each worker.
        for_data: CPUs that must stay free beside the workers; 0 where they read for themselves.

    Raises:
        ValueError: with what was asked, what is there, what is possible and what would work.
    """
    live = _live_nodes()
    if total_room(live, demand, for_data=for_data) >= demand.n_workers:
        return
    growth = scaling()
    if not growth.known:
        logger.warning("asking for %s; %s now, waiting for more", demand, _say(live))
        return
    possible = _at_most(live, growth)
    room = total_room(possible, demand, for_data=for_data)
    if room >= demand.n_workers:
        logger.info("asking for %s; %s now, the autoscaler adds nodes", demand, _say(live))
        return
    beside = f" and {for_data} CPU for data" if for_data else ""
    raise ValueError(
        f"need a cluster for {demand}{beside}; it has {_say(live)}, "
        f"{_say_growth(live, possible)}. {_way_out(possible, room, demand, for_data)}"
    )


def total_room(
    nodes: Sequence[Node], demand: WorkerDemand, *, for_data: int = CPUS_FOR_DATA
) -> int:
    """Workers that fit on all nodes, where the one that loses least keeps CPUs for data."""
    plain = sum(node.room(demand) for node in nodes)
    hosts = [node for node in nodes if node.cpus >= for_data]
    losses = [n.room(demand) - n.room(demand, kept=for_data) for n in hosts]
    return plain - min(losses) if losses else 0


def _live_nodes() -> list[Node]:
    return [_node(entry["Resources"]) for entry in _live_entries()]


def _live_entries() -> list[dict[str, Any]]:
    return [entry for entry in ray.nodes() if entry["Alive"]]


def _node(resources: Mapping[str, float]) -> Node:
    return Node(cpus=float(resources.get("CPU", 0)), gpus=float(resources.get("GPU", 0)))


def _say(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {cpus:g} CPUs and {gpus:g} GPUs"


def _say_growth(live: Sequence[Node], possible: Sequence[Node]) -> str:
    if len(possible) <= len(live):
        return "and it does not grow"
    return f"and grows to at most {_say(possible)}"


def _way_out(nodes: Sequence[Node], room: int, demand: WorkerDemand, for_data: int) -> str:
    if room:
        return f"Ask for at most {room} such worker{'s' * (room != 1)}, or use a larger cluster"
    cpus, gpus = max(n.cpus for n in nodes), max(n.gpus for n in nodes)
    if demand.gpus_per_worker > gpus:
        return f"No node has more than {gpus:g} GPUs: ask for that many per worker, or add nodes"
    needs = f", and data needs {for_data}" if for_data else ""
    return f"Not one fits: no node has more than {cpus:g} CPUs{needs}"


@dataclass(frozen=True, slots=True)
class Scaling:
    """What an autoscaler may do."""

    known: bool
    """False: there may be one, and it cannot be asked."""
    workers: tuple[Node, ...] = ()
    """All worker nodes that may run at the same time, largest first."""


def _at_most(live: Sequence[Node], scaling: Scaling) -> Sequence[Node]:
    """The nodes of the cluster at its largest: the head and every node it may add."""
    if len(scaling.workers) < len(live):
        return live
    heads = [_node(e["Resources"]) for e in _live_entries() if HEAD_RESOURCE in e["Resources"]]
    return [*heads, *scaling.workers]


def scaling() -> Scaling:
    """Ask the head node, where Ray's monitor runs with the autoscaler's configuration."""
    address = ray.get_runtime_context().gcs_address
    port = address.rpartition(":")[2]
    here = ray.get_runtime_context().get_node_id()
    if any(HEAD_RESOURCE in e["Resources"] for e in _live_entries() if e["NodeID"] == here):
        text = _autoscaling_config(port)
    else:
        options = {"num_cpus": 0, "resources": {HEAD_RESOURCE: 0.001}}
        text = ray.get(ray.remote(_autoscaling_config).options(**options).remote(port))
    if text is None:
        return Scaling(known=False)
    return parse_scaling(yaml.safe_load(text) or {})


def _autoscaling_config(gcs_port: str) -> str | None:
    """Text of the configuration that this machine's monitor process was started with.

    Ray has no call for it: `ray up` leaves it in a file, named on the monitor's command line.
    Empty for a monitor without one (a cluster of fixed size); None when no monitor is seen.
    """
    for arguments in _command_lines():
        named = dict(a.split("=", 1) for a in arguments if a.startswith("--") and "=" in a)
        is_monitor = any(a.endswith("monitor.py") for a in arguments)
        if not is_monitor or named.get("--gcs-address", "").rpartition(":")[2] != gcs_port:
            continue
        if "--autoscaling-config" not in named:
            return ""
        try:
            return Path(named["--autoscaling-config"]).expanduser().read_text()
        except OSError:
            return None
    return None


def _command_lines() -> Iterable[list[str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended
            continue


def parse_scaling(config: Mapping[str, Any]) -> Scaling:
    """The worker nodes of a cluster launcher's configuration, at their greatest number."""
    if not config:
        return Scaling(known=True)
    workers: list[Node] = []
    limit = int(config.get("max_workers", 2))  # 2: Ray's own default
    for name, kind in config.get("available_node_types", {}).items():
        is_head = name == config.get("head_node_type")
        count = min(int(kind.get("max_workers", 0 if is_head else limit)), limit)
        if count and not kind.get("resources"):
            return Scaling(known=False)  # found out only when such a node runs
        workers += [_node(kind.get("resources", {}))] * count
    workers.sort(key=lambda node: (node.gpus, node.cpus), reverse=True)
    return Scaling(known=True, workers=tuple(workers[:limit]))


# --- where results go ---------------------------------------------------------------------------


def storage_root(option: str | None = None, *, shared: bool = False) -> str:
    """Folder or URI under which corpora, runs and checkpoints go. Call it once connected.

    The option comes first, then the variable EMORAY_STORAGE, then `~/emoray` on the node of
    the driver.

    Args:
        option: a folder, made if absent, or a URI that `pyarrow.fs` opens (`s3://bucket/emoray`).
        shared: the folder is the same on all nodes (NFS, EFS, Lustre).

    Returns:
        An absolute path, or the URI without a slash at the end of its path.

    Raises:
        ValueError: it cannot be written (the reason is named); the cluster spans several
            machines and the folder is not declared shared; the path is relative in a submitted
            job, whose own folder is a temporary one.
    """
    variable = os.environ.get(STORAGE_VARIABLE)
    chosen = option or variable or DEFAULT_STORAGE
    source = "option" if option else STORAGE_VARIABLE if variable else "default"
    root = absolute(chosen)
    if is_uri(root):
        _probe(root, source)
        return root
    is_whole = chosen.startswith("file://") or Path(chosen).expanduser().is_absolute()
    if not is_whole and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ValueError(
            f"need storage as an absolute path or a URI in a submitted job, whose folder is "
            f"temporary; got {chosen} ({source})"
        )
    if not shared:
        _refuse_node_local(chosen, source)
    _probe(root, source)
    return root


def local_folder(storage: str) -> Path:
    """A folder on this machine for what need not be shared: the storage itself where it is one."""
    return Path(DEFAULT_STORAGE).expanduser() if is_uri(storage) else Path(storage)


def _refuse_node_local(chosen: str, source: str) -> None:
    """Workers write checkpoints where they run: a folder of one machine would hold a part."""
    if not ray.is_initialized():
        return
    machines = {(e["NodeManagerHostname"], e["NodeManagerAddress"]) for e in _live_entries()}
    growth = scaling()
    if len(machines) == 1 and not growth.workers:
        if not growth.known:
            logger.warning("%s must be shared by all nodes that may join this cluster", chosen)
        return
    grows = "" if len(machines) > 1 else ", which the autoscaler extends by others"
    raise ValueError(
        f"need storage that all nodes share, got the folder {chosen} ({source}) on a cluster of "
        f"{len(machines)} machine{'s' * (len(machines) != 1)}{grows}: give a URI such as "
        f"s3://bucket/emoray (or set {STORAGE_VARIABLE} to it), or declare the folder shared"
    )


def _probe(root: str, source: str) -> None:
    """Write a small file under the root and remove it.

    64 KiB: enough to fail on a full disk, nothing for an object store.
    """
    try:
        storage = Storage.at(root)
        files = storage.filesystem
        files.create_dir(storage.root, recursive=True)
        name = storage.path(f".emoray-{uuid.uuid4().hex}")
        stream = files.open_output_stream(name)
        try:
            with stream:
                stream.write(bytes(64 * 1024))
        finally:
            files.delete_file(name)
    except (ValueError, OSError, pa.ArrowException) as error:
        reason = f"{root} ({source}): {error}"
        raise ValueError(f"need storage that can be written, got {reason}") from error


# --- facts for run records ----------------------------------------------------------------------


def describe() -> dict[str, Any]:
    """Machine and cluster, for run records: nodes with CPUs, GPUs and memory, and versions."""
    facts = machine()
    driver = {"driver_cpu": facts.pop("cpu"), "driver_cores": facts.pop("cores")}
    return facts | driver | {"nodes": [_describe_node(e["Resources"]) for e in _live_entries()]}


def machine() -> dict[str, Any]:
    """This process's machine and versions, for result rows; needs no cluster."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": _cores(),
        "versions": {"emoray": __version__} | {name: metadata.version(name) for name in VERSIONED},
    }


def _describe_node(resources: Mapping[str, float]) -> dict[str, Any]:
    marked = "accelerator_type:"
    return {
        "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0),
        "gpu_models": sorted(n.removeprefix(marked) for n in resources if n.startswith(marked)),
        "memory_gb": round(resources.get("memory", 0.0) / 1e9, 1),
        "head": HEAD_RESOURCE in resources,
    }


def cpu_model() -> str:
    """Name of this machine's processor; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())

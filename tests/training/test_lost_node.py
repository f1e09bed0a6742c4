"""A node that is lost takes workers with it, and nothing that the run cannot do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emoray.training import checkpoint
from tests.corpora import write_corpus
from tests.heads import REPO, clean_environment, short_folder

PROGRAM = """
import json, os, signal, sys, threading
from pathlib import Path

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from emoray.experiments import schedule
from tests.training.test_driver import EVERY, longer, reached, run, submitted, wait_for

corpus, storage = map(Path, sys.argv[1:])

def own_actors(node):
    found = [a for a in actors().values() if a["Address"]["NodeID"] == node.node_id]
    return sorted({a["ActorClassName"] for a in found if a["State"] == "ALIVE"})

@ray.remote(num_cpus=1)
class Busy:
    def ready(self):
        return True

# Half of the head is taken, so that Ray would rather start what takes nothing elsewhere. Without
# any of the three nodes there is room for two workers still.
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
ray.init(address=cluster.address, log_to_driver=False)
busy = Busy.remote()
ray.get(busy.ready.remote())
others = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()

request = longer(submitted(corpus, storage, "lost"))
met = {}

def lose():
    wait_for(lambda: reached(request, 2 * EVERY))
    relay = schedule._start_relay()
    ray.get(relay.take.remote())
    found = {node: own_actors(node) for node in others}
    lost = next(node for node in others if "RayTrainWorker" in found[node])
    met["there"] = found[lost]
    (raylet,) = lost.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)

losing = threading.Thread(target=lose)
losing.start()
met["said"] = run(request)
losing.join()
print("MET", json.dumps(met), flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_lost_node_holds_no_actor_of_ours_and_changes_no_weight(tmp_path: Path) -> None:
    corpus, storage = write_corpus(tmp_path / "corpus"), tmp_path / "runs"
    found = run_program(PROGRAM, corpus, storage)
    assert "RayTrainWorker" in found["there"]
    assert not {"Board", "_Relay", "TrainController"} & set(found["there"])
    assert "a worker was lost" in found["said"]
    assert "; next try in 1 s" in found["said"]
    run_program(UNBROKEN, corpus, storage)
    lost, unbroken = (state_of(storage / name) for name in ("lost", "unbroken"))
    assert lost.history["loss"] == unbroken.history["loss"]
    assert all(bool((lost.model[k] == w).all()) for k, w in unbroken.model.items())


UNBROKEN = """
import sys
from pathlib import Path
import ray
from tests.training.test_driver import longer, run, submitted
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
run(longer(submitted(Path(sys.argv[1]), Path(sys.argv[2]), "unbroken")))
print("MET {}")
"""


def state_of(run: Path) -> checkpoint.State:
    return checkpoint.load(max(run.glob("step-*")))


def run_program(program: str, *words: Path) -> dict[str, Any]:
    with short_folder() as folder:
        script = folder / "program.py"
        script.write_text(program)
        done = subprocess.run(
            [sys.executable, str(script), *map(str, words)],
            cwd=REPO,
            env=clean_environment(folder) | {"PYTHONPATH": str(REPO), "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.partition("MET ")[2].splitlines()[0])
    return found

"""An object store that goes away in mid-run, by its real protocol over a real connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpora import write_corpus
from tests.training.test_lost_node import run_program

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import contextlib, json, os, socket, sys, threading, time
from pathlib import Path

class Line:
    '''A connection to a server that can be cut, so that connecting is refused, and mended.'''

    def __init__(self, port):
        self.behind, self.port, self.pairs, self.door = port, 0, [], None
        self.mend()

    def mend(self):
        self.door = socket.create_server(("127.0.0.1", self.port))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.serve, args=(self.door,), daemon=True).start()

    def cut(self):
        for each in [self.door, *self.pairs]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.pairs.clear()

    def serve(self, door):
        while True:
            try:
                near = door.accept()[0]
                far = socket.create_connection(("127.0.0.1", self.behind))
            except OSError:
                return
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.pass_on, args=(one, other), daemon=True).start()

    def pass_on(self, one, other):
        with contextlib.suppress(OSError):
            while block := one.recv(65536):
                other.sendall(block)
        for each in (one, other):
            each.close()

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
line = Line(server.get_host_and_port()[1])
os.environ.update(
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{line.port}",
    AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)

from pyarrow import fs

from emoray.runtime import cluster
from emoray.training import checkpoint, driver
from tests.training.test_driver import EVERY, reached, submitted, run, wait_for

fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")[0].create_dir("bucket")
cluster.connect(address="local", workers=cluster.WorkerDemand(2, 1.0))
corpus, here = Path(sys.argv[1]), Path(sys.argv[2])
met = {}

def interrupt(request):
    wait_for(lambda: reached(request, 2 * EVERY))
    line.cut()
    time.sleep(30)  # Arrow's client waits for 6 s, and Ray Train calls it three times
    line.mend()

cutting = submitted(corpus, "s3://bucket/runs", "cut")
thread = threading.Thread(target=interrupt, args=(cutting,))
thread.start()
met["said"] = run(cutting)
thread.join()
whole = submitted(corpus, here, "whole")
run(whole)

def state(request):
    with driver.local_checkpoint(request.folder) as folder:
        return checkpoint.load(folder)

one, other = state(cutting), state(whole)
met["same"] = one.history["loss"] == other.history["loss"] and all(
    bool((one.model[name] == weights).all()) for name, weights in other.model.items()
)
met["kept"] = [name for name in cutting.folder.folders() if name.startswith("step-")]
print("MET", json.dumps(met), flush=True)
os._exit(0)
"""


def test_storage_that_is_away_for_a_while_changes_no_weight(tmp_path: Path) -> None:
    found = run_program(PROGRAM, write_corpus(tmp_path / "corpus"), tmp_path / "runs")
    assert "; next try in 1 s" in found["said"]
    assert "the run goes on from step" in found["said"]
    assert found["same"] is True
    assert found["kept"] == ["step-00000049", "step-00000050"]

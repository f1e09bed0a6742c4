"""Pretrain EMOD's encoder by valence-arousal guided contrast (Chen et al., EMOD).

    python jobs/pretrain_emod.py                                    a rehearsal, minutes on a laptop
    python jobs/pretrain_emod.py --corpus DIR --workers 4 --gpus-per-worker 1        the paper's run
    python jobs/pretrain_emod.py --resume NAME                      go on with an interrupted run

Without --corpus it writes rehearsal data (signals of a program, recorded from nobody) in the
publishers' formats, builds a corpus from them once, and pretrains a small encoder. The paper's run
is 100 epochs of 278 steps of 288 segments, 20 hours on four RTX 3090 in the paper.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Annotated

import tyro
from rich.console import Console

from emoray import cluster
from emoray.config import to_dict
from emoray.corpus.read import open_corpus
from emoray.corpus.rehearsal import rehearsal_corpus
from emoray.corpus.storage import Storage, absolute
from emoray.feed import Gather, with_coordinates
from emoray.methods.emod.method import Config, rehearsal_config
from emoray.reports import figures, summary
from emoray.training import driver


@dataclass(frozen=True)
class Options:
    """Pretrain EMOD."""

    corpus: str | None = None
    """Folder or URI of a corpus that jobs/build_corpus.py built; without it, rehearsal data."""
    datasets: tuple[str, ...] = ()
    """Datasets of the corpus to train on; all that have valence and arousal without it."""
    workers: int = 1
    """Workers, each with its share of every step; must divide --rounds-per-step."""
    cpus_per_worker: float = 0.0
    """CPU cores of a worker; 0 for a fair share of what there is."""
    gpus_per_worker: float = 0.0
    """GPUs of a worker; a fraction lets several share one. 0 trains on CPUs."""
    held_out: float = 0.2
    """Share of each dataset's subjects that training never sees, for the read-out; 0 for none."""
    storage: str | None = None
    """Folder or URI for runs and corpora; without it $EMORAY_STORAGE, else ~/emoray."""
    shared_storage: bool = False
    """The storage folder is the same on all nodes (NFS and the like)."""
    name: str | None = None
    """Of the run; without it, made from the time."""
    resume: str | None = None
    """Name of a run to go on with; its own settings hold, except workers and their resources."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: once an epoch."""
    gather: Gather = "auto"
    """Where segments are read: in the `worker`, or by Ray Data across the `cluster`."""
    address: str | None = None
    """Ray cluster, host:port; without it $RAY_ADDRESS, one running here, or a new one."""
    emod: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """What is computed; the defaults are the paper's with --corpus, small ones without."""


def main(options: Options) -> None:
    """Run the job: corpus, workers, read-out, summary."""
    began = time.monotonic()
    console = Console()
    workers = cluster.connect(
        address=options.address,
        workers=cluster.WorkerDemand(
            options.workers, options.cpus_per_worker, options.gpus_per_worker
        ),
    )
    storage = cluster.storage_root(options.storage, shared=options.shared_storage)
    make = _stored if options.resume else _fresh
    request = replace(make(options, storage), gather=options.gather, **asdict(workers))
    corpus = request.open_corpus()
    plan = request.make_plan(corpus)
    driver.check(request, plan)
    driver.start(request, plan)
    console.print(summary.occupancy(plan.occupancy(), rehearsal=corpus.rehearsal))
    console.print(summary.run(driver.describe(request, plan, corpus), rehearsal=corpus.rehearsal))
    driver.fit(request, plan, console=console)
    scores = driver.compare_on_held_out(request)
    seconds = time.monotonic() - began
    places = driver.finish(
        request, plan, corpus, scores, loss_png=figures.loss_curve, seconds=seconds
    )
    console.print(summary.read_out(scores, rehearsal=corpus.rehearsal))
    console.print(summary.end(places, seconds, rehearsal=corpus.rehearsal))


def _fresh(options: Options, storage: str) -> driver.Request:
    """A run that nobody has started yet."""
    location = options.corpus
    if location is None:
        print("No --corpus: rehearsal data, written and built once, then kept.", flush=True)
        location = f"{storage}/rehearsal/corpus"
        rehearsal_corpus(cluster.local_folder(storage) / "rehearsal" / "raw", location)
    corpus = with_coordinates(open_corpus(location, datasets=options.datasets or None))
    return driver.Request(
        name=options.name or datetime.now().strftime("emod-%Y%m%d-%H%M%S"),
        storage=f"{storage}/runs",
        corpus=absolute(location),
        datasets=corpus.names,
        method="emod",
        stage="pretrain",
        config=to_dict(options.emod),
        held_out=driver.held_out_of(corpus, fraction=options.held_out, seed=options.emod.seed),
        checkpoint_every=options.checkpoint_every,
    )


def _stored(options: Options, storage: str) -> driver.Request:
    """The run of that name, as it was started."""
    return driver.stored_request(Storage.at(f"{storage}/runs").sub(options.resume or ""))


if __name__ == "__main__":
    small = not any(word.split("=")[0] in ("--corpus", "--resume") for word in sys.argv[1:])
    defaults = Options(emod=rehearsal_config() if small else Config())
    parsed = tyro.cli(
        Options,
        default=defaults,
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        main(parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")

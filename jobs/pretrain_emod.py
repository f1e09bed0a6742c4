"""Pretrain EMOD's encoder by valence-arousal guided contrast (Chen et al., EMOD).

    python jobs/pretrain_emod.py                        a rehearsal, minutes on a laptop
    python jobs/pretrain_emod.py --corpus DIR --workers 4 --gpus-per-worker 1     the paper's run
    python jobs/pretrain_emod.py --resume NAME          go on with an interrupted run

Without --corpus it writes rehearsal data (signals of a program, recorded from nobody) in the
publishers' formats, builds a corpus from them once, and pretrains a small encoder. The paper's run
is 100 epochs of 278 steps of 288 segments and took 20 hours on four RTX 3090; all segments of DEAP
and a fifth of the subjects held out make about 233 steps of it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Annotated

import tyro
from rich.console import Console

from emoray import cluster
from emoray.config import dotted_values, to_dict
from emoray.console import open_console
from emoray.corpus.read import open_corpus
from emoray.corpus.rehearsal import rehearsal_corpus
from emoray.feed import Gather, for_pretraining, with_coordinates
from emoray.locks import hold
from emoray.methods.emod.method import Config, rehearsal_config
from emoray.reports import figures, summary
from emoray.sampling import check_workers
from emoray.storage import Storage, absolute, check_name, join
from emoray.training import driver


@dataclass(frozen=True)
class Options:
    """Pretrain EMOD."""

    corpus: str | None = None
    """Folder or URI of a corpus that jobs/build_corpus.py built; without it, rehearsal data."""
    datasets: tuple[str, ...] = ()
    """Datasets of the corpus to train on, by name, or by folder where it holds several builds of
    one; without it all that have valence and arousal but those for evaluation (FACED, SEED-V)."""
    workers: int | None = None
    """Workers, each with its share of every step; must divide --rounds-per-step. Default: 1, or
    as many as a resumed run had."""
    cpus_per_worker: float | None = None
    """CPU cores of a worker, each a thread; without it a fair share of what there is, or what a
    resumed run of as many workers had: threads decide the last bits of its numbers."""
    gpus_per_worker: float | None = None
    """GPUs of a worker; 0 trains on CPUs, a fraction lets several share one. Without it one each
    where there are enough, or what a resumed run had."""
    held_out: float = 0.2
    """Share of each dataset's subjects that training never sees, for the read-out; 0 for none."""
    storage: str | None = None
    """Folder or URI for runs and corpora; without it $EMORAY_STORAGE, else ~/emoray."""
    shared_storage: bool = False
    """The storage folder is the same on all nodes (NFS and the like)."""
    name: str | None = None
    """Of the run; without it, made from the time."""
    resume: str | None = None
    """Name of a run to go on with, by its own settings; beside it only --storage, --address,
    --workers and their resources may be given."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: once an epoch."""
    gather: Gather = "auto"
    """Where segments are read: in the `worker`, or by Ray Data across the `cluster`."""
    address: str | None = None
    """Ray cluster, host:port; without it $RAY_ADDRESS, one running here, or a new one."""
    emod: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """What is computed; the defaults are the paper's."""


PAPER = Options()

WITH_RESUME = {
    *("resume", "storage", "shared_storage", "address"),
    *("workers", "cpus_per_worker", "gpus_per_worker"),
}
"""Options that say where a run goes on, not what it computes."""


def main(options: Options) -> None:
    """Run the job, alone under its name."""
    shown = open_console()
    storage = cluster.storage_root(options.storage, shared=options.shared_storage)
    name = options.resume or options.name or datetime.now().strftime("emod-%Y%m%d-%H%M%S")
    runs = join(storage, "runs")
    folder = Storage.at(join(runs, check_name(name, "a run's name")))
    begun = _stored(options, runs) if options.resume else driver.begun(folder)
    with hold(Storage.at(runs), name, tell=shown.print):
        _pretrain(replace(options, name=name), storage, begun, shown)


def _pretrain(
    options: Options, storage: str, begun: driver.Request | None, console: Console
) -> None:
    """Corpus, workers, read-out, summary."""
    began = time.monotonic()
    stored = begun if options.resume else None
    demand = _demand(options, begun)
    if demand.cpus_per_worker and options.cpus_per_worker is None:
        console.print(
            f"Each worker keeps the {demand.cpus_per_worker:g} threads that the run began with; "
            "--cpus-per-worker gives it others, and its numbers other last bits."
        )
    workers = cluster.connect(address=options.address, workers=demand)
    assert workers is not None  # they were asked for
    if stored is None and options.gpus_per_worker is None:
        workers = cluster.with_gpus(workers, cpus_per_worker=options.cpus_per_worker)
    # Again, now that it is known whether other nodes must see it too.
    cluster.storage_root(options.storage, shared=options.shared_storage)
    request = stored or _fresh(options, storage)
    request = replace(request, **asdict(workers))
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


def _stored(options: Options, runs: str) -> driver.Request:
    """The run to go on with, as it was started, wherever its folder lies now."""
    usual = dotted_values(PAPER)
    given = [name for name, value in dotted_values(options).items() if value != usual[name]]
    refused = [_option(name) for name in given if name not in WITH_RESUME]
    if refused:
        raise ValueError(
            f"need --resume without options that the run was started with, got {', '.join(refused)}"
        )
    folder = Storage.at(join(runs, options.resume or ""))
    stored = driver.stored_request(folder)
    if stored.name != options.resume:
        raise ValueError(f"{folder}: need the folder of its own run, got that of {stored.name!r}")
    return replace(stored, storage=runs)


def _demand(options: Options, begun: driver.Request | None) -> cluster.WorkerDemand:
    """The workers asked for; a resumed run has what it had where nothing is asked."""
    stored = begun if options.resume else None
    had = (stored.n_workers, stored.gpus_per_worker) if stored else (1, 0.0)
    n_workers = had[0] if options.workers is None else options.workers
    gpus = had[1] if options.gpus_per_worker is None else options.gpus_per_worker
    rounds = stored.config["rounds_per_step"] if stored else options.emod.rounds_per_step
    check_workers(n_workers, rounds)
    cpus = options.cpus_per_worker or driver.kept_cpus(begun, n_workers, gpus)
    return cluster.WorkerDemand(n_workers, cpus, gpus)


def _fresh(options: Options, storage: str) -> driver.Request:
    """A run that nobody has started yet."""
    location = options.corpus
    if location is None:
        print("No --corpus: rehearsal data, written and built once, then kept.", flush=True)
        location = join(storage, "rehearsal", "corpus")
        rehearsal_corpus(cluster.local_folder(storage) / "rehearsal" / "raw", location)
    corpus = open_corpus(location, datasets=options.datasets or None)
    corpus = with_coordinates(corpus) if options.datasets else for_pretraining(corpus)
    request = driver.Request(
        name=options.name or "",
        storage=join(storage, "runs"),
        corpus=absolute(location),
        datasets=tuple(dataset.manifest.folder for dataset in corpus.datasets),
        method="emod",
        stage="pretrain",
        config=to_dict(options.emod),
        held_out=driver.held_out_of(corpus, fraction=options.held_out, seed=options.emod.seed),
        checkpoint_every=options.checkpoint_every,
        gather=options.gather,
    )
    return replace(request, plan=request.make_plan(corpus).digest)


def _defaults(words: Sequence[str]) -> Options:
    """The paper's settings, or those of a rehearsal where there is no corpus to train on."""
    if {word.partition("=")[0] for word in words} & {"--corpus", "--resume", "--help", "-h"}:
        return PAPER
    asked = re.search(r"--workers[= ](\d+)", " ".join(words))
    return replace(PAPER, emod=rehearsal_config(max(1, int(asked[1])) if asked else 1))


def _rehearsal_words() -> str:
    """What a rehearsal sets otherwise, as options."""
    rehearsal = dotted_values(rehearsal_config())
    return " ".join(
        f"{_option(name)} {value}"
        for name, value in rehearsal.items()
        if dotted_values(PAPER.emod)[name] != value
    )


def _option(name: str) -> str:
    """A dotted field of `Options` or of its config, as it is typed."""
    return "--" + name.removeprefix("emod.").replace("_", "-")


if __name__ == "__main__":
    parsed = tyro.cli(
        Options,
        default=_defaults(sys.argv[1:]),
        description=f"{__doc__}\nWithout --corpus the defaults are {_rehearsal_words()}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        main(parsed)
    except (ValueError, OSError, driver.RunError) as error:
        sys.exit(f"error: {error}")

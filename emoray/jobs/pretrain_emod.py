"""Pretraining: corpus, workers, read-out, summary."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import datetime

from rich.console import Console

from emoray import cluster
from emoray.config import dotted_values, to_dict
from emoray.corpus.read import open_corpus
from emoray.corpus.rehearsal import rehearsal_corpus
from emoray.feed import for_pretraining, with_coordinates
from emoray.options import PAPER, WITH_RESUME, Pretrain, option
from emoray.reports import summary
from emoray.sampling import check_workers
from emoray.storage import Storage, absolute
from emoray.training import driver


def run(options: Pretrain, workers: cluster.WorkerDemand | None = None) -> None:
    """Run the job: corpus, workers, read-out, summary."""
    began = time.monotonic()
    console = Console()
    storage = cluster.storage_root(options.storage, shared=options.shared_storage)
    stored = _stored(options, storage) if options.resume else None
    workers = workers or cluster.connect(address=options.address, workers=_demand(options, stored))
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
    from emoray.reports import figures  # matplotlib: not what the first step waits for

    seconds = time.monotonic() - began
    places = driver.finish(
        request, plan, corpus, scores, loss_png=figures.loss_curve, seconds=seconds
    )
    console.print(summary.read_out(scores, rehearsal=corpus.rehearsal))
    console.print(summary.end(places, seconds, rehearsal=corpus.rehearsal))


def _stored(options: Pretrain, storage: str) -> driver.Request:
    """The run to go on with, as it was started, wherever its folder lies now."""
    usual = dotted_values(PAPER)
    given = [name for name, value in dotted_values(options).items() if value != usual[name]]
    refused = [option(name) for name in given if name not in WITH_RESUME]
    if refused:
        raise ValueError(
            f"need --resume without options that the run was started with, got {', '.join(refused)}"
        )
    runs = f"{storage}/runs"
    return replace(driver.stored_request(Storage.at(runs).sub(options.resume or "")), storage=runs)


def _demand(options: Pretrain, stored: driver.Request | None) -> cluster.WorkerDemand:
    """The workers asked for; a resumed run has what it had where nothing is asked."""
    had = (stored.n_workers, stored.gpus_per_worker) if stored else (1, 0.0)
    n_workers = had[0] if options.workers is None else options.workers
    gpus = had[1] if options.gpus_per_worker is None else options.gpus_per_worker
    rounds = stored.config["rounds_per_step"] if stored else options.emod.rounds_per_step
    check_workers(n_workers, rounds)
    return cluster.WorkerDemand(n_workers, options.cpus_per_worker or 0.0, gpus)


def _fresh(options: Pretrain, storage: str) -> driver.Request:
    """A run that nobody has started yet."""
    location = options.corpus
    if location is None:
        print("No --corpus: rehearsal data, written and built once, then kept.", flush=True)
        location = f"{storage}/rehearsal/corpus"
        rehearsal_corpus(cluster.local_folder(storage) / "rehearsal" / "raw", location)
    corpus = open_corpus(location, datasets=options.datasets or None)
    corpus = with_coordinates(corpus) if options.datasets else for_pretraining(corpus)
    request = driver.Request(
        name=options.name or datetime.now().strftime("emod-%Y%m%d-%H%M%S"),
        storage=f"{storage}/runs",
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

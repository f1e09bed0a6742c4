"""Pretraining: corpus, workers, read-out, summary."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from datetime import datetime

from rich.console import Console

from emoray.batches.feeds import for_pretraining, with_coordinates
from emoray.batches.plans import Plan, RoundPlan
from emoray.batches.sampling import check_workers
from emoray.corpus.build.rehearsal import rehearsal_corpus, rehearsal_folders
from emoray.corpus.read import open_corpus
from emoray.experiments import pretraining
from emoray.jobs.pretrain_options import PAPER, WITH_RESUME, Pretrain, option
from emoray.reports import summary
from emoray.results import published
from emoray.runtime import cluster, ending
from emoray.runtime.config import dotted_values, to_dict
from emoray.runtime.console import open_console
from emoray.runtime.locks import hold
from emoray.runtime.storage import Storage, absolute, check_name, join
from emoray.training import driver
from emoray.training.data import RunData, open_data
from emoray.training.execute import check_code, code_of
from emoray.training.run import Execution, Run, Submission


def run(options: Pretrain, workers: cluster.WorkerDemand | None = None) -> None:
    """Run the job, alone under its name.

    Args:
        options: what is asked for.
        workers: where Ray is there already; without them it is joined or started here.
    """
    console = open_console()
    storage = cluster.storage_root(options.storage, shared=options.shared_storage)
    name = options.resume or options.name or datetime.now().strftime("emod-%Y%m%d-%H%M%S")
    runs = join(storage, "runs")
    folder = Storage.at(join(runs, check_name(name, "a run's name")))
    begun = _stored(options, runs) if options.resume else driver.begun(folder)
    with hold(Storage.at(runs), name, tell=console.print):
        _pretrain(replace(options, name=name), storage, begun, workers, console)


def _pretrain(
    options: Pretrain,
    storage: str,
    begun: Submission | None,
    workers: cluster.WorkerDemand | None,
    console: Console,
) -> None:
    """Corpus, workers, read-out, summary."""
    began = time.monotonic()
    stored = begun if options.resume else None
    if workers is None:
        demand = _demand(options, begun)
        if demand.cpus_per_worker and options.cpus_per_worker is None:
            console.print(
                f"Each worker keeps the {demand.cpus_per_worker:g} threads that the run began "
                "with; --cpus-per-worker gives it others, and its numbers other last bits."
            )
        workers = cluster.connect(address=options.address, workers=demand)
    assert workers is not None  # they were asked for
    if stored is None and options.gpus_per_worker is None:
        workers = cluster.with_gpus(workers, cpus_per_worker=options.cpus_per_worker)
    # Again, now that it is known whether other nodes must see it too.
    cluster.storage_root(options.storage, shared=options.shared_storage)
    submission = stored or _fresh(options, storage)
    how = replace(submission.execution, **asdict(workers))
    submission = replace(submission, execution=how)
    check_code(submission.run)
    found = open_data(submission.run)
    plan = found.plan(found.stage())
    driver.check(submission, plan)
    driver.start(submission, plan)
    with ending.resumable(*_resuming(options, submission.run)):
        _go_through(submission, found, plan, console, began)


def _go_through(
    submission: Submission, found: RunData, plan: Plan, console: Console, began: float
) -> None:
    """Workers, read-out and summary of a run that is written down."""
    rehearsal = found.rehearsal
    if isinstance(plan, RoundPlan):
        console.print(summary.occupancy(plan.occupancy(), rehearsal=rehearsal))
    words = pretraining.describe(submission, found, plan)
    console.print(summary.run(words, rehearsal=rehearsal))
    driver.fit(submission, found, console=console)
    scores = pretraining.compare_on_held_out(submission, console=console)
    from emoray.reports import figures  # matplotlib: not what the first step waits for

    seconds = time.monotonic() - began
    places = pretraining.finish(
        submission, found, plan, scores, loss_png=figures.loss_curve, seconds=seconds
    )
    console.print(summary.read_out(scores, rehearsal=rehearsal))
    console.print(summary.doubts(pretraining.held_out_doubts(found)))
    console.print(summary.end(places, seconds, rehearsal=rehearsal))


def _resuming(options: Pretrain, run: Run) -> list[str]:
    """The command that goes on with a run, from where this one was typed."""
    words = ["python", sys.argv[0], "--resume", run.name]
    if options.storage:
        words += ["--storage", options.storage]
    if options.address:
        words += ["--address", options.address]
    return words + ["--shared-storage"] * options.shared_storage


def _stored(options: Pretrain, runs: str) -> Submission:
    """The run to go on with, as it was started, wherever its folder lies now."""
    usual = dotted_values(PAPER)
    given = [name for name, value in dotted_values(options).items() if value != usual[name]]
    refused = [option(name) for name in given if name not in WITH_RESUME]
    if refused:
        raise ValueError(
            f"need --resume without options that the run was started with, got {', '.join(refused)}"
        )
    folder = Storage.at(join(runs, options.resume or ""))
    stored = driver.stored_submission(folder)
    if stored.run.name != options.resume:
        name = stored.run.name
        raise ValueError(f"{folder}: need the folder of its own run, got that of {name!r}")
    return replace(stored, storage=runs)


def _demand(options: Pretrain, begun: Submission | None) -> cluster.WorkerDemand:
    """The workers asked for; a resumed run has what it had where nothing is asked."""
    stored = begun if options.resume else None
    execution = stored.execution if stored else Execution()
    had = (execution.n_workers, execution.gpus_per_worker)
    n_workers = had[0] if options.workers is None else options.workers
    gpus = had[1] if options.gpus_per_worker is None else options.gpus_per_worker
    rounds = stored.run.config["rounds_per_step"] if stored else options.emod.rounds_per_step
    check_workers(n_workers, rounds)
    cpus = options.cpus_per_worker or driver.kept_cpus(
        begun.execution if begun else None, n_workers, gpus
    )
    return cluster.WorkerDemand(n_workers, cpus, gpus)


def _fresh(options: Pretrain, storage: str) -> Submission:
    """A run that nobody has started yet."""
    location, known = options.corpus, published.load("emod").pretraining
    if location is None:
        print("No --corpus: rehearsal data, written and built once, then kept.", flush=True)
        raw, location = rehearsal_folders(storage, "emod")
        rehearsal_corpus(raw, location, datasets=sorted(known))
    corpus = open_corpus(location, datasets=options.datasets or None)
    corpus = with_coordinates(corpus) if options.datasets else for_pretraining(corpus, known)
    run = Run(
        method="emod",
        stage="pretrain",
        config=to_dict(options.emod),
        corpus=absolute(location),
        builds={f: d for dataset in corpus.datasets for f, d in dataset.builds.items()},
        held_out=pretraining.held_out_of(corpus, fraction=options.held_out, seed=options.emod.seed),
        code=code_of("emod", corpus.names, "corpus"),
        name=options.name or "",
    )
    how = Execution(checkpoint_every=options.checkpoint_every, gather=options.gather)
    return Submission(run, join(storage, "runs"), how)

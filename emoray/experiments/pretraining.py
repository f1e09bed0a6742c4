"""A pretraining beside its workers: who is held out of it, and what is read out and written after.

corpus -> people held out -> (workers, `training.driver`) -> read-out on them -> summary
"""

from __future__ import annotations

import concurrent.futures
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import ray
import torch
from rich.console import Console

from emoray.batches.feeds import eligible_rows
from emoray.batches.plans import Plan
from emoray.corpus.fingerprints import Signals
from emoray.corpus.read import Corpus, open_corpus
from emoray.evaluation import doubts
from emoray.evaluation.folds import held_out_subjects
from emoray.evaluation.held_out import n_rows, read_out_held_out, sides
from emoray.runtime import cluster
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver, faults
from emoray.training.data import RunData, open_data
from emoray.training.progress import POLL_S, Counting
from emoray.training.run import Submission

SUMMARY_FILE = "summary.json"
HISTORY_FILE = "history.csv"
LOSS_FILE = "loss.png"


def held_out_of(corpus: Corpus, *, fraction: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Subjects to hold out of each dataset, among those with valence and arousal."""
    chosen = {}
    for dataset in corpus.datasets:
        subjects = dataset.column("subject")[eligible_rows(dataset, ())]
        chosen[dataset.name] = held_out_subjects(
            dataset.name, subjects.tolist(), fraction=fraction, seed=seed
        )
    return chosen


def describe(submission: Submission, found: RunData, plan: Plan) -> dict[str, str]:
    """The run in words, for a person who is about to wait for it."""
    run, how, stage = submission.run, submission.execution, found.stage()
    n_parameters = sum(p.numel() for p in stage.build().parameters())
    n_drawn = sum(len(pool.rows_S) for pool in found.pools)
    n_all = sum(len(eligible_rows(dataset, ())) for dataset in found.datasets)
    n_subjects = sum(len(subjects) for subjects in run.held_out.values())
    each = f"{how.gpus_per_worker or how.cpus_per_worker:g} "
    each += "GPU" if how.gpus_per_worker else "CPU"
    return {
        "run": str(submission.folder),
        "corpus": run.corpus,
        "segments": f"{n_drawn:,} of {len(found.datasets)} datasets to train on, "
        f"{n_all - n_drawn:,} of "
        f"{n_subjects} subjects held out",
        "model": f"{run.method} {run.stage}, {n_parameters:,} parameters",
        "steps": f"{stage.epochs} epochs of {plan.n_steps} steps of "
        f"{plan.n_segments_per_step} segments",
        "workers": f"{how.n_workers}, each with {each}",
    }


def held_out_doubts(found: RunData) -> list[str]:
    """Why people of the read-out may be no strangers to the encoder, one line each."""
    trained = found.signals()
    everybody = {
        dataset.name: dataset.signals(eligible_rows(dataset, ())) for dataset in found.datasets
    }
    return doubts.of_held_out(trained, _but(everybody, trained))


def _but(everybody: Mapping[str, Signals], trained: Mapping[str, Signals]) -> dict[str, Signals]:
    return {
        dataset: {name: prints for name, prints in signals.items() if name not in trained[dataset]}
        for dataset, signals in everybody.items()
    }


def compare_on_held_out(submission: Submission, *, console: Console) -> dict[str, Any]:
    """Read out the run's encoder on its held-out subjects, beside the untrained one.

    Runs as one task on what a worker had (a GPU, where workers have them), and shows progress.

    Returns:
        `pretrained` and `untrained`: a `ReadOut` as a dict, or None where nobody is held out.
    """
    how = submission.execution
    task = ray.remote(_compare).options(
        num_cpus=how.cpus_per_worker, num_gpus=how.gpus_per_worker, num_returns="streaming"
    )

    def compared() -> dict[str, Any]:
        with Counting("read-out", "segments", console=console) as counting:
            for answer in map(ray.get, task.remote(submission.to_json())):
                if isinstance(answer, dict):
                    return answer
                counting.show(*answer)
        raise AssertionError("the task yields its scores last")

    return faults.persist(compared, most=how.max_failures)


def _compare(plain: Mapping[str, Any]) -> Iterator[tuple[int, int] | dict[str, Any]]:
    """The task: again and again segments embedded and to embed, at last the scores."""
    submission = Submission.from_json(plain)
    run, how = submission.run, submission.execution
    corpus = open_corpus(run.corpus, datasets=tuple(run.builds))
    stage = open_data(run).stage()
    device = torch.device("cuda" if how.gpus_per_worker else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(how.cpus_per_worker)))
    arms = {"pretrained": stage.build(), "untrained": stage.build()}
    with driver.local_checkpoint(submission.folder) as folder:
        checkpoint.load_model(folder, arms["pretrained"])
    n_all = len(arms) * sum(n_rows(side) for side in sides(corpus, run.held_out))
    embedded: queue.SimpleQueue[int] = queue.SimpleQueue()

    def read_all() -> dict[str, Any]:
        found = {
            name: read_out_held_out(
                module, corpus, run.held_out, device=device, advance=embedded.put
            )
            for name, module in arms.items()
        }
        return {name: None if one is None else asdict(one) for name, one in found.items()}

    n_done = 0
    with ThreadPoolExecutor(1) as background:
        scores = background.submit(read_all)
        while not scores.done():
            concurrent.futures.wait([scores], timeout=POLL_S)
            while not embedded.empty():
                n_done += embedded.get()
            yield n_done, n_all
        yield scores.result()


def finish(
    submission: Submission,
    found: RunData,
    plan: Plan,
    scores: Mapping[str, Any],
    *,
    loss_png: Callable[..., bytes],
    seconds: float,
) -> dict[str, str]:
    """Write the run's summary and loss curve; returns where everything lies, by what it is."""
    run, folder = submission.run, submission.folder
    history = history_of(folder)
    last = driver.last_checkpoint(folder)
    facts = {
        "run": run.name,
        "rehearsal": found.rehearsal,
        "steps": len(history["loss"]),
        "last_loss": history["loss"][-1],
        "seconds": round(seconds, 1),
        "machine": cluster.describe(),
        "checkpoint": last,
        "read_out": scores,
        "held_out_doubts": held_out_doubts(found),
    }
    folder.write_bytes(SUMMARY_FILE, driver.as_json(facts))
    curves = leave_curves(folder, history, found, plan, loss_png=loss_png)
    return {"checkpoint": last, "summary": folder.place(SUMMARY_FILE), **curves}


def history_of(folder: Storage) -> Mapping[str, Sequence[float]]:
    """Columns of every step of the run in a folder, which has ended."""
    with driver.local_checkpoint(folder) as local:
        return checkpoint.load(local).history


def leave_curves(
    folder: Storage,
    history: Mapping[str, Sequence[float]],
    found: RunData,
    plan: Plan,
    *,
    loss_png: Callable[..., bytes],
) -> dict[str, str]:
    """Write a run's loss curve and history, and TensorBoard's files where the run itself could not;
    returns where they lie, by what they are."""
    run, scalars = found.run, folder.sub(driver.TENSORBOARD)
    picture = loss_png(
        history["loss"],
        steps_per_epoch=plan.n_steps,
        chance=found.stage().chance_loss(plan.n_segments_per_step),
        title=f"{run.method} {run.stage}: {run.folder_name}",
        rehearsal=found.rehearsal,
    )
    folder.write_bytes(HISTORY_FILE, _csv(history))
    folder.write_bytes(LOSS_FILE, picture)
    if not scalars.files():
        driver.upload_scalars(scalars, history)
    return {
        "loss curve": folder.place(LOSS_FILE),
        "every step": folder.place(HISTORY_FILE),
        "TensorBoard": folder.place(driver.TENSORBOARD),
    }


def _csv(history: Mapping[str, Sequence[float]]) -> bytes:
    """One line a step, from step 0."""
    names = list(history)
    lines = [",".join(["step", *names])]
    for step, values in enumerate(zip(*history.values(), strict=True)):
        lines.append(",".join([str(step), *(f"{value:.8g}" for value in values)]))
    return ("\n".join(lines) + "\n").encode()

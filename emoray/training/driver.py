"""The driver of a run on several workers: started, shown, started again after what can pass.

    submission -> written down -> TorchTrainer with W workers, each in `execute`
               -> the run's last checkpoint, and its row where it is scored

A run is a folder `<storage>/runs/<name>`. Everything in it is written once or replaced whole.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from rich.console import Console

from emoray.batches import distributed
from emoray.batches.plans import Plan, RoundPlan
from emoray.results.store import ResultStore
from emoray.runtime import ray_process
from emoray.runtime.storage import Storage, last_part
from emoray.training import checkpoint, faults
from emoray.training.data import RunData, open_data
from emoray.training.execute import KEPT, execute
from emoray.training.progress import Board, Display, last_fault, tell_fault, watching
from emoray.training.rows import Fault, Rows
from emoray.training.run import Execution, Run, Submission

SUBMISSION_FILE = "request.json"
OCCUPANCY_FILE = "occupancy.json"
TENSORBOARD = "tensorboard"


def check(submission: Submission, plan: Plan) -> None:
    """Refuse what cannot run, before anything is started or written.

    Raises:
        ValueError: a number of workers that does not divide the rounds; a run of that name that
            is another run.
    """
    plan.check_workers(submission.execution.n_workers)
    stored = begun(submission.folder)
    if stored is None or stored.run.key == submission.run.key:
        return
    if replace(stored.run, code=submission.run.code).key == submission.run.key:
        raise ValueError(
            f"{submission.folder} was begun by other code ({stored.run.code}), here is "
            f"{submission.run.code}: go on by that version, or choose another name"
        )
    raise ValueError(
        f"{submission.folder} holds another run of the name {submission.run.name!r}; choose "
        "another name, or go on with that one by --resume"
    )


def start(submission: Submission, plan: Plan) -> None:
    """Write down what is about to run."""
    submission.folder.write_bytes(SUBMISSION_FILE, as_json(submission.to_json()))
    if isinstance(plan, RoundPlan):
        submission.folder.write_bytes(OCCUPANCY_FILE, as_json(plan.occupancy().to_dict()))


def stored_submission(folder: Storage) -> Submission:
    """What a run was started with.

    Raises:
        ValueError: there is no run in that folder.
    """
    stored = begun(folder)
    if stored is None:
        raise ValueError(f"{folder}: need a run to resume, got no {SUBMISSION_FILE} there")
    return stored


def begun(folder: Storage) -> Submission | None:
    """What the run in a folder was last started with; None where none was."""
    stored = folder.read(SUBMISSION_FILE)
    return None if stored is None else Submission.from_json(json.loads(stored))


def kept_cpus(had: Execution | None, n_workers: int, gpus_per_worker: float) -> float:
    """CPUs for each worker with which a run goes on to the same bits.

    On as many workers with the same share of a GPU it keeps what it had. With others the order of
    its sums changes anyway, and it takes a fair share like a new run: 0.
    """
    if had is None or (had.n_workers, had.gpus_per_worker) != (n_workers, gpus_per_worker):
        return 0.0
    return had.cpus_per_worker


class RunError(RuntimeError):
    """A run that cannot go on; says what happened on which worker."""


def fit(
    submission: Submission,
    found: RunData,
    *,
    console: Console,
    store: str = "",
    allow_contaminated: bool = False,
    keep: bool = True,
    pauses_s: tuple[float, ...] = faults.PAUSES_S,
) -> None:
    """Run the workers until the last epoch is done; goes on from the run's last checkpoint.

    What can pass (lost workers, nodes or controllers, storage that is away) is tried again,
    `max_failures` times in a row. What would happen again (a damaged shard, a loss that is not
    finite, a full disk) ends the run at once.

    Args:
        submission: what runs, and how.
        found: its data, open.
        console: where progress goes.
        store: folder or URI of result rows, where the run's row is added if it is scored.
        allow_contaminated: see `execute`.
        keep: see `execute`.
        pauses_s: see `faults.PAUSES_S`.

    Raises:
        RunError: with the first worker's own words.
    """
    stage = found.stage()
    plan = found.plan(stage)
    folder, most = submission.folder, submission.execution.max_failures
    # Beside the driver, whose end is the run's: any other node may be lost.
    board = Board.options(scheduling_strategy=ray_process.on_this_node()).remote()  # type: ignore[attr-defined]
    display = Display(
        n_steps=stage.epochs * plan.n_steps,
        steps_per_epoch=plan.n_steps,
        segments_per_step=plan.n_segments_per_step,
        tensorboard=Path(folder.path(TENSORBOARD)) if folder.is_local else None,
        console=console,
    )
    told = {"store": store, "allow_contaminated": allow_contaminated, "keep": keep}
    patience = faults.Patience(most, pauses_s)
    with watching(board, display):
        while True:
            try:
                checkpoint.sweep(folder, keep=KEPT)
                faults.apart(_trainer(submission, board, told).fit)
                return
            except faults.ARISING as error:
                if ray_process.is_lost():
                    raise RunError("Ray has ended on the node of this job") from error
                fault = _fault(error, board, folder)
                pause_s = patience.pause_s(display.furthest) if fault.can_pass else None
                if pause_s is None:
                    raise RunError(_last_words(fault, most)) from error
                said = f"  {fault.words}; next try in {pause_s:g} s"
                console.print(said, markup=False, highlight=False, soft_wrap=True)
                time.sleep(pause_s)


def _fault(error: Exception, board: Any, run_folder: Storage) -> Fault:
    """What ended an attempt: what a worker told of itself, and what the driver saw."""
    told = last_fault(board)
    seen = faults.fault_of(error)
    if not seen.can_pass:  # Ray Train's own files in the run's folder: it names none
        seen = replace(seen, words=f"{run_folder}: {seen.words}")
    if not told.words:
        return seen
    # What can pass is often told by those that miss a worker which could tell nothing any more.
    return replace(seen, words=f"{seen.words} ({told.words})") if told.can_pass else told


def _last_words(fault: Fault, most: int) -> str:
    if not fault.can_pass:
        return fault.words
    return f"{fault.words}; that was fault {most + 1} in a row without progress"


def _trainer(submission: Submission, board: Any, told: Mapping[str, Any]) -> TorchTrainer:
    how, storage = submission.execution, Storage.at(submission.storage)
    return TorchTrainer(
        train_worker,
        train_loop_config={"submission": submission.to_json(), "board": board, **told},
        # NCCL refuses two workers on one GPU.
        torch_config=TorchConfig(backend="gloo" if 0 < how.gpus_per_worker < 1 else None),
        scaling_config=ray.train.ScalingConfig(
            num_workers=how.n_workers,
            use_gpu=how.gpus_per_worker > 0,
            resources_per_worker=resources(how),
        ),
        run_config=ray.train.RunConfig(
            name=submission.run.folder_name,
            storage_path=storage.root,
            storage_filesystem=storage.filesystem,
            # Ray would also repeat what is bound to fail again; `fit` tells the two apart.
            failure_config=ray.train.FailureConfig(max_failures=0),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )


def train_worker(told: Mapping[str, Any]) -> None:
    """What each Ray Train worker runs; it tells its error before that rises."""
    board = told["board"]
    try:
        _train(Submission.from_json(told["submission"]), told)
    except Exception as error:
        tell_fault(board, faults.fault_of(error, who=f"worker {distributed.rank()}"))
        raise


def _train(submission: Submission, told: Mapping[str, Any]) -> None:
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(submission.execution.cpus_per_worker)))
    board, is_first = told["board"], distributed.rank() == 0
    execute(
        submission.run,
        folder=submission.folder,
        device=device,
        execution=submission.execution,
        allow_contaminated=told["allow_contaminated"],
        keep=told["keep"],
        store=ResultStore(told["store"]) if told["store"] else None,
        is_first_here=ray.train.get_context().get_local_rank() == 0,
        listen=(lambda rows: board.tell.remote(rows)) if is_first else ignore,
    )


def resources(how: Execution) -> dict[str, float]:
    """Of a worker, in Ray's words."""
    found = {"CPU": how.cpus_per_worker}
    if how.gpus_per_worker:
        found["GPU"] = how.gpus_per_worker
    return found


def has_ended(folder: Storage, run: Run) -> bool:
    """Whether the weights that a run ends with are in its folder."""
    name = checkpoint.latest_whole(folder)
    if name is None or run.chosen_by:  # one that chooses an epoch leaves nothing before its end
        return name is not None
    found = open_data(run)
    stage = found.stage()
    return name == checkpoint.name_of(stage.epochs * found.plan(stage).n_steps)


def last_checkpoint(folder: Storage) -> str:
    """Location of a run's last complete checkpoint.

    Raises:
        ValueError: the run has none yet.
    """
    name = checkpoint.latest_whole(folder)
    if name is None:
        raise ValueError(f"{folder}: need a checkpoint, got none")
    return folder.place(name)


@contextlib.contextmanager
def local_checkpoint(run_folder: Storage) -> Iterator[Path]:
    """A run's last checkpoint as a local folder, copied where the storage is remote."""
    name = last_part(last_checkpoint(run_folder))
    with checkpoint.local(run_folder.sub(name)) as folder:
        yield folder


def upload_scalars(folder: Storage, history: Mapping[str, Sequence[float]]) -> None:
    """TensorBoard's files of the whole run, where they could not be written as it ran."""
    from emoray.training.scalars import write_scalars  # TensorBoard, which workers do without

    with tempfile.TemporaryDirectory() as local:
        write_scalars(Path(local), history)
        for path in Path(local).iterdir():
            folder.write_bytes(path.name, path.read_bytes())


def as_json(value: Any) -> bytes:
    """As this folder's files hold it."""
    return (json.dumps(value, indent=2) + "\n").encode()


def ignore(rows: Rows) -> None:
    """What ranks that tell nobody do with their rows."""

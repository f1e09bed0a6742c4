"""From (method, stage, corpus, seed) to a checkpoint: plan, workers, what they leave behind.

    request -> corpus opened, subjects held out, plan made, occupancy stored
            -> TorchTrainer with W workers, each running `loop.train`
            -> the last checkpoint

A run is a folder `<storage>/runs/<name>`. Everything in it is written once or replaced whole.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
from rich.console import Console

from emoray import methods
from emoray.batches import distributed
from emoray.batches.feeds import PlanFeed, eligible_rows, pools, targets_of
from emoray.batches.plans import Plan, RoundPlan, make_plan
from emoray.corpus.read import Corpus, open_corpus
from emoray.evaluation import doubts
from emoray.evaluation.folds import held_out_subjects
from emoray.evaluation.held_out import n_rows, read_out_held_out, sides
from emoray.methods.base import Inputs, Stage
from emoray.runtime import cluster, ray_process
from emoray.runtime import config as configs
from emoray.runtime.storage import Storage, check_name, last_part
from emoray.training import checkpoint, faults, loop
from emoray.training.loop import training_code
from emoray.training.progress import (
    POLL_S,
    Board,
    Counting,
    Display,
    last_fault,
    tell_fault,
    watching,
)
from emoray.training.rows import Fault, Rows
from emoray.vocabulary.choices import Gather

REQUEST_FILE = "request.json"
OCCUPANCY_FILE = "occupancy.json"
SUMMARY_FILE = "summary.json"
HISTORY_FILE = "history.csv"
LOSS_FILE = "loss.png"
TENSORBOARD = "tensorboard"
KEPT = 2
"""Checkpoints of a run: the last one, and the one before it."""


@dataclass(frozen=True)
class Request:
    """A run, described by plain values: what the driver stores and every worker receives."""

    name: str
    """Of the run's folder."""
    storage: str
    """Folder or URI that holds the runs; every node must see it."""
    corpus: str
    """Folder or URI of the corpus."""
    datasets: tuple[str, ...]
    """Which of the corpus's builds to train on, by folder (`deap-eeg-0d9cf00c654e`)."""
    method: str
    stage: str
    config: Mapping[str, Any]
    """The method's Config as a plain dict."""
    held_out: Mapping[str, tuple[str, ...]]
    """Subjects that training must not see, by dataset."""
    plan: str = ""
    """Digest of the plan: other segments, another run."""
    n_workers: int = 1
    cpus_per_worker: float = 1.0
    """Threads of a worker that has no GPU. They decide the last bits of its sums: runs are the same
    to the bit where their threads, workers and machine are."""
    gpus_per_worker: float = 0.0
    checkpoint_every: int = 0
    """Steps between two checkpoints; 0: once an epoch."""
    max_failures: int = 7
    """Faults in a row, without a step of progress between them, that the run survives."""
    gather: Gather = "auto"

    def __post_init__(self) -> None:
        if self.name:  # a request that is being planned has none yet
            check_name(self.name, "a run's name")

    @property
    def folder(self) -> Storage:
        """The run's own folder."""
        return Storage.at(self.storage).sub(self.name)

    def make_stage(self) -> Stage:
        """The stage that this run trains."""
        kind = methods.get(self.method).STAGES[self.stage]
        stage: Stage = kind(configs.from_dict(kind.config_type, self.config), Inputs(), {})
        return stage

    def open_corpus(self) -> Corpus:
        """The corpus, with this run's datasets only; each shard is checked before its first use."""
        return open_corpus(self.corpus, datasets=self.datasets)

    def make_plan(self, corpus: Corpus) -> Plan:
        """What meets in each step: the same on every worker and machine."""
        stage = self.make_stage()
        return make_plan(stage.sampling, pools(corpus, self.held_out), seed=stage.seed)

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Request:
        """Back from `to_json`."""
        held_out = {name: tuple(subjects) for name, subjects in plain["held_out"].items()}
        datasets = tuple(plain["datasets"])
        return cls(**{**plain, "datasets": datasets, "held_out": held_out})


def held_out_of(corpus: Corpus, *, fraction: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Subjects to hold out of each dataset, among those with valence and arousal."""
    chosen = {}
    for dataset in corpus.datasets:
        subjects = dataset.column("subject")[eligible_rows(dataset, ())]
        chosen[dataset.name] = held_out_subjects(
            dataset.name, subjects.tolist(), fraction=fraction, seed=seed
        )
    return chosen


def check(request: Request, plan: Plan) -> None:
    """Refuse what cannot run, before anything is started or written.

    Raises:
        ValueError: a number of workers that does not divide the rounds; a run of that name that
            is another run; a corpus that is no longer the one that the run was started on.
    """
    plan.check_workers(request.n_workers)
    if plan.digest != request.plan:
        raise ValueError(
            f"{request.corpus}: need the segments that run {request.name!r} was started on "
            f"(plan {request.plan}), got others (plan {plan.digest})"
        )
    stored = request.folder.read(REQUEST_FILE)
    if stored is not None and _identity(json.loads(stored)) != _identity(request.to_json()):
        raise ValueError(
            f"{request.folder} holds another run of the name {request.name!r}; choose another "
            "name, or go on with that one by --resume"
        )


def start(request: Request, plan: Plan) -> None:
    """Write down what is about to run."""
    request.folder.write_bytes(REQUEST_FILE, _json(request.to_json()))
    if isinstance(plan, RoundPlan):
        request.folder.write_bytes(OCCUPANCY_FILE, _json(plan.occupancy().to_dict()))


def describe(request: Request, plan: Plan, corpus: Corpus) -> dict[str, str]:
    """The run in words, for a person who is about to wait for it."""
    stage = request.make_stage()
    n_parameters = sum(p.numel() for p in stage.build().parameters())
    n_drawn, n_all = (
        sum(len(pool.rows_S) for pool in pools(corpus, out)) for out in (request.held_out, {})
    )
    n_subjects = sum(len(subjects) for subjects in request.held_out.values())
    each = f"{request.gpus_per_worker or request.cpus_per_worker:g} "
    each += "GPU" if request.gpus_per_worker else "CPU"
    return {
        "run": str(request.folder),
        "corpus": request.corpus,
        "segments": f"{n_drawn:,} of {len(corpus.datasets)} datasets to train on, "
        f"{n_all - n_drawn:,} of "
        f"{n_subjects} subjects held out",
        "model": f"{request.method} {request.stage}, {n_parameters:,} parameters",
        "steps": f"{stage.epochs} epochs of {plan.n_steps} steps of "
        f"{plan.n_segments_per_step} segments",
        "workers": f"{request.n_workers}, each with {each}",
    }


def stored_request(folder: Storage) -> Request:
    """The request that a run was started with.

    Raises:
        ValueError: there is no run in that folder.
    """
    stored = begun(folder)
    if stored is None:
        raise ValueError(f"{folder}: need a run to resume, got no {REQUEST_FILE} there")
    return stored


def begun(folder: Storage) -> Request | None:
    """The request that the run in a folder was last started with; None where none was."""
    stored = folder.read(REQUEST_FILE)
    return None if stored is None else Request.from_json(json.loads(stored))


def kept_cpus(had: Request | None, n_workers: int, gpus_per_worker: float) -> float:
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
    request: Request,
    plan: Plan,
    *,
    console: Console,
    pauses_s: tuple[float, ...] = faults.PAUSES_S,
) -> None:
    """Run the workers until the last epoch is done; goes on from the run's last checkpoint.

    What can pass (lost workers, nodes or controllers, storage that is away) is tried again,
    `max_failures` times in a row. What would happen again (a damaged shard, a loss that is not
    finite, a full disk) ends the run at once.

    Raises:
        RunError: with the first worker's own words.
    """
    stage = request.make_stage()
    # Beside the driver, whose end is the run's: any other node may be lost.
    board = Board.options(scheduling_strategy=ray_process.on_this_node()).remote()  # type: ignore[attr-defined]
    display = Display(
        n_steps=stage.epochs * plan.n_steps,
        steps_per_epoch=plan.n_steps,
        segments_per_step=plan.n_segments_per_step,
        tensorboard=Path(request.folder.path(TENSORBOARD)) if request.folder.is_local else None,
        console=console,
    )
    patience = faults.Patience(request.max_failures, pauses_s)
    with watching(board, display):
        while True:
            try:
                _tidy(request.folder)
                faults.apart(_trainer(request, board).fit)
                return
            except faults.ARISING as error:
                if ray_process.is_lost():
                    raise RunError("Ray has ended on the node of this job") from error
                fault = _fault(error, board, request.folder)
                pause_s = patience.pause_s(display.furthest) if fault.can_pass else None
                if pause_s is None:
                    raise RunError(_last_words(fault, request.max_failures)) from error
                said = f"  {fault.words}; next try in {pause_s:g} s"
                console.print(said, markup=False, highlight=False, soft_wrap=True)
                time.sleep(pause_s)


def _tidy(run_folder: Storage) -> None:
    """Leave of an earlier attempt what the next one goes on from.

    Ray Train writes its list of checkpoints in place, refuses to start from one that was cut off
    or names a folder that is gone, and would forget the folders that are not on it. The folders
    themselves say which there are.
    """
    run_folder.remove(CHECKPOINT_MANAGER_SNAPSHOT_FILENAME)
    checkpoint.sweep(run_folder, keep=KEPT)


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


def _trainer(request: Request, board: Any) -> TorchTrainer:
    return TorchTrainer(
        train_worker,
        train_loop_config={"request": request.to_json(), "board": board},
        # NCCL refuses two workers on one GPU.
        torch_config=TorchConfig(backend="gloo" if 0 < request.gpus_per_worker < 1 else None),
        scaling_config=ray.train.ScalingConfig(
            num_workers=request.n_workers,
            use_gpu=request.gpus_per_worker > 0,
            resources_per_worker=_resources(request),
        ),
        run_config=ray.train.RunConfig(
            name=request.name,
            storage_path=Storage.at(request.storage).root,
            storage_filesystem=Storage.at(request.storage).filesystem,
            # Ray would also repeat what is bound to fail again; `fit` tells the two apart.
            failure_config=ray.train.FailureConfig(max_failures=0),
            # It knows of none from before its start; `RayCheckpoints` lets go of all that are old.
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=None),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )


def train_worker(loop_config: Mapping[str, Any]) -> None:
    """What each Ray Train worker runs; it tells its error before that rises."""
    board = loop_config["board"]
    try:
        _train(Request.from_json(loop_config["request"]), board)
    except Exception as error:
        tell_fault(board, faults.fault_of(error, who=f"worker {distributed.rank()}"))
        raise


def _train(request: Request, board: Any) -> None:
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(request.cpus_per_worker)))
    corpus = request.open_corpus()
    if corpus.fits_here and ray.train.get_context().get_local_rank() == 0:
        corpus.prepare()  # a damaged shard shows now, not in the middle of an epoch
    distributed.barrier()
    plan = request.make_plan(corpus)
    stage = request.make_stage()
    feed = PlanFeed(
        corpus.datasets,
        plan,
        streams=stage.streams,
        targets=targets_of(corpus.datasets, stage.target),
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        gather=request.gather,
        pin_memory=device.type == "cuda",
    )
    first = distributed.rank() == 0
    loop.train(
        stage,
        feed,
        steps_per_epoch=plan.n_steps,
        checkpoints=RayCheckpoints(request.folder, facts_of(request, corpus, plan)),
        checkpoint_every=request.checkpoint_every or plan.n_steps,
        device=device,
        listen=(lambda rows: board.tell.remote(rows)) if first else ignore,
    )


class RayCheckpoints:
    """Checkpoints in the run's storage, through Ray Train; rank 0 writes, all ranks wait."""

    def __init__(self, run_folder: Storage, facts: Mapping[str, Any]) -> None:
        self._run_folder = run_folder
        self._facts = facts

    def latest(self) -> checkpoint.State | None:
        """The last whole state, if it is of this run."""
        if checkpoint.latest_whole(self._run_folder) is None:
            return None
        like = {key: self._facts[key] for key in IDENTITY}
        with local_checkpoint(self._run_folder) as folder:
            return checkpoint.load(folder, like=like)

    def save(self, state: checkpoint.State) -> None:
        """Register a state under its step's number."""
        metrics = {"step": state.step, "loss": state.history["loss"][-1]}
        name = f"{checkpoint.PREFIX}{state.step:08d}"
        with tempfile.TemporaryDirectory() as folder:
            if distributed.rank() != 0:
                ray.train.report(metrics, checkpoint=None, checkpoint_dir_name=name)
                return
            checkpoint.save(Path(folder), state, self._facts)
            n_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
            written = ray.train.Checkpoint.from_directory(folder)
            with self._run_folder.explaining(name, n_bytes=n_bytes):
                ray.train.report(metrics, checkpoint=written, checkpoint_dir_name=name)
        with contextlib.suppress(OSError):  # the run needs none of what lies there still
            checkpoint.sweep(self._run_folder, keep=KEPT)


IDENTITY = ("method", "stage", "config", "plan")
"""Facts by which a checkpoint belongs to a run; the number of workers is not among them."""


def facts_of(request: Request, corpus: Corpus, plan: Plan) -> dict[str, Any]:
    """What a checkpoint says of itself beside its tensors."""
    return {
        "run": request.name,
        "method": request.method,
        "stage": request.stage,
        "config": dict(request.config),
        "config_digest": configs.digest(request.config),
        "plan": plan.digest,
        "corpus": {"location": request.corpus, "digest": corpus.digest},
        "builds": list(request.datasets),
        "code": training_code(request.method),
        "rehearsal": corpus.rehearsal,
        "held_out": {name: list(subjects) for name, subjects in request.held_out.items()},
        **account_of(corpus, request.held_out),
        "n_workers": request.n_workers,
        "versions": {"torch": torch.__version__, "ray": ray.__version__},
    }


def seen(
    corpus: Corpus, held_out: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, list[str]]]:
    """Whom and what training could draw: dataset -> subject -> stimuli. Audits rely on it."""
    return {
        dataset.name: dataset.seen(pool.rows_S)
        for dataset, pool in zip(corpus.datasets, pools(corpus, held_out), strict=True)
    }


def account_of(corpus: Corpus, held_out: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """A checkpoint's `seen` and `signals`: by name, and by fingerprint whatever the name."""
    signals = _signals(corpus, held_out)
    flat = {name: prints for of_one in signals.values() for name, prints in of_one.items()}
    return {"seen": seen(corpus, held_out), "signals": flat}


def _signals(
    corpus: Corpus, held_out: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, list[str]]]:
    """Fingerprints of what training could draw, by dataset and recording."""
    return {
        dataset.name: dataset.signals(pool.rows_S)
        for dataset, pool in zip(corpus.datasets, pools(corpus, held_out), strict=True)
    }


def held_out_doubts(request: Request, corpus: Corpus) -> list[str]:
    """Why people of the read-out may be no strangers to the encoder, one line each."""
    trained, everybody = _signals(corpus, request.held_out), _signals(corpus, {})
    others = {
        dataset: {name: found for name, found in signals.items() if name not in trained[dataset]}
        for dataset, signals in everybody.items()
    }
    return doubts.of_held_out(trained, others)


def last_name(request: Request, plan: Plan) -> str:
    """Name of the checkpoint that the run ends with."""
    return f"{checkpoint.PREFIX}{request.make_stage().epochs * plan.n_steps:08d}"


def has_ended(request: Request) -> bool:
    """Whether the run's last checkpoint is there."""
    stored = request.folder.read(REQUEST_FILE)
    if stored is None:
        return False
    plan = request.make_plan(request.open_corpus())
    return checkpoint.latest_whole(request.folder) == last_name(request, plan)


def last_checkpoint(folder: Storage) -> str:
    """Location of a run's last complete checkpoint.

    Raises:
        ValueError: the run has none yet.
    """
    name = checkpoint.latest_whole(folder)
    if name is None:
        raise ValueError(f"{folder}: need a checkpoint, got none")
    return folder.place(name)


def compare_on_held_out(request: Request, *, console: Console) -> dict[str, Any]:
    """Read out the run's encoder on its held-out subjects, beside the untrained one.

    Runs as one task on what a worker had (a GPU, where workers have them), and shows progress.

    Returns:
        `pretrained` and `untrained`: a `ReadOut` as a dict, or None where nobody is held out.
    """
    task = ray.remote(_compare).options(
        num_cpus=request.cpus_per_worker, num_gpus=request.gpus_per_worker, num_returns="streaming"
    )

    def compared() -> dict[str, Any]:
        with Counting("read-out", "segments", console=console) as counting:
            for answer in map(ray.get, task.remote(request.to_json())):
                if isinstance(answer, dict):
                    return answer
                counting.show(*answer)
        raise AssertionError("the task yields its scores last")

    return faults.persist(compared, most=request.max_failures)


def _compare(plain: Mapping[str, Any]) -> Iterator[tuple[int, int] | dict[str, Any]]:
    """The task: again and again segments embedded and to embed, at last the scores."""
    request = Request.from_json(plain)
    corpus = request.open_corpus()
    device = torch.device("cuda" if request.gpus_per_worker else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(request.cpus_per_worker)))
    arms = {"pretrained": request.make_stage().build(), "untrained": request.make_stage().build()}
    with local_checkpoint(request.folder) as folder:
        checkpoint.load_model(folder, arms["pretrained"])
    n_all = len(arms) * sum(n_rows(side) for side in sides(corpus, request.held_out))
    embedded: queue.SimpleQueue[int] = queue.SimpleQueue()

    def read_all() -> dict[str, Any]:
        found = {
            name: read_out_held_out(
                module, corpus, request.held_out, device=device, advance=embedded.put
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
    request: Request,
    plan: Plan,
    corpus: Corpus,
    scores: Mapping[str, Any],
    *,
    loss_png: Callable[..., bytes],
    seconds: float,
) -> dict[str, str]:
    """Write the run's summary and loss curve; returns where everything lies, by what it is."""
    with local_checkpoint(request.folder) as folder:
        history = checkpoint.load(folder).history
    facts = {
        "run": request.name,
        "rehearsal": corpus.rehearsal,
        "steps": len(history["loss"]),
        "last_loss": history["loss"][-1],
        "seconds": round(seconds, 1),
        "machine": cluster.describe(),
        "checkpoint": last_checkpoint(request.folder),
        "read_out": scores,
        "held_out_doubts": held_out_doubts(request, corpus),
    }
    picture = loss_png(
        history["loss"],
        steps_per_epoch=plan.n_steps,
        chance=request.make_stage().chance_loss(plan.n_segments_per_step),
        title=f"{request.method} {request.stage}: {request.name}",
        rehearsal=corpus.rehearsal,
    )
    request.folder.write_bytes(SUMMARY_FILE, _json(facts))
    request.folder.write_bytes(HISTORY_FILE, _csv(history))
    request.folder.write_bytes(LOSS_FILE, picture)
    if not request.folder.is_local:
        _upload_scalars(request.folder.sub(TENSORBOARD), history)
    return {
        "checkpoint": last_checkpoint(request.folder),
        "summary": request.folder.place(SUMMARY_FILE),
        "loss curve": request.folder.place(LOSS_FILE),
        "every step": request.folder.place(HISTORY_FILE),
        "TensorBoard": request.folder.place(TENSORBOARD),
    }


def _upload_scalars(folder: Storage, history: Mapping[str, Sequence[float]]) -> None:
    """TensorBoard's files of the whole run, where they could not be written as it ran."""
    from emoray.training.scalars import write_scalars  # TensorBoard, which workers do without

    with tempfile.TemporaryDirectory() as local:
        write_scalars(Path(local), history)
        for path in Path(local).iterdir():
            folder.write_bytes(path.name, path.read_bytes())


def _csv(history: Mapping[str, Sequence[float]]) -> bytes:
    """One line a step, from step 0."""
    names = list(history)
    lines = [",".join(["step", *names])]
    for step, values in enumerate(zip(*history.values(), strict=True)):
        lines.append(",".join([str(step), *(f"{value:.8g}" for value in values)]))
    return ("\n".join(lines) + "\n").encode()


@contextlib.contextmanager
def local_checkpoint(run_folder: Storage) -> Iterator[Path]:
    """A run's last checkpoint as a local folder, copied where the storage is remote."""
    name = last_part(last_checkpoint(run_folder))
    with checkpoint.local(run_folder.sub(name)) as folder:
        yield folder


def _resources(request: Request) -> dict[str, float]:
    resources = {"CPU": request.cpus_per_worker}
    if request.gpus_per_worker:
        resources["GPU"] = request.gpus_per_worker
    return resources


def _identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two requests the same run: not where or on how many workers it goes on."""
    free = {"n_workers", "cpus_per_worker", "gpus_per_worker", "max_failures", "gather"}
    free |= {"checkpoint_every", "storage"}
    free |= {"corpus"}  # where it lies; which builds they are stands in `datasets`
    return {key: value for key, value in plain.items() if key not in free}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def ignore(rows: Rows) -> None:
    """What ranks that tell nobody do with their rows."""

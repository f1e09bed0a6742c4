"""What a run is: a stage, its settings, its data, what it starts from; and how it is executed.

Plain values, known before torch or Ray are loaded: the store finds a run by its key, a driver
writes it down, a worker receives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from emoray.results.store import key_of
from emoray.runtime import config as configs
from emoray.runtime.storage import Storage, check_name
from emoray.vocabulary.choices import Gather

PUBLISHED = "published"
"""The start of weights that a stage's own settings name (`Stage.published_weights`)."""


@dataclass(frozen=True)
class Origin:
    """Weights that a run starts from, whether they are there already or not."""

    identity: Mapping[str, Any]
    """What names them. Of a checkpoint: the `run` that made it by key, the `step`, and a digest of
    whom they have `seen`; a row stands for these weights with this account and for no others."""
    location: str = ""
    """Of the checkpoint; none of published weights."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """`method`, `stage`, `config` and `starts` of the run that made it; its starts say the same of
    theirs."""
    run: Run | None = field(default=None, compare=False)
    """That ends with it; None where it is simply there."""

    def to_plain(self) -> dict[str, Any]:
        """As rows and keys hold it."""
        return {**self.identity, **self.lineage}


@dataclass(frozen=True)
class Run:
    """A stage that is trained once: on a corpus, or on one fold of a protocol."""

    method: str
    stage: str
    config: Mapping[str, Any]
    """The stage's settings as a plain dict; its seed is the run's."""
    corpus: str
    """Folder or URI of the corpus."""
    builds: Mapping[str, str]
    """What it reads: digest of the index by the build's folder (`faced-eeg-0d9cf00c654e`). Of a
    dataset whose two streams are read, both builds."""
    target: Mapping[str, Any] | None = None
    """What the classes are, as plain data (`vocabulary.targets`); None without a fold."""
    protocol: str = ""
    fold: str = ""
    """By name; empty where all of the corpus trains that is not held out."""
    held_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Without a fold: subjects that training must not see, by dataset."""
    chosen_by: str = ""
    """Metric on the validation segments by which the best epoch is chosen, which is then scored on
    the test segments; empty where the last epoch's weights are what is wanted."""
    starts: Mapping[str, Origin] = field(default_factory=dict)
    """By what the stage calls them (`encoder`, `teacher`)."""
    code: str = ""
    """Version of the code that decides what comes out (`execute.code_of`)."""
    name: str = ""
    """Of its folder, where it has one of its own; otherwise the key."""

    def __post_init__(self) -> None:
        if self.name:
            check_name(self.name, "a run's name")

    @property
    def seed(self) -> int:
        """Of weights, order and every mask."""
        return int(self.config["seed"])

    @property
    def folder_name(self) -> str:
        """Of its checkpoints, below the storage's runs."""
        return self.name or self.key

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted({build.partition("-")[0] for build in self.builds}))

    @cached_property
    def key(self) -> str:
        """What is run, not where, under which name or how."""
        return key_of(**self.to_key())

    def to_key(self) -> dict[str, Any]:
        """The parts of its key, as plain data; a row holds them too."""
        return {
            "method": self.method,
            "stage": self.stage,
            "config": self.config,
            "builds": self.builds,
            "target": self.target,
            "protocol": self.protocol,
            "fold": self.fold,
            "held_out": {name: list(people) for name, people in self.held_out.items() if people},
            "seed": self.seed,
            "starts": self.plain_starts(),
            "chosen_by": self.chosen_by,
            "code": self.code,
        }

    def plain_starts(self) -> dict[str, Any]:
        """Its starts as rows and keys hold them."""
        return {role: origin.to_plain() for role, origin in sorted(self.starts.items())}

    def lineage(self) -> dict[str, Any]:
        """What those that start from it say of it."""
        return {
            "method": self.method,
            "stage": self.stage,
            "config": dict(self.config),
            "starts": self.plain_starts(),
        }

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it; of its starts what they are and where, not the runs that make them."""
        bare = {role: replace(origin, run=None) for role, origin in self.starts.items()}
        return configs.plain_dict(asdict(replace(self, starts=bare)))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Run:
        """Back from `to_json`."""
        held_out = {name: tuple(people) for name, people in plain["held_out"].items()}
        starts = {role: Origin(**origin) for role, origin in plain["starts"].items()}
        return cls(**{**plain, "held_out": held_out, "starts": starts})


@dataclass(frozen=True)
class Execution:
    """How a run is executed: on how much, how often it is kept. Never what it computes."""

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


@dataclass(frozen=True)
class Submission:
    """A run, where it is kept, and how it is executed: what a driver writes down."""

    run: Run
    storage: str
    """Folder or URI that holds the runs; every node must see it."""
    execution: Execution = Execution()

    @property
    def folder(self) -> Storage:
        """The run's own folder."""
        return Storage.at(self.storage).sub(self.run.folder_name)

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "run": self.run.to_json(),
            "storage": self.storage,
            "execution": asdict(self.execution),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Submission:
        """Back from `to_json`.

        Raises:
            ValueError: another version of emoray wrote it.
        """
        if set(plain) != {"run", "storage", "execution"}:
            raise ValueError(
                "need a run as this version of emoray writes it down, got another version's: "
                "choose another name"
            )
        run, execution = Run.from_json(plain["run"]), Execution(**plain["execution"])
        return cls(run, plain["storage"], execution)

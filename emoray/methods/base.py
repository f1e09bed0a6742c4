"""The contract of a stage: what it reads, draws, learns and starts from, and how it computes.

A method is a folder here with a `method.py` whose `STAGES` are classes derived from `Stage`. All
that a run does follows from what a stage declares: the loop, the feed, the schedule, the store and
the reports know no method's name.

Shapes: B segments of one worker's share of a step, C channels, T samples, K classes, Z width of an
embedding.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.batches.sampling import Sampling, ShuffledSegments
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.settings import OptimizerConfig, Precision, StepsConfig
from emoray.signals import Recipe
from emoray.vocabulary.schema import Stream

Scope = Literal["corpus", "fold"]
"""`corpus`: all segments of a run's datasets but those of held-out people, once for every fold.
`fold`: the training part of one fold."""

TargetName = Literal["va", "label"]
"""What a batch carries to learn from: valence and arousal, or class indices."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """The shape of a stream's segments, in braindecode's words."""

    channels: tuple[str, ...]
    """Electrodes or leads, in the order of the arrays."""
    sfreq: float
    """Hz."""
    n_times: int
    """Samples of a segment."""

    @property
    def n_chans(self) -> int:
        """Electrodes or leads."""
        return len(self.channels)

    @property
    def input_window_seconds(self) -> float:
        """Seconds of a segment."""
        return self.n_times / self.sfreq


@dataclass(frozen=True)
class Inputs:
    """What a stage is built for: its streams, and the classes that it tells apart."""

    streams: Mapping[str, StreamSpec] = field(default_factory=dict)
    """By name; none of a stream in whose shape a run's datasets differ."""
    classes: tuple[str, ...] = ()
    """Names by class index; none where no labels are learned."""

    @property
    def n_outputs(self) -> int:
        """Classes."""
        return len(self.classes)

    def __getitem__(self, stream: str) -> StreamSpec:
        """The shape of a stream.

        Raises:
            ValueError: the run's segments have no such stream, or not all of one shape.
        """
        if stream not in self.streams:
            known = ", ".join(self.streams) or "none"
            raise ValueError(f"need segments of one shape in the stream {stream!r}, got {known}")
        return self.streams[stream]


@dataclass(frozen=True, slots=True)
class InputSpec(StreamSpec):
    """A classifier of one stream: its shape and the number of classes, in braindecode's words."""

    n_outputs: int
    """Classes."""


@dataclass(frozen=True, slots=True)
class Start:
    """A trained module that a stage may start from."""

    config: Mapping[str, Any]
    """Of the stage that trained it, as a plain dict."""
    model: Mapping[str, Tensor]
    """Its weights by name, on the CPU."""
    kind: type[Stage] | None = None
    """The stage that trained it; None where only its weights count."""

    def encoder(self, inputs: Inputs) -> nn.Module:
        """Its encoder with its weights, whatever method it is of.

        Args:
            inputs: the shapes of what it will read.

        Raises:
            ValueError: its stage has no encoder that others can read.
        """
        if self.kind is None:
            raise ValueError("need a start that says which stage trained it, got weights alone")
        module = self.kind.encoder(self.config, inputs)
        module.load_state_dict(self.part("encoder"))
        return module

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The weights of one submodule, by their names within it."""
        head = f"{prefix}."
        return {
            name.removeprefix(head): weights
            for name, weights in self.model.items()
            if name.startswith(head)
        }


class Embedder(Protocol):
    """A module whose frozen embeddings can be read out."""

    def embed(self, groups: Sequence[Group]) -> Tensor:
        """Embeddings (B, Z), the groups' segments one after the other."""
        ...


class PatchEncoder(Protocol):
    """An encoder that sees a segment as patches of time; a module."""

    width: int
    """Z."""

    def patches(self, group: Group, n_patches: int, key: DropoutKey | None = None) -> Tensor:
        """Embeddings of equal parts of each segment's time, (B, P, Z); no dropout without a key."""
        ...


class StageConfig(Protocol):
    """What every stage's settings hold, among its own."""

    @property
    def seed(self) -> int:
        """Of the initial weights, the order of segments and every mask."""
        ...

    @property
    def epochs(self) -> int:
        """How many; one draws as many segments as there are."""
        ...

    @property
    def optimizer(self) -> OptimizerConfig:
        """How weights are updated."""
        ...

    @property
    def precision(self) -> Precision:
        """Of the forward pass; `bf16` is autocast over float32 weights."""
        ...

    @property
    def compile(self) -> bool:
        """Whether the module runs through torch.compile."""
        ...


class Stage(ABC):
    """One phase of a method: a module, and how a batch becomes losses.

    Without its starts a stage can be made and built all the same, with weights of its own: so its
    steps are counted and timed, and a checkpoint's module is made before its weights come.

    Args:
        config: its settings, a `config_type`.
        inputs: the shapes of what it reads, and its classes.
        starts: trained modules by the names in `may_start_from`; those that it does without are
            not there.

    Raises:
        ValueError: a start that the stage does not know.
    """

    config_type: ClassVar[type]
    """Of its settings: a frozen dataclass with the fields of `StageConfig` and its own."""
    scope: ClassVar[Scope] = "fold"
    streams: ClassVar[tuple[Stream, ...]] = ("eeg",)
    """That it reads, by name; of several, segments of the same instant."""
    recipes: ClassVar[Mapping[Stream, Recipe]] = {}
    """By stream, the recipe whose build is read: the length of its segments is among it. Of a
    stream without an entry the corpus has one build, by whatever recipe."""
    target: ClassVar[TargetName | None] = None
    """That it learns; None where it needs none."""
    may_start_from: ClassVar[tuple[str, ...]] = ()
    """Names of trained modules that it may start from (`encoder`, `teacher` ...)."""
    streams_each_step: ClassVar[tuple[Stream, ...] | None] = None
    """Of its streams, those that every step reads; None for all."""
    streams_once: ClassVar[tuple[Stream, ...] | None] = None
    """Those that are read once, for what `constants` makes of them; None for all."""

    def __init__(self, config: Any, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        if unknown := sorted(set(starts) - set(self.may_start_from)):
            known = ", ".join(self.may_start_from) or "nothing"
            raise ValueError(f"need a start among {known}; got {', '.join(unknown)}")
        self._config: StageConfig = config
        self.inputs = inputs
        self.starts = starts

    @classmethod
    @abstractmethod
    def rehearsal(cls) -> Any:
        """Settings that learn something of rehearsal data within seconds or minutes on a CPU."""

    @classmethod
    def sharing(cls, config: Any, n_workers: int) -> Any:
        """Settings of a rehearsal with steps that so many workers can share.

        Args:
            config: as `rehearsal` gives them.
            n_workers: of a run.
        """
        return config

    @classmethod
    def following(cls, config: Any, starts: Mapping[str, Mapping[str, Any]]) -> Any:
        """Settings with those that what it starts from decides, such as an encoder's size.

        Args:
            config: as asked for.
            starts: settings of the stages that trained its starts, by role, as plain dicts.

        Raises:
            ValueError: it cannot start from such weights.
        """
        return config

    @classmethod
    def unread(cls, config: Any, starts: Collection[str]) -> tuple[str, ...]:
        """Settings that nothing reads as the others are: dotted fields, or groups of them.

        To search one would be in vain. Those that a start decides are found by `following`.

        Args:
            config: the others.
            starts: roles of what it starts from.
        """
        return ()

    @classmethod
    def published_weights(cls, config: Any) -> Mapping[str, Any] | None:
        """What names weights that these settings take from elsewhere, `words` among it; or None."""
        return None

    @classmethod
    def pretrained_on(cls, config: Any) -> tuple[str, ...]:
        """Datasets that such weights are known to have been trained on, whole."""
        return ()

    @classmethod
    def label_share(cls, config: Any) -> float:
        """Share of a fold's training labels, in (0, 1], that it is given; of each class alike."""
        return 1.0

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> nn.Module:
        """A new encoder as its module has it under `encoder`: a `PatchEncoder`.

        Args:
            config: its settings, as a plain dict.
            inputs: the shapes of what the encoder will read.

        Raises:
            ValueError: its encoder does not see segments by patches, or not these.
        """
        raise ValueError(f"need a stage whose encoder sees patches of time, got {cls.__name__}")

    def constants(self, group: Group) -> Mapping[str, Tensor]:
        """What no step changes of segments, by name, a row for each: computed once, before the
        first step, and then in `Group.constants`. It must not depend on which segments are
        together; `positions_B` are here rows of the dataset's index.
        """
        return {}

    @property
    def seed(self) -> int:
        """Of the initial weights and of every mask drawn during the stage."""
        return self._config.seed

    @property
    def epochs(self) -> int:
        """How many; one draws as many segments as there are."""
        return self._config.epochs

    @property
    def optimizer(self) -> OptimizerConfig:
        """How weights are updated."""
        return self._config.optimizer

    @property
    def precision(self) -> Precision:
        """Of the forward pass; `bf16` is autocast over float32 weights."""
        return self._config.precision

    @property
    def compile(self) -> bool:
        """Whether the module runs through torch.compile."""
        return self._config.compile

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Torch's generator as the seed has it, and as it was afterwards: for initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            yield

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """How its batches are drawn."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """By the name of a loss, what it counts in the sum that is minimised; 1 without an entry.

        A loss of weight 0 is logged only.
        """
        return {}

    @abstractmethod
    def build(self) -> nn.Module:
        """The module with its initial weights, the same for the same seed."""

    @abstractmethod
    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Named scalars of the *global* batch, always the same names; all are logged."""

    def chance_loss(self, n_segments: int) -> float | None:
        """The weighted sum where nothing has been learned of a step of so many segments; None
        where nobody can say."""
        return None

    @property
    def start_words(self) -> str:
        """Where its weights come from: `from scratch`, `pretrained` ..."""
        return "pretrained" if self.starts else "from scratch"

    def scores(self, module: nn.Module, groups: Sequence[Group]) -> Tensor:
        """Class scores of segments, (B, K), without dropout; the module is in evaluation mode.

        Raises:
            NotImplementedError: the stage tells no classes apart.
        """
        raise NotImplementedError(f"{type(self).__name__} tells no classes apart")

    def paired(self, module: nn.Module, group: Group) -> tuple[Tensor, Tensor]:
        """Of segments of two streams what the module says of the one, and a frozen teacher of the
        other: (B, Z) each, in one space, without dropout; the module is in evaluation mode.

        Raises:
            ValueError: the stage draws no stream to another.
        """
        raise ValueError(
            f"need a stage that draws one stream to another, got {type(self).__name__}"
        )

    def n_parameters(self, module: nn.Module) -> Mapping[str, int]:
        """Trainable numbers of the module's `head`, and of all the rest as `encoder`."""
        head = count(getattr(module, "head", None))
        return {"encoder": count(module) - head, "head": head}


class EachSegmentOnce(Stage):
    """A stage whose epochs draw every segment once, in a new order each time.

    Args:
        config: as `StepsConfig` or derived from it.
        inputs: as of every stage.
        starts: as of every stage.
    """

    def __init__(self, config: StepsConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self._steps = config

    @property
    def sampling(self) -> ShuffledSegments:
        """By steps of as many segments as its settings say."""
        return ShuffledSegments(self._steps.batch_size)


def count(module: nn.Module | None) -> int:
    """Trainable numbers of a module; 0 of none."""
    return 0 if module is None else sum(p.numel() for p in module.parameters() if p.requires_grad)

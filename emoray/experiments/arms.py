"""Arms of an experiment: a row of a table as the stages that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emoray import methods
from emoray.methods.base import Stage
from emoray.results.paper import MeanSd
from emoray.signals import Recipe
from emoray.training.run import Origin
from emoray.vocabulary.schema import STREAMS, Stream


@dataclass(frozen=True)
class ArmStage:
    """One of an arm's stages."""

    name: str
    """Among the arm's: what others start from."""
    method: str
    stage: str
    config: Any
    """Its settings; the seed is set for each run."""
    starts: Mapping[str, str | Origin] = field(default_factory=dict)
    """By what the stage calls it: an earlier stage by name, or weights that are there."""

    @property
    def kind(self) -> type[Stage]:
        """Its class.

        Raises:
            ValueError: there is no such method or stage.
        """
        return methods.stage(self.method, self.stage)


@dataclass(frozen=True)
class Arm:
    """One row of a table: how a model comes about, stage by stage."""

    row: str
    stages: tuple[ArmStage, ...]
    """Each after those that it starts from; the last one is scored."""
    published: Mapping[str, Mapping[str, MeanSd]] = field(default_factory=dict)
    """By evaluation, under the paper's protocol."""

    @property
    def last(self) -> ArmStage:
        """The stage that is scored."""
        return self.stages[-1]

    @property
    def on_fold(self) -> list[ArmStage]:
        """Its stages that are of one fold."""
        return [stage for stage in self.stages if stage.kind.scope == "fold"]


def streams_of(arms: Sequence[Arm]) -> tuple[Stream, ...]:
    """That any stage on a fold of any arm reads: all have the segments that have all of them.

    Random folds are dealt over the segments there are: where one stage had others, it would train
    on what the next one tests; where one arm had others, its scores would be of another test.
    """
    read = {s for arm in arms for stage in arm.on_fold for s in stage.kind.streams}
    return tuple(stream for stream in STREAMS if stream in read)


def recipes_of(arms: Sequence[Arm]) -> dict[Stream, Recipe]:
    """By which their stages on a fold want them.

    Raises:
        ValueError: two stages that want another recipe for one stream.
    """
    found: dict[Stream, Recipe] = {}
    for arm in arms:
        for stage in arm.on_fold:
            for stream in stage.kind.streams:
                recipe = stage.kind.recipes.get(stream)
                if recipe is not None and found.setdefault(stream, recipe) != recipe:
                    raise ValueError(
                        f"{arm.row}: need one recipe for {stream} in all stages, got several"
                    )
    return found

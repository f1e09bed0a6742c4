"""Arms of an experiment: a row of a table as the stages that make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emoray import methods
from emoray.methods.base import Stage
from emoray.results.paper import MeanSd
from emoray.training.run import Origin


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

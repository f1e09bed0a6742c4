"""What the pretraining of EMOD may be asked, known before torch and Ray are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from emoray.experiments.options import Cluster, Places, WorkerResources
from emoray.methods.emod.config import Config
from emoray.vocabulary.choices import Gather


@dataclass(frozen=True)
class Pretrain(WorkerResources, Cluster, Places):
    """Pretrain EMOD."""

    datasets: tuple[str, ...] = ()
    """Datasets of the corpus to train on, by name, or by folder where it holds several builds of
    one; without it all that have valence and arousal but those for evaluation (FACED, SEED-V)."""
    workers: int | None = None
    """Workers, each with its share of every step; must divide --rounds-per-step. Default: 1, or
    as many as a resumed run had."""
    held_out: float = 0.2
    """Share of each dataset's subjects that training never sees, for the read-out; 0 for none."""
    name: str | None = None
    """Of the run; without it, made from the time."""
    resume: str | None = None
    """Name of a run to go on with, by its own settings; beside it only --storage, --address,
    --workers and their resources may be given."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: once an epoch."""
    gather: Gather = "auto"
    """Where segments are read: in the `worker`, or by Ray Data across the `cluster`."""
    emod: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """What is computed; the defaults are the paper's."""


PAPER = Pretrain()

WITH_RESUME = {
    *("resume", "storage", "shared_storage", "address"),
    *("workers", "cpus_per_worker", "gpus_per_worker"),
}
"""Options that say where a run goes on, not what it computes."""


def option(name: str) -> str:
    """A dotted field of `Pretrain` or of its config, as it is typed."""
    return "--" + name.removeprefix("emod.").replace("_", "-")

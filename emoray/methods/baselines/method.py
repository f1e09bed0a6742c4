"""The baselines' one stage: a network trained from scratch, or from its published weights.

Optimizer, schedule and choice of the epoch are those of every classifier here. Dropout is torch's
own and a pure function of (seed, step, worker), so that a resumed run equals an uninterrupted one.
Masks are of each worker's share: with dropout, W workers do not take the step of one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch
from emoray.batches.distributed import rank
from emoray.methods.base import Inputs, Stage, Start
from emoray.methods.baselines.model import Baseline, ModelName, build
from emoray.methods.baselines.weights import content, is_hub_id
from emoray.methods.classification import Classification
from emoray.methods.counter_draws import DROPOUT, fold
from emoray.methods.settings import REHEARSAL, ClassifierConfig


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Everything that decides what training a baseline computes."""

    model: ModelName = "eegnet"
    """Which of Table 2's ten."""
    weights: str | None = None
    """Pretrained weights: a file, a folder, or `owner/name` of braindecode's hub. A path must be
    there on every node. None: from scratch."""


def rehearsal_config(model: ModelName = "eegnet") -> Config:
    """Settings that train a model of its own size within seconds on a CPU core."""
    return Config(model=model, **REHEARSAL)


class Training(Classification):
    """The stage `train` of the baselines."""

    config_type = Config

    def __init__(self, config: Config, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        if starts:
            raise ValueError(
                "need no checkpoint of an earlier stage for a baseline, got one; "
                "pretrained weights are its setting `weights`"
            )
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> Config:
        """A network of its own size, and few epochs of small batches."""
        return rehearsal_config()

    @classmethod
    def published_weights(cls, config: Config) -> Mapping[str, Any] | None:
        """Its pretrained weights by name, and by content where they are a file."""
        if config.weights is None:
            return None
        return {
            "words": _words(config.weights),
            "weights": config.weights,
            "sha256": content(config.weights),
        }

    @classmethod
    def pretrained_on(cls, config: Config) -> tuple[str, ...]:
        """Datasets that its pretrained weights are known to have been trained on."""
        return tuple(seen(config))

    @property
    def start_words(self) -> str:
        """Where its weights come from."""
        weights = self.config.weights
        return "from scratch" if weights is None else _words(weights)

    def build(self) -> Baseline:
        """The network; what is not in its pretrained weights is the same for the same seed."""
        with self.seeded():
            return build(self.config.model, self.spec, self.config.weights)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the step's segments, dropout drawn for this step."""
        with _drawing(self.seed, batch.step, batch.device):
            return super().losses(module, batch)


def _words(weights: str) -> str:
    """`pretrained (weights labram.pth)`."""
    return f"pretrained (weights {weights if is_hub_id(weights) else Path(weights).name})"


@contextlib.contextmanager
def _drawing(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Torch's generators as (seed, step, worker) have them, and as they were afterwards."""
    key = fold(fold(fold(torch.tensor(seed), DROPOUT), step), rank())
    devices = []
    if device.type == "cuda":
        devices = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(int(key))
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(int(key))
        yield


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What published weights were trained on, as their authors tell."""

    datasets: tuple[str, ...]
    """Those of emoray's datasets that are in it."""
    source: str
    """Where that stands."""


TRAINED_ON: Mapping[ModelName, TrainedOn] = {
    "biot": TrainedOn((), "Yang, Westover and Sun 2023, 3.6: resting EEG, sleep and seizures"),
    "labram": TrainedOn(
        ("seed", "seed_iv"),
        "Jiang, Zhao and Lu 2024, Appendix D: SEED, SEED-IV, SEED-GER and SEED-FRA are in the "
        "pretraining, SEED-V is kept out; recordings of its authors' own laboratory, unpublished, "
        "are in it too",
    ),
    "cbramod": TrainedOn((), "Wang et al. 2024, 3.1: the Temple University Hospital EEG Corpus"),
}
"""Models with published weights. EMOD's Table 2 leaves LaBraM's cells on SEED blank for this."""


def seen(config: Config) -> Mapping[str, str]:
    """Datasets that a run's pretrained weights are known to have been trained on, with the source.

    Empty without weights. Empty with weights clears nobody: of weights other than the published
    ones nothing is known.
    """
    told = TRAINED_ON.get(config.model)
    if config.weights is None or told is None:
        return {}
    return dict.fromkeys(told.datasets, told.source)


LIBRARIES = ("braindecode",)
"""That hold models: another version of one may be another network."""

STAGES: Mapping[str, type[Stage]] = {"train": Training}
"""Stages by name."""

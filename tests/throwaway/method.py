"""The throw-away method's stages: a teacher of EEG, a student of ECG, a classifier of both.

`first` learns of everybody's EEG how busy the heart is, `second` draws the ECG of a fold's training
part to the EEG as `first` sees it, `third` tells classes from what both have learned. `ecg_only` is
the classifier with ECG alone, where there is nothing else.

Shapes: B segments, C channels, L leads, T samples, D width of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.batches.distributed import gather_in_order
from emoray.batches.sampling import ShuffledSegments
from emoray.methods.base import Inputs, Stage, Start
from emoray.methods.classification import Classification
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.settings import ClassifierConfig, OptimizerConfig
from emoray.vocabulary.schema import Stream

FLOOR = 1e-6
"""Added to a power before its logarithm."""


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """Settings of every stage."""

    width: int = 8
    """D."""
    kernel: int = 16
    """Samples of a filter."""
    epochs: int = 12
    """A fraction of a second each."""
    batch_size: int = 12
    """Segments of a step."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-2))
    """Weight updates: few steps, so long ones."""


@dataclass(frozen=True)
class SecondConfig(Config):
    """Settings of the second stage."""

    temperature: float = 0.5
    """Of the contrast."""
    contrast_weight: float = 0.25
    """What the contrast counts in the sum."""
    level_weight: float = 2.0
    """What the power of the leads counts."""


class Encoder(nn.Module):
    """Log power of learned filters, the mean over sets of channels.

    Args:
        n_chans: channels of a set, which are filtered together; 1 serves any cap.
        config: width and length of the filters.
    """

    def __init__(self, n_chans: int, config: Config) -> None:
        super().__init__()
        self.n_chans = n_chans
        self.filters = nn.Conv1d(n_chans, config.width, config.kernel)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Embeddings, (B, D)."""
        b, c, t = x_BCT.shape
        filtered = self.filters(x_BCT.reshape(b * c // self.n_chans, self.n_chans, t))
        power = filtered.square().mean(-1)
        log_power_BD: Tensor = (power + FLOOR).log().view(b, c // self.n_chans, -1).mean(1)
        return log_power_BD


def _embedded(encoder: nn.Module, groups: Sequence[Group], stream: Stream) -> Tensor:
    return torch.cat([encoder(group[stream].x_BCT) for group in groups])


def _log_power_BL(groups: Sequence[Group]) -> Tensor:
    """Log power of the steps between samples of each lead of the ECG."""
    steps = [group["ecg"].x_BCT.diff(dim=-1).square().mean(-1) for group in groups]
    return (torch.cat(steps) + FLOOR).log()


def _standardised(x_BL: Tensor) -> Tensor:
    return (x_BL - x_BL.mean(0)) / (x_BL.std(0, correction=0) + FLOOR)


class EegOfTheHeart(nn.Module):
    """How busy the heart is, told from the EEG."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(1, config)
        self.norm = nn.BatchNorm1d(config.width)
        self.head = nn.Linear(config.width, 1)

    def forward(self, groups: Sequence[Group]) -> Tensor:
        """One number each, (B, 1)."""
        told_B1: Tensor = self.head(self.norm(_embedded(self.encoder, groups, "eeg")))
        return told_B1


class TeacherAndStudent(nn.Module):
    """A frozen encoder of EEG, and one of ECG that is drawn to it."""

    def __init__(self, config: Config, n_leads: int) -> None:
        super().__init__()
        self.teacher = Encoder(1, config).requires_grad_(False)
        self.student = Encoder(n_leads, config)
        self.norm = nn.BatchNorm1d(config.width)
        self.to_teacher = nn.Linear(config.width, config.width)
        self.head = nn.Linear(config.width, n_leads)

    def forward(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's embeddings (B, D), the student's, and its guess of each lead (B, L)."""
        teacher_BD = _embedded(self.teacher, groups, "eeg")
        z_BD = self.norm(_embedded(self.student, groups, "ecg"))
        return teacher_BD, self.to_teacher(z_BD), self.head(z_BD)


class Classifier(nn.Module):
    """Class scores from an encoder for each stream."""

    def __init__(self, config: Config, inputs: Inputs, streams: Sequence[Stream]) -> None:
        super().__init__()
        self.streams = tuple(streams)
        sets = {"eeg": 1, "ecg": inputs["ecg"].n_chans}
        self.encoders = nn.ModuleDict({name: Encoder(sets[name], config) for name in streams})
        self.norm = nn.BatchNorm1d(len(streams) * config.width)
        self.head = nn.Linear(len(streams) * config.width, inputs.n_outputs)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores (B, K); it draws nothing, so the key is not used."""
        z = [_embedded(self.encoders[name], groups, name) for name in self.streams]
        scores_BK: Tensor = self.head(self.norm(torch.cat(z, dim=1)))
        return scores_BK


class First(Stage):
    """The stage `first`: of everybody, without anything rated."""

    config_type = Config
    scope = "corpus"
    streams = ("eeg", "ecg")

    def __init__(self, config: Config, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> Config:
        """Its own: they are small."""
        return Config()

    @property
    def sampling(self) -> ShuffledSegments:
        """Every segment once an epoch."""
        return ShuffledSegments(self.config.batch_size)

    def build(self) -> EegOfTheHeart:
        """The same weights for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return EegOfTheHeart(self.config)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean square of what is missing to the heart's power, of variance 1 within the step."""
        found = module(batch.groups), _log_power_BL(batch.groups).mean(1, keepdim=True)
        told_B1, power_B1 = gather_in_order(batch.positions_B, *found)
        return {"power": F.mse_loss(told_B1, _standardised(power_B1))}

    def chance_loss(self, n_segments: int) -> float:
        """Of the mean of all."""
        return 1.0


class Second(Stage):
    """The stage `second`: of a fold's training part, from the teacher where there is one."""

    config_type = SecondConfig
    streams = ("eeg", "ecg")
    may_start_from = ("teacher",)

    def __init__(self, config: SecondConfig, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> SecondConfig:
        """Its own: they are small."""
        return SecondConfig()

    @property
    def sampling(self) -> ShuffledSegments:
        """Every segment once an epoch."""
        return ShuffledSegments(self.config.batch_size)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """As the settings have them."""
        return {"contrast": self.config.contrast_weight, "level": self.config.level_weight}

    def build(self) -> TeacherAndStudent:
        """The same weights for the same seed, but the teacher's."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = TeacherAndStudent(self.config, self.inputs["ecg"].n_chans)
        if "teacher" in self.starts:
            module.teacher.load_state_dict(self.starts["teacher"].part("encoder"))
        return module

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """A contrast of both streams over the step, and the power of each lead."""
        found = *module(batch.groups), _log_power_BL(batch.groups)
        eeg_BD, ecg_BD, told_BL, power_BL = gather_in_order(batch.positions_B, *found)
        scores_BB = F.normalize(ecg_BD) @ F.normalize(_standardised(eeg_BD)).T
        own_B = torch.arange(len(scores_BB), device=scores_BB.device)
        return {
            "contrast": F.cross_entropy(scores_BB / self.config.temperature, own_B),
            "level": F.mse_loss(told_BL, _standardised(power_BL)),
        }


_PARTS = {"teacher": ("eeg", "encoder"), "student": ("ecg", "student")}
"""What a start is for: the stream, and the name of that stream's encoder in the start."""


class Third(Classification):
    """The stage `third`: classes of a fold, from both, or from scratch."""

    config_type = Config
    streams: ClassVar[tuple[Stream, ...]] = ("eeg", "ecg")
    may_start_from: ClassVar[tuple[str, ...]] = ("teacher", "student")

    def __init__(self, config: Config, inputs: Inputs, starts: Mapping[str, Start]) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> Config:
        """Its own: they are small."""
        return Config()

    def build(self) -> Classifier:
        """The encoders of its starts, and the rest the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = Classifier(self.config, self.inputs, self.streams)
        for role, start in self.starts.items():
            stream, name = _PARTS[role]
            module.encoders[stream].load_state_dict(start.part(name))
        return module


class EcgOnly(Third):
    """The stage `ecg_only`: `third` where there is no EEG."""

    streams = ("ecg",)
    may_start_from = ()


STAGES: Mapping[str, type[Stage]] = {
    "first": First,
    "second": Second,
    "third": Third,
    "ecg_only": EcgOnly,
}
"""Stages by name."""

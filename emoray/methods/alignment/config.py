"""The alignment's settings: plain data, so that options are parsed before torch is loaded.

Source: Wu et al., "Cross-Modal Contrastive Learning for Emotion Recognition: Aligning ECG with
EEG-Derived Features". The paper gives the parts, the losses and five folds, and hardly a number:
all that is not said to be the paper's is "not in the paper", and so ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from emoray.methods.ecg_segments import ECG_10_S
from emoray.methods.settings import (
    NEVER_CLIPPED,
    ClassifierConfig,
    OptimizerConfig,
    StepsConfig,
)
from emoray.methods.ssl_ecg.config import EncoderConfig as ConvolutionConfig
from emoray.methods.ssl_ecg.config import Leads
from emoray.signals import EegRecipe, Recipe
from emoray.vocabulary.schema import Stream

EEG = EegRecipe(ica="none", reference="none", amplitude="z", scale_scope="person", segment_s=10.0)
"""Segments of 10 s, z-scored by person and channel over all of the person's recordings (2.1). The
paper names neither filter, reference nor ICA: the band is that of all EEG here, the rest as
recorded."""
RECIPES: Mapping[Stream, Recipe] = {"eeg": EEG, "ecg": ECG_10_S}
"""Filter and rate of the ECG are not in the paper: SSL-ECG's, so that its encoder may be the
student, and one build serves both."""


@dataclass(frozen=True)
class EncoderConfig:
    """An iTransformer that sees a segment as patches: a token is a channel's second."""

    patch_s: float = 1.0
    """Seconds of a patch (M of 2.2). Not in the paper."""
    width: int = 256
    """Of a token. Not in the paper."""
    n_heads: int = 8
    """Of each attention. Not in the paper."""
    n_layers: int = 2
    """Not in the paper."""
    n_hidden: int = 512
    """Width inside the feed-forward layers. Not in the paper: twice the width, as iTransformer's
    classifiers have."""
    dropout: float = 0.1
    """After the embedding, each attention and each feed-forward layer. Not in the paper:
    iTransformer's."""

    def __post_init__(self) -> None:
        if not self.patch_s > 0:
            raise ValueError(f"need patch_s > 0, got {self.patch_s:g}")
        if min(self.width, self.n_heads, self.n_layers, self.n_hidden) < 1:
            raise ValueError(
                "need width, n_heads, n_layers and n_hidden of at least 1, "
                f"got {self.width}, {self.n_heads}, {self.n_layers} and {self.n_hidden}"
            )
        if self.width % self.n_heads:
            raise ValueError(
                f"need a width that n_heads divides, got {self.width} and {self.n_heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"need dropout in [0, 1), got {self.dropout:g}")

    def n_patches(self, seconds: float) -> int:
        """Whole patches of a segment: floor(L / M) of 2.2.

        Raises:
            ValueError: a patch is longer than the segment.
        """
        n = int(seconds / self.patch_s + 1e-9)
        if n < 1:
            raise ValueError(
                f"need patches no longer than the segments' {seconds:g} s, "
                f"got patch_s {self.patch_s:g}"
            )
        return n

    def n_samples(self, sfreq: float) -> int:
        """Samples of a patch: M of 2.2.

        Raises:
            ValueError: no whole number, by which the patches of streams of two rates would drift
                apart.
        """
        n = round(self.patch_s * sfreq)
        if n < 1 or abs(n - self.patch_s * sfreq) > 1e-6:
            raise ValueError(
                f"need patches of whole samples, got patch_s {self.patch_s:g} at {sfreq:g} Hz"
            )
        return n

    @classmethod
    def small(cls) -> EncoderConfig:
        """An encoder for rehearsals on a CPU."""
        return cls(width=32, n_heads=4, n_layers=2, n_hidden=64, dropout=0.0)


def _optimizer() -> OptimizerConfig:
    """Adam at 3e-4. Not in the paper."""
    return OptimizerConfig(
        name="adam",
        schedule="constant",
        learning_rate=3e-4,
        weight_decay=0.0,
        clip_norm=NEVER_CLIPPED,
    )


@dataclass(frozen=True)
class _StageConfig(StepsConfig):
    """What the stages without classes share."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture."""
    optimizer: OptimizerConfig = field(default_factory=_optimizer)
    """Weight updates."""
    epochs: int = 50
    """Not in the paper."""
    batch_size: int = 128
    """Segments of a step. Not in the paper."""


@dataclass(frozen=True)
class ReconstructionConfig(_StageConfig):
    """Everything that decides what reconstructing EEG computes ("EEG Encoder Pre-training")."""

    masked: float = 0.0
    """Share of the patches that the encoder does not see but reconstructs. 0 is what the paper
    says; it says no more than "reconstruction training"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.masked < 1:
            raise ValueError(f"need masked in [0, 1), got {self.masked:g}")


Levels = Literal["both", "patch", "sequence"]
Student = Literal["patches", "convolutions"]
Pairing = Literal["simultaneous", "permuted"]


@dataclass(frozen=True)
class AlignmentConfig(_StageConfig):
    """Everything that decides what aligning ECG with EEG computes ("Contrastive learning")."""

    alpha: float = 0.5
    """What the patches' contrast counts, 1 - alpha the sequences' (Eq. 4), in (0, 1). Not in the
    paper."""
    tau_patch: float = 0.1
    """tau_p of Eq. 2. Not in the paper."""
    tau_sequence: float = 0.1
    """tau_s of Eq. 3. Not in the paper."""
    levels: Levels = "both"
    """Table 1, w/o patch-align (`sequence`) and w/o seq-align (`patch`)."""
    shuffle: bool = True
    """Whether segments are there with their patches in another order too; Table 1, w/o shuffle."""
    n_shuffles: int = 1
    """Orders of each segment, of which a step takes one; what the teacher says of all is computed
    once. Not in the paper."""
    student: Student = "patches"
    """The ECG's encoder: the paper's or SSL-ECG's convolutions; one that it starts from decides."""
    convolutions: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    """Their sizes."""
    leads: Leads = "first"
    """Which lead the convolutions read; the paper's encoder reads all."""
    pairing: Pairing = "simultaneous"
    """`permuted` aligns the ECG of one segment with the EEG of another: a control that should learn
    nothing of use."""
    d_max: float = 5.0
    """V-A distance from which a negative counts in full (`align_va` only): EMOD's radius. Nearer
    ones count their share of it."""
    epochs: int = 40
    """Not in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"need alpha in (0, 1), got {self.alpha:g}; for one level alone set levels"
            )
        for name in ("tau_patch", "tau_sequence", "d_max"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"need {name} > 0 and finite, got {value:g}")
        if self.n_shuffles < 1:
            raise ValueError(f"need n_shuffles of at least 1, got {self.n_shuffles}")


@dataclass(frozen=True)
class ClassificationConfig(ClassifierConfig):
    """Everything that decides what telling classes computes, of EEG and of ECG."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Architecture; of the same sizes as the start's."""
    student: Student = "patches"
    """As `AlignmentConfig`'s; of EEG it is `patches`."""
    convolutions: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    """Their sizes."""
    leads: Leads = "first"
    """Which lead the convolutions read."""
    frozen: bool = False
    """Whether an encoder that it starts from stays as it is, and the last layer alone is trained.
    Without a start there is nothing to keep and all is trained."""
    optimizer: OptimizerConfig = field(default_factory=_optimizer)
    """Weight updates."""
    epochs: int = 50
    """The best one on validation is kept. Not in the paper."""
    batch_size: int = 128
    """Segments of a step. Not in the paper."""


@dataclass(frozen=True)
class TeacherConfig(ClassificationConfig):
    """The same of the EEG's encoder."""

    epochs: int = 30
    """Not in the paper."""


_FAST = OptimizerConfig(
    name="adam", schedule="cosine", learning_rate=2e-3, weight_decay=0.0, clip_norm=NEVER_CLIPPED
)
_SMALL = ConvolutionConfig.small()


def rehearsal_reconstruction_config() -> ReconstructionConfig:
    """Settings that reconstruct rehearsal data within seconds on a CPU core."""
    small = EncoderConfig.small()
    return ReconstructionConfig(encoder=small, optimizer=_FAST, epochs=8, batch_size=16)


def rehearsal_alignment_config() -> AlignmentConfig:
    """Settings that align rehearsal data within seconds on a CPU core."""
    small = EncoderConfig.small()
    return AlignmentConfig(
        encoder=small, convolutions=_SMALL, optimizer=_FAST, epochs=12, batch_size=16
    )


def rehearsal_classification_config() -> ClassificationConfig:
    """Settings that tell rehearsal data's classes apart within seconds on a CPU core."""
    small = EncoderConfig.small()
    return ClassificationConfig(
        encoder=small, convolutions=_SMALL, optimizer=_FAST, epochs=12, batch_size=16
    )


def rehearsal_teacher_config() -> TeacherConfig:
    """The same of the teacher."""
    known = rehearsal_classification_config()
    return TeacherConfig(**{**vars(known), "optimizer": replace(_FAST, learning_rate=1e-3)})

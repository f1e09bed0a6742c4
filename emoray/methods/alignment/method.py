"""The alignment's stages: a teacher of EEG, a student of ECG that is drawn to it, a classifier.

    reconstruct (EEG) -> teach (EEG, classes) -> align (ECG to the frozen teacher) -> classify (ECG)

The teacher may be any encoder that sees patches of time, such as one that EMOD pretrained (the
method `pipeline`); the student may start from what SSL-ECG learned. `align_va` weights negatives by
how far their emotions lie apart.

Source: Wu et al., "Cross-Modal Contrastive Learning for Emotion Recognition". Their settings are in
`config`. Shapes: B segments, S sequences (versions of segments), P patches, R orders, Z width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from emoray.batches.batch import Batch, Group
from emoray.batches.distributed import gather_in_order
from emoray.methods import counter_draws
from emoray.methods.alignment import config as settings
from emoray.methods.alignment import loss
from emoray.methods.alignment.config import (
    AlignmentConfig,
    ClassificationConfig,
    EncoderConfig,
    ReconstructionConfig,
    TeacherConfig,
)
from emoray.methods.alignment.model import (
    Autoencoder,
    Classifier,
    Encoder,
    Student,
    as_patches,
    reordered,
)
from emoray.methods.base import EachSegmentOnce, Inputs, PatchEncoder, Stage, Start, TargetName
from emoray.methods.baselines.method import Training
from emoray.methods.classification import Classification
from emoray.methods.counter_draws import DropoutKey
from emoray.methods.ssl_ecg.config import EncoderConfig as ConvolutionConfig
from emoray.methods.ssl_ecg.model import Encoder as Convolutions
from emoray.runtime.config import dotted_fields, from_dict, to_dict
from emoray.signals import Recipe
from emoray.vocabulary.schema import Stream


class Reconstruction(EachSegmentOnce):
    """The stage `reconstruct`: EEG through the encoder and back, without any label."""

    config_type = ReconstructionConfig
    recipes = settings.RECIPES

    def __init__(
        self, config: ReconstructionConfig, inputs: Inputs, starts: Mapping[str, Start]
    ) -> None:
        super().__init__(config, inputs, starts)
        self.config = config

    @classmethod
    def rehearsal(cls) -> ReconstructionConfig:
        """A small encoder and few epochs."""
        return settings.rehearsal_reconstruction_config()

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> Encoder:
        """The EEG's."""
        return Encoder(from_dict(EncoderConfig, config["encoder"]), inputs["eeg"], "eeg")

    def build(self) -> Autoencoder:
        """Encoder and head, the same weights for the same seed."""
        with self.seeded():
            return Autoencoder(self.encoder(to_dict(self.config), self.inputs), self.config.masked)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Mean square error, of signals whose variance is about 1."""
        errors_B = module(batch.groups, DropoutKey(seed=self.seed, step=batch.step))
        (errors_B,) = gather_in_order(batch.positions_B, errors_B)
        return {"reconstruction": errors_B.mean()}

    def chance_loss(self, n_segments: int) -> float:
        """Zero for everything, of signals z-scored over a person's recordings."""
        return 1.0


class _OnEncoder(Classification):
    """Classes from an encoder by patches, all of it trained unless its start is kept frozen."""

    config_type = ClassificationConfig
    recipes = settings.RECIPES
    may_start_from = ("encoder",)

    def __init__(
        self, config: ClassificationConfig, inputs: Inputs, starts: Mapping[str, Start]
    ) -> None:
        super().__init__(config, inputs, starts)
        self.config = config
        _check_reads(self.streams, starts, "encoder")

    @classmethod
    def rehearsal(cls) -> ClassificationConfig:
        """A small encoder and few epochs."""
        return settings.rehearsal_classification_config()

    @classmethod
    @abstractmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> nn.Module:
        """Of the stream that it reads."""

    @classmethod
    def following(
        cls, config: ClassificationConfig, starts: Mapping[str, Mapping[str, Any]]
    ) -> ClassificationConfig:
        """With the encoder that the checkpoint holds; dropout as asked for."""
        if "encoder" not in starts:
            return config
        start = starts["encoder"]
        if "patch_s" not in start.get("encoder", {}):
            raise ValueError("need a checkpoint of the alignment, got another")
        stored = from_dict(EncoderConfig, start["encoder"])
        kept = {name: start[name] for name in ("student", "leads") if name in start}
        if "convolutions" in start:
            kept["convolutions"] = from_dict(ConvolutionConfig, start["convolutions"])
        return replace(config, encoder=replace(stored, dropout=config.encoder.dropout), **kept)

    def build(self) -> Classifier:
        """Encoder, with the start's weights where there is one, and a new layer of classes."""
        with self.seeded():
            encoder = self.encoder(to_dict(self.config), self.inputs)
            n_patches = _n_patches(self.config.encoder, self.inputs, self.streams)
            module = Classifier(encoder, n_patches, self.spec.n_outputs)
        if "encoder" in self.starts:
            module.encoder.load_state_dict(self.starts["encoder"].part("encoder"))
            module.encoder.requires_grad_(not self.config.frozen)
        return module


class Teaching(_OnEncoder):
    """The stage `teach`: classes of EEG, from the encoder that reconstructs it."""

    config_type = TeacherConfig

    @classmethod
    def rehearsal(cls) -> TeacherConfig:
        """A small encoder and few epochs."""
        return settings.rehearsal_teacher_config()

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> Encoder:
        """The EEG's."""
        return Reconstruction.encoder(config, inputs)

    @classmethod
    def unread(cls, config: ClassificationConfig, starts: Collection[str]) -> tuple[str, ...]:
        """What is of the ECG's encoder alone."""
        return ("student", "convolutions", "leads")


class EegBaseline(Training):
    """The stage `eeg_baseline`: a network of EEG alone, on segments cut as the pairs are."""

    recipes = settings.RECIPES


class Alignment(EachSegmentOnce):
    """The stage `align`: ECG drawn to what a frozen teacher says of the EEG of the same time.

    The teacher is no part of the module: what it says of a segment, and of the segment with its
    patches in another order, is computed once.
    """

    config_type = AlignmentConfig
    streams: ClassVar[tuple[Stream, ...]] = ("eeg", "ecg")
    streams_each_step: ClassVar[tuple[Stream, ...] | None] = ("ecg",)
    streams_once: ClassVar[tuple[Stream, ...] | None] = ("eeg",)
    recipes: ClassVar[Mapping[Stream, Recipe]] = settings.RECIPES
    may_start_from = ("teacher", "student")

    def __init__(
        self, config: AlignmentConfig, inputs: Inputs, starts: Mapping[str, Start]
    ) -> None:
        super().__init__(config, inputs, starts)
        self.config = config
        _check_reads(("eeg",), starts, "teacher")
        _check_reads(("ecg",), starts, "student")

    @classmethod
    def rehearsal(cls) -> AlignmentConfig:
        """A small encoder and few epochs."""
        return settings.rehearsal_alignment_config()

    @classmethod
    def following(
        cls, config: AlignmentConfig, starts: Mapping[str, Mapping[str, Any]]
    ) -> AlignmentConfig:
        """With the student's convolutions, and the length of the teacher's patches."""
        teacher, student = starts.get("teacher", {}), starts.get("student")
        if "patch_s" in teacher.get("encoder", {}):
            encoder = replace(config.encoder, patch_s=teacher["encoder"]["patch_s"])
            config = replace(config, encoder=encoder)
        if student is None:
            return config
        if not {"encoder", "leads"} <= set(student) or "kernels" not in student["encoder"]:
            raise ValueError("need a student that SSL-ECG trained, got another")
        stored = from_dict(ConvolutionConfig, student["encoder"])
        return replace(config, student="convolutions", convolutions=stored, leads=student["leads"])

    @classmethod
    def unread(cls, config: AlignmentConfig, starts: Collection[str]) -> tuple[str, ...]:
        """Of the encoder that is not the student, of the level that is left out, of no shuffle."""
        of_level = {
            "both": (),
            "patch": ("alpha", "tau_sequence"),
            "sequence": ("alpha", "tau_patch"),
        }
        return (
            *(_of_other_student(config.student) if "teacher" in starts else ()),
            *of_level[config.levels],
            *(() if config.shuffle else ("n_shuffles",)),
            *(() if cls.target == "va" else ("d_max",)),
        )

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> nn.Module:
        """The ECG's."""
        if config["student"] == "convolutions":
            sizes = from_dict(ConvolutionConfig, config["convolutions"])
            return Convolutions(sizes, config["leads"])
        return Encoder(from_dict(EncoderConfig, config["encoder"]), inputs["ecg"], "ecg")

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Eq. 4; of one level alone there is nothing to weight."""
        if self.config.levels != "both":
            return {}
        return {"patch": self.config.alpha, "sequence": 1 - self.config.alpha}

    @property
    def n_patches(self) -> int:
        """Of a segment, the same of both streams.

        Raises:
            ValueError: as `_n_patches`, or there is only one, which has no other order.
        """
        found = _n_patches(self.config.encoder, self.inputs, self.streams)
        if self.config.shuffle and found < 2:
            raise ValueError(
                f"need two patches or more of a segment to shuffle them, got {found} of "
                f"{self.config.encoder.patch_s:g} s; without, set shuffle = false"
            )
        return found

    def chance_loss(self, n_segments: int) -> float | None:
        """Equal similarities."""
        found = loss.chance_losses(n_segments, 1 + self.config.shuffle, self.n_patches)
        by_name = dict(zip(("patch", "sequence"), found, strict=True))
        if self.config.levels != "both":
            return by_name[self.config.levels]
        return sum(self.loss_weights[name] * each for name, each in by_name.items())

    @cached_property
    def teacher(self) -> nn.Module:
        """Frozen, in evaluation mode; without a start one of new weights, for timing."""
        with self.seeded():
            if "teacher" in self.starts:
                module = self.starts["teacher"].encoder(self.inputs)
            else:
                module = Reconstruction.encoder(to_dict(self.config), self.inputs)
        return module.requires_grad_(False).eval()

    def constants(self, group: Group) -> Mapping[str, Tensor]:
        """What the teacher says of the EEG, and the orders in which patches are shuffled."""
        encoder, n_patches = self._teacher_beside(group), self.n_patches
        group = self._whole_patches(group)
        found = {"eeg": encoder.patches(group, n_patches)}
        if self.config.shuffle:
            order_BRP = self._orders(group, n_patches)
            found["order"] = order_BRP
            others = [
                encoder.patches(_shuffled(group, "eeg", order_BP), n_patches)
                for order_BP in order_BRP.unbind(1)
            ]
            found["eeg_shuffled"] = torch.stack(others, dim=1)
        return found

    def paired(self, module: nn.Module, group: Group) -> tuple[Tensor, Tensor]:
        """Sequences of ECG and of EEG as Eq. 3 compares them: all of their patches."""
        group, n_patches = self._whole_patches(group), self.n_patches
        ecg_BPZ = module((group,), n_patches)
        eeg_BPZ = self._teacher_beside(group).patches(group, n_patches)
        return ecg_BPZ.flatten(1), eeg_BPZ.flatten(1)

    def _teacher_beside(self, group: Group) -> PatchEncoder:
        """The teacher where a group's signals lie, in their type."""
        return as_patches(self.teacher.to(group.positions_B.device, group["eeg"].x_BCT.dtype))

    def _whole_patches(self, group: Group) -> Group:
        """The group without what is over behind its last patch, which no encoder may see: those
        that cut time in equal parts would cut it elsewhere."""
        n_patches, of = self.n_patches, self.config.encoder
        signals = {
            name: replace(one, x_BCT=one.x_BCT[..., : n_patches * of.n_samples(one.sfreq)])
            for name, one in group.signals.items()
        }
        return replace(group, signals=signals)

    def _orders(self, group: Group, n_patches: int) -> Tensor:
        """R orders of each segment, (B, R, P), by its row alone."""
        key = DropoutKey(seed=self.seed, step=0)
        key_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.ORDER)
        drawn_BN = counter_draws.uniforms(key_B, self.config.n_shuffles * n_patches)
        return drawn_BN.view(len(group), -1, n_patches).argsort(-1)

    def build(self) -> Student:
        """The ECG's encoder, the same weights for the same seed unless it starts from others."""
        with self.seeded():
            encoder = self.encoder(to_dict(self.config), self.inputs)
            module = Student(encoder, as_patches(self.teacher).width)
        if "student" in self.starts:
            module.encoder.load_state_dict(self.starts["student"].part("encoder"))
        return module

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Eqs 2 and 3 over the global batch, of both versions of each segment."""
        key = DropoutKey(seed=self.seed, step=batch.step)
        batch = replace(batch, groups=tuple(map(self._whole_patches, batch.groups)))
        versions = [(batch.groups, torch.cat([g.constants["eeg"] for g in batch.groups]))]
        if self.config.shuffle:
            versions.append(self._shuffled(batch, key))
        # One forward of both, so that the module's gradients are shared once.
        groups = [group for of_version, _ in versions for group in of_version]
        ecg = module(groups, self.n_patches, key).chunk(len(versions))
        columns = [*ecg, *(eeg_BPZ for _, eeg_BPZ in versions)]
        gathered = gather_in_order(batch.positions_B, *columns, *batch.targets.values())
        n = len(versions)
        va_B2 = gathered[2 * n] if batch.targets else None
        return self._contrasts(gathered[:n], gathered[n : 2 * n], va_B2)

    def _shuffled(self, batch: Batch, key: DropoutKey) -> tuple[tuple[Group, ...], Tensor]:
        """The groups with one of their orders, and what the teacher says of them so."""
        groups, said = [], []
        for group in batch.groups:
            key_B = counter_draws.segment_keys(key, group.positions_B, counter_draws.CHOICE)
            order_BRP, eeg_BRPZ = group.constants["order"], group.constants["eeg_shuffled"]
            chosen_B = (counter_draws.uniforms(key_B, 1)[:, 0] * order_BRP.shape[1]).long()
            row_B = torch.arange(len(group), device=chosen_B.device)
            other = _shuffled(group, "ecg", order_BRP[row_B, chosen_B])
            groups.append(replace(other, positions_B=group.positions_B + counter_draws.SECOND_VIEW))
            said.append(eeg_BRPZ[row_B, chosen_B])
        return tuple(groups), torch.cat(said)

    def _contrasts(
        self, ecg: tuple[Tensor, ...], eeg: tuple[Tensor, ...], va_B2: Tensor | None
    ) -> dict[str, Tensor]:
        config, n_segments = self.config, len(ecg[0])
        ecg_SPZ, eeg_SPZ = torch.cat(ecg), torch.cat([self._paired(each) for each in eeg])
        segment_S = torch.arange(n_segments, device=ecg_SPZ.device).repeat(len(ecg))
        va_S2 = None if va_B2 is None else va_B2.repeat(len(ecg), 1)
        found = {}
        with torch.autocast(ecg_SPZ.device.type, enabled=False):
            if config.levels != "sequence":
                found["patch"] = loss.patch_contrast(
                    ecg_SPZ, eeg_SPZ, segment_S, config.tau_patch, va_S2, config.d_max
                )
            if config.levels != "patch":
                found["sequence"] = loss.sequence_contrast(
                    ecg_SPZ, eeg_SPZ, config.tau_sequence, va_S2, config.d_max
                )
        return found

    def _paired(self, eeg_BPZ: Tensor) -> Tensor:
        """The EEG that is each segment's positive: of the control, the segment's before it."""
        return eeg_BPZ if self.config.pairing == "simultaneous" else eeg_BPZ.roll(1, 0)


class VaAlignment(Alignment):
    """The stage `align_va`: the same with negatives weighted by V-A distance. Not in the paper."""

    target: ClassVar[TargetName | None] = "va"

    def chance_loss(self, n_segments: int) -> None:
        """Nobody can say: it depends on how far the segments of a step lie apart."""


class EcgClassification(_OnEncoder):
    """The stage `classify`: classes of ECG alone, from the aligned encoder or from scratch."""

    streams: ClassVar[tuple[Stream, ...]] = ("ecg",)

    @classmethod
    def unread(cls, config: ClassificationConfig, starts: Collection[str]) -> tuple[str, ...]:
        """Of the encoder that is not the student."""
        return _of_other_student(config.student)

    @classmethod
    def encoder(cls, config: Mapping[str, Any], inputs: Inputs) -> nn.Module:
        """The ECG's."""
        return Alignment.encoder(config, inputs)


def _of_other_student(student: settings.Student) -> tuple[str, ...]:
    """Settings of the encoder that a student is not; of both the length of patches is read."""
    if student == "patches":
        return ("convolutions", "leads")
    return tuple(f"encoder.{name}" for name in dotted_fields(EncoderConfig) if name != "patch_s")


def _n_patches(config: EncoderConfig, inputs: Inputs, streams: Sequence[Stream]) -> int:
    """Patches of a segment; of two streams the same of both.

    Raises:
        ValueError: a patch longer than a segment, or streams of other lengths.
    """
    found = {config.n_patches(inputs[stream].input_window_seconds) for stream in streams}
    if len(found) > 1:
        raise ValueError(f"need as many patches of EEG as of ECG, got {sorted(found)}")
    return found.pop()


def _check_reads(streams: Sequence[Stream], starts: Mapping[str, Start], role: str) -> None:
    """Refuse a start whose encoder is of another stream.

    Raises:
        ValueError: says what it reads.
    """
    kind = starts[role].kind if role in starts else None
    if kind is None:
        return
    read = kind.streams_each_step or kind.streams
    if tuple(read) != tuple(streams):
        raise ValueError(
            f"need a start {role!r} that reads {', '.join(streams)}, got {kind.__name__}, which "
            f"reads {', '.join(read)}"
        )


def _shuffled(group: Group, stream: Stream, order_BP: Tensor) -> Group:
    """The group with one stream's patches in another order."""
    signal = group[stream]
    signals = {stream: replace(signal, x_BCT=reordered(signal, order_BP))}
    return replace(group, signals={**group.signals, **signals})


STAGES: Mapping[str, type[Stage]] = {
    "reconstruct": Reconstruction,
    "teach": Teaching,
    "eeg_baseline": EegBaseline,
    "align": Alignment,
    "align_va": VaAlignment,
    "classify": EcgClassification,
}
"""Stages by name."""

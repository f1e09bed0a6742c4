"""In a rehearsal of subjects and stimuli apart a sound pipeline is above chance, a broken one not.

The classifier of the rehearsal, from scratch, on as many segments as a fold of SEED's
`subjects_and_stimuli_apart` trains on; on 14 electrodes, which is a ninth of the time of 62.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from emoray.batches.batch import Batch
from emoray.batches.feeds import Feed
from emoray.datasets.seed import LABELS, PLANTED
from emoray.evaluation.metrics import classification_scores
from emoray.experiments.session import REHEARSAL_SUBJECTS
from emoray.methods.base import InputSpec
from emoray.methods.emod.method import Finetuning, rehearsal_finetune_config
from emoray.rehearsal.world import World
from emoray.training import loop
from emoray.training.checkpoint import State
from emoray.vocabulary import electrodes
from tests.groups import eeg_group, inputs_of

SFREQ, SEGMENT_S, N_SEGMENTS = 100.0, 5.0, 2
THIRD = REHEARSAL_SUBJECTS // 3
PEOPLE = {"train": range(1, THIRD + 1), "test": range(THIRD + 1, 2 * THIRD + 1)}
CLIPS = {"train": range(5), "test": range(5, 10)}


class Side(Feed):
    """Segments of one side of the fold, in an order of their own in each epoch."""

    def __init__(self, side: str, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        segments = [
            (x_CT, LABELS[clip] + 1)
            for subject in PEOPLE[side]
            for x_CT, clip in self._shown(subject, CLIPS[side])
        ]
        self.x_NCT = torch.tensor(np.stack([x_CT for x_CT, _ in segments]))
        self.labels_N = torch.tensor([label for _, label in segments])
        self.steps_per_epoch = len(segments) // batch_size + (len(segments) % batch_size > 1)

    def _shown(self, subject: int, clips: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
        """Average reference, and one scale for a visit."""
        for visit in (1, 2, 3):
            recorded = np.stack([self._recorded(subject, clip, visit) for clip in clips])
            recorded /= 1.4826 * np.median(np.abs(recorded))
            for x_CT, clip in zip(recorded, clips, strict=True):
                for segment_CT in np.split(x_CT, N_SEGMENTS, axis=1):
                    yield segment_CT.astype(np.float32), clip

    def _recorded(self, subject: int, clip: int, visit: int) -> np.ndarray:
        seconds = N_SEGMENTS * SEGMENT_S
        x_CT = World(1).eeg(
            *("seed", subject, f"{clip + 1:02d}@{visit}", electrodes.EPOC_14, SFREQ, seconds),
            PLANTED[LABELS[clip] + 1],
        )
        spectrum_CF = np.fft.rfft(x_CT - x_CT.mean(0))
        spectrum_CF[:, : int(0.5 * seconds)] = 0  # drift
        return np.fft.irfft(spectrum_CF, x_CT.shape[1])

    def batch(self, step: int, rows: torch.Tensor) -> Batch:
        positions_B = torch.arange(len(rows))
        group = eeg_group(self.x_NCT[rows], electrodes.EPOC_14, SFREQ, positions_B)
        return Batch(step, (group,), {"label": self.labels_N[rows]})

    def _make(self, steps: range) -> Iterator[Batch]:
        for step in steps:
            epoch, i = divmod(step, self.steps_per_epoch)
            generator = torch.Generator().manual_seed(epoch)
            order = torch.randperm(len(self.labels_N), generator=generator)
            yield self.batch(step, order[i * self.batch_size : (i + 1) * self.batch_size])


class Nowhere:
    def latest(self) -> State | None:
        return None

    def save(self, state: State) -> None:
        """Forget it."""


@pytest.fixture(scope="module")
def fold() -> dict[str, Side]:
    return {side: Side(side, rehearsal_finetune_config().batch_size) for side in PEOPLE}


def trained_kappa(fold: dict[str, Side]) -> float:
    spec = InputSpec(electrodes.EPOC_14, SFREQ, int(SFREQ * SEGMENT_S), len(PLANTED))
    stage = Finetuning(rehearsal_finetune_config(), inputs_of(spec), {})
    trained = loop.train(
        stage,
        fold["train"],
        steps_per_epoch=fold["train"].steps_per_epoch,
        checkpoints=Nowhere(),
        checkpoint_every=1 << 30,
        device=torch.device("cpu"),
    )
    batch = fold["test"].batch(0, torch.arange(len(fold["test"].labels_N)))
    read_N = stage.scores(trained.module.eval(), batch.groups).argmax(1)
    found = classification_scores(batch["label"].numpy(), read_N.numpy(), n_classes=len(PLANTED))
    return found["kappa"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_sound_pipeline_is_above_chance(fold: dict[str, Side]) -> None:
    assert len(fold["train"].labels_N) == 60
    assert trained_kappa(fold) > 0.3


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_labels_dealt_anew_in_training_are_at_chance(
    fold: dict[str, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(fold["train"], "labels_N", fold["train"].labels_N[dealt])
    assert abs(trained_kappa(fold)) < 0.25

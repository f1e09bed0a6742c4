"""What SEED, SEED-IV and SEED-VII share: preprocessed files with one matrix a presentation.

Shapes: C electrodes (the 62 of SEED), T samples at 200 Hz.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from emoray.datasets import _layout
from emoray.datasets.formats import matlab
from emoray.vocabulary import affect, electrodes
from emoray.vocabulary.schema import (
    Card,
    DataError,
    Float32Array,
    FloatArray,
    Presentation,
    Recording,
    RecordingRef,
    Stretch,
)

SFREQ = 200.0
"""Hz of all three releases."""


def numbered_variables(path: Path, pattern: str, expected: Sequence[int]) -> dict[int, str]:
    """Variable of each presentation, by its number and in the order of `expected`.

    The file keeps them in any order, and as text `_eeg10` sorts before `_eeg2`.

    Args:
        path: a `.mat` file.
        pattern: what a variable's name must match; its group is the number.
        expected: the numbers that must be there.

    Raises:
        DataError: a number is missing, occurs twice, or is not among the expected.
    """
    found: dict[int, str] = {}
    for name in matlab.variables(path):
        match = re.search(pattern, name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataError(
                f"{path}: need one variable for presentation {number}, found {found[number]} "
                f"and {name}"
            )
        found[number] = name
    if set(found) != set(expected):
        raise DataError(
            f"{path}: need variables ({pattern}) for presentations {expected[0]} to "
            f"{expected[-1]}, found {_spell(found)}"
        )
    return {number: found[number] for number in expected}


def _spell(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def read_eeg(path: Path, variable: str) -> Float32Array:
    """One presentation's EEG in microvolts, (62, T), without the sample past the last second.

    Raises:
        DataError: another orientation, not numbers, or shorter than a second.
    """
    where = f"{path} variable {variable}"
    eeg_CT = _layout.check_shape(
        matlab.load(path, [variable])[variable],
        (len(electrodes.SEED_62), None),
        where=where,
        axes="electrodes, samples",
    )
    if eeg_CT.shape[1] < SFREQ:
        raise DataError(
            f"{where}: need at least a second, {SFREQ:g} samples; found {eeg_CT.shape[1]}"
        )
    # SEED and SEED-IV hold 200 s + 1 samples: both ends of the last second.
    whole = eeg_CT.shape[1] - (eeg_CT.shape[1] % round(SFREQ) == 1)
    return _layout.signals(eeg_CT[:, :whole])


def read_recording(
    card: Card,
    ref: RecordingRef,
    path: Path,
    variables: Sequence[str],
    stimuli: Sequence[str],
    labels: Sequence[int],
) -> Recording:
    """Read presentations that each have a variable of their own: one stretch a presentation.

    They are read one after the other, so that no two are in memory as float64. The emotion is
    that of the label, where the card's class is an emotion name (SEED's are not).
    """
    eeg = [read_eeg(path, variable) for variable in variables]
    named = set(card.emotions) <= set(affect.RESCALED)
    presentations = (
        Presentation(
            stimulus=stimulus,
            ordinal=k,
            stretch=k,
            start_s=0.0,
            stop_s=eeg[k].shape[1] / SFREQ,
            emotion=card.emotions[label] if named else None,
            label=label,
        )
        for k, (stimulus, label) in enumerate(zip(stimuli, labels, strict=True))
    )
    assert card.eeg is not None
    return Recording(
        ref=ref,
        eeg_channels=card.eeg.channels,
        eeg_sfreq=card.eeg.sfreq,
        stretches=tuple(Stretch(eeg_CT) for eeg_CT in eeg),
        presentations=tuple(presentations),
    )


def with_last_sample(eeg_CT: FloatArray, marker_uv: float = 5000.0) -> FloatArray:
    """Add the sample past the last second that `read_eeg` drops; it stands out if kept."""
    return np.pad(eeg_CT, ((0, 0), (0, 1)), constant_values=marker_uv)


def write_mat(path: Path, matrices: Iterable[tuple[str, FloatArray]]) -> None:
    """Write doubles in the order given, as the publisher does, one at a time in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for name, matrix in matrices:
            # scipy writes the file's head only where the file is still empty.
            scipy.io.savemat(file, {name: np.asarray(matrix, dtype=np.float64)})

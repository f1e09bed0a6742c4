"""A trained classifier, loaded and applied: to segments, or to a recording that it cuts itself.

    checkpoint -> classes, streams, recipe -> recording -> segments -> classes of them

Shapes: S segments, C channels (electrodes or leads), T samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from emoray import datasets
from emoray.batches.batch import Group, Signal
from emoray.corpus.build.recording import preparation
from emoray.evaluation.predict import BATCH_SIZE, predict_groups
from emoray.methods.base import StreamSpec
from emoray.runtime import config as configs
from emoray.signals import EcgRecipe, EegRecipe
from emoray.training.checkpoint import CheckpointError, Reloaded, reload
from emoray.vocabulary.schema import (
    Card,
    Dropped,
    FloatArray,
    IntArray,
    Presentation,
    Recording,
    RecordingRef,
    Stream,
    Stretch,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cut:
    """Segments of one recording."""

    x_SCT: NDArray[Any]
    start_s_S: FloatArray
    """Where each begins, seconds from the recording's start."""
    dropped: tuple[Dropped, ...]
    """What was left out, and why."""


@dataclass(frozen=True)
class Told:
    """What a classifier says of segments."""

    classes: tuple[str, ...]
    """Names by index."""
    class_S: IntArray
    probability_SK: FloatArray

    @property
    def names(self) -> list[str]:
        """The class of each segment."""
        return [self.classes[label] for label in self.class_S]


class Classifier:
    """Tells classes of segments; made by `load_classifier`.

    Args:
        reloaded: its checkpoint.
        location: of that, for messages.
        device: where it computes.

    Raises:
        CheckpointError: the stage tells no classes apart.
    """

    def __init__(self, reloaded: Reloaded, location: str, device: torch.device) -> None:
        facts, inputs = reloaded.facts, reloaded.stage.inputs
        if not inputs.classes:
            raise CheckpointError(
                f"{location}: need a checkpoint of a classifier, got one of {facts['method']} "
                f"{facts['stage']}, which tells no classes apart"
            )
        self.classes: tuple[str, ...] = inputs.classes
        """Names by index."""
        self.streams: Mapping[Stream, StreamSpec] = {
            stream: inputs[stream] for stream in reloaded.stage.streams
        }
        """What it reads: channels, rate and samples of a segment."""
        self.facts = facts
        """What its checkpoint says of it: settings, whom it has seen, what it started from."""
        self._stage, self._device = reloaded.stage, device
        self._module = reloaded.module.to(device)
        self._location = location

    def __repr__(self) -> str:
        reads = " and ".join(f"{stream} {_words(spec)}" for stream, spec in self.streams.items())
        return f"Classifier of {reads}: {', '.join(self.classes)}"

    # Segments -------------------------------------------------------------------------------------

    def predict(
        self,
        x_SCT: NDArray[Any] | Mapping[Stream, NDArray[Any]],
        *,
        sfreq: float | Mapping[Stream, float] | None = None,
        channels: Sequence[str] | Mapping[Stream, Sequence[str]] | None = None,
    ) -> Told:
        """Classes of segments that were cut and scaled by the recipe, as `cut` does or a corpus.

        Args:
            x_SCT: segments; of a classifier of two streams both, by stream, of the same instants.
            sfreq: their rate, Hz; held against the classifier's where it is given.
            channels: electrodes or leads in the order of axis C; likewise.

        Raises:
            ValueError: another stream, shape, rate or order of channels than it was trained on;
                numbers that are not finite; streams of unequal numbers of segments.
        """
        arrays = {
            stream: self._checked(stream, np.asarray(x))
            for stream, x in self._of_streams(x_SCT, "segments").items()
        }
        for stream, rate in self._of_streams(sfreq, "sfreq").items():
            if rate is not None and rate != self.streams[stream].sfreq:
                need = self.streams[stream].sfreq
                raise ValueError(f"{stream}: need segments at {need:g} Hz, got {rate:g} Hz")
        for stream, names in self._of_streams(channels, "channels").items():
            if names is not None and tuple(names) != self.streams[stream].channels:
                need_words = " ".join(self.streams[stream].channels)
                raise ValueError(f"{stream}: need channels {need_words}, got {' '.join(names)}")
        if len({len(x) for x in arrays.values()}) > 1:
            counts = ", ".join(f"{len(x)} of {stream}" for stream, x in arrays.items())
            raise ValueError(f"need as many segments of each stream, got {counts}")
        found = predict_groups(
            self._stage,
            self._module,
            self._groups(arrays),
            device=self._device,
            what=self._location,
        )
        return Told(self.classes, found.class_N, found.probability_NK)

    def _of_streams(self, given: _T | Mapping[Stream, _T], what: str) -> dict[Stream, _T]:
        """By stream, whether it was given so or for the only one."""
        streams = tuple(self.streams)
        if not isinstance(given, Mapping):
            if len(streams) > 1 and given is not None:
                raise ValueError(f"need {what} by stream ({' and '.join(streams)}), got one")
            return dict.fromkeys(streams, given)
        if set(given) != set(streams):
            got = " and ".join(given) or "none"
            raise ValueError(f"need {what} of {' and '.join(streams)}, got {got}")
        return {stream: given[stream] for stream in streams}

    def _checked(self, stream: Stream, x_SCT: NDArray[Any]) -> NDArray[Any]:
        spec = self.streams[stream]
        if x_SCT.ndim != 3 or x_SCT.shape[1:] != (spec.n_chans, spec.n_times) or not len(x_SCT):
            raise ValueError(
                f"{stream}: need segments of shape (S, {spec.n_chans}, {spec.n_times}), "
                f"{_words(spec)}, got {x_SCT.shape}"
            )
        if not np.isfinite(x_SCT).all():
            first = int(np.flatnonzero(~np.isfinite(x_SCT).all(axis=(1, 2)))[0])
            raise ValueError(f"{stream}: need finite numbers, got others in segment {first}")
        return x_SCT.astype(np.float32)

    def _groups(self, arrays: Mapping[Stream, NDArray[Any]]) -> Iterator[Group]:
        n = len(next(iter(arrays.values())))
        for start in range(0, n, BATCH_SIZE):
            rows_B = torch.arange(start, min(start + BATCH_SIZE, n))
            signals = {
                stream: Signal(
                    torch.from_numpy(x[start : start + BATCH_SIZE]),
                    self.streams[stream].channels,
                    self.streams[stream].sfreq,
                )
                for stream, x in arrays.items()
            }
            yield Group(self.dataset, signals, rows_B).to(self._device, torch.float32)

    # Recordings -----------------------------------------------------------------------------------

    @property
    def dataset(self) -> str:
        """That it was trained on."""
        (name,) = {str(folder).partition("-")[0] for folder in self.facts["builds"]}
        return name

    def cut(self, x_CT: NDArray[Any], *, sfreq: float, stream: Stream | None = None) -> Cut:
        """Clean one person's recording by the recipe of the classifier's own data, and cut it.

        What the recipe fits to a person or a recording (the z-score) is fitted to this recording:
        give all that there is of a person at once, in one array.

        Args:
            x_CT: all channels of the classifier's in its order, raw: ECG in mV, EEG in uV.
            sfreq: Hz, whatever the recording's own is.
            stream: of a classifier of two.

        Raises:
            ValueError: another number of channels; no segment is left, and why; a scale that the
                recipe leaves to a unit which the publisher does not say.
            CheckpointError: the checkpoint does not say how its segments were cut.
        """
        stream = stream or self._only_stream
        spec, x_CT = self.streams[stream], np.asarray(x_CT)
        if x_CT.ndim != 2 or len(x_CT) != spec.n_chans:
            names = " ".join(spec.channels)
            raise ValueError(
                f"{stream}: need a recording of shape ({spec.n_chans}, samples), channels "
                f"{names}, got {x_CT.shape}"
            )
        card, recipe = datasets.get(self.dataset).CARD, self._recipe(stream)
        _check_scaled(card, recipe)
        prepared = preparation(recipe)(_recording(card, stream, spec, x_CT, sfreq), card)
        if not prepared.rows:
            said = "; ".join(f"{lost.reason} ({lost.n})" for lost in prepared.dropped)
            raise ValueError(f"{stream}: need a segment of the recording, got none: {said}")
        start_s_S = np.array([row.start_s for row in prepared.rows])
        return Cut(prepared.x_SCT, start_s_S, prepared.dropped)

    @property
    def _only_stream(self) -> Stream:
        if len(self.streams) > 1:
            raise ValueError(f"need a stream among {', '.join(self.streams)}, got none")
        return next(iter(self.streams))

    def _recipe(self, stream: Stream) -> EegRecipe | EcgRecipe:
        """As its segments were cut; R waves are not sought, they change no signal."""
        plain = self.facts.get("recipes", {}).get(self.dataset, {}).get(stream)
        if plain is None:
            raise CheckpointError(
                f"{self._location}: need a checkpoint that says how its {stream} was cut, got one "
                "of an earlier version: cut segments by that recipe yourself"
            )
        if stream == "eeg":
            return configs.from_dict(EegRecipe, plain)
        recipe = configs.from_dict(EcgRecipe, plain)
        sfreq = recipe.sfreq or self.streams[stream].sfreq
        return replace(recipe, sfreq=sfreq, r_peaks="none")


def load_classifier(location: str | Path, *, device: str = "cpu") -> Classifier:
    """A classifier from its folder.

    Args:
        location: where a job said that it lies, or a `step-...` folder of its run: a path, `~`
            allowed, or a URI.
        device: where it computes, in torch's words.

    Raises:
        CheckpointError: not a checkpoint, damaged, of a model that this code no longer builds, or
            of a stage that tells no classes apart.
    """
    return Classifier(reload(location), str(location), torch.device(device))


def _words(spec: StreamSpec) -> str:
    return f"{' '.join(spec.channels)}, {spec.input_window_seconds:g} s at {spec.sfreq:g} Hz"


def _check_scaled(card: Card, recipe: EegRecipe | EcgRecipe) -> None:
    of_stream = card.ecg if recipe.stream == "ecg" else card.eeg
    if recipe.amplitude == "none" and of_stream is not None and of_stream.unit == "arbitrary":
        raise ValueError(
            f"{recipe.stream}: need a recipe that scales recordings, got none, and {card.title} "
            "does not say its unit"
        )


_TO_CARD = {"uV": 1000.0, "mV": 1.0, "arbitrary": 1.0}
"""What millivolts of ECG are multiplied by."""


def _recording(
    card: Card, stream: Stream, spec: StreamSpec, x_CT: NDArray[Any], sfreq: float
) -> Recording:
    """One stretch with one presentation, all of it."""
    ref = RecordingRef(card.name, "00", "1", ("the recording",))
    shown = (Presentation("all", 0, 0, 0.0, x_CT.shape[1] / sfreq),)
    if stream == "eeg":
        stretches = (Stretch(eeg_CT=x_CT.astype(np.float32)),)
        return Recording(ref, stretches, shown, eeg_channels=spec.channels, eeg_sfreq=sfreq)
    assert card.ecg is not None  # or nothing was trained on it
    x_LT = (x_CT * _TO_CARD[card.ecg.unit]).astype(np.float32)
    return Recording(ref, (Stretch(ecg_LT=x_LT),), shown, ecg_leads=spec.channels, ecg_sfreq=sfreq)

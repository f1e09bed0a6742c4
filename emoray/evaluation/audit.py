"""The leakage audit: test segments against all that a score's weights have seen.

Held against the test segments: train, validation (it chooses the epoch), and whom and what each
checkpoint involved was trained on. Names decide, never row numbers, so that a segment that is in
an index twice is found; fingerprints find a recording that has two names. What neither can settle
stands in the verdict too (`evaluation.doubts`).

Shapes: S segments of an index, N test segments, M segments of another side, P distinct subjects,
Q distinct stimuli.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emoray.corpus.fingerprints import Seen, Signals, same_recordings
from emoray.evaluation.doubts import NOTHING_FITTED, Fitted, NotApart, not_apart
from emoray.evaluation.folds import Fold, Protocol, check_dataset, coded
from emoray.runtime import config as configs
from emoray.vocabulary.schema import IntArray

BoolArray = NDArray[np.bool_]

LeakKind = Literal[
    "segment",
    "neighbour",
    "subject",
    "stimulus",
    "signal",
    "pretraining segment",
    "pretraining subject",
    "pretraining stimulus",
    "pretraining signal",
]
"""What is on both sides. `neighbour`: another segment of the same presentation. `signal`: the same
recording under another name. `pretraining segment`: the same subject at the same stimulus; a
checkpoint says no more."""

Where = Literal["train", "validation", "pretraining"]

_NAMED_BY: Mapping[LeakKind, tuple[str, ...]] = {
    "segment": ("recording", "presentation", "segment"),
    "neighbour": ("recording", "presentation"),
    "subject": ("subject",),
    "stimulus": ("stimulus",),
    "pretraining segment": ("subject", "stimulus"),
    "pretraining subject": ("subject",),
    "pretraining stimulus": ("stimulus",),
}
"""Columns of an index that say which one it is; fingerprints say it of a `signal`."""

_PLURALS = {
    "segment": "segments",
    "neighbour": "presentations",
    "subject": "subjects",
    "stimulus": "stimuli",
    "signal": "recordings under another name",
}
_N_EXAMPLES = 3
_UNAUDITED = "weights not audited"


class LeakageError(ValueError):
    """Test segments are known to the weights in a way that the protocol's name does not admit."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing on both sides, whether the protocol admits it or not."""

    kind: LeakKind
    where: Where
    n_segments: int
    """Test segments concerned."""
    examples: tuple[str, ...]
    """The first three by name: `subject 07`."""

    def __str__(self) -> str:
        kind = self.kind.removeprefix("pretraining ")
        return (
            f"{kind} in {self.where}: {self.n_segments:,} test segments "
            f"(such as {', '.join(self.examples)})"
        )

    @property
    def of_pretraining(self) -> bool:
        """Whether an earlier stage has seen it, not this run."""
        return self.where == "pretraining"


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was found, and what the protocol's name admits of it."""

    leaks: tuple[Leak, ...]
    admitted: tuple[str, ...]
    """Kinds that the protocol's name confesses; none of `segment`, `signal` or of pretraining."""
    unaudited: bool = False
    """Whether weights are involved of which nobody knows subject by subject what they saw."""
    not_apart: tuple[NotApart, ...] = ()
    """People and clips of other datasets that may be those of the test segments."""
    fitted: Fitted = NOTHING_FITTED
    """What was fitted on test segments as well, without their labels, because of the split."""

    @property
    def verdict(self) -> str:
        """For a table: `clean`, what the name admits (`same stimuli`), what is not known, or a word
        in capitals.
        """
        of_run = [leak.kind for leak in self.leaks if not leak.of_pretraining]
        leaks = [kind for kind in of_run if kind not in self.admitted]
        contaminated = [
            leak.kind.removeprefix("pretraining ") for leak in self.leaks if leak.of_pretraining
        ]
        parts = (
            ("LEAK: ", "same ", leaks),
            ("CONTAMINATED: pretraining saw ", "test ", contaminated),
            ("", "same ", [kind for kind in of_run if kind in self.admitted]),
        )
        said = [_UNAUDITED] if self.unaudited else []
        said += [
            head + ", ".join(dict.fromkeys(word + _PLURALS[kind] for kind in kinds))
            for head, word, kinds in parts
            if kinds
        ]
        said += [*map(str, self.not_apart), *self.fitted.words]
        return "; ".join(said) or "clean"

    def to_json(self) -> dict[str, Any]:
        """As plain data, the verdict among them for those who only print it."""
        plain: dict[str, Any] = configs.to_dict(self)
        return {"verdict": self.verdict, **plain}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Audit:
        """Read `to_json` back; the verdict is worked out again.

        Raises:
            ValueError: a field is missing or unknown.
        """
        absent = [field.name for field in fields(cls) if field.name not in found]
        if absent:
            raise ValueError(f"need an audit with {', '.join(absent)}, got none")
        return configs.from_dict(cls, {k: v for k, v in found.items() if k != "verdict"})


def audit(
    index: pa.Table,
    dataset: str,
    fold: Fold,
    protocol: Protocol,
    seen: Sequence[Seen],
    *,
    unaudited: bool = False,
    trained_on: Sequence[str] = (),
    signals: Signals = MappingProxyType({}),
    seen_signals: Sequence[Signals] = (),
    fitted: Fitted = NOTHING_FITTED,
) -> Audit:
    """Hold the test segments of a fold against train, validation and every checkpoint.

    Args:
        index: as `CorpusDataset.index`; the fold's rows are rows of it.
        dataset: whose index it is. Subjects and stimuli of other datasets are others.
        fold: what trains, chooses and tests.
        protocol: whose name admits what it mixes.
        seen: of each checkpoint that the weights come from, directly or not.
        unaudited: whether there are weights of which no such account exists.
        trained_on: datasets that such weights are known to have been trained on.
        signals: fingerprints of the dataset's recordings; without them no copy is found.
        seen_signals: the same of what each checkpoint was trained on.
        fitted: what the dataset's recipe fits on signals.

    Raises:
        ValueError: the index is of another dataset.
    """
    check_dataset(index, dataset)
    keys = _keys(index)
    masks: list[tuple[Where, dict[LeakKind, BoolArray]]] = [
        ("train", _shared(keys, fold.test_N, fold.train_N)),
        ("validation", _shared(keys, fold.test_N, fold.val_N)),
        ("pretraining", _pretrained(index, fold.test_N, [one.get(dataset, {}) for one in seen])),
    ]
    leaks = [
        Leak(kind, where, int(mask_N.sum()), _examples(index, keys, kind, fold.test_N[mask_N]))
        for where, by_kind in masks
        for kind, mask_N in by_kind.items()
        if mask_N.any()
    ]
    leaks += _copies(index, fold, signals, seen_signals)
    known = {*trained_on, *(name for one in seen for name, shown in one.items() if shown)}
    shared = {leak.kind for leak in leaks if not leak.of_pretraining}
    return Audit(
        tuple(leaks),
        tuple(sorted(protocol.mixes)),
        unaudited,
        not_apart(dataset, known),
        fitted.where(
            recordings=_share_a_recording(index, fold),
            presentations="neighbour" in shared,
            people="subject" in shared,
        ),
    )


def check(audit: Audit, *, allow_contaminated: bool = False) -> None:
    """Let through what the protocol's name admits, and nothing else.

    Args:
        audit: what was found.
        allow_contaminated: let through what pretraining saw as well; the verdict goes on saying
            so. Some published numbers were made that way.

    Raises:
        LeakageError: names each leak, how many test segments it concerns, and examples.
    """
    refused = [
        leak
        for leak in audit.leaks
        if not (allow_contaminated if leak.of_pretraining else leak.kind in audit.admitted)
    ]
    if refused:
        raise LeakageError(
            "need test segments that the weights do not know, got "
            + "; ".join(str(leak) for leak in refused)
        )


def _keys(index: pa.Table) -> dict[LeakKind, IntArray]:
    """For each kind a number for each segment: equal where the names are, and sorted as they."""
    code_S = {
        name: column.to_numpy() if pa.types.is_integer(column.type) else coded(column)[0]
        for name, column in zip(index.column_names, index.columns, strict=True)
        if any(name in columns for columns in _NAMED_BY.values())
    }
    keys: dict[LeakKind, IntArray] = {}
    for kind, columns in _NAMED_BY.items():
        key_S = np.zeros(index.num_rows, dtype=np.int64)
        for name in columns:
            key_S = key_S * (int(code_S[name].max()) + 1) + code_S[name]
        keys[kind] = key_S
    return keys


def _shared(
    keys: Mapping[LeakKind, IntArray], test_N: IntArray, other_M: IntArray
) -> dict[LeakKind, BoolArray]:
    """Which test segments share what with another side."""

    def same(kind: LeakKind) -> BoolArray:
        return np.isin(keys[kind][test_N], keys[kind][other_M])

    # A presentation's segments on the other side, each once, without the test segment itself.
    distinct_M = other_M[np.unique(keys["segment"][other_M], return_index=True)[1]]
    presentation_S = keys["neighbour"]
    n_of = np.bincount(presentation_S[distinct_M], minlength=presentation_S.max() + 1)
    return {
        "segment": same("segment"),
        "neighbour": n_of[presentation_S[test_N]] > same("segment"),
        "subject": same("subject"),
        "stimulus": same("stimulus"),
    }


def _pretrained(
    index: pa.Table, test_N: IntArray, seen: Sequence[Mapping[str, Sequence[str]]]
) -> dict[LeakKind, BoolArray]:
    """Which test segments are of subjects, of stimuli, of both at once that a checkpoint knows."""
    subject_S, subjects = coded(index.column("subject"))
    stimulus_S, stimuli = coded(index.column("stimulus"))
    subject_P, stimulus_Q = np.zeros(len(subjects), bool), np.zeros(len(stimuli), bool)
    both_PQ = np.zeros((len(subjects), len(stimuli)), bool)
    for subject, shown in ((subject, shown) for one in seen for subject, shown in one.items()):
        is_subject_P = np.array([name == subject for name in subjects])
        is_shown_Q = np.isin(stimuli, list(shown))
        subject_P |= is_subject_P
        stimulus_Q |= is_shown_Q
        both_PQ |= is_subject_P[:, None] & is_shown_Q
    return {
        "pretraining segment": both_PQ[subject_S[test_N], stimulus_S[test_N]],
        "pretraining subject": subject_P[subject_S[test_N]],
        "pretraining stimulus": stimulus_Q[stimulus_S[test_N]],
    }


def _copies(
    index: pa.Table, fold: Fold, signals: Signals, seen: Sequence[Signals]
) -> Iterator[Leak]:
    """Test recordings that stand on another side, or before a checkpoint, under another name."""
    recording_S, names = coded(index.column("recording"))
    sides: tuple[tuple[Where, IntArray], ...] = (
        ("train", fold.train_N),
        ("validation", fold.val_N),
    )
    others: list[tuple[LeakKind, Where, list[Signals]]] = [
        ("signal", where, [_of(signals, names, recording_S[rows_N])]) for where, rows_N in sides
    ]
    others.append(("pretraining signal", "pretraining", list(seen)))
    own = _of(signals, names, recording_S[fold.test_N])
    for kind, where, known in others:
        pairs = same_recordings(own, known)
        n = int(np.isin(recording_S[fold.test_N], [names.index(name) for name in pairs]).sum())
        if n:
            examples = [f"{name} = {other}" for name, other in pairs.items()]
            yield Leak(kind, where, n, tuple(examples[:_N_EXAMPLES]))


def _of(signals: Signals, names: Sequence[str], recordings_N: IntArray) -> Signals:
    """Fingerprints of those recordings that occur, in the order of their names."""
    found = (names[i] for i in np.unique(recordings_N).tolist())
    return {name: signals[name] for name in found if name in signals}


def _share_a_recording(index: pa.Table, fold: Fold) -> bool:
    """Whether a test segment is of a recording that trains or chooses the epoch as well."""
    recording_S, _ = coded(index.column("recording"))
    other_M = np.concatenate([fold.train_N, fold.val_N])
    return bool(np.isin(recording_S[fold.test_N], recording_S[other_M]).any())


def _examples(
    index: pa.Table, keys: Mapping[LeakKind, IntArray], kind: LeakKind, rows_N: IntArray
) -> tuple[str, ...]:
    first = np.unique(keys[kind][rows_N], return_index=True)[1][:_N_EXAMPLES]
    return tuple(
        " ".join(f"{name} {index.column(name)[row]}" for name in _NAMED_BY[kind])
        for row in rows_N[first].tolist()
    )

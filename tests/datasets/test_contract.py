"""What every dataset promises, held against its own example; a new file is held by being there.

Each example is two subjects of short presentations, written once, read through the reader that
reads the publisher's files.
"""

import importlib
import inspect
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from emoray import datasets
from emoray.rehearsal.release import MARKER
from emoray.vocabulary import affect
from emoray.vocabulary.electrodes import canonical
from emoray.vocabulary.schema import (
    DataError,
    DatasetModule,
    FloatArray,
    Listing,
    Presentation,
    Recording,
    RecordingRef,
)
from tests.datasets.numbering import shown
from tests.evaluations import EMOD
from tests.sources import AMPLITUDE_UV, ToneSource

HERE = Path(__file__).parent
N_SUBJECTS = 2
DURATION_S = 2.0


class SpySource(ToneSource):
    """Remembers the valence and arousal that the signals of each stimulus were to follow."""

    def __init__(self) -> None:
        self.planted: dict[tuple[int, str], tuple[float, float]] = {}

    def eeg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        channels: tuple[str, ...],
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> FloatArray:
        self.planted[subject, stimulus.split("@")[0]] = va  # `07@2`: 07 at the second visit
        return super().eeg(dataset, subject, stimulus, channels, sfreq, duration_s, va)

    def ecg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        n_leads: int,
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
        eeg_sfreq: float | None = None,
    ) -> FloatArray:
        assert self.planted.setdefault((subject, stimulus.split("@")[0]), va) == va
        return super().ecg(dataset, subject, stimulus, n_leads, sfreq, duration_s, va, eeg_sfreq)


@dataclass
class Example:
    """One dataset's example release, and what its reader made of it."""

    name: str
    root: Path
    source: SpySource

    @property
    def module(self) -> DatasetModule:
        return datasets.get(self.name)

    @cached_property
    def listing(self) -> Listing:
        return self.module.find(self.root)

    @cached_property
    def recordings(self) -> list[Recording]:
        return [self.module.read(self.root, ref) for ref in self.listing.recordings]

    @property
    def presentations(self) -> Iterator[tuple[Recording, Presentation]]:
        return ((r, p) for r in self.recordings for p in r.presentations)


@pytest.fixture(scope="module", params=datasets.names())
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    made = Example(request.param, tmp_path_factory.mktemp(request.param), SpySource())
    made.module.write_example(made.root, made.source, n_subjects=N_SUBJECTS, duration_s=DURATION_S)
    yield made
    shutil.rmtree(made.root)  # up to 200 MB


@pytest.mark.parametrize("name", datasets.names())
def test_every_dataset_offers_the_contract_and_has_tests_of_its_own(name: str) -> None:
    module = importlib.import_module(f"emoray.datasets.{name}")
    assert module.CARD.name == name
    for function in ("find", "read", "write_example"):
        promised = inspect.signature(getattr(DatasetModule, function)).parameters
        assert list(inspect.signature(getattr(module, function)).parameters) == list(promised)[1:]
    assert (HERE / f"test_{name}.py").is_file(), "its trap (see `write_example`) needs a test"


def test_no_test_is_left_of_a_dataset_that_is_gone() -> None:
    private = {path.stem.lstrip("_") for path in Path(datasets.__path__[0]).glob("_*.py")}
    others = {"contract", "releases", *private}
    tested = {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")}
    assert tested - others == set(datasets.names())


@pytest.mark.parametrize("name", datasets.names())
def test_the_cards_figures_agree_with_each_other(name: str) -> None:
    card = datasets.get(name).CARD
    channels = () if card.eeg is None else card.eeg.channels
    assert channels == tuple(canonical(c) for c in channels)
    assert len(set(channels)) == len(channels)
    leads = () if card.ecg is None else card.ecg.leads
    assert len(set(leads)) == len(leads)
    assert card.scale is not None or card.emotions
    assert card.n_recordings % card.n_subjects == 0
    if name in EMOD.pretraining:
        assert card.emotions == tuple(affect.canonical_emotion(e) for e in card.emotions)


@pytest.mark.parametrize("name", datasets.names())
@pytest.mark.parametrize("state", ["empty", "absent"])
def test_a_folder_without_recordings_is_an_error_that_names_it(
    name: str, state: str, tmp_path: Path
) -> None:
    root = tmp_path / "release"
    if state == "empty":
        root.mkdir()
    with pytest.raises(DataError) as error:
        datasets.get(name).find(root)
    assert str(root) in str(error.value)
    assert datasets.get(name).CARD.title in str(error.value)


@pytest.mark.parametrize("name", datasets.names())
def test_an_example_of_more_subjects_than_the_release_is_refused(name: str, tmp_path: Path) -> None:
    module = datasets.get(name)
    with pytest.raises(ValueError, match=f"1 to {module.CARD.n_subjects} subjects"):
        module.write_example(
            tmp_path, ToneSource(), n_subjects=module.CARD.n_subjects + 1, duration_s=DURATION_S
        )


def test_the_listing_is_sorted_complete_and_without_strangers(example: Example) -> None:
    refs = example.listing.recordings
    assert list(refs) == sorted(refs)
    assert all(ref.dataset == example.name for ref in refs)
    assert max(Counter(ref.key for ref in refs).values()) == 1
    assert len({ref.subject for ref in refs}) == N_SUBJECTS
    assert example.listing.unexpected == ()
    assert example.listing.missing  # the subjects that an example of two leaves out


def test_subjects_are_numbers_of_one_width(example: Example) -> None:
    subjects = {ref.subject for ref in example.listing.recordings}
    assert all(re.fullmatch(r"\d+", subject) for subject in subjects)
    assert len({len(subject) for subject in subjects}) == 1
    assert all(re.fullmatch(r"\w+", ref.session) for ref in example.listing.recordings)


def test_the_files_of_a_recording_can_be_found(example: Example) -> None:
    for ref in example.listing.recordings:
        found = datasets.paths(example.root, ref)
        assert len(found) == len(ref.files) > 0
        assert all(path.is_file() for path in found)
        assert not any(file.startswith("/") or "\\" in file for file in ref.files)


def test_the_mark_of_rehearsal_data_is_no_stranger(example: Example) -> None:
    mark = example.root / MARKER
    mark.write_text("rehearsal data")
    try:
        assert example.module.find(example.root) == example.listing
    finally:
        mark.unlink()


def test_listing_twice_gives_the_same(example: Example) -> None:
    assert example.module.find(example.root) == example.listing


def test_signals_fit_the_card(example: Example) -> None:
    card = example.module.CARD
    for recording, ref in zip(example.recordings, example.listing.recordings, strict=True):
        assert recording.ref == ref
        assert recording.eeg_channels == (card.eeg.channels if card.eeg else ())
        assert recording.eeg_sfreq == (card.eeg.sfreq if card.eeg else None)
        assert recording.ecg_leads == (card.ecg.leads if card.ecg else ())
        assert recording.ecg_sfreq == (card.ecg.sfreq if card.ecg else None)
        for stretch in recording.stretches:
            for x_CT, names in (
                (stretch.eeg_CT, recording.eeg_channels),
                (stretch.ecg_LT, recording.ecg_leads),
            ):
                assert (x_CT is not None) == bool(names)
                if x_CT is not None:
                    assert x_CT.dtype == np.float32
                    assert x_CT.flags.c_contiguous
                    assert x_CT.shape[0] == len(names)


def test_ecg_lasts_as_long_as_the_eeg(example: Example) -> None:
    for recording in example.recordings:
        for i, stretch in enumerate(recording.stretches):
            if stretch.ecg_LT is not None and recording.ecg_sfreq is not None:
                seconds = stretch.ecg_LT.shape[1] / recording.ecg_sfreq
                assert seconds == pytest.approx(recording.length_s(i), abs=0.01)


def test_presentations_lie_inside_their_stretch_and_apart(example: Example) -> None:
    for recording in example.recordings:
        assert recording.presentations
        ordinals = [p.ordinal for p in recording.presentations]
        assert ordinals == sorted(set(ordinals))
        assert len({p.stimulus for p in recording.presentations}) == len(ordinals)
        end_s: dict[int, float] = {}
        for p in recording.presentations:
            n_s = recording.length_s(p.stretch)
            assert end_s.get(p.stretch, 0.0) <= p.start_s < p.stop_s <= n_s + 1e-9
            end_s[p.stretch] = p.stop_s


def test_what_is_left_out_is_said(example: Example) -> None:
    for recording in example.recordings:
        n_dropped = sum(d.n for d in recording.dropped if d.what == "presentation")
        assert len(recording.presentations) + n_dropped <= example.module.CARD.n_presentations
        assert all(d.where and d.reason for d in recording.dropped)


def test_shown_signals_are_finite_and_of_the_written_size(example: Example) -> None:
    for recording, presentation in example.presentations:
        x_CT = shown(recording, presentation)
        assert np.isfinite(x_CT).all()
        if recording.eeg_sfreq is None:
            continue
        # A sinusoid's standard deviation; 15 % for the half periods of the slowest tones.
        sd_C = x_CT.std(axis=1) / (AMPLITUDE_UV / np.sqrt(2))
        assert 0.85 < sd_C.min() <= sd_C.max() < 1.15, (recording.ref, presentation)


def test_stimuli_are_rated_on_the_scale_or_labelled_by_a_class(example: Example) -> None:
    card, both = example.module.CARD, ("valence", "arousal")
    for _, p in example.presentations:
        if card.scale is not None and is_rated(p):
            assert all(card.scale.low <= p.ratings[axis] <= card.scale.high for axis in both)
            assert p.emotion is None
        if card.scale is None:
            assert not p.ratings
            assert p.label is not None
        assert p.label is None or p.emotion in (card.emotions[p.label], None)
        assert example.name not in EMOD.pretraining or p.emotion is not None or is_rated(p)


def test_only_a_relaxation_is_neither_rated_nor_of_a_class(example: Example) -> None:
    told = [is_rated(p) or p.label is not None for _, p in example.presentations]
    assert sum(told) >= len(told) / 2
    others = [p for _, p in example.presentations if not is_rated(p) and p.label is None]
    assert all(p.stimulus == "relaxation" for p in others)


def is_rated(p: Presentation) -> bool:
    return {"valence", "arousal"} <= p.ratings.keys()


def placed(example: Example, p: Presentation) -> tuple[float, float] | None:
    """Valence and arousal in [-4, 4], as the preprocessing will find them."""
    if p.emotion is not None:
        return affect.place_emotion(p.emotion)
    scale = example.module.CARD.scale
    if scale is None or not is_rated(p):
        return None
    valence, arousal = (
        affect.place_rating(p.ratings[axis], scale, name=axis, where=p.stimulus)
        for axis in ("valence", "arousal")
    )
    return valence, arousal


def test_signals_follow_the_valence_and_arousal_that_are_read(example: Example) -> None:
    seen = set()
    for recording, p in example.presentations:
        read = placed(example, p)
        if read is None and p.label is None:  # a rest
            continue
        planted = example.source.planted[int(recording.ref.subject), p.stimulus]
        seen.add(planted)
        if read is None:  # SEED: classes without a place
            assert p.label == 1 + np.sign(planted[0])
        else:
            assert read == pytest.approx(planted, abs=1e-5), (recording.ref, p.stimulus)
    assert len(seen) > 2
    assert all(valence != arousal for valence, arousal in seen - {(0.0, 0.0)})


def test_a_rating_is_the_sources(example: Example) -> None:
    scale = example.module.CARD.scale
    if scale is None:
        return
    half_a_step = 4 / (scale.high - scale.low)  # where the dataset has whole numbers
    for recording, p in ((r, p) for r, p in example.presentations if is_rated(p)):
        rated = example.source.rating(example.name, int(recording.ref.subject), p.stimulus)
        assert placed(example, p) == pytest.approx(rated, abs=half_a_step + 1e-6)


def assert_same_signals(one: Recording, other: Recording) -> None:
    for a, b in zip(one.stretches, other.stretches, strict=True):
        for x_CT, y_CT in ((a.eeg_CT, b.eeg_CT), (a.ecg_LT, b.ecg_LT)):
            assert (x_CT is None) == (y_CT is None)
            if x_CT is not None and y_CT is not None:
                np.testing.assert_array_equal(x_CT, y_CT)


@contextmanager
def damaged(paths: set[Path]) -> Iterator[None]:
    """Put garbage in the place of files for a while."""
    away = [(path, path.with_name(f"{path.name}.away")) for path in sorted(paths)]
    for path, kept in away:
        path.rename(kept)
        path.write_bytes(b"garbage")
    try:
        yield
    finally:
        for path, kept in away:
            kept.replace(path)


def test_reading_one_recording_opens_no_file_of_another(example: Example) -> None:
    refs: list[RecordingRef] = list(example.listing.recordings)
    files = {ref: set(datasets.paths(example.root, ref)) for ref in refs}
    for place in (0, len(refs) - 1):
        others = set().union(*(files[ref] for ref in refs)) - files[refs[place]]
        with damaged(others):
            again = example.module.read(example.root, refs[place])
        first = example.recordings[place]
        assert_same_signals(again, first)
        assert again.presentations == first.presentations


def test_a_recording_whose_files_are_garbage_is_refused(example: Example) -> None:
    ref = example.listing.recordings[-1]
    signals = max(datasets.paths(example.root, ref), key=lambda path: path.stat().st_size)
    with damaged({signals}), pytest.raises(DataError):
        example.module.read(example.root, ref)


def test_reading_twice_gives_the_same(example: Example) -> None:
    again = example.module.read(example.root, example.listing.recordings[0])
    first = example.recordings[0]
    assert again.presentations == first.presentations
    assert_same_signals(again, first)

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from emoray.corpus.paired import PairedDataset, pair
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.signals import EcgRecipe
from emoray.vocabulary.schema import DataError
from tests.corpus.made import N_CHANS, N_ECG, N_TIMES, ecg_of, eeg_of, make_dataset


def _both(corpus: Path, name: str = "dreamer") -> tuple[CorpusDataset, CorpusDataset]:
    cache = corpus.parent / "cache"
    return (
        open_corpus(corpus, stream="eeg", cache_dir=cache)[name],
        open_corpus(corpus, stream="ecg", cache_dir=cache)[name],
    )


@pytest.fixture
def paired(tmp_path: Path) -> PairedDataset:
    """Of five segments of a recording the EEG lacks the second, the ECG the fourth."""
    make_dataset(tmp_path / "corpus", without={1})
    make_dataset(tmp_path / "corpus", without={3}, recipe=EcgRecipe())
    return pair(*_both(tmp_path / "corpus"))


def test_rows_are_the_segments_that_both_have(paired: PairedDataset) -> None:
    places = [(0, 0), (1, 0), (2, 0)]  # presentation and segment of the first, third and fifth
    assert len(paired) == 9
    found = np.stack([paired.column("presentation"), paired.column("segment")], axis=1)
    assert found.tolist() == [list(place) for place in places] * 3


def test_both_streams_of_a_row_are_of_one_instant(paired: PairedDataset) -> None:
    eeg, ecg = paired.stream("eeg"), paired.stream("ecg")
    assert (eeg.n_times, eeg.sfreq, len(eeg.channels)) == (N_TIMES, 128.0, N_CHANS)
    assert (ecg.n_times, ecg.sfreq, ecg.channels) == (N_ECG, 256.0, ("ecg1", "ecg2"))
    rows = [8, 0, 4, 4]
    recordings, places = [2, 0, 1, 1], [4, 0, 2, 2]
    for stream, expected in (
        (eeg, [eeg_of(r, 5)[p] for r, p in zip(recordings, places, strict=True)]),
        (ecg, [ecg_of(r, [p])[0] for r, p in zip(recordings, places, strict=True)]),
    ):
        np.testing.assert_array_equal(stream.gather(rows), np.stack(expected))
        out = np.empty((4, len(stream.channels), stream.n_times), stream.dtype)
        assert stream.gather(rows, out=out) is out
        np.testing.assert_array_equal(out, np.stack(expected))


def test_it_is_asked_like_any_dataset(paired: PairedDataset) -> None:
    assert (paired.name, paired.rehearsal, paired.is_local, paired.fits_here) == (
        *("dreamer", True, True),
        True,
    )
    np.testing.assert_array_equal(paired.va_S2[:, 0], np.repeat([-2.0, -1.0, 0.0], 3))
    assert paired.seen(np.array([3, 0, 1])) == {"00": ["00", "01"], "01": ["00"]}
    prints = paired.signals(np.array([0, 4]))
    assert {name: len(of) for name, of in prints.items()} == {
        "dreamer-s00-v1": 2,
        "dreamer-s01-v1": 2,
    }
    paired.prepare()
    with pytest.raises(ValueError, match=r"need a column among dataset, .*; got 'shard'"):
        paired.column("shard")
    with pytest.raises(ValueError, match="need a stream among eeg, ecg; got 'emg'"):
        paired.stream("emg")  # type: ignore[arg-type]
    for rows in ([-1], [9]):
        with pytest.raises(IndexError, match=r"need rows of dreamer in \[0, 9\)"):
            paired.stream("eeg").gather(rows)


def test_its_digest_is_that_of_its_rows(paired: PairedDataset, tmp_path: Path) -> None:
    eeg, ecg = _both(tmp_path / "corpus")
    assert paired.digest not in (eeg.digest, ecg.digest)
    again = pickle.loads(pickle.dumps(paired))
    assert again.digest == paired.digest
    np.testing.assert_array_equal(again.stream("ecg").gather([5]), paired.stream("ecg").gather([5]))


def test_a_pair_without_gaps_plans_like_its_eeg(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus")
    make_dataset(tmp_path / "corpus", recipe=EcgRecipe())
    eeg, ecg = _both(tmp_path / "corpus")
    assert pair(eeg, ecg).digest == eeg.digest


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    for name in ("dreamer", "amigos"):
        make_dataset(tmp_path / "corpus", name=name)
        make_dataset(tmp_path / "corpus", name=name, recipe=EcgRecipe())
    eeg, ecg = _both(tmp_path / "corpus")
    with pytest.raises(ValueError, match="need eeg of dreamer, got dreamer-ecg-"):
        pair(ecg, eeg)
    with pytest.raises(ValueError, match="need EEG and ECG of one dataset, got dreamer-eeg"):
        pair(eeg, _both(tmp_path / "corpus", "amigos")[1])
    make_dataset(tmp_path / "other", without={0, 1, 2, 3})
    make_dataset(tmp_path / "other", without={4}, recipe=EcgRecipe())
    with pytest.raises(DataError, match=r"need segments of the same seconds in dreamer-eeg.* none"):
        pair(*_both(tmp_path / "other"))


def test_where_r_waves_peak_is_told_of_the_pair_s_rows(tmp_path: Path) -> None:
    make_dataset(tmp_path / "corpus", without={1})
    make_dataset(tmp_path / "corpus", without={3}, recipe=EcgRecipe(), with_beats=True)
    paired = pair(*_both(tmp_path / "corpus"))
    assert [found.tolist() for found in paired.column("r_peaks")] == [[], [0, 1], [0, 1, 2, 3]] * 3
    np.testing.assert_array_equal(paired.column("quality_ecg1"), [0.0, 0.2, 0.4] * 3)
    np.testing.assert_array_equal(paired.column("quality_ecg2"), [1.0, 0.8, 0.6] * 3)


def test_r_waves_change_no_digest(paired: PairedDataset, tmp_path: Path) -> None:
    make_dataset(tmp_path / "other", without={1})
    make_dataset(tmp_path / "other", without={3}, recipe=EcgRecipe(), with_beats=True)
    with_beats = pair(*_both(tmp_path / "other"))
    assert with_beats.digest == paired.digest
    assert with_beats.builds == paired.builds
    assert "r_peaks" not in paired.index.column_names

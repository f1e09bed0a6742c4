"""BioSemi files: what is written, MNE reads; a header that announces more than is there."""

from pathlib import Path

import mne
import numpy as np
import pytest

from emoray.datasets import _biosemi
from emoray.schema import DataError


@pytest.fixture
def bdf(tmp_path: Path) -> Path:
    path = tmp_path / "x.bdf"
    x_NT = np.random.default_rng(0).normal(scale=50, size=(3, 4 * 64))
    status_T = np.zeros(4 * 64, dtype=np.int64)
    status_T[70:90] = status_T[200:220] = 4
    _biosemi.write_bdf(path, ["Fp1", "Cz", "EXG1"], x_NT, status_T, sfreq=64)
    return path


def test_mne_reads_what_was_written(bdf: Path) -> None:
    raw = mne.io.read_raw_bdf(bdf, stim_channel="Status", verbose="ERROR")
    x_NT = np.random.default_rng(0).normal(scale=50, size=(3, 4 * 64))
    assert raw.ch_names == ["Fp1", "Cz", "EXG1", "Status"]
    assert raw.info["sfreq"] == 64
    # One step of the converter is 1/32 microvolt.
    np.testing.assert_allclose(raw.get_data()[:3] * 1e6, x_NT, atol=1 / 64 + 1e-9)
    events = mne.find_events(raw, stim_channel="Status", verbose="ERROR")
    assert events[:, 0].tolist() == [70, 200]
    assert events[:, 2].tolist() == [4, 4]


def test_the_header_comes_back(bdf: Path) -> None:
    header = _biosemi.read_header(bdf)
    assert header.labels == ("Fp1", "Cz", "EXG1", "Status")
    assert header.samples_per_record == (64,) * 4
    assert (header.n_records, header.record_s) == (4, 1.0)


def test_a_file_cut_in_its_records_is_refused(bdf: Path) -> None:
    raw = bdf.read_bytes()
    bdf.write_bytes(raw[:-1])
    with pytest.raises(DataError, match=rf"x\.bdf: need {len(raw)} bytes.*found {len(raw) - 1}"):
        _biosemi.read_header(bdf)


@pytest.mark.parametrize("keep", [0, 100, 300])
def test_a_file_cut_in_its_header_is_refused(bdf: Path, keep: int) -> None:
    bdf.write_bytes(bdf.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"x\.bdf: need the header of a BioSemi file"):
        _biosemi.read_header(bdf)


def test_a_part_of_a_second_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole seconds at 64 Hz"):
        _biosemi.write_bdf(
            tmp_path / "x.bdf", ["Cz"], np.zeros((1, 65)), np.zeros(65, dtype=np.int64), sfreq=64
        )

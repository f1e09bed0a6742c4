"""BioSemi files: bytes put together by hand after BioSemi's table, and what is refused.

`Amplifier.raw` knows nothing of our writer; the table is biosemi.com/faq/file_format.htm.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import mne
import numpy as np
import pytest

from emoray.datasets.formats import biosemi
from emoray.vocabulary.schema import DataError, IntArray


@dataclass(frozen=True)
class Amplifier:
    """One file of `Fp1`, `EXG1` and `Status`; the fields of `EXG1` are the ones to be spoilt."""

    steps_NT: IntArray
    n_records: int | str
    sfreq: int = 64
    unit: str = "uV"
    physical: tuple[str, str] = ("-262144", "262143")
    digital: tuple[str, str] = ("-8388608", "8388607")
    exg_rate: int = 64
    status_unit: str = "Boolean"
    status_physical: tuple[str, str] = ("-8388608", "8388607")
    duration: str = "1"
    header_bytes: int = 1024

    @property
    def head(self) -> bytes:
        head = f"{'':80}{'':80}03.05.11" + f"14.30.05{self.header_bytes:<8}{'24BIT':<44}"
        head += f"{self.n_records:<8}{self.duration:<8}{3:<4}"
        per_signal = (
            (16, ("Fp1", "EXG1", "Status")),
            (80, ("Active Electrode",) * 2 + ("Triggers and Status",)),
            (8, ("uV", self.unit, self.status_unit)),
            (8, ("-262144", self.physical[0], self.status_physical[0])),
            (8, ("262143", self.physical[1], self.status_physical[1])),
            (8, ("-8388608", self.digital[0], "-8388608")),
            (8, ("8388607", self.digital[1], "8388607")),
            (80, ("HP: DC; LP: 113 Hz",) * 2 + ("No filtering",)),
            (8, (self.sfreq, self.exg_rate, self.sfreq)),
            (32, ("Reserved",) * 3),
        )
        fields = "".join(f"{text!s:<{n}}" for n, texts in per_signal for text in texts)
        return b"\xffBIOSEMI" + (head + fields).encode("latin1")

    @property
    def data(self) -> bytes:
        records = self.steps_NT.reshape(3, -1, self.sfreq).swapaxes(0, 1)
        return b"".join(int(v).to_bytes(3, "little", signed=True) for v in records.ravel())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.head + self.data)
        return path


@pytest.fixture
def amplifier() -> Amplifier:
    """Four records."""
    steps_NT = np.random.default_rng(1).integers(-(2**20), 2**20, size=(3, 256))
    steps_NT[2] = 0
    steps_NT[2, 70:90] = steps_NT[2, 200:220] = 16
    return Amplifier(steps_NT, 4)


def check(path: Path) -> biosemi.Header:
    header = biosemi.read_header(path)
    biosemi.check_signals(path, header, header.labels, sfreq=64)
    return header


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        check(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_after_the_publishers_table_is_what_mne_reads(
    amplifier: Amplifier, tmp_path: Path
) -> None:
    path = amplifier.write(tmp_path / "x.bdf")
    header = check(path)
    assert (header.labels, header.n_records) == (("Fp1", "EXG1", "Status"), 4)
    raw = mne.io.read_raw_bdf(path, stim_channel="Status", verbose="ERROR")
    expected_uv = amplifier.steps_NT[:2] / 32
    np.testing.assert_allclose(raw.get_data()[:2] * 1e6, expected_uv, rtol=3e-6, atol=0.6)
    events = mne.find_events(raw, stim_channel="Status", verbose="ERROR")
    assert events[:, [0, 2]].tolist() == [[70, 16], [200, 16]]


@pytest.mark.parametrize("at", [0, 1, 191, 576, 2303])
@pytest.mark.parametrize("n_records", [4, -1])
def test_a_byte_inserted_after_the_header_is_refused(
    amplifier: Amplifier, tmp_path: Path, at: int, n_records: int
) -> None:
    head = replace(amplifier, n_records=n_records).head
    data, path = amplifier.data, tmp_path / "x.bdf"
    assert len(data) == 4 * 3 * 64 * 3 == 2304
    path.write_bytes(head + data[:at] + b"\0" + data[at:])
    message = refused(path)
    assert "found 3329" in message or "found 4 and 1 bytes" in message
    assert "shift" in message


def test_records_that_nobody_counted_are_counted_by_the_size(
    amplifier: Amplifier, tmp_path: Path
) -> None:
    """-1 by BioSemi's table; MNE and EEGLAB's `test.bdf` (60 records of -1) do so."""
    path = replace(amplifier, n_records=-1).write(tmp_path / "x.bdf")
    raw = mne.io.read_raw_bdf(path, stim_channel="Status", verbose="ERROR")
    assert check(path).n_records == raw.n_times / 64 == 4


@pytest.mark.parametrize("n_lost", [1, 3, 192, 575, 576, 2304])
def test_a_record_cut_off_while_recording_is_refused(
    amplifier: Amplifier, tmp_path: Path, n_lost: int
) -> None:
    path = replace(amplifier, n_records=-1).write(tmp_path / "x.bdf")
    path.write_bytes(path.read_bytes()[:-n_lost])
    if n_lost == 576:  # a whole record
        assert check(path).n_records == 3
    else:
        assert "need whole records of 576 bytes behind 1024 bytes of header" in refused(path)


@pytest.mark.parametrize("n_records", [0, -2, 3, 5, 99999999])
def test_another_number_of_records_than_there_are_is_refused(
    amplifier: Amplifier, tmp_path: Path, n_records: int
) -> None:
    path = replace(amplifier, n_records=n_records).write(tmp_path / "x.bdf")
    assert f"for the {n_records} records that its header announces, found 3328" in refused(path)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"unit": "V"}, "x.bdf EXG1: need the unit uV, found 'V'"),
        ({"unit": "mV"}, "EXG1: need the unit uV, found 'mV'"),
        ({"unit": ""}, "EXG1: need the unit uV, found ''"),
        ({"physical": ("-262144", "524288")}, "EXG1: need 0.03125 uV for a step"),
        ({"physical": ("-524288", "524286")}, "found -524288 to 524286 uV"),
        ({"physical": ("0", "524287")}, "and 0 for step 0, found 0 to 524287 uV"),
        ({"physical": ("262143", "262143")}, "found 262143 to 262143 uV"),
        ({"physical": ("nan", "262143")}, "found nan to 262143 uV"),
        ({"physical": ("-262144", "")}, "EXG1: need physical and digital ranges"),
        ({"digital": ("8388607", "-8388608")}, "for steps 8.38861e+06 to -8.38861e+06"),
        ({"digital": ("0", "0")}, "for steps 0 to 0"),
        ({"exg_rate": 32}, "need 2944 bytes for the 4 records"),
        ({"status_unit": "uV"}, "x.bdf Status: need the unit Boolean, found 'uV'"),
        ({"status_physical": ("-262144", "262143")}, "Status: need 1 Boolean for a step"),
        ({"duration": "2"}, "x.bdf Fp1: need 64 Hz, found 32 Hz"),
        ({"duration": "0"}, "its records last 0 s"),
        ({"duration": "nan"}, "its records last nan s"),
        ({"header_bytes": 256}, "it has 256 bytes for 3 signals"),
        ({"header_bytes": 1280}, "it has 1280 bytes for 3 signals"),
        ({"exg_rate": 0}, "may hold no samples"),
    ],
)
def test_what_no_amplifier_writes_is_refused(
    amplifier: Amplifier, tmp_path: Path, spoilt: dict[str, object], said: str
) -> None:
    assert said in refused(replace(amplifier, **spoilt).write(tmp_path / "x.bdf"))  # type: ignore[arg-type]


def test_a_signal_at_half_the_rate_is_refused(amplifier: Amplifier, tmp_path: Path) -> None:
    """MNE would interpolate it."""
    path, data = tmp_path / "x.bdf", amplifier.data
    records = [data[i : i + 576] for i in range(0, len(data), 576)]
    halved = b"".join(record[:192] + record[192:288] + record[384:] for record in records)
    path.write_bytes(replace(amplifier, exg_rate=32).head + halved)
    assert "x.bdf EXG1: need 64 Hz, found 32 Hz" in refused(path)


def test_a_signal_twice_is_refused(amplifier: Amplifier, tmp_path: Path) -> None:
    path = tmp_path / "x.bdf"
    path.write_bytes(amplifier.head.replace(b"EXG1", b"Fp1 ") + amplifier.data)
    assert "x.bdf: need one signal Fp1, found 2" in refused(path)


def test_the_micro_sign_is_a_unit_too(amplifier: Amplifier, tmp_path: Path) -> None:
    assert check(replace(amplifier, unit="\N{MICRO SIGN}V").write(tmp_path / "x.bdf"))


@pytest.fixture
def bdf(tmp_path: Path) -> Path:
    path = tmp_path / "x.bdf"
    x_NT = np.random.default_rng(0).normal(scale=50, size=(3, 4 * 64))
    status_T = np.zeros(4 * 64, dtype=np.int64)
    status_T[70:90] = status_T[200:220] = 4
    biosemi.write_bdf(path, ["Fp1", "Cz", "EXG1"], x_NT, status_T, sfreq=64)
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
    header = biosemi.read_header(bdf)
    assert header.labels == ("Fp1", "Cz", "EXG1", "Status")
    assert [signal.n_samples for signal in header.signals] == [64] * 4
    assert (header.n_records, header.record_s) == (4, 1.0)


def test_a_file_cut_in_its_records_is_refused(bdf: Path) -> None:
    raw = bdf.read_bytes()
    bdf.write_bytes(raw[:-1])
    with pytest.raises(DataError, match=rf"x\.bdf: need {len(raw)} bytes.*found {len(raw) - 1}"):
        biosemi.read_header(bdf)


@pytest.mark.parametrize("keep", [0, 100, 300])
def test_a_file_cut_in_its_header_is_refused(bdf: Path, keep: int) -> None:
    bdf.write_bytes(bdf.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"x\.bdf: need the header of a BioSemi file"):
        biosemi.read_header(bdf)


def test_a_part_of_a_second_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole seconds at 64 Hz"):
        biosemi.write_bdf(
            tmp_path / "x.bdf", ["Cz"], np.zeros((1, 65)), np.zeros(65, dtype=np.int64), sfreq=64
        )

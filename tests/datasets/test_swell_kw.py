"""SWELL-KW: a block is no condition, relaxation comes first, minutes without ECG, odd names."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from emoray.datasets import swell_kw
from emoray.datasets.formats import poly5, spreadsheet
from emoray.vocabulary.schema import DataError, Recording
from emoray.vocabulary.targets import Levels
from tests.datasets.numbering import cut_short, shown
from tests.sources import ECG_AMPLITUDE_MV, ToneSource

TABLE = "Behavioral-features - per minute.xlsx"
COLUMNS = ("PP", "Blok", "Condition", "timestamp", *swell_kw._RATINGS.values())
SFREQ = 2048


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("SWELL")
    swell_kw.write_example(root, ToneSource(), n_subjects=2, duration_s=60.0)
    return root


@pytest.fixture
def root(example: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(example, tmp_path / "SWELL"))


Row = dict[str, spreadsheet.Cell]


@pytest.fixture
def table(root: Path) -> Callable[[Callable[[list[Row]], list[Row]]], Path]:
    """Change the rows of the table."""

    def change(alter: Callable[[list[Row]], list[Row]]) -> Path:
        rows = alter(spreadsheet.read_columns(root / TABLE, COLUMNS))
        spreadsheet.write(root / TABLE, [COLUMNS, *([r.get(c) for c in COLUMNS] for r in rows)])
        return root

    return change


def read(root: Path, place: int = 0) -> Recording:
    return swell_kw.read(root, swell_kw.find(root).recordings[place])


def refused(root: Path, place: int = 0) -> str:
    with pytest.raises(DataError) as caught:
        read(root, place)
    return str(caught.value)


def first_file(root: Path) -> Path:
    return root / swell_kw.find(root).recordings[0].files[0]


def rewrite(
    path: Path,
    x_CT: np.ndarray | None = None,
    *,
    channels: Sequence[tuple[str, str]] = (
        ("ECG raw 1", "mV"),
        ("s", "mV"),
        ("portiHeartPre", "uV"),
    ),
    sfreq: int = SFREQ,
    start: datetime | None = None,
) -> None:
    """Write a file anew with something else in it."""
    header = poly5.read_header(path)
    whole_CT = poly5.read(path, header, range(3)) if x_CT is None else x_CT
    poly5.write(path, channels, whole_CT, sfreq=sfreq, start=start or header.start)


# What is read -------------------------------------------------------------------------------------


def test_the_class_is_the_condition_and_the_block_is_a_rating(example: Path) -> None:
    found = {}
    for ref in swell_kw.find(example).recordings:
        _, work = swell_kw.read(example, ref).presentations
        assert work.label is not None
        assert swell_kw.CARD.emotions[work.label] == work.stimulus
        assert work.ratings["block"] == float(ref.session)
        found[ref.subject, ref.session] = work.stimulus
    assert [found["01", n] for n in "123"] == ["neutral", "time pressure", "interruptions"]
    assert [found["02", n] for n in "123"] == ["neutral", "interruptions", "time pressure"]


def test_the_blocks_are_classes_of_a_target_for_relaxation_too(example: Path) -> None:
    import pyarrow as pa

    blocks = [
        p.ratings["block"]
        for ref in swell_kw.find(example).recordings
        for p in swell_kw.read(example, ref).presentations
    ]
    target = Levels("block", (1.0, 2.0))
    labels_S = target.labels(pa.table({"rating_block": blocks}))
    assert labels_S.tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_relaxation_comes_first_and_has_neither_class_nor_answers(example: Path) -> None:
    relaxation, work = read(example).presentations
    assert (relaxation.stimulus, relaxation.label) == ("relaxation", None)
    assert relaxation.ratings == {"block": 1.0}
    assert len(work.ratings) == 12
    assert (relaxation.start_s, relaxation.stop_s) == (0.0, 60.0)
    assert (work.start_s, work.stop_s) == (140.0, 200.0)  # a minute without ECG, 20 s of neither


def test_answers_are_those_of_this_block(example: Path) -> None:
    for ref in swell_kw.find(example).recordings:
        _, work = swell_kw.read(example, ref).presentations
        valence, arousal = ToneSource().rating("swell_kw", int(ref.subject), work.stimulus)
        assert work.ratings["valence"] == round(valence + 5)
        assert work.ratings["arousal"] == round(arousal + 5)
        assert work.ratings["dominance"] not in (round(valence + 5), round(arousal + 5))


def test_the_ecg_is_chosen_by_name_and_is_in_microvolts(example: Path) -> None:
    recording = read(example)
    for p in recording.presentations:
        ecg_LT = shown(recording, p)
        assert ecg_LT.shape == (1, 60 * SFREQ)
        assert np.abs(ecg_LT).max() == pytest.approx(1e3 * ECG_AMPLITUDE_MV, rel=1e-3)


def test_what_is_no_usable_minute_is_nan_and_counted(example: Path) -> None:
    recording = read(example)
    (stretch,) = recording.stretches
    assert stretch.ecg_LT is not None
    assert np.isfinite(stretch.ecg_LT).mean() == pytest.approx(120 / 200)
    assert {(d.what, d.where.rpartition(" ")[2], d.reason, d.n) for d in recording.dropped} == {
        ("minute", "relaxation", "flat ECG", 1),
        ("minute", "neutral", "minute outside of the recording", 1),
    }


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x_T: 0 * x_T, "flat ECG"),
        (lambda x_T: np.where(np.arange(len(x_T)) == 9, np.nan, x_T), "NaN in the ECG"),
        (lambda x_T: np.clip(x_T, -800, 800), "clipped ECG"),
        (
            lambda x_T: np.random.default_rng(0).normal(0, 500, len(x_T)),
            "no heartbeat in the ECG",
        ),
    ],
)
def test_a_spoilt_minute_within_work_is_left_out(
    tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    swell_kw.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=180.0)
    path = first_file(tmp_path)
    x_CT = poly5.read(path, poly5.read_header(path), range(3))
    at = round((4 * 60 + 20 + 60) * SFREQ)  # the second minute of work
    x_CT[2, at : at + 60 * SFREQ] = spoil(x_CT[2, at : at + 60 * SFREQ])
    rewrite(path, x_CT)
    recording = read(tmp_path)
    work = recording.presentations[1]
    assert work.duration_s == 180
    finite_T = np.isfinite(shown(recording, work)[0])
    assert finite_T.reshape(3, -1).mean(axis=1).tolist() == [1, 0, 1]
    assert said in {d.reason for d in recording.dropped if d.where.endswith("neutral")}


def test_a_block_without_any_usable_minute_of_work_is_told(root: Path) -> None:
    path = first_file(root)
    rewrite(path, start=poly5.read_header(path).start + timedelta(hours=1))
    recording = read(root)
    assert recording.presentations == ()
    reasons = {(d.what, d.reason) for d in recording.dropped}
    assert ("presentation", "no usable minute") in reasons
    assert ("minute", "minute outside of the recording") in reasons


def test_a_minute_at_a_time_that_cannot_be_does_no_harm(
    table: Callable[[Callable[[list[Row]], list[Row]]], Path], example: Path
) -> None:
    """The publisher's table has such a row, added by hand, two hours too early."""

    def add(rows: list[Row]) -> list[Row]:
        return [*rows, {**rows[3], "timestamp": "20120918T070000000"}]

    assert read(table(add)).presentations == read(example).presentations


@pytest.mark.parametrize(
    "name",
    ["pp1_18-9-2012-c1.S00", "pp1_18-9-2012_c1.s00", "PP01_18-9-2012_C1.S00", "pp1_c1.S00"],
)
def test_irregular_names_are_known(root: Path, example: Path, name: str) -> None:
    path = first_file(root)
    path.rename(path.with_name(name))
    assert swell_kw.find(root).unexpected == ()
    assert read(root).presentations == read(example).presentations


def test_a_continuation_goes_on_by_its_clock(root: Path, example: Path) -> None:
    path = first_file(root)
    header = poly5.read_header(path)
    x_CT = poly5.read(path, header, range(3))
    at, gap_s = 130 * SFREQ, 5
    rest = path.with_name(f"{path.stem}_cont.S00")
    later = header.start + timedelta(seconds=130 + gap_s)
    channels = (("a", "mV"), ("b", "mV"), ("portiHeartPre", "uV"))
    poly5.write(rest, channels, x_CT[:, at + gap_s * SFREQ :], sfreq=SFREQ, start=later)
    rewrite(path, x_CT[:, :at])
    ref = swell_kw.find(root).recordings[0]
    assert [Path(f).name for f in ref.files] == [path.name, rest.name, TABLE]
    recording, whole = read(root), read(example)
    assert recording.presentations == whole.presentations
    np.testing.assert_array_equal(recording.stretches[0].ecg_LT, whole.stretches[0].ecg_LT)


def test_a_continuation_that_overlaps_is_refused(root: Path) -> None:
    path = first_file(root)
    shutil.copy(path, path.with_name(f"{path.stem}_cont.S00"))
    assert "need a continuation that begins after the first part's 200 s" in refused(root)


def test_missing_blocks_and_people_are_named(root: Path) -> None:
    first_file(root).unlink()
    missing = swell_kw.find(root).missing
    assert missing[0] == "subject 01 block 1"
    assert missing[1:] == tuple(f"subject {n:02}" for n in range(3, 26))


def test_other_files_of_the_release_are_no_strangers(root: Path) -> None:
    for name in (
        "0 - Raw data/A - Computer interaction - raw data uLog/pp1.xml",
        "3 - Feature dataset/per sensor/D - Physiology features (HR_HRV_SCL - final).csv",
        "SWELL-KW - overview available data.xlsx",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    stranger = first_file(root).with_name("pp26_1-1-2012_c1.S00")
    stranger.touch()
    assert [Path(name).name for name in swell_kw.find(root).unexpected] == [stranger.name]


# What is refused ----------------------------------------------------------------------------------


def test_another_rate_is_refused(root: Path) -> None:
    rewrite(first_file(root), sfreq=1024)
    assert "c1.S00: need 2048 Hz, found 1024 Hz" in refused(root)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("Respiration", "Skin", "Heart rate"),
            "need a channel of ECG (portiHeartPre, ECG), found",
        ),
        (("ECG 1", "ECG 2", "Skin"), "need one channel of ECG, found 2: ECG 1, ECG 2"),
    ],
)
def test_a_file_without_one_channel_of_ecg_is_refused(
    root: Path, names: tuple[str, ...], said: str
) -> None:
    rewrite(first_file(root), channels=[(name, "uV") for name in names])
    message = refused(root)
    assert said in message
    assert names[1] in message


@pytest.mark.parametrize("unit", ["uV", "uVolt", "\xb5V", "\xe6V", "mV", "V"])
def test_volts_come_in_several_spellings(root: Path, example: Path, unit: str) -> None:
    factor = {"m": 1e3, "V": 1e6}.get(unit[0], 1.0)
    path = first_file(root)
    x_CT = poly5.read(path, poly5.read_header(path), range(3)) / np.float32(factor)
    rewrite(path, x_CT, channels=[("a", "V"), ("b", "V"), ("ECG", unit)])
    np.testing.assert_allclose(
        read(root).stretches[0].ecg_LT, read(example).stretches[0].ecg_LT, rtol=1e-4, atol=1e-3
    )


def test_another_unit_is_refused(root: Path) -> None:
    rewrite(first_file(root), channels=[("a", "V"), ("b", "V"), ("ECG", "bpm")])
    assert "ECG: need volts, found the unit 'bpm'" in refused(root)


def test_truncated_and_longer_files_are_refused(root: Path) -> None:
    path = first_file(root)
    raw = path.read_bytes()
    path.write_bytes(raw + b"\0")
    assert f"found {len(raw) + 1:,}; the file has bytes that shift samples" in refused(root)
    cut_short(path)
    assert "is truncated" in refused(root)


def test_a_block_without_its_questionnaire_is_refused(
    table: Callable[[Callable[[list[Row]], list[Row]]], Path],
) -> None:
    def blank(rows: list[Row]) -> list[Row]:
        answers = set(swell_kw._RATINGS.values())
        return [
            {k: v for k, v in row.items() if row["Blok"] != 1 or k not in answers} for row in rows
        ]

    root = table(blank)
    assert "need the questionnaire of PP1 block 1, found no Valence_rc" in refused(root)
    read(root, 1)  # the next block has its own


def test_a_block_that_the_table_does_not_have_is_refused(
    table: Callable[[Callable[[list[Row]], list[Row]]], Path],
) -> None:
    root = table(lambda rows: [row for row in rows if row["Blok"] != 1])
    assert f"{TABLE}: need minutes of work of PP1 block 1, found none" in refused(root)


def test_a_release_without_the_table_is_listed_and_refused(root: Path) -> None:
    (root / TABLE).unlink()
    assert TABLE in swell_kw.find(root).missing
    assert f"{TABLE}: need a file, found no such file" in refused(root)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("Valence_rc", 3.25, "row 5 Valence_rc: need one answer in a block, found"),
        ("Stress", "much", "row 5 Stress: need a number, found 'much'"),
        ("Condition", "X", "row 5: need a person PP<n>, a block 1-3 and a condition"),
        ("Condition", "T", "need one condition in PP1 block 1, found R, N, T"),
        ("timestamp", "9:00", "row 5 timestamp: need a time such as 20120918T090000000"),
    ],
)
def test_rows_that_cannot_be_are_refused(
    table: Callable[[Callable[[list[Row]], list[Row]]], Path],
    column: str,
    value: spreadsheet.Cell,
    said: str,
) -> None:
    def spoil(rows: list[Row]) -> list[Row]:
        rows[3] = {**rows[3], column: value}  # the second minute of work
        return rows

    assert said in refused(table(spoil))


def test_a_rating_off_the_scale_is_refused(
    table: Callable[[Callable[[list[Row]], list[Row]]], Path],
) -> None:
    def spoil(rows: list[Row]) -> list[Row]:
        return [{**row, "Arousal_rc": 10.0} if row["Condition"] != "R" else row for row in rows]

    message = refused(table(spoil))
    assert "need arousal in [1, 9], got 10" in message
    assert "PP1 block 1 Arousal_rc" in message


def test_a_table_that_is_no_workbook_is_refused(root: Path) -> None:
    (root / TABLE).write_text("PP;Blok")
    assert f"{TABLE}: need a whole Excel workbook" in refused(root)
    with zipfile.ZipFile(root / TABLE, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    assert f"{TABLE}: need columns PP, Blok, Condition" in refused(root)

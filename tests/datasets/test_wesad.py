"""WESAD: subjects that are not there, conditions in two orders, labels to ignore, old pickles."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.datasets import wesad
from emoray.datasets.formats import plain_pickle
from emoray.vocabulary.schema import DataError, Recording
from tests.datasets.numbering import cut_short, shown
from tests.sources import SilentSource, ToneSource

Content = dict[str, Any]


class StimulusSource(ToneSource):
    """The ECG of a stimulus is the constant number of its place here; that of a rest is -1."""

    names = ("baseline", "stress", "amusement", "meditation 1", "meditation 2")

    def ecg(
        self,
        dataset: str,
        subject: int,
        stimulus: str,
        n_leads: int,
        sfreq: float,
        duration_s: float,
        va: tuple[float, float],
    ) -> np.ndarray:
        value = self.names.index(stimulus) if stimulus in self.names else -1
        return np.full((n_leads, round(duration_s * sfreq)), float(value))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("WESAD")
    wesad.write_example(root, StimulusSource(), n_subjects=2, duration_s=3.0)
    return root


@pytest.fixture
def root(example: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(example, tmp_path / "WESAD"))


@pytest.fixture
def altered(root: Path) -> Callable[[Callable[[Content], None]], Path]:
    """Change what the pickle of subject 2 holds."""

    def change(alter: Callable[[Content], None]) -> Path:
        content = plain_pickle.load_arrays(root / "S2" / "S2.pkl")
        alter(content)
        plain_pickle.dump_python2(root / "S2" / "S2.pkl", content)
        return root

    return change


def read(root: Path, place: int = 0) -> Recording:
    return wesad.read(root, wesad.find(root).recordings[place])


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def change_table(root: Path, old: str, new: str) -> Path:
    path = root / "S2" / "S2_quest.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return root


# What is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "stimuli", "labels"),
    [
        (0, ["baseline", "stress", "meditation 1", "amusement", "meditation 2"], [0, 1, 3, 2, 3]),
        (1, ["baseline", "amusement", "meditation 1", "stress", "meditation 2"], [0, 2, 3, 1, 3]),
    ],
)
def test_conditions_are_cut_by_the_labels_in_this_subjects_order(
    example: Path, place: int, stimuli: list[str], labels: list[int]
) -> None:
    recording = read(example, place)
    assert [p.stimulus for p in recording.presentations] == stimuli
    assert [p.label for p in recording.presentations] == labels
    for p in recording.presentations:
        ecg_LT = shown(recording, p)
        assert ecg_LT.shape == (1, 3 * 700)
        assert (ecg_LT == StimulusSource.names.index(p.stimulus)).all()


def test_ratings_follow_the_order_of_the_conditions(example: Path) -> None:
    for place, subject in enumerate((2, 3)):
        for p in read(example, place).presentations:
            valence, arousal = ToneSource().rating("wesad", subject, p.stimulus)
            assert p.ratings == {"valence": round(valence + 5), "arousal": round(arousal + 5)}


def test_what_lies_between_conditions_is_counted_by_its_label(example: Path) -> None:
    dropped = {d.reason: (d.what, d.n) for d in read(example).dropped}
    assert dropped == {
        "between conditions (label 0)": ("second", 10),  # one before and one after each of five
        "to be ignored (label 5)": ("second", 4),
        "to be ignored (label 6)": ("second", 4),
        "to be ignored (label 7)": ("second", 2),
    }


def test_subjects_1_and_12_are_not_missed(example: Path) -> None:
    listing = wesad.find(example)
    assert [ref.subject for ref in listing.recordings] == ["02", "03"]
    assert len(listing.missing) == 13
    assert not {"subject 01", "subject 12", "subject 18"} & set(listing.missing)


def test_a_subject_that_the_release_does_not_have_is_a_stranger(root: Path) -> None:
    shutil.copytree(root / "S2", root / "S12")
    (root / "S12" / "S2.pkl").rename(root / "S12" / "S12.pkl")
    listing = wesad.find(root)
    assert len(listing.recordings) == 2
    assert "S12/S12.pkl" in listing.unexpected


def test_other_files_of_the_publisher_are_no_strangers(root: Path) -> None:
    for name in ("S2_respiban.txt", "S2_readme.txt", "S2_E4_Data.zip"):
        (root / "S2" / name).touch()
    (root / "wesad_readme.pdf").touch()
    assert wesad.find(root).unexpected == ()


def protocol_0(value: Any) -> bytes:
    """As Python 2 wrote without being asked for more: bytes as quoted text, four for many a one."""
    if isinstance(value, str):
        return b"S" + repr(value).encode() + b"\n"
    if isinstance(value, dict):
        items = (protocol_0(key) + protocol_0(item) + b"s" for key, item in value.items())
        return b"(d" + b"".join(items)
    kind = f"{value.dtype.kind}{value.dtype.itemsize}"
    shape = b"(" + b"".join(b"I%d\n" % n for n in value.shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n"
        + shape
        + b"cnumpy\ndtype\n(S'"
        + kind.encode()
        + b"'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS"
        + repr(np.ascontiguousarray(value).tobytes())[1:].encode()
        + b"\ntb"
    )


def test_a_pickle_of_the_oldest_protocol_gives_the_same(example: Path, root: Path) -> None:
    path = root / "S2" / "S2.pkl"
    n_bytes = path.stat().st_size
    path.write_bytes(protocol_0(plain_pickle.load_arrays(path)) + b".")
    assert path.stat().st_size > 1.5 * n_bytes
    again, before = read(root), read(example)
    assert again.presentations == before.presentations
    np.testing.assert_array_equal(again.stretches[0].ecg_LT, before.stretches[0].ecg_LT)


@pytest.mark.parametrize(("written", "seconds"), [("39.55", 2395), ("50.3", 3030), ("7", 420)])
def test_times_are_minutes_and_seconds(written: str, seconds: float) -> None:
    assert wesad._clock_s(written, "here") == seconds


# What is refused ----------------------------------------------------------------------------------


class Attack:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_with_code_is_refused_and_runs_nothing(root: Path, protocol: int) -> None:
    (root / "S2" / "S2.pkl").write_bytes(pickle.dumps({"label": Attack()}, protocol))
    assert "S2.pkl: need a pickle of numpy arrays, found one that asks for" in refused(root)


def test_a_truncated_pickle_is_refused(root: Path) -> None:
    cut_short(root / "S2" / "S2.pkl")
    assert "S2.pkl: need a whole pickle of arrays" in refused(root)


@pytest.mark.parametrize("key", ["signal", "chest", "ECG"])
def test_a_pickle_without_the_chests_ecg_is_refused(
    altered: Callable[[Callable[[Content], None]], Path], key: str
) -> None:
    def take_out(content: Content) -> None:
        inside = {"signal": content, "chest": content["signal"]}
        del inside.get(key, content["signal"]["chest"])[key]

    assert f"need {key!r}, found" in refused(altered(take_out))


def test_a_rate_of_the_ecg_alone_is_refused(
    altered: Callable[[Callable[[Content], None]], Path],
) -> None:
    def resample(content: Content) -> None:
        content["signal"]["chest"]["ECG"] = content["signal"]["chest"]["ECG"][::2]

    message = refused(altered(resample))
    assert "need a sample for each of the 24,500 labels at 700 Hz, found 12,250" in message


@pytest.mark.parametrize("step", [2, 3])
def test_a_rate_of_ecg_and_labels_together_is_refused(
    altered: Callable[[Callable[[Content], None]], Path], step: int
) -> None:
    def resample(content: Content) -> None:
        content["signal"]["chest"]["ECG"] = content["signal"]["chest"]["ECG"][::step]
        content["label"] = content["label"][::step]

    message = refused(altered(resample))
    assert "S2.pkl: need 700 Hz" in message
    assert "by S2_quest.csv they lasted 15 s" in message


def test_another_label_is_refused(altered: Callable[[Callable[[Content], None]], Path]) -> None:
    def spoil(content: Content) -> None:
        content["label"] = np.where(content["label"] == 6, 8, content["label"])

    assert "S2.pkl label: need labels 0-7, found 8" in refused(altered(spoil))


def test_conditions_in_another_order_than_the_tables_are_refused(root: Path) -> None:
    change_table(root, "TSST;Medi 1;Fun", "Fun;Medi 1;TSST")
    message = refused(root)
    assert "need conditions [1, 3, 4, 2, 4] as S2_quest.csv says, found [1, 2, 4, 3, 4]" in message


def test_another_subjects_pickle_is_refused(root: Path) -> None:
    shutil.copy(root / "S3" / "S3.pkl", root / "S2" / "S2.pkl")
    assert "S2.pkl: need subject S2, found 'S3'" in refused(root)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# DIM", "# XXX", "need 5 lines # DIM with valence and arousal, found 4"),
        ("# ORDER", "# BORDER", "need one line # ORDER, found 0"),
        ("TSST", "TEST", "# ORDER: need Base, TSST, Fun, Medi 1 and Medi 2, found Base, TEST"),
        ("# START;0.01", "# START;x", "Base # START: need minutes.seconds, found 'x'"),
        ("# START;0.01", "# START;0.61", "Base # START: need minutes.seconds, found '0.61'"),
        ("# START;0.01", "# START;9.01", "Base: need an end after its start, found 541 to 4 s"),
    ],
)
def test_a_damaged_table_is_refused(root: Path, old: str, new: str, said: str) -> None:
    assert said in refused(change_table(root, old, new))


@pytest.mark.parametrize(
    ("rating", "said"),
    [
        ("0", r"need valence in [1, 9], got 0 in"),
        ("2.5", "need a whole number for valence, got 2.5"),
        ("", "need a number for valence, found ''"),
    ],
)
def test_a_rating_off_the_scale_is_refused(root: Path, rating: str, said: str) -> None:
    first = next(
        line
        for line in (root / "S2" / "S2_quest.csv").read_text().splitlines()
        if line.startswith("# DIM")
    )
    old = first.split(";")
    change_table(root, first, ";".join([old[0], rating, *old[2:]]))
    message = refused(root)
    assert said in message
    assert "S2_quest.csv Base" in message


def test_a_subject_without_its_table_is_listed_and_refused(root: Path) -> None:
    (root / "S2" / "S2_quest.csv").unlink()
    assert "S2/S2_quest.csv" in wesad.find(root).missing
    assert "S2_quest.csv: need a file, found no such file" in refused(root)


def test_full_length_is_the_protocols(tmp_path: Path) -> None:
    wesad.write_example(tmp_path, SilentSource(), n_subjects=1, duration_s=None)
    lengths = {p.stimulus: p.duration_s for p in read(tmp_path).presentations}
    assert lengths["baseline"] == 2 * lengths["stress"] == 1200
    assert lengths["meditation 1"] == lengths["meditation 2"] == 420
    assert (tmp_path / "S2" / "S2.pkl").stat().st_size < 60e6

"""FACED's reader: a bare array by video index, either ending, and no code run."""

import pickle
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from emoray.datasets import faced
from emoray.vocabulary.schema import DataError, FloatArray
from tests.datasets.numbering import (
    NumberSource,
    assert_each_shows_its_own,
    cut_short,
    n_segments,
)
from tests.sources import ToneSource, channels_by_tone

REAL = Path(__file__).parents[3] / "shared" / "real"
FIRST = "Processed_data/sub000.pkl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faced")
    faced.write_example(root, NumberSource(), n_subjects=2, duration_s=None)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files of no content, for what is decided by names."""
    (tmp_path / "Processed_data").mkdir()
    for name in ("sub000.pkl", "sub001.pkl.pkl"):
        (tmp_path / "Processed_data" / name).write_bytes(b"")
    return tmp_path


def test_both_endings_are_read(whole: Path) -> None:
    refs = faced.find(whole).recordings
    assert [ref.files[0][-15:] for ref in refs] == ["data/sub000.pkl", "/sub001.pkl.pkl"]
    for ref in refs:
        assert_each_shows_its_own(faced.read(whole, ref))


def test_the_stored_value_is_a_bare_array_of_doubles(whole: Path) -> None:
    stored = pickle.loads((whole / FIRST).read_bytes())
    assert isinstance(stored, np.ndarray)
    assert stored.dtype == np.float64
    assert stored.shape == (28, 32, 7500)


def test_classes_follow_the_video_index(whole: Path) -> None:
    shown = faced.read(whole, faced.find(whole).recordings[0]).presentations
    assert [p.stimulus for p in shown] == [f"{k:02d}" for k in range(1, 29)]
    n_of = [p.emotion for p in shown]
    assert n_of == (
        ["anger"] * 3 + ["disgust"] * 3 + ["fear"] * 3 + ["sadness"] * 3 + ["neutral"] * 4
        + ["amusement"] * 3 + ["inspiration"] * 3 + ["joy"] * 3 + ["tenderness"] * 3
    )  # fmt: skip
    assert all(faced.CARD.emotions[p.label or 0] == p.emotion for p in shown)


def test_a_subject_gives_84_segments(whole: Path) -> None:
    shown = faced.read(whole, faced.find(whole).recordings[0]).presentations
    assert n_segments(shown, 10.0) == 84 == faced.CARD.n_segments_per_subject
    assert faced.CARD.n_segments_paper == 123 * 84


def test_the_two_channels_that_are_not_scalp_are_dropped(tmp_path: Path) -> None:
    faced.write_example(tmp_path, ToneSource(), n_subjects=1, duration_s=None)
    recording = faced.read(tmp_path, faced.find(tmp_path).recordings[0])
    assert len(recording.eeg_channels) == 30
    assert recording.eeg_channels[-3:] == ("Oz", "O1", "O2")
    assert channels_by_tone(recording.stretches[27].eeg_CT[:, :2500], 250.0) == list(range(30))


def test_subjects_count_from_zero_and_the_absent_are_named(root: Path) -> None:
    (root / "Processed_data/sub7.pkl").write_bytes(b"")
    (root / "EEG_Features/DE").mkdir(parents=True)
    (root / "EEG_Features/DE/sub000.pkl.pkl").write_bytes(b"")
    listing = faced.find(root)
    assert [r.subject for r in listing.recordings] == ["000", "001"]
    assert listing.missing == tuple(f"subject {k:03d}" for k in range(2, 123))
    assert listing.unexpected == ("Processed_data/sub7.pkl",)


def test_both_endings_of_one_subject_are_refused(root: Path) -> None:
    shutil.copy(root / FIRST, root / "Processed_data/sub000.pkl.pkl")
    with pytest.raises(DataError, match=r"subject 000, found two: .*sub000\.pkl and .*\.pkl\.pkl"):
        faced.find(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((28, 7500, 32), np.float32), r"need shape \(28, 32, 7500\).*\(28, 7500, 32\)"),
        (np.zeros((28, 32, 6000), np.float32), r"\(28, 32, 6000\)"),
        (np.zeros((27, 32, 75)), r"\(27, 32, 75\)"),
        ({"data": np.zeros((28, 32, 7500), np.float32)}, "need numbers of shape"),
        (["a"], "need numbers of shape"),
    ],
    ids=["turned", "200 Hz", "27 videos", "dictionary", "text"],
)
def test_anything_but_the_bare_array_is_refused(root: Path, content: object, message: str) -> None:
    (root / FIRST).write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        faced.read(root, faced.find(root).recordings[0])
    assert "sub000.pkl" in str(error.value)


class Intruder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / FIRST).write_bytes(pickle.dumps(Intruder()))
    with pytest.raises(DataError, match=r"sub000\.pkl"):
        faced.read(root, faced.find(root).recordings[0])
    assert "code ran" not in capsys.readouterr().out


def test_a_truncated_file_is_refused_by_name(root: Path) -> None:
    (root / FIRST).write_bytes(pickle.dumps(np.zeros((28, 32, 75))))
    cut_short(root / FIRST)
    with pytest.raises(DataError, match=r"sub000\.pkl"):
        faced.read(root, faced.find(root).recordings[0])


# Which rows hold the ears -------------------------------------------------------------------------

ANGLES = {
    # Degrees from the vertex and around it, as tables of the 10-10 system have them.
    **{"Fp1": (-92, -72), "Fp2": (92, 72), "Fz": (46, 90), "F3": (-60, -51), "F4": (60, 51)},
    **{"F7": (-92, -36), "F8": (92, 36), "FC1": (-32, -45), "FC2": (32, 45), "FC5": (-71, -21)},
    **{"FC6": (71, 21), "Cz": (0, 0), "C3": (-46, 0), "C4": (46, 0), "T7": (-92, 0), "T8": (92, 0)},
    **{"CP1": (-32, 45), "CP2": (32, -45), "CP5": (-71, 21), "CP6": (71, -21), "Pz": (46, -90)},
    **{"P3": (-60, 51), "P4": (60, -51), "P7": (-92, 36), "P8": (92, -36), "PO3": (-74, 65)},
    **{"PO4": (74, -65), "Oz": (92, -90), "O1": (-92, 72), "O2": (92, -72)},
    **{"A1": (-120, 8), "A2": (120, -8)},
}
ENDING = (
    "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 {} CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 "
    "PO3 PO4 Oz O1 O2 {}"
)
CAPS = {"30-31": ENDING.format("", "A1 A2").split(), "16-17": ENDING.format("A1 A2", "").split()}
"""The rows as EMOD has them, and as the readers that put the ears behind T8."""


def conducted(
    rng: np.random.Generator, sites: list[str], *, noise: float, n: int = 1500
) -> FloatArray:
    """28 videos of dipoles in a ball, seen at sites on it, average-referenced, (28, R, n)."""
    angles = np.deg2rad([ANGLES[site] for site in sites])
    polar, around = angles[:, 0], angles[:, 1]
    at_R3 = np.stack(
        (np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)), axis=1
    )
    place_K3 = rng.normal(size=(30, 3))
    place_K3 *= 0.7 / np.linalg.norm(place_K3, axis=1, keepdims=True)
    away_RK3 = at_R3[:, None] - place_K3[None]
    moment_K3 = rng.normal(size=place_K3.shape)
    field_RK = (away_RK3 * moment_K3).sum(-1) / np.linalg.norm(away_RK3, axis=-1) ** 3
    field_RK /= np.abs(field_RK).max(axis=0)
    x_VRT = field_RK @ rng.normal(size=(28, 30, n)) * 10
    x_VRT += noise * x_VRT.std() * rng.normal(size=x_VRT.shape)
    return x_VRT - x_VRT.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.3, 1.0])
@pytest.mark.parametrize("ears", CAPS)
def test_signals_of_a_head_say_which_rows_are_ears(ears: str, noise: float, seed: int) -> None:
    x_VRT = conducted(np.random.default_rng(seed), CAPS[ears], noise=noise)
    assert faced.ears_of(x_VRT) == ears


def test_a_file_with_ears_behind_t8_is_read_by_its_own_order_and_reported(root: Path) -> None:
    x_VRT = conducted(np.random.default_rng(1), CAPS["16-17"], noise=0.3, n=7500)
    (root / FIRST).write_bytes(pickle.dumps(x_VRT))
    recording = faced.read(root, faced.find(root).recordings[0])
    for k, name in ((15, "T8"), (16, "CP1"), (29, "O2")):
        assert recording.eeg_channels[k] == name
        stored_T = x_VRT[7, CAPS["16-17"].index(name)]
        np.testing.assert_allclose(recording.stretches[7].eeg_CT[k], stored_T, atol=1e-4)
    (moved,) = recording.dropped
    assert (moved.what, moved.n) == ("channel", 2)
    assert moved.reason == "ears in rows 16-17 by the signals, not 30-31"


def test_a_file_with_ears_last_is_read_as_ever_and_reports_nothing(root: Path) -> None:
    x_VRT = conducted(np.random.default_rng(1), CAPS["30-31"], noise=0.3, n=7500)
    (root / FIRST).write_bytes(pickle.dumps(x_VRT))
    recording = faced.read(root, faced.find(root).recordings[0])
    np.testing.assert_allclose(recording.stretches[3].eeg_CT, x_VRT[3, :30], atol=1e-4)
    assert recording.dropped == ()


def test_signals_without_a_head_say_nothing_and_are_read_as_ever() -> None:
    rng = np.random.default_rng(0)
    assert faced.ears_of(rng.normal(size=(28, 32, 1500))) is None  # every row for itself
    assert faced.ears_of(np.ones((28, 32, 100))) is None
    assert faced.ears_of(np.full((28, 32, 100), np.nan)) is None
    assert faced.ears_of(np.full((28, 32, 100), np.inf)) is None
    disagreeing = conducted(rng, CAPS["30-31"], noise=0.3)
    disagreeing[::2, 16:] = np.roll(disagreeing[::2, 16:], 2, axis=1)  # half of the videos
    assert faced.ears_of(disagreeing) is None


@pytest.mark.skipif(not (REAL / "eeglab_data.set").exists(), reason="no recording here")
@pytest.mark.parametrize("ears", CAPS)
def test_a_recorded_head_says_it_too(ears: str) -> None:
    # 26 of the sites were recorded, four are interpolated; the two eye channels stand for ears.
    raw = mne.io.read_raw_eeglab(REAL / "eeglab_data.set", preload=True, verbose="ERROR")
    absent = [site for site in CAPS[ears] if site not in (*raw.ch_names, "A1", "A2")]
    extra = mne.io.RawArray(
        np.zeros((len(absent), raw.n_times)), mne.create_info(absent, raw.info["sfreq"], "eeg")
    )
    raw.add_channels([extra], force_update_info=True)
    raw.rename_channels({"EOG1": "A1", "EOG2": "A2", "FPz": "Fpz"})
    raw.set_montage("colin27_1020", on_missing="ignore", verbose="ERROR")
    raw.info["bads"] = absent
    raw.interpolate_bads(verbose="ERROR")
    x_RT = raw.get_data(picks=CAPS[ears])
    n_each = raw.n_times // 28
    x_VRT = np.stack([x_RT[:, k * n_each : (k + 1) * n_each] for k in range(28)])
    assert faced.ears_of(x_VRT - x_VRT.mean(axis=1, keepdims=True)) == ears

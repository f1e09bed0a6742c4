from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emoray.corpus.build.build import BuildReport
from emoray.experiments.builds import builds_of
from emoray.experiments.options import Build
from emoray.jobs import build_corpus
from emoray.methods.emod.method import Pretraining
from emoray.methods.pipeline.method import EmodAlignment
from emoray.results import published
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.schema import DataError

ECG = EcgRecipe(
    sfreq=256.0,
    highpass_hz=0.8,
    highpass_filter="iir",
    amplitude="z",
    scale_scope="person",
    segment_s=10.0,
    r_peaks="sleepecg",
)


def test_emod_reads_eeg_by_whatever_recipe() -> None:
    found = builds_of(published.load("emod"))
    assert {(built.streams, built.eeg, built.ecg) for built in found} == {(("eeg",), None, None)}
    by_use = {built.is_evaluated: names for built, names in found.items()}
    assert {"faced", "seed", "seed_v"} <= by_use[True]
    assert {"amigos", "dreamer", "mped"} <= by_use[False]


def test_three_papers_as_one_read_pairs_of_two_datasets_and_eeg_of_others() -> None:
    """EMOD's stages want no recipe, the alignment on top of them EMOD's: it decides."""
    found = {names.pop(): built for built, names in builds_of(published.load("pipeline")).items()}
    pairs = [built for built in found.values() if built.is_evaluated]
    assert {(built.streams, built.eeg, built.ecg) for built in pairs} == {
        (("eeg", "ecg"), EegRecipe(), ECG)
    }
    alone = [built for built in found.values() if not built.is_evaluated]
    assert {(built.streams, built.ecg) for built in alone} == {(("eeg",), None)}


def test_stages_that_want_one_stream_by_two_recipes_are_refused() -> None:
    class Other(Pretraining):
        recipes = {"eeg": EegRecipe(ica="none")}  # noqa: RUF012

    reading = [(EmodAlignment, ("dreamer",)), (Other, ("dreamer",))]
    with pytest.raises(ValueError, match="need one recipe for eeg of dreamer, got several"):
        builds_of(published.load("emod"), reading)


# The job ------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What `build` is asked for, without doing it."""
    asked: list[dict[str, object]] = []

    def build(root: Path, out: str, **how: object) -> BuildReport:
        asked.append(how)
        return BuildReport(out, (), 0.0, 0.0, 0)

    monkeypatch.setattr(build_corpus, "build", build)
    return asked


def release(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_what_a_paper_reads_is_built_of_the_datasets_there_are(
    tmp_path: Path, calls: list[dict[str, object]]
) -> None:
    root = release(tmp_path, "DREAMER", "SEED")
    assert build_corpus.run(Build(root, out=str(tmp_path / "corpus"), paper="alignment")) == 0
    (asked,) = calls
    assert asked["datasets"] == ["dreamer"]
    assert asked["streams"] == ("eeg", "ecg")
    assert asked["ecg"] == ECG
    assert asked["recipe"] == EegRecipe(
        ica="none", reference="none", amplitude="z", scale_scope="person", segment_s=10.0
    )


def test_a_paper_without_a_dataset_there_is_refused(
    tmp_path: Path, calls: list[dict[str, object]]
) -> None:
    options = Build(release(tmp_path, "SEED", "DREAMER"), out="there", paper="ssl_ecg")
    with pytest.raises(ValueError, match=r"need datasets that ssl_ecg reads .*, got seed"):
        build_corpus.run(replace(options, datasets=("seed", "dreamer")))
    (tmp_path / "DREAMER").rmdir()
    with pytest.raises(DataError, match=r"need one of amigos, dreamer, .* for ssl_ecg, got seed"):
        build_corpus.run(options)
    assert not calls


@pytest.mark.parametrize(
    ("other", "need"),
    [
        ({"streams": ("ecg",)}, "need either --paper or streams and recipes, got both"),
        ({"ecg": EcgRecipe(sfreq=128.0)}, "need either --paper or streams and recipes"),
        ({"paper": "nobody"}, "need a paper among"),
    ],
)
def test_a_paper_decides_streams_and_recipes(other: dict[str, object], need: str) -> None:
    with pytest.raises(ValueError, match=need):
        Build(Path("data"), **{"paper": "ssl_ecg", **other})  # type: ignore[arg-type]

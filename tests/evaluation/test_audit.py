"""Every way in which weights can know the test segments is found, and none is made up."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray import datasets
from emoray.corpus.build.index import assemble
from emoray.corpus.build.recording import Build, make_part
from emoray.corpus.manifest import build_digest, folder_name
from emoray.corpus.read import CorpusDataset, open_corpus
from emoray.evaluation.audit import Audit, Leak, LeakageError, audit, check
from emoray.evaluation.doubts import Fitted
from emoray.evaluation.folds import PROTOCOLS, Fold, folds
from emoray.runtime.storage import Storage
from emoray.signals import EcgRecipe, EegRecipe
from emoray.vocabulary.schema import FloatArray
from tests.evaluations import paper_protocol, protocols_of
from tests.indexes import index_table, published, shuffled, thinned
from tests.sources import ToneSource

RANDOM = "random_segments_same_subjects_same_stimuli"
STRICT = PROTOCOLS["subjects_and_stimuli_apart"]
NONE: tuple[dict[str, dict[str, list[str]]], ...] = ()


@pytest.fixture(scope="module")
def index() -> pa.Table:
    """SEED of six subjects: three visits, and at each the same fifteen stimuli."""
    return index_table(published("seed", 6))


def rows(index: pa.Table, **wanted: object) -> list[int]:
    """Rows that have these values in these columns."""
    kept = np.ones(index.num_rows, bool)
    for name, value in wanted.items():
        kept &= np.array([found == value for found in index.column(name).to_pylist()])
    return np.flatnonzero(kept).tolist()


def fold_of(train: list[int], validation: list[int], test: list[int]) -> Fold:
    sides = (np.array(sorted(side), dtype=np.int64) for side in (train, validation, test))
    return Fold("made", *sides)


@pytest.fixture(scope="module")
def clean(index: pa.Table) -> Fold:
    """Another subject at another stimulus on each side."""
    return fold_of(
        rows(index, subject="01", stimulus="01"),
        rows(index, subject="02", stimulus="02"),
        rows(index, subject="03", stimulus="03"),
    )


def moved(fold: Fold, side: str, extra: list[int]) -> Fold:
    """The same fold with more rows in train or validation."""
    name = {"train": "train_N", "validation": "val_N"}[side]
    more_N = np.union1d(getattr(fold, name), np.array(extra, dtype=np.int64))
    return replace(fold, **{name: more_N})


def found_in(audited: Audit) -> dict[tuple[str, str], int]:
    return {(leak.kind, leak.where): leak.n_segments for leak in audited.leaks}


def test_a_clean_fold_passes(index: pa.Table, clean: Fold) -> None:
    others = {"seed": {"04": ["04"]}, "deap": {"03": ["03"]}}
    found = audit(index, "seed", clean, STRICT, [others, {}])
    assert found == Audit(leaks=(), admitted=())
    assert found.verdict == "clean"
    check(found)


def test_weights_without_an_account_are_never_clean(index: pa.Table, clean: Fold) -> None:
    found = audit(index, "seed", clean, STRICT, NONE, unaudited=True)
    check(found)
    assert found.verdict == "weights not audited"
    assert Audit.from_json(found.to_json()) == found
    seen = audit(index, "seed", clean, STRICT, [{"seed": {"03": ["09"]}}], unaudited=True)
    assert seen.verdict.startswith("weights not audited; CONTAMINATED")


# People who may be the same --------------------------------------------------------------------


SEED_FAMILY = "people not known to be apart (SEED family)"


@pytest.mark.parametrize("saw", [("seed_iv",), ("seed_vii",), ("seed_iv", "seed_vii", "deap")])
def test_people_of_the_laboratory_are_no_strangers(
    index: pa.Table, clean: Fold, saw: tuple[str, ...]
) -> None:
    """EMOD's own setting: pretrained on SEED-IV and SEED-VII, tested on SEED."""
    everyone = {f"{n:02}": ["1-01"] for n in range(1, 16)}
    found = audit(index, "seed", clean, STRICT, [dict.fromkeys(saw, everyone)])
    assert found.verdict == SEED_FAMILY
    check(found)  # it is the paper's setting: said, not refused
    assert Audit.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.not_apart[0].trained_on == tuple(n for n in saw if n.startswith("seed"))


def test_weights_whose_datasets_alone_are_known_are_no_strangers_either(
    index: pa.Table, clean: Fold
) -> None:
    found = audit(index, "seed", clean, STRICT, NONE, unaudited=True, trained_on=["seed_iv"])
    assert found.verdict == f"weights not audited; {SEED_FAMILY}"


def test_a_dataset_of_which_nothing_was_drawn_is_no_doubt(index: pa.Table, clean: Fold) -> None:
    assert audit(index, "seed", clean, STRICT, [{"seed_iv": {}}]).verdict == "clean"
    alone = audit(index, "seed", clean, STRICT, [{"seed": {"04": ["04"]}}])
    assert alone.verdict == "clean"  # of one's own dataset the names decide


def test_not_known_to_be_apart_is_not_contaminated(index: pa.Table, clean: Fold) -> None:
    seen = [{"seed": {"03": ["09"]}, "seed_iv": {"01": ["1-01"]}}]
    found = audit(index, "seed", clean, STRICT, seen)
    assert found.verdict == f"CONTAMINATED: pretraining saw test subjects; {SEED_FAMILY}"
    with pytest.raises(LeakageError, match="subject in pretraining") as raised:
        check(found)
    assert "known to be apart" not in str(raised.value)


@pytest.mark.parametrize("name", datasets.names())
def test_what_one_card_says_of_others_they_say_of_it(name: str) -> None:
    card = datasets.get(name).CARD
    for field in ("people", "clips"):
        shared = getattr(card, field)
        if shared is not None:
            assert name in shared.datasets
            assert len(shared.datasets) > 1
            assert all(getattr(datasets.get(o).CARD, field) == shared for o in shared.datasets)


def test_the_four_of_one_laboratory_name_each_other() -> None:
    family = ("seed", "seed_iv", "seed_v", "seed_vii")
    for name in family:
        people = datasets.get(name).CARD.people
        assert people is not None
        assert people.datasets == family


# One recording under two names -------------------------------------------------------------------


class Noise(ToneSource):
    """Everybody has signals of their own, as people do."""

    def eeg(self, dataset: str, subject: int, stimulus: str, *layout: Any) -> FloatArray:
        channels, sfreq, duration_s, _ = layout
        rng = np.random.default_rng([subject, *f"{dataset}/{stimulus}".encode()])
        return 10 * rng.standard_normal((len(channels), round(sfreq * duration_s)))


def built(raw: Path, name: str, out: Path, **settings: Any) -> CorpusDataset:
    """A dataset's folder as a corpus holds it, made without a cluster."""
    module, recipe = datasets.get(name), EegRecipe(ica="none", **settings)
    digest = build_digest(module.CARD, recipe, rehearsal=True)
    build = Build(name, raw, Storage.at(out / folder_name(name, recipe.stream, digest)), recipe)
    parts = [make_part(build, ref) for ref in module.find(raw).recordings]
    assert not [part.error for part in parts if part.error]
    folder = assemble(build.storage, module.CARD, recipe, parts, rehearsal=True).folder
    (opened,) = open_corpus(out, datasets=[folder]).datasets
    return opened


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AMIGOS of a few people, where one's file lies there once more under another number."""
    raw = tmp_path_factory.mktemp("raw") / "AMIGOS"
    datasets.get("amigos").write_example(raw, Noise(), n_subjects=4, duration_s=12.0)
    (first,) = raw.rglob("*P01.mat")
    shutil.copy(first, first.with_name("Data_Preprocessed_P35.mat"))
    return raw


@pytest.fixture(scope="module")
def doubled(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusDataset:
    return built(copied, "amigos", tmp_path_factory.mktemp("corpus"))


def of_subjects(dataset: CorpusDataset, train: str, validation: str, test: str) -> Fold:
    """Each side one subject at a clip of its own."""
    sides = ((train, "4"), (validation, "5"), (test, "9"))
    return fold_of(*(rows(dataset.index, subject=who, stimulus=clip) for who, clip in sides))


def held(dataset: CorpusDataset, fold: Fold, **how: Any) -> Audit:
    signals = dataset.signals(np.arange(len(dataset)))
    return audit(dataset.index, dataset.name, fold, STRICT, NONE, signals=signals, **how)


@pytest.mark.parametrize(("side", "who"), [("train", ("01", "02")), ("validation", ("02", "01"))])
def test_one_persons_file_under_a_second_number_is_found(
    doubled: CorpusDataset, side: str, who: tuple[str, str]
) -> None:
    fold = of_subjects(doubled, *who, "35")
    found = held(doubled, fold)
    assert found_in(found) == {("signal", side): len(fold.test_N)}
    assert found.verdict == "LEAK: same recordings under another name"
    with pytest.raises(LeakageError, match=f"signal in {side}: .*amigos-s35-v1 = amigos-s01-v1"):
        check(found, allow_contaminated=True)
    assert Audit.from_json(found.to_json()) == found


def test_people_with_files_of_their_own_are_no_copies(doubled: CorpusDataset) -> None:
    assert held(doubled, of_subjects(doubled, "02", "03", "35")).verdict == "clean"


def test_a_copy_that_pretraining_saw_is_found(
    doubled: CorpusDataset, copied: Path, tmp_path: Path
) -> None:
    """In the same build by its signals; in one of another recipe by the publisher's file."""
    fold = of_subjects(doubled, "02", "03", "35")
    other = built(copied, "amigos", tmp_path, amplitude="none")
    of_another = rows(other.index, subject="02")
    clean = held(doubled, fold, seen_signals=[other.signals(np.array(of_another))])
    assert clean.verdict == "clean"
    for pretrained in (doubled, other):
        seen = pretrained.signals(np.array(rows(pretrained.index, subject="01")))
        found = held(doubled, fold, seen_signals=[{}, seen])
        assert found_in(found) == {("pretraining signal", "pretraining"): len(fold.test_N)}
        assert found.verdict == "CONTAMINATED: pretraining saw test recordings under another name"
        with pytest.raises(LeakageError, match=r"signal in pretraining: .*s35-v1 = amigos-s01-v1"):
            check(found)
        check(found, allow_contaminated=True)


def test_the_same_signals_in_another_file_are_found(
    doubled: CorpusDataset, copied: Path, tmp_path: Path
) -> None:
    """A byte that no reader looks at makes another file, and the same recording."""
    raw = tmp_path / "AMIGOS"
    shutil.copytree(copied, raw)
    (path,) = raw.rglob("*P35.mat")
    path.write_bytes(b"Another header text" + path.read_bytes()[19:])
    other = built(raw, "amigos", tmp_path / "corpus")
    found = held(other, of_subjects(other, "01", "02", "35"))
    assert found.verdict == "LEAK: same recordings under another name"


@pytest.mark.parametrize("name", ["dreamer", "seed_vii"])
def test_a_file_that_holds_several_recordings_makes_none_of_them_a_copy(
    name: str, tmp_path: Path
) -> None:
    """DREAMER.mat holds everybody; a file of SEED-VII all four visits of a person."""
    raw = tmp_path / name
    datasets.get(name).write_example(raw, Noise(), n_subjects=2, duration_s=11.0)
    dataset = built(raw, name, tmp_path / "corpus")
    prints = dataset.signals(np.arange(len(dataset)))
    assert len(prints) == {"dreamer": 2, "seed_vii": 8}[name]
    assert len({one for found in prints.values() for one in found}) == sum(
        map(len, prints.values())
    )


# What was fitted before the split ----------------------------------------------------------------


FITS = {
    (("ica", "fastica"), ("amplitude", "robust_z")): "scale and ICA fitted on test recordings too",
    (("ica", "none"), ("amplitude", "robust_z")): "scale fitted on test recordings too",
    (("ica", "fastica"), ("amplitude", "none")): "ICA fitted on test recordings too",
    (("ica", "none"), ("amplitude", "none")): "",
}


@pytest.mark.parametrize("recipe", FITS, ids=str)
def test_a_split_within_recordings_says_what_was_fitted_on_them(
    recipe: tuple[tuple[str, str], ...],
) -> None:
    """SEED-V's paper split: presentations 10 to 14 of every session are tested on."""
    index = index_table(published("seed_v", 3))
    protocol = PROTOCOLS["paper_same_subjects"]
    (fold,) = folds(protocol.name, "seed_v", index)
    fitted = Fitted.by(dict(recipe))
    found = audit(index, "seed_v", fold, protocol, NONE, fitted=fitted)
    assert found.verdict == "; ".join(filter(None, ["same subjects", FITS[recipe]]))
    check(found)
    assert Audit.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_recordings_apart_fit_nothing_on_test_segments(index: pa.Table) -> None:
    fitted = Fitted.by(asdict(EegRecipe()))
    assert fitted == Fitted(recordings=("scale", "ICA"))
    for name in ("paper_same_subjects_same_stimuli", "subjects_and_stimuli_apart"):
        for fold in folds(name, "seed", index):
            found = audit(index, "seed", fold, PROTOCOLS[name], NONE, fitted=fitted)
            assert "fitted" not in found.verdict, name
    (fold, *_) = folds("stimuli_apart_same_subjects", "seed", index)
    cut = audit(index, "seed", fold, PROTOCOLS["stimuli_apart_same_subjects"], NONE, fitted=fitted)
    assert cut.verdict == "same subjects; scale and ICA fitted on test recordings too"


def test_a_scale_of_each_presentation_matters_where_presentations_are_cut(index: pa.Table) -> None:
    fitted = Fitted.by({**asdict(EegRecipe()), "scale_scope": "presentation"})
    assert fitted == Fitted(recordings=("ICA",), presentations=("scale",))
    said = {}
    for name in ("stimuli_apart_same_subjects", RANDOM):
        fold = folds(name, "seed", index)[0]
        said[name] = audit(index, "seed", fold, PROTOCOLS[name], NONE, fitted=fitted).verdict
    assert said["stimuli_apart_same_subjects"].endswith("; ICA fitted on test recordings too")
    assert said[RANDOM].endswith(
        "; ICA fitted on test recordings too; scale fitted on test presentations too"
    )


def test_a_scale_of_a_person_matters_wherever_a_person_is_on_both_sides(index: pa.Table) -> None:
    recipe = {**asdict(EegRecipe()), "amplitude": "z", "scale_scope": "person"}
    fitted = Fitted.by(recipe)
    assert fitted == Fitted(recordings=("ICA",), people=("scale",))
    ecg = asdict(EcgRecipe())
    assert Fitted.by(recipe, ecg) == Fitted(recordings=("ICA", "scale"), people=("scale",))
    people = "scale fitted on test people too"
    said = {}
    for name in (
        "stimuli_apart_same_subjects",
        "paper_same_subjects_same_stimuli",
        "subjects_and_stimuli_apart",
    ):
        fold = folds(name, "seed", index)[0]
        found = audit(index, "seed", fold, PROTOCOLS[name], NONE, fitted=fitted)
        assert Audit.from_json(json.loads(json.dumps(found.to_json()))) == found
        said[name] = found.verdict
    assert said["stimuli_apart_same_subjects"].endswith(
        f"; {people}; ICA fitted on test recordings too"
    )
    # Sessions apart: no recording is on both sides, but its person is.
    assert said["paper_same_subjects_same_stimuli"].endswith(f"; {people}")
    assert "fitted" not in said["subjects_and_stimuli_apart"]


SIDES = pytestSIDES = pytest.mark.parametrize("side", ["train", "validation"])


@SIDES
def test_a_segment_on_both_sides(index: pa.Table, clean: Fold, side: str) -> None:
    test = clean.test_N.tolist()
    found = audit(index, "seed", moved(clean, side, test[4:6]), PROTOCOLS[RANDOM], NONE)
    assert found_in(found)["segment", side] == 2
    assert found.verdict == "LEAK: same segments; same presentations, same subjects, same stimuli"
    with pytest.raises(
        LeakageError,
        match=rf"segment in {side}: 2 test segments \(such as recording seed-s03-v1 presentation 2 "
        rf"segment 4, recording seed-s03-v1 presentation 2 segment 5\)$",
    ):
        check(found, allow_contaminated=True)


def test_a_segment_that_is_twice_in_the_index(index: pa.Table, clean: Fold) -> None:
    """Another row of the same name is the same segment, and no neighbour of itself."""
    one = fold_of(clean.train_N.tolist(), clean.val_N.tolist(), clean.test_N[:1].tolist())
    twice = pa.concat_tables([index, index.take(pa.array(one.test_N))])
    copied = moved(one, "train", [index.num_rows])
    found = found_in(audit(twice, "seed", copied, STRICT, NONE))
    assert found["segment", "train"] == 1
    assert ("neighbour", "train") not in found


@SIDES
def test_a_neighbour_of_the_same_presentation(index: pa.Table, clean: Fold, side: str) -> None:
    """One segment of a presentation trains: all others of it are its neighbours."""
    first, *rest = rows(index, recording="seed-s03-v2", stimulus="03")
    fold = moved(replace(clean, test_N=np.array(rest)), side, [first])
    protocol = PROTOCOLS["paper_same_subjects_same_stimuli"]
    found = audit(index, "seed", fold, protocol, NONE)
    assert found_in(found)["neighbour", side] == len(rest) == 40
    assert ("segment", side) not in found_in(found)
    assert found.verdict == "LEAK: same presentations; same subjects, same stimuli"
    with pytest.raises(
        LeakageError,
        match=rf"got neighbour in {side}: 40 test segments "
        r"\(such as recording seed-s03-v2 presentation 2\)$",
    ):
        check(found)


def test_another_visit_is_no_neighbour(index: pa.Table, clean: Fold) -> None:
    """The same subject sees the same stimulus again: same subject and stimulus, no more."""
    test = rows(index, recording="seed-s03-v1", stimulus="03")
    train = rows(index, recording="seed-s03-v2", stimulus="03")
    found = audit(index, "seed", fold_of(train, clean.val_N.tolist(), test), STRICT, NONE)
    assert set(found_in(found)) == {("subject", "train"), ("stimulus", "train")}


@SIDES
def test_a_subject_on_both_sides(index: pa.Table, clean: Fold, side: str) -> None:
    extra = rows(index, subject="03", stimulus="05")
    found = audit(index, "seed", moved(clean, side, extra), STRICT, NONE)
    assert found_in(found) == {("subject", side): len(clean.test_N)}
    assert found.leaks[0].examples == ("subject 03",)
    assert found.verdict == "LEAK: same subjects"
    with pytest.raises(LeakageError, match=rf"got subject in {side}: 123 test segments \(such as"):
        check(found)
    admitting = PROTOCOLS["stimuli_apart_same_subjects"]
    admitted = audit(index, "seed", moved(clean, side, extra), admitting, NONE)
    assert admitted.verdict == "same subjects"
    check(admitted)


@SIDES
def test_a_stimulus_on_both_sides(index: pa.Table, clean: Fold, side: str) -> None:
    extra = rows(index, subject="05", stimulus="03")
    found = audit(index, "seed", moved(clean, side, extra), STRICT, NONE)
    assert found_in(found) == {("stimulus", side): len(clean.test_N)}
    assert found.verdict == "LEAK: same stimuli"
    with pytest.raises(LeakageError, match=rf"stimulus in {side}: .*such as stimulus 03\)$"):
        check(found)
    admitting = PROTOCOLS["subjects_apart_same_stimuli"]
    check(audit(index, "seed", moved(clean, side, extra), admitting, NONE))


def test_all_that_is_not_admitted_is_named_at_once(index: pa.Table, clean: Fold) -> None:
    fold = moved(clean, "train", rows(index, subject="03", stimulus="05"))
    fold = moved(fold, "validation", rows(index, subject="05", stimulus="03"))
    found = audit(index, "seed", fold, STRICT, [{"seed": {"06": ["03"]}}])
    assert found.verdict == (
        "LEAK: same subjects, same stimuli; CONTAMINATED: pretraining saw test stimuli"
    )
    with pytest.raises(LeakageError) as raised:
        check(found)
    for part in ("subject in train", "stimulus in validation", "stimulus in pretraining"):
        assert part in str(raised.value)


def test_a_pretraining_that_holds_a_test_subject(index: pa.Table, clean: Fold) -> None:
    fold = fold_of(
        clean.train_N.tolist(),
        clean.val_N.tolist(),
        [*clean.test_N.tolist(), *rows(index, subject="04", stimulus="04")],
    )
    found = audit(index, "seed", fold, STRICT, [{"seed": {"06": ["06"]}}, {"seed": {"03": ["09"]}}])
    assert found_in(found) == {("pretraining subject", "pretraining"): 123}
    assert found.leaks[0].examples == ("subject 03",)
    assert found.verdict == "CONTAMINATED: pretraining saw test subjects"
    with pytest.raises(LeakageError, match=r"subject in pretraining: 123 test segments \(such as"):
        check(found)
    check(found, allow_contaminated=True)


def test_a_pretraining_that_saw_a_test_stimulus(index: pa.Table, clean: Fold) -> None:
    found = audit(index, "seed", clean, STRICT, [{"seed": {"05": ["07", "03"]}}])
    assert found_in(found) == {("pretraining stimulus", "pretraining"): 123}
    assert found.verdict == "CONTAMINATED: pretraining saw test stimuli"
    with pytest.raises(LeakageError, match=r"stimulus in pretraining: .*such as stimulus 03\)$"):
        check(found)


def test_a_pretraining_that_saw_the_test_subject_at_the_test_stimulus(
    index: pa.Table, clean: Fold
) -> None:
    apart = [{"seed": {"03": ["09"], "05": ["03"]}}]  # both are known, not with each other
    assert ("pretraining segment", "pretraining") not in found_in(
        audit(index, "seed", clean, STRICT, apart)
    )
    found = audit(index, "seed", clean, STRICT, [{"seed": {"03": ["03"]}}])
    assert {leak.kind for leak in found.leaks} == {
        "pretraining segment",
        "pretraining subject",
        "pretraining stimulus",
    }
    assert found.leaks[0].examples == ("subject 03 stimulus 03",)
    with pytest.raises(LeakageError, match="segment in pretraining: 123 test segments"):
        check(found)


def test_no_protocol_admits_what_pretraining_saw(index: pa.Table) -> None:
    for name in (*protocols_of("seed"), RANDOM):
        fold = folds(name, "seed", index)[0]
        seen = [{"seed": {"nobody": ["01", "02", "03", "04", "05"]}}]
        found = audit(index, "seed", fold, PROTOCOLS[name], seen)
        assert found.verdict.startswith("CONTAMINATED: pretraining saw test stimuli")
        with pytest.raises(LeakageError, match="stimulus in pretraining"):
            check(found)
        check(found, allow_contaminated=True)


def test_allowing_contamination_allows_no_other_leak(index: pa.Table, clean: Fold) -> None:
    fold = moved(clean, "train", rows(index, subject="03", stimulus="05"))
    found = audit(index, "seed", fold, STRICT, [{"seed": {"03": ["05"]}}])
    with pytest.raises(LeakageError, match="got subject in train: 123") as raised:
        check(found, allow_contaminated=True)
    assert "pretraining" not in str(raised.value)


def test_three_examples_in_the_order_of_names(index: pa.Table) -> None:
    (fold,) = folds("paper_same_subjects_same_stimuli", "seed", index)
    other, order = shuffled(index, np.random.default_rng(0))
    place = np.argsort(order)
    mixed = fold_of(*(place[side].tolist() for side in (fold.train_N, fold.val_N, fold.test_N)))
    one, two = (audit(i, "seed", f, STRICT, NONE) for i, f in ((index, fold), (other, mixed)))
    assert one == two
    assert one.leaks[0].examples == ("subject 01", "subject 02", "subject 03")


@pytest.mark.parametrize("dataset", ["faced", "seed", "seed_v"])
@pytest.mark.parametrize("n_subjects", [3, 7])
def test_every_protocol_admits_what_it_mixes_and_no_more(dataset: str, n_subjects: int) -> None:
    index = index_table(published(dataset, n_subjects), rehearsal=True)
    verdicts = {}
    for name in (*protocols_of(dataset), RANDOM):
        for fold in folds(name, dataset, index):
            found = audit(index, dataset, fold, PROTOCOLS[name], NONE)
            check(found)
            assert {leak.kind for leak in found.leaks} == PROTOCOLS[name].mixes
            verdicts[name] = found.verdict
    assert verdicts["subjects_and_stimuli_apart"] == "clean"
    assert verdicts["stimuli_apart_same_subjects"] == "same subjects"
    assert verdicts[RANDOM] == "same presentations, same subjects, same stimuli"
    expected = {
        "faced": "same stimuli",
        "seed": "same subjects, same stimuli",
        "seed_v": "same subjects",
    }
    assert verdicts[paper_protocol(dataset)] == expected[dataset]


SMALL = index_table(thinned(published("seed", 3), np.random.default_rng(0)))
NAMES = {
    "segment": ("recording", "presentation", "segment"),
    "subject": ("subject",),
    "stimulus": ("stimulus",),
}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_counts_are_those_of_plain_loops(seed: int, n: int) -> None:
    """Any rows on any side, overlapping or not."""
    rng = np.random.default_rng(seed)
    train, val, test = (sorted(rng.integers(0, SMALL.num_rows, n).tolist()) for _ in range(3))
    found = found_in(audit(SMALL, "seed", fold_of(train, val, test), STRICT, NONE))
    table = SMALL.to_pylist()
    for where, other in (("train", train), ("validation", val)):
        for kind, columns in NAMES.items():
            known = {tuple(table[row][c] for c in columns) for row in other}
            shared = [row for row in test if tuple(table[row][c] for c in columns) in known]
            assert found.get((kind, where), 0) == len(shared)
        neighbours = [row for row in test if any(is_neighbour(table, row, o) for o in other)]
        assert found.get(("neighbour", where), 0) == len(neighbours)


def is_neighbour(table: list[dict[str, object]], one: int, other: int) -> bool:
    a, b = table[one], table[other]
    same = (a["recording"], a["presentation"]) == (b["recording"], b["presentation"])
    return same and a["segment"] != b["segment"]


def test_an_audit_of_full_size_takes_no_time() -> None:
    """117,744 segments: 0.02 s of one core where this was written, so that a second is ample."""
    index = index_table(published("seed_v"))
    (fold,) = folds("paper_same_subjects", "seed_v", index)
    everyone = {
        f"{s:02d}": [f"{v}-{k:02d}" for v in "123" for k in range(1, 16)] for s in range(17)
    }
    began = time.process_time()
    found = audit(index, "seed_v", fold, PROTOCOLS["paper_same_subjects"], [{"seed_v": everyone}])
    assert time.process_time() - began < 1
    assert found_in(found)["pretraining segment", "pretraining"] == 40_352


def test_an_audit_survives_json(index: pa.Table, clean: Fold) -> None:
    found = audit(index, "seed", clean, PROTOCOLS[RANDOM], [{"seed": {"03": ["03"]}}])
    plain = found.to_json()
    assert plain["verdict"] == found.verdict
    assert Audit.from_json(json.loads(json.dumps(plain))) == found


def test_the_verdict_is_worked_out_not_believed() -> None:
    leak = Leak("subject", "train", 3, ("subject 01",))
    plain = Audit((leak,), ()).to_json() | {"verdict": "clean"}
    assert Audit.from_json(plain).verdict == "LEAK: same subjects"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"leaks": None}, "leaks"),
        ({"leaks": [{"kind": "subject"}]}, r"leaks\[0\]\.where"),
        ({"fitted": "all"}, "fitted"),
    ],
)
def test_what_is_no_audit_is_refused(broken: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Audit.from_json({**Audit((), ()).to_json(), **broken})
    with pytest.raises(ValueError, match="need an audit with leaks, admitted, unaudited"):
        Audit.from_json({})


def test_the_index_of_another_dataset_is_refused(index: pa.Table, clean: Fold) -> None:
    """Otherwise what pretraining saw would be looked up under the wrong name."""
    with pytest.raises(ValueError, match="need an index of seed_v, got one of seed"):
        audit(index, "seed_v", clean, STRICT, NONE)

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray import datasets
from emoray.corpus.manifest import (
    INDEX_FIELDS,
    Manifest,
    build_digest,
    folder_name,
    index_digest,
    parse_folder,
)
from emoray.signals import EcgRecipe, EegRecipe, Recipe
from emoray.signals.amplitude import Affine
from emoray.vocabulary.schema import Card, DataError
from tests.corpus.made import make_dataset

CARD = datasets.get("dreamer").CARD
RECIPE = EegRecipe()


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    assert Manifest.from_json(manifest.to_json(), where="here") == manifest
    assert manifest.n_segments == 15
    assert manifest.counts == {"00": 5, "01": 5, "02": 5}
    assert manifest.packages["numpy"]


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    text = replace(make_dataset(tmp_path), format_version=99).to_json()
    with pytest.raises(DataError, match=r"m\.json: need corpus format 2, got 99; build it again"):
        Manifest.from_json(text, where="m.json")


def test_a_person_s_scale_survives_the_manifest(tmp_path: Path) -> None:
    affine = {"a.arrow": Affine((1.5, 2.0), (0.25, 1 / 3))}
    manifest = replace(make_dataset(tmp_path), affine=affine)
    assert Manifest.from_json(manifest.to_json(), where="here") == manifest
    assert "affine" not in make_dataset(tmp_path).to_json()


def test_a_manifest_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    text = make_dataset(tmp_path).to_json()
    with pytest.raises(DataError, match=r"m\.json: need a manifest in JSON"):
        Manifest.from_json(text[:100], where="m.json")
    lacking = json.loads(text)
    del lacking["shards"]
    with pytest.raises(DataError, match=r"m\.json: need the fields shards"):
        Manifest.from_json(json.dumps(lacking), where="m.json")


def _address(card: Card = CARD, recipe: Recipe = RECIPE, *, rehearsal: bool = False) -> str:
    return build_digest(card, recipe, rehearsal=rehearsal)


def test_an_address_covers_stream_card_recipe_reader_and_rehearsal() -> None:
    assert CARD.eeg is not None
    others = {
        _address(replace(CARD, eeg=replace(CARD.eeg, sfreq_paper=64.0))),
        _address(replace(CARD, reader_version=2)),
        _address(recipe=replace(RECIPE, band_low_hz=0.5)),
        _address(recipe=EcgRecipe()),
        _address(rehearsal=True),
    }
    assert len(others | {_address()}) == 6
    assert _address() == _address()


def test_what_a_card_says_of_the_other_stream_changes_no_address() -> None:
    assert CARD.ecg is not None
    other = replace(CARD, ecg=replace(CARD.ecg, sfreq=512.0))
    assert _address(other) == _address(replace(CARD, ecg=None)) == _address()
    assert _address(other, EcgRecipe()) != _address(CARD, EcgRecipe())


def test_a_card_s_prose_changes_no_address() -> None:
    assert _address(replace(CARD, notes="other", reference="other", title="other")) == _address()


@dataclass(frozen=True, slots=True)
class LaterCard(Card):
    altitude_m: float = 0.0
    sites: tuple[str, ...] = ()


@dataclass(frozen=True)
class LaterRecipe(EegRecipe):
    notch_hz: float | None = None
    more: dict[str, int] = field(default_factory=dict)


def test_a_new_field_changes_the_address_of_those_alone_that_use_it() -> None:
    card = LaterCard(**{f.name: getattr(CARD, f.name) for f in fields(CARD)})
    assert _address(card, LaterRecipe()) == _address()
    assert _address(replace(card, altitude_m=3.0)) != _address()
    assert _address(recipe=LaterRecipe(notch_hz=50.0)) != _address()
    assert _address(recipe=LaterRecipe(more={"a": 1})) != _address()


@pytest.mark.parametrize(
    ("recipe", "address"),
    [
        (EcgRecipe(), "02cd86ffea3f"),
        (EcgRecipe(highpass_hz=1.0, segment_s=5.0), "178b0c121dbb"),
        (EegRecipe(), "2e480f8d76a9"),
    ],
)
def test_corpora_that_were_built_before_keep_their_address(recipe: Recipe, address: str) -> None:
    """Addresses of rehearsal data of DREAMER, from before an ECG had rate, filter or person."""
    assert _address(recipe=recipe, rehearsal=True) == address


def test_a_default_that_changes_is_told_by_the_recipe_s_version() -> None:
    class Raised(EegRecipe):
        version = 2

    assert _address(recipe=Raised()) != _address()


def test_a_folder_s_name_reads_back() -> None:
    name = folder_name("seed_iv", "ecg", "0123456789ab")
    assert parse_folder(name) == ("seed_iv", "ecg", "0123456789ab")
    for other in ("seed_iv-0123456789ab", "seed_iv-emg-0123456789ab", "seed-eeg-01", "runs"):
        assert parse_folder(other) is None


def _index(**columns: list[object]) -> pa.Table:
    n = len(next(iter(columns.values())))
    zero = {pa.string(): "", pa.bool_(): False, pa.float64(): 0.0, pa.int32(): 0}
    rows = {name: pa.array([zero[kind]] * n, kind) for name, kind in INDEX_FIELDS}
    kinds = dict(INDEX_FIELDS)
    return pa.table(rows | {k: pa.array(v, kinds[k]) for k, v in columns.items()})


def test_an_index_digest_knows_no_paths_and_no_chunks() -> None:
    index = _index(subject=["1", "2"], shard=["a", "b"])
    elsewhere = _index(subject=["1", "2"], shard=["c", "d"])
    pieces = pa.concat_tables([index.slice(0, 1), index.slice(1, 1)])
    assert index_digest(index) == index_digest(elsewhere) == index_digest(pieces)


@settings(max_examples=30, deadline=None)
@given(
    before=st.lists(st.text(max_size=3), min_size=1, max_size=4),
    after=st.lists(st.text(max_size=3), min_size=1, max_size=4),
)
def test_an_index_digest_tells_subjects_apart(before: list[str], after: list[str]) -> None:
    same = index_digest(_index(subject=list(before))) == index_digest(_index(subject=list(after)))
    assert same == (before == after)


@pytest.mark.parametrize(
    "change", [{"valence": [0.1]}, {"label": [1]}, {"segment": [1]}, {"arousal": [float("nan")]}]
)
def test_an_index_digest_changes_with_what_decides(change: dict[str, list[object]]) -> None:
    assert index_digest(_index(**change)) != index_digest(_index(subject=[""]))

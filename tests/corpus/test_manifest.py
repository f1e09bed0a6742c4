from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray import datasets
from emoray.corpus.manifest import INDEX_FIELDS, Manifest, build_digest, index_digest
from emoray.signals import EegRecipe
from emoray.vocabulary.schema import DataError
from tests.corpus.made import make_dataset

CARD = datasets.get("dreamer").CARD
RECIPE = asdict(EegRecipe())


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path)
    assert Manifest.from_json(manifest.to_json(), where="here") == manifest
    assert manifest.n_segments == 15
    assert manifest.counts == {"00": 5, "01": 5, "02": 5}
    assert manifest.packages["numpy"]


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    text = replace(make_dataset(tmp_path), format_version=99).to_json()
    with pytest.raises(DataError, match=r"m\.json: need corpus format 1, got 99; build it again"):
        Manifest.from_json(text, where="m.json")


def test_a_manifest_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    text = make_dataset(tmp_path).to_json()
    with pytest.raises(DataError, match=r"m\.json: need a manifest in JSON"):
        Manifest.from_json(text[:100], where="m.json")
    lacking = json.loads(text)
    del lacking["shards"]
    with pytest.raises(DataError, match=r"m\.json: need the fields shards"):
        Manifest.from_json(json.dumps(lacking), where="m.json")


def test_an_address_covers_card_recipe_reader_and_rehearsal() -> None:
    address = build_digest(CARD, RECIPE, rehearsal=False)
    others = {
        build_digest(replace(CARD, sfreq_paper=64.0), RECIPE, rehearsal=False),
        build_digest(replace(CARD, reader_version=2), RECIPE, rehearsal=False),
        build_digest(CARD, {**RECIPE, "band_low_hz": 0.5}, rehearsal=False),
        build_digest(CARD, RECIPE, rehearsal=True),
    }
    assert len(others | {address}) == 5
    assert address == build_digest(CARD, RECIPE, rehearsal=False)


def test_a_card_s_prose_changes_no_address() -> None:
    reworded = replace(CARD, notes="other", reference="other", title="other")
    assert build_digest(reworded, RECIPE, rehearsal=False) == build_digest(
        CARD, RECIPE, rehearsal=False
    )


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

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

import emoray
from emoray.evaluation.metrics import METRICS
from emoray.results.store import (
    KEY_PARTS,
    ResultRow,
    ResultStore,
    key_of,
)
from emoray.runtime.code import source_version
from emoray.runtime.storage import Storage
from emoray.training.execute import Decided, code_of
from emoray.vocabulary.schema import DataError
from tests.rows import CONFUSION, fields, made_row, scores, text_of

REPO = Path(__file__).parents[2]

ASKED: dict[str, Any] = {
    "method": "emod",
    "stage": "finetune",
    "config": {"optimizer": {"learning_rate": 5e-4}, "epochs": 3},
    "builds": {"faced-eeg-0d9cf00c654e": "0123"},
    "target": {"kind": "classes"},
    "protocol": "paper_same_stimuli",
    "fold": "0",
    "seed": 0,
    "starts": {"encoder": {"run": "ab12", "step": 8}},
    "chosen_by": "kappa",
    "code": "0.1.0+0123456789ab",
}
OTHERS: dict[str, list[Any]] = {
    "method": ["baselines"],
    "stage": ["train"],
    "config": [
        {},
        {"optimizer": {"learning_rate": 4e-4}, "epochs": 3},
        {"optimizer": {"learning_rate": 5e-4}, "epochs": 3, "head": None},
    ],
    "builds": [
        {"faced-eeg-0d9cf00c654f": "0123"},
        {"faced-eeg-0d9cf00c654e": "0124"},
        {"faced-eeg-0d9cf00c654e": "0123", "faced-ecg-0d9cf00c654e": "0123"},
    ],
    "target": [
        {"kind": "cut", "rating": "valence", "above": 5.0},
        {"kind": "cut", "rating": "arousal", "above": 5.0},
        {"kind": "cut", "rating": "valence", "above": 4.0},
    ],
    "protocol": ["stimuli_apart_same_subjects"],
    "fold": ["1"],
    "seed": [1],
    "starts": [
        {},
        {"encoder": {"run": "ab13", "step": 8}},
        {"encoder": {"run": "ab12", "step": 9}},
        {"teacher": {"run": "ab12", "step": 8}},
        {"encoder": {"run": "ab12", "step": 8, "config": {"epochs": 2}, "starts": {}}},
    ],
    "chosen_by": ["auc"],
    "code": ["0.1.0+0123456789ac"],
}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def file_of(store: ResultStore, key: str) -> Path:
    return Path(store.storage.path(f"rows/{key}.json"))


def put(store: ResultStore, key: str, content: str) -> Path:
    path = file_of(store, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


# Keys ---------------------------------------------------------------------------------------------


def test_a_key_changes_with_each_part() -> None:
    assert set(OTHERS) == set(ASKED) == set(KEY_PARTS)
    keys = [key_of(**ASKED)]
    keys += [key_of(**{**ASKED, part: other}) for part, all_ in OTHERS.items() for other in all_]
    assert len(set(keys)) == len(keys) == 22
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


def test_a_key_tells_apart_what_lies_in_neighbouring_parts() -> None:
    assert key_of(**{**ASKED, "method": "a", "stage": "bc"}) != key_of(
        **{**ASKED, "method": "ab", "stage": "c"}
    )
    assert key_of(**{**ASKED, "fold": "1", "seed": 0}) != key_of(
        **{**ASKED, "fold": "0", "seed": 1}
    )


def test_a_key_does_not_change_with_the_order_of_settings_or_lists_for_tuples() -> None:
    turned = {"epochs": 3, "optimizer": {"learning_rate": 0.0005}}
    assert key_of(**{**ASKED, "config": turned}) == key_of(**ASKED)
    a, b = ({"sizes": sizes} for sizes in ((1, 2), [1, 2]))
    assert key_of(**{**ASKED, "config": a}) == key_of(**{**ASKED, "config": b})


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_key_is_the_same_in_every_process(hash_seed: str) -> None:
    """And in every version: rows of earlier tables would not be found again."""
    program = f"from emoray.results.store import key_of; print(key_of(**{ASKED!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPO,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == key_of(**ASKED) == "501e3b5004963d1aa42e224868129b82"


@pytest.mark.parametrize("value", [math.nan, {1, 2}, object()])
def test_a_key_is_made_of_plain_data(value: object) -> None:
    with pytest.raises(ValueError, match=r"need .* for config\.epochs"):
        key_of(**{**ASKED, "config": {"epochs": value}})


def test_a_key_has_all_parts_and_no_other() -> None:
    short = {name: part for name, part in ASKED.items() if name != "starts"}
    for parts in (short, {**ASKED, "device": "cpu"}):
        with pytest.raises(ValueError, match=r"need method, stage, .* for a key, got builds, "):
            key_of(**parts)


def test_whom_a_run_must_not_see_is_part_of_its_key_and_nobody_is_none() -> None:
    assert key_of(**ASKED, held_out={}) == key_of(**ASKED)
    assert key_of(**ASKED, held_out={"deap": ["01"]}) != key_of(**ASKED)


def test_what_came_out_is_no_part_of_the_key() -> None:
    came_out = {
        "confusion": ((1, 1), (0, 2)),
        "n_train": 7,
        "n_val": 8,
        "val_score": -0.5,
        "best_epoch": 0,
        "n_epochs": 1,
        "curves": {},
        "audit": {"verdict": "clean"},
        "n_parameters": 5,
        "n_head_parameters": 0,
        "seconds": 0.0,
        "segments_per_s": 0.0,
        "waiting": 1.0,
        "device": "cuda",
        "machine": {},
        "rehearsal": True,
        "finished": "2026-01-02T03:04:06Z",
        "dataset": "seed",
    }
    other = made_row(**came_out)
    assert other.key == made_row().key
    unchanged = {name for name in fields() if getattr(other, name) == getattr(made_row(), name)}
    assert unchanged == {"key", *KEY_PARTS}


# Rows ---------------------------------------------------------------------------------------------


def test_a_row_reads_back_as_it_was() -> None:
    row = made_row(
        config={"bands": (1.0, 4.0), "rate": 1e-7, "k": None}, starts={"encoder": {"run": "ab"}}
    )
    assert ResultRow.from_json(row.to_json()) == row
    assert row.config["bands"] == [1.0, 4.0]
    assert row.curves["train_loss"] == (1.1, 0.9, 0.8)
    assert row.metric("bacc") == row.scores["bacc"] == pytest.approx((0.8 + 0.7 + 0.7) / 3)
    assert row.metric("auc") is None
    assert row.verdict == "same stimuli"


def test_a_row_tells_the_settings_of_every_stage_that_it_descends_from() -> None:
    teacher = {"run": "ab", "step": 8, "config": {"temperature": 0.05}, "starts": {}}
    student = {"run": "cd", "step": 4, "config": {"epochs": 2}, "starts": {"teacher": teacher}}
    starts = {"student": student, "teacher": teacher, "published": {"digest": "ef"}}
    row = made_row(starts=starts)
    assert ResultRow.from_json(row.to_json()).lineage == {
        "student": {"epochs": 2},
        "student.teacher": {"temperature": 0.05},
        "teacher": {"temperature": 0.05},
    }
    assert made_row().lineage == {}


KAPPA = scores(CONFUSION)["kappa"]


def changed(**changes: Any) -> dict[str, Any]:
    return {**fields(), **changes}


def scored(**others: float) -> dict[str, Any]:
    """A change of some scores."""
    return {"scores": {**fields()["scores"], **others}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            scored(bacc=0.8),
            r"need scores\.bacc to be 0\.7333.*, as its confusion matrix says, got 0\.8",
        ),
        (
            scored(kappa=scores(CONFUSION)["kappa"] + 2e-9),
            r"scores\.kappa to be 0\.6.*confusion matrix",
        ),
        (scored(wf1=0.0), r"need scores\.wf1 to be 0\.7.*confusion matrix"),
        (scored(acc=0.0), r"need scores\.acc to be 0\.7.*confusion matrix"),
        (scored(f1=0.0), r"need scores\.f1 to be 0\.7.*confusion matrix"),
        (scored(auc=1.1), r"need scores\.auc to be from 0 to 1, got 1\.1"),
        (scored(auc=-0.1), r"need scores\.auc to be from 0 to 1, got -0\.1"),
        (scored(mcc=0.5), r"need a metric among bacc, .*, auc; got 'mcc'"),
        (scored(auc=math.nan), r"finite number for scores\.auc"),
        ({"target": {"kind": "cut", "rating": "valence"}}, "need kind, rating, above in a target"),
        ({"chosen_by": "loss"}, "need a metric among .*; got 'loss'"),
        ({"n_test": 31}, "need confusion to be counts of 31 test segments"),
        ({"confusion": ((8, 1), (2, 7))}, r"need confusion to be 3 x 3, got \[2, 2\]"),
        ({"confusion": ((8, 1, 1), (2, 7), (0, 3, 7))}, r"need confusion to be 3 x 3"),
        ({"confusion": ((8, 2, 0), (2, 9, -1), (0, 3, 7))}, "counts of 30 test segments"),
        ({"n_classes": 4}, "need confusion to be 4 x 4"),
        ({"key": "0" * 32}, "need key to be [0-9a-f]{32}, which its parts give, got '0000"),
        ({"seed": 1}, "need key to be"),
        ({"seconds": math.nan}, "need a finite number for seconds, got nan"),
        ({"seconds": -1.0}, "need seconds to be 0 or more, got -1.0"),
        ({"waiting": 1.5}, "need waiting to be 1 or less, got 1.5"),
        ({"waiting": math.inf}, "need a finite number for waiting, got inf"),
        ({"val_score": -1.1}, "need val_score to be from -1 to 1, got -1.1"),
        ({"val_score": 1.1}, "need val_score to be from -1 to 1, got 1.1"),
        ({"val_score": 0.4}, "need val_score to be 0.5, as its curve in the best epoch, got 0.4"),
        ({"best_epoch": 3}, "need best_epoch to be from 0 to 2, got 3"),
        ({"best_epoch": -1}, "need best_epoch to be from 0 to 2, got -1"),
        ({"curves": {"train_loss": (1.0, 2.0)}}, "need curves.train_loss to be 3 values, got 2"),
        ({"curves": {"loss": (1.0, math.inf, 0.0)}}, r"finite number for curves\.loss\[1\]"),
        ({"machine": {"gpu": {"watts": math.nan}}}, r"finite number for machine\.gpu\.watts"),
        ({"machine": {"path": object()}}, r"need plain data for machine\.path"),
        ({"n_train": 0}, "need n_train to be 1 or more, got 0"),
        ({"n_train": np.int64(3)}, "need plain data for n_train"),
        ({"n_head_parameters": 900_000}, "need n_parameters to be 900000 or more"),
        ({"dataset": ""}, "need dataset to be some text, got ''"),
        ({"audit": {}}, "need audit to be a table with a verdict"),
        ({"finished": "yesterday"}, "need finished to be a time in ISO 8601, got 'yesterday'"),
        ({"finished": "2026-01-02T03:04:05"}, "need finished to be a time in UTC"),
        ({"finished": "2026-01-02T03:04:05+01:00"}, "need finished to be a time in UTC"),
    ],
    ids=lambda x: ",".join(x) if isinstance(x, dict) else "",
)
def test_a_row_that_does_not_hold_together_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ResultRow(**changed(**changes))


confusions = st.integers(2, 5).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 6), min_size=k, max_size=k), min_size=k, max_size=k
    ).filter(lambda rows: sum(map(sum, rows)) > 0)
)


@settings(deadline=None)
@given(confusions)
def test_a_row_of_any_confusion_matrix_has_scikit_learns_scores(confusion: list[list[int]]) -> None:
    row = made_row(confusion)
    assert row.n_test == sum(map(sum, confusion))
    of_confusion = [name for name, metric in METRICS.items() if metric.of_confusion]
    assert set(of_confusion) == set(row.scores)
    for metric, value in row.scores.items():
        off = value - 2e-9 if value > 0.5 else value + 2e-9
        with pytest.raises(ValueError, match=f"need scores.{metric} to be"):
            made_row(confusion, scores={**row.scores, metric: off})


def test_an_area_is_kept_beside_what_the_confusion_matrix_tells() -> None:
    row = made_row(**scored(auc=0.75))
    assert row.metric("auc") == 0.75
    assert ResultRow.from_json(row.to_json()) == row


def test_a_metric_that_came_later_outdates_no_row() -> None:
    known = {name: score for name, score in scores(CONFUSION).items() if name != "acc"}
    row = made_row(scores=known)
    assert ResultRow.from_json(row.to_json()).metric("acc") is None


def test_one_error_among_very_many_segments_is_seen() -> None:
    confusion = ((117_743, 0), (1, 0))
    assert made_row(confusion).n_test == 117_744
    with pytest.raises(ValueError, match=r"need scores\.wf1 to be"):
        made_row(confusion, scores={**scores(confusion), "wf1": 1.0})


# The store ----------------------------------------------------------------------------------------


def test_the_first_row_of_a_key_stays(store: ResultStore) -> None:
    assert store.add(made_row(seconds=1.0))
    assert not store.add(made_row(seconds=2.0))
    again = ResultStore(store.storage)
    assert again.rows() == [made_row(seconds=1.0)]
    assert again.get(made_row().key) == made_row(seconds=1.0)
    assert not again.add(made_row(seconds=2.0))


def test_only_what_is_missing_is_asked_for_in_its_order_and_once(store: ResultStore) -> None:
    rows = [made_row(seed=seed) for seed in range(6)]
    keys = [row.key for row in rows]
    order = [keys[i] for i in (4, 1, 5, 0, 3, 2)]
    assert store.missing(order) == order
    for i in (1, 3):
        store.add(rows[i])
    assert store.missing([*order, *order]) == [keys[i] for i in (4, 5, 0, 2)]
    assert store.missing(iter(order)) == [keys[i] for i in (4, 5, 0, 2)]
    assert store.missing([]) == []
    for i in (4, 5, 0, 2):
        store.add(rows[i])
    assert store.missing(order) == []
    assert store.rows(order) == [rows[i] for i in (4, 1, 5, 0, 3, 2)]
    assert store.rows(iter([keys[2], "0" * 32, keys[1], keys[2]])) == [rows[2], rows[1]]


def test_all_rows_come_in_the_order_in_which_they_were_finished(store: ResultStore) -> None:
    times = ["2026-01-02T03:04:05.5+00:00", "2026-01-02T03:04:05Z", "2025-12-31T23:59:59+00:00"]
    rows = [made_row(seed=i, finished=time) for i, time in enumerate(times)]
    for row in rows:
        store.add(row)
    assert store.rows() == ResultStore(store.storage).rows() == rows[::-1]


def test_a_store_that_nobody_wrote_to_is_empty(store: ResultStore) -> None:
    key = made_row().key
    assert (store.rows(), store.get(key), store.missing([key])) == ([], None, [key])
    assert not Path(store.storage.root).exists()


def test_what_another_writer_added_is_seen(store: ResultStore) -> None:
    key = made_row().key
    assert store.missing([key]) == [key]
    ResultStore(store.storage).add(made_row())
    assert store.missing([key]) == []
    assert store.get(key) == made_row()


def test_a_store_on_a_remote_file_system(tmp_path: Path) -> None:
    storage = Storage(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket")
    store = ResultStore(storage)
    assert store.add(made_row(seconds=1.0))
    assert not ResultStore(storage).add(made_row(seconds=2.0))
    assert ResultStore(storage).rows() == [made_row(seconds=1.0)]


# Files that are no rows ---------------------------------------------------------------------------


def unknown_field(row: dict[str, Any]) -> str:
    return text_of({**row, "score": 1.0})


def missing_field(row: dict[str, Any]) -> str:
    return text_of({name: value for name, value in row.items() if name not in ("scores", "seed")})


def wrong_type(row: dict[str, Any]) -> str:
    return text_of({**row, "rehearsal": 0})


def no_row(row: dict[str, Any]) -> str:
    return text_of([row])  # type: ignore[arg-type]


def other_format(row: dict[str, Any]) -> str:
    return json.dumps({**json.loads(text_of(row)), "format": 1})


def edited(row: dict[str, Any]) -> str:
    return made_row().to_json().replace('"seconds": 12.5', '"seconds": 11.5')


def not_finite(row: dict[str, Any]) -> str:
    return made_row().to_json().replace("12.5", "NaN")


def too_large(row: dict[str, Any]) -> str:
    return made_row().to_json().replace("12.5", "1e999")


def other_scores(row: dict[str, Any]) -> str:
    return text_of({**row, "scores": {**row["scores"], "bacc": 0.9}})


def other_row(row: dict[str, Any]) -> str:
    return made_row(seed=9).to_json()


def truncated(row: dict[str, Any]) -> str:
    return made_row().to_json()[:-1]


def empty(row: dict[str, Any]) -> str:
    return ""


def other_json(row: dict[str, Any]) -> str:
    return json.dumps(row)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unknown_field, "need a field of ResultRow, got 'score'; did you mean scores"),
        (missing_field, "need a value for seed, scores, got none"),
        (wrong_type, r"need true or false for rehearsal, got 0 \(int\)"),
        (no_row, "need a table of ResultRow for a config, got"),
        (other_format, "need a result row of format 3, got 1: another version of emoray wrote it"),
        (edited, "need the row as it was written, got another checksum: it is damaged"),
        (not_finite, "need finite numbers, got NaN"),
        (too_large, "not JSON compliant"),
        (
            other_scores,
            r"need scores\.bacc to be 0\.7333.*, as its confusion matrix says, got 0\.9",
        ),
        (other_row, f"need the row {made_row().key}, got {made_row(seed=9).key}"),
        (truncated, "Expecting"),
        (empty, "Expecting value"),
        (other_json, "need a result row with format, sha256 and row, got something else"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_damaged_file_is_named_and_never_passed_over(
    store: ResultStore, damage: Callable[[dict[str, Any]], str], message: str
) -> None:
    good, key = made_row(seed=1), made_row().key
    store.add(good)
    text = damage(json.loads(made_row().to_json())["row"])
    path = put(store, key, text)
    asking: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.rows(),
        lambda: store.rows([good.key, key]),
        lambda: store.missing([key]),
        lambda: store.add(made_row()),
    ]
    for ask in asking:
        with pytest.raises(DataError, match=message) as caught:
            ask()
        assert str(caught.value).startswith(f"{path}: ")
        assert "without the file its run is done again" in str(caught.value)
    assert path.read_text() == text
    assert store.rows([good.key]) == [good]
    path.unlink()
    assert store.missing([key]) == [key]
    assert store.add(made_row())


def test_a_file_that_is_not_text_is_named(store: ResultStore) -> None:
    path = put(store, made_row().key, "")
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(DataError, match=made_row().key):
        store.rows()


def test_all_damaged_files_are_named_at_once(store: ResultStore) -> None:
    rows = [made_row(seed=seed) for seed in range(4)]
    for row in rows:
        store.add(row)
    for row in rows[1:3]:
        put(ResultStore(store.storage), row.key, "{}")
    with pytest.raises(DataError) as caught:
        ResultStore(store.storage).missing([row.key for row in rows])
    said = str(caught.value).splitlines()
    assert len(said) == 2
    assert {row.key for row in rows[1:3]} == {Path(line.split(":")[0]).stem for line in said}


def test_who_can_do_without_them_gets_the_other_rows_and_hears_of_each_bad_file(
    store: ResultStore,
) -> None:
    rows = [made_row(seed=seed) for seed in range(3)]
    for row in rows[:2]:
        store.add(row)
    paths = [put(store, rows[2].key, "{}"), file_of(store, "notes")]
    paths[1].write_text("")
    found, errors = ResultStore(store.storage).readable()
    assert {row.key for row in found} == {row.key for row in rows[:2]}
    assert [error.partition(":")[0] for error in errors] == [str(path) for path in paths]
    assert ResultStore(store.storage.sub("none")).readable() == ([], [])


@pytest.mark.parametrize("name", ["notes.txt", "abc.json", f"{'0' * 32}.csv", f"{'X' * 32}.json"])
def test_a_file_of_another_kind_is_named(store: ResultStore, name: str) -> None:
    store.add(made_row())
    path = file_of(store, made_row().key).with_name(name)
    path.write_text("")
    with pytest.raises(DataError, match=f"need nothing but result rows in .*, got {path}"):
        store.rows()
    assert store.missing([made_row().key]) == []


def test_hidden_files_are_the_file_systems_own(store: ResultStore) -> None:
    store.add(made_row())
    file_of(store, made_row().key).with_name(".nfs0001").write_text("")
    assert store.rows() == [made_row()]


# The code -----------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources that a test may change."""
    copied = tmp_path / "emoray"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(emoray.__file__).parent, copied, ignore=ignored)
    monkeypatch.setattr(emoray, "__file__", str(copied / "__init__.py"))
    source_version.cache_clear()
    yield copied
    source_version.cache_clear()


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("methods/emod/model.py", True),
        ("methods/classification.py", True),
        ("batches/distributed.py", True),
        ("vocabulary/electrodes.py", True),
        ("batches/plans.py", True),
        ("batches/feeds.py", True),
        ("training/loop.py", True),
        ("training/run.py", True),
        ("training/data.py", True),
        ("training/execute.py", True),
        ("training/driver.py", False),
        ("corpus/catalog.py", True),
        ("corpus/read.py", True),
        ("evaluation/folds.py", True),
        ("evaluation/predict.py", True),
        ("evaluation/metrics.py", True),
        ("evaluation/audit.py", True),
        ("evaluation/doubts.py", True),
        ("corpus/fingerprints.py", True),
        ("datasets/seed.py", True),
        ("datasets/_overlap.py", True),
        ("datasets/deap.py", False),
        ("methods/baselines/model.py", False),
        ("reports/summary.py", False),
        ("training/progress.py", False),
        ("corpus/build/build.py", False),
        ("methods/emod/paper.toml", False),
        ("results/store.py", False),
    ],
)
def test_the_code_of_a_row_is_what_decides_its_numbers(
    package: Path, file: str, decides: bool
) -> None:
    before = code_of("emod", ("seed",), "score")
    path = package / file
    path.write_text(path.read_text() + ("\nMORE = 1\n" if path.suffix == ".py" else "\n"))
    source_version.cache_clear()
    assert (code_of("emod", ("seed",), "score") != before) is decides


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("evaluation/metrics.py", {"score"}),
        ("evaluation/audit.py", {"score"}),
        ("evaluation/folds.py", {"fold", "score"}),
        ("training/loop.py", {"corpus", "fold", "score"}),
    ],
)
def test_what_decides_a_score_or_a_fold_need_not_decide_a_weight(
    package: Path, file: str, decides: set[Decided]
) -> None:
    def codes() -> dict[Decided, str]:
        return {kind: code_of("emod", ("seed",), kind) for kind in get_args(Decided)}

    before = codes()
    with (package / file).open("a") as text:
        text.write("MORE = 1\n")
    source_version.cache_clear()
    assert {kind for kind, code in codes().items() if code != before[kind]} == decides


def test_a_better_sentence_makes_no_row_stale(package: Path) -> None:
    before = code_of("emod", ("seed",), "score")
    path = package / "methods" / "emod" / "model.py"
    text = path.read_text().replace('"""EMOD', '"""More of EMOD', 1) + "\n\n# a remark\n"
    assert text != path.read_text()
    path.write_text(text)
    source_version.cache_clear()
    assert code_of("emod", ("seed",), "score") == before


# Two writers, and a kill --------------------------------------------------------------------------

N_SHARED = 40
N_OWN = 20


def _writer(location: str, number: int, ready: Barrier, said: Any) -> None:
    """Adds rows that the other adds at the same moment, and rows of its own in between."""
    store = ResultStore(location)
    added = []
    for i in range(N_SHARED):
        row = made_row(seed=i, seconds=float(number))
        ready.wait(60)
        if store.add(row):
            added.append(row.key)
        if i < N_OWN:
            assert store.add(made_row(seed=1000 * (number + 1) + i, seconds=float(number)))
    said.put((number, added))


def test_two_processes_that_write_at_once_lose_nothing_and_double_nothing(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    ready, said = context.Barrier(2), context.Queue()
    writers = [
        context.Process(target=_writer, args=(str(tmp_path), number, ready, said))
        for number in range(2)
    ]
    for writer in writers:
        writer.start()
    added: dict[int, list[str]] = dict(said.get(timeout=120) for _ in writers)
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]

    shared = [made_row(seed=i).key for i in range(N_SHARED)]
    assert sorted(added[0] + added[1]) == sorted(shared)  # each key had one first writer
    store = ResultStore(tmp_path)
    for number, keys in added.items():
        assert {row.seconds for row in store.rows(keys)} <= {float(number)}  # and it is his row
    assert len(store.rows()) == N_SHARED + 2 * N_OWN
    assert store.missing(shared) == []
    assert not [path for path in (tmp_path / "rows").iterdir() if ".tmp-" in path.name]


KILLED_AT = """
import os, signal, sys
from emoray.results.store import ResultStore
from tests.rows import made_row

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def write_half(descriptor):
    os.ftruncate(descriptor, 100)
    end()

link = os.link
moments = {
    "writing": ("fsync", write_half),
    "written": ("fsync", end),
    "before its name": ("link", end),
    "after its name": ("link", lambda a, b: (link(a, b), end())),
}
store = ResultStore(sys.argv[1])
store.add(made_row(seed=0))
setattr(os, *moments[sys.argv[2]])
store.add(made_row(seed=1))
"""


@pytest.mark.parametrize(
    ("moment", "is_there"),
    [
        ("writing", False),
        ("written", False),
        ("before its name", False),
        ("after its name", True),
    ],
)
def test_a_writer_killed_at_a_given_moment_leaves_whole_rows_only(
    tmp_path: Path, moment: str, is_there: bool
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_AT, str(tmp_path), moment], cwd=REPO)
    assert done.returncode == -signal.SIGKILL
    rows = [made_row(seed=0), made_row(seed=1)]
    keys = [row.key for row in rows]
    folder = tmp_path / "rows"
    assert len([p for p in folder.iterdir() if ".tmp-" in p.name]) == 1

    store = ResultStore(tmp_path)
    assert store.rows(keys) == (rows if is_there else rows[:1])
    assert store.missing(keys) == ([] if is_there else keys[1:])
    assert store.add(rows[1]) is not is_there
    assert store.rows(keys) == ResultStore(tmp_path).rows(keys) == rows
    assert {path.name for path in folder.iterdir()} == {f"{key}.json" for key in keys}


ENDLESS = """
import itertools, sys
from emoray.results.store import ResultStore
from tests.rows import made_row
store = ResultStore(sys.argv[1])
n = 20_000
curves = {"train_loss": [0.1] * n, "val_kappa": [0.5] * n}
for seed in itertools.count():
    store.add(made_row(seed=seed, n_epochs=n, curves=curves))
    print(seed, flush=True)
"""


def test_writers_killed_at_any_moment_leave_whole_rows_and_the_store_goes_on(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
    for pause_s in (0.0, 0.004, 0.013):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPO) as writer:
            assert writer.stdout is not None
            said = [int(line) for line in itertools.islice(writer.stdout, 4)]
            time.sleep(pause_s)
            writer.send_signal(signal.SIGKILL)
        store = ResultStore(tmp_path)
        seeds = sorted(row.seed for row in store.rows())
        assert seeds == list(range(len(seeds)))
        assert set(said) <= set(seeds)
    store.add(made_row(seed=10**6))
    assert all(path.suffix == ".json" for path in (tmp_path / "rows").iterdir())


def test_the_confusion_matrix_of_the_example_is_not_symmetric() -> None:
    """Rows and columns taken for each other would show."""
    turned = tuple(zip(*CONFUSION, strict=True))
    assert scores(turned) != scores(CONFUSION)
    with pytest.raises(ValueError, match="confusion matrix"):
        ResultRow(**changed(confusion=turned))

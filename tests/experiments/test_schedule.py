"""Many runs on a cluster: what fails is named and leaves the rest, what has ended stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from emoray.corpus.read import open_corpus
from emoray.experiments import schedule
from emoray.experiments.experiment import Origin
from emoray.methods.base import OptimizerConfig
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.config import to_dict
from emoray.training import checkpoint, driver
from emoray.training.driver import Request
from emoray.training.run import FoldRun
from tests.small_experiments import SETTINGS, TINY, reproduction, write_both

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TOO_FAST = 1e30
"""Learning rate after which nothing is finite."""
APART = "subjects_and_stimuli_apart"


@dataclass
class Heard:
    """All that a listener is told; rows with whether a fresh look at the store found them."""

    store: str
    pretrainings: list[tuple[str, bool]] = field(default_factory=list)
    """Name, and whether it had ended."""
    rows: list[tuple[str, ResultRow, ResultRow | None]] = field(default_factory=list)
    """The run's key, the row that was told of, the row that was in the store by then."""
    failures: list[tuple[str, frozenset[str], str]] = field(default_factory=list)
    """What failed, keys of the runs, error."""
    lines: list[str] = field(default_factory=list)

    def pretraining(self, name: str, seconds: float | None) -> None:
        self.pretrainings.append((name, seconds is not None))

    def said(self, line: str) -> None:
        self.lines.append(line)

    def finished(self, run: FoldRun, row: ResultRow) -> None:
        self.rows.append((run.key, row, ResultStore(self.store).get(run.key)))

    def failed(self, what: str, runs: Sequence[FoldRun], error: str) -> None:
        self.failures.append((what, keys(runs), error))


@dataclass
class Scene:
    """Runs of every kind, done at once."""

    corpus: Path
    places: schedule.Places
    good: list[FoldRun]
    diverging: FoldRun
    damaged: FoldRun
    pretrained: list[FoldRun]
    in_vain: list[FoldRun]
    requests: dict[str, Request]
    heard: Heard
    errors: dict[str, str]

    def request(self, run: FoldRun) -> Request:
        return self.requests[run.checkpoint]


def keys(runs: Iterable[FoldRun]) -> frozenset[str]:
    return frozenset(run.key for run in runs)


def run_on(corpus: Path, dataset: str, seed: int, origin: Origin | None = None) -> FoldRun:
    return FoldRun(
        method="emod",
        stage="finetune",
        config=to_dict(replace(TINY, seed=seed)),
        corpus=str(corpus),
        dataset=open_corpus(corpus)[dataset].manifest.folder,
        protocol=APART,
        fold="1_of_3",
        start=None if origin is None else origin.identity,
        checkpoint="" if origin is None else origin.location,
    )


def origin_of(corpus: Path, storage: Path, **settings: object) -> Origin:
    found = reproduction(corpus, storage, set={**SETTINGS, **settings})
    return found.pretraining(found.paper.tables["table_3"].row("EMOD-SoftVA"), "pretrain", 0)


def damage(corpus: Path, dataset: str) -> str:
    """Change a byte of a dataset's signals; returns the shard's name."""
    shard = sorted(corpus.glob(f"{dataset}-*/shards/*.arrow"))[1]
    content = bytearray(shard.read_bytes())
    content[-2000] ^= 1
    shard.write_bytes(content)
    return shard.name


def run_all(runs: list[FoldRun], requests: dict[str, Request], heard: Heard) -> dict[str, str]:
    places = schedule.Places(heard.store, str(Path(heard.store).parent / "runs"))
    return schedule.run_all(runs, requests, places=places, share=schedule.Share(), listen=heard)


@pytest.fixture(scope="module")
def scene(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    storage = tmp_path_factory.mktemp("storage")
    corpus = write_both(storage / "corpus")
    too_fast = replace(TINY, optimizer=OptimizerConfig(learning_rate=TOO_FAST))
    fine = origin_of(corpus, storage)
    vain = origin_of(corpus, storage, **{"pretrain.optimizer.learning_rate": TOO_FAST})
    nobodys = origin_of(corpus, storage, **{"pretrain.loss.d_max": 4.0})
    found = Scene(
        corpus=corpus,
        places=schedule.Places(str(storage / "results"), str(storage / "runs")),
        good=[run_on(corpus, "faced", seed) for seed in (0, 1)],
        diverging=replace(run_on(corpus, "faced", 0), config=to_dict(too_fast)),
        damaged=run_on(corpus, "seed", 0),
        pretrained=[run_on(corpus, "faced", seed, fine) for seed in (0, 1)],
        in_vain=[run_on(corpus, "faced", seed, vain) for seed in (0, 1)],
        requests={o.location: o.request for o in (fine, vain, nobodys) if o.request},
        heard=Heard(str(storage / "results")),
        errors={},
    )
    damage(corpus, "seed")
    everything = [
        *(found.in_vain[0], found.pretrained[0], found.damaged, found.good[0], found.diverging),
        *(found.pretrained[1], found.in_vain[1], found.good[1]),
    ]
    found.errors.update(run_all(everything, found.requests, found.heard))
    return found


def test_all_that_can_run_is_run_whatever_fails_beside_it(scene: Scene) -> None:
    wanted = keys([*scene.good, *scene.pretrained])
    assert {row.key for row in ResultStore(scene.places.store).rows()} == wanted
    for run in scene.good:
        assert (run.start, run.checkpoint) == (None, "")
    for row in ResultStore(scene.places.store).rows(keys(scene.pretrained)):
        assert row.start == scene.pretrained[0].start
        assert row.verdict == "clean"


def test_each_failure_is_named_by_what_it_met(scene: Scene) -> None:
    assert set(scene.errors) == keys([scene.diverging, scene.damaged, *scene.in_vain])
    diverging = f"{scene.diverging.dataset} {APART} 1_of_3 seed 0: FloatingPointError: "
    assert scene.errors[scene.diverging.key].startswith(diverging)
    assert "not finite" in scene.errors[scene.diverging.key]
    assert (
        f"{scene.damaged.dataset} {APART} 1_of_3 seed 0: DataError: "
        in scene.errors[scene.damaged.key]
    )
    assert "need SHA-256" in scene.errors[scene.damaged.key]
    for error in scene.errors.values():
        assert len(error.splitlines()) == 1
        assert "ray::" not in error  # no trace of where Ray passed it on


def test_a_failed_pretraining_fails_the_runs_that_wait_for_it_and_no_other(scene: Scene) -> None:
    name = scene.request(scene.in_vain[0]).name
    (failure,) = [one for one in scene.heard.failures if name in one[0]]
    what, failed, error = failure
    assert (what, failed) == (f"pretraining {name}", keys(scene.in_vain))
    assert error.startswith("RunError: worker 0: FloatingPointError: loss is nan at step")
    assert {scene.errors[key] for key in failed} == {f"{what}: {error}"}


def test_rows_are_in_the_store_when_a_listener_hears_of_them(scene: Scene) -> None:
    assert len(scene.heard.rows) == 4
    for key, told, stored in scene.heard.rows:
        assert told.key == key
        assert stored == told


def test_a_listener_hears_of_every_run_and_pretraining_once(scene: Scene) -> None:
    finished = [key for key, _, _ in scene.heard.rows]
    failed = [key for _, some, _ in scene.heard.failures for key in some]
    assert sorted([*finished, *failed]) == sorted(
        keys([*scene.good, *scene.pretrained, *scene.in_vain, scene.diverging, scene.damaged])
    )
    assert set(failed) == set(scene.errors)
    # In the order of the runs that wait for them; the one that failed has no end.
    vain, fine = scene.request(scene.in_vain[0]).name, scene.request(scene.pretrained[0]).name
    assert scene.heard.pretrainings == [(vain, False), (fine, False), (fine, True)]


def test_a_listener_hears_how_far_a_pretraining_is(scene: Scene) -> None:
    n_epochs = scene.request(scene.pretrained[0]).config["epochs"]
    assert any(f"epoch {n_epochs}/{n_epochs}  step " in line for line in scene.heard.lines)


def test_a_pretraining_that_no_run_starts_from_is_left_alone(scene: Scene) -> None:
    waited_for = {run.checkpoint for run in (*scene.pretrained, *scene.in_vain)}
    (left,) = [request for at, request in scene.requests.items() if at not in waited_for]
    assert not left.folder.exists()


def test_runs_leave_their_rows_and_no_folder(scene: Scene) -> None:
    folders = {path.name for path in Path(scene.places.scratch).iterdir() if path.is_dir()}
    assert not folders & keys([*scene.good, *scene.pretrained])


def test_a_run_whose_row_another_job_has_written_meanwhile_is_not_done_again(
    scene: Scene,
) -> None:
    run = scene.good[0]
    stored = ResultStore(scene.places.store).get(run.key)
    heard = Heard(scene.places.store)
    assert run_all([run], {}, heard) == {}
    assert [row for _, row, _ in heard.rows] == [stored]


def test_a_pretraining_that_has_ended_is_not_run_again(scene: Scene) -> None:
    first = scene.pretrained[0]
    request = scene.request(first)
    assert driver.has_ended(request)
    files = [path for path in Path(request.folder.root).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    another = replace(first, config=to_dict(replace(TINY, seed=9)))
    heard = Heard(scene.places.store)
    assert run_all([another], scene.requests, heard) == {}
    assert [key for key, _, _ in heard.rows] == [another.key]
    assert (heard.pretrainings, heard.lines) == ([], [])
    found = [path for path in Path(request.folder.root).rglob("*") if path.is_file()]
    assert {path: path.stat().st_mtime_ns for path in found} == before


def test_a_run_that_failed_can_be_run_again_once_its_data_are_whole(
    scene: Scene, tmp_path: Path
) -> None:
    # The same run by its key, on an undamaged copy.
    whole = write_both(tmp_path / "corpus")
    again = replace(scene.damaged, corpus=str(whole))
    assert again.key == scene.damaged.key
    heard = Heard(str(tmp_path / "results"))
    assert run_all([again], {}, heard) == {}
    assert [key for key, _, _ in heard.rows] == [again.key]


def test_weights_are_kept_where_that_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    run = run_on(scene.corpus, "faced", 3)
    places = schedule.Places(str(tmp_path / "results"), str(tmp_path / "runs"))
    heard = Heard(places.store)
    share = schedule.Share()
    errors = schedule.run_all([run], {}, places=places, share=share, listen=heard, keep=True)
    assert errors == {}
    name = checkpoint.latest_whole(places.folder(run))
    assert name is not None
    facts = json.loads(places.folder(run).sub(name).read(checkpoint.RUN_FILE) or b"")
    assert (facts["run"], facts["config"]) == (run.key, run.config)


def test_nothing_to_run_is_nothing_done(ray_cluster: None, tmp_path: Path) -> None:
    heard = Heard(str(tmp_path))
    assert run_all([], {}, heard) == {}
    assert (heard.rows, heard.failures, heard.pretrainings) == ([], [], [])

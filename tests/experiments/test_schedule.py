"""Many runs on a cluster: what fails is named and leaves the rest, what has ended stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from emoray.experiments import schedule
from emoray.methods.settings import OptimizerConfig
from emoray.results.store import ResultRow, ResultStore
from emoray.runtime.config import to_dict
from emoray.training import checkpoint, driver
from emoray.training.run import Execution, Origin, Run
from tests.small_experiments import SETTINGS, TINY, reproduction, tiny_run, write_both

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TOO_FAST = 1e30
"""Learning rate after which nothing is finite."""
APART = "subjects_and_stimuli_apart"


@dataclass
class Heard:
    """All that a listener is told; rows with whether a fresh look at the store found them."""

    store: str
    groups: list[tuple[str, bool]] = field(default_factory=list)
    """Name of a run on a group of workers, and whether it had ended."""
    rows: list[tuple[str, ResultRow, ResultRow | None]] = field(default_factory=list)
    """The run's key, the row that was told of, the row that was in the store by then."""
    failures: list[tuple[str, frozenset[str], str]] = field(default_factory=list)
    """What failed, keys of the runs, error."""
    lines: list[str] = field(default_factory=list)

    def group(self, run: Run, seconds: float | None) -> None:
        self.groups.append((run.folder_name, seconds is not None))

    def said(self, line: str) -> None:
        self.lines.append(line)

    def finished(self, run: Run, row: ResultRow | None) -> None:
        assert row is not None  # only scored runs are of a fold here
        self.rows.append((run.key, row, ResultStore(self.store).get(run.key)))

    def failed(self, what: str, runs: Sequence[Run], error: str) -> None:
        self.failures.append((what, keys(runs), error))


@dataclass
class Scene:
    """Runs of every kind, done at once."""

    corpus: Path
    folders: schedule.Folders
    good: list[Run]
    diverging: Run
    damaged: Run
    pretrained: list[Run]
    in_vain: list[Run]
    nobodys: Run
    """A pretraining that no run starts from."""
    heard: Heard
    errors: dict[str, str]


def keys(runs: Iterable[Run]) -> frozenset[str]:
    return frozenset(run.key for run in runs)


def run_on(corpus: Path, dataset: str, seed: int, origin: Origin | None = None) -> Run:
    starts = {} if origin is None else {"encoder": origin}
    return tiny_run(corpus, dataset, config=to_dict(replace(TINY, seed=seed)), starts=starts)


def origin_of(corpus: Path, storage: Path, **settings: object) -> Origin:
    found = reproduction(corpus, storage, set={**SETTINGS, **settings})
    (arm,) = [arm for arm in found.experiment("table3").arms if arm.row == "EMOD-SoftVA"]
    (cell, *_) = [cell for cell in found.experiment("table3").cells() if cell.arm == arm]
    return cell.runs[0].starts["encoder"]


def start_of(run: Run) -> Run:
    """The pretraining that a run waits for."""
    before = run.starts["encoder"].run
    assert before is not None
    return before


def damage(corpus: Path, dataset: str) -> str:
    """Change a byte of a dataset's signals; returns the shard's name."""
    shard = sorted(corpus.glob(f"{dataset}-*/shards/*.arrow"))[1]
    content = bytearray(shard.read_bytes())
    content[-2000] ^= 1
    shard.write_bytes(content)
    return shard.name


RULES = schedule.Rules(schedule.Resources(), over_corpus=lambda run: Execution())


def run_all(runs: list[Run], heard: Heard, rules: schedule.Rules = RULES) -> dict[str, str]:
    folders = schedule.Folders(heard.store, str(Path(heard.store).parent / "runs"))
    return schedule.run_all(runs, folders=folders, rules=rules, listen=heard)


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
        folders=schedule.Folders(str(storage / "results"), str(storage / "runs")),
        good=[run_on(corpus, "faced", seed) for seed in (0, 1)],
        diverging=replace(run_on(corpus, "faced", 0), config=to_dict(too_fast)),
        damaged=run_on(corpus, "seed", 0),
        pretrained=[run_on(corpus, "faced", seed, fine) for seed in (0, 1)],
        in_vain=[run_on(corpus, "faced", seed, vain) for seed in (0, 1)],
        nobodys=start_of(run_on(corpus, "faced", 0, nobodys)),
        heard=Heard(str(storage / "results")),
        errors={},
    )
    damage(corpus, "seed")
    everything = [
        *(found.in_vain[0], found.pretrained[0], found.damaged, found.good[0], found.diverging),
        *(found.pretrained[1], found.in_vain[1], found.good[1]),
    ]
    found.errors.update(run_all(everything, found.heard))
    return found


def test_all_that_can_run_is_run_whatever_fails_beside_it(scene: Scene) -> None:
    wanted = keys([*scene.good, *scene.pretrained])
    assert {row.key for row in ResultStore(scene.folders.store).rows()} == wanted
    for run in scene.good:
        assert run.starts == {}
    for row in ResultStore(scene.folders.store).rows(keys(scene.pretrained)):
        assert row.starts == scene.pretrained[0].plain_starts()
        assert row.verdict == "clean"


def test_each_failure_is_named_by_what_it_met(scene: Scene) -> None:
    assert set(scene.errors) == keys([scene.diverging, scene.damaged, *scene.in_vain])
    (build,), (broken,) = scene.diverging.builds, scene.damaged.builds
    diverging = f"{build} {APART} 1_of_3 seed 0: FloatingPointError: "
    assert scene.errors[scene.diverging.key].startswith(diverging)
    assert "not finite" in scene.errors[scene.diverging.key]
    assert f"{broken} {APART} 1_of_3 seed 0: DataError: " in scene.errors[scene.damaged.key]
    assert "need SHA-256" in scene.errors[scene.damaged.key]
    for error in scene.errors.values():
        assert len(error.splitlines()) == 1
        assert "ray::" not in error  # no trace of where Ray passed it on


def test_a_failed_pretraining_fails_the_runs_that_wait_for_it_and_no_other(scene: Scene) -> None:
    name = start_of(scene.in_vain[0]).name
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
    vain, fine = start_of(scene.in_vain[0]).name, start_of(scene.pretrained[0]).name
    assert scene.heard.groups == [(vain, False), (fine, False), (fine, True)]


def test_a_listener_hears_how_far_a_pretraining_is(scene: Scene) -> None:
    n_epochs = start_of(scene.pretrained[0]).config["epochs"]
    assert any(f"epoch {n_epochs}/{n_epochs}  step " in line for line in scene.heard.lines)


def test_a_pretraining_that_no_run_starts_from_is_left_alone(scene: Scene) -> None:
    assert not scene.folders.folder(scene.nobodys).exists()
    assert scene.folders.folder(start_of(scene.pretrained[0])).exists()


def test_runs_leave_their_rows_and_no_folder(scene: Scene) -> None:
    folders = {path.name for path in Path(scene.folders.runs).iterdir() if path.is_dir()}
    assert not folders & keys([*scene.good, *scene.pretrained])


def test_a_run_whose_row_another_job_has_written_meanwhile_is_not_done_again(
    scene: Scene,
) -> None:
    run = scene.good[0]
    stored = ResultStore(scene.folders.store).get(run.key)
    heard = Heard(scene.folders.store)
    assert run_all([run], heard) == {}
    assert [row for _, row, _ in heard.rows] == [stored]


def test_a_pretraining_that_has_ended_is_not_run_again(scene: Scene) -> None:
    first = scene.pretrained[0]
    folder = scene.folders.folder(start_of(first))
    assert driver.has_ended(folder, start_of(first))
    files = [path for path in Path(folder.root).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    another = replace(first, config=to_dict(replace(TINY, seed=9)))
    heard = Heard(scene.folders.store)
    assert run_all([another], heard) == {}
    assert [key for key, _, _ in heard.rows] == [another.key]
    assert (heard.groups, heard.lines) == ([], [])
    found = [path for path in Path(folder.root).rglob("*") if path.is_file()]
    assert {path: path.stat().st_mtime_ns for path in found} == before


def test_a_run_that_failed_can_be_run_again_once_its_data_are_whole(
    scene: Scene, tmp_path: Path
) -> None:
    # The same run by its key, on an undamaged copy.
    whole = write_both(tmp_path / "corpus")
    again = replace(scene.damaged, corpus=str(whole))
    assert again.key == scene.damaged.key
    heard = Heard(str(tmp_path / "results"))
    assert run_all([again], heard) == {}
    assert [key for key, _, _ in heard.rows] == [again.key]


def test_weights_are_kept_where_that_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    run = run_on(scene.corpus, "faced", 3)
    folders = schedule.Folders(str(tmp_path / "results"), str(tmp_path / "runs"))
    heard = Heard(folders.store)
    assert run_all([run], heard, replace(RULES, keep=True)) == {}
    name = checkpoint.latest_whole(folders.folder(run))
    assert name is not None
    facts = json.loads(folders.folder(run).sub(name).read(checkpoint.RUN_FILE) or b"")
    assert (facts["key"], facts["config"]) == (run.key, run.config)


def test_nothing_to_run_is_nothing_done(ray_cluster: None, tmp_path: Path) -> None:
    heard = Heard(str(tmp_path))
    assert run_all([], heard) == {}
    assert (heard.rows, heard.failures, heard.groups) == ([], [], [])


def test_a_run_of_a_fold_on_two_workers_has_the_row_of_one(scene: Scene, tmp_path: Path) -> None:
    """To the last bits, which the order of sums decides; and it leaves no folder either."""
    run = scene.good[0]
    alone = ResultStore(scene.folders.store).get(run.key)
    heard = Heard(str(tmp_path / "results"))
    assert run_all([run], heard, replace(RULES, resources=schedule.Resources(workers=2))) == {}
    ((_, row, stored),) = heard.rows
    assert row == stored
    assert alone is not None
    assert (row.key, row.audit, row.n_parameters) == (alone.key, alone.audit, alone.n_parameters)
    assert row.curves["train_loss"] == pytest.approx(alone.curves["train_loss"], rel=1e-4)
    assert heard.groups == [(run.key, False), (run.key, True)]
    assert not (tmp_path / "runs" / run.key).exists()

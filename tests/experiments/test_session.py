"""What jobs share: refusals before anything waits for ever, and where a report lies."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emoray import methods
from emoray.corpus.catalog import Catalog
from emoray.experiments import session
from emoray.experiments.arms import Arm, ArmStage
from emoray.experiments.builds import builds_of
from emoray.experiments.cost import Estimate
from emoray.experiments.experiment import Experiment, asked
from emoray.experiments.graph import Graph
from emoray.experiments.options import Where
from emoray.experiments.session import Place
from emoray.reports.page import Figure
from emoray.results import published
from emoray.results.comparison import Comparison
from emoray.runtime import cluster
from emoray.runtime.cluster import Node
from emoray.runtime.storage import Storage, join
from emoray.training import driver
from emoray.training.run import Execution, Origin, Run, Submission
from tests.evaluations import BY_NAME
from tests.small_experiments import TINY, reproduction, write_both

WIDE = ArmStage("finetune", "emod", "finetune", TINY)
PRETRAINING = Run("emod", "pretrain", {"seed": 0}, "a corpus", {"deap-eeg-0": "0"}, name="base")
ON_A_FOLD = Run(
    "emod", "finetune", {"seed": 0}, "a corpus", {"faced-eeg-0": "0"},
    target={"kind": "classes"}, protocol="p", fold="0", chosen_by="kappa",
)  # fmt: skip
BLANK = Comparison("table3", "a title", "a caption", None, {}, (), rehearsal=True)
PNG = b"\x89PNG\r\n\x1a\n"


def place_at(storage: Path | str, **options: Any) -> Place:
    console = Console(file=io.StringIO(), width=200)
    return Place(Where(**options), console, str(storage), "a corpus")


def said(place: Place) -> str:
    assert isinstance(place.console.file, io.StringIO)
    return place.console.file.getvalue()


# What a rehearsal builds --------------------------------------------------------------------------


def test_a_rehearsal_builds_what_the_stages_of_a_paper_read_by_their_recipe() -> None:
    """SSL-ECG: nothing but ECG, of the four datasets that its tables test."""
    ((built, names),) = builds_of(published.load("ssl_ecg")).items()
    assert names == {"amigos", "dreamer", "swell_kw", "wesad"}
    assert (built.streams, built.eeg, built.is_evaluated) == (("ecg",), None, True)
    assert {built.ecg} == {kind.recipes["ecg"] for kind in methods.get("ssl_ecg").STAGES.values()}


# What a run gets ----------------------------------------------------------------------------------


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to be connected to nodes that stay as many."""

    def nodes_join(*nodes: Node) -> None:
        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
        monkeypatch.setattr(cluster, "_live_nodes", lambda: list(nodes))
        monkeypatch.setattr(cluster, "_live_entries", list)
        monkeypatch.setattr(cluster, "scaling", lambda: cluster.Scaling(True))
        monkeypatch.setattr(cluster, "storage_root", lambda *_, **__: "")

    return nodes_join


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"gpus_per_run": 0.25}, "1 worker of 1 CPU and 0.25 GPU; .*more than 0 GPUs"),
        ({"cpus_per_run": 8.0}, "1 worker of 8 CPU; .*no node has more than 4 CPUs"),
    ],
)
def test_a_share_that_no_node_can_give_is_refused(
    joined: Callable[..., None], tmp_path: Path, options: dict[str, Any], needed: str
) -> None:
    joined(Node(4.0, 0.0), Node(4.0, 0.0))
    with pytest.raises(ValueError, match=needed):
        session.connect(place_at(tmp_path, **options))


def test_a_run_may_take_a_whole_node(joined: Callable[..., None], tmp_path: Path) -> None:
    """Unlike pretraining's workers it needs no core for data beside it."""
    joined(Node(4.0, 1.0))
    rules = session.connect(place_at(tmp_path, cpus_per_run=4.0))
    assert (rules.resources.cpus, rules.resources.gpus) == (4.0, session.GPU_SHARE)
    assert rules.execution(ON_A_FOLD) is None


def test_a_run_on_several_workers_is_a_group_of_them(
    joined: Callable[..., None], tmp_path: Path
) -> None:
    joined(Node(4.0, 0.0))
    rules = session.connect(place_at(tmp_path, workers_per_run=3))
    assert rules.execution(ON_A_FOLD) == Execution(3, 1.0, 0.0)
    with pytest.raises(
        ValueError, match="need a cluster for 5 workers of 1 CPU; it has 1 node with 4"
    ):
        session.connect(place_at(tmp_path, workers_per_run=5))


@pytest.mark.parametrize(("asked_for", "cpus"), [(None, 1.0), (3.0, 3.0)])
def test_workers_with_gpus_keep_the_cpus_that_were_asked_for(
    joined: Callable[..., None], tmp_path: Path, asked_for: float | None, cpus: float
) -> None:
    joined(Node(8.0, 2.0))
    rules = session.connect(place_at(tmp_path, workers=2, cpus_per_worker=asked_for))
    assert rules.execution(PRETRAINING) == Execution(2, cpus, 1.0)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"cpus_per_run": 0.0}, "need cpus_per_run > 0, got 0"),
        ({"cpus_per_run": -1.0}, "need cpus_per_run > 0, got -1"),
        ({"gpus_per_run": -0.5}, "need gpus_per_run of 0 or more, got -0.5"),
        ({"workers_per_run": 0}, "need workers_per_run of 1 or more, got 0"),
    ],
)
def test_runs_that_take_nothing_of_a_machine_are_refused(
    options: dict[str, Any], needed: str
) -> None:
    with pytest.raises(ValueError, match=needed):
        Where(**options)


# Reports ------------------------------------------------------------------------------------------


def folders(storage: Path) -> list[Path]:
    return sorted((storage / "reports").iterdir())


def report(place: Place, question: object, *pictures: str) -> None:
    figures = [Figure(name, "a caption", "words", PNG) for name in pictures]
    session.report(place, BLANK, figures, asked=question, seconds=1.0)


def test_a_report_on_another_question_leaves_the_first_alone(tmp_path: Path) -> None:
    report(place_at(tmp_path), {"datasets": ["faced"]}, "faced")
    (first,) = folders(tmp_path)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    report(place_at(tmp_path), {"datasets": ["seed"]}, "seed")
    assert len(folders(tmp_path)) == 2
    assert all(folder.name.startswith("table3-rehearsal-") for folder in folders(tmp_path))
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert set(before) == {"table3.html", "faced.png"}  # without a block, no table


def test_the_same_question_has_one_folder_without_old_pictures(tmp_path: Path) -> None:
    report(place_at(tmp_path), "asked", "curves", "confusions")
    (folder,) = folders(tmp_path)
    (folder / "my notes.txt").write_text("mine")
    report(place_at(tmp_path), "asked", "confusions")
    assert folders(tmp_path) == [folder]
    assert {path.name for path in folder.glob("*.png")} == {"confusions.png"}
    assert (folder / "my notes.txt").exists()


def test_printed_places_can_be_pasted(s3: str) -> None:
    place = place_at(s3)
    report(place, "asked", "curves")
    reports = Storage.at(join(s3, "reports"))
    (folder,) = map(reports.sub, reports.folders())
    for name in folder.files():
        assert folder.place(name) in said(place)


@pytest.mark.parametrize("named", ["..", ".", "", "~", ".locks"])
def test_a_checkpoints_name_stays_among_the_runs(tmp_path: Path, named: str) -> None:
    with pytest.raises(ValueError, match="need a run's name of 1 to 100 letters"):
        session.origin_named(place_at(tmp_path), named)


@pytest.mark.parametrize(
    ("options", "cpus"),
    [({}, 3.0), ({"cpus_per_worker": 2.0}, 2.0), ({"workers": 2}, 4.0)],
)
def test_a_pretraining_goes_on_with_the_threads_that_it_began_with(
    tmp_path: Path, joined: Callable[..., None], options: dict[str, Any], cpus: float
) -> None:
    """On a node of nine CPUs a fair share would be eight, or four for each of two workers."""
    write_both(tmp_path / "corpus")
    run = reproduction(tmp_path / "corpus", tmp_path).full_pretraining()
    begun = Submission(run, join(str(tmp_path), "runs"), Execution(1, cpus_per_worker=3.0))
    begun.folder.write_bytes(driver.SUBMISSION_FILE, driver.as_json(begun.to_json()))
    joined(Node(9, 0))
    rules = session.connect(place_at(tmp_path, **options), [run])
    assert rules.over_corpus(run).cpus_per_worker == cpus


def test_a_question_is_its_rows_data_folds_settings_and_starts(tmp_path: Path) -> None:
    corpus = write_both(tmp_path / "corpus", pretrained=())
    arm = Arm("wide", (WIDE,))

    def question(**changes: Any) -> object:
        fields: Mapping[str, Any] = {
            "arms": (arm,),
            "graph": Graph(Catalog(str(corpus)), str(tmp_path / "runs")),
            "evaluation": (BY_NAME["faced"], BY_NAME["seed"]),
            "seeds": (0, 1),
            **changes,
        }
        return asked(Experiment(**fields).cells())

    usual = question()
    assert question() == usual
    elsewhere = shutil.copytree(corpus, tmp_path / "elsewhere")
    assert question(graph=Graph(Catalog(str(elsewhere)), "s3://runs")) == usual
    others = [
        {"evaluation": (BY_NAME["faced"],)},
        {"seeds": (0, 2)},
        {"folds": "rotate"},
        {"protocols": ("subjects_and_stimuli_apart",)},
        {"arms": (replace(arm, stages=(replace(WIDE, config=replace(TINY, epochs=3)),)),)},
        {"arms": (replace(arm, stages=(replace(WIDE, starts={"encoder": Origin({"step": 3})}),)),)},
        {"arms": (replace(arm, stages=(replace(WIDE, starts={"encoder": Origin({"step": 4})}),)),)},
        {"arms": (replace(arm, row="narrow"),)},
    ]
    asked_for = [str(question(**changes)) for changes in ({}, *others)]
    assert len(set(asked_for)) == len(asked_for)


# What is missing ----------------------------------------------------------------------------------


def test_a_damaged_row_of_another_run_is_named_and_ends_no_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = replace(place_at(tmp_path), location=str(write_both(tmp_path / "corpus")))
    plan = Experiment(
        arms=(Arm("wide", (WIDE,)),),
        graph=Graph(place.catalog, place.folders.runs),
        evaluation=(BY_NAME["faced"],),
        seeds=(0,),
    ).cells()
    damaged = tmp_path / "results" / "rows" / f"{'0' * 32}.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    monkeypatch.setattr(
        session, "estimate_runs", lambda *_, **__: [Estimate("wide", 1, 60.0, "timed here")]
    )
    session.show_missing(place, plan)
    assert f"Passed over: {damaged}: need a result row" in " ".join(said(place).split())
    assert "0:01:00" in said(place)


# The end ------------------------------------------------------------------------------------------


def test_a_job_in_which_runs_failed_ends_as_failed() -> None:
    session.check_all_ended({})
    with pytest.raises(RuntimeError, match="2 runs failed"):
        session.check_all_ended({"a": "out of memory", "b": "out of memory"})

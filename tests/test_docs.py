"""What README, docs and CONTRIBUTING say is there: links, paths, options, worked examples.

Numbers and reasons are for people to keep; this holds what a rename or a removed option breaks.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import tyro
import yaml

from emoray.batches.batch import Batch, Group, Signal
from emoray.experiments.options import Build
from emoray.methods.base import Inputs, StreamSpec
from emoray.methods.ecg_segments import RECIPES
from emoray.results import published as papers
from emoray.training.loop import take_step
from emoray.training.optimizers import make_optimizer
from tests.indexes import index_table, published
from tests.sources import ToneSource
from tests.training.test_classifier import write as write_classifier

REPO = Path(__file__).parents[1]
PAGES = sorted([*REPO.glob("*.md"), *REPO.glob("docs/*.md")])
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
JOBS = sorted(path.stem for path in REPO.glob("jobs/*.py"))

MOST_WORDS = 1300
"""Of the README: what a newcomer reads in ten minutes."""
WIDEST = 120
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the text at apache.org/licenses/LICENSE-2.0.txt."""
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
"""Kinds of Keep a Changelog."""

LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]*)#?([^)]*)\)")
OUR_PATH = re.compile(
    r"(?<![\w/~.$-])(?:emoray|jobs|tests|benchmarks|search_spaces|docs)/[\w./*-]*"
)
PLACEHOLDER = re.compile(r"NAME|METHOD|mylab")
"""In a path: what the reader puts in its place."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]")
LISTED = re.compile(r"│ (?:-\w, )?(--[a-z][a-z0-9.-]*[a-z0-9])")
"""An option at the edge of a panel of `--help`; those named in its words stand further in."""
COMMAND = re.compile(r"python jobs/(\w+)\.py([^`#|\n]*)")
OF_A_JOB = re.compile(r"`(?:(\w+) )?(--[a-z][^`]*)`")
"""An option in prose: `--ica none`, or with its job, `build_corpus --ica none`."""


def page(name: str) -> str:
    return (REPO / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def example(language: str, having: str) -> str:
    """The one block of CONTRIBUTING that holds some text."""
    (found,) = [block for block in blocks(page("CONTRIBUTING.md"), language) if having in block]
    return found


# Size and links -----------------------------------------------------------------------------------


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(page("README.md").split()) <= MOST_WORDS
    lines = enumerate(page("README.md").splitlines(), 1)
    assert not {n: len(line) for n, line in lines if len(line) > WIDEST}


def test_the_readme_leads_to_every_page() -> None:
    led_to = {(REPO / path).resolve() for path, _ in LINK.findall(page("README.md")) if path}
    assert not {path for path in PAGES if path.name != "README.md"} - led_to


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    dead = []
    for target, heading in LINK.findall(path.read_text(encoding="utf-8")):
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or (heading and heading not in anchors(there)):
            dead.append(f"{target}#{heading}")
    assert not dead


def anchors(path: Path) -> set[str]:
    """Headings as a page's links name them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Paths and options --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_path_exists(path: Path) -> None:
    named = {found.rstrip(".-") for found in OUR_PATH.findall(path.read_text(encoding="utf-8"))}
    real = {name for name in named if not PLACEHOLDER.search(name)}
    assert not sorted(name for name in real if not any(REPO.glob(name.rstrip("/"))))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_benchmark_exists(path: Path) -> None:
    named = set(re.findall(r"python -m benchmarks\.([a-z]\w*)", path.read_text(encoding="utf-8")))
    assert not {name for name in named if not (REPO / "benchmarks" / f"{name}.py").is_file()}


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Long options of each job, as its `--help` lists them; under a second each."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200"}
    found = {}
    for job in JOBS:
        done = subprocess.run(
            [sys.executable, f"jobs/{job}.py", "--help"],
            cwd=REPO,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found[job] = set(LISTED.findall(done.stdout))
    return found


def asked(text: str) -> Iterator[tuple[str, str]]:
    """Job and option, of every command and every option in prose; any job where none is said."""
    text = text.replace("\\\n", " ")
    for job, words in COMMAND.findall(text):
        yield from ((job, option) for option in OPTION.findall(words))
    for job, words in OF_A_JOB.findall(text):
        if job in ("", *JOBS):  # else another program's
            yield from ((job, option) for option in OPTION.findall(words))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_option_is_one_of_its_job(path: Path, options: dict[str, set[str]]) -> None:
    anywhere = set().union(*options.values())
    wrong = []
    for job, option in asked(path.read_text(encoding="utf-8")):
        assert not job or job in options, f"{path.name}: no job {job}"
        if option not in (options[job] if job else anywhere):
            wrong.append(f"{job} {option}")
    assert not wrong


def test_the_command_for_ssl_ecg_builds_what_its_stages_read() -> None:
    commands = COMMAND.findall(page("docs/data_path.md").replace("\\\n", " "))
    (words,) = [words for job, words in commands if job == "build_corpus" and "r-peaks" in words]
    built = tyro.cli(Build, args=words.split())
    assert built.ecg == RECIPES["ecg"]
    assert (built.streams, built.datasets) == (("ecg",), papers.load("ssl_ecg").pretraining)


def test_the_options_are_found(options: dict[str, set[str]]) -> None:
    """Else the test above would hold nothing, or everything."""
    assert "--resume" in options["pretrain_emod"]
    assert "--resume" not in options["build_corpus"]
    found = set(asked(page("README.md")))
    assert {("build_corpus", "--check"), ("", "--held-out")} <= found
    assert ("pretrain_emod", "--gpus-per-worker") in set(asked(page("docs/cluster.md")))


# Worked examples ----------------------------------------------------------------------------------


def test_the_worked_dataset_passes_its_own_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emoray import datasets

    mylab = ModuleType("emoray.datasets.mylab")
    exec(example("python", "CARD = Card("), vars(mylab))
    monkeypatch.setattr(datasets, "mylab", mylab, raising=False)
    tests: dict[str, Any] = {}
    exec(example("python", "import mylab"), tests)
    claims = [name for name in tests if name.startswith("test_")]
    assert len(claims) == 2
    for name in claims:
        tests[name](tmp_path / name)
    mylab.write_example(tmp_path / "two", ToneSource(), n_subjects=2, duration_s=2.0)
    listing = mylab.find(tmp_path / "two")
    assert [ref.subject for ref in listing.recordings] == ["01", "02"]
    assert len(listing.missing) == 10
    assert not listing.unexpected


def test_the_worked_protocol_tests_each_subject_once() -> None:
    from emoray.evaluation import folds

    room = dict(vars(folds))
    exec(example("python", "ONE_SUBJECT_APART"), room)
    index = index_table(published("seed", 4))
    protocol = room["ONE_SUBJECT_APART"]
    sides = list(protocol.split(index))
    subject_S = index.column("subject").to_numpy()
    tested = [sorted(set(subject_S[side_S == folds.TEST])) for side_S in sides]
    assert sorted(tested) == [[name] for name in sorted(set(subject_S))]
    assert protocol.mixes == {"stimulus"}
    assert protocol.name not in folds.PROTOCOLS


def test_the_worked_metric_by_hand() -> None:
    from emoray.evaluation import metrics

    room = dict(vars(metrics))
    try:
        exec(example("python", "def least_recall"), room)
        assert metrics.get("least_recall").title == "least"
        found = metrics.scores_of(np.array([[3, 1, 0], [0, 1, 1], [0, 0, 2]]))
        assert found["least_recall"] == 1 / 2
    finally:
        metrics._FOUND.pop("least_recall")


def test_the_worked_evaluation_is_one_that_a_paper_may_have() -> None:
    from emoray.vocabulary.targets import Cut

    (found,) = papers.parse(
        'title = "T"\ncode = "C"\n' + example("toml", "dreamer_arousal")
    ).evaluation
    assert (found.dataset, found.target) == ("dreamer", Cut("arousal", 3))


def test_the_worked_search_parameter_can_be_searched(tmp_path: Path) -> None:
    from emoray.experiments.search.space import read_space

    path = tmp_path / "emod.toml"
    shipped = page("search_spaces/emod.toml")
    path.write_text(shipped + example("toml", "[pretrain.encoder.n_layers]"))
    (*_, added) = read_space(path).parameters
    assert (added.name, added.published) == ("pretrain.encoder.n_layers", 3)


def test_the_worked_row_of_a_table_is_emods() -> None:
    paper = tomllib.loads(page("emoray/methods/emod/paper.toml"))
    (row,) = tomllib.loads(example("toml", "[[table_3.rows]]"))["table_3"]["rows"]
    (stored,) = [r for r in paper["table_3"]["rows"] if r["name"] == row["name"]]
    assert row.items() <= stored.items()


def test_the_worked_classifier_tells_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = blocks(page("docs/classifiers.md"), "python")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_classifier(tmp_path / "emoray" / "classifiers" / "NAME")
    at = np.arange(32 * 500) / 500.0
    np.save("recording.npy", np.stack([np.sin(9.0 * at), np.cos(40.0 * at)]))
    exec(block, {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Classifier of ecg ecg1 ecg2, 10 s at 256 Hz: arousal <= 3, arousal")
    assert [line.split(" s  arousal ")[0].strip() for line in said[1:]] == ["0", "10", "20"]


def test_the_worked_build_is_by_the_recipes_that_both_ecg_methods_read() -> None:
    import shlex

    import tyro

    from emoray.experiments.options import Build
    from emoray.methods import ecg_segments
    from emoray.methods.alignment import config as alignment

    text = page("docs/classifiers.md").replace("\\\n", " ")
    (command,) = re.findall(r"python jobs/build_corpus\.py (.*)", text)
    built = tyro.cli(Build, args=shlex.split(command), config=(tyro.conf.FlagCreatePairsOff,))
    assert {"eeg": built.recipe, "ecg": built.ecg} == alignment.RECIPES
    assert {"ecg": built.ecg} == ecg_segments.RECIPES
    assert built.streams == ("eeg", "ecg")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_all_python_in_the_pages_compiles(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        compile(block, path.name, "exec")


# The project's own papers -------------------------------------------------------------------------


def test_the_licence_is_the_whole_of_apache_2() -> None:
    assert hashlib.sha256((REPO / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert PROJECT["license"] == "Apache-2.0"


def test_the_citation_names_this_version_and_licence() -> None:
    found = yaml.safe_load(page("CITATION.cff"))
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= found.keys()
    assert found["authors"] == [{"name": "The emoray authors"}]
    assert str(found["version"]) == PROJECT["version"]
    assert found["license"] == PROJECT["license"]


def test_the_changelog_has_this_version_and_known_kinds_of_changes() -> None:
    text = page("CHANGELOG.md")
    assert re.search(rf"^## \[{re.escape(PROJECT['version'])}\] - ", text, flags=re.MULTILINE)
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= CHANGES


def test_the_worked_method_learns_what_a_line_can() -> None:
    room = ModuleType("line")
    sys.modules["line"] = room  # dataclasses look their module up
    try:
        exec(example("python", "class Line(nn.Module)"), vars(room))
    finally:
        del sys.modules["line"]
    kind = room.STAGES["train"]
    inputs = Inputs({"eeg": StreamSpec(("Fp1", "Fp2"), 100.0, 50)}, ("left", "right"))
    stage = kind(kind.rehearsal(), inputs, {})
    module = stage.build()
    label_B = torch.arange(64) % 2
    louder_B21 = torch.stack([1.0 + label_B, 2.0 - label_B], dim=1)[:, :, None]
    x_BCT = louder_B21 * torch.randn(64, 2, 50, generator=torch.Generator().manual_seed(0))
    group = Group("seed", {"eeg": Signal(x_BCT, ("Fp1", "Fp2"), 100.0)}, torch.arange(64))
    batch = Batch(0, (group,), {"label": label_B})
    optimizer = make_optimizer(stage.optimizer, module)
    for _ in range(200):
        take_step(stage, module, optimizer, batch, 0.05)
    assert (stage.scores(module, batch.groups).argmax(1) == label_B).float().mean() > 0.95

"""The house: imports go one way, heavy libraries keep to their rooms, and pieces stay small.

Everything is read from the source with `ast`, so imports inside functions count as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = REPO / "emoray"

LEVELS: tuple[tuple[str, ...], ...] = (
    ("vocabulary",),
    ("runtime",),
    ("datasets", "signals"),
    ("rehearsal",),
    ("corpus",),
    ("batches",),
    ("methods",),
    ("evaluation",),
    ("results",),
    ("training",),
    ("experiments",),
    ("jobs",),
)
"""A room imports from its own line of this list or an earlier one."""

REPORTS_MAY_IMPORT = (
    *("reports", "results", "vocabulary", "runtime.config", "runtime.console"),
    *("batches.occupancy", "evaluation.statistics", "evaluation.metrics"),
)
"""Reports stand apart: they read result rows, `paper.toml` and a plan's occupancy only."""

ROOMS_OF: dict[str, tuple[str, ...]] = {
    "ray": (
        "corpus.build.tasks",
        "batches.feeds",
        "training",
        "experiments",
        "runtime.cluster",
        "runtime.ray_process",
    ),
    "optuna": ("experiments.search",),
    "mne": ("datasets", "signals"),
    "braindecode": ("methods.baselines.model",),
    "sleepecg": ("signals.ecg.beats",),
    "sklearn": ("signals", "evaluation"),
    "matplotlib": ("reports.figures",),
    "torch": ("batches", "methods", "evaluation", "training", "experiments"),
}
"""Which rooms may import a heavy library."""

LONGEST_FUNCTION = 60
LONGEST_FILE = 650
NO_MODULES = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "lib"}


@dataclass(frozen=True)
class Import:
    """One imported name, where it stands."""

    importer: str
    """Room below `emoray`, dotted."""
    target: str
    """Full dotted name: `emoray.vocabulary.schema.Card`, `numpy`."""
    line: int

    def __str__(self) -> str:
        return f"emoray.{self.importer} line {self.line} imports {self.target}"


@cache
def modules() -> dict[str, ast.Module]:
    """Room -> syntax tree, for every file of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[room] = ast.parse(path.read_text(), filename=str(path))
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package."""
    return tuple(found for room, tree in modules().items() for found in imports_of(room, tree))


def imports_of(room: str, tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(room, name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"emoray.{room} line {node.lineno}: relative import"
            for name in node.names:
                yield Import(room, f"{node.module}.{name.name}", node.lineno)


def room_of(target: str) -> str | None:
    """The room of the package that a full name lies in; None for other libraries."""
    if target != "emoray" and not target.startswith("emoray."):
        return None
    room = target.removeprefix("emoray").removeprefix(".")
    while room not in modules():
        room = room.rpartition(".")[0]
    return room


def inside(room: str, rooms: tuple[str, ...]) -> bool:
    return any(room == r or room.startswith(f"{r}.") for r in rooms)


def level_of(room: str) -> int | None:
    """Line of LEVELS, by the longest entry that the room lies in."""
    places = {entry: i for i, line in enumerate(LEVELS) for entry in line}
    while room not in places and room:
        room = room.rpartition(".")[0]
    return places[room] if room else None


def within_package() -> Iterator[tuple[Import, str]]:
    for found in imports():
        target = room_of(found.target)
        if target is not None and target != found.importer:
            yield found, target


# Imports ------------------------------------------------------------------------------------------


def test_every_room_has_its_place_in_the_list() -> None:
    homeless = [r for r in modules() if r and level_of(r) is None and not inside(r, ("reports",))]
    assert not homeless, f"give them a line in LEVELS: {homeless}"


def test_imports_go_one_way() -> None:
    wrong = []
    for found, target in within_package():
        if inside(found.importer, ("reports",)) or not target or not found.importer:
            continue
        here, there = level_of(found.importer), level_of(target)
        if inside(target, ("reports",)):  # the next test's
            continue
        if there is None or here is None or there > here:
            wrong.append(str(found))
    assert not wrong, wrong


def test_no_rooms_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {room: set() for room in modules()}
    for found, target in within_package():
        graph[found.importer].add(target)
    while leaves := [room for room, targets in graph.items() if not targets & set(graph)]:
        for room in leaves:
            del graph[room]
    assert not graph, f"circle among {sorted(graph)}"


def test_reports_read_results_and_plans_only() -> None:
    wrong = [
        str(found)
        for found, target in within_package()
        if inside(found.importer, ("reports",)) and not inside(target, REPORTS_MAY_IMPORT)
    ]
    assert not wrong, wrong


def test_only_what_shows_them_imports_reports() -> None:
    shows = ("reports", "experiments", "jobs")
    wrong = [
        str(found)
        for found, target in within_package()
        if inside(target, ("reports",)) and not inside(found.importer, shows)
    ]
    assert not wrong, wrong


def test_nothing_imports_jobs_or_tests() -> None:
    wrong = [str(i) for i in imports() if i.target.split(".")[0] in {"jobs", "tests", "benchmarks"}]
    assert not wrong, wrong


def test_methods_know_neither_ray_nor_corpus() -> None:
    reached = reachable_from("methods")
    assert not {room for room in reached if inside(room, ("corpus", "batches.feeds", "training"))}
    wrong = [str(i) for i in imports() if i.importer in reached and top(i) in {"ray", "pyarrow"}]
    assert not wrong, wrong


def reachable_from(start: str) -> set[str]:
    """The rooms that a room and those below it import, directly or not."""
    reached = {room for room in modules() if inside(room, (start,))}
    while new := {t for i, t in within_package() if i.importer in reached} - reached:
        reached |= new
    return reached


def top(found: Import) -> str:
    return found.target.split(".")[0]


@pytest.mark.parametrize("library", ROOMS_OF)
def test_heavy_libraries_keep_to_their_rooms(library: str) -> None:
    wrong = [
        str(found)
        for found in imports()
        if top(found) == library and not inside(found.importer, ROOMS_OF[library])
    ]
    assert not wrong, wrong


def test_planning_needs_numpy_only() -> None:
    reached = reachable_from("batches.plans")
    foreign = {top(i) for i in imports() if i.importer in reached} - set(sys.stdlib_module_names)
    assert foreign <= {"numpy", "emoray"}


@pytest.mark.parametrize(
    "statement", ["import emoray", "import emoray.datasets, emoray.batches.plans"]
)
def test_importing_the_package_loads_no_heavy_library(statement: str) -> None:
    heavy = sorted(ROOMS_OF)
    program = f"import sys; {statement}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Habits -------------------------------------------------------------------------------------------


def test_only_cluster_reads_environment_variables() -> None:
    wrong = [
        f"emoray.{room} line {node.lineno}"
        for room, tree in modules().items()
        if room != "runtime.cluster"
        for node in ast.walk(tree)
        if touches_environment(node)
    ]
    assert not wrong, wrong


def touches_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "putenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(name.name in names for name in node.names)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "os" and node.attr in names
    return False


def sources() -> list[Path]:
    return [p for top in ("emoray", "jobs", "benchmarks") for p in (REPO / top).rglob("*.py")]


def test_no_file_is_longer_than_a_person_reads() -> None:
    lengths = {p.relative_to(REPO): len(p.read_text().splitlines()) for p in sources()}
    assert not {p: n for p, n in lengths.items() if n > LONGEST_FILE}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path.relative_to(REPO)}:{node.lineno} {node.name}": n
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (n := code_lines(node)) > LONGEST_FUNCTION
    }
    assert not long, long


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and decorators."""
    first = function.body[0]
    is_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_no_room_is_a_drawer_for_everything() -> None:
    assert not {r for r in modules() if set(r.replace("_", ".").split(".")) & NO_MODULES}


def test_files_are_named_in_the_datasets_and_methods_own_words() -> None:
    wrong = [p for p in sources() if not p.stem.isidentifier() or p.stem != p.stem.lower()]
    assert not wrong, wrong


def test_every_package_of_rooms_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of an installed copy."""
    folders = {p.parent for p in PACKAGE.rglob("*.py")}
    assert not [str(f.relative_to(REPO)) for f in folders if not (f / "__init__.py").exists()]

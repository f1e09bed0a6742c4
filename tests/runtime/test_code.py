from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import emoray
from emoray import datasets
from emoray.runtime.code import DECIDES_NOTHING, closure, source_version


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


def version(*modules: str) -> str:
    source_version.cache_clear()
    return source_version(tuple(f"emoray.{name}" for name in modules))


def test_a_version_changes_with_its_modules_and_their_names_and_nothing_else(package: Path) -> None:
    modules = ("vocabulary.affect", "methods.emod.method")
    before = version(*modules)
    assert before == version(*reversed(modules))
    assert before.startswith(f"{emoray.__version__}+")

    (package / "vocabulary" / "choices.py").write_text("")
    assert version("vocabulary.affect") == version("vocabulary.affect")

    inner = package / "methods" / "emod" / "method.py"
    inner.write_text(inner.read_text() + "\n")
    assert version(*modules) != before

    alone = version("vocabulary.affect")
    (package / "vocabulary" / "affect.py").rename(package / "vocabulary" / "affects.py")
    assert version("vocabulary.affects") != alone


def test_what_is_imported_counts_wherever_it_is_imported(package: Path) -> None:
    (package / "far.py").write_text("FAR = 1\n")
    (package / "near.py").write_text(
        "def near():\n    from emoray.far import FAR\n    return FAR\n"
    )
    assert closure(["emoray.near"]) == {"emoray.near", "emoray.far"}
    before = version("near")
    (package / "far.py").write_text("FAR = 2\n")
    assert version("near") != before


def test_imports_for_type_checkers_decide_nothing(package: Path) -> None:
    (package / "typed.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from emoray.far import FAR\n"
    )
    assert closure(["emoray.typed"]) == {"emoray.typed"}


def test_a_package_counts_with_its_modules_and_a_circle_ends(package: Path) -> None:
    (package / "one.py").write_text("import emoray.two\n")
    (package / "two.py").write_text("from emoray import one\n")
    assert closure(["emoray.one"]) == {"emoray.one", "emoray.two"}
    assert "emoray.datasets.formats" in closure(["emoray.datasets.deap"])


def test_a_module_counts_where_its_package_was_given_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chest.py").write_text("from emoray.vocabulary import schema\n")
    with pytest.raises(ValueError, match=r"got emoray\.datasets\.chest"):
        closure(["emoray.datasets.chest"])
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    assert "emoray.vocabulary.schema" in closure(["emoray.datasets.chest"])
    before = version("datasets.chest")
    (tmp_path / "chest.py").write_text("MORE = 1\n")
    assert version("datasets.chest") != before


def test_what_starts_keeps_and_shows_decides_nothing() -> None:
    found = closure(["emoray.training.execute"])
    assert "emoray.training.loop" in found
    assert not {name for name in found if name.split(".")[1] in DECIDES_NOTHING}


def test_a_module_that_is_not_there_is_named(package: Path) -> None:
    with pytest.raises(ValueError, match=r"need modules of emoray, got emoray\.lost"):
        version("vocabulary.affect", "lost")

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import emoray
from emoray.versions import source_version


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


def version(*patterns: str) -> str:
    source_version.cache_clear()
    return source_version(patterns)


def test_a_version_changes_with_its_files_and_their_names_and_nothing_else(package: Path) -> None:
    patterns = ("affect.py", "methods/**/*.py")
    before = version(*patterns)
    assert before == version(*reversed(patterns))
    assert before.startswith(f"{emoray.__version__}+")

    (package / "schema.py").write_text("")
    assert version(*patterns) == before

    inner = next(package.glob("methods/*/method.py"))
    inner.write_text(inner.read_text() + "\n")
    assert version(*patterns) != before

    alone = version("affect.py")
    (package / "affect.py").rename(package / "affects.py")
    assert version("affects.py") != alone


def test_a_file_of_two_patterns_counts_once(package: Path) -> None:
    assert version("affect.py", "aff*.py") == version("affect.py")


def test_a_pattern_without_files_is_named(package: Path) -> None:
    with pytest.raises(ValueError, match=r"need source files like lost/\*\.py, got none"):
        version("affect.py", "lost/*.py")

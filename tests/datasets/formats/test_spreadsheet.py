"""Workbooks: cells by column whatever is left out between them; nothing unpacks without bounds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from emoray.datasets.formats import spreadsheet
from emoray.vocabulary.schema import DataError

SHEET = "xl/worksheets/sheet1.xml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.xlsx"
    spreadsheet.write(
        path,
        [
            ("PP", "Valence_rc", *(f"other {i}" for i in range(30)), "Time & place"),
            ("PP1", 4.5, *[None] * 30, "<here>"),
            (None,) * 33,
            ("PP1", None, *[1.0] * 30, "there"),
        ],
    )
    return path


def refused(path: Path, *names: str) -> str:
    with pytest.raises(DataError) as caught:
        spreadsheet.read_columns(path, names or ("PP",))
    assert str(path) in str(caught.value)
    return str(caught.value)


def replace(path: Path, part: str, old: str, new: str) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert old in parts[part]
    parts[part] = parts[part].replace(old, new)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


def test_cells_belong_to_their_columns(path: Path) -> None:
    rows = spreadsheet.read_columns(path, ["Time & place", "PP", "Valence_rc"])
    assert rows == [
        {"PP": "PP1", "Valence_rc": 4.5, "Time & place": "<here>"},
        {"PP": "PP1", "Time & place": "there"},
    ]


def test_names_of_columns_may_be_spelled_otherwise(path: Path) -> None:
    assert spreadsheet.read_columns(path, ["valence rc"])[0] == {"valence rc": 4.5}


def test_a_text_may_stand_in_runs(path: Path) -> None:
    replace(path, "xl/sharedStrings.xml", "<t>PP1</t>", "<r><t>P</t></r><r><t>P1</t></r>")
    assert spreadsheet.read_columns(path, ["PP"]) == [{"PP": "PP1"}, {"PP": "PP1"}]


def test_a_text_within_a_cell_is_read(path: Path) -> None:
    replace(
        path, SHEET, '<c r="B2"><v>4.5</v></c>', '<c r="B2" t="inlineStr"><is><t>x</t></is></c>'
    )
    assert spreadsheet.read_columns(path, ["Valence_rc"]) == [{"Valence_rc": "x"}]


def test_a_prefix_of_the_namespace_does_not_matter(path: Path) -> None:
    for tag in ("worksheet", "sheetData", "row", "c", "v"):
        for old, new in ((f"<{tag} ", f"<x:{tag} "), (f"<{tag}>", f"<x:{tag}>")):
            with zipfile.ZipFile(path) as archive:
                if old not in archive.read(SHEET).decode():
                    continue
            replace(path, SHEET, old, new)
        replace(path, SHEET, f"</{tag}>", f"</x:{tag}>")
    replace(path, SHEET, "xmlns=", "xmlns:x=")
    assert len(spreadsheet.read_columns(path, ["PP"])) == 2


def test_a_column_that_is_missing_or_twice_there_is_refused(path: Path) -> None:
    assert "need columns Stress in its first sheet; found PP, Valence_rc" in refused(path, "Stress")
    replace(path, "xl/sharedStrings.xml", "other 3<", "valence RC<")
    assert "two columns Valence_rc" in refused(path, "Valence_rc")


def test_what_is_no_workbook_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    within = whole.index(SHEET.encode()) + len(SHEET) + 40
    altered = whole[:within] + bytes([whole[within] ^ 0xFF]) + whole[within + 1 :]
    for raw in (b"", b"garbage", whole[: len(whole) // 2], altered):
        path.write_bytes(raw)
        assert "need a whole Excel workbook" in refused(path)


def test_a_number_that_is_none_is_refused(path: Path) -> None:
    replace(path, SHEET, "<v>4.5</v>", "<v>much</v>")
    assert "need a whole Excel workbook" in refused(path, "Valence_rc")


def test_a_document_type_is_refused(path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><worksheet'
    replace(path, SHEET, "<worksheet", bomb)
    assert "a document type, which no workbook has" in refused(path)


def test_a_part_that_unpacks_to_too_much_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheet, "_MOST_BYTES", 1 << 20)
    replace(path, SHEET, "<sheetData>", "<sheetData>" + " " * (1 << 21))
    assert path.stat().st_size < 1 << 16
    assert "which unpacks to more than 1,048,576 bytes" in refused(path)

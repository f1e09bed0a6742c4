"""Excel workbooks (`.xlsx`): some columns of the first sheet, and a writer for examples.

A workbook is an archive of XML (ECMA-376). Formulas, links and macros are never looked at: a cell
is the value that was saved with it. What a part may unpack to is bounded, and a document type,
with which a few bytes can ask for gigabytes, is refused.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape

from emoray.datasets.formats import files
from emoray.vocabulary.schema import DataError

Cell = str | float

_MOST_BYTES = 1 << 28
"""Of one part, unpacked. A table of 3,140 rows and 172 columns takes about 30 MB."""
_BLOCK = 1 << 16
_SHEET = re.compile(r"xl/worksheets/sheet(\d+)\.xml")
_STRINGS = "xl/sharedStrings.xml"


def read_columns(path: Path, names: Sequence[str]) -> list[dict[str, Cell]]:
    """The rows of the first sheet below its head, as far as they have cells in these columns.

    Args:
        path: the workbook.
        names: of columns, as the first row has them; case, blanks and marks do not matter.

    Returns:
        A dictionary a row, by `names`; an empty cell has no entry.

    Raises:
        DataError: no workbook, one that is damaged or unpacks to too much, or a column that is
            missing or there twice.
    """
    with files.open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(archive, path, names)
        except OSError as error:
            raise DataError(
                f"{path}: need a file that can be read, found {files.reason(error)}"
            ) from error
        except DataError:
            raise
        # What zipfile, zlib and expat meet in bytes that stop or were altered.
        except (
            zipfile.BadZipFile,
            zlib.error,
            expat.ExpatError,
            ValueError,
            LookupError,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DataError(
                f"{path}: need a whole Excel workbook (.xlsx), found {error}"
            ) from error


def _read(archive: zipfile.ZipFile, path: Path, names: Sequence[str]) -> list[dict[str, Cell]]:
    parts = set(archive.namelist())
    sheets = sorted((int(m[1]), m[0]) for m in map(_SHEET.fullmatch, parts) if m)
    if not sheets:
        raise ValueError("no worksheet in it")
    strings: list[str] = []
    if _STRINGS in parts:
        _parse(archive, _STRINGS, shared := _Strings())
        strings = shared.texts
    table = _Table(strings, {_fold(name): name for name in names})
    _parse(archive, sheets[0][1], table)
    if absent := [name for name in names if name not in table.columns.values()]:
        found = ", ".join(table.head[:8]) or "none"
        raise DataError(
            f"{path}: need columns {', '.join(absent)} in its first sheet; found {found}"
            f"{f' and {len(table.head) - 8} more' if len(table.head) > 8 else ''}"
        )
    return table.rows


def _fold(name: str) -> str:
    return re.sub(r"\W|_", "", name).lower()


class _Handler:
    """What a parser tells of a part."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """Letters within it."""


def _parse(archive: zipfile.ZipFile, part: str, handler: _Handler) -> None:
    """Tell a handler of a part, a block at a time.

    Raises:
        ValueError: it has a document type, or unpacks to too much.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = lambda tag, attributes: handler.start(_bare(tag), attributes)
    parser.EndElementHandler = lambda tag: handler.end(_bare(tag))
    parser.CharacterDataHandler = handler.text
    left = _MOST_BYTES
    with archive.open(part) as file:
        while block := file.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{part}, which unpacks to more than {_MOST_BYTES:,} bytes")
            parser.Parse(block, False)
        parser.Parse(b"", True)


def _refuse(*_: object) -> None:
    raise ValueError("a document type, which no workbook has")


def _bare(tag: str) -> str:
    """Without the prefix of its namespace."""
    return tag.rpartition(":")[2]


class _Strings(_Handler):
    """The texts that cells refer to by number."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._inside = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A text begins, or a run of it."""
        if tag == "si":
            self.texts.append("")
        self._inside = tag == "t"

    def end(self, tag: str) -> None:
        """A run ends."""
        self._inside = False

    def text(self, text: str) -> None:
        """Letters of it."""
        if self._inside:
            self.texts[-1] += text


@dataclass
class _Table(_Handler):
    """The wanted columns of a sheet."""

    strings: Sequence[str]
    wanted: Mapping[str, str]
    """Names by their folded form."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names by letters of the column."""
    head: list[str] = field(default_factory=list)
    rows: list[dict[str, Cell]] = field(default_factory=list)
    _row: dict[str, Cell] = field(default_factory=dict)
    _in_head: bool = True
    _column: str = ""
    _kind: str = ""
    _value: str = ""
    _inside: bool = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A row, a cell, or its value begins."""
        if tag == "row":
            self._row = {}
        elif tag == "c":
            self._column = attributes.get("r", "").rstrip("0123456789")
            self._kind, self._value = attributes.get("t", "n"), ""
        elif tag in ("v", "t"):
            self._inside = self._in_head or self._column in self.columns

    def text(self, text: str) -> None:
        """Letters of a value."""
        if self._inside:
            self._value += text

    def end(self, tag: str) -> None:
        """A value, a cell, or a row ends."""
        if tag in ("v", "t"):
            self._inside = False
        elif tag == "c" and self._value.strip():
            self._cell()
        elif tag == "row":
            if not self._in_head:
                if self._row:
                    self.rows.append(self._row)
            elif self.head:  # blank rows may stand above it
                self._in_head = False

    def _cell(self) -> None:
        value: Cell = self._value.strip()
        if self._kind == "s":
            value = self.strings[int(value)].strip()
        elif self._kind in ("n", "d"):
            value = float(value)
        if not self._in_head:
            if value != "":
                self._row[self.columns[self._column]] = value
            return
        self.head.append(str(value))
        name = self.wanted.get(_fold(str(value)))
        if name is not None:
            if name in self.columns.values():
                raise ValueError(f"two columns {name}")
            self.columns[self._column] = name


def write(path: Path, rows: Iterable[Sequence[Cell | None]]) -> None:
    """Write a workbook of one sheet; None is an empty cell, which Excel leaves out."""
    texts: dict[str, int] = {}
    lines = [_line(i, row, texts) for i, row in enumerate(rows, start=1)]
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    of_book = (("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml"))
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-'
        'package.relationships+xml"/>'
        + "".join(
            f'<Override PartName="/xl/{name}" ContentType="{kind}.{content}+xml"/>'
            for name, content in (
                ("workbook.xml", "sheet.main"),
                ("worksheets/sheet1.xml", "worksheet"),
                ("sharedStrings.xml", "sharedStrings"),
            )
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="rId1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{relations}">'
        + "".join(
            f'<Relationship Id="rId{i}" Type="{office}/{what}" Target="{target}"/>'
            for i, (what, target) in enumerate(of_book, start=1)
        )
        + "</Relationships>",
        _STRINGS: f'<sst xmlns="{main}">'
        + "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
        + "</sst>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>'
        + "".join(lines)
        + "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')


def _line(i: int, row: Sequence[Cell | None], texts: dict[str, int]) -> str:
    cells = []
    for k, value in enumerate(row):
        if isinstance(value, str):
            number = texts.setdefault(value, len(texts))
            cells.append(f'<c r="{_letters(k)}{i}" t="s"><v>{number}</v></c>')
        elif value is not None:
            cells.append(f'<c r="{_letters(k)}{i}"><v>{value:.15g}</v></c>')
    return f'<row r="{i}">{"".join(cells)}</row>'


def _letters(k: int) -> str:
    """Name of a column: A, B, ... Z, AA."""
    return (_letters(k // 26 - 1) if k >= 26 else "") + chr(ord("A") + k % 26)

"""The page: whole, alone, readable by everybody; looked at by a browser where there is one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from emoray.reports import page
from emoray.reports.page import Figure
from emoray.results.comparison import Block, Cell, Comparison
from tests.browser import CHROMIUM, Tab, tab
from tests.reports.comparisons import table2, table3, with_cells

NEVER_CLOSED = {"meta", "link", "img", "wbr", "br"}
LONG_WORD = "run-" + "0123456789abcdef" * 12
FACTS = {"code": "0.1.0+0123456789ab", "corpus": f"s3://bucket/{LONG_WORD}", "<b>": '"&"'}


def png(height: int, width: int) -> bytes:
    out = io.BytesIO()
    image.imsave(out, np.linspace(0, 1, height * width).reshape(height, width), format="png")
    return out.getvalue()


FIGURES = (
    Figure("loss", 'Loss "curves" <1>', "Every run & seed.", png(400, 1600)),
    Figure("confusion", "Confusion", LONG_WORD, png(90, 60)),
)


def full() -> Comparison:
    """Everything that a page may hold at once."""

    def change(block: Block, cell: Cell) -> Cell:
        if block.dataset == "seed" and cell.row == "BIOT":
            return replace(cell, results=(), errors=(f"first {LONG_WORD}\n  line 2 <x>", "second"))
        return cell

    found = table2(rehearsal=True, notes=("One pretraining serves all seeds.", LONG_WORD))
    return with_cells(found, change)


class Tags(HTMLParser):
    """Elements with their attributes, and whether they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.found.append((tag, dict(attrs)))
        if tag not in NEVER_CLOSED:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.found if tag in names]


@pytest.fixture(scope="module")
def tags() -> Tags:
    return Tags(page.render(full(), FIGURES, FACTS))


def test_the_page_needs_nothing_from_elsewhere(tags: Tags) -> None:
    places = [a.get(name) for _, a in tags.found for name in ("src", "href", "srcset", "action")]
    assert all(place.startswith(("data:", "#")) for place in places if place)
    assert not tags.all("script", "iframe", "object", "base")
    assert "url(" not in page.render(full())
    assert "@import" not in page.render(full())


def test_links_within_the_page_arrive(tags: Tags) -> None:
    ids = {attrs["id"] for _, attrs in tags.found if "id" in attrs}
    assert {str(a["href"])[1:] for a in tags.all("a")} <= ids
    assert len(tags.all("a")) == 3 + 1


def test_tables_can_be_heard(tags: Tags) -> None:
    n_tables = len(tags.all("table"))
    assert n_tables == len(tags.all("caption")) == 2 + 1 + 4 * 3
    assert all(a.get("scope") in ("col", "colgroup", "row") for a in tags.all("th"))
    holders = [a for a in tags.all("div") if a.get("class") == "table"]
    assert len(holders) == n_tables
    assert all(a["role"] == "region" and a["tabindex"] == "0" for a in holders)
    assert all(a["aria-label"] for a in holders)


def test_every_row_of_a_table_is_as_wide_as_its_heads() -> None:
    for table in re.findall(r"<table>.*?</table>", page.render(full()), re.DOTALL):
        head, body = table.split("<tbody>")
        first = head.split("</tr>")[0]
        spans = [int(n) for n in re.findall(r'colspan="(\d+)"', first)]
        n_columns = first.count("<th ") - len(spans) + sum(spans)
        for row in body.split("</tr>")[:-1]:
            assert row.count("<td") + row.count("<th") == n_columns


def test_figures_are_inside_and_described(tags: Tags) -> None:
    first, second = tags.all("img")
    assert first["alt"] == 'Loss "curves" <1>'
    assert second["alt"] == "Confusion"
    assert all(str(a["src"]).startswith("data:image/png;base64,") for a in (first, second))
    assert "Every run & seed." in " ".join(tags.texts)


def test_facts_and_captions_are_letter_for_letter(tags: Tags) -> None:
    assert "<b>" in tags.texts
    assert '"&"' in tags.texts


def test_a_picture_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need a PNG for figure 'Loss', got b'GIF89a'"):
        page.render(table3(), [Figure("loss", "Loss", "", b"GIF89a")])


def test_the_banner_stands_only_over_rehearsal_data() -> None:
    assert 'class="banner"' in page.render(table3(rehearsal=True))
    assert "<title>Table 3: Effect of pretraining components</title>" in page.render(table3())
    assert 'class="banner"' not in page.render(table3())


def test_verdicts_are_told_in_words_and_tones(tags: Tags) -> None:
    tones = [a.get("class") for a in tags.all("span")]
    assert {"good", "mixed"} <= set(tones)
    assert "same subjects, same stimuli" in tags.texts


# In a browser -------------------------------------------------------------------------------------

BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
VISIBLE = """
[...document.querySelectorAll("table, img, h1, .banner")].map(e => {
  const box = e.getBoundingClientRect();
  return [e.tagName, box.width, box.height, getComputedStyle(e).visibility];
})"""
STICKING_OUT = """
[...document.querySelectorAll("body *")].filter(e => !e.closest(".table, pre")).filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > innerWidth + 0.5 || box.left < -0.5;
}).map(e => e.outerHTML.slice(0, 120))"""
CONTRAST = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => {
    v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (!c.startsWith("rgba(0, 0, 0, 0")) return c; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll("body *")].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
    const [a, b] = [getComputedStyle(e).color, behind(e)].map(light);
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 120)]; });
})()"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tab, Path]]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(page.render(full(), FIGURES, FACTS), encoding="utf-8")
    with tab() as browser:
        yield browser, folder / "page.html"


@BROWSER
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_from_a_file_without_complaint(opened: tuple[Tab, Path], width: int) -> None:
    browser, path = opened
    browser.open(path, width=width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(STICKING_OUT) == []
    shown: list[Any] = browser.evaluate(VISIBLE)
    assert [tag for tag, *_ in shown].count("TABLE") == 15
    assert all(w > 0 and h > 0 and seen == "visible" for _, w, h, seen in shown)
    sizes = browser.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[1600, 400], [60, 90]]
    assert browser.complaints == []


@BROWSER
@pytest.mark.parametrize(
    ("inside", "complaint"),
    [
        ('<img src="https://example.org/x.png">', "fetches https://example.org/x.png"),
        ('<style>p { background: url("x.png") }</style><p>', "fetches file://"),
        ("<script>console.warn('beware')</script>", "beware"),
        ("<script>throw new Error('broken')</script>", "broken"),
        ('<img src="data:image/png;base64,AAAA">', "Refused|violates"),
    ],
)
def test_a_page_that_is_not_alone_or_is_broken_complains(
    opened: tuple[Tab, Path], tmp_path: Path, inside: str, complaint: str
) -> None:
    """Else silence, above, would say nothing."""
    policy = "default-src 'none'" if "data:" in inside else "default-src * 'unsafe-inline'"
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    (tmp_path / "page.html").write_text(f"<!doctype html>{head}{inside}")
    browser, _ = opened
    browser.open(tmp_path / "page.html", width=800)
    assert re.search(complaint, " ".join(browser.complaints))


@BROWSER
def test_wide_tables_scroll_inside_their_frame(opened: tuple[Tab, Path]) -> None:
    browser, path = opened
    browser.open(path, width=390)
    inner = "[...document.querySelectorAll('.table')].map(e => [e.scrollWidth, e.clientWidth])"
    assert any(scroll > client + 100 for scroll, client in browser.evaluate(inner))
    browser.open(path, width=1280)
    assert all(scroll <= client for scroll, client in browser.evaluate(inner))


@BROWSER
def test_the_banner_stays_in_sight(opened: tuple[Tab, Path]) -> None:
    browser, path = opened
    browser.open(path, width=1280)
    browser.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert browser.evaluate("scrollY") > 1000
    assert browser.evaluate("document.querySelector('.banner').getBoundingClientRect().top") == 0


@BROWSER
@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(opened: tuple[Tab, Path], dark: bool) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), by day and by night."""
    browser, path = opened
    browser.open(path, width=1280, dark=dark)
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    found = browser.evaluate(CONTRAST)
    assert len(found) > 300
    assert [words for ratio, words in found if ratio < 4.5] == []

"""Chromium without a screen: what a page looks like and complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
"""None where there is none: the system's own, nothing is downloaded."""
PATIENCE_MS = 60_000.0


class Tab:
    """One open page."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._page = browser.new_page()
        self.complaints: list[str] = []
        """Of the page that is open: whatever its console says, exceptions, requests."""

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file into a window of that size, in CSS pixels; a narrow one is a telephone's."""
        self._page.close()
        self.complaints.clear()
        self._page = self._browser.new_page(
            viewport={"width": width, "height": height},
            is_mobile=width < 600,
            color_scheme="dark" if dark else "light",
        )
        self._page.set_default_timeout(PATIENCE_MS)
        self._page.on("console", lambda said: self.complaints.append(said.text))
        self._page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._page.on("request", self._note)
        self._page.goto(path.as_uri())

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, as plain data."""
        return self._page.evaluate(expression)

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return self._page.screenshot(full_page=True)

    def _note(self, request: Request) -> None:
        if not request.is_navigation_request() and not request.url.startswith("data:"):
            self.complaints.append(f"fetches {request.url}")


@contextmanager
def tab() -> Iterator[Tab]:
    """A browser of its own for as long as it is needed."""
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE_MS)
        yield Tab(browser)
        browser.close()

"""Chromium without a screen, asked over a pipe: what a page looks like and complains about."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
"""None where there is none."""
PATIENCE_S = 60.0


class Tab:
    """One open page. Speaks the DevTools protocol; messages end with a zero byte."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._rest = to_browser, from_browser, b""
        self._n, self._session = 0, ""
        self.complaints: list[str] = []
        """Errors and warnings of the console, exceptions, requests that were refused or sent."""
        self._seen: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file into a window of that size, in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._seen.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self._until("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, as plain data."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        clip = {**self.ask("Page.getLayoutMetrics")["cssContentSize"], "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def ask(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and wait for its answer."""
        self._n += 1
        said = {"id": self._n, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._n:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _until(self, event: str) -> None:
        while event not in self._seen:
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], PATIENCE_S)
            assert ready, f"the browser says nothing for {PATIENCE_S:g} s"
            read = os.read(self._from, 1 << 20)
            assert read, "the browser has left"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        event, params = message.get("method", ""), message.get("params", {})
        self._seen.append(event)
        if event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" or event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params))
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "about:")) and params.get("type") != "Document":
                self.complaints.append(f"fetches {url}")


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser of its own for as long as it is needed.

    Args:
        profile: an empty folder for the browser's files.
    """
    assert CHROMIUM is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]

    def as_chromium_wants() -> None:
        for fd, at in zip(moved, (3, 4), strict=True):
            os.dup2(fd, at)

    browser = subprocess.Popen(
        [
            *(CHROMIUM, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
            f"--user-data-dir={profile}",
        ],
        pass_fds=(3, 4, *moved),
        preexec_fn=as_chromium_wants,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for fd in (theirs_in, theirs_out, *moved):
        os.close(fd)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        browser.terminate()
        browser.wait(PATIENCE_S)

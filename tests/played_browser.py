"""A headless Chromium that a test drives by its DevTools protocol, over two pipes: no port, and nothing to install."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = "chromium"
_SECONDS = 60
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


class PlayedBrowser:
    """One page. `events` are all that came meanwhile, as the protocol tells them."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._left, self._number = to, back, b"", 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        [page] = [one for one in self.does("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.does("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.does(f"{domain}.enable")

    def does(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call it; the answer."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        left = json.dumps({"id": self._number, "method": method, "params": parameters, **session}).encode() + b"\0"
        while left:
            left = left[os.write(self._to, left) :]
        while (told := self._next()).get("id") != self._number:
            self.events.append(told)
        assert "error" not in told, told
        return dict(told["result"])

    def opens(self, page: Path) -> None:
        self.does("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + _SECONDS
        while self.evaluates("[document.readyState, location.href]") != ["complete", page.as_uri()]:
            assert time.monotonic() < deadline, "the page was not loaded in time"

    def looks(self, width: int, scheme: str) -> None:
        """As a screen so wide (pixels) of somebody who likes "light" or "dark"."""
        self.does("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.does("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluates(self, expression: str) -> Any:
        """The value of JavaScript, a promise's when it is kept."""
        done = self.does("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def pictures(self, file: Path, height: int = 0) -> None:
        """The page as a PNG: the whole of it, or the top."""
        clip = {} if not height else {"clip": {
            "x": 0, "y": 0, "width": self.evaluates("innerWidth"), "height": height, "scale": 1,
        }}  # fmt: skip
        done = self.does("Page.captureScreenshot", captureBeyondViewport=True, **clip)
        file.write_bytes(base64.b64decode(done["data"]))

    def as_paper(self, width: int, scheme: str) -> None:
        """As a printer sees it, on paper that is so wide within its margins (pixels)."""
        self.looks(width, scheme)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.does("Emulation.setEmulatedMedia", media="print", features=features)

    def prints(self, file: Path, margin: float) -> int:
        """On A4, with margins of so many inches, as a PDF; how many pages that is."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "marginLeft": margin, "marginRight": margin}
        printed = base64.b64decode(self.does("Page.printToPDF", printBackground=True, **paper)["data"])
        file.write_bytes(printed)
        return len(re.findall(rb"/Type\s*/Page\b", printed))

    def ends(self) -> None:
        self._session = ""
        self.does("Browser.close")

    def requested(self) -> set[str]:
        """Every address that it has asked for."""
        return {
            one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"
        }

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            read = os.read(self._back, 1 << 20)
            assert read, "the browser has ended"
            self._left += read
        told, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(told))


@contextmanager
def browser(folder: Path) -> Iterator[PlayedBrowser]:
    """A browser with nothing but a new profile below `folder`."""
    (hear, to), (back, say) = os.pipe(), os.pipe()
    command = f'exec "$@" 3<&{hear} 4>&{say}'
    argv = ["bash", "-c", command, "bash", PROGRAM, *_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"]
    with open(folder / "chromium.log", "wb") as log:
        program = subprocess.Popen(argv, pass_fds=(hear, say), stdout=log, stderr=log, start_new_session=True)
    os.close(hear)
    os.close(say)
    try:
        started = PlayedBrowser(to, back)
        yield started
        started.ends()
    finally:
        os.close(to)
        os.close(back)
        try:
            program.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, 9)
            program.wait()

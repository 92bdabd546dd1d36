"""The report in Chromium: at three widths and in both schemes it fits, everybody can read it, and it asks for nothing.

One browser for all, since its start is what takes time. The pictures are left in the test's folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.played_browser import PlayedBrowser, browser
from tests.played_report import hostile, html, played

WIDTHS = (360, 768, 1200)
SCHEMES = ("light", "dark")
AXE = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
WRONG = """axe.run(document, {resultTypes: ["violations"]%s}).then(told => told.violations.map(
    one => [one.id, one.nodes.slice(0, 3).map(node => node.html + " " + node.failureSummary)]))"""
OF_RULES = {"light": "", "dark": ", runOnly: ['color-contrast']"}  # all else is the same
PAPER = 642  # pixels of A4 within margins of 2 cm
CUT = """[...document.querySelectorAll('table, figure, .wide, .answer')].filter(one => one.checkVisibility()).filter(
    one => one.scrollWidth > one.clientWidth + 1 || one.getBoundingClientRect().right > innerWidth + 1).map(
    one => one.outerHTML.slice(0, 80))"""
SHOWN = 2400  # pixels from the top: that is what takes time
DOCS = Path(__file__).parents[2] / "docs"
REFUSED = """new Promise(told => {
    const refused = [];
    document.addEventListener("securitypolicyviolation", event => {
        refused.push(event.effectiveDirective); if (refused.length === 3) told(refused.sort()); });
    window.ran = false;
    const script = document.createElement("script"); script.textContent = "window.ran = true";
    const image = document.createElement("img"); image.src = "http://192.0.2.1/x.png";
    const style = document.createElement("style"); style.textContent = "body { display: none }";
    document.body.append(script, image, style);
})"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlayedBrowser, Path]]:
    folder = tmp_path_factory.mktemp("browser")
    with browser(folder) as started:
        yield started, folder


def test_it_fits_is_accessible_and_asks_for_nothing(
    opened: tuple[PlayedBrowser, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, folder = opened
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    files = {"story": folder / "story.html", "hostile": folder / "hostile.html"}
    for name, found in (("story", played()), ("hostile", hostile())):
        files[name].write_text(html(found))
        started.opens(files[name])
        started.evaluates(f"{AXE}; 0")
        schemes, widths = (SCHEMES, WIDTHS) if name == "story" else (SCHEMES[:1], WIDTHS[:1])
        for scheme in schemes:
            for width in widths:
                started.looks(width, scheme)
                started.evaluates("document.querySelectorAll('details').forEach(one => one.open = false)")
                started.pictures(folder / f"{name}-{scheme}-{width}.png", SHOWN)
                started.evaluates("document.querySelectorAll('details').forEach(one => one.open = true)")
                assert started.evaluates("document.documentElement.scrollWidth") <= width, (name, width)
            assert started.evaluates(WRONG % OF_RULES[scheme]) == [], (name, scheme)
    for name, file in files.items():
        assert_it_can_be_printed(started, file, folder / f"{name}.pdf")
    assert started.requested() <= {"about:blank", *(file.as_uri() for file in files.values())}
    assert len(list(folder.glob("*.png"))) == len(SCHEMES) * len(WIDTHS) + 1


def assert_it_can_be_printed(started: PlayedBrowser, page: Path, printed: Path) -> None:
    """On A4 with margins of 2 cm: nothing is cut off at the right, in black on white, on few pages."""
    started.opens(page)
    started.as_paper(PAPER, "dark")
    assert started.evaluates("document.documentElement.scrollWidth") <= PAPER
    assert started.evaluates(CUT) == []
    assert started.evaluates("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pages = started.prints(printed, 0.79)
    assert 1 <= pages <= 8, pages


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1100, 1640), ("dark", 390, 1400)])
def test_the_documentation_shows_it(opened: tuple[PlayedBrowser, Path], scheme: str, width: int, height: int) -> None:
    """`DRBDBACKUP_NEW_SCREENS=1` takes the pictures anew."""
    started, folder = opened
    shown = DOCS / f"report-{scheme}.png"
    if os.environ.get("DRBDBACKUP_NEW_SCREENS"):
        file = folder / "shown.html"
        file.write_text(html(played()))
        started.looks(width, scheme)
        started.opens(file)
        started.pictures(shown, height)
    assert int.from_bytes(shown.read_bytes()[16:20], "big") == width
    assert shown.stat().st_size < 300_000


def test_its_policy_refuses_what_somebody_puts_into_it(opened: tuple[PlayedBrowser, Path]) -> None:
    started, folder = opened
    file = folder / "story.html"
    file.write_text(html(played()))
    started.opens(file)
    assert started.evaluates(REFUSED) == ["img-src", "script-src-elem", "style-src-elem"]
    assert started.evaluates("window.ran") is False
    assert started.evaluates("getComputedStyle(document.body).display") != "none"

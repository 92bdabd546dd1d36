"""Each link between the pages leads somewhere, on a forge as on the site, and the site's navigation has every page."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for file in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SITE = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]


def anchors(page: str) -> list[str]:
    """Those of the headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain]


def links(page: str) -> list[str]:
    """All that lead to a place in this repository."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page))
    named = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", prose)
    return [link for one in named for link in one if link and not re.match(r"[a-z]+:", link)]


def broken(name: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    there = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    if not (ROOT / there).is_file():
        return True
    return bool(anchor) and anchors(PAGES.get(there, "")).count(anchor) != 1


def in_navigation(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for one in entry.values() if isinstance(entry, dict) else [entry]:
            yield from in_navigation(one) if isinstance(one, list) else [one]


def test_each_link_leads_to_a_file_and_a_heading_that_are_there() -> None:
    found = [(name, link) for name, page in PAGES.items() for link in links(page)]
    assert len(found) > 150
    assert [f"{name}: {link}" for name, link in found if broken(name, link)] == []


def test_each_link_of_an_installed_page_leads_to_what_is_installed() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    installed = build["targets"]["wheel"]["shared-data"]

    def has(path: str) -> bool:
        return any(path == one or path.startswith(f"{one}/") for one in installed)

    found = [
        (name, os.path.normpath(os.path.join(os.path.dirname(name), link.partition("#")[0])))
        for name, page in PAGES.items() if has(name) for link in links(page) if not link.startswith("#")
    ]  # fmt: skip
    assert len(found) > 100
    assert [f"{name}: {there}" for name, there in found if not has(there)] == []


def test_the_readme_of_the_package_has_no_link_that_leads_nowhere_on_pypi() -> None:
    """As it was when it was installed here: hatch_build.py makes it."""
    text = str(importlib.metadata.metadata("drbdbackup").get_payload())
    assert "## On a pair in ten minutes" in text
    assert [link for link in links(text) if not link.startswith("#")] == []


def test_the_navigation_of_the_site_has_every_page_once() -> None:
    assert sorted(in_navigation(SITE["nav"])) == sorted(PAGES)

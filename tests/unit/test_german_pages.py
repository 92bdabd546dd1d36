"""The pages in docs/de are in step with the English ones: the same headings, commands and facts, in the same places.

What no test can see is whether a sentence says the same: who changes one there reads the other page, too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH = {
    "docs/de/quick-start.md": "README.md", "docs/de/restore.md": "docs/restore.md", "docs/de/pair.md": "docs/pair.md",
}  # fmt: skip
PART = "On a pair in ten minutes"  # of the README, which is a page of its own in German
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")


class Section(NamedTuple):
    heading: str
    level: int
    text: str


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def sections(page: str) -> list[Section]:
    """A page cut at its headings. Comments in blocks of code are none."""
    hidden = FENCE.sub(lambda block: block[0].replace("\n#", "\n\0"), read(page))
    cut = re.split(r"^(#+) (.+)\n", hidden, flags=re.MULTILINE)[1:]
    found = [
        Section(heading, len(marks), text.replace("\0", "#"))
        for marks, heading, text in zip(cut[::3], cut[1::3], cut[2::3], strict=True)
    ]
    if page != "README.md":
        return found
    begin = [one.heading for one in found].index(PART)
    part = [found[begin]]
    for one in found[begin + 1 :]:
        if one.level <= part[0].level:
            break
        part.append(one)
    return [one._replace(level=one.level - 1) for one in part]


def facts(section: Section, page: str) -> dict[str, object]:
    """What is the same in both languages."""
    prose = re.sub(r"^\[(English|Deutsch)\].*\n", "", FENCE.sub("\n", section.text), flags=re.MULTILINE)
    plain = CODE.sub("", ADDRESS.sub("]", re.sub(r"\[[^]]*\]\([^)]*\)", "", prose)))
    return {
        "blocks": FENCE.findall(section.text),
        "code": sorted(" ".join(one.split()) for one in CODE.findall(prose)),
        "numbers": sorted(re.findall(r"\b\d{2,}(?:\.\d+)*", plain)),
        "links": sorted({place(link, page) for link in ADDRESS.findall(prose)}),
        "paragraphs": len([one for one in re.split(r"\n\s*\n", prose) if one.strip()]),
        "rows and items": re.findall(r"^(?:\||- |\d+\.)", prose, re.MULTILINE),
    }


def place(link: str, page: str) -> str:
    """The English page that it leads to, or whose German one it leads to."""
    path = link.partition("#")[0]
    there = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
    return ENGLISH.get(there, there)


@pytest.mark.parametrize("german", ENGLISH)
def test_a_german_page_has_the_headings_commands_and_facts_of_the_english_one(german: str) -> None:
    page = ENGLISH[german]
    here, there = sections(page), sections(german)
    assert len(here) > 5
    for ours, theirs in zip(here, there, strict=False):
        assert ours.level == theirs.level, f"{page}, {ours.heading!r}: in {german} it is {theirs.heading!r}"
        known, found = facts(ours, ENGLISH[german]), facts(theirs, german)
        differing = {name: (known[name], found[name]) for name in known if known[name] != found[name]}
        assert differing == {}, f"{page}, {ours.heading!r}: {german}, {theirs.heading!r}, is not in step"
    assert len(here) == len(there), f"{page} and {german} differ in their headings, from {here[-1].heading!r} on"


def test_every_german_page_is_one_of_these_and_each_language_leads_to_the_other() -> None:
    assert {f"docs/de/{file.name}" for file in (ROOT / "docs/de").iterdir()} == set(ENGLISH)
    for german, page in ENGLISH.items():
        back = re.findall(r"^\[English\]\(([^)#]+)", read(german), re.MULTILINE)
        assert [os.path.normpath(os.path.join("docs/de", one)) for one in back] == [page]
        there = re.findall(r"^\[Deutsch\]\(([^)#]+)", read(page), re.MULTILINE)
        assert [os.path.normpath(os.path.join(os.path.dirname(page), one)) for one in there] == [german]

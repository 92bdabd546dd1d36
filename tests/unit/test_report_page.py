"""The report: what it says of small catalogs, of hostile ones, and how large it becomes with five years of runs."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from drbdbackup.catalog import history, store
from drbdbackup.catalog.bodies import EndedTarget, Run, ran
from drbdbackup.health.growth import growth
from drbdbackup.lineage import Lineage, Lineages
from drbdbackup.model.backup import Outcome, Reach, iso, snapshot_name
from drbdbackup.pipeline.copies.known_copies import KnownCopy
from drbdbackup.report.html.nights import calendars
from drbdbackup.report.html.page import LineageLosses
from tests.played_report import DAY, NOW, cases_of, copy, hostile, html, played, reported, run, story

MOST = 2 << 20


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Elements(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, told: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(told)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_leads_with_the_newest_backup_and_says_which_night_failed_and_why() -> None:
    told = Elements(html(played()))
    text = " ".join(told.text.split())
    assert text.index(copy(0).snapshot) < text.index("If the volume is lost now") < text.index("The last nights")
    assert "No route to host" in text
    assert "Is the NAS switched on?" in text
    assert "Mon 2026-11-23 on www5 a backup was due" in text
    assert "5 problems, the last on Wed 2026-11-25 04:30 on www4 (failed)" in text
    assert "This snapshot has not been verified yet. An older copy was" in text
    titles = {attributes.get("title") for tag, attributes in told.tags if tag == "td"}
    nights = {
        "2026-11-25: failed", "2026-11-20: partial", "2026-11-16: held", "2026-11-11: refused", "2026-11-23: missed",
        "2026-11-08: complete", "2026-11-09: complete", "2026-11-09: complete; failover",
    }  # fmt: skip
    assert nights - titles == {"2026-11-09: complete"}, "that is the night after the failover"


def test_no_backup_at_all_is_said_on_top() -> None:
    told = Elements(html(reported([], []))).text
    assert "There is no backup that can be restored" in told
    assert "Everything is lost" in told


def test_a_split_brain_leads_and_each_side_has_its_own_losses() -> None:
    sides = [copy(1), copy(0, node="www5", snapshot="20261128T043055Z-www5")]
    rivals = [Lineage("A" * 16, (one.node,), False, frozenset({(one.medium, one.snapshot)})) for one in sides]
    known = [KnownCopy(one, Reach.YES, line) for one, line in zip(sides, rivals, strict=True)]
    sides_lose = [LineageLosses(line.name, tuple(cases_of([one]))) for one, line in zip(sides, rivals, strict=True)]
    told = Elements(html(reported(story(), known, lines=Lineages(tuple(rivals)), losses=sides_lose)))
    text = " ".join(told.text.split())
    assert "Split brain: www4 and www5 wrote different data" in text
    assert text.index("If what www4 wrote is kept") < text.index("If what www5 wrote is kept")
    assert "The newest backup was made" not in text
    titles = {attributes.get("title") for tag, attributes in told.tags if tag == "td"}
    assert {"2026-11-27: complete; split brain", "2026-11-28: stood-down; split brain"} <= titles


def test_nothing_comes_from_elsewhere_and_the_policy_fits_the_style() -> None:
    told = html(played())
    tags = Elements(told).tags
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in tags}
    assert not [one for one in tags if {"src", "href", "xlink:href", "style", "onclick"} & set(one[1])]
    [style] = re.findall(r"<style>(.*?)</style>", told, re.DOTALL)
    assert not re.search(r"url\(|@import|@font-face", style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    [policy] = [one["content"] for tag, one in tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_names_stay_texts() -> None:
    ours = {tag for tag, _ in Elements(html(played())).tags}
    told = html(hostile())
    assert {tag for tag, _ in Elements(told).tags} <= ours | {"br"}
    assert "&lt;img src=x onerror=alert(1)&gt;" in told
    assert not {"\u202e", "\x1b"} & set(told)


def test_every_plot_has_a_name_and_a_table_of_the_same_figures() -> None:
    told = html(played())
    figures = re.findall(r"<figure>.*?</figure>", told, re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        assert re.search(r'<svg[^>]* role="img"[^>]* aria-labelledby="([\w-]+)"', figure)
        assert len(re.findall(r'class="bar"', figure)) == len(re.findall(r"<tr><td>", figure)) > 0


def test_a_night_shows_the_worst_of_its_runs_and_is_missed_only_where_one_was_due() -> None:
    first, last = date(2026, 11, 24), date(2026, 11, 28)
    done = [run(0), run(2), run(2, "www4", Outcome.FAILED), run(3, "www5")]
    due = {date(2026, 11, day) for day in (24, 25, 27)}
    [www4, www5] = calendars(["www4", "www5"], done, (first, last), due, {"www5": {date(2026, 11, 25)}})
    states = [[night.state for week in one.weeks for night in week if night] for one in (www4, www5)]
    assert states == [
        ["nothing", "missed", "failed", "missed", "complete"], ["nothing", "complete", "nothing", "missed", "nothing"],
    ]  # fmt: skip
    marks = [[night.marks for week in one.weeks for night in week if night] for one in (www4, www5)]
    assert marks == [[(), (), ("failover",), (), ()], [(), ("split brain",), (), (), ()]]


def test_a_forecast_needs_a_week_of_backups_and_leaves_the_first_copy_out() -> None:
    few, many = (EndedTarget(outcome="complete", bytes=size) for size in (10, 1 << 40))
    done = [run(back, targets=(("nas", few),)) for back in range(1, 11)] + [run(11, targets=(("nas", many),))]
    found = growth(done, "nas", "", NOW)
    assert found is not None
    assert (round(found.days), round(found.full_in(1000) or 0)) == (10, 104)
    assert growth(done[:5], "nas", "", NOW) is None
    assert growth(done, "disk", "", NOW) is None
    assert growth(done, "nas", "www5", NOW) is None


def test_five_years_of_runs_are_a_small_page_soon(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    for node in ("www4", "www5"):
        store.record(state, node, [ran(five_years_of(node, back)) for back in range(1825)])
    began = time.perf_counter()
    done = history.activities(state, "raid")
    read = time.perf_counter() - began
    told = html(reported(done, [KnownCopy(copy(back), Reach.YES) for back in range(400)]))
    whole = time.perf_counter() - began
    print(f"3,650 runs: read in {read:.2f} s, page of {len(told) / 1024:.0f} KiB in {whole:.2f} s in all")
    assert len(done) == 3650
    assert len(told.encode()) < MOST
    one_year = html(reported(done[:730], [KnownCopy(copy(back), Reach.YES) for back in range(400)]))
    assert len(told) < 1.2 * len(one_year), "it does not grow with the years"
    assert whole < 20, "measured 1 s; generous for a busy machine"


def five_years_of(node: str, back: int) -> Run:
    at = NOW - back * DAY
    outcome = Outcome.STOOD_DOWN if node == "www5" else Outcome.COMPLETE if back % 10 else Outcome.FAILED
    ended = EndedTarget(outcome=outcome.value, message="no route to the host " * 5, files=9, bytes=1 << 30)
    return Run(
        name=snapshot_name(at, node), resource="raid", node=node, outcome=outcome, started_at=at,
        finished_at=at + timedelta(minutes=9), because=(f"due at {iso(at)}",), targets=(("nas", ended),),
    )  # fmt: skip

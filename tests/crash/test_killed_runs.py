"""A run that is killed after any event of its journal loses nothing, leaves nothing behind, and the next one heals.

So with every kind of target at once: a NAS, disks with ext4 and btrfs, a share without links. The journal is a FIFO
here: the test reads one event after another and does the harm right after the one in question. The next run is that
of the same node, or after a failover that of the other one. How many faults there were is told at the end of the tests.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tests.captured import play
from tests.played_media import nothing_is_left, wait_for
from tests.played_site import KINDS, Site, caged

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="disks and namespaces want root")
TRIES = 10
EVENTS = 22  # of a run on four targets: begun, walked, and opened, ready, published, pruned, done of each


class Sites:
    """One site for many faults; after one that was not survived there is another."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stack = ExitStack()
        self._site: Site | None = None

    def take(self) -> Site:
        site, self._site = self._site, None
        if site is None:
            self.close()
            folder = self._folders.mktemp("site")
            self._stack.callback(lambda: nothing_is_left(folder) or pytest.fail("something is mounted still"))
            site = Site(folder, self._stack)
        return site

    def put(self, site: Site) -> None:
        self._site = site

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    found = Sites(tmp_path_factory)
    yield found
    found.close()


@pytest.fixture
def site(sites: Sites, request: pytest.FixtureRequest, record_property) -> Iterator[Site]:
    taken = sites.take()
    before = taken.faults
    taken.changes()
    taken.survived = False
    yield taken
    record_property("faults", taken.faults - before)
    record_property("lost", len(taken.lost))
    if taken.survived:
        sites.put(taken)


def other_or_same(number: int) -> str:
    """Who makes the next backup."""
    return ("www4", "www5")[number % 2]


@pytest.mark.parametrize("number", range(1, EVENTS + 1))
def test_a_run_killed_after_any_event_loses_nothing(site: Site, number: int) -> None:
    events = site.broken(number, subprocess.Popen.kill)
    assert events.count("published") <= len(KINDS)
    site.heals(other_or_same(number))


@pytest.mark.parametrize("number", [5, 7, 9, 12, 18])
def test_a_run_that_begins_with_an_old_tree_and_is_killed_loses_nothing(site: Site, number: int) -> None:
    site.spares()
    events = site.broken(number, subprocess.Popen.kill)
    assert "recycled" in events or number < 7
    site.heals(other_or_same(number))


@pytest.mark.parametrize("number", [4, 11, 19])
def test_a_run_that_is_told_to_end_after_an_event_loses_nothing(site: Site, number: int) -> None:
    site.broken(number, subprocess.Popen.terminate)
    site.heals(other_or_same(number))


def killed_in_time(site: Site, job: str, which: int, is_late: Callable[[list[str]], bool]) -> list[str]:
    """The events of a run of which one such job was killed while it was at work.

    On a busy machine it may be done by then. Then nothing was tried, and another run is started.
    """
    def harm(run: subprocess.Popen[bytes]) -> None:
        wait_for(lambda: len(caged(run, job)) > which or run.poll() is not None, f"the {job}")
        with suppress(IndexError, ProcessLookupError):
            os.kill(caged(run, job)[which], signal.SIGKILL)

    for _ in range(TRIES):
        events = site.broken(1, harm)
        if not is_late(events):
            return events
        site.faults -= 1
        site.heals("www4")
        site.changes()
    raise AssertionError(f"the {job} was always done before it could be killed")


@pytest.mark.parametrize("which", range(len(KINDS)))
def test_a_target_whose_worker_is_killed_loses_nothing(site: Site, which: int) -> None:
    events = killed_in_time(site, "copy", which, lambda events: events.count("published") == len(KINDS))
    assert (events.count("published"), events.count("failed")) == (len(KINDS) - 1, 1)
    site.heals("www4")


def test_a_walk_that_is_killed_loses_nothing(site: Site) -> None:
    assert "published" not in killed_in_time(site, "walk", 0, lambda events: "walked" in events)
    site.heals("www5")


def test_an_rsync_that_is_killed_on_every_target_loses_nothing(site: Site) -> None:
    fakes = site.folder / "fakes"
    fakes.mkdir(exist_ok=True)
    play(fakes / "rsync", "#!/bin/sh\nkill -KILL $$\n")
    events = site.broken(1, lambda run: None, path=f"{fakes}:{os.environ['PATH']}")
    assert (events.count("published"), events.count("failed")) == (0, len(KINDS))
    site.heals("www4")


def test_a_killed_run_is_known_as_interrupted(site: Site) -> None:
    site.broken(4, subprocess.Popen.kill)
    site.heals("www4")
    with closing(sqlite3.connect(site.folder / "state-www4/catalog.db")) as catalog:
        query = "SELECT json_extract(body, '$.outcome') FROM fact WHERE kind = 'run' ORDER BY at, rowid"
        assert [row[0] for row in catalog.execute(query)][-2:] == ["interrupted", "complete"]

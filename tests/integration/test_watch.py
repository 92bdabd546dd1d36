"""What is under way on a node can be seen by whoever looks, and nothing is seen of what has gone."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Static

from drbdbackup.commands.latest import latest
from drbdbackup.commands.watch import begun_elsewhere, look
from drbdbackup.config.load import load
from drbdbackup.pipeline.progress import Progress, SilentWatcher
from drbdbackup.pipeline.progress_file import JobProgress, TargetProgress, under_way, written_progress
from drbdbackup.report.full_screen import KeysShown
from drbdbackup.report.watch_lines import RateMeter
from drbdbackup.report.watch_screen import WatchScreen
from tests import preloaded
from tests.played_media import wait_for
from tests.played_pair import PlayedPair
from tests.played_terminal import at_a_terminal

PATIENCE = 60.0


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """A first backup is there; the next one takes half a minute."""
    played = PlayedPair(tmp_path)
    (played.volume / "page").write_text("x")
    played.backs_up()
    (played.volume / "large").write_bytes(os.urandom(2 << 20))
    played.extra = '[limits]\nrate = "64K"\n'
    return played


def texts(screen: WatchScreen) -> str:
    return "\n".join(str(one.render()) for one in screen.query(Static))


def test_a_run_of_cron_is_seen_with_its_targets_until_it_ends(pair: PlayedPair) -> None:
    config, progress = load(str(pair.config("www4"))), pair.folder / "state-www4/progress"
    assert under_way(config) == ()
    running = preloaded.Popen(pair.command("www4", "run"), stdout=-1, stderr=-1, text=True)
    try:
        wait_for(lambda: any(job.targets and job.targets[0].bytes for job in under_way(config)), "the copying")
        [job] = under_way(config)
        assert (job.what, job.resource, job.pid, job.reads) == ("run", "raid", running.pid, False)
        assert job.bytes == (2 << 20) + 1
        assert [(one.name, one.outcome) for one in job.targets] == [("nas", "")]
        assert 0 < job.targets[0].bytes < job.bytes

        async def step(screen: WatchScreen, pilot: Pilot[None]) -> None:
            while not ("the newest backup is" in texts(screen) and "KiB/s" in texts(screen)):
                await pilot.pause(0.05)
            told = texts(screen)
            assert f"run of raid, process {running.pid}" in told
            assert "a run would back it up" in told
            below = told[told.index("run of raid") : told.index("raid on www4")]
            assert [line for line in below.splitlines() if len(line) > 58] == []
            await pilot.press("question_mark")
            await pilot.pause()
            assert isinstance(screen.screen, KeysShown)
            await pilot.press("escape", "r", "q")

        async def play() -> None:
            screen = WatchScreen(lambda: look(config, config.resources), lambda: under_way(config), 30)
            async with screen.run_test(size=(60, 30)) as pilot:
                await step(screen, pilot)

        asyncio.run(asyncio.wait_for(play(), PATIENCE))
        told = shlex.join(pair.command("www4", "watch", "--interval", "1"))
        status, seen = at_a_terminal(f"TERM=xterm-256color {told}", [("run of raid", b"q")])
        assert status == 0, seen
        ended = at_a_terminal(f"TERM=xterm-256color exec {told}", [("run of raid", signal.SIGTERM)])
        assert ended[0] == 143, ended[1]
        assert ended[1].rindex("\x1b[?1049l") > ended[1].rindex("\x1b[?1049h")
        running.kill()
        running.wait()
        assert [name.split("-")[0] for name in os.listdir(progress)] == [str(running.pid)], "nobody could remove it"
        assert under_way(config) == ()
    finally:
        running.kill()
        running.communicate()
    pair.extra = ""
    pair.backs_up()
    assert os.listdir(progress) == []


def test_a_state_folder_that_takes_no_file_ends_no_job(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_text("x")
    (pair.folder / "state-www4/progress").write_text("in the way")
    pair.backs_up()


def test_it_is_written_once_a_second_and_what_is_nonsense_is_not_shown(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    config, folder = load(str(pair.config("www4"))), pair.folder / "state-www4/progress"
    with written_progress(config, "verify", SilentWatcher()) as watcher:
        watcher.begun("raid", ("nas", "disk"), reads=True)
        [file] = folder.iterdir()
        written = set()
        for number in range(1, 2001):
            watcher.progress("nas", Progress(number, number, 0))
            written.add(file.stat().st_ino)
        assert len(written) <= 2
        (folder / f"{os.getpid()}-1").write_bytes(file.read_bytes())
        (folder / "x").write_bytes(file.read_bytes())
        assert [job.pid for job in under_way(config)] == [os.getpid()], "an id comes again"
        watcher.ended("nas", "complete", "")
        assert b'"outcome":"complete"' in file.read_bytes()
        for nonsense in (b"", b"{", b"[]", b'{"what": 1}', b'{"what": "run", "targets": [{"name": 3}]}'):
            file.write_bytes(nonsense)
            assert under_way(config) == ()
    assert sorted(os.listdir(folder)) == [f"{os.getpid()}-1", "x"]
    with written_progress(config, "verify", SilentWatcher()):
        assert os.listdir(folder) == []


def test_a_rate_is_that_of_the_last_seconds() -> None:
    now = datetime.now(UTC)

    def job(at: float, done: int) -> JobProgress:
        return JobProgress(
            what="run", resource="raid", pid=1, started_at=now, at=at, targets=(TargetProgress("nas", 1, done),)
        )

    meter = RateMeter(seconds=10)
    assert meter.rates([job(100, 0)]) == {}
    assert meter.rates([job(101, 50)]) == {(1, "nas"): 50}
    assert meter.rates([job(101, 50)]) == {(1, "nas"): 50}, "nothing new was written"
    assert meter.rates([job(111, 1050)]) == {(1, "nas"): 100}
    assert meter.rates([job(112, 5)]) == {}, "the next resource"
    assert meter.rates([]) == {}


def test_of_another_node_it_is_what_the_catalog_knows(pair: PlayedPair) -> None:
    pair.extra = ""
    config = load(str(pair.config("www4")))
    [known] = latest(config, config.resources)
    since = known.copies[0].copy.started_at - timedelta(seconds=1)
    assert list(begun_elsewhere(config, known, since)) == []
    mine = known.copies[0].copy
    foreign = [replace(mine, node="www5", snapshot="20261123T043000Z-www5", target=name) for name in ("nas", "disk")]
    known = replace(known, copies=tuple(replace(known.copies[0], copy=copy) for copy in foreign))
    [found] = begun_elsewhere(config, known, since)
    assert (found.node, found.snapshot, found.targets) == ("www5", "20261123T043000Z-www5", ("nas", "disk"))
    assert list(begun_elsewhere(config, known, since + timedelta(seconds=2))) == [], "it is older than a run may be"
    ended = replace(known.copies[0], copy=replace(foreign[0], snapshot=mine.snapshot))
    assert list(begun_elsewhere(config, replace(known, copies=(ended,)), since)) == [], "its run has ended"


def test_without_a_terminal_it_says_what_else_there_is(pair: PlayedPair) -> None:
    ended = pair.run("www4", "watch")
    assert ended.returncode == 2
    assert "needs a terminal" in ended.stderr
    assert pair.run("www4", "watch", "--interval", "0").returncode == 2

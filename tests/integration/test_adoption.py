"""The new Primary makes up for a run that the other node could not finish, from what that one left on the NAS.

The old writer may still be there, stopped in mid-copy, and go on at any time: it must spoil nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests import preloaded
from tests.descent import family
from tests.played_media import Share, nothing_is_left, wait_for, weak_share
from tests.played_pair import PlayedPair, differences
from tests.settled import settled_volume

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts want root")
LARGE, SMALL = 8 << 20, 3 << 20
WHOLE = 8 * LARGE + 2 * SMALL


def furnish(volume: Path) -> None:
    for number in range(8):
        (volume / f"a-{number}").write_bytes(os.urandom(LARGE))
    for name in ("x-copied", "z-halt"):
        (volume / name).write_bytes(os.urandom(SMALL))
    os.link(volume / "x-copied", volume / "x-too")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """Each node has the same NAS mounted at a place of its own. 64 MiB are written down in mid-copy, 6 are not."""
    played = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas-{{node}}"'})
    settled_volume(played.volume, furnish)
    yield played
    assert nothing_is_left(tmp_path)


def nas(pair: PlayedPair, node: str, stops_at: str = "") -> AbstractContextManager[Share]:
    return weak_share(pair.folder / f"nas-{node}", pair.folder / "behind", "squashed", stops_at=stops_at)


@contextmanager
def halted(pair: PlayedPair, node: str, share: Share) -> Iterator[subprocess.Popen[str]]:
    """A node's run in mid-copy, its NAS and all of its own processes stopped: it may go on whenever it likes."""
    run = preloaded.Popen(
        pair.command(node, "run", "--json"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: is_stopped(share.pid), "the copy to come to the file")
        for pid in family(run.pid):
            os.kill(pid, signal.SIGSTOP)
        yield run
    finally:
        os.kill(share.pid, signal.SIGCONT)
        run.kill()
        run.communicate()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def goes_on(run: subprocess.Popen[str], share: Share) -> tuple[int, str]:
    """Let a halted run go on; how it ends."""
    for pid in (share.pid, *family(run.pid)):
        os.kill(pid, signal.SIGCONT)
    _, said = run.communicate(timeout=60)
    return run.returncode, said


def made_up(pair: PlayedPair) -> tuple[Path, int]:
    """www5 is Primary now and backs up: the tree behind, and the bytes that it copied."""
    pair.roles("www5")
    [target] = pair.json("www5", "run")["runs"][0]["targets"]
    return newest(pair), target["counts"]["copied_bytes"]


def newest(pair: PlayedPair) -> Path:
    """The newest tree, behind the share."""
    return pair.folder / "behind" / pair.newest("nas", "www5").relative_to(pair.folder / "nas-www5")


def equals_the_source(pair: PlayedPair) -> bool:
    """What www5 restores is what the volume holds: the share itself cannot hold owners."""
    restored = pair.folder / "restored"
    done = pair.run("www5", "restore", "--to", str(restored), "--yes")
    assert done.returncode == 0, done.stderr
    found = differences(pair.volume, restored)
    shutil.rmtree(restored)
    assert found == []
    return True


def everything_in(tree: Path) -> dict[str, object]:
    """All there is to know of what lies in a tree: what a stray write, chmod or link would change."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(tree):
        for path in (os.path.join(folder, name) for name in (*folders, *files)):
            seen = os.lstat(path)
            found[path] = (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_size, seen.st_mtime_ns)
            if os.path.isfile(path):
                found[f"{path}:"] = Path(path).read_bytes()
    return found


def left_by(pair: PlayedPair, node: str) -> list[Path]:
    return list((pair.folder / "behind/drbdbackup/raid").glob(f".partial-*-{node}"))


def test_less_than_a_fifth_is_copied_again_and_a_writer_that_wakes_up_spoils_nothing(pair: PlayedPair) -> None:
    with nas(pair, "www4", "z-halt") as ours, nas(pair, "www5"), halted(pair, "www4", ours) as stale:
        [left] = left_by(pair, "www4")
        inode = (left / "data/a-3").stat().st_ino
        tree, copied = made_up(pair)
        assert copied < WHOLE / 5, f"{copied} of {WHOLE} bytes were copied again"
        assert (tree / "a-3").stat().st_ino == inode, "it was not linked from there"
        assert equals_the_source(pair)
        assert left.exists(), "its writer may live"
        before = everything_in(tree)
        status, said = goes_on(stale, ours)
        assert status == 7, said
        assert everything_in(tree) == before
        assert [copy["node"] for copy in pair.copies("www5")] == ["www5"]
        assert pair.run("www5", "verify").returncode == 0
        pair.backs_up("www5")
        assert not left.exists(), "its run has ended, and the NAS told www5 so"


def test_a_writer_that_wakes_up_leaves_a_running_copy_alone(pair: PlayedPair) -> None:
    with nas(pair, "www4", "z-halt") as theirs, nas(pair, "www5", "z-halt") as ours:
        with halted(pair, "www4", theirs) as stale:
            pair.roles("www5")
            with halted(pair, "www5", ours) as running:
                status, said = goes_on(stale, theirs)
                assert status == 7, said
                assert left_by(pair, "www5"), "it was swept under a run"
                status, said = goes_on(running, ours)
                assert status == 0, said
        assert equals_the_source(pair)
        assert [copy["node"] for copy in pair.copies("www5")] == ["www5"]
        assert pair.run("www5", "verify").returncode == 0


def test_of_two_primaries_that_are_apart_none_sweeps_what_the_other_is_at(pair: PlayedPair) -> None:
    """A split brain: both are right, and one is done while the other is in mid-copy."""
    with nas(pair, "www4", "z-halt") as theirs, nas(pair, "www5"), halted(pair, "www4", theirs) as running:
        (pair.folder / "role-www5").write_text("Primary\n")
        pair.backs_up("www5")
        status, said = goes_on(running, theirs)
        assert status == 0, said
        assert {copy["node"] for copy in pair.copies("www5")} == {"www4", "www5"}
        assert equals_the_source(pair)
        assert pair.run("www5", "verify").returncode == 0


def test_a_copy_that_may_not_be_published_is_not_made_twice(pair: PlayedPair) -> None:
    """All was copied when the role went: nothing of it is copied again."""
    with nas(pair, "www4") as ours, nas(pair, "www5"):
        journal = pair.folder / "state-www4/journal"
        os.mkfifo(journal)
        run = preloaded.Popen(pair.command("www4", "run"), stderr=subprocess.PIPE, text=True)
        with journal.open() as events:
            next(line for line in events if '"opened"' in line)
            os.kill(ours.pid, signal.SIGSTOP)
            pair.roles("www5")
            os.kill(ours.pid, signal.SIGCONT)
            events.read()
        run.communicate(timeout=60)
        assert run.returncode == 7
        assert left_by(pair, "www4")
        _, copied = made_up(pair)
        assert copied == 0
        assert equals_the_source(pair)
        assert not left_by(pair, "www4"), "www4 said that its run has ended"


def test_what_was_being_written_counts_for_nothing(pair: PlayedPair) -> None:
    """A chunk in which lines are torn, or zeros where a share has not seen them yet, is not believed."""
    with nas(pair, "www4", "z-halt") as ours, nas(pair, "www5"), halted(pair, "www4", ours) as stale:
        stale.kill()
        [left] = left_by(pair, "www4")
        lines = (left / "manifest.partial").read_bytes().splitlines(keepends=True)
        torn = lines[2][:40].ljust(len(lines[2]) - 1, b"\0") + b"\n"
        (left / "manifest.partial").write_bytes(b"".join((*lines[:2], torn, *lines[3:])))
        tree, copied = made_up(pair)
        assert copied == WHOLE
        assert (tree / "a-1").stat().st_ino != (left / "data/a-1").stat().st_ino
        assert equals_the_source(pair)


def test_a_writer_whose_copy_is_gone_ends_in_vain(pair: PlayedPair) -> None:
    """It was stopped for longer than any run may last, and swept."""
    with nas(pair, "www4", "z-halt") as ours, nas(pair, "www5"), halted(pair, "www4", ours) as stale:
        tree, _ = made_up(pair)
        for left in left_by(pair, "www4"):
            shutil.rmtree(left)
        before = everything_in(tree)
        status, said = goes_on(stale, ours)
        assert status in (1, 7)
        assert "Traceback" not in said
        assert everything_in(tree) == before
        assert [copy["node"] for copy in pair.copies("www5")] == ["www5"]

"""A restore in place that is killed anywhere is known on both nodes, and completed from either."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.played_daemons import Daemons
from tests.played_media import disk_image, mount_points, share, stopped, tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore, rot


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return PlayedPair(tmp_path)


@pytest.fixture
def daemons(pair: PlayedPair) -> Iterator[Daemons]:
    played = Daemons(pair)
    yield played
    played.end()


def filled(pair: PlayedPair, files: int = 2, size: int = 1000) -> Path:
    """Back up so many files of so many bytes, then empty them; what they were."""
    for number in range(files):
        (pair.volume / f"file-{number}").write_bytes(os.urandom(size))
    (pair.volume / "folder").mkdir()
    pair.backs_up()
    wanted = pair.folder / "wanted"
    tool("rsync", "-aHAXS", "--modify-window=-1", "--exclude=/.drbdbackup", f"{pair.volume}/", f"{wanted}/")
    for number in range(files):
        (pair.volume / f"file-{number}").write_bytes(b"")
    return wanted


@contextmanager
def under_way(pair: PlayedPair) -> Iterator[subprocess.Popen[bytes]]:
    """A restore in place that is killed, and all that it started, when the block ends."""
    restoring = preloaded.Popen(
        pair.command("www4", "restore", "--yes", "--in-place"), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield restoring
    finally:
        restoring.kill()
        restoring.wait()


def told(pair: PlayedPair, node: str) -> dict[str, Any] | None:
    """What `status` says of a restore there."""
    found: dict[str, Any] | None = pair.json(node, "status")["resources"][0]["restore"]
    return found


def has_come_to(daemons: Daemons, call: str) -> None:
    wait_for(lambda: call in daemons.calls, call, patience=300)


def test_killed_while_it_replaces_it_is_completed_on_the_other_node(pair: PlayedPair, daemons: Daemons) -> None:
    wanted = filled(pair, files=8, size=16 << 20)
    with under_way(pair):
        wait_for(lambda: any((pair.volume / f"file-{n}").stat().st_size for n in range(8)), "a file", patience=300)
    status = pair.json("www4", "status")["resources"][0]
    assert (status["restore"]["state"], status["restore"]["half"]) == ("interrupted", True)
    assert (status["verdict"], "restore --resume" in status["hint"]) == ("refuse", True)
    assert daemons.running == []
    refused = pair.run("www4", "run")
    assert (refused.returncode, "restore --resume" in refused.stderr) == (4, True)
    assert "half" in restore(pair, "--in-place", "--path", "file-0", status=1)

    on_standby = told(pair, "www5")
    assert on_standby is not None
    assert (on_standby["half"], on_standby["node"]) == (True, "www4")
    pair.roles("www5")
    assert "RESTORE" in pair.run("www5", "status").stdout
    assert pair.run("www5", "run").returncode == 4, "after a failover, half a volume is not backed up either"
    assert len(pair.copies("www5")) == 1
    restore(pair, "--resume", node="www5")
    assert differences(wanted, pair.volume) == []
    assert daemons.running == ["mysql", "apache2"]
    assert told(pair, "www5") is None
    pair.backs_up("www5")


def test_killed_before_it_replaced_anything_the_volume_is_whole(pair: PlayedPair, daemons: Daemons) -> None:
    filled(pair)
    daemons.hangs("mysql", "stop")
    with under_way(pair):
        has_come_to(daemons, "mysql stop")
    daemons.hangs("mysql", "stop", hangs=False)
    known = told(pair, "www4")
    assert known is not None
    assert (known["stage"], known["half"]) == ("begun", False)
    pair.backs_up("www4", "--accept-shrink")
    restore(pair, "--accept")
    assert daemons.running == ["mysql", "apache2"]
    assert (pair.volume / "file-0").read_bytes() == b""
    assert told(pair, "www4") is None


def test_killed_while_it_starts_the_services_nothing_is_brought_again(pair: PlayedPair, daemons: Daemons) -> None:
    filled(pair)
    daemons.hangs("mysql", "start")
    with under_way(pair):
        has_come_to(daemons, "mysql start")
        working = told(pair, "www4")
        assert working is not None
        assert working["state"] == "under-way"
    daemons.hangs("mysql", "start", hangs=False)
    (pair.volume / "file-0").write_text("an order that came in since")
    pair.roles("www5")
    known = told(pair, "www5")
    assert known is not None
    assert (known["stage"], known["half"]) == ("restored", False)
    restore(pair, "--resume", node="www5")
    assert (pair.volume / "file-0").read_text() == "an order that came in since"
    assert daemons.running == ["mysql", "apache2"]


def test_where_the_other_node_has_only_the_volume_to_go_by_it_knows_too(pair: PlayedPair, daemons: Daemons) -> None:
    filled(pair, files=8, size=16 << 20)
    with under_way(pair):
        wait_for(lambda: any((pair.volume / f"file-{n}").stat().st_size for n in range(8)), "a file", patience=300)
    pair.roles("www5")
    shutil.rmtree(pair.folder / "nas")
    shutil.rmtree(pair.volume / ".drbdbackup/catalog")
    assert "half restored" in pair.run("www5", "run").stderr


def test_a_volume_that_does_not_answer_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra="[limits]\nprobe = 1\n")
    with share(pair.volume, tmp_path / "behind") as volume:
        filled(pair)
        with stopped(volume):
            ended = pair.run("www4", "run")
        assert (ended.returncode, "cannot find out whether a restore in place" in ended.stderr) == (4, True)
        pair.backs_up("www4", "--accept-shrink")


def test_a_damaged_copy_leaves_the_volume_and_another_copy_completes_it(pair: PlayedPair, daemons: Daemons) -> None:
    pair.add_share("other")
    wanted = filled(pair)
    snapshot = pair.newest("nas").parent.name
    rot(pair.newest("nas") / "file-0")
    assert f"drbdbackup verify {snapshot}" in restore(pair, "--in-place", status=1)
    assert daemons.running == []
    assert pair.run("www4", "verify", snapshot).returncode == 1
    restore(pair, "--resume")
    assert differences(wanted, pair.volume) == []
    assert daemons.running == ["mysql", "apache2"]


def test_what_a_plan_says_is_what_is_done(pair: PlayedPair, daemons: Daemons) -> None:
    def planned_and_done(*args: str, status: int = 0) -> None:
        """A restore, and its dry run right before it: both say the same."""
        before = pair.json("www4", "restore", *args, "--dry-run")["plan"]
        done: dict[str, Any] = pair.json("www4", "restore", *args, "--yes", status=status)
        assert done["plan"] == before | {"free_bytes": done["plan"]["free_bytes"]}
        assert before["safety"] is (done["safety_copy"] is not None)
        assert before["services"] == done["services"]["named"]
        assert all(before[name] == done["restored"][name] for name in ("entries", "files", "deleted"))

    pair.add_share("other")
    filled(pair)
    (pair.volume / "new").write_text("new")
    planned_and_done("--in-place")
    planned_and_done("--in-place", "--no-safety", "--path", "file-0")
    rot(pair.newest("nas") / "file-0")
    (pair.volume / "file-0").write_bytes(b"")
    (pair.volume / "newer").write_text("newer")
    planned_and_done("--in-place", status=1)
    assert pair.run("www4", "verify", pair.newest("nas").parent.name).returncode == 1
    planned_and_done("--resume")


def test_an_unmount_in_its_midst_is_completed_after_the_next_mount(pair: PlayedPair, daemons: Daemons) -> None:
    image = disk_image(pair.folder / "drbd0.img", size="400M")
    tool("mount", "-o", "loop", image, pair.volume)
    try:
        wanted = filled(pair, files=8, size=16 << 20)
        with under_way(pair) as restoring:
            wait_for(lambda: any((pair.volume / f"file-{n}").stat().st_size for n in range(8)), "a file", patience=300)
            tool("umount", "--lazy", pair.volume)
            assert restoring.wait(120) == 7
        assert daemons.running == []
        tool("mount", "-o", "loop", image, pair.volume)
        assert pair.run("www4", "run").returncode == 4
        restore(pair, "--resume")
        assert [line for line in differences(wanted, pair.volume) if "lost+found" not in line] == []
        assert daemons.running == ["mysql", "apache2"]
    finally:
        for _ in mount_points(pair.volume):
            tool("umount", "--lazy", pair.volume)


RECORD = ".drbdbackup/restoring.json"


def test_a_record_that_cannot_be_read_keeps_runs_away_until_somebody_decides(pair: PlayedPair) -> None:
    wanted = filled(pair)
    (pair.volume / RECORD).write_text("{torn")
    assert pair.run("www4", "run").returncode == 4
    assert "--snapshot" in restore(pair, "--resume", status=1)
    restore(pair, "--in-place")
    assert differences(wanted, pair.volume) == []
    assert not (pair.volume / RECORD).exists()
    pair.backs_up()


def test_there_may_be_nothing_to_go_on_with(pair: PlayedPair) -> None:
    filled(pair)
    assert "was interrupted" in restore(pair, "--resume", status=6)
    restore(pair, "--accept", status=6)
    for args in (["--resume", "--to", "/x"], ["--accept", "--in-place"], ["--resume", "--accept"]):
        restore(pair, *args, status=2)


def test_what_is_immutable_is_seen_before_or_stays_and_a_resume_completes_it(pair: PlayedPair) -> None:
    """Seen before anything is done; what becomes so only when the services stop stays, and the rest is restored."""
    wanted = filled(pair, 3)
    (pair.volume / "file-2").write_bytes((wanted / "file-2").read_bytes())
    shutil.copystat(wanted / "file-2", pair.volume / "file-2")  # as it was: it need not be replaced
    (pair.volume / "surplus").write_text("came since")
    protected = [pair.volume / name for name in ("file-0", "file-2", "surplus")]
    pair.resource = """services = ["web"]
[resource.raid.service.web]
check = ["sh", "-c", "! test -e {0}"]
stop = ["sh", "-c", "touch {0}; chattr +i {1}"]
start = ["rm", "{0}"]
""".format(pair.folder / "stopped", " ".join(map(str, protected)))
    tool("chattr", "+i", *protected)
    try:
        for more in ((), ("--dry-run",)):
            ended = pair.run("www4", "restore", "--yes", "--in-place", "--no-safety", *more)
            assert ended.returncode == 2
            assert "'file-0', 'surplus', and" in ended.stderr, ended.stderr
        assert not (pair.folder / "stopped").exists()
        assert (pair.volume / "file-1").read_bytes() == b""
        tool("chattr", "-i", *protected)
        ended = pair.run("www4", "restore", "--yes", "--in-place", "--no-safety")
    finally:
        tool("chattr", "-i", *protected)
    assert ended.returncode == 1
    assert ended.stderr.count("chattr -ia") == 2, ended.stderr
    assert (pair.volume / "file-1").read_bytes() == (wanted / "file-1").read_bytes()
    assert pair.run("www4", "run").returncode == 4
    pair.resource = ""
    assert pair.run("www4", "restore", "--yes", "--resume").returncode == 0
    assert differences(wanted, pair.volume) == []

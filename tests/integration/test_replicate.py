"""A node that stands by fetches the newest snapshot to its own disk, and what it then holds is the snapshot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from stat import S_ISREG
from typing import Any

import msgspec
import pytest

from drbdbackup.catalog import store, view
from drbdbackup.catalog.bodies import copied
from drbdbackup.model.backup import snapshot_name
from drbdbackup.pipeline.files.page_cache import absent_windows
from tests import preloaded
from tests.captured import play
from tests.played_media import disk_image, mounted, nothing_is_left, tool, wait_for, weak_share
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, rot, with_a_way
from tests.played_sshd import sshd
from tests.settled import wait_until_settled


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = furnished(tmp_path)
    played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"disk-{node}.img")
    return played


def with_program(pair: PlayedPair, name: str, script: str) -> None:
    """From now on a script of this name comes before the program."""
    (pair.folder / "programs").mkdir()
    (pair.folder / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
    (pair.folder / "programs" / name).chmod(0o755)
    pair.path = f"{pair.folder}/programs:{os.environ['PATH']}"


def replicas(pair: PlayedPair, node: str = "www5", *args: str, status: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pair.json(node, "replicate", *args, status=status)["replicated"]
    return found


def two_lost(pair: PlayedPair) -> dict[tuple[str, str], Any]:
    """What is left without any two of both nodes and the NAS, as www5 sees it."""
    [line] = pair.json("www5", "exposure")["resources"][0]["lineages"]
    return {(one["without"]["name"], one["without"]["also"]["name"]): one["copy"] for one in line["pairs"]}


def test_what_was_fetched_is_the_snapshot(pair: PlayedPair) -> None:
    pair.backs_up()
    assert [gone for gone, copy in two_lost(pair).items() if copy is None] == [("www4", "nas")]
    [one] = replicas(pair)
    assert one["error"] is None
    for path in (pair.folder / "nas/drbdbackup/raid" / one["snapshot"] / "data").rglob("*"):
        if S_ISREG((seen := path.lstat()).st_mode) and seen.st_size:
            with path.open("rb") as file:
                assert 0 not in absent_windows(file.fileno(), seen.st_size), "what is read once is dropped"
    assert {copy and copy["snapshot"] for copy in two_lost(pair).values()} == {one["snapshot"]}
    assert one["fetched_from"] == f"nas:{pair.folder}/nas"
    disk = f"www5:{pair.folder}/disk-www5.img"
    with mounted(pair.folder / "disk-www5.img", pair.folder / "look", "loop") as at:
        tree = at / "drbdbackup/raid" / one["snapshot"] / "data"
        assert differences(pair.volume, tree) == []
    assert disk in [copy["location"] for copy in pair.copies("www5")]
    assert replicas(pair) == []
    assert pair.run("www5", "verify").returncode == 0
    assert nothing_is_left(pair.folder)
    assert os.listdir(pair.folder / "state-www5/scratch") == []
    (pair.folder / "nas").rename(pair.folder / "lost")
    assert f"www5:{pair.folder}/disk-www5.img" in restore(pair, "--to", pair.folder / "back", node="www5")
    assert differences(pair.volume, pair.folder / "back") == []


def on_disk(pair: PlayedPair, node: str = "www5") -> Path:
    """The snapshots on a node's disk, which the caller has mounted there."""
    return pair.folder / f"look-{node}/drbdbackup/raid"


def looked_at(pair: PlayedPair, node: str = "www5") -> Any:
    return mounted(pair.folder / f"disk-{node}.img", pair.folder / f"look-{node}", "loop")


def is_noted(pair: PlayedPair) -> bool:
    """Whether a chunk is on www5's disk and noted there, as whoever is at work in its namespace sees it."""
    found = Path("/proc").glob(f"[0-9]*/root{pair.folder}/disk-at-www5/drbdbackup/raid/.partial-*/manifest.partial")
    try:
        return any(path.stat().st_size for path in found)
    except OSError:
        return False


@pytest.mark.parametrize("fstype", ["ext4", "btrfs"])
def test_what_the_disk_has_is_linked_and_only_what_differs_comes_over(pair: PlayedPair, fstype: str) -> None:
    disk_image(pair.folder / "disk-www5.img", fstype)
    wait_until_settled(pair.volume)
    pair.backs_up()
    first = replicas(pair)[0]
    (pair.volume / "mail/1").unlink()
    (pair.volume / "mail/1").write_text("another")
    (pair.volume / "old").unlink()
    (pair.volume / "old").mkdir()
    (pair.volume / "old/new").write_text("new")
    os.chmod(pair.volume / "www", 0o711)
    os.link(pair.volume / "www/site/same", pair.volume / "www/site/same-again")
    subprocess.run(["cp", "-a", pair.volume / "www/site/index.php", pair.volume / "copy"], check=True)
    (pair.volume / "copy").rename(pair.volume / "www/site/index.php")  # as restored: another inode, and all else equal
    wait_until_settled(pair.volume)
    pair.backs_up()
    with looked_at(pair):
        tree = on_disk(pair) / first["snapshot"] / "data"
        before = {path: (os.lstat(path).st_ino, os.lstat(path).st_mtime_ns) for path in tree.rglob("*")}
    [second] = replicas(pair)
    assert second["files"] == 6  # mail/1 and the two names that it had, old/new, and both names of what was linked
    with looked_at(pair):
        assert {path: (os.lstat(path).st_ino, os.lstat(path).st_mtime_ns) for path in tree.rglob("*")} == before
        fresh = on_disk(pair) / second["snapshot"] / "data"
        assert differences(pair.volume, fresh) == []
        if fstype == "ext4":
            files = [path for path in fresh.rglob("*") if path.is_file() and not path.is_symlink()]
            older = {path.st_ino for path in map(os.lstat, before)}
            assert len([path for path in files if os.lstat(path).st_ino not in older]) == second["files"]
    assert pair.run("www5", "verify").returncode == 0


def test_it_comes_from_the_other_nodes_disk_where_there_is_no_nas(pair: PlayedPair) -> None:
    with_a_way(pair.volume, "user.k", "security.k")  # trusted ones are not sent
    del pair.targets["nas"]
    wait_until_settled(pair.volume)
    pair.backs_up()
    with sshd(pair.folder / "ssh", *preloaded.door(), "--config", str(pair.config("www4")), "serve") as reached:
        pair.extra = reached.table("www4")
        [one] = replicas(pair)
        assert one["fetched_from"] == f"www4:{pair.folder}/disk-www4.img"
        (pair.volume / "mail/1").write_text("another")
        (pair.volume / "www/fresh").mkdir()
        (pair.volume / "www/fresh/file").write_text("new")
        wait_until_settled(pair.volume)
        pair.backs_up()
        pair.extra += '\n[limits]\nrate = "512K"\n'
        noted = f'tr "\\0" " " </proc/$PPID/cmdline >>{pair.folder}/parents'
        with_program(pair, "ssh", f'{noted}\nexec {which("ssh")} "$@"')
        [two] = replicas(pair)
        assert " -m drbdbackup.pipeline.files.ssh_rate_limit 524288 ssh " in (pair.folder / "parents").read_text()
        assert 0 < two["files"] < 6
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / two["snapshot"] / "data") == []
    assert pair.run("www5", "verify").returncode == 0


def test_what_a_weak_share_could_not_hold_is_given_back(pair: PlayedPair) -> None:
    with_a_way(pair.volume, "user.k", "security.k")
    wait_until_settled(pair.volume)
    (pair.volume / "www/Same").write_text("of another case")
    pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/nas"'
    with weak_share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        [one] = replicas(pair)
        (pair.volume / "mail/1").write_text("another")
        wait_until_settled(pair.volume)
        pair.backs_up()
        [two] = replicas(pair)
        assert two["files"] < 6
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / two["snapshot"] / "data") == []
    assert {copy["problems"] for copy in pair.copies("www5", "disk")} == {0}
    assert pair.run("www5", "verify", one["snapshot"]).returncode in (0, 3)


def test_a_damaged_file_comes_from_another_copy_or_nothing_is_published(pair: PlayedPair) -> None:
    pair.add_share("second")
    pair.backs_up()
    name = pair.newest("nas").parent.name
    for share in ("nas", "second"):
        rot(pair.folder / share / "drbdbackup/raid" / name / "data/mail/1")
    [one] = replicas(pair, status=1)
    assert one["error"]["code"] == "copy.damaged"
    assert "mail/1" in one["error"]["message"]
    assert not [copy for copy in pair.copies("www5", "disk") if copy["location"].startswith("www5")]
    rot(pair.folder / "second/drbdbackup/raid" / name / "data/mail/1")  # back to what it was
    [two] = replicas(pair)
    assert two["fetched_from"] == f"second:{pair.folder}/second"
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / name / "data") == []
        assert [path.name for path in on_disk(pair).glob(".*")] == []


def test_cron_brings_the_disk_up_to_date_and_says_nothing(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--if-due")
    first = pair.run("www5", "run", "--if-due")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert [copy["location"] for copy in pair.copies("www5", "disk")] == [
        f"www4:{pair.folder}/disk-www4.img", f"www5:{pair.folder}/disk-www5.img",
    ]  # fmt: skip
    pair.backs_up()
    pair.json("www5", "sync")
    pair.targets["disk"] += "\nreplicate = false"
    assert pair.json("www5", "run", "--if-due")["replicated"] == []
    pair.targets["disk"] = pair.targets["disk"].removesuffix("\nreplicate = false")
    assert [one["error"] for one in pair.json("www5", "run", "--if-due")["replicated"]] == [None]
    assert pair.json("www4", "run", "--if-due")["replicated"] == []
    assert pair.run("www4", "replicate").returncode == 0


def test_a_disk_without_room_says_so_once_for_each_snapshot(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk-www5.img", size="4M")
    (pair.volume / "large").write_bytes(os.urandom(8 << 20))
    pair.backs_up()
    pair.json("www5", "sync")
    said = pair.run("www5", "run", "--if-due")
    assert said.returncode == 1
    assert "disk-www5.img" in said.stderr
    assert "free" in said.stderr
    again = pair.run("www5", "run", "--if-due")
    assert (again.returncode, again.stderr) == (0, "")
    told = [one for one in pair.json("www5", "runs")["runs"] if one["what"] == "replicate"]
    assert [(one["node"], one["outcome"]) for one in told] == [("www5", "failed")], "recorded once, too"
    assert nothing_is_left(pair.folder)


def test_the_primary_does_not_replicate(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.roles("www5")
    ended = pair.json("www5", "replicate", status=4)
    assert (ended["error"]["code"], "drbdbackup run" in ended["error"]["hint"]) == ("role.refused", True)
    (pair.folder / "role-www5").write_text("Unknown\n")  # what to do about that is not to make a backup
    assert "drbdbackup run" not in pair.json("www5", "replicate", status=4)["error"]["hint"]
    pair.roles("www5")
    assert [one["snapshot"] for one in pair.json("www5", "replicate", "--dry-run")["replicated"]]
    pair.targets["disk"] += "\nreplicate = false"
    assert pair.json("www5", "replicate", status=2)["error"]["code"] == "usage.invalid"


@pytest.mark.parametrize("days", [-20, 20])
def test_a_snapshot_that_claims_the_day_of_an_older_one_is_not_fetched(pair: PlayedPair, days: int) -> None:
    """A compromised node would have retention drop, day by day, what the other one's disk holds."""
    pair.backs_up()
    assert len(replicas(pair)) == 1
    before = [copy for copy in pair.copies("www5") if copy["target"] == "disk"]
    state, now = str(pair.folder / "state-www4"), datetime.now(UTC)
    newest = view.copies(state, "www4", "raid", ("nas",))[0]
    at = now + timedelta(days=days)
    false = msgspec.structs.replace(
        newest, snapshot=snapshot_name(at, "www4"), sequence=newest.sequence + 1, started_at=at, finished_at=at
    )
    store.record(state, "www4", [copied("www4", now, false)])
    pair.json("www4", "sync")
    [refused] = replicas(pair, status=1)
    assert (refused["snapshot"], refused["error"]["code"]) == (false.snapshot, "error.other")
    assert [copy for copy in pair.copies("www5") if copy["target"] == "disk"] == before


def test_older_ones_are_fetched_only_when_asked_for(pair: PlayedPair) -> None:
    for number in range(3):
        (pair.volume / "mail/1").write_text(f"{number}")
        pair.backs_up()
    names = [copy["snapshot"] for copy in pair.json("www4", "list")["copies"] if copy["target"] == "nas"]
    assert [one["snapshot"] for one in replicas(pair)] == names[:1]
    assert [one["snapshot"] for one in replicas(pair, "www5", "--all")] == names[:0:-1]
    assert replicas(pair, "www5", "--all") == []
    with looked_at(pair):
        assert sorted(path.name for path in on_disk(pair).iterdir() if path.name != "latest") == sorted(names)
        assert (on_disk(pair) / "latest").readlink() == Path(names[0])


def test_an_interrupted_one_goes_on_where_it_was_and_is_gone_at_once(pair: PlayedPair) -> None:
    for number in range(2500):  # more than one chunk
        (pair.volume / f"www/{number}").write_text(str(number))
    wait_until_settled(pair.volume)
    pair.backs_up()
    noted = f"{pair.folder}/disk-at-www5/drbdbackup/raid/.partial-*/manifest.partial"
    hangs = f'#!/bin/sh\ngrep -q . {noted} 2>/dev/null && exec sleep 99\nexec {which("rsync")} "$@"\n'
    (pair.folder / "bin").mkdir()
    play(pair.folder / "bin/rsync", hangs)
    begun = preloaded.Popen(
        pair.command("www5", "replicate", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{pair.folder}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    wait_for(lambda: is_noted(pair), "the first chunk to be noted")
    assert pair.run("www5", "run").returncode == 0  # it stands down, and is no reason to stop
    assert begun.poll() is None
    pair.roles("www5")
    took = time.monotonic()
    out, _ = begun.communicate(timeout=60)
    assert time.monotonic() - took < 10
    [one] = json.loads(out)["replicated"]
    assert one["error"]["code"] == "run.interrupted"
    pair.roles("www4")
    [two] = replicas(pair)
    assert 500 < two["files"] < 2000
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / two["snapshot"] / "data") == []
        assert [path.name for path in on_disk(pair).glob(".*")] == []


def test_it_is_what_the_manifest_says_whatever_the_share_shows_by_now(pair: PlayedPair) -> None:
    for name in ("www/secret", "www/tool", "full/file"):
        (pair.volume / name).parent.mkdir(exist_ok=True)
        (pair.volume / name).write_text(name)
    (pair.volume / "empty").mkdir(mode=0o750)
    os.chmod(pair.volume / "www/secret", 0o600)
    wait_until_settled(pair.volume)
    pair.backs_up()
    share = pair.newest("nas")
    for name, mode in (("www/secret", 0o666), ("www/tool", 0o4777), ("full", 0o777)):
        os.chmod(share / name, mode)
    os.chown(share / "full", 33, 33)
    os.utime(share / "www/tool", ns=(1, 1))
    (share / "empty").rmdir()
    [one] = replicas(pair, status=1)
    assert one["error"]["code"] == "copy.damaged"
    assert "empty" in one["error"]["message"]
    replicas(pair, status=1)
    with looked_at(pair):
        assert [path.name for path in on_disk(pair).iterdir()] == [f".partial-{one['snapshot']}"]
    (share / "empty").mkdir()
    [two] = replicas(pair)
    assert two["files"] == 0, "all that was fetched before is linked"
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / one["snapshot"] / "data") == []
    assert pair.run("www5", "verify", "--target", "disk").returncode == 0


def test_a_failover_leaves_nothing_of_what_was_not_finished(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk-www5.img", "btrfs")
    pair.backs_up()
    rot(pair.newest("nas") / "mail/1")
    replicas(pair, status=1)
    with looked_at(pair):
        assert [path.name for path in on_disk(pair).iterdir()] == []
        (on_disk(pair) / f".partial-{pair.newest('nas').parent.name}").mkdir()
    pair.roles("www5")
    pair.backs_up("www5")
    with looked_at(pair):
        assert [path.name for path in on_disk(pair).glob(".*")] == []


def test_what_only_the_source_can_hold_is_kept_in_the_manifest(tmp_path: Path) -> None:
    for name in ("volume", "nas", "elsewhere"):
        (tmp_path / name).mkdir()
        disk_image(tmp_path / f"{name}.img", "btrfs")
    odd = 20_000_000_000 * 10**9
    with (
        mounted(tmp_path / "volume.img", tmp_path / "volume", "loop"),
        mounted(tmp_path / "nas.img", tmp_path / "nas", "loop"),
        mounted(tmp_path / "elsewhere.img", tmp_path / "elsewhere", "loop") as elsewhere,
    ):
        played = furnished(tmp_path)
        played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
        for node in ("www4", "www5"):
            disk_image(tmp_path / f"disk-{node}.img")
        for name in ("mail/large", "mail/odd"):
            (played.volume / name).write_text(name)
            (played.volume / f"{name}-folder").mkdir()
        for name in ("mail/large", "mail/large-folder"):
            os.setxattr(played.volume / name, "user.large", b"x" * 8000)
        for name in ("mail/odd", "mail/odd-folder"):
            os.utime(played.volume / name, ns=(1, odd))
        wait_until_settled(played.volume)
        assert played.run("www4", "run").returncode == 3
        [one] = replicas(played)
        assert one["error"] is None
        told = [copy["problems"] for copy in played.copies("www5", "disk")]
        assert told == [4, 4], "as many as the run's own copy"
        assert played.run("www5", "verify").returncode == 0
        (tmp_path / "nas/drbdbackup").rename(tmp_path / "nas/lost")
        restore(played, "--to", elsewhere / "back", node="www5")
        for name in ("mail/large", "mail/large-folder"):
            assert os.getxattr(elsewhere / "back" / name, "user.large") == b"x" * 8000
        for name in ("mail/odd", "mail/odd-folder"):
            assert os.lstat(elsewhere / "back" / name).st_mtime_ns == odd


def test_killed_before_it_is_a_fact_and_fetched_again_after_it_was_pruned(pair: PlayedPair) -> None:
    pair.extra = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 3\n"
    wait_until_settled(pair.volume)  # else the later ones link nothing, either, and the newest is the verified one
    pair.backs_up()
    script = f"""
import os, runpy, sys
from drbdbackup.pipeline.backup.run_facts import RunFacts
RunFacts.replicated = lambda *_, **__: os.kill(os.getpid(), 9)
sys.argv = ["drbdbackup", "--config", {str(pair.config("www5"))!r}, "replicate"]
runpy.run_module("drbdbackup", run_name="__main__")
"""
    assert subprocess.run([sys.executable, "-P", "-c", script], timeout=120).returncode == -9
    [one] = replicas(pair)
    assert (one["error"], one["files"]) == (None, 24)
    assert [copy["location"][:4] for copy in pair.copies("www5", "disk")] == ["www4", "www5"]
    for _ in range(2):
        pair.backs_up()
        replicas(pair)
    fewer = pair.extra.replace("3", "1")
    pair.extra, before = fewer, pair.extra
    pair.json("www5", "prune", "--target", "disk")
    kept = [copy["snapshot"] for copy in pair.copies("www5", "disk") if copy["location"].startswith("www5")]
    assert len(kept) == 2
    pair.extra = before
    [again] = replicas(pair, "www5", "--all")
    assert again["snapshot"] not in kept
    assert len([copy for copy in pair.copies("www5", "disk") if copy["location"].startswith("www5")]) == 3
    assert replicas(pair, "www5", "--all") == []


def test_a_folder_gets_no_more_than_was_its_own_and_no_less(pair: PlayedPair) -> None:
    with_a_way(pair.volume)
    pair.backs_up()
    first = replicas(pair)[0]["snapshot"]
    with looked_at(pair):
        shutil.rmtree(on_disk(pair) / first / "data/way")
        tool("setfacl", "-d", "-m", "u:1234:rwx,g::---", on_disk(pair))
    (pair.volume / "mail/1").write_text("another")
    wait_until_settled(pair.volume)
    pair.backs_up()
    [two] = replicas(pair)
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / two["snapshot"] / "data") == []


def test_what_is_out_of_reach_is_said_once_for_each_snapshot(pair: PlayedPair) -> None:
    pair.backs_up()
    assert [one["error"] for one in replicas(pair)] == [None]
    pair.backs_up("www4", "--target", "disk")
    pair.json("www5", "sync")
    [said, again] = [pair.run("www5", "run", "--if-due") for _ in range(2)]
    assert (said.returncode, "[peer.www4]" in said.stderr) == (6, True), said.stderr
    assert (again.returncode, again.stderr) == (0, "")
    [one] = replicas(pair, status=6)
    assert (one["error"]["code"], one["sources"]) == ("copy.out-of-reach", [])
    assert pair.run("www5", "replicate", "--dry-run").returncode == 0


@pytest.mark.parametrize("size", [4 << 20, 64 << 20], ids=["whole", "mostly-holes"])
def test_it_keeps_to_its_rate_and_one_that_takes_too_long_ends(pair: PlayedPair, size: int) -> None:
    with (pair.volume / "large").open("wb") as large:
        large.write(os.urandom(4 << 20))
        large.truncate(size)
    os.link(pair.volume / "large", pair.volume / "large-again")
    wait_until_settled(pair.volume)
    pair.backs_up()
    pair.extra, began = '[limits]\nrun = 5.0\nrate = "64K"\n', time.monotonic()
    [one] = replicas(pair, status=1)
    assert time.monotonic() - began < 60, "64 s at this rate"
    assert one["error"]["code"] == "target.stalled", one["error"]["message"]
    pair.extra = ""
    [one] = replicas(pair)
    assert one["error"] is None
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / one["snapshot"] / "data") == []
        assert (on_disk(pair) / one["snapshot"] / "data/large").stat().st_blocks * 512 < 5 << 20


def test_who_has_lost_its_catalog_is_sent_to_the_rebuild(pair: PlayedPair) -> None:
    pair.backs_up()
    replicas(pair)
    shutil.rmtree(pair.folder / "state-www5")
    [one] = replicas(pair, status=1)
    assert "sync --rebuild" in one["error"]["hint"]
    pair.run("www5", "sync", "--rebuild")
    assert replicas(pair) == []


def test_a_damaged_one_on_the_disk_is_fetched_again_and_stays_until_then(pair: PlayedPair) -> None:
    pair.backs_up()
    name = replicas(pair)[0]["snapshot"]
    with looked_at(pair):
        rot(on_disk(pair) / name / "data/mail/1")
    assert pair.run("www5", "verify", name, "--target", "disk").returncode == 1
    rot(pair.newest("nas") / "mail/1")
    [one] = replicas(pair, status=1)
    assert one["error"]["code"] == "copy.damaged"
    with looked_at(pair):
        assert (on_disk(pair) / name / "snapshot.json").exists()
    rot(pair.newest("nas") / "mail/1")  # back to what it was
    [two] = replicas(pair)
    assert (two["snapshot"], two["error"]) == (name, None)
    with looked_at(pair):
        assert differences(pair.volume, on_disk(pair) / name / "data") == []
        assert [path.name for path in on_disk(pair).glob(".*")] == []
    assert not [copy for copy in pair.copies("www5") if copy["damaged_at"]]
    assert replicas(pair) == []


def test_another_disk_of_the_node_is_a_source_and_the_nearest(pair: PlayedPair) -> None:
    pair.backs_up()
    replicas(pair)
    pair.add_disk("spare", f"{pair.folder}/spare-{{node}}.img")
    disk_image(pair.folder / "spare-www5.img")
    [one] = replicas(pair)
    assert (one["target"], one["error"]) == ("spare", None)
    assert one["fetched_from"] == f"www5:{pair.folder}/disk-www5.img"


def test_of_three_nodes_each_that_stands_by_fetches_it(pair: PlayedPair) -> None:
    """After a failover it is the former Primary that has to; a disk that has it already is left alone."""
    three = PlayedPair(pair.folder, targets=pair.targets, nodes=("www4", "www5", "www6"))
    disk_image(three.folder / "disk-www6.img")
    wait_until_settled(three.volume)
    three.backs_up("www4")
    assert [one["error"] for node in ("www5", "www6") for one in replicas(three, node)] == [None, None]
    three.roles("www6")
    (three.volume / "after").write_text("the failover")
    three.backs_up("www6")
    fetched = [one for node in ("www4", "www5") for one in replicas(three, node)]
    assert [(one["error"], one["files"]) for one in fetched] == [(None, 1), (None, 1)]
    places = {copy["location"].split(":")[0] for copy in three.copies("www5") if copy["sequence"] == 2}
    assert places == {"nas", "www4", "www5", "www6"}
    [line] = three.json("www5", "exposure")["resources"][0]["lineages"]
    assert all(one["copy"]["sequence"] == 2 for one in line["pairs"]), line["pairs"]
    assert replicas(three, "www5") == []

"""A node that stands by reads a share each night: silently, in nobody's way, and what is damaged it finds and names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.integration.test_verify import (
    bent,
    emptied,
    given_away,
    missing,
    opened_up,
    renumbered,
    rotten,
    shorter,
    swapped,
)
from tests.played_media import REFUSES_OWNERS, disk_image, nothing_is_left, share, stopped, wait_for, weak_share
from tests.played_pair import PlayedPair
from tests.played_restore import furnished, rot
from tests.settled import wait_until_settled

PARTS = 4


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = furnished(tmp_path)
    reads(played, f"{100 // PARTS}%")
    return played


def reads(pair: PlayedPair, part: str, seconds: str = "60") -> None:
    pair.extra = f'[verify]\nshare = "{part}"\n[limits]\nverify = {seconds}\nprobe = 1\n'


def night(pair: PlayedPair, node: str = "www5", status: int = 0) -> str:
    """A run of the node that stands by; what it says."""
    ended = pair.run(node, "run")
    assert ended.returncode == status, ended.stderr
    assert not ended.stdout
    return ended.stderr


def told(pair: PlayedPair, node: str = "www5", status: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pair.json(node, "run", status=status)["scrubbed"]
    return found


def test_a_round_of_nights_reads_everything_and_says_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    for part in range(PARTS):
        assert pair.copies("www5")[0]["verified_at"] is None, part
        assert night(pair) == ""
    assert pair.copies("www5")[0]["verified_at"] is not None
    pair.json("www4", "sync")
    assert pair.copies("www4")[0]["verified_at"] is not None


def test_the_other_node_goes_on_where_the_first_stopped(pair: PlayedPair) -> None:
    pair.backs_up()
    assert [one["part"] for one in told(pair)] == [1]
    pair.roles("www5")
    assert [one["part"] for one in told(pair, "www4")] == [2]


def test_what_the_primary_recycles_meanwhile_is_not_called_damaged(pair: PlayedPair) -> None:
    """Both nodes begin at the same minute. Here the whole run of the one comes while the other asks for its role."""
    keeps = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = {}\n"
    script = pair.folder / "role.sh"
    pair.role = f'source = "command"\ncommand = ["sh", "{script}", "{{node}}"]\ntimeout = 60'
    pair.extra += keeps.format(3)
    run = " ".join(pair.command("www4", "run"))
    begun = f'rm "{pair.folder}/begin-$1" 2>/dev/null && {run} >"{pair.folder}/out" 2>&1'
    script.write_text(f'{begun}\ncat "{pair.folder}/role-$1"\n')
    for _ in range(3):
        pair.backs_up()
    assert night(pair) == ""
    pair.extra = pair.extra.replace("minimum = 3", "minimum = 1")
    pair.config("www4")
    (pair.folder / "begin-www5").touch()
    assert night(pair) == ""
    assert (pair.folder / "out").read_text() == ""
    assert '"recycled"' in (pair.folder / "state-www4/journal").read_text()


@pytest.mark.parametrize("way", ["share", "disk"])
def test_a_copy_that_is_gone_is_no_damage_of_a_share(pair: PlayedPair, way: str) -> None:
    """The Primary's run removes it, and tells so at its end, which may be hours later. Of our own disk nobody does."""
    reads(pair, "100%")
    if way == "disk":
        image = disk_image(pair.folder / "www5.img")
        pair.add_disk("disk", f"{pair.folder}/{{node}}.img")
        disk_image(pair.folder / "www4.img")
    pair.backs_up()
    name = pair.newest("nas").parent.name
    if way == "share":
        (pair.volume / "more").write_text("more")
        pair.backs_up()
        subprocess.run(["rm", "-r", pair.folder / "nas/drbdbackup/raid" / name], check=True)
        assert night(pair) == ""
        return
    assert night(pair) == ""
    pair.json("www5", "replicate")
    inside = 'mount -o loop "$0" "$1" && rm -r "$1/drbdbackup/raid/$2"'
    subprocess.run(["unshare", "--mount", "sh", "-c", inside, image, pair.folder / "nas", name], check=True)
    assert name in night(pair, status=1)
    [left] = [copy["location"] for copy in pair.copies("www5", "disk")]
    assert left.startswith("www4:"), "it is gone, and not damaged"
    assert night(pair) == ""


def test_a_flipped_bit_is_told_once_within_a_round_and_then_the_copy_is_not_the_backup(pair: PlayedPair) -> None:
    pair.backs_up()
    sound = pair.newest("nas").parent.name
    (pair.volume / "fresh").write_text("another")
    pair.backs_up()
    rot(pair.newest("nas") / "fresh")
    nights = [pair.run("www5", "run") for _ in range(PARTS + 1)]
    assert sorted(one.returncode for one in nights) == [0] * PARTS + [1]
    [told_of] = [one.stderr for one in nights if one.returncode]
    assert "fresh: has another content than was backed up" in told_of
    assert [one.stderr for one in nights].count("") == PARTS
    for node in ("www5", "www4"):
        assert pair.json(node, "latest")["backup"]["snapshot"] == sound


@pytest.mark.parametrize(
    "damage",
    [missing, shorter, bent, swapped, opened_up, given_away, renumbered, rotten, emptied],
    ids=lambda damage: damage.__name__,
)
def test_whatever_is_wrong_is_named(pair: PlayedPair, damage: Callable[[Path], str]) -> None:
    reads(pair, "100%")
    pair.backs_up()
    path = damage(pair.newest("nas"))
    assert path in night(pair, status=1)
    assert pair.json("www5", "latest", status=6)["backup"] is None


def test_what_damages_a_manifest_is_named(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas").parent / "manifest.gz")
    assert "manifest" in night(pair, status=1)
    assert pair.json("www5", "latest", status=6)["backup"] is None


def test_files_that_copies_share_are_read_once_and_damage_is_named_for_each(pair: PlayedPair) -> None:
    reads(pair, "100%")
    wait_until_settled(pair.volume)  # else the second copy shares nothing with the first
    pair.backs_up()
    pair.backs_up()
    once = sum(copy["bytes"] for copy in pair.copies()[:1])
    assert [one["bytes"] for one in told(pair)] == [once]
    rot(pair.newest("nas") / "mail/1")
    said = night(pair, status=1)
    assert said.count("mail/1: has another content") == 2


def test_a_night_that_is_too_short_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    reads(pair, "100%", seconds="0.001")
    for name in ("one", "two"):
        (pair.volume / name).write_text(name)
    pair.backs_up()
    found = [told(pair)[0] for _ in range(3)]
    assert [one["is_done"] for one in found] == [False, False, True]
    assert [one["files"] for one in found] == [0, 1, 1]
    assert pair.copies("www5")[0]["verified_at"] is not None


def test_a_node_that_becomes_primary_ends_it_at_once_and_nobody_was_held_up(pair: PlayedPair) -> None:
    reads(pair, "100%", seconds="3600")
    (pair.volume / "large").write_bytes(os.urandom(64 << 20))
    with share(pair.folder / "nas", pair.folder / "behind", "--read-rate=1M"):  # a minute for the large one
        pair.backs_up()
        at_work = preloaded.Popen(pair.command("www5", "run"), stdout=-1, stderr=-1)
        wait_for(lambda: list((pair.folder / "state-www5").glob("scratch/*")), "the scrub to begin")
        subprocess.run(["flock", "--nonblock", pair.folder / "state-www5/lock", "true"], check=True)
        pair.roles("www5")
        assert at_work.communicate(timeout=40) == (b"", b"")
        assert at_work.returncode == 0
    assert pair.copies("www5")[0]["verified_at"] is None


def test_a_share_that_hangs_is_given_up_and_is_no_news(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind") as played:
        pair.backs_up()
        with stopped(played):
            assert night(pair) == ""
        assert [one["part"] for one in told(pair)] == [1]


def test_a_share_that_cannot_be_read_proves_nothing_and_is_no_news(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "nas").rename(pair.folder / "pulled")
    assert night(pair) == ""
    (pair.folder / "pulled").rename(pair.folder / "nas")
    assert [one["part"] for one in told(pair)] == [1]


@pytest.mark.parametrize("fstype", ["ext4", "btrfs"])
def test_its_own_disk_comes_first_and_is_let_go(pair: PlayedPair, fstype: str) -> None:
    reads(pair, "100%")
    pair.add_disk("disk", str(disk_image(pair.folder / "disk.img", fstype)))
    wait_until_settled(pair.volume)  # else the second copy shares nothing with the first
    pair.backs_up()
    pair.backs_up()
    once = pair.copies()[0]["bytes"]
    pair.roles("www5")
    assert [(one["target"], one["bytes"]) for one in told(pair, "www4")] == [("disk", once), ("nas", once)]
    assert nothing_is_left(pair.folder)
    assert all(copy["verified_at"] for copy in pair.copies("www4"))


@pytest.mark.parametrize("kind", ["simple", "squashed"])
def test_a_weak_share_is_judged_by_what_it_can_hold(pair: PlayedPair, kind: str) -> None:
    reads(pair, "100%")
    with weak_share(pair.folder / "nas", pair.folder / "behind", kind):
        pair.backs_up()
        assert night(pair) == ""


def test_a_share_that_keeps_no_owners_is_judged_by_the_rest(pair: PlayedPair) -> None:
    reads(pair, "100%")
    with share(pair.folder / "nas", pair.folder / "behind", *REFUSES_OWNERS):
        pair.backs_up()
        assert night(pair) == ""
        missing(pair.newest("nas"))
        night(pair, status=1)


def test_whoever_wants_none_of_it_has_none(pair: PlayedPair) -> None:
    pair.extra = "[verify]\nshare = 0\n"
    pair.backs_up()
    assert told(pair) == []


def test_the_primary_and_a_run_that_is_not_due_read_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    assert told(pair, "www4") == []
    assert pair.json("www5", "run", "--if-due")["scrubbed"] == []


def test_nothing_on_the_medium_changes(pair: PlayedPair) -> None:
    pair.backs_up()
    listed = ["find", pair.newest("nas").parent, "-printf", "%p %s %T@ %C@ %m\\n"]
    before = subprocess.run(listed, capture_output=True, check=True).stdout
    night(pair)
    assert subprocess.run(listed, capture_output=True, check=True).stdout == before
    assert os.path.exists(pair.folder / "state-www5/scrub.lock")


def test_a_file_that_was_swapped_for_a_well_one_of_an_older_copy_is_found(pair: PlayedPair) -> None:
    """On the share, by a hard link: of the same size and time, it is well there, and another content here."""
    file = pair.volume / "mail/swapped"
    for content in ("before", "beyond"):
        file.write_text(content)
        os.utime(file, ns=(1, 10**18))
        wait_until_settled(pair.volume)
        pair.backs_up()
    newest = pair.newest("nas")
    older = next(path for path in sorted(newest.parents[1].glob("2*")) if path != newest.parent) / "data"
    (newest / "mail/swapped").unlink()
    os.link(older / "mail/swapped", newest / "mail/swapped")
    reads(pair, "100%")
    assert "mail/swapped" in night(pair, status=1)
    assert [copy["snapshot"] for copy in pair.copies("www5") if copy["damaged_at"]] == [newest.parent.name]

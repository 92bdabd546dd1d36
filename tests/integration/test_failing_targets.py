"""A target that fails, hangs or is not there never stops the other; nothing is written to what is not the target."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.played_media import disk_image, mounted, nothing_is_left, share, stopped, tool, wait_for, weak_share
from tests.played_pair import PlayedPair, differences
from tests.settled import settled_volume

SOON = '[limits]\nstall = "4s"\nprobe = "1s"'  # a share that hangs is given up


def thirty_files(volume: Path) -> None:
    for number in range(30):
        (volume / f"file-{number}").write_text(f"{number}" * 5000)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    disk_image(tmp_path / "disk.img")
    played = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas"'})
    played.add_disk("disk", str(tmp_path / "disk.img"))
    played.extra = '[limits]\nstall = "10s"\nprobe = "2s"'
    settled_volume(played.volume, thirty_files)
    (tmp_path / "nas").mkdir()
    (tmp_path / "behind").mkdir()
    yield played
    assert nothing_is_left(tmp_path)


def codes(pair: PlayedPair, *args: str, status: int = 3) -> dict[str, str | None]:
    """A run, and what went wrong on each target of it: a code of docs/errors.md, or None."""
    [run] = pair.json("www4", "run", *args, status=status)["runs"]
    return {one["target"]: one["error"] and one["error"]["code"] for one in run["targets"]}


def only_the_disk_is_done(pair: PlayedPair, code: str) -> None:
    """A run that must be partial and tell what is wrong with the NAS; the disk's copy must be right."""
    assert codes(pair) == {"nas": code, "disk": None}
    restores_from(pair, "disk")


def restores_from(pair: PlayedPair, target: str) -> None:
    restored = pair.folder / f"from-{target}"
    ended = pair.run("www4", "restore", "--from", target, "--to", str(restored), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert differences(pair.volume, restored) == []
    shutil.rmtree(restored)


def test_a_nas_that_is_not_mounted_gets_nothing(pair: PlayedPair) -> None:
    only_the_disk_is_done(pair, "target.not-mounted")
    assert os.listdir(pair.folder / "nas") == []


def test_a_dry_run_ends_as_the_run_would(pair: PlayedPair) -> None:
    assert codes(pair, "--dry-run") == {"nas": "target.not-mounted", "disk": None}


def test_a_dry_run_foresees_that_nothing_can_be_written(pair: PlayedPair) -> None:
    disk_image(pair.folder / "nas.img")
    with mounted(pair.folder / "nas.img", pair.folder / "nas", "loop") as nas:
        tool("chattr", "+i", nas)  # root has as little right there as where a server squashes it
        assert codes(pair, "--dry-run") == {"nas": "target.unusable", "disk": None}
        ended = pair.run("www4", "run")
        assert (ended.returncode, "squash" in ended.stderr, "dmesg" in ended.stderr) == (3, True, False)
        tool("chattr", "-i", nas)
        pair.backs_up()
        tool("mount", "-o", "remount,ro", nas)
        for words in (("--dry-run",), ()):
            assert codes(pair, *words) == {"nas": "target.read-only", "disk": None}


def test_a_nas_that_is_gone_again_gets_nothing_either(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
    only_the_disk_is_done(pair, "target.not-mounted")
    assert os.listdir(pair.folder / "nas") == []
    assert pair.copies(target="nas")[0]["reachable"] is False


def test_another_share_in_its_place_gets_nothing(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
    (pair.folder / "other").mkdir()
    with share(pair.folder / "nas", pair.folder / "other"):
        only_the_disk_is_done(pair, "target.wrong")
        assert os.listdir(pair.folder / "other") == []
        assert pair.run("www4", "target", "accept", "nas").returncode == 0
        pair.backs_up()


class Others(PlayedPair):
    """Another pair, mail1 and mail2, with the same names for everything else and the same share."""

    def config(self, node: str) -> Path:
        path = super().config(node)
        path.write_text(path.read_text().replace("www4", "mail1").replace("www5", "mail2"))
        (self.folder / "role-mail1").write_text("Primary\n")
        return path


@pytest.mark.parametrize("how", ["", "--dry-run"])
def test_what_another_pair_keeps_on_the_share_is_left_alone(pair: PlayedPair, how: str) -> None:
    """Taken for one series of copies, each would prune the other's."""
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        others = Others(pair.folder / "others", {"nas": pair.targets["nas"]}, "[retention]\ndaily = 1\nminimum = 1")
        (others.volume / "mail").write_text("dear sir")
        home = pair.folder / "behind/drbdbackup"
        before = [sorted(os.listdir(home / name)) for name in (".", "raid", "catalog")]
        ended = others.run("www4", "run", *filter(None, [how]))
        assert ended.returncode == 1, ended.stderr
        assert "was marked by www4" in ended.stderr
        assert [sorted(os.listdir(home / name)) for name in (".", "raid", "catalog")] == before
        assert others.run("www4", "target", "accept", "nas").returncode == 0
        assert others.run("www4", "run", "--accept-shrink", *filter(None, [how])).returncode == 0


def test_a_share_that_hangs_costs_its_copy_and_not_the_night(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind") as served:
        pair.backs_up()
        pair.extra = SOON
        with stopped(served):
            only_the_disk_is_done(pair, "target.stalled")
            assert pair.copies(target="nas")[0]["reachable"] is False
        pair.backs_up()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_share_that_fails_in_mid_copy_keeps_its_last_snapshot(pair: PlayedPair, number: int) -> None:
    with weak_share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        kept = pair.copies(target="nas")
    with weak_share(pair.folder / "nas", pair.folder / "behind", writes=60, errno=number):
        ended = pair.run("www4", "run")
        assert ended.returncode == 3, ended.stderr
    with weak_share(pair.folder / "nas", pair.folder / "behind"):
        assert pair.copies(target="nas") == kept
        restores_from(pair, "nas")
        pair.backs_up()
        restores_from(pair, "nas")


def test_a_disk_that_is_full_keeps_its_last_snapshot(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        kept = pair.copies(target="disk")
        with (pair.volume / "large").open("wb") as file:
            file.write(os.urandom(64 << 20))
        assert codes(pair) == {"nas": None, "disk": "target.full"}
        restores_from(pair, "nas")
        assert pair.copies(target="disk") == kept
        (pair.volume / "large").unlink()
        pair.backs_up("www4", "--accept-shrink")
        restores_from(pair, "disk")


def test_a_disk_that_is_gone_leaves_the_nas(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        (pair.folder / "disk.img").rename(pair.folder / "pulled-out.img")
        assert codes(pair) == {"nas": None, "disk": "target.missing"}
        restores_from(pair, "nas")


def test_another_disk_of_the_same_name_gets_nothing(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        disk_image(pair.folder / "disk.img")
        [run] = pair.json("www4", "run", status=3)["runs"]
        [disk] = [one["error"] for one in run["targets"] if one["target"] == "disk"]
        assert disk["code"] == "target.wrong"
        assert "target accept disk" in disk["hint"]


def test_with_no_target_at_all_the_run_has_failed(pair: PlayedPair) -> None:
    (pair.folder / "disk.img").unlink()
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert pair.run("www4", "latest").returncode == 6


def test_nothing_is_pruned_by_a_run_that_failed(pair: PlayedPair) -> None:
    pair.extra += "\n[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 1"
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
    before = pair.copies()
    shutil.rmtree(pair.volume)
    ended = pair.run("www4", "run")
    assert ended.returncode != 0
    assert [copy["snapshot"] for copy in pair.copies()] == [copy["snapshot"] for copy in before]


def test_two_runs_at_once_are_one(pair: PlayedPair) -> None:
    pair.extra = SOON
    with share(pair.folder / "nas", pair.folder / "behind") as served, stopped(served):
        first = preloaded.Popen(pair.command("www4", "run"), stderr=subprocess.DEVNULL)
        try:
            lock = pair.folder / "state-www4/lock"
            wait_for(lambda: lock.exists() and lock.read_text().strip(), "the first run's lock")
            second = pair.run("www4", "run")
            assert second.returncode == 5, second.stderr
            assert pair.run("www4", "run", "--if-due").returncode == 0
        finally:
            first.wait(60)

"""Copies from a (played) LVM snapshot of the disk below DRBD: one instant, and the volume is nobody's who copies."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup.catalog import view
from tests import preloaded
from tests.holders import users_of
from tests.played_lvm import PlayedLvm
from tests.played_media import tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_volume import is_free, on_a_device, on_a_slow_nas, under_way


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    with on_a_device(tmp_path) as played:
        yield played


@pytest.fixture
def lvm(pair: PlayedPair) -> Iterator[PlayedLvm]:
    played = PlayedLvm.below(pair)
    yield played
    played.clear()


@pytest.fixture
def slow_nas(pair: PlayedPair) -> Iterator[None]:
    with on_a_slow_nas(pair):
        yield


def outcomes(pair: PlayedPair) -> list[str]:
    """How the runs of www4 ended, the last one first."""
    return [run.outcome.value for run in view.runs(str(pair.folder / "state-www4"), "raid")]


def told_of_the_nas(pair: PlayedPair) -> str:
    """What the catalog keeps of the last run's part for the NAS."""
    return dict(view.runs(str(pair.folder / "state-www4"), "raid")[0].targets)["nas"].message


def meanwhile(pair: PlayedPair, script: str) -> None:
    """Have a shell run this when the snapshot is there, and the copy to the NAS has not begun."""
    pair.extra = f"[target.nas.hook.meanwhile]\nbefore = {json.dumps(['/bin/sh', '-ec', script])}"


def flags(pair: PlayedPair, name: str) -> bytes:
    """The line of the newest copy's manifest that ends with this name."""
    manifest = pair.newest("nas").parent / "manifest.gz"
    [line] = [line for line in gzip.decompress(manifest.read_bytes()).splitlines() if line.endswith(name.encode())]
    return line


def test_a_run_copies_a_snapshot_and_removes_it(pair: PlayedPair, lvm: PlayedLvm) -> None:
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []
    [[_, made]] = lvm.made
    assert made == f"{20 << 20}b", "a tenth of the volume"
    assert lvm.snapshots == []
    assert [*(pair.folder / "state-www4").glob("lvm-*")] == [], "no note of it is left either"
    sidecar = json.loads((pair.newest("nas").parent / "snapshot.json").read_text())
    assert sidecar["instant"] == "lvm"


def test_the_copy_is_of_one_instant_and_what_changed_since_is_in_the_next(pair: PlayedPair, lvm: PlayedLvm) -> None:
    pair.backs_up()
    lvm.tell(after=f"echo late > {pair.volume}/file-0; echo new > {pair.volume}/new; rm {pair.volume}/file-1; sync")
    before = (pair.volume / "file-0").read_bytes()
    pair.backs_up()
    newest = pair.newest("nas")
    assert (newest / "file-0").read_bytes() == before
    assert (newest / "file-1").exists()
    assert not (newest / "new").exists()
    lvm.tell(after=":")
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_what_changed_while_the_snapshot_was_made_is_looked_at_again(pair: PlayedPair, lvm: PlayedLvm) -> None:
    """Its times were written, and its content may not have been: the time that counts is that before the flush."""
    lvm.tell(before=f"echo changed > {pair.volume}/file-7; sync; sleep 3")
    pair.backs_up()
    settled, racy = flags(pair, "file-8").split()[1], flags(pair, "file-7").split()[1]
    assert settled != racy


def test_unchanged_files_are_linked_between_copies_from_the_volume_and_from_snapshots(
    pair: PlayedPair, lvm: PlayedLvm
) -> None:
    pair.resource = pair.resource.replace('snapshot = "lvm"', "")
    pair.backs_up()
    pair.resource += '\nsnapshot = "lvm"'
    pair.backs_up()
    newer, older = (Path(copy["path"]) for copy in pair.copies()[:2])
    assert os.path.samefile(newer / "file-9", older / "file-9")


def test_the_state_folder_may_be_a_symlink(pair: PlayedPair, lvm: PlayedLvm) -> None:
    state = pair.folder / "state-www4"
    pair.backs_up()
    state.rename(pair.folder / "elsewhere")
    state.symlink_to("elsewhere")
    pair.backs_up()
    assert lvm.made
    assert lvm.snapshots == []


def test_nothing_keeps_the_volume_busy_and_who_lost_it_publishes_nothing(
    pair: PlayedPair, lvm: PlayedLvm, slow_nas: None
) -> None:
    with under_way(pair) as run:
        assert len(lvm.snapshots) == 1
        assert users_of(pair.volume) == []
        tool("umount", pair.volume)
        wait_for(lambda: is_free(lvm.device), "the device to be free")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "was unmounted during the run" in said
    assert lvm.snapshots == []
    tool("mount", lvm.device, pair.volume)
    assert outcomes(pair) == ["interrupted"]
    assert pair.run("www4", "latest").returncode == 6


def test_who_has_lost_the_role_is_interrupted(pair: PlayedPair, lvm: PlayedLvm, slow_nas: None) -> None:
    with under_way(pair) as run:
        lvm.tell(role="Secondary")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert lvm.snapshots == []
    assert outcomes(pair) == ["interrupted"]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_removes_the_snapshot(
    pair: PlayedPair, lvm: PlayedLvm, slow_nas: None, signum: signal.Signals, status: int
) -> None:
    with under_way(pair) as run:
        run.send_signal(signum)
        _, said = run.communicate(timeout=60)
    assert run.returncode == status, said
    assert lvm.snapshots == []


def test_what_a_kill_has_left_goes_with_the_next_run_and_nothing_else(
    pair: PlayedPair, lvm: PlayedLvm, slow_nas: None
) -> None:
    with under_way(pair) as run:
        run.kill()
        run.communicate(timeout=60)
    [left] = lvm.snapshots
    lvm.leave("drbdbackup-20260101T000000Z-www4", origin="another")
    lvm.leave("nightly")
    lvm.tell(role="Secondary")
    pair.backs_up()
    assert left not in lvm.snapshots
    assert lvm.snapshots == ["drbdbackup-20260101T000000Z-www4", "nightly"]


def test_a_signal_does_not_kill_what_has_halted_the_disk(pair: PlayedPair, lvm: PlayedLvm) -> None:
    mark = pair.folder / "lvm/halted"
    lvm.tell(before=f"touch {mark}; sleep 1", after=f"mv {mark} {mark}.not-any-more")
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PATH": pair.path},
    )  # fmt: skip
    wait_for(mark.exists, "the disk to be halted")
    run.terminate()
    run.communicate(timeout=60)
    assert run.returncode == 143
    assert mark.with_name("halted.not-any-more").exists()
    assert lvm.snapshots == []


def test_a_snapshot_that_ran_over_is_a_failed_copy_and_says_which_key_to_change(
    pair: PlayedPair, lvm: PlayedLvm
) -> None:
    pair.backs_up()
    lvm.tell(invalid="1")
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "ran over" in ended.stderr
    assert "snapshot_size in [resource.raid]" in ended.stderr
    assert len(pair.copies()) == 1
    assert lvm.snapshots == []


def test_one_that_is_full_counts_as_one_that_ran_over(pair: PlayedPair, lvm: PlayedLvm) -> None:
    lvm.tell(used="100.00")
    assert pair.run("www4", "run").returncode == 1
    assert pair.run("www4", "latest").returncode == 6


def test_a_snapshot_of_which_nothing_can_be_told_is_not_believed(pair: PlayedPair, lvm: PlayedLvm) -> None:
    meanwhile(pair, f"echo 2 > {lvm.folder}/stumbles")
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "cannot find out whether the LVM snapshot was whole" in ended.stderr
    assert pair.run("www4", "latest").returncode == 6
    assert lvm.snapshots == []


def test_one_question_in_vain_is_asked_again(pair: PlayedPair, lvm: PlayedLvm) -> None:
    meanwhile(pair, f"echo 1 > {lvm.folder}/stumbles")
    pair.backs_up()
    assert (lvm.folder / "stumbles").read_text() == "0"


def test_what_is_wrong_with_another_group_is_no_doubt(pair: PlayedPair, lvm: PlayedLvm) -> None:
    meanwhile(pair, f"echo Volume group vg1 is inconsistent. > {lvm.folder}/elsewhere")
    pair.backs_up()
    assert lvm.snapshots == []


def test_one_that_cannot_be_removed_is_told_and_the_copy_stays(pair: PlayedPair, lvm: PlayedLvm) -> None:
    lvm.tell(refuses="Can't get exclusive access to volume group.")
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert "could not be removed" in ended.stderr
    assert len(pair.copies()) == 1
    lvm.tell(refuses="")
    pair.backs_up()
    assert lvm.snapshots == []


def test_what_is_left_goes_also_once_the_key_is_gone(pair: PlayedPair, lvm: PlayedLvm) -> None:
    lvm.tell(refuses="Can't get exclusive access to volume group.")
    assert pair.run("www4", "run").returncode == 3
    pair.resource = pair.resource.replace('snapshot = "lvm"', "")
    [left] = lvm.snapshots
    [(state, because)] = told_by_the_doctor(pair)
    assert (state, because) == ("warn", "a run that was killed has left a snapshot")
    lvm.tell(refuses="", role="Secondary")
    pair.backs_up()
    assert lvm.snapshots == []
    assert told_by_the_doctor(pair) == []
    lvm.leave(left)
    pair.backs_up()
    assert lvm.snapshots == [left], "whoever has no note of it does not ask LVM"


def test_one_that_cannot_be_removed_does_not_keep_the_others(pair: PlayedPair, lvm: PlayedLvm) -> None:
    lvm.tell(refuses="Can't get exclusive access to volume group.")
    assert pair.run("www4", "run").returncode == 3
    stuck = "drbdbackup-20260101T000000Z-www4"
    lvm.leave(stuck)
    assert lvm.snapshots[0] == stuck
    lvm.tell(refuses="", role="Secondary", stuck=stuck)
    pair.backs_up()
    assert lvm.snapshots == [stuck]


@pytest.mark.parametrize(("words", "told", "hint"), [
    ({"free": "4194304"}, "vg0 has 4.0 MiB left, and the snapshot is to have 20.0 MiB", "vgextend"),
    ({"segtype": "thin"}, "is a thin volume", "not thin"),
    ({"below": "/dev/null"}, "is /dev/null, which is no logical volume", "lsblk"),
    ({"below": "none"}, "has no disk below", "sh-ll-dev"),
])  # fmt: skip
def test_what_no_snapshot_can_be_had_of_is_refused(
    pair: PlayedPair, lvm: PlayedLvm, words: dict[str, str], told: str, hint: str
) -> None:
    lvm.tell(**words)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert hint in ended.stderr
    assert lvm.made == []
    assert pair.run("www4", "latest").returncode == 6


def test_a_mount_of_a_part_of_the_volume_is_refused(pair: PlayedPair, lvm: PlayedLvm) -> None:
    (pair.volume / "inner").mkdir()
    tool("mount", "--bind", pair.volume / "inner", pair.volume)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "only /inner of the volume is mounted" in ended.stderr
    assert [state for state, _ in told_by_the_doctor(pair)] == ["fail"]
    assert lvm.made == []


def test_without_lvms_tools_it_says_so(pair: PlayedPair, lvm: PlayedLvm) -> None:
    for name in ("lvs", "lvcreate", "lvremove"):
        (lvm.folder / "bin" / name).unlink()
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "lvs is not installed" in ended.stderr


def test_a_disk_that_is_behind_is_not_copied_from(pair: PlayedPair, lvm: PlayedLvm) -> None:
    """What lies below is old: the volume itself has the peer's data, and that night a backup matters most."""
    lvm.tell(disk="Inconsistent")
    pair.backs_up()
    assert "the disk here is Inconsistent" in told_of_the_nas(pair)
    assert lvm.made == []
    assert differences(pair.volume, pair.newest("nas")) == []


def test_a_disk_that_falls_behind_meanwhile_is_not_copied_from(pair: PlayedPair, lvm: PlayedLvm) -> None:
    lvm.tell(after=f"echo late > {pair.volume}/file-0; echo Inconsistent > {lvm.folder}/disk")
    meanwhile(pair, f"ls {lvm.folder} > {lvm.folder}/there")
    pair.backs_up()
    assert ".snapshot" not in (lvm.folder / "there").read_text(), "what nobody reads is removed first"
    assert "the disk here is Inconsistent" in told_of_the_nas(pair)
    assert (pair.newest("nas") / "file-0").read_text() == "late\n"
    assert lvm.snapshots == []


def test_what_is_mounted_in_the_volume_is_left_out_as_without_a_snapshot(pair: PlayedPair, lvm: PlayedLvm) -> None:
    inner = pair.volume / "inner"
    inner.mkdir()
    (inner / "hidden").touch()
    tool("mount", "-t", "tmpfs", "tmpfs", inner)
    try:
        pair.backs_up()
    finally:
        tool("umount", inner)
    newest = pair.newest("nas")
    assert list((newest / "inner").iterdir()) == []
    assert json.loads((newest.parent / "snapshot.json").read_text())["left_out"] == ["inner"]


def told_by_the_doctor(pair: PlayedPair) -> list[tuple[str, str]]:
    """State and reason of what it says of snapshots."""
    checks = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    return [(one["state"], one["because"]) for one in checks if one["check"] == "snapshot"]


def test_the_doctor_tells_beforehand(pair: PlayedPair, lvm: PlayedLvm) -> None:
    good = "vg0/raid lies below it, and a snapshot takes 20.0 MiB of the 1.0 GiB that vg0 has left"
    assert told_by_the_doctor(pair) == [("ok", good)]
    lvm.leave("drbdbackup-20260101T000000Z-www4")
    assert [state for state, _ in told_by_the_doctor(pair)] == ["ok", "warn"]
    lvm.tell(free="0")
    assert [state for state, _ in told_by_the_doctor(pair)] == ["fail", "warn"]
    lvm.tell(below="/dev/null")
    [(state, because)] = told_by_the_doctor(pair)
    assert (state, because.endswith("no logical volume")) == ("fail", True)


def test_a_dry_run_makes_no_snapshot(pair: PlayedPair, lvm: PlayedLvm) -> None:
    assert pair.run("www4", "run", "--dry-run").returncode == 0
    assert lvm.made == []

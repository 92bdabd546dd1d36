"""What LVM says, and what is made of it: nothing is guessed, and only what is ours and of this volume may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import ResourceConfig
from drbdbackup.doctor import lvm as doctor
from drbdbackup.errors import LvmSnapshotError, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline.volume.lvm_volume import BackingVolume, check_mount
from drbdbackup.tools import lvm
from drbdbackup.tools.lvm import LogicalVolume
from tests.captured import play

GIB = 1 << 30
RAID = ResourceConfig(name="raid", source="/srv/raid", device="/dev/drbd0", snapshot="lvm")
ORIGIN = LogicalVolume(group="vg0", name="raid", path="/dev/vg0/raid", size=100 * GIB, free=50 * GIB, number="254:0")
NAME = "drbdbackup-20261123T043000Z-www4"
LIVE = Mount(mount_id=40, parent_id=1, device="147:0", root="/", point="/srv/raid", fstype="ext4", source="/dev/drbd0")
OURS = LogicalVolume(
    group="vg0", name=NAME, path=f"/dev/vg0/{NAME}", size=100 * GIB, free=40 * GIB, number="254:3", origin="raid"
)
ROW = {
    "vg_name": "vg0", "lv_name": "raid", "lv_path": "/dev/vg0/raid", "origin": "", "segtype": "linear",
    "lv_kernel_major": "254", "lv_kernel_minor": "0", "lv_size": str(100 * GIB), "vg_free": str(50 * GIB),
    "data_percent": "", "lv_snapshot_invalid": "-1",
}  # fmt: skip


def report(*rows: dict[str, Any]) -> str:
    return json.dumps({"report": [{"lv": list(rows)}]})


def test_volumes_are_read_from_lvs() -> None:
    snapshot = {
        **ROW, "lv_name": NAME, "lv_path": OURS.path, "origin": "raid", "lv_kernel_minor": "3",
        "vg_free": str(40 * GIB), "data_percent": "12.50", "lv_snapshot_invalid": "0",
    }  # fmt: skip
    assert lvm.parse(report(ROW, ROW, snapshot)) == (ORIGIN, replace(OURS, used=0.125))
    [spoilt] = lvm.parse(report({**snapshot, "data_percent": "100.00", "lv_snapshot_invalid": "1"}))
    assert spoilt.is_invalid
    assert lvm.parse(report()) == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", report({**ROW, "lv_size": "many"}), report({"vg_name": "vg0"})])
def test_what_makes_no_sense_is_an_error(text: str) -> None:
    with pytest.raises(ToolError, match="lvs printed invalid output"):
        lvm.parse(text)


@pytest.mark.parametrize(("theirs", "behind"), [
    ('["a|.*|"]', ""), ('["a|^/dev/sd|","r|.*|"]', ', "a|^/dev/sd|","r|.*|"'), ('"r|x]|"', ', "r|x]|"'),
    ("[]", ""),
])  # fmt: skip
def test_every_program_of_lvm_keeps_off_drbd_and_to_the_admins_filter(
    theirs: str, behind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(tmp_path / "lvmconfig", f"#!/bin/sh\necho 'global_filter={theirs}'\n")
    for name in ("lvs", "lvcreate", "lvremove"):
        play(tmp_path / name, f"""#!/bin/sh\necho "${{0##*/}} $1 $2" >> {tmp_path}/said; echo '{report()}'\n""")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert (lvm.volumes(), lvm.named("vg0", NAME)) == ((), ())
    lvm.create(ORIGIN, NAME, GIB)
    lvm.remove(OURS)
    config = f'--config devices/global_filter=["r|^/dev/drbd|", "r|^/dev/block/147:|"{behind}]'
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [f"{name} {config}" for name in ("lvs", "lvs", "lvcreate", "lvremove")]


@pytest.mark.parametrize(("wanted", "size"), [
    (0.1, 10 * GIB), (1.0, 100 * GIB), (float(20 * GIB), 20 * GIB), (float((1 << 20) + 1), 2 << 20),
])  # fmt: skip
def test_the_room_of_a_snapshot(wanted: float, size: int) -> None:
    assert lvm.room(wanted, ORIGIN) == size


@pytest.mark.parametrize("segtype", ["linear", "striped", "raid1", "cache", "vdo"])
def test_what_lies_in_a_pool_and_is_not_thin_will_do(segtype: str) -> None:
    BackingVolume(RAID, replace(ORIGIN, segtype=segtype)).check()


def test_only_snapshots_of_this_volume_with_our_name_are_ours() -> None:
    others = (
        replace(OURS, origin="another"), replace(OURS, group="vg1"), replace(OURS, name="nightly"),
        replace(OURS, name="drbdbackup-before-upgrade"), replace(OURS, origin=""), ORIGIN,
    )  # fmt: skip
    assert BackingVolume(RAID, ORIGIN).snapshots((*others, OURS)) == (OURS,)


@pytest.mark.parametrize(("volume", "told"), [
    (replace(ORIGIN, free=GIB), "vg0 has 1.0 GiB left, and the snapshot is to have 10.0 GiB"),
    (replace(ORIGIN, segtype="thin"), "vg0/raid is a thin volume"),
])  # fmt: skip
def test_what_no_snapshot_can_be_had_of(volume: LogicalVolume, told: str) -> None:
    with pytest.raises(LvmSnapshotError, match=told) as caught:
        BackingVolume(RAID, volume).check()
    assert "[resource.raid]" in caught.value.hint
    [found] = doctor.judge(doctor.SnapshotFacts(RAID, BackingVolume(RAID, volume)))
    assert (found.state.value, found.because) == ("fail", caught.value.message)


@pytest.mark.parametrize(("live", "told"), [
    (replace(LIVE, fstype="btrfs"), "of type btrfs"), (replace(LIVE, root="/www"), "only /www of the volume"),
])  # fmt: skip
def test_a_mount_that_its_snapshot_could_not_stand_for_is_refused(live: Mount, told: str) -> None:
    check_mount(LIVE, RAID)
    with pytest.raises(LvmSnapshotError, match=told):
        check_mount(live, RAID)
    [found] = doctor.judge(doctor.SnapshotFacts(RAID, BackingVolume(RAID, ORIGIN), live=live))
    assert (found.state.value, told in found.because) == ("fail", True)


def test_what_the_doctor_says_of_it() -> None:
    def states(facts: doctor.SnapshotFacts) -> list[str]:
        return [one.state.value for one in doctor.judge(facts)]

    good = doctor.SnapshotFacts(RAID, BackingVolume(RAID, ORIGIN), live=LIVE)
    assert states(good) == ["ok"]
    left = replace(good, found=BackingVolume(RAID, ORIGIN, (OURS,)))
    assert states(left) == ["ok", "warn"]
    assert states(replace(left, is_at_work=True)) == ["ok"]
    assert states(replace(good, can_cage=False)) == ["fail"]
    unknown = replace(good, found=None, problem=ToolError("lvs is not installed"))
    assert states(unknown) == ["fail"]
    without = replace(RAID, snapshot="")
    assert states(replace(left, resource=without)) == ["warn"]
    assert states(replace(good, resource=without)) == []
    assert states(replace(unknown, resource=without)) == ["warn"]

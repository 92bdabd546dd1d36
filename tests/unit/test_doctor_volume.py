"""What is said of the volume's place, fstab and rsync."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drbdbackup.doctor import rsync, volume
from drbdbackup.doctor.rsync import RsyncFacts
from drbdbackup.doctor.volume import FstabLine, VolumeFacts, parse_fstab

DEVICES = frozenset({"/dev/drbd0", "/dev/sda1"})
GOOD = VolumeFacts(
    resource="raid", source="/srv/raid", mode=0o040755, problem="", devices=DEVICES, fstab_problem="", entries=(),
)
RSYNC = """\
rsync  version 3.2.7  protocol version 31
Copyright (C) 1996-2022 by Andrew Tridgell, Wayne Davison, and others.
Capabilities:
    64-bit files, 64-bit inums, hardlinks, hardlink-specials, symlinks, IPv6, atimes, batchfiles, inplace, append, ACLs,
    xattrs, optional secluded-args, iconv, prealloc, stop-at, no crtimes
Checksum list:
    xxh128 xxh3 xxh64 (xxhash) md5 md4 sha1 none
"""


def wrong(facts: VolumeFacts) -> dict[str, str]:
    return {one.check: one.state.value for one in volume.judge(facts) if one.state.value != "ok"}


def entry(spec: str, point: str, options: str, device: str = "") -> FstabLine:
    return FstabLine(spec, point, tuple(options.split(",")), device or spec)


def test_fstab_is_read_as_mount_does() -> None:
    text = "# a comment\n\n/dev/sda2 / ext4 errors=remount-ro 0 1\n"
    text += "/dev/drbd0 /srv/a\\040b/ ext4 noauto\nhalf\n/dev/x /y\n"
    assert parse_fstab(text) == (
        FstabLine("/dev/sda2", "/", ("errors=remount-ro",)), FstabLine("/dev/drbd0", "/srv/a b", ("noauto",)),
        FstabLine("/dev/x", "/y", ()),
    )


def test_a_volume_as_it_should_be() -> None:
    assert wrong(GOOD) == {}
    assert [one.check for one in volume.judge(GOOD)] == ["mount point", "fstab"]


@pytest.mark.parametrize(("changes", "check", "state"), [
    ({"mode": None, "problem": "No such file or directory"}, "mount point", "fail"),
    ({"mode": 0o100644}, "mount point", "fail"),
    ({"mode": 0o040757}, "mount point", "fail"),
    ({"mode": 0o041777}, "mount point", "fail"),
    ({"fstab_problem": "Permission denied"}, "fstab", "warn"),
    ({"entries": (entry("/dev/drbd0", "/srv/raid", "defaults"),)}, "fstab", "fail"),
    ({"entries": (entry("/dev/drbd0", "/srv/raid", "nofail"),)}, "fstab", "fail"),
    ({"entries": (entry("/dev/drbd0", "/srv/raid", "noauto,x-systemd.automount"),)}, "fstab", "fail"),
    ({"entries": (entry("/dev/drbd0", "/mnt", "defaults"),)}, "fstab", "fail"),
    ({"entries": (entry("/dev/sda1", "/mnt", "defaults"),)}, "fstab", "fail"),
    ({"entries": (entry("/dev/other", "/srv/raid", "defaults"),)}, "fstab", "fail"),
    ({"entries": (entry("UUID=1", "/mnt", "defaults", "/dev/sda1"),)}, "fstab", "fail"),
])  # fmt: skip
def test_each_mistake_is_found_and_no_other(changes, check, state) -> None:
    assert wrong(replace(GOOD, **changes)) == {check: state}


@pytest.mark.parametrize("entries", [
    (entry("/dev/drbd0", "/srv/raid", "noauto"),), (entry("/dev/drbd0", "/srv/raid", "rw,noauto,noatime"),),
    (entry("/dev/sda2", "/", "defaults"), entry("nas:/x", "/backup", "defaults"), entry("none", "/srv/raid2", "x")),
])  # fmt: skip
def test_what_is_not_mounted_by_itself_is_right(entries) -> None:
    assert wrong(replace(GOOD, entries=entries)) == {}


def test_a_spec_leads_to_its_device(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    facts = volume.gather("raid", "/srv/raid", 0o040755, [str(disk)])
    assert str(disk) in facts.devices
    assert volume.gather("raid", "/srv/raid", "it hangs", []).problem == "it hangs"


def test_an_rsync_that_is_new_enough() -> None:
    assert rsync.parse(RSYNC) == RsyncFacts((3, 2))
    assert rsync.judge(RsyncFacts((3, 2)))[0].state.value == "ok"
    assert rsync.judge(RsyncFacts((4, 0)))[0].state.value == "ok"


@pytest.mark.parametrize(("version", "debian", "state"), [
    ((3, 2), "12", "warn"), ((3, 4), "13", "warn"), ((3, 5), "12", "ok"), ((3, 5), "13", "ok"), ((3, 4), "14", "ok"),
    ((3, 2), "", "ok"),
])  # fmt: skip
def test_an_rsync_that_debian_has_repaired_by_a_newer_one(version, debian, state) -> None:
    [found] = rsync.judge(RsyncFacts(version, debian=debian))
    assert (found.state.value, "3.5.0" in found.remedy) == (state, state == "warn")


def test_only_debian_is_debian() -> None:
    assert rsync.debian_in('ID=debian\nVERSION_ID="12"\n') == "12"
    assert rsync.debian_in('ID=ubuntu\nVERSION_ID="12"\nID_LIKE=debian\n') == ""
    assert rsync.debian_in("") == ""


@pytest.mark.parametrize("facts", [
    rsync.parse(RSYNC.replace("3.2.7", "3.1.3")), rsync.parse(""), RsyncFacts(None, problem="not installed"),
    rsync.parse(RSYNC.replace("xxh128", "")), rsync.parse(RSYNC.replace("ACLs", "no ACLs")),
    rsync.parse(RSYNC.replace("xattrs", "no xattrs")),
])  # fmt: skip
def test_an_rsync_that_cannot_do_what_a_run_needs(facts) -> None:
    assert [one.state.value for one in rsync.judge(facts)] == ["fail"]

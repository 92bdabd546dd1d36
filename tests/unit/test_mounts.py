"""What is mounted where, from the text of /proc/self/mountinfo alone."""

from __future__ import annotations

import os

import pytest

from drbdbackup.errors import MountTableUnreadable
from drbdbackup.model.mount import Mount
from drbdbackup.tools import mounts
from drbdbackup.tools.mounts import below, mounted_at, parse

NODE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 22 147:0 / /srv/raid rw,noatime shared:29 - ext4 /dev/drbd0 rw
40 22 0:45 / /backup rw,relatime shared:31 - nfs4 nas:/volume1/backup rw,vers=4.2
41 22 0:50 / /mnt/two\\040words\\134and\\011more rw - btrfs /dev/mapper/vg\\043x rw,subvol=/
"""


def test_a_line_is_read_field_by_field():
    assert parse(NODE)[2] == Mount(
        mount_id=36,
        parent_id=22,
        device="147:0",
        root="/",
        point="/srv/raid",
        fstype="ext4",
        source="/dev/drbd0",
        options=("rw", "noatime"),
        propagation=("shared:29",),
    )


def test_escaped_names_are_restored():
    mount = parse(NODE)[4]
    assert (mount.point, mount.source) == ("/mnt/two words\\and\tmore", "/dev/mapper/vg#x")
    assert mounted_at(parse(NODE), "/mnt/two words\\and\tmore") == mount


def test_a_name_that_is_not_utf_8_survives():
    text = os.fsdecode(b"22 1 8:1 / /caf\xe9\\040\xff rw - ext4 /dev/sda1 rw\n")
    assert os.fsencode(parse(text)[0].point) == b"/caf\xe9 \xff"


def test_a_folder_name_with_a_character_that_some_take_for_a_line_end_is_one_line():
    for letter in "\r\x0b\x0c\x1c\x85\u2028":
        assert parse(f"22 1 8:1 / /a{letter}b rw - ext4 /dev/sda1 rw\n")[0].point == f"/a{letter}b"


def test_optional_fields_may_be_none_or_many():
    for told in ((), ("shared:1",), ("master:2", "propagate_from:3", "unbindable", "future:4")):
        assert parse(f"22 1 8:1 / / rw {''.join(f'{one} ' for one in told)}- ext4 x rw\n")[0].propagation == told


def test_an_empty_source_is_not_the_next_field():
    assert parse("22 1 0:5 / /t rw - tmpfs  rw,size=1k\n")[0].source == ""


def test_options_that_hold_unescaped_spaces_do_not_matter():
    assert parse("22 1 0:5 / /t rw - 9p share rw,opt=a b - c\n")[0].source == "share"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "/dev/sda1 / ext4 rw 0 0", "22 1 8:1 / / rw - ext4 /dev/sda1", "22 1 8:1 / / rw - ext4",
        "22 1 8:1 / / rw ext4 /dev/sda1 rw", "22 1 8-1 / / rw - ext4 /dev/sda1 rw", "x 1 8:1 / / rw - ext4 /dev/a rw",
        "22 1 8:1 / srv rw - ext4 /dev/sda1 rw", "22  1 8:1 / / rw - ext4 /dev/sda1 rw", " ",
        "²2 1 8:1 / / rw - e s rw",
        "9999999999999 1 8:1 / / rw - ext4 /dev/sda1 rw", "22 1 8:1 / / rw - ext4 /dev/sda1 ",
    ],
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_an_error_that_shows_it(line: str):
    with pytest.raises(MountTableUnreadable, match="has an invalid line"):
        parse(NODE + line + "\n")


def test_nothing_is_mounted_where_the_table_says_nothing():
    table = parse(NODE)
    assert mounted_at(table, "/srv") is None
    assert mounted_at(table, "/srv/raid/www") is None
    assert mounted_at(table, "/srv/raid2") is None
    assert mounted_at(table, "/back") is None


def test_a_trailing_slash_changes_nothing():
    for point in ("/srv/raid/", "/srv//raid", "/srv/./raid"):
        assert mounted_at(parse(NODE), point) == parse(NODE)[2]


def test_the_topmost_of_several_mounts_wins():
    text = NODE + "50 36 8:17 / /srv/raid rw - ext4 /dev/sdb1 rw\n"
    assert mounted_at(parse(text), "/srv/raid").source == "/dev/sdb1"


def test_a_mount_that_was_moved_on_top_of_a_younger_one_wins_though_it_is_listed_before():
    text = NODE + "35 50 8:33 / /m rw - ext4 /dev/moved rw\n50 22 8:17 / /m rw - ext4 /dev/younger rw\n"
    assert mounted_at(parse(text), "/m").source == "/dev/moved"


def test_a_mount_hidden_by_one_on_its_parent_folder_is_not_mounted():
    text = NODE + "50 22 8:17 / /srv rw - ext4 /dev/sdb1 rw\n"
    assert mounted_at(parse(text), "/srv/raid") is None
    assert mounted_at(parse(text), "/srv").source == "/dev/sdb1"


def test_an_automount_point_is_not_mounted_until_the_share_is_on_it():
    trigger = "60 22 0:60 / /nas rw - autofs systemd-1 rw,fd=29\n"
    assert mounted_at(parse(NODE + trigger), "/nas") is None
    share = "61 60 0:61 / /nas rw - nfs4 nas:/x rw\n"
    assert mounted_at(parse(NODE + trigger + share), "/nas").fstype == "nfs4"


def test_in_a_container_whose_root_is_not_listed_mounts_are_found_all_the_same():
    assert mounted_at(parse("70 69 8:1 /sub /data rw - ext4 /dev/sda1 rw\n"), "/data").root == "/sub"


def test_the_root_is_the_one_on_top_of_the_first_file_system():
    text = "1 1 0:1 / / rw - rootfs rootfs rw\n" + NODE
    assert mounted_at(parse(text), "/").source == "/dev/sda1"
    assert mounted_at(parse(text), "/srv/raid").source == "/dev/drbd0"


def test_below_lists_what_is_strictly_below():
    text = NODE + "70 36 0:70 / /srv/raid/www/tmp rw - tmpfs tmpfs rw\n71 22 0:71 / /srv/raid2 rw - tmpfs tmpfs rw\n"
    assert [mount.point for mount in below(parse(text), "/srv/raid/")] == ["/srv/raid/www/tmp"]
    assert len(below(parse(NODE), "/")) == 4


def test_the_real_table_holds_the_root_and_the_mount_that_an_open_folder_lies_on():
    table = mounts.table()
    fd = os.open("/proc/self", os.O_PATH)
    try:
        assert mounted_at(table, "/proc").mount_id == mounts.mount_id_of(fd)
    finally:
        os.close(fd)

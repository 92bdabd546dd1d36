from __future__ import annotations

import pytest
from msgspec.structs import replace

from drbdbackup.errors import ToolError
from drbdbackup.tools.lsblk import BlockDevice, clones, parse, unused


def a_device(name, kind="disk", on=None, uuid=None):
    return BlockDevice(path=f"/dev/{name}", kname=name, type=kind, pkname=on, uuid=uuid)


def test_a_clone_is_another_disk_or_another_partition():
    every = [a_device("sda", uuid="u"), a_device("sdb"), a_device("sdb1", "part", "sdb", "u"),
             a_device("sdb2", "part", "sdb", "u"), a_device("sdc", uuid="other")]  # fmt: skip
    assert clones(every, "/dev/sda", "u") == ["/dev/sdb1", "/dev/sdb2"]
    assert clones(every, "/dev/sdb1", "u") == ["/dev/sda", "/dev/sdb2"]
    assert clones(every, "/dev/sdc", "other") == []


def test_the_same_place_by_another_name_is_no_clone():
    paths = [a_device("sda", uuid="u"), a_device("dm-0", "mpath", "sda", "u"),
             a_device("sdb", uuid="u"), a_device("dm-0", "mpath", "sdb", "u")]  # fmt: skip
    assert clones(paths, "/dev/dm-0", "u") == clones(paths, "/dev/sda", "u") == []
    volumes = [a_device("sda1", "part", "sda", "lvm"), a_device("dm-1", "lvm", "sda1", "u"),
               a_device("dm-2", "lvm", "sda1", "u")]  # fmt: skip
    assert clones(volumes, "/dev/dm-1", "u") == []


def test_without_a_uuid_or_for_an_image_file_there_is_none():
    every = [a_device("sda"), a_device("sdb")]
    assert clones(every, "/dev/sda", "") == []
    assert clones([a_device("sda", uuid="u")], "/srv/disk.img", "u") == []


def test_what_is_mounted_read_only_or_made_something_of_is_used():
    disk, volume = a_device("sda"), a_device("dm-0", "lvm", "sda1")
    every = [disk, a_device("sda1", "part", "sda"), volume, replace(volume, pkname="sda2"), a_device("sdb")]
    assert [one.kname for one in unused(every)] == ["dm-0", "sdb"], "each once"
    assert unused([replace(disk, ro=True)]) == unused([replace(disk, mountpoints=("/srv",))]) == []
    assert unused([replace(disk, mountpoints=(None,))]) != []


@pytest.mark.parametrize("text", [b"", b"{}", b'{"blockdevices": [{}]}', b'{"blockdevices": 1}', b"\xff"])
def test_what_lsblk_does_not_print_is_an_error(text):
    with pytest.raises(ToolError):
        parse(text)

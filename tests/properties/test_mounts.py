"""The mount table is read right or not at all, whatever the names are and wherever the text was cut."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.errors import MountTableUnreadable
from drbdbackup.model.mount import Mount
from drbdbackup.tools.mounts import below, mounted_at, parse

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name).map(os.fsdecode)
FOLDERS = NAMES.filter(lambda name: name not in (".", ".."))
POINTS = st.lists(FOLDERS, max_size=4).map(lambda names: "/" + "/".join(names))
OPTIONS = st.lists(st.sampled_from(["rw", "ro", "nosuid", "relatime"]), min_size=1, max_size=3).map(tuple)
PROPAGATION = st.lists(st.sampled_from(["shared:1", "master:7", "unbindable"]), max_size=2, unique=True).map(tuple)
MOUNTS = st.builds(
    Mount, mount_id=st.integers(0, 10**9), parent_id=st.integers(0, 10**9), device=st.just("8:1"), root=POINTS,
    point=POINTS, fstype=st.sampled_from(["ext4", "nfs4", "fuse.bindfs", "btrfs"]),
    source=st.one_of(st.just(""), NAMES), options=OPTIONS, propagation=PROPAGATION,
)  # fmt: skip
TABLES = st.lists(MOUNTS, max_size=5)


def written(table: list[Mount]) -> str:
    return "".join(f"{line(mount)}\n" for mount in table)


def line(mount: Mount) -> str:
    fields = [
        str(mount.mount_id), str(mount.parent_id), mount.device, escaped(mount.root), escaped(mount.point),
        ",".join(mount.options), *mount.propagation, "-", mount.fstype, escaped(mount.source), "rw",
    ]  # fmt: skip
    return " ".join(fields)


def escaped(name: str) -> str:
    """As the kernel's mangle() does."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in name)


@given(TABLES)
def test_what_the_kernel_writes_is_read_back(table: list[Mount]):
    assert list(parse(written(table))) == table


@given(TABLES, st.data())
def test_a_text_that_was_cut_off_is_an_error_or_right_as_far_as_it_goes(table: list[Mount], data: st.DataObject):
    text = written(table)
    cut = text[: data.draw(st.integers(0, len(text)))]
    try:
        seen = parse(cut)
    except MountTableUnreadable:
        return
    assert list(seen) == table[: len(seen)]


@given(st.text())
def test_any_text_is_a_table_or_an_error_of_ours(text: str):
    try:
        seen = parse(text)
    except MountTableUnreadable:
        return
    assert len(seen) == sum(1 for line in text.split("\n") if line)


@given(TABLES, POINTS)
def test_what_is_said_to_be_mounted_at_a_point_is_listed_there(table: list[Mount], point: str):
    seen = mounted_at(table, point)
    assert seen is None or (seen in table and seen.point == os.path.normpath(point))


@given(TABLES, POINTS)
def test_what_is_below_a_point_is_never_at_it(table: list[Mount], point: str):
    assert all(mount.point.startswith(point) and mount.point != point for mount in below(table, point))

"""What rsync is to bring: each entry on one list, and none deeper below a list's folder than rsync can go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from drbdbackup.manifest import Entry, Recorded
from drbdbackup.pipeline.restore.transfer_list import DEEPEST, TransferList
from drbdbackup.targets import abilities
from drbdbackup.tools import rsync

ALL = abilities.from_document(dict.fromkeys(abilities.Abilities.__struct_fields__, True))
RSYNC_GOES = 1_000  # folders


def entry(path: bytes, kind: bytes = b"d") -> Recorded:
    return Recorded(
        Entry(kind=kind, mode=0o755, uid=0, gid=0, size=0, mtime=0, ctime=0, inode=0, nlink=1, rdev=0, path=path),
        "",
        b"s",
        b"",
    )


def test_what_is_too_deep_for_rsync_is_on_lists_of_folders_on_the_way(tmp_path: Path) -> None:
    levels = 2 * DEEPEST + 10
    wanted, path = [], b"top"
    data = here = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("top", dir_fd=here)
    wanted.append(path)
    here = os.open("top", os.O_RDONLY, dir_fd=here)
    for number in range(levels):
        os.mkdir("d", dir_fd=here)
        path += b"/d"
        wanted += [path, path + b"/e-%d" % number] if number == levels - 1 else [path]
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    wanted += [b"top/d/d/f", b"top/z"]  # back at the first list
    list_of = TransferList(str(tmp_path / "listing"), b"", ALL, data)
    for one in wanted:
        list_of.add(entry(one, b"d" if one.endswith((b"d", b"top")) else b"f"))
    list_of.close()
    os.close(data)
    lists = {b"": str(tmp_path / "listing"), **{one.entry.path + b"/": file for one, file in list_of.deep}}
    assert len(lists) == 3
    named = {base: Path(file).read_bytes().removesuffix(b"\0").split(b"\0") for base, file in lists.items()}
    assert all(name.count(b"/") < RSYNC_GOES for names in named.values() for name in names)
    found = [base + name.removeprefix(b"./") for base, names in named.items() for name in names]
    assert sorted(found) == sorted(wanted)
    assert rsync.listed(b"top/z").removesuffix(b"\0") in named[b""]
    subprocess.run(["rm", "-rf", tmp_path / "top"], check=True)  # Python's own removal is not for so deep a tree


def test_a_single_path_is_listed_from_the_folder_that_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    data = os.open(tmp_path, os.O_RDONLY)
    list_of = TransferList(str(tmp_path / "listing"), b"a/b", ALL, data)
    for path in (b"a/b", b"a/b/c"):
        list_of.add(entry(path))
    list_of.close()
    os.close(data)
    assert (tmp_path / "listing").read_bytes() == b"./b\0./b/c\0"
    assert list_of.deep == []

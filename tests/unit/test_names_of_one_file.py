"""Names of one file are one again after a restore, but for one that had another content than the first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from drbdbackup.manifest import CHANGED, SETTLED, Recorded
from drbdbackup.pipeline.files.compare import paired
from drbdbackup.pipeline.files.tree import entries, open_folder
from drbdbackup.pipeline.restore import copy_sparse_files
from drbdbackup.pipeline.restore.apply_metadata import MetadataWriter, TreeMetadataWriter, has_split_links
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools.rsync import Item

SIZE = 4 << 20
ALL = Abilities(**dict.fromkeys(Abilities.__struct_fields__, True))


@pytest.mark.parametrize("has_changed", [False, True], ids=["the-same", "changed-between-two-names"])
def test_names_of_one_inode_are_one_file_only_with_one_content(tmp_path: Path, has_changed: bool) -> None:
    """A file that somebody wrote to while it was backed up lies there as it was under each of its names."""
    medium, to, listing = tmp_path / "medium", tmp_path / "to", tmp_path / "listing"
    for folder in (medium, to):
        folder.mkdir()
    for name in ("a", "b"):
        with (medium / name).open("wb") as file:
            file.write(name.encode() if has_changed else b"a")
            file.truncate(SIZE)
    heard, wanted = list[Item](), list[Recorded]()
    with open_folder(str(medium)) as data, open_folder(str(to)) as folder:
        with listing.open("wb") as file:
            for seen in entries(data, b"", lambda _: None):
                if seen.kind == b"f":
                    content = xxhash.xxh128((medium / os.fsdecode(seen.path)).read_bytes()).hexdigest()
                    flag = CHANGED if seen.path == b"b" and has_changed else SETTLED
                    wanted.append(Recorded(replace(seen, inode=7, nlink=2), content, flag, b""))
                    file.write(copy_sparse_files.listed(wanted[-1]))
        problems = copy_sparse_files.copy_listed(
            str(listing), data, folder, heard.append, lambda: None, has_links=True
        )
        check, writer = RestoreCheck(ALL, lambda: None), MetadataWriter(ALL, is_own=True)
        assert not has_split_links(folder, wanted)
        making = TreeMetadataWriter(folder, writer, "", over=False, makes_only=True)
        making.write_all(lambda: iter(wanted), lambda: None)
        for item in heard:
            check.add(item)
        there = [seen for seen in entries(folder, b"", print) if seen.kind == b"f"]
        check.all(folder, paired(wanted, there), lambda: None, content=False)
    with listing.open("rb") as file:
        assert list(copy_sparse_files.listed_paths(file)) == [b"a", b"b"]
    assert (problems, check.problems, check.is_content_in_doubt) == ([], [], False)
    assert [(to / name).read_bytes() == (medium / name).read_bytes() for name in ("a", "b")] == [True, True]
    assert (to / "a").samefile(to / "b") is not has_changed
    assert [item.path for item in heard] == ([b"a", b"b"] if has_changed else [b"a"]), "each is hashed by whoever reads"

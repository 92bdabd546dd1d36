"""Large files of holes come with the content that each name had, and several names of one are one file again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from drbdbackup.manifest import CHANGED, SETTLED, Recorded
from drbdbackup.pipeline.files.tree import entries, open_folder
from drbdbackup.pipeline.restore import copy_sparse_files
from drbdbackup.tools.rsync import Item

SIZE = 4 << 20


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
    heard: list[Item] = []
    with open_folder(str(medium)) as data, open_folder(str(to)) as folder:
        with listing.open("wb") as file:
            for seen in entries(data, b"", lambda _: None):
                if seen.kind == b"f":
                    content = xxhash.xxh128((medium / os.fsdecode(seen.path)).read_bytes()).hexdigest()
                    flag = CHANGED if seen.path == b"b" and has_changed else SETTLED
                    file.write(copy_sparse_files.listed(Recorded(replace(seen, inode=7, nlink=2), content, flag, b"")))
        problems = copy_sparse_files.copy_listed(
            str(listing), data, folder, heard.append, lambda: None, has_links=True
        )
    with listing.open("rb") as file:
        assert list(copy_sparse_files.listed_paths(file)) == [b"a", b"b"]
    assert problems == []
    assert [(to / name).read_bytes() == (medium / name).read_bytes() for name in ("a", "b")] == [True, True]
    assert (to / "a").samefile(to / "b") is not has_changed
    assert [item.path for item in heard] == ([b"a", b"b"] if has_changed else [b"a"]), "each is hashed by whoever reads"

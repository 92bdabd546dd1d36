"""On a host without cages a symlink in a snapshot's place must not lead the recycling of its tree elsewhere."""

from __future__ import annotations

from pathlib import Path

from drbdbackup.pipeline.snapshot import recycled_tree
from drbdbackup.targets import layout


def test_a_snapshot_that_is_a_symlink_is_not_taken(tmp_path: Path) -> None:
    local = tmp_path / "local"
    (local / "data").mkdir(parents=True)
    (local / "precious").write_text("of the node's own file system")
    snapshot = Path(layout.snapshot_folder(str(tmp_path / "root"), "raid", "20261129T000000Z-www4"))
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(local)
    fresh = snapshot.parent / ".partial-new"
    assert not recycled_tree.take(str(tmp_path / "root"), "raid", snapshot.name, str(fresh))
    assert (local / "precious").read_text()
    assert snapshot.is_symlink()

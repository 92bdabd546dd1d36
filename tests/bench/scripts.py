"""What is compared with: the classic how-to's two scripts, one after the other, without their log lines."""

from __future__ import annotations

from pathlib import Path

from tests.bench.ground import silent
from tests.played_media import tool


def back_up(source: Path, nas: Path, disk: Path, saving: Path) -> None:
    """`rsync -a` to the mounted share, then mount, `cp -aR`, umount; up to the last byte on the medium."""
    silent("rsync", "-a", f"{source}/", nas)
    tool("mount", disk, saving)
    try:
        silent("cp", "-aR", source, saving)
    finally:
        tool("umount", saving)
    tool("sync", "--file-system", nas)

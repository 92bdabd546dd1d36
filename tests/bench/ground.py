"""The ground that is measured on: file systems in image files, mounted for the time of a case, and a cold cache.

Everything is a context manager that leaves nothing. Images are sparse and lie side by side on one disk, so what is
compared shares whatever that disk does meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.played_media import mounted, tool
from tests.played_pair import PlayedPair

NO_PRUNING = "[retention]\ndaily = 14\nminimum = 1000"
PATIENCE = 3600.0
UNREST = 0.15  # share of the processors' time


def image(path: Path, fstype: str, mebibytes: int, inodes: int = 0) -> Path:
    """A new file system in a sparse file; `inodes` only for ext4."""
    path.unlink(missing_ok=True)
    tool("truncate", "--size", f"{mebibytes}M", path)
    if fstype == "ext4":
        tool("mkfs.ext4", "-q", "-F", *(("-N", str(inodes)) if inodes else ()), path)
    else:
        tool("mkfs.btrfs", "-q", "-f", path)
    return path


@contextmanager
def pair(folder: Path, source: Path, nas: Path, disk: Path) -> Iterator[PlayedPair]:
    """A played node: the image `source` is mounted as its volume, `nas` as its share; `disk` is its disk target.

    Nothing is ever pruned: what is compared keeps no history at all.
    """
    share = folder / "backup"
    targets = {
        "nas": f'kind = "nas"\npath = "{share}"\nrequire_mount = true',
        "disk": f'kind = "disk"\ndevice = "{disk}"\nmountpoint = "{folder}/saving"',
    }
    played = PlayedPair(folder, targets, extra=NO_PRUNING)
    with mounted(source, played.volume, "loop"), mounted(nas, share, "loop"):
        shutil.rmtree(played.volume / ".drbdbackup", ignore_errors=True)  # what an earlier pair knew of its media
        yield played


def backs_up(played: PlayedPair) -> None:
    """Our run over both targets, up to the last byte on the medium."""
    ended = played.run("www4", "run", timeout=PATIENCE)
    if (ended.returncode, ended.stderr) != (0, ""):
        raise SystemExit(f"drbdbackup run ended with {ended.returncode}: {ended.stderr}")
    tool("sync", "--file-system", played.folder / "backup")


def cold() -> None:
    """Write everything out, then forget what was read: the next one finds an empty cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def calm(patience: float) -> None:
    """Wait for a second in which others leave the processors alone, but no longer than `patience` seconds."""
    until = time.monotonic() + patience
    while (busy := _busy(1.0)) > UNREST:
        if time.monotonic() > until:
            print(f"  not calm: others keep the processors busy for {busy:.0%} of the time", file=sys.stderr)
            return


def _busy(seconds: float) -> float:
    """The share of the processors' time in which they were not idle, from proc(5), /proc/stat."""
    before = _ticks()
    time.sleep(seconds)
    idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    return 1 - idle / total


def _ticks() -> tuple[int, int]:
    """What has gone by idle or waiting for a disk, and in all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return ticks[3] + ticks[4], sum(ticks)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, by the wall."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def silent(*argv: str | Path) -> None:
    """Run a program that must succeed, whatever it prints."""
    subprocess.run([str(arg) for arg in argv], check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)

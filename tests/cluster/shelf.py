"""What the labs of a session share: one key, and each saved state, which is made by whoever needs it first.

    shelf.folder / NAME / www4 / memory, root.qcow2, sda.qcow2, ...
    shelf.folder / NAME / clock

A state is whole as soon as it is there, and never written to again: whoever goes on from it writes to overlays.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FOLDERS = "drbdbackup-lab-"


class Folder:
    """A folder on a disk, for big files: it goes with us, or when the next one is made after we were killed."""

    def __init__(self) -> None:
        remove_what_was_left()
        self.path = Path(tempfile.mkdtemp(prefix=FOLDERS, dir="/var/tmp"))
        self.lock = locked(self.path)
        assert self.lock

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock:
            self.lock.close()


class Shelf:
    """In a folder that outlives all labs on it; what is there already is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh_key = folder / "key"
        with self.alone("key"):
            if not self.ssh_key.exists():
                keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.ssh_key)]
                subprocess.run(keygen, check=True, timeout=30)

    def place(self, name: str) -> Path:
        return self.folder / name

    def has(self, name: str) -> bool:
        return self.place(name).exists()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Nobody else makes that state meanwhile; it may have been made while we waited."""
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def being_made(self, name: str) -> Iterator[Path]:
        """An empty folder; what is put into it becomes the state."""
        part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
        yield part
        part.rename(self.place(name))


def locked(folder: Path) -> IO[str] | None:
    """The folder's lock, held while its owner lives; None when another holds it."""
    lock = (folder / "lock").open("w")
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    lock.close()
    return None


def remove_what_was_left() -> None:
    """Folders of labs that were killed."""
    for folder in Path("/var/tmp").glob(f"{FOLDERS}*"):
        with suppress(OSError):
            if lock := locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()

"""A small file of the system's configuration, read once: what it says, whose it is, or why it cannot be read.

For files on the system's own disk only, never for what may hang.
"""

from __future__ import annotations

import os
import stat

from msgspec import Struct
from msgspec.structs import replace

LARGEST = 1 << 20  # bytes


class TextFile(Struct, frozen=True):
    """`mode` and `owner` (a uid) are of what a symlink leads to; `problem` says why there is no text, or is ""."""

    text: str = ""
    mode: int = 0
    owner: int = 0
    problem: str = ""

    def without_text(self) -> TextFile:
        """The same for a file whose text must not be shown."""
        return replace(self, text="")


def read(path: str) -> TextFile | None:
    """The file, or None if there is none. On the system's own disk only: nothing here has a deadline."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return TextFile(problem="not a plain file")
            text = file.read(LARGEST).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return TextFile(problem=error.strerror or "cannot be read")
    return TextFile(text, status.st_mode, status.st_uid)

"""The file by which the cluster's resource agent knows that processes of ours use a volume.

Nothing of ours decides by it.
"""

from __future__ import annotations

import os
from contextlib import suppress


def mark_in_use(state_dir: str) -> None:
    """Say to the resource agent that the volume is in use. What a killed process left there means nothing."""
    os.close(os.open(_file(state_dir), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def clear_in_use(state_dir: str) -> None:
    """Say that it is not any more."""
    with suppress(FileNotFoundError):
        os.unlink(_file(state_dir))


def _file(state_dir: str) -> str:
    return os.path.join(state_dir, "holding")

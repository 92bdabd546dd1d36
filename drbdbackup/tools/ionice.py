"""ionice: the I/O class of a process, which what it starts inherits. Python has no name for ioprio_set(2)."""

from __future__ import annotations

import os

from drbdbackup import proc

IDLE = "idle"  # as `limits.ionice` and ionice(1) call it


def become_idle() -> None:
    """Let this process, before it has threads, have the disks only when nobody else wants them. Raises ToolError.

    What the kernel makes of that is the disk's scheduler's own: mq-deadline and bfq know the class, `none` does not.
    """
    proc.run(proc.Command(argv=("ionice", "--class", IDLE, "--pid", str(os.getpid())), timeout=10.0))

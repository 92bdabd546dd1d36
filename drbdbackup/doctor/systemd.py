"""systemctl(1): whether a unit is started at boot. It reads files for that, so it answers without systemd at work."""

from __future__ import annotations

import os

from drbdbackup import proc
from drbdbackup.errors import ToolError, ToolMissing

# "alias": another name of a unit that is enabled, which is where the other name comes from.
STARTS = frozenset({"enabled", "enabled-runtime", "alias", "linked", "linked-runtime"})
_RUNNING = "/run/systemd/system"  # sd_booted(3)
_TIMEOUT = 10.0
_NO_SUCH = (b"No such file", b"not-found", b"does not exist", b"not loaded")


def is_running() -> bool:
    """Whether systemd runs here, so that what is enabled is started."""
    return os.path.isdir(_RUNNING)


def is_enabled(unit: str) -> str | None:
    """The word of `systemctl is-enabled`, "" where there is no such unit or no systemd, None where nobody can tell."""
    command = proc.Command(argv=("systemctl", "is-enabled", "--", unit), ok=frozenset(range(256)), timeout=_TIMEOUT)
    try:
        answer = proc.run(command)
    except ToolMissing:
        return ""
    except ToolError:
        return None
    words = answer.text.split()
    if words and words[0] != "not-found":
        return words[0]
    return "" if any(sign in answer.out + answer.err for sign in _NO_SUCH) else None

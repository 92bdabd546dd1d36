"""DRBD's own programs and what their answers mean; nothing here changes DRBD, and nothing here decides a role.

`drbdsetup` asks the kernel and is right even where DRBD's configuration has a mistake in it; `drbdadm` reads
that configuration first. An exit status is no verdict by itself: 10 stands for "configured but down" and for a mistake
in the configuration alike, so the message is read too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from drbdbackup.errors import ToolError, ToolMissing
from drbdbackup.proc import FOREVER, Command, PipedProcess, Result, bound, find, run, start_piped

PROC = "/proc/drbd"
MAJOR = 147  # Documentation/admin-guide/devices.txt: DRBD's block devices
_SHOWN = 300  # characters of a program's output
_ANY_EXIT = frozenset(range(256))
_DEVICE = re.compile(r"/dev/drbd([0-9]+)\Z")


def events2(timeout: float) -> Result:
    """Every object that DRBD's kernel part knows, as `exists ...` lines with `exists -` at the end.

    All resources are asked for and filtered later: the 8.4 and the 9 tools differ in what they say of one that is down.
    Raises ToolMissing and ToolTimedOut; an exit status is left to the caller.
    """
    return run(Command(argv=("drbdsetup", "events2", "--now"), ok=_ANY_EXIT, timeout=timeout))


def events(on_line: Callable[[str], None]) -> PipedProcess:
    """The same objects as a stream that goes on with every change; it dies with us. Raises ToolMissing."""
    if find("drbdsetup") is None:
        raise ToolMissing.of("drbdsetup")
    return start_piped(Command(argv=bound(("drbdsetup", "events2")), timeout=FOREVER), on_line)


def role(resource: str, timeout: float) -> Result:
    """`drbdadm role`: `Primary/Secondary` (8.x, this node first, a line per volume) or `Primary` (9).

    Raises ToolMissing and ToolTimedOut; an exit status is left to the caller.
    """
    return run(Command(argv=("drbdadm", "role", resource), ok=_ANY_EXIT, timeout=timeout))


def get_gi(which: tuple[str, ...], timeout: float) -> Result:
    """`drbdsetup get-gi`: the data generation's UUIDs; `which` is the minor (8.4), or resource, peer and volume (9).

    Raises ToolMissing and ToolTimedOut; an exit status is left to the caller.
    """
    return run(Command(argv=("drbdsetup", "get-gi", *which), ok=_ANY_EXIT, timeout=timeout))


def dump(timeout: float, resource: str = "") -> Result:
    """`drbdadm dump`: DRBD's configuration as it reads it, of one resource of this host or of all, of other hosts too.

    Raises ToolMissing and ToolTimedOut; an exit status is left to the caller.
    """
    return run(Command(argv=("drbdadm", "dump", *filter(None, [resource])), ok=_ANY_EXIT, timeout=timeout))


def disks(resource: str, timeout: float) -> dict[str, str]:
    """Each device of a resource here, with the disk below it ("none" where it has none), as DRBD is configured.

    Raises ToolMissing, ToolTimedOut, ToolError.
    """
    asked = (run(Command(argv=("drbdadm", word, resource), timeout=timeout)) for word in ("sh-dev", "sh-ll-dev"))
    devices, below = (answer.text.split() for answer in asked)
    try:
        return dict(zip(devices, below, strict=True))
    except ValueError:
        message = f"drbdadm names {len(devices)} devices of {resource}, and {len(below)} disks below them"
        raise ToolError(message, f"See `drbdadm sh-dev {resource}` and `drbdadm sh-ll-dev {resource}`.") from None


def proc_drbd(path: str) -> str | None:
    """The text of /proc/drbd (made up by the kernel, so a read never blocks), or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def is_loaded() -> bool:
    """Whether DRBD's kernel module is there."""
    return os.path.exists(PROC) or os.path.exists("/sys/module/drbd")


def minor(names: Iterable[str], number: str = "") -> int | None:
    """The minor of a device that is DRBD's, by its number ("147:0"), else by one of its names; None for any other."""
    if number:
        major, _, low = number.partition(":")
        return int(low) if major == str(MAJOR) else None
    return next((int(named[1]) for name in names if (named := _DEVICE.match(name))), None)


def knows_events2(result: Result) -> bool:
    """Whether drbdsetup has the subcommand at all (the tools of 8.3 do not: usage, exit status 20)."""
    output = (result.out + result.err).lower()
    return result.exit != 20 or not any(word in output for word in (b"usage", b"invalid command", b"unknown command"))


def why_not(resource: str, result: Result) -> tuple[str, str]:
    """Problem and hint for an answer of drbdsetup or drbdadm that has no role of `resource` in it."""
    stderr = " ".join(result.err.decode("ascii", "backslashreplace").split())[:_SHOWN]
    for words, problem, hint in _MEANINGS:
        if any(each in stderr for each in words):
            return problem.format(resource=resource, said=stderr), hint.format(resource=resource)
    reason = stderr or f"exit status {result.exit}"
    return f"DRBD does not report the role of {resource}: {reason}", f"See `drbdadm status {resource}`."


def module_missing(resource: str) -> tuple[str, str]:
    """Problem and hint where DRBD's kernel module is not loaded."""
    return "DRBD's kernel module is not loaded", f"Load it: `modprobe drbd`, then `drbdadm up {resource}`."


_MEANINGS = (
    (
        ("generic netlink family",),
        "DRBD's kernel module is not loaded",
        "Load it: `modprobe drbd`, then `drbdadm up {resource}`.",
    ),
    (
        ("Parse error", "parse error"),
        "{resource} is not up, and DRBD's configuration has a mistake: {said}",
        "Put it right (`drbdadm dump` reads it), then `drbdadm up {resource}`.",
    ),
    (
        ("not defined in your config", "no resources defined"),
        "{resource} is not configured in DRBD",
        "Is [resource.{resource}] named as in DRBD's configuration? `drbdadm sh-resources` lists the names.",
    ),
    (
        ("minor not allocated", "Unknown resource", "No such resource", "unknown minor"),
        "{resource} is configured in DRBD but down",
        "Bring it up: `drbdadm up {resource}`.",
    ),
)

"""The rsync that is here: new enough, and able to do what a run asks it for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drbdbackup import proc
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import ToolError

LEAST = (3, 2)
_VERSION = re.compile(r"rsync +version +v?(\d{1,9})\.(\d{1,9})", re.ASCII)
_NEEDED = {"xxh128": "xxh128 checksums", "ACLs": "ACLs", "xattrs": "extended attributes"}


@dataclass(frozen=True, slots=True)
class RsyncFacts:
    """`version` is (3, 2) for 3.2.7, None where it cannot be told; `lacks` is what it was built without."""

    version: tuple[int, int] | None
    lacks: tuple[str, ...] = ()
    problem: str = ""


def parse(text: str) -> RsyncFacts:
    """What `rsync --version` prints."""
    found = _VERSION.search(text)
    words = set(re.split(r"[\s,]+", text.replace("no ACLs", "").replace("no xattrs", "")))
    lacks = tuple(name for word, name in _NEEDED.items() if word not in words)
    return RsyncFacts((int(found[1]), int(found[2])) if found else None, lacks)


def gather() -> RsyncFacts:
    """Ask it."""
    try:
        return parse(proc.run(proc.Command(("rsync", "--version"), timeout=10.0)).text)
    except ToolError as error:
        return RsyncFacts(None, problem=error.message)


def judge(facts: RsyncFacts) -> list[Finding]:
    """3.2 or newer, with everything that a run needs."""
    check, wanted = Check("rsync"), ".".join(map(str, LEAST))
    if facts.problem or facts.version is None:
        return [check.fail(facts.problem or "its version cannot be told", "apt install rsync")]
    version = ".".join(map(str, facts.version))
    if facts.version < LEAST:
        return [check.fail(f"it is {version}; {wanted} is needed", "Install a newer one; Debian 12 has it.")]
    if facts.lacks:
        return [check.fail(f"it was built without {' and '.join(facts.lacks)}", "Install Debian's rsync.")]
    return [check.ok(f"{version}")]

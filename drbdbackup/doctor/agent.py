"""The resource agent: where a cluster manager looks for it, and of this version.

It compares the file with ours, and never installs one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec import Struct

from drbdbackup import shipped
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.doctor.heartbeat import HA_CF
from drbdbackup.pair.digests import HARESOURCES
from drbdbackup.tools.text_file import TextFile, read


class AgentFacts(Struct, frozen=True):
    """A manager that is installed here, where it looks for the agent, and what is there."""

    manager: str
    path: str
    file: TextFile | None
    can_be_started: bool
    is_current: bool


def gather() -> list[AgentFacts]:
    """One for each place where an agent belongs on this node: only Heartbeat's, where that looks after the pair.

    Debian's corosync comes with a configuration, so that its files alone do not say that it is used.
    """
    is_heartbeat = any(os.path.exists(path) for path in (HA_CF, HARESOURCES))
    used = ("Heartbeat",) if is_heartbeat else shipped.managers()
    places = {shipped.MANAGERS[name].agent: name for name in used}
    ours = shipped.text("resource-agent")
    files = {path: read(path) for path in places}
    return [
        AgentFacts(places[path], path, file, os.access(path, os.X_OK), file is not None and file.text == ours)
        for path, file in files.items()
    ]


def judge(facts: AgentFacts) -> Iterator[Finding]:
    """WARN: without it, or with an older one, a failover may have to wait for a backup."""
    check = Check("agent", facts.manager)
    if facts.file is None and facts.manager == "Heartbeat":
        return  # reported by `haresources` if that names it, by `lets go` if it does not
    if facts.file is None:
        yield check.warn(f"{facts.path} is missing: a backup may hold up a failover", "drbdbackup install --agent")
    elif not facts.can_be_started:
        yield check.warn(f"{facts.path} is not executable", f"chmod 755 {facts.path}")
    elif not facts.is_current:
        remedy = f"rm {facts.path}; drbdbackup install --agent"
        yield check.warn(f"{facts.path} is of another version of drbdbackup", remedy)
    else:
        yield check.ok(f"{facts.path} is of this version")

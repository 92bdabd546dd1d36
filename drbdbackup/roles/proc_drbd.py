"""The role as /proc/drbd shows it: for DRBD 8.3 and 8.4, where drbdsetup is missing or too old for events2.

It knows minors, not names, so the configured device says which line is meant: only that one volume is seen. DRBD 9
shows no roles there.
"""

from __future__ import annotations

import os
import re

from drbdbackup.model.role import Connection, DiskState, Observation, PeerSeen, Replication, Role
from drbdbackup.roles.words import NotUnderstood, unknown, word
from drbdbackup.tools import drbd

SOURCE = "/proc/drbd"
_VERSION = re.compile(r"version: 8\.[34]\.")
# drbd_seq_show() of 8.3 and 8.4: `C` is the protocol (blank while StandAlone), the first flag r(unning) or s(uspended)
_LINE = re.compile(
    r" *(?P<minor>\d+): cs:(?P<link>\w+) ro:(?P<here>\w+)/(?P<there>\w+) ds:(?P<disk>\w+)/(?P<peer>\w+)"
    r" [ABC ] (?P<flow>[rs])[-a-z]{3,5}",
    re.ASCII,
)
_DOWN = re.compile(r" *(?P<minor>\d+): cs:Unconfigured", re.ASCII)
_OLD_LINKS = {"WFConnection": Connection.CONNECTING, "WFReportParams": Connection.CONNECTING}
_SYNCING = frozenset(flow.value for flow in Replication) - {"Off", "Established"}


def parse(text: str, resource: str, minor: int) -> Observation:
    """What /proc/drbd says of the volume with this minor; Role.UNKNOWN with a problem if it is not understood."""
    try:
        return _observation(text.split("\n"), resource, minor)
    except NotUnderstood as problem:
        return unknown(resource, SOURCE, f"the state of {resource} cannot be read: {problem}", _HINT)


def observe(resource: str, device: str, path: str = drbd.PROC) -> Observation | None:
    """Read it; None if there is none, or if it is DRBD 9's, which shows no roles."""
    text = drbd.proc_drbd(path)
    if text is None or text.startswith("version: 9"):
        return None
    minor = drbd.minor((device, os.path.realpath(device)))
    if minor is None:
        problem = f"/proc/drbd knows only minors, and {device or 'no device'} is none of DRBD's"
        return unknown(resource, SOURCE, problem, "Install drbd-utils 8.9 or newer, or name /dev/drbdN as the device.")
    return parse(text, resource, minor)


_HINT = "See `cat /proc/drbd`; nothing is backed up while the role is not known."


def _observation(lines: list[str], resource: str, minor: int) -> Observation:
    if not _VERSION.match(lines[0]):
        raise NotUnderstood("/proc/drbd is not that of DRBD 8.3 or 8.4")
    about = [line for line in lines if line.lstrip(" ").startswith(f"{minor}:")]
    if len(about) != 1:
        count = "not" if not about else f"{len(about)} times"
        raise NotUnderstood(f"minor {minor} is {count} in /proc/drbd: the resource is down, or has another device")
    if _DOWN.fullmatch(about[0]):
        raise NotUnderstood(f"minor {minor} is not configured: the resource is down")
    match = _LINE.fullmatch(about[0])
    if match is None:
        raise NotUnderstood(f"the line of minor {minor} in /proc/drbd is not as it should be")
    role = word(Role, match["here"])
    return Observation(
        resource=resource,
        source=SOURCE,
        role=role,
        disks=(word(DiskState, match["disk"]),),
        peers=(_peer(match["link"], match["there"], match["peer"]),),
        suspended="" if match["flow"] == "r" else "not-told",
        problem="" if role is not Role.UNKNOWN else f"DRBD itself does not know the role of {resource}",
        minors=(minor,),
    )


def _peer(link: str, role: str, disk: str) -> PeerSeen:
    """8.x has one word for the link and for what goes over it: a word of syncing means that it is connected."""
    syncing = link if link in _SYNCING else ""
    connection = Connection.CONNECTED if syncing else _OLD_LINKS.get(link) or word(Connection, link)
    return PeerSeen("", word(Role, role), connection, (word(DiskState, disk),), syncing)

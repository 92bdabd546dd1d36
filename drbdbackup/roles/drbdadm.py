"""The role as `drbdadm role` reports it: the last resort, for a machine where neither drbdsetup nor /proc/drbd speaks.

It reads DRBD's configuration first, so a mistake there hides the role, and it says nothing of disks and links.
"""

from __future__ import annotations

from drbdbackup.errors import ToolError, ToolMissing
from drbdbackup.model.role import Connection, Observation, PeerSeen, Role
from drbdbackup.roles.words import NotUnderstood, quoted, unknown, word
from drbdbackup.tools import drbd

SOURCE = "drbdadm"


def parse(text: str, resource: str) -> Observation:
    """What `drbdadm role RESOURCE` printed: a line per volume (8.x: `here/peer`), or one word (9)."""
    try:
        return _observation(text, resource)
    except NotUnderstood as problem:
        hint = f"See `drbdadm role {resource}`; nothing is backed up while the role is not known."
        return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {problem}", hint)


def observe(resource: str, timeout: float) -> Observation:
    """Ask drbdadm, and say why if it has no answer."""
    try:
        answer = drbd.role(resource, timeout)
    except ToolMissing:
        if not drbd.is_loaded():
            return unknown(resource, SOURCE, *drbd.module_missing(resource))
        return unknown(resource, SOURCE, "neither drbdsetup nor drbdadm is installed", "Install drbd-utils.")
    except ToolError as error:
        return unknown(resource, SOURCE, error.message, error.hint or f"See `drbdadm role {resource}`.")
    if answer.exit != 0:
        why = drbd.why_not(resource, answer) if drbd.is_loaded() else drbd.module_missing(resource)
        return unknown(resource, SOURCE, *why)
    return parse(answer.text, resource)


def _observation(text: str, resource: str) -> Observation:
    lines = text.split("\n")
    if lines.pop() or not lines:
        raise NotUnderstood(f"drbdadm printed {quoted(text)}" if text else "drbdadm printed nothing")
    seen = {_line(line) for line in lines}
    if len({here for here, _ in seen}) != 1:
        raise NotUnderstood("its volumes have different roles")
    role = next(here for here, _ in seen)
    return Observation(
        resource=resource,
        source=SOURCE,
        role=role,
        # 8.x knows the role of a peer only while it is connected
        peers=tuple(
            PeerSeen("", peer, Connection.CONNECTED)
            for peer in sorted({peer for _, peer in seen}, key=lambda peer: peer.value)
            if peer is not Role.UNKNOWN
        ),
        problem="" if role is not Role.UNKNOWN else f"DRBD itself does not know the role of {resource}",
    )


def _line(line: str) -> tuple[Role, Role]:
    here, slash, there = line.partition("/")
    return word(Role, here), word(Role, there) if slash else Role.UNKNOWN

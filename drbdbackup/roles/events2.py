"""The role as `drbdsetup events2 --now` reports it: the kernel's own list, understood alike by the tools of 8.4 and 9.

The dump is believed only whole: it ends in `exists -`, no object comes twice, and every connection, device and peer
device belongs to what is listed. So a line that is lost or damaged is noticed instead of changing the answer. Kinds of
objects and fields that are not known are passed over: new versions add them.
"""

from __future__ import annotations

from drbdbackup.errors import ToolError, ToolMissing
from drbdbackup.model.role import Connection, DiskState, Observation, PeerSeen, Replication, Role
from drbdbackup.roles.words import NotUnderstood, number, quoted, shown, unknown, word
from drbdbackup.tools import drbd

SOURCE = "drbdsetup"
_KEYS = {
    "resource": ("name",),
    "connection": ("name", "peer-node-id"),
    "device": ("name", "volume"),
    "peer-device": ("name", "peer-node-id", "volume"),
}
_SUSPENSIONS = frozenset({"user", "no-data", "no-disk", "fencing", "quorum"})  # susp_str() of drbd-utils
_END = "exists -"

_Fields = dict[str, str]
_Objects = dict[str, dict[tuple[str, ...], _Fields]]


class NotListed(NotUnderstood):
    """The dump is whole and the resource is not in it: down, not configured, or the module is missing."""


def parse(text: str, resource: str) -> Observation:
    """What a `--now` dump says of `resource`; Role.UNKNOWN with a problem for whatever is not whole and understood."""
    try:
        return _observation(_objects(text), resource)
    except NotUnderstood as problem:
        return _unreadable(resource, problem)


def observe(resource: str, timeout: float) -> Observation | None:
    """Ask drbdsetup; None if it is not installed or too old to know events2 (8.3)."""
    try:
        answer = drbd.events2(timeout)
    except ToolMissing:
        return None
    except ToolError as error:
        return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {error.message}", error.hint or _HINT)
    if not drbd.knows_events2(answer):
        return None
    if answer.exit != 0:
        return unknown(resource, SOURCE, *drbd.why_not(resource, answer))
    try:
        return _observation(_objects(answer.text), resource)
    except NotListed as absence:
        return unknown(resource, SOURCE, *_why_absent(resource, absence, timeout))
    except NotUnderstood as problem:
        return _unreadable(resource, problem)


_HINT = "See `drbdsetup events2 --now`; nothing is backed up while the role is not known."


def _unreadable(resource: str, problem: NotUnderstood) -> Observation:
    return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {problem}", _HINT)


def _why_absent(resource: str, absence: NotListed, timeout: float) -> tuple[str, str]:
    """Problem and hint for a resource that the kernel does not have; drbdadm knows what is configured."""
    if not drbd.is_loaded():
        return drbd.module_missing(resource)
    try:
        answer = drbd.role(resource, timeout)
    except ToolError:
        return f"{resource} is down, or not configured: {absence}", f"Bring it up: `drbdadm up {resource}`."
    if answer.exit == 0:
        return f"drbdadm reports a role of {resource}, but {absence}", f"See `drbdadm status {resource}`."
    return drbd.why_not(resource, answer)


def _objects(text: str) -> _Objects:
    """All objects of a whole dump by kind and key; raises NotUnderstood."""
    *lines, last, nothing = text.split("\n") if text.endswith("\n") else ["", ""]
    if last != _END or nothing:
        raise NotUnderstood(f"the output of drbdsetup is cut short: it does not end in {_END!r}")
    if _END in lines:
        raise NotUnderstood(f"the output of drbdsetup is damaged: {_END!r} is in the midst of it")
    objects: _Objects = {kind: {} for kind in _KEYS}
    for line in lines:
        kind, fields = _fields(line)
        if kind not in _KEYS:
            continue
        key = tuple(_field(fields, name) for name in _KEYS[kind])
        if key in objects[kind]:
            raise NotUnderstood(f"{kind} {' '.join(map(quoted, key))} is listed twice")
        objects[kind][key] = fields
    _check_whole(objects)
    return objects


def _fields(line: str) -> tuple[str, _Fields]:
    """Kind and fields of `exists KIND name:value ...`."""
    first, *rest = line.split(" ")
    if first != "exists" or not rest or ":" in rest[0]:
        raise NotUnderstood(f"the line {quoted(line)} is not an object")
    fields: _Fields = {}
    for token in rest[1:]:
        name, colon, value = token.partition(":")
        if not (name and colon) or name in fields:
            raise NotUnderstood(f"{quoted(token)} in the line {quoted(line)} is not a field")
        fields[name] = value
    return rest[0], fields


def _field(fields: _Fields, name: str) -> str:
    try:
        return fields[name]
    except KeyError:
        raise NotUnderstood(f"an object has no {name}") from None


def _check_whole(objects: _Objects) -> None:
    """Every object belongs to one that is listed, and each connection has a peer device for each device."""
    for kind in ("connection", "device"):
        for key in objects[kind]:
            if key[:1] not in objects["resource"]:
                raise NotUnderstood(f"a {kind} of {quoted(key[0])} is listed, but not the resource")
    expected = {
        (name, peer, volume)
        for name, peer in objects["connection"]
        for other, volume in objects["device"]
        if name == other
    }
    for name, _, volume in expected ^ objects["peer-device"].keys():
        raise NotUnderstood(f"the peers of volume {quoted(volume)} of {quoted(name)} are not listed as they should be")


def _observation(objects: _Objects, resource: str) -> Observation:
    """Raises NotListed, or NotUnderstood for a word that is not known."""
    fields = objects["resource"].get((resource,))
    if fields is None:
        others = ", ".join(sorted(name for (name,) in objects["resource"]))
        raise NotListed(f"drbdsetup does not list it (it lists {others or 'nothing'})")
    devices = sorted((number(key[1]), own) for key, own in objects["device"].items() if key[0] == resource)
    if not devices:
        raise NotUnderstood("it has no volume")
    role = word(Role, _field(fields, "role"))
    return Observation(
        resource=resource,
        source=SOURCE,
        role=role,
        disks=tuple(word(DiskState, _field(own, "disk")) for _, own in devices),
        peers=tuple(
            _peer(objects, key, own) for key, own in sorted(objects["connection"].items()) if key[0] == resource
        ),
        suspended=_suspended(fields, [own for _, own in devices]),
        problem="" if role is not Role.UNKNOWN else f"DRBD itself does not know the role of {resource}",
        minors=tuple(number(_field(own, "minor")) for _, own in devices),
        volumes=tuple(volume for volume, _ in devices),
    )


def _peer(objects: _Objects, key: tuple[str, ...], fields: _Fields) -> PeerSeen:
    volumes = sorted(
        (number(volume), own) for (name, peer, volume), own in objects["peer-device"].items() if (name, peer) == key
    )
    flows = [word(Replication, _field(own, "replication")) for _, own in volumes]
    busy = [flow.value for flow in flows if flow not in {Replication.OFF, Replication.ESTABLISHED}]
    return PeerSeen(
        shown(fields.get("conn-name", "")),
        word(Role, _field(fields, "role")),
        word(Connection, _field(fields, "connection")),
        disks=tuple(word(DiskState, _field(own, "peer-disk")) for _, own in volumes),
        syncing=busy[0] if busy else "",
        is_client=bool(volumes) and all(_yes(own.get("peer-client", "no")) for _, own in volumes),
    )


def _suspended(fields: _Fields, devices: list[_Fields]) -> str:
    """Why no I/O can be done, in DRBD's words; a volume without quorum and forced failures answer with errors."""
    value = _field(fields, "suspended")
    reasons = [] if value == "no" else value.split(",")
    if unheard := set(reasons) - _SUSPENSIONS:
        raise NotUnderstood(f"{quoted(min(unheard))} is no reason for suspended I/O that is known here")
    if any(not _yes(own.get("quorum", "yes")) for own in devices) and "quorum" not in reasons:
        reasons.append("quorum")
    if _yes(fields.get("force-io-failures", "no")):
        reasons.append("force-io-failures")
    return ",".join(reasons)


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise NotUnderstood(f"{quoted(text)} is neither yes nor no")
    return text == "yes"

"""May this node back up this resource, now? Evidence to a verdict, pure; and, at the edge, the gathering of evidence.

Every observation counts and can only object: one more can turn `proceed` into something else, never `refuse` into
`proceed`. What is not known is refused: if a node skipped in doubt, both might, and nobody would notice.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from drbdbackup import roles, verbose
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import RoleError, RoleUnreadable
from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Connection, Decision, DiskState, Observation, PeerSeen, Role, Verdict
from drbdbackup.tools import drbd, mounts

_SUSPENDED = {
    "user": "by an administrator",
    "no-data": "no UpToDate data can be reached",
    "no-disk": "no UpToDate data can be reached",
    "fencing": "the peer is being fenced",
    "quorum": "quorum is lost",
    "force-io-failures": "I/O failures are forced",
    "not-told": "/proc/drbd does not say why",
}

_NAMED = 3  # mounts in the volume: a container has hundreds


class Evidence(Struct, frozen=True):
    """All that a verdict is made of: what the role sources said, the mount table, and the resource's device.

    `device_names` are the paths that mean the configured device, `device_number` is its "major:minor", or "".
    """

    observations: tuple[Observation, ...]
    mounts: tuple[Mount, ...]
    device_names: tuple[str, ...] = ()
    device_number: str = ""


class _Objection(NamedTuple):
    because: str
    hint: str


class _Case(Struct, frozen=True):
    """One question to the gate; `seen` is sorted, so that the order of the evidence changes nothing."""

    resource: ResourceConfig
    node: str
    nodes: tuple[str, ...]
    evidence: Evidence
    seen: tuple[Observation, ...]

    @property
    def rivals(self) -> tuple[str, ...]:
        """The connected peers that are Primary as well, by node name where it is known."""
        return tuple(sorted({
            self.called(peer)
            for observation in self.seen
            for peer in observation.peers
            if peer.role is Role.PRIMARY and peer.connection is Connection.CONNECTED
        }))

    @property
    def minor(self) -> int | None:
        """The DRBD minor of the configured device; None if it is not DRBD's own (a logical volume on top of it)."""
        return drbd.minor(self.evidence.device_names, self.evidence.device_number)

    def called(self, peer: PeerSeen) -> str:
        """The peer as `nodes` has it, where that is known. DRBD 8.x has no names: of two nodes it is the other."""
        others = [other for other in self.nodes if other != self.node]
        if peer.name in {"", "peer"} and len(others) == 1:
            return others[0]
        short = peer.name.partition(".")[0]
        return short if peer.name not in others and short in others else peer.name


def judge(resource: ResourceConfig, node: str, nodes: tuple[str, ...], evidence: Evidence) -> Verdict:
    """The verdict table of the design, with its reasons. The order of the observations counts for nothing."""
    case = _Case(resource, node, nodes, evidence, tuple(sorted(evidence.observations, key=repr)))
    if doubts := list(_doubts(case)):
        return _verdict(case, Decision.REFUSE, Role.UNKNOWN, [doubt.because for doubt in doubts], doubts[0].hint)
    role = case.seen[0].role
    because = [f"{resource.name} is {role.value} here"]
    if role is Role.SECONDARY:
        return _verdict(case, Decision.STAND_DOWN, role, [*because, *_peer_notes(case)])
    if first := _goes_first(case):
        because += [f"it is Primary on {_listed(case.rivals)} too", f"{first} comes first in nodes and backs it up"]
        return _verdict(case, Decision.STAND_DOWN, role, because)
    if objections := [*_rival_objections(case), *_data_objections(case), *_mount_objections(case)]:
        because += [objection.because for objection in objections]
        return _verdict(case, Decision.REFUSE, role, because, objections[0].hint)
    return _verdict(case, Decision.PROCEED, role, [*because, *_notes(case)])


def ask(config: Config, resource: ResourceConfig) -> Verdict:
    """The verdict on this node, now."""
    verdict = judge(resource, config.node, config.nodes, gather(config, resource))
    verbose.tell(f"{resource.name}: {verdict.decision.value}: {'; '.join(verdict.because)}")
    return verdict


def require(config: Config, resource: ResourceConfig, refused: str, hint: str) -> Verdict:
    """The verdict, if this node may proceed. Raises what `refusal` makes of any other."""
    verdict = ask(config, resource)
    if verdict.decision is not Decision.PROCEED:
        raise refusal(verdict, refused, hint)
    return verdict


def refusal(verdict: Verdict, refused: str, hint: str = "") -> RoleError:
    """The error for a verdict that forbids something: `refused` says what, `hint` helps where the verdict has none.

    An unreadable role has a class of its own.
    """
    kind = RoleUnreadable if verdict.role is Role.UNKNOWN else RoleError
    return kind(f"{refused}: {'; '.join(verdict.because)}", verdict.hint or hint)


def gather(config: Config, resource: ResourceConfig) -> Evidence:
    """Read the roles, then the mount table. Looks at neither the source nor a share, so it cannot hang on one."""
    observations = roles.observe(config.role, resource)
    table = mounts.table()
    return Evidence(observations, table, *_device(resource, table))


def given_up(node: str, nodes: tuple[str, ...], evidence: Evidence) -> tuple[str, ...]:
    """The peers that DRBD does not even try to reach any more, as after a split brain, or on an admin's order."""
    seen = [peer for one in evidence.observations for peer in one.peers]
    others = [other for other in nodes if other != node]
    gone = [peer.name for peer in seen if peer.connection is Connection.STANDALONE]
    known = [name if name not in ("", "peer") else others[0] if len(others) == 1 else "a peer" for name in gone]
    return tuple(dict.fromkeys(known))


def _device(resource: ResourceConfig, table: tuple[Mount, ...]) -> tuple[tuple[str, ...], str]:
    """Names and number of the configured device; the mount may show one more name (/dev/mapper/..., by-res/...)."""
    if not resource.device:
        return (), ""
    real = os.path.realpath(resource.device)
    names = {resource.device, real}
    there = mounts.mounted_at(table, resource.source)
    if there and there.source.startswith("/dev/") and os.path.realpath(there.source) == real:
        names.add(there.source)
    try:
        node = os.stat(real)
    except OSError:
        return tuple(sorted(names)), ""
    number = f"{os.major(node.st_rdev)}:{os.minor(node.st_rdev)}" if stat.S_ISBLK(node.st_mode) else ""
    return tuple(sorted(names)), number


def _doubts(case: _Case) -> Iterator[_Objection]:
    """Why the role is not known: nobody was asked, somebody could not tell, or two disagree."""
    name = case.resource.name
    if not case.seen:
        yield _Objection(f"nothing was asked for the role of {name}", "Set `source` in [role].")
    for seen in case.seen:
        if seen.resource != name:
            problem = f"{seen.source} reported {seen.resource} instead of {name}"
            yield _Objection(problem, "This is a mistake in drbdbackup: please report it.")
        elif seen.role is Role.UNKNOWN:
            problem = seen.problem or f"{seen.source} does not know the role of {name}"
            yield _Objection(problem, seen.hint or f"See `drbdadm status {name}`.")
    if len({seen.role for seen in case.seen}) > 1:
        answers = ", ".join(f"{seen.source} says {seen.role.value}" for seen in case.seen)
        yield _Objection(f"the sources disagree: {answers}", "If a failover is under way, the next run asks again.")


def _goes_first(case: _Case) -> str:
    """The other Primary that makes the backup; "" if this node is to go on (and may still be refused)."""
    primaries = {case.node, *case.rivals}
    if case.resource.dual_primary != "first-node" or not primaries <= set(case.nodes):
        return ""
    first = min(primaries, key=case.nodes.index)
    return "" if first == case.node else first


def _rival_objections(case: _Case) -> Iterator[_Objection]:
    """Another node is Primary too, and nobody said which of the two makes the backup."""
    rivals, name = case.rivals, case.resource.name
    if rivals and case.resource.dual_primary != "first-node":
        hint = f'If that is meant to be, set dual_primary = "first-node" in [resource.{name}].'
        yield _Objection(f"it is Primary on {_listed(rivals)} too", hint)
    elif rivals and not {case.node, *rivals} <= set(case.nodes):
        hint = f"The names in nodes ({', '.join(case.nodes)}) must be those of DRBD's configuration."
        yield _Objection(f"it is Primary on {_listed(rivals)} too, and it is unknown which of them comes first", hint)


def _data_objections(case: _Case) -> Iterator[_Objection]:
    """I/O is suspended, the device is another resource's, or there is nothing to read from."""
    name, device = case.resource.name, case.resource.device
    minor = case.minor
    for seen in case.seen:
        if seen.suspended:
            why = ", ".join(_SUSPENDED.get(word, word) for word in seen.suspended.split(","))
            hint = f"A read would hang or fail. See `drbdadm status {name}`, and `drbdadm resume-io` if a user did it."
            yield _Objection(f"I/O on {name} is suspended: {why}", hint)
        if minor is not None and seen.minors and minor not in seen.minors:
            problem = f"{device} does not belong to {name}: DRBD says minor {', '.join(map(str, seen.minors))}"
            yield _Objection(problem, f"Put the device of {name} into [resource.{name}].")
            continue
        for volume in _volumes(seen, minor):
            if not _readable(seen, volume):
                disk = seen.disks[volume].value
                hint = f"See `drbdadm status {name}`: attach the disk, or connect a good peer."
                yield _Objection(f"no good data can be read: {disk} here, and no UpToDate peer is connected", hint)


def _volumes(seen: Observation, minor: int | None) -> Sequence[int]:
    """The volume that the device is; all of them where that is not known (LVM on top of DRBD, 8.3)."""
    return range(len(seen.disks)) if minor is None or minor not in seen.minors else [seen.minors.index(minor)]


def _readable(seen: Observation, volume: int) -> bool:
    return seen.disks[volume] is DiskState.UP_TO_DATE or any(
        peer.connection is Connection.CONNECTED and peer.disks[volume:volume + 1] == (DiskState.UP_TO_DATE,)
        for peer in seen.peers
    )


def _mount_objections(case: _Case) -> Iterator[_Objection]:
    """Nothing, or something else than the device, is mounted at the source: what lies there then is not the volume."""
    name, device, source = case.resource.name, case.resource.device, case.resource.source
    there = mounts.mounted_at(case.evidence.mounts, source)
    if not device and any(seen.source in roles.DRBD_SOURCES for seen in case.seen):
        yield _Objection(f"no device of {name} is configured", f"Set it in [resource.{name}].")
    if there is None and (device or case.resource.require_mount):
        hint = f"Mount it, or let the cluster do so: `mount {device or 'DEVICE'} {source}`. The next run looks again."
        elsewhere = [seen.point for seen in case.evidence.mounts if device and _is_device(seen, case.evidence)]
        if elsewhere:
            set_it = f'set source = "{elsewhere[0]}" in [resource.{name}]'
            hint = f"{device} is mounted at {elsewhere[0]}. If {source} is a symlink to that: {set_it}."
        yield _Objection(f"nothing is mounted at {source}", hint)
    elif there is not None and device and not _is_device(there, case.evidence):
        hint = f"Unmount it and mount {device} there, or put [resource.{name}] right."
        what = there.source if there.may_show_device() else f"{there.fstype}, which calls itself {there.source},"
        yield _Objection(f"{what} is mounted at {source}, not {device}", hint)


def _is_device(there: Mount, evidence: Evidence) -> bool:
    """By number; where that is anonymous (major 0: btrfs) or the device's is not known, by the source field."""
    if there.device.startswith("0:") or not evidence.device_number:
        return there.may_show_device() and there.source in evidence.device_names
    return there.device == evidence.device_number


def _notes(case: _Case) -> Iterator[str]:
    """What a Primary that goes on should say about itself."""
    yield _mounted(case)
    yield from _mounted_below(case)
    if case.rivals:
        yield f"it is Primary on {_listed(case.rivals)} too, and {case.node} comes first in nodes"
    for seen in case.seen:
        if not seen.disks:
            yield f"the role comes from {seen.source}, which does not report disks and connections"
        for volume in _volumes(seen, case.minor):
            if (disk := seen.disks[volume]) is not DiskState.UP_TO_DATE:
                yield f"the disk here is {disk.value}: the data comes from a connected peer"
        if seen.disks and all(peer.is_client for peer in seen.peers):
            yield "DRBD knows of no peer that has a disk, so the backup is the only second copy"
    yield from _peer_notes(case)


def _mounted(case: _Case) -> str:
    device, source = case.resource.device, case.resource.source
    if device:
        return f"{device} is mounted at {source}"
    if there := mounts.mounted_at(case.evidence.mounts, source):
        return f"{there.source} is mounted at {source}, and no device is configured that it could be compared with"
    return f"{source} is a plain folder"


def _mounted_below(case: _Case) -> Iterator[str]:
    """A run keeps to one file system. Who has mounted a disk in the volume may believe that it is backed up, too."""
    points = list(dict.fromkeys(mount.point for mount in mounts.below(case.evidence.mounts, case.resource.source)))
    if points:
        more = f" and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
        yield f"what is mounted in it is not backed up: {', '.join(points[:_NAMED])}{more}"


def _peer_notes(case: _Case) -> Iterator[str]:
    for seen in case.seen:
        for peer in seen.peers:
            yield from _peer_note(peer, f"the peer {case.called(peer)}".rstrip(), seen.role)


def _peer_note(peer: PeerSeen, who: str, role: Role) -> Iterator[str]:
    needed = ", so the backup is the only second copy" if role is Role.PRIMARY else ""
    if peer.connection is not Connection.CONNECTED:
        yield f"{who} is not connected ({peer.connection.value}){needed}"
        return
    if peer.role is Role.PRIMARY and role is Role.SECONDARY:
        yield f"{who} is Primary"
    if peer.syncing:
        yield f"replication with {who} is not steady ({peer.syncing})"
    elif not peer.is_client and (bad := [disk.value for disk in peer.disks if disk is not DiskState.UP_TO_DATE]):
        yield f"{who} has no good copy ({', '.join(bad)}){needed}"


def _left_out(case: _Case) -> tuple[str, ...]:
    """Volumes of the resource beside the one that is configured: only that one is ever backed up."""
    ignored, found = case.resource.ignore_volumes, dict[str, None]()
    for seen in case.seen:
        if case.minor in seen.minors:
            for volume, minor in zip(seen.volumes, seen.minors, strict=False):
                if minor != case.minor and volume not in ignored:
                    found[f"volume {volume} (/dev/drbd{minor}) of {case.resource.name} is not backed up"] = None
    return tuple(found)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(name or "a peer" for name in names)


def _verdict(case: _Case, decision: Decision, role: Role, because: Sequence[str], hint: str = "") -> Verdict:
    """The verdict with each reason once, and what `status` prints of disks and peers."""
    disks = next((seen.disks for seen in case.seen if seen.disks), ())
    peers = next((seen.peers for seen in case.seen if seen.peers), ())
    left_out = _left_out(case)
    return Verdict(
        decision=decision,
        because=tuple(dict.fromkeys((*because, *left_out))),
        role=role,
        disk=",".join(disk.value for disk in disks),
        peer_role=",".join(peer.role.value for peer in peers),
        hint=hint,
        left_out=left_out,
    )

"""The generation of a resource's data, as `drbdsetup get-gi` reports it; what it means is in `drbdbackup.lineage`.

8.4 asks by minor, 9 by resource, peer and volume. It is never a reason not to back up: what is not known is None.
"""

from __future__ import annotations

import os

from msgspec import Struct

from drbdbackup.config.values import ResourceConfig
from drbdbackup.errors import ToolError
from drbdbackup.model.generation import Generation, parse
from drbdbackup.tools import drbd


class DrbdVolume(Struct, frozen=True):
    """What DRBD calls the volume: its number, its minor, and the node ids of its peers."""

    number: str
    minor: str
    peers: tuple[str, ...]


def observe(resource: ResourceConfig, timeout: float) -> Generation | None:
    """Ask the kernel; None if it does not say (no disk attached, tools of 8.3, DRBD is not there)."""
    try:
        listed = drbd.events2(timeout)
        volume = volume_of(listed.text, resource.name, _minor(resource.device)) if listed.exit == 0 else None
        if volume is None:
            return None
        answer = drbd.get_gi((volume.minor,), timeout)
        if answer.exit == 0 and (found := parse(answer.text)):
            return found
        answers = [drbd.get_gi((resource.name, peer, volume.number), timeout) for peer in volume.peers]
    except ToolError:
        return None
    return parse("\n".join(one.text for one in answers)) if all(one.exit == 0 for one in answers) else None


def volume_of(events: str, resource: str, minor: int | None) -> DrbdVolume | None:
    """The volume with this minor in an `events2 --now` dump; the only one where the minor is not known."""
    devices: dict[str, str] = {}
    peers: list[tuple[str, str]] = []
    for line in events.splitlines():
        _, _, rest = line.partition("exists ")
        kind, _, pairs = rest.partition(" ")
        fields = dict(pair.partition(":")[::2] for pair in pairs.split(" "))
        if fields.get("name") != resource:
            continue
        if kind == "device":
            devices[fields.get("volume", "")] = fields.get("minor", "")
        elif kind == "peer-device":
            peers.append((fields.get("volume", ""), fields.get("peer-node-id", "")))
    found = [(number, own) for number, own in devices.items() if minor is None or own == str(minor)]
    if len(found) != 1 or not found[0][1].isdecimal():
        return None
    number, own = found[0]
    others = sorted(peer for volume, peer in peers if volume == number and peer.isdecimal())
    return DrbdVolume(number, own, tuple(others))


def _minor(device: str) -> int | None:
    return drbd.minor((device, os.path.realpath(device))) if device else None

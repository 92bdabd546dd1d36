"""A first configuration from what was seen of a node, each part with its reason. Pure: `commands/setup/init` looks.

It never guesses where a guess could do harm: a disk without a file system, a second share, the files of a database are
named and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from drbdbackup.config.kinds import quoted, under
from drbdbackup.tools import lsblk
from drbdbackup.tools.drbd_config import ConfiguredVolume, DrbdResource
from drbdbackup.tools.lsblk import BlockDevice

SHARES = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs")
_DISKS = ("ext4", "xfs", "btrfs", "ext3", "ext2")
_SAYING_BACKUP = ("backup", "sav", "nas", "sicher", "dump", "archiv")
_KEY = "/root/.ssh/drbdbackup"
_MOUNTPOINTS = ("/saving", "/mnt/backup-disk")


class SeenVolume(Struct, frozen=True):
    """Where a volume of DRBD's is mounted, or would be: `known_by` says from what; `point` is "" if nothing says it."""

    resource: str
    volume: ConfiguredVolume
    point: str
    known_by: str


class SeenDatabase(Struct, frozen=True):
    """A database server whose folder leads to a place on a volume; `kind` is "mariadb" or "postgresql"."""

    kind: str
    folder: str
    place: str


class SeenNode(Struct, frozen=True, kw_only=True):
    """What was seen. `shares` are mounted, as (point, source); `devices` all block devices; `fstab` the devices there.

    `services` are those that haresources starts; `managers` the cluster managers that are installed. `nas` and `disk`
    are what the admin named.
    """

    node: str
    resources: tuple[DrbdResource, ...]
    volumes: tuple[SeenVolume, ...]
    shares: tuple[tuple[str, str], ...] = ()
    devices: tuple[BlockDevice, ...] = ()
    fstab: tuple[str, ...] = ()
    databases: tuple[SeenDatabase, ...] = ()
    services: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()
    nas: str = ""
    disk: str = ""
    folders: tuple[str, ...] = ()  # that are there, of those where a disk could be mounted


class Reason(Struct, frozen=True):
    """Why a part is as it is, or is missing."""

    about: str
    because: str


class Proposal(Struct, frozen=True):
    """The text of a configuration, and the reasons."""

    toml: str
    reasons: tuple[Reason, ...]


def proposed(facts: SeenNode) -> Proposal:
    """What the file should say. It may lack what must be there: whoever writes it has it checked first."""
    reasons = list[Reason]()
    nodes = tuple(dict.fromkeys(_short(host.name) for one in facts.resources for host in one.hosts)) or (facts.node,)
    reasons.append(Reason("nodes", "the hosts of DRBD's configuration"))
    lines = [
        "# drbdbackup, the same file for each node. `drbdbackup init` made it, `drbdbackup config validate` checks it.",
        "", f"nodes = {_list(nodes)}", 'schedule = "30 4 * * *"', "",
    ]  # fmt: skip
    for table in (_resources(facts, reasons), _share(facts, reasons), _disk(facts, reasons), _peers(facts, reasons)):
        lines += table
    lines += ["[retention]", "daily = 14", "weekly = 8", "monthly = 12", "minimum = 3"]
    if facts.managers:
        reasons.append(Reason("agent", f"{', '.join(facts.managers)} is here: `drbdbackup install --agent`"))
    return Proposal("\n".join(lines) + "\n", tuple(reasons))


def _resources(facts: SeenNode, reasons: list[Reason]) -> Iterator[str]:
    met: dict[str, SeenVolume] = {}
    for seen in facts.volumes:
        at = under("resource", seen.resource)
        if not seen.point:
            reasons.append(Reason(at, f"{seen.volume.device} is mounted nowhere, and nothing says where it would be"))
        elif seen.resource in met:
            because = f"{seen.volume.device} is a second volume, and is not backed up: see ignore_volumes"
            reasons.append(Reason(at, because))
        else:
            met[seen.resource] = seen
            reasons.append(Reason(at, f"{seen.volume.device} belongs to {seen.point}: {seen.known_by}"))
            yield from _resource(facts, seen, reasons)


def _resource(facts: SeenNode, seen: SeenVolume, reasons: list[Reason]) -> Iterator[str]:
    at = under("resource", seen.resource)
    yield from (f"[{at}]", f"device = {quoted(seen.volume.device)}", f"source = {quoted(seen.point)}")
    others = [
        one.volume.number for one in facts.volumes if one.resource == seen.resource and one.volume != seen.volume
    ]  # fmt: skip
    if others:
        yield f"# ignore_volumes = {others}   # once you have decided that they need no backup"
    if facts.services:
        reasons.append(Reason(f"{at}.services", "haresources starts them; a restore in place stops them meanwhile"))
        yield f"services = {_list(facts.services)}"
    below = next((one for one in facts.devices if one.path == seen.volume.disk), None)
    if below is not None and below.type == "lvm":
        reasons.append(Reason(f"{at}.snapshot", f"{below.path} is a logical volume: copies of one point in time"))
        yield '# snapshot = "lvm"   # if its volume group has room: copies of one point in time'
    on_it = [one for one in facts.databases if _within(one.place, seen.point)]
    for one in on_it:
        inside = one.place.removeprefix(seen.point).strip("/")
        if one.kind == "mariadb":
            because = f"{one.folder} leads there; a dump is consistent, its own files are not while it runs"
            reasons.append(Reason(f"{at}.database.{one.kind}", because))
            yield f"# exclude = [{quoted(f'/{inside}/')}]   # its own files, once you trust the dump"
        else:
            because = f"{one.folder} leads there, and only MariaDB and MySQL are dumped: write a hook (pg_dumpall)"
            reasons.append(Reason(f"{at}.hook", because))
    yield ""
    if any(one.kind == "mariadb" for one in on_it):
        yield from (f"[{at}.database.mariadb]", 'kind = "mariadb"', "")


def _share(facts: SeenNode, reasons: list[Reason]) -> Iterator[str]:
    inside = [one.point for one in facts.volumes if one.point]
    found = [one for one in facts.shares if not any(_within(one[0], point) for point in inside)]
    found.sort(key=lambda one: not any(word in one[0].lower() for word in _SAYING_BACKUP))
    if facts.nas:
        found = [(facts.nas, next((source for point, source in found if point == facts.nas), "as you said")), *found]
    if not found:
        reasons.append(Reason("target.nas", "no share is mounted here: mount one (by /etc/fstab), or add it later"))
        return
    point, source = found[0]
    reasons.append(Reason("target.nas", f"{source} is mounted at {point}" if source != "as you said" else source))
    for other, its in found[1:]:
        if other != point:
            reasons.append(Reason("target.nas", f"{its} is mounted at {other}, too: --nas {other} would take that"))
    yield from ("[target.nas]", 'kind = "nas"', f"path = {quoted(point)}", "")


def _disk(facts: SeenNode, reasons: list[Reason]) -> Iterator[str]:
    below = {volume.disk for one in facts.resources for host in one.hosts for volume in host.volumes}
    drbds = {volume.device for one in facts.resources for host in one.hosts for volume in host.volumes}
    spare = [
        one for one in lsblk.unused(facts.devices) if one.type not in ("loop", "rom")
        and not {one.path, f"UUID={one.uuid}"} & {*below, *drbds, *facts.fstab}
        and one.fstype not in ("drbd", "swap", "LVM2_member")
    ]  # fmt: skip
    fit = sorted((one for one in spare if one.fstype in _DISKS), key=lambda one: -one.size)
    chosen = facts.disk or (fit[0].path if fit else "")
    for one in spare:
        if one.path == chosen:
            continue
        if one.fstype in _DISKS:
            message = f"{one.path} ({one.fstype}) is spare, too: --disk {one.path} would take that"
        elif not one.fstype and one.size >= 1 << 30:
            message = f"{one.path} holds no file system; if it is to hold copies: mkfs.ext4 {one.path}, then init again"
        else:
            continue
        reasons.append(Reason("target.disk", message))
    if not chosen:
        reasons.append(Reason("target.disk", "no spare disk with a file system is here"))
        return
    kind = next((one.fstype for one in spare if one.path == chosen), "")
    because = "as you said" if facts.disk else f"{chosen} ({kind}) is mounted nowhere and nothing uses it"
    reasons.append(Reason("target.disk", f"{because}; it must have this name on each node"))
    point = next((one for one in _MOUNTPOINTS if one in facts.folders), _MOUNTPOINTS[-1])
    yield from ("[target.disk]", 'kind = "disk"', f"device = {quoted(chosen)}", f"mountpoint = {quoted(point)}", "")


def _peers(facts: SeenNode, reasons: list[Reason]) -> Iterator[str]:
    addresses = {_short(host.name): host.address for one in facts.resources for host in one.hosts if host.address}
    for node, address in addresses.items():
        reasons.append(Reason(under("peer", node), f"DRBD goes to {address}; `drbdbackup peer add` makes the key"))
        yield from (f"[{under('peer', node)}]", f"ssh = {quoted(f'root@{address}')}")
        yield from (f"options = {_list(('-i', _KEY))}", "")


def _list(words: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"


def _short(host: str) -> str:
    return host.partition(".")[0]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")

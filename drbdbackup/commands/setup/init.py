"""`init`: looks at this node, proposes a configuration with its reasons, and writes it where there is none.

It looks at tables of the kernel and at files of the system's own disk, never at the volume or a share: both may hang.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec import Struct

from drbdbackup import documentation, durable, shipped
from drbdbackup.config.load import DEFAULT_FILE, VARIABLE, checked
from drbdbackup.config.merge import merged
from drbdbackup.config.values import Config
from drbdbackup.doctor import heartbeat
from drbdbackup.doctor.volume import FSTAB, FstabLine, parse_fstab
from drbdbackup.errors import ConfigError, Failure, ToolError, UsageError
from drbdbackup.model.mount import Mount
from drbdbackup.pair.digests import HARESOURCES, leads_into
from drbdbackup.proposal import SHARES, Proposal, SeenDatabase, SeenNode, SeenVolume, proposed
from drbdbackup.tools import drbd, drbd_config, lsblk, mounts
from drbdbackup.tools.drbd_config import ConfiguredVolume, DrbdResource
from drbdbackup.tools.text_file import read

_TIMEOUT = 10.0
_DATABASES = (("mariadb", "/var/lib/mysql"), ("postgresql", "/var/lib/postgresql"))
_FOLDERS = ("/saving",)


class NamedByAdmin(Struct, frozen=True):
    """What the admin names instead of having it found: the mount point of the volume, a share's folder, a device."""

    source: str = ""
    nas: str = ""
    disk: str = ""


class Initialized(Struct, frozen=True):
    """A configuration that is right, where it belongs, and the reasons for it."""

    file: str
    config: Config
    proposal: Proposal


def propose(file: str | None, named: NamedByAdmin) -> Initialized:
    """Look, and propose what fits. Nothing is written.

    Raises Failure where a configuration is there already, and UsageError where a part that must be there was not found.
    """
    path = os.path.abspath(file or os.environ.get(VARIABLE) or DEFAULT_FILE)
    if os.path.lexists(path):
        raise Failure(f"{path} already exists", "It is never overwritten. `drbdbackup doctor` checks what it says.")
    proposal = proposed(_facts(named))
    return Initialized(path, _checked(path, proposal), proposal)


def write(one: Initialized) -> None:
    """Put the file there, for its owner only. Raises Failure if one has come meanwhile, or none can be written."""
    folder = os.path.dirname(one.file)
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        durable.write(one.file, one.proposal.toml.encode(), may_replace=False)
    except OSError as error:
        message = f"{one.file} cannot be written: {error.strerror}"
        raise Failure(message, f"{folder} must be a folder that root can write, with room left.") from None
    with open(one.file, encoding="utf-8") as written:
        if written.read() != one.proposal.toml:
            raise Failure(f"somebody else has written {one.file} meanwhile", "It was left as it is.")


def _checked(path: str, proposal: Proposal) -> Config:
    import tomllib

    try:
        return checked(path, merged([(path, tomllib.loads(proposal.toml))]))
    except ConfigError as error:
        reasons = "\n".join(f"{one.about}: {one.because}" for one in proposal.reasons)
        page = documentation.page("docs/config.md")
        hint = (
            f"Name them with --source, --nas or --disk, or write the file yourself ({page}). What was seen:\n{reasons}"
        )
        missing = error.message.replace(f"{path}: ", "")
        raise UsageError(f"not everything that is needed was found:\n{missing}", hint) from None


def _facts(named: NamedByAdmin) -> SeenNode:
    resources = _resources()
    table = mounts.table()
    host = os.uname().nodename
    volumes = tuple(_volumes(resources, host, table, named.source))
    groups = heartbeat.gather(host, ()).groups
    return SeenNode(
        node=host.partition(".")[0],
        resources=resources,
        volumes=volumes,
        shares=tuple(dict.fromkeys((one.point, one.source) for one in table if _is_share(one))),
        devices=_devices(),
        fstab=tuple(line.spec for line in _fstab()),
        databases=tuple(_databases([one.point for one in volumes if one.point])),
        services=heartbeat.services(groups),
        managers=shipped.managers(),
        nas=named.nas,
        disk=named.disk,
        folders=tuple(folder for folder in _FOLDERS if os.path.isdir(folder)),
    )


def _is_share(one: Mount) -> bool:
    """Whether it is a share that root has mounted. FUSE lets any user mount, under any name, and adds these options."""
    may_be_users = one.fstype.startswith("fuse.") and {"nosuid", "nodev"} <= set(one.options)
    return one.fstype in SHARES and not (may_be_users and one.point not in {line.point for line in _fstab()})


def _resources() -> tuple[DrbdResource, ...]:
    """Those of DRBD's configuration. Raises ToolMissing where DRBD is not installed."""
    answer = drbd.dump(_TIMEOUT)
    found = drbd_config.parse(answer.text)
    if not found:
        stderr = answer.err.decode("utf-8", "replace").strip()
        page = documentation.page("docs/config.md")
        hint = f"See `drbdadm dump`. For another cluster write the configuration yourself ({page}, role.command)."
        raise Failure(f"drbdadm knows no resource{f': {stderr}' if stderr else ''}", hint)
    return found


def _volumes(
    resources: tuple[DrbdResource, ...], host: str, table: tuple[Mount, ...], source: str
) -> Iterator[SeenVolume]:
    for resource in resources:
        mine = next((one for one in resource.hosts if one.name in (host, host.partition(".")[0])), None)
        for volume in mine.volumes if mine else ():
            point, known_by = _point(volume, table)
            if source and volume is next(iter(mine.volumes if mine else ())):
                point, known_by = source, "as you said"
            yield SeenVolume(resource.name, volume, point, known_by)


def _point(volume: ConfiguredVolume, table: tuple[Mount, ...]) -> tuple[str, str]:
    """Where it is mounted; else where the cluster or fstab says that it is."""
    minor = drbd.minor([volume.device])
    number = f"{drbd.MAJOR}:{minor}"
    known = (one for one in table if one.may_show_device())
    here = next((one.point for one in known if one.source == volume.device or one.device == number), "")
    if here:
        return here, "it is mounted there"
    file = read(HARESOURCES)
    for group in heartbeat.parse_haresources(file.text) if file else ():
        for word in group.resources:
            fields = word.split("::")
            if fields[:2] == ["Filesystem", volume.device] and len(fields) > 2:
                return fields[2], f"{HARESOURCES} says so"
    entry = next((line.point for line in _fstab() if line.spec == volume.device), "")
    return (entry, f"{FSTAB} says so") if entry else ("", "")


def _fstab() -> tuple[FstabLine, ...]:
    file = read(FSTAB)
    return parse_fstab(file.text) if file else ()


def _devices() -> tuple[lsblk.BlockDevice, ...]:
    try:
        return tuple(lsblk.block_devices())
    except ToolError:
        return ()  # then no disk is proposed, and the reason says that none was found


def _databases(points: list[str]) -> Iterator[SeenDatabase]:
    """Those whose folder is a link into a volume; the link is read and not followed."""
    for kind, folder in _DATABASES:
        try:
            link = os.readlink(folder)
        except OSError:
            continue
        if any(leads_into(os.path.dirname(folder), link, point) for point in points):
            yield SeenDatabase(kind, folder, os.path.normpath(os.path.join(os.path.dirname(folder), link)))

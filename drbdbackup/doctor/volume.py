"""The place of the volume: who may write there, and that nothing mounts it, or the disk below it, at boot.

The cluster mounts it, and it alone: a mount at boot takes the volume on the wrong node, or writes below DRBD.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.tools.text_file import TextFile, read

FSTAB = "/etc/fstab"
_ESCAPED = re.compile(r"\\([0-7]{3})")
_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel", "ID": "id"}


class FstabLine(Struct, frozen=True):
    """A line of fstab; `device` is the real device of its spec, as far as that is known."""

    spec: str
    point: str
    options: tuple[str, ...]
    device: str = ""

    @property
    def is_for_boot(self) -> bool:
        """Whether something mounts it by itself: at boot, or when somebody looks there."""
        return "noauto" not in self.options or "x-systemd.automount" in self.options


class VolumeFacts(Struct, frozen=True, kw_only=True):
    """`mode` is that of the folder at `source` as one sees it now, None if it cannot be seen (`problem` says why).

    `devices` are all names of the volume's device and of the disks below it; `entries` are those of fstab.
    """

    resource: str
    source: str
    mode: int | None
    problem: str
    devices: frozenset[str]
    fstab_problem: str
    entries: tuple[FstabLine, ...]


def parse_fstab(text: str) -> tuple[FstabLine, ...]:
    """Its entries (fstab(5)); a line that is none is passed over, as mount(8) does."""
    fields = [line.split() for line in text.split("\n") if not line.lstrip().startswith("#")]
    return tuple(
        FstabLine(
            _plain(line[0]), os.path.normpath(_plain(line[1])), tuple(line[3].split(",")) if len(line) > 3 else ()
        )
        for line in fields if len(line) > 1
    )


def _plain(field: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), field)


def look(source: str) -> int:
    """The mode of the folder. It may hang where I/O is suspended: for a probe."""
    return os.stat(source).st_mode


def gather(resource: str, source: str, seen: int | str, devices: Iterable[str]) -> VolumeFacts:
    """`seen` is what `look` found, or why it found nothing; `devices` are the names that the configurations use."""
    file = read(FSTAB) or TextFile()
    entries = tuple(replace(entry, device=_device(entry.spec)) for entry in parse_fstab(file.text))
    names = frozenset(name for device in devices for name in (device, os.path.realpath(device)))
    mode, problem = (seen, "") if isinstance(seen, int) else (None, seen)
    return VolumeFacts(
        resource=resource, source=source, mode=mode, problem=problem, devices=names, fstab_problem=file.problem,
        entries=entries,
    )


def _device(spec: str) -> str:
    """The device that a spec means, as far as /dev says; what is no device stays as it is."""
    tag, equals, value = spec.partition("=")
    if equals and tag in _TAGS:
        spec = os.path.join("/dev/disk/by-" + _TAGS[tag], value.strip('"'))
    return os.path.realpath(spec) if spec.startswith("/dev/") else spec


def judge(facts: VolumeFacts) -> list[Finding]:
    """The folder, and fstab."""
    return [_folder(facts), _fstab(facts)]


def _folder(facts: VolumeFacts) -> Finding:
    check, source = Check("mount point", facts.resource), facts.source
    if facts.mode is None:
        remedy = "Make the folder on every node. If it is there and does not answer: `drbdadm status`, dmesg."
        return check.fail(facts.problem, remedy)
    if not stat.S_ISDIR(facts.mode):
        return check.fail(f"{source} is not a folder", f"Make it one: mkdir {source}")
    if facts.mode & stat.S_IWOTH:
        because = f"everybody may write to {source} (mode {stat.S_IMODE(facts.mode):04o})"
        return check.fail(because, f"chmod o-w {source}")
    return check.ok(f"{source}, mode {stat.S_IMODE(facts.mode):04o}")


def _fstab(facts: VolumeFacts) -> Finding:
    check = Check("fstab", facts.resource)
    if facts.fstab_problem:
        return check.warn(f"{FSTAB}: {facts.fstab_problem}", "Run it as root.")
    wrong = [entry for entry in facts.entries if entry.is_for_boot and _is_ours(entry, facts)]
    if wrong:
        names = " and ".join(f"{entry.spec} at {entry.point}" for entry in wrong)
        return check.fail(f"it mounts {names} by itself", f"Add `noauto` there in {FSTAB}: the cluster mounts it.")
    return check.ok("nothing of it is mounted at boot")


def _is_ours(entry: FstabLine, facts: VolumeFacts) -> bool:
    return entry.point == facts.source or not facts.devices.isdisjoint((entry.spec, entry.device))

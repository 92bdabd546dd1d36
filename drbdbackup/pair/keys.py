"""Every key of `pair.toml`, what it may be, and which ones must be there. This table is the whole format.

The values go into nine kinds of file (DRBD's, Heartbeat's, Corosync's, crm's, fstab, hosts, TOML, cron, shell), each
with its own quoting and its own comments: so only letters are let in that mean nothing in any of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from drbdbackup.config.kinds import NAME, Named, Table, Value, one_of

FILESYSTEMS = ("ext4", "ext3", "xfs", "btrfs")


class _Hidden(Value, frozen=True):
    """A value that no message shows."""

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The parsed value at the dotted key `at`."""
        value = self.parse(raw)
        if value is None:
            mistakes.append(f"{at}: must be {self.allowed}")
        return value


def _matching(allowed: str, pattern: str) -> Value:
    whole = re.compile(rf"(?:{pattern})\Z", re.ASCII)
    return Value(allowed, lambda raw: raw if isinstance(raw, str) and whole.match(raw) else None)


def _each(one: Value) -> Value:
    def parse(raw: Any) -> tuple[Any, ...] | None:
        read = tuple(map(one.parse, raw)) if isinstance(raw, list) else (None,)
        return None if None in read else read

    return Value(f"a list, each of {one.allowed}", parse)


def _ipv4(kind: Callable[[str], Any]) -> Callable[[Any], Any]:
    def parse(raw: Any) -> Any:
        try:
            return kind(raw) if isinstance(raw, str) else None
        except ValueError:
            return None

    return parse


def _whole(least: int, most: int) -> Value:
    fits = range(least, most + 1)
    return Value(
        f"a whole number from {least} to {most}",
        lambda raw: raw if isinstance(raw, int) and not isinstance(raw, bool) and raw in fits else None,
    )


def _plain_path(raw: Any) -> str | None:
    """Absolute, below the root, without `.`, `..` and empty parts; as it is written everywhere."""
    if not isinstance(raw, str) or not re.fullmatch(r"(?:/[A-Za-z0-9_@+.-]+)+", raw, re.ASCII):
        return None
    return raw if raw == os.path.normpath(raw) else None


HOST = _matching(
    "what `uname -n` prints there: small letters, digits and '-', a letter first", r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
ADDRESS = Value('an IPv4 address, like "133.10.10.5"', _ipv4(IPv4Address))
NETWORK = Value('an IPv4 network without host bits, like "133.10.10.0/24"', _ipv4(IPv4Network))
INTERFACE = _matching('the name of an interface, like "eth0"', r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
PLACE = Value("an absolute path of letters, digits and . _ - + @, without \"..\" and not \"/\"", _plain_path)
DEVICE = Value(
    'a device, like "/dev/sdb1"',
    lambda raw: raw if _plain_path(raw) and raw.startswith("/dev/") and not re.match(r"/dev/drbd", raw) else None,
)
DRBD_DEVICE = _matching('one of DRBD\'s devices, like "/dev/drbd0"', r"/dev/drbd(?:0|[1-9][0-9]{0,4})")
SOURCE = _matching(
    'like "133.10.10.20:/export/backup", or "//nas/backup" for another type, without blanks',
    r"(?:[A-Za-z0-9.-]+:|\[[0-9A-Fa-f:]+\]:|//[A-Za-z0-9.-]+)(?:/[A-Za-z0-9_@+.-]+)*/?",
)
WORD = _matching("letters, digits and . _ -, a letter first", r"[A-Za-z][A-Za-z0-9._-]*")
UNIT = _matching("the name of a unit, letters, digits and . _ - @", r"[A-Za-z0-9][A-Za-z0-9._@-]*")
OPTIONS = _matching("options as in fstab, with commas and without blanks", r"[A-Za-z0-9][A-Za-z0-9,=:._/@+-]*")
RATE = _matching('a number with K, M or G, like "40M"', r"[1-9][0-9]{0,5}[KMG]")
_SECRET = _matching("16 to 64 letters, digits and . _ - + = / @ %", r"[A-Za-z0-9._+=/@%-]{16,64}")
SECRET = _Hidden(_SECRET.allowed, _SECRET.parse)
SCHEDULE = _matching(
    'five fields as in a crontab, the minute a plain number, like "30 4 * * *"',
    r"(?:[0-9]|[1-5][0-9]) [0-9*/,-]+ [0-9*/,-]+ [0-9A-Za-z*/,-]+ [0-9A-Za-z*/,-]+",
)
SECONDS = _whole(1, 3600)
PORT = _whole(1, 65535)
DRBD_PORT = _whole(1024, 65535)  # ssh and others of the system listen below

NODE = Table({"public": ADDRESS, "private": ADDRESS, "disk": DEVICE}, required=("public", "private"))
PUBLIC = Table({"interface": INTERFACE, "network": NETWORK, "virtual_ip": ADDRESS},
               required=("interface", "network", "virtual_ip"))  # fmt: skip
PRIVATE = Table({"interface": INTERFACE, "network": NETWORK, "port": DRBD_PORT}, required=("interface", "network"))
VOLUME = Table({
    "resource": NAME,
    "device": DRBD_DEVICE,
    "disk": DEVICE,
    "mount_point": PLACE,
    "filesystem": one_of(*FILESYSTEMS),
    "rate": RATE,
}, required=("disk",))
HEARTBEAT = Table({
    "keepalive": SECONDS, "warntime": SECONDS, "deadtime": SECONDS, "initdead": SECONDS, "port": PORT,
})  # fmt: skip
PACEMAKER = Table({"token": SECONDS, "port": _whole(1, 65534)})  # it takes the next one, too
SERVICE = Table({"folders": _each(PLACE), "init": WORD, "units": _each(UNIT)})
BACKUP = Table({
    "schedule": SCHEDULE,
    "nas": Table({"source": SOURCE, "path": PLACE, "type": WORD, "options": OPTIONS}, required=("source",)),
    "disk": Table({"device": DEVICE, "mountpoint": PLACE}, required=("device",)),
})

FILE = Table({
    "secret": SECRET,
    "node": Named(NODE, "[node.www4]", least=2),
    "public": PUBLIC,
    "private": PRIVATE,
    "volume": VOLUME,
    "heartbeat": HEARTBEAT,
    "pacemaker": PACEMAKER,
    "service": Named(SERVICE, "[service.apache]"),
    "backup": BACKUP,
}, required=("node", "public", "private", "volume", "backup"))

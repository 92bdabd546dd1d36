"""A pair to the files of its nodes, as text. Pure but for reading the templates, which lie beside this module.

Both nodes get the same files, to the byte: what differs between them they know by their name, and what cannot differ
need not be compared.
"""

from __future__ import annotations

import hmac
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from drbdbackup.config.kinds import quoted
from drbdbackup.pair.rules import AGENTS
from drbdbackup.pair.services import place
from drbdbackup.pair.values import Pair

AUTHKEYS = "etc/ha.d/authkeys"
_SECRET, _PLAIN, _PROGRAM = 0o600, 0o644, 0o755

# Where each template goes on a node, and who may read it. `{resource}` is the name of the resource.
_FILES = (
    ("etc/drbd.d/{resource}.res", "raid.res", _SECRET),
    ("etc/ha.d/ha.cf", "ha.cf", _PLAIN),
    ("etc/ha.d/haresources", "haresources", _PLAIN),
    (AUTHKEYS, "authkeys", _SECRET),
    ("etc/hosts.pair", "hosts", _PLAIN),
    ("etc/fstab.pair", "fstab", _PLAIN),
    ("etc/drbdbackup/config.toml", "config.toml", _PLAIN),
    ("etc/drbdbackup/pair.toml", "pair.toml", _PLAIN),
    ("etc/drbdbackup/not-at-boot", "not-at-boot", _PLAIN),
    ("usr/local/sbin/pair-prepare", "pair-prepare", _PROGRAM),
    ("usr/local/sbin/pair-move-services", "pair-move-services", _PROGRAM),
    ("usr/local/sbin/pair-link-services", "pair-link-services", _PROGRAM),
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One file of a node: its path below the node's root, its mode and what is in it."""

    path: str
    mode: int
    text: str


def render(pair: Pair, secret: str) -> tuple[Rendered, ...]:
    """Every file, the same for each node."""
    environment = _environment()
    known = _known(pair, secret)
    files = [
        Rendered(path.format(resource=pair.volume.resource), mode, environment.get_template(name).render(known))
        for path, name, mode in _FILES
    ]
    agent = Rendered("etc/ha.d/resource.d/drbdbackup", _PROGRAM, _shared("resource-agent"))
    return (*files, agent, Rendered("etc/cron.d/drbdbackup", _PLAIN, cron(pair.schedule)))


def cron(schedule: str) -> str:
    """The file for cron with this schedule in it; its look for what was missed keeps out of that minute."""
    minute, _, rest = schedule.partition(" ")
    looks = ",".join(str((int(minute) + 7) % 15 + quarter) for quarter in (0, 15, 30, 45))
    text = _shared("cron.d")
    text = re.sub(r"^[0-9]\S* .* (?=root drbdbackup run$)", f"{minute} {rest} ", text, count=1, flags=re.MULTILINE)
    return re.sub(r"^[0-9]\S*(?= .* root drbdbackup run --if-due$)", looks, text, count=1, flags=re.MULTILINE)


def _shared(name: str) -> str:
    return resources.files("drbdbackup").joinpath("share", name).read_text(encoding="utf-8")


def _known(pair: Pair, secret: str) -> dict[str, Any]:
    """What the templates speak of."""
    mount_points = [pair.volume.mount_point]
    mount_points += [pair.nas.path] if pair.nas else []
    mount_points += [pair.disk.mountpoint] if pair.disk else []
    devices = [pair.volume.device, *dict.fromkeys(node.disk for node in pair.nodes)]
    return {
        "pair": pair, "secret": secret, "drbd_secret": _drbd_secret(secret), "mount_points": mount_points,
        "inits": [service.init for service in pair.services if service.init],
        "agents": list(AGENTS),
        "units": list(dict.fromkeys(unit for service in pair.services for unit in service.units)),
        "moved": [
            {"folder": folder, "place": place(folder)} for service in pair.services for folder in service.folders
        ],
        "not_in_fstab": [*devices, *([pair.disk.device] if pair.disk else []), *mount_points],
    }  # fmt: skip


def _drbd_secret(secret: str) -> str:
    """DRBD's own, made from the pair's: whoever reads one of the two files does not know the other. DRBD takes 64."""
    return hmac.new(secret.encode(), b"DRBD", "sha256").hexdigest()[:40]


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only a rendering pays for it

    environment = Environment(
        loader=PackageLoader("drbdbackup.pair"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 nothing here is HTML
    )  # fmt: skip
    environment.filters.update(sh=shlex.quote, toml=quoted)
    return environment

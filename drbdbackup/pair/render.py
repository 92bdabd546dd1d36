"""A pair to the files of its nodes, as text. Pure but for reading the templates, which lie beside this module.

Both nodes get the same files, to the byte: what differs between them they know by their name, and what cannot differ
need not be compared.
"""

from __future__ import annotations

import hmac
import shlex
from functools import cache
from typing import Any

from msgspec import Struct

from drbdbackup import shipped
from drbdbackup.config.kinds import quoted
from drbdbackup.pair.rules import AGENTS
from drbdbackup.pair.services import place_on_volume
from drbdbackup.pair.values import Pair

AUTHKEYS, KEPT = "etc/ha.d/authkeys", "etc/drbdbackup/pair.secret"
_SECRET, _PLAIN, _PROGRAM = 0o600, 0o644, 0o755


class _Template(Struct, frozen=True):
    """Where a template goes on a node, and with which mode. `{resource}` in `path` is the name of the resource."""

    path: str
    name: str
    mode: int


_FILES = (
    _Template("etc/drbd.d/{resource}.res", "raid.res", _SECRET),
    _Template("etc/hosts.pair", "hosts", _PLAIN),
    _Template("etc/fstab.pair", "fstab", _PLAIN),
    _Template("etc/drbdbackup/config.toml", "config.toml", _PLAIN),
    _Template("etc/drbdbackup/pair.toml", "pair.toml", _PLAIN),
    _Template("etc/drbdbackup/not-at-boot", "not-at-boot", _PLAIN),
    _Template("usr/local/sbin/pair-prepare", "pair-prepare", _PROGRAM),
    _Template("usr/local/sbin/pair-move-services", "pair-move-services", _PROGRAM),
    _Template("usr/local/sbin/pair-link-services", "pair-link-services", _PROGRAM),
)
_HEARTBEAT = (
    _Template("etc/ha.d/ha.cf", "ha.cf", _PLAIN),
    _Template("etc/ha.d/haresources", "haresources", _PLAIN),
    _Template(AUTHKEYS, "authkeys", _SECRET),
)
_PACEMAKER = (
    _Template("etc/corosync/corosync.conf", "corosync.conf", _SECRET),
    _Template(KEPT, "pair.secret", _SECRET),
    _Template("etc/drbdbackup/pair.crm", "pair.crm", _PLAIN),
)


class Rendered(Struct, frozen=True):
    """One file of a node: its path below the node's root, its mode and what is in it."""

    path: str
    mode: int
    text: str


def render(pair: Pair, secret: str) -> tuple[Rendered, ...]:
    """Every file, the same for each node."""
    environment = _environment()
    known = _known(pair, secret)
    files = []
    for one in (*_FILES, *(_PACEMAKER if pair.pacemaker else _HEARTBEAT)):
        text = environment.get_template(one.name).render(known)
        files.append(Rendered(one.path.format(resource=pair.volume.resource), one.mode, text))
    folder = "usr/lib/ocf/resource.d/drbdbackup" if pair.pacemaker else "etc/ha.d/resource.d"
    agent = Rendered(f"{folder}/drbdbackup", _PROGRAM, shipped.text("resource-agent"))
    return (*files, agent, Rendered("etc/cron.d/drbdbackup", _PLAIN, shipped.cron(pair.schedule)))


def _known(pair: Pair, secret: str) -> dict[str, Any]:
    """What the templates speak of."""
    mount_points = [pair.volume.mount_point]
    mount_points += [pair.nas.path] if pair.nas else []
    mount_points += [pair.disk.mountpoint] if pair.disk else []
    devices = [pair.volume.device, *dict.fromkeys(node.disk for node in pair.nodes)]
    return {
        "pair": pair, "secret": secret, "drbd_secret": _derived(secret, b"DRBD")[:40],
        "corosync_key": _derived(secret, b"Corosync", 4), "mount_points": mount_points,
        "manager": "Pacemaker" if pair.pacemaker else "Heartbeat",
        "inits": [service.init for service in pair.services if service.init],
        "scripts": [] if pair.pacemaker else [*AGENTS, *(one.init for one in pair.services if one.init)],
        "started": _started(pair),
        "units": list(dict.fromkeys(unit for service in pair.services for unit in service.units)),
        "moved": [
            {"folder": folder, "place": place_on_volume(folder)}
            for service in pair.services for folder in service.folders
        ],
        "not_in_fstab": [*devices, *([pair.disk.device] if pair.disk else []), *mount_points],
    }  # fmt: skip


def _started(pair: Pair) -> list[dict[str, str]]:
    """The services as Pacemaker starts them: by their unit, or by their start script where they have none."""
    agents = [
        (one.name, [f"systemd:{unit}" for unit in one.units] or [f"lsb:{one.init}"])
        for one in pair.services if one.init
    ]  # fmt: skip
    return [
        {"name": name if len(several) == 1 else f"{name}_{number}", "agent": agent}
        for name, several in agents for number, agent in enumerate(several, 1)
    ]  # fmt: skip


def _derived(secret: str, use: bytes, times: int = 1) -> str:
    """One of its own for each use, 64 hex digits a time: whoever reads one of the files does not know the others.

    DRBD takes at most 64 characters (drbd.conf(5)), Corosync at least 128 (corosync.conf(5)).
    """
    uses = (use if number == 0 else b"%s %d" % (use, number) for number in range(times))
    return "".join(hmac.new(secret.encode(), one, "sha256").hexdigest() for one in uses)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only a rendering pays for it

    environment = Environment(
        loader=PackageLoader("drbdbackup.pair"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 nothing here is HTML
    )  # fmt: skip
    environment.filters.update(sh=shlex.quote, toml=quoted)
    return environment

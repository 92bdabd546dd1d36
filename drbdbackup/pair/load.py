"""From `pair.toml` to a checked `Pair`, or one ConfigError that lists every mistake found.

It reads that one file and writes none. A pair with one mistake is never built.
"""

from __future__ import annotations

import os
from typing import Any

from drbdbackup import documentation
from drbdbackup.config.load import parsed
from drbdbackup.errors import ConfigError
from drbdbackup.pair.keys import FILE
from drbdbackup.pair.rules import RULES
from drbdbackup.pair.services import service
from drbdbackup.pair.values import Disk, Heartbeat, Nas, Node, Pacemaker, Pair, PairVolume, Private, Public

_EXPLAINED = (
    f"{documentation.page('docs/pair.md')} explains what each key means, and so does the file that "
    "`drbdbackup pair init` writes."
)
_START = "`drbdbackup pair init` writes one to begin with, and explains it."


def load(file: str) -> Pair:
    """Read `file`. Raises ConfigError with a line for each mistake: file, line or key, value, what is allowed."""
    path = os.path.abspath(file)
    mistakes: list[str] = []
    raw = parsed(path, _START, _EXPLAINED)
    tables = FILE.read("", raw, mistakes)
    if not mistakes:
        pair = _built(path, tables)
        mistakes = [*(mistake for rule in RULES for mistake in rule(pair)), *_two_managers(tables), *_open_secret(pair)]
    if mistakes:
        raise ConfigError("\n".join(f"{path}: {mistake}" for mistake in mistakes), _EXPLAINED)
    return pair


def _two_managers(tables: dict[str, Any]) -> list[str]:
    """Both would want the pair."""
    both = "heartbeat" in tables and "pacemaker" in tables
    return ["pacemaker: not together with [heartbeat]: only one of them may move the services"] if both else []


def _open_secret(pair: Pair) -> list[str]:
    """A secret that everybody can read is none."""
    if pair.secret and os.stat(pair.file).st_mode & 0o077:
        return [f"secret: others than its owner can read this file: chmod 600 {pair.file}"]
    return []


def _built(path: str, tables: dict[str, Any]) -> Pair:
    """The values, not yet checked against each other."""
    volume = PairVolume(**tables["volume"])
    backup = tables["backup"]
    return Pair(
        file=path,
        nodes=tuple(Node(name, **{"disk": volume.disk, **keys}) for name, keys in tables["node"].items()),
        public=Public(**tables["public"]),
        private=Private(**tables["private"]),
        volume=volume,
        services=tuple(service(name, keys) for name, keys in tables.get("service", {}).items()),
        heartbeat=Heartbeat(**tables.get("heartbeat", {})),
        pacemaker=Pacemaker(**tables["pacemaker"]) if "pacemaker" in tables else None,
        nas=Nas(**backup["nas"]) if "nas" in backup else None,
        disk=Disk(**backup["disk"]) if "disk" in backup else None,
        **{key: backup[key] for key in ("schedule",) if key in backup},
        **{key: tables[key] for key in ("secret",) if key in tables},
    )

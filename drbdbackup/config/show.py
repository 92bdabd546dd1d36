"""The effective configuration as a document and as a file that `load` reads back to the same values.

Secrets are not shown: of a URL in [notify] only its scheme is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drbdbackup.config import keys
from drbdbackup.config.kinds import Value, quoted, under
from drbdbackup.config.values import Config, DatabaseConfig

_BELOW = ("hook", "database", "service")


def as_document(config: Config) -> dict[str, Any]:
    """The tables and keys of the file with every default filled in; limits in seconds."""
    role = keys.ROLE.table(config.role.source).keys
    targets = {
        target.name: _picked(target, keys.TARGET.table(target.kind).keys)
        | {"retention": _picked(target.retention, keys.RETENTION.keys)} | _below("hook", target.hooks, keys.HOOK.keys)
        for target in config.targets
    }
    return {
        **_picked(config, ("node", "nodes", "schedule", "state_dir")),
        "role": _picked(config.role, role),
        "resource": {
            one.name: _picked(one, keys.RESOURCE.keys) | _below("hook", one.hooks, keys.HOOK.keys)
            | _below("service", one.service, keys.SERVICE.keys) | _databases(one.databases)
            for one in config.resources
        },
        "target": targets,
        "peer": {peer.node: _picked(peer, keys.PEER.keys) for peer in config.peers},
        "retention": _picked(config.retention, keys.RETENTION.keys),
        "limits": _picked(config.limits, keys.LIMITS.keys),
        "verify": _picked(config.verify, keys.VERIFY.keys),
        "drill": _picked(config.drill, keys.DRILL.keys),
        "check": _picked(config.check, keys.CHECK.keys),
        "metrics": _picked(config.metrics, keys.METRICS.keys),
        "report": _picked(config.report, keys.REPORT.keys),
        "notify": _masked(_picked(config.notify, keys.NOTIFY.keys)),
    }


def as_toml(config: Config) -> str:
    """The same as TOML."""
    return "\n".join(_lines("", as_document(config))).strip() + "\n"


def _below(name: str, tables: Iterable[Any], known: Iterable[str]) -> dict[str, Any]:
    """The tables of this name, if there are any, each without the programs that it does not have."""
    found = {
        one.name: {key: value for key, value in _picked(one, known).items() if value != []} for one in tables
    }  # fmt: skip
    return {name: found} if found else {}


def _databases(databases: Iterable[DatabaseConfig]) -> dict[str, Any]:
    tables = {one.name: _picked(one, keys.DATABASE.table(one.kind).keys) for one in databases}
    return {"database": tables} if tables else {}


def _picked(value: object, names: Iterable[str]) -> dict[str, Any]:
    """The named fields, without paths that were left out; tables below are shown by themselves."""
    found = {name: getattr(value, name) for name in names if name not in _BELOW}
    return {name: list(field) if isinstance(field, tuple) else field for name, field in found.items() if field != ""}


def without_secrets(url: str) -> str:
    """Of a URL only what it is for: each part of it may be a password or a token."""
    return f"{url.partition('://')[0]}://***"


def _masked(table: dict[str, Any]) -> dict[str, Any]:
    """The table with its secret values masked."""
    secret = {key for key, kind in keys.NOTIFY.keys.items() if isinstance(kind, Value) and kind.secret}
    return {
        key: value if key not in secret else [*map(without_secrets, value)] if isinstance(value, list)
        else without_secrets(value)
        for key, value in table.items()
    }  # fmt: skip


def _lines(at: str, table: dict[str, Any]) -> Iterable[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if at and plain:
        yield f"\n[{at}]"
    yield from (f"{key} = {_toml(value)}" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(under(at, key), value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)

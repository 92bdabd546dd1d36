"""From the file to a checked `Config`, or one ConfigError that lists every mistake found.

`latest` must be instant: this imports the standard library only, and as little of it as can be. What needs a
library to be checked (the schedule's meaning) is left to `config validate`.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import asdict
from typing import Any

from drbdbackup.config.keys import FILE
from drbdbackup.config.rules import RULES
from drbdbackup.config.values import (
    Config,
    DatabaseConfig,
    DrillConfig,
    HookConfig,
    Limits,
    PeerConfig,
    ResourceConfig,
    Retention,
    RoleConfig,
    ServiceConfig,
    TargetConfig,
    VerifyConfig,
)
from drbdbackup.errors import ConfigError

DEFAULT_FILE = "/etc/drbdbackup/config.toml"
VARIABLE = "DRBDBACKUP_CONFIG"

_EXPLAINED = "docs/config.md explains every key; `drbdbackup config validate` checks the file again."
_START = (
    f"Name another with --config or {VARIABLE}, or write one; this is enough to begin with:\n"
    'nodes = ["www4", "www5"]\n'
    "[resource.raid]\n"
    'device = "/dev/drbd0"\n'
    'source = "/srv/raid"\n'
    "[target.nas]\n"
    'kind = "nas"\n'
    'path = "/backup"'
)


def load(file: str | None = None) -> Config:
    """Read `file`, else what DRBDBACKUP_CONFIG names, else /etc/drbdbackup/config.toml.

    Raises ConfigError with a line for each mistake: file, line or dotted key, value, what is allowed.
    """
    path = os.path.abspath(file or os.environ.get(VARIABLE) or DEFAULT_FILE)
    mistakes: list[str] = []
    tables = FILE.read("", parsed(path, _START, _EXPLAINED), mistakes)
    if not mistakes:
        config = _built(path, tables)
        mistakes = [mistake for rule in RULES for mistake in rule(config)]
    if mistakes:
        raise ConfigError("\n".join(f"{path}: {mistake}" for mistake in mistakes), _EXPLAINED)
    return _without_itself(config)


def parsed(path: str, start: str, explained: str) -> dict[str, Any]:
    """The tables of a TOML file that only root can write. `start` is the hint where it is missing, `explained` where it
    is no TOML. Raises ConfigError.
    """
    try:
        with open(path, "rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", start) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: not UTF-8", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", explained) from None


def _check_owner(path: str, status: os.stat_result) -> None:
    """The file names commands that root runs: whoever can write it is root. Raises ConfigError, only for root."""
    if os.geteuid() != 0:
        return
    if status.st_uid not in (0, _caller()):
        raise ConfigError(f"{path}: belongs to user {status.st_uid}, who is not root", f"chown root {path}")
    if status.st_mode & 0o022:
        raise ConfigError(f"{path}: others than its owner can write it", f"chmod go-w {path}")


def _caller() -> int:
    """Who called sudo, if anybody did."""
    told = os.environ.get("SUDO_UID", "")
    return int(told) if told.isascii() and told.isdigit() else 0


def _built(path: str, tables: dict[str, Any]) -> Config:
    """The values, not yet checked against each other."""
    retention = Retention(**tables.get("retention", {}))
    plain = {key: tables[key] for key in ("schedule", "state_dir") if key in tables}
    return Config(
        file=path,
        node=tables.get("node") or os.uname().nodename.split(".")[0],
        nodes=tables["nodes"],
        resources=tuple(_resource(name, keys) for name, keys in tables["resource"].items()),
        targets=tuple(_target(name, keys, retention) for name, keys in tables["target"].items()),
        role=RoleConfig(**tables.get("role", {})),
        peers=tuple(PeerConfig(node, **keys) for node, keys in tables.get("peer", {}).items()),
        retention=retention,
        limits=Limits(**tables.get("limits", {})),
        verify=VerifyConfig(**tables.get("verify", {})),
        drill=DrillConfig(**tables.get("drill", {})),
        **plain,
    )


def _resource(name: str, keys: dict[str, Any]) -> ResourceConfig:
    databases = tuple(DatabaseConfig(named, **table) for named, table in keys.get("database", {}).items())
    service = tuple(ServiceConfig(one, **told) for one, told in keys.get("service", {}).items())
    below = {"hooks": _hooks(keys), "databases": databases, "service": service}
    return ResourceConfig(name, **{**_plain(keys), **below})


def _target(name: str, keys: dict[str, Any], common: Retention) -> TargetConfig:
    """A target, with the keys of its own retention over the common ones."""
    retention = Retention(**{**asdict(common), **keys.get("retention", {})})
    return TargetConfig(name, **{**_plain(keys), "retention": retention, "hooks": _hooks(keys)})


def _hooks(keys: dict[str, Any]) -> tuple[HookConfig, ...]:
    """In the order of the file, which is that in which they run."""
    return tuple(HookConfig(name, **hook) for name, hook in keys.get("hook", {}).items())


def _plain(keys: dict[str, Any]) -> dict[str, Any]:
    """Without the tables below it."""
    return {key: value for key, value in keys.items() if key not in ("hook", "database")}


def _without_itself(config: Config) -> Config:
    """The same file may serve all nodes: a node's own entry among the peers is for the others."""
    from dataclasses import replace

    return replace(config, peers=tuple(peer for peer in config.peers if peer.node != config.node))

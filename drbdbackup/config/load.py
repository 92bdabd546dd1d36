"""From the file to a checked `Config`, or one ConfigError that lists every mistake found.

`latest` must be instant: this imports the standard library only, and as little of it as can be. What needs a
library to be checked (the schedule's meaning) is left to `config validate`.
"""

from __future__ import annotations

import os
import stat
import tomllib
from contextlib import suppress
from typing import Any

from msgspec.structs import asdict

from drbdbackup import documentation
from drbdbackup.config.keys import FILE
from drbdbackup.config.merge import MergedFiles, merged
from drbdbackup.config.open_to_others import open_to_others
from drbdbackup.config.rules import RULES
from drbdbackup.config.values import (
    CheckConfig,
    Config,
    DatabaseConfig,
    DrillConfig,
    HookConfig,
    Limits,
    MetricsConfig,
    NotifyConfig,
    PeerConfig,
    ReportConfig,
    ResourceConfig,
    Retention,
    RoleConfig,
    ServiceConfig,
    TargetConfig,
    VerifyConfig,
)
from drbdbackup.errors import ConfigError, ConfigUnreadable, ConfigUnsafe

DEFAULT_FILE = "/etc/drbdbackup/config.toml"
VARIABLE = "DRBDBACKUP_CONFIG"
_AS_ROOT = "Only root may read it: run drbdbackup as root, or with sudo."
FOLDER = "conf.d"  # beside the file

_PAGE = documentation.page("docs/config.md")
_EXPLAINED = f"{_PAGE} explains every key; `drbdbackup config validate` checks the file again."
_FURTHER = f"Every {FOLDER}/*.toml is read: put it right, or give it a name with another end."
_START = (
    f"`drbdbackup init` proposes one for this node. Or name another with --config or {VARIABLE}, or write one; this is "
    "enough to begin with:\n"
    'nodes = ["www4", "www5"]\n'
    "[resource.raid]\n"
    'device = "/dev/drbd0"\n'
    'source = "/srv/raid"\n'
    "[target.nas]\n"
    'kind = "nas"\n'
    'path = "/backup"'
)


def load(file: str | None = None) -> Config:
    """Read `file`, else what DRBDBACKUP_CONFIG names, else /etc/drbdbackup/config.toml; and conf.d/*.toml beside it.

    Raises ConfigError with a line for each mistake: file, line or dotted key, value, what is allowed.
    """
    path = os.path.abspath(file or os.environ.get(VARIABLE) or DEFAULT_FILE)
    files = merged([(path, parsed(path, _START, _EXPLAINED)), *((one, _parsed_further(one)) for one in further(path))])
    if files.mistakes:
        raise ConfigError("\n".join(files.mistakes), _EXPLAINED)
    return checked(path, files)


def checked(path: str, files: MergedFiles) -> Config:
    """The values of tables that were read. Raises ConfigError as `load` does."""
    mistakes: list[str] = []
    tables = FILE.read("", files.tables, mistakes)
    if not mistakes:
        config = _built(path, tables)
        mistakes = [mistake for rule in RULES for mistake in rule(config)]
    if mistakes:
        lines = (f"{files.origin(mistake, path)}: {mistake}" for mistake in mistakes)
        raise ConfigError("\n".join(lines), _EXPLAINED)
    _check_state(config.state_dir)
    return _without_itself(config)


def further(path: str) -> tuple[str, ...]:
    """The files that are read after this one: conf.d/*.toml beside it, by their names; none that begins with a dot.

    Raises ConfigUnreadable.
    """
    folder = os.path.join(os.path.dirname(path), FOLDER)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()
    except OSError as error:
        hint = _AS_ROOT if _is_for_root(error) else "It must be a folder that root can read."
        raise ConfigUnreadable(f"{folder}: {error.strerror}", hint) from None
    return tuple(os.path.join(folder, one) for one in names if one.endswith(".toml") and not one.startswith("."))


def _parsed_further(path: str) -> dict[str, Any]:
    """The tables of a file of conf.d. A pipe there would hold up every command. Raises ConfigError."""
    with suppress(OSError):  # who opens it says what is wrong
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigUnreadable(f"{path}: is not a file", _FURTHER)
    return parsed(path, _FURTHER, _EXPLAINED)


def parsed(path: str, start: str, explained: str) -> dict[str, Any]:
    """The tables of a TOML file that only root can write. `start` is the hint where it is missing, `explained` where it
    is no TOML. Raises ConfigError.
    """
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            _check_way(path)  # somebody else's FIFO would be waited for
        with open(path, "rb") as file:
            _check_kind(path, status := os.fstat(file.fileno()))
            _check_owner(path, status)
            _check_way(path)
            return tomllib.loads(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigUnreadable(f"{path}: {error.strerror}", _AS_ROOT if _is_for_root(error) else start) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: not UTF-8", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", explained) from None


def _is_for_root(error: OSError) -> bool:
    """Whether it is only the caller who may not read it."""
    return isinstance(error, PermissionError) and os.geteuid() != 0


def _check_kind(path: str, status: os.stat_result) -> None:
    """A device is not a configuration, and its mode is not to be changed. Raises ConfigUnreadable."""
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise ConfigUnreadable(f"{path}: is a device, not a file", "Name a file with --config or DRBDBACKUP_CONFIG.")


def _check_owner(path: str, status: os.stat_result) -> None:
    """The file names commands that root runs: whoever can write it is root. Raises ConfigError, only for root.

    Who called sudo is not: perhaps one command is all that he may have run, `drbdbackup check` for instance.
    """
    if os.geteuid() != 0:
        return
    if status.st_uid != 0:
        raise ConfigUnsafe(f"{path}: belongs to user {status.st_uid}, who is not root", f"chown root {path}")
    if status.st_mode & 0o022:
        raise ConfigUnsafe(f"{path}: others than its owner can write it", f"chmod go-w {path}")


def _check_way(path: str) -> None:
    """So is whoever can put another file in its place: by a folder above it, or a symlink to it."""
    if os.geteuid() != 0:
        return
    for one in open_to_others(path):
        if not one.is_groups:
            raise ConfigUnsafe(f"{path}: {one.why}", one.hint)


def _check_state(folder: str) -> None:
    """What lies there is believed, keys as well: whoever could write there may have made it. Raises ConfigUnsafe."""
    if os.geteuid() != 0:
        return
    while not os.path.lexists(folder) and folder != "/":
        folder = os.path.dirname(folder)
    try:
        found = [one for one in open_to_others(folder) if not one.is_groups or f" {folder}" in one.why]
    except OSError:
        return  # whoever opens it says so
    if found:
        hint = f"{found[0].hint}; but first check what is in it, or move it away: drbdbackup trusts those files."
        raise ConfigUnsafe(f"state_dir {folder}: {found[0].why}", hint)


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
        check=CheckConfig(**tables.get("check", {})),
        metrics=MetricsConfig(**tables.get("metrics", {})),
        report=ReportConfig(**tables.get("report", {})),
        notify=NotifyConfig(**tables.get("notify", {})),
        **plain,
    )


def _resource(name: str, keys: dict[str, Any]) -> ResourceConfig:
    databases = tuple(DatabaseConfig(named, **table) for named, table in keys.get("database", {}).items())
    service = tuple(ServiceConfig(one, **values) for one, values in keys.get("service", {}).items())
    below = {"hooks": _hooks(keys), "databases": databases, "service": service}
    return ResourceConfig(name=name, **{**_plain(keys), **below})


def _target(name: str, keys: dict[str, Any], common: Retention) -> TargetConfig:
    """A target, with the keys of its own retention over the common ones."""
    retention = Retention(**{**asdict(common), **keys.get("retention", {})})
    return TargetConfig(name=name, **{**_plain(keys), "retention": retention, "hooks": _hooks(keys)})


def _hooks(keys: dict[str, Any]) -> tuple[HookConfig, ...]:
    """In the order of the file, which is that in which they run."""
    return tuple(HookConfig(name, **hook) for name, hook in keys.get("hook", {}).items())


def _plain(keys: dict[str, Any]) -> dict[str, Any]:
    """Without the tables below it."""
    return {key: value for key, value in keys.items() if key not in ("hook", "database")}


def _without_itself(config: Config) -> Config:
    """The same file may serve all nodes: a node's own entry among the peers is for the others."""
    from msgspec.structs import replace

    return replace(config, peers=tuple(peer for peer in config.peers if peer.node != config.node))

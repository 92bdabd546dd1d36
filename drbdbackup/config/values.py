"""The configuration as frozen values, one class per table of the file. What a key means is said in `docs/config.md`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """How many dated copies to keep per resource and target; `minimum` complete ones always stay (at least 1)."""

    hourly: int = 0
    daily: int = 14
    weekly: int = 8
    monthly: int = 12
    yearly: int = 0
    minimum: int = 3


@dataclass(frozen=True, slots=True)
class RoleConfig:
    """Where the role comes from: "drbd", "command" (argv prints a role) or "file" (path holds the word)."""

    source: str = "drbd"
    command: tuple[str, ...] = ()
    path: str = ""
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class HookConfig:
    """Programs around a run, or around its part for one target: an argv each, or (); `timeout` is in seconds, each."""

    name: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    on_error: tuple[str, ...] = ()
    timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """A database server whose consistent copy is part of every snapshot; `timeout` is in seconds.

    `method` is "dump" (SQL) or "backup" (its files). `databases` () means all; `defaults_file` has the credentials.
    """

    name: str
    kind: str
    method: str = "dump"
    databases: tuple[str, ...] = ()
    defaults_file: str = ""
    timeout: float = 3600.0


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """How a service is started, stopped and asked (() where it cannot be) that has no script of its name."""

    name: str
    start: tuple[str, ...]
    stop: tuple[str, ...]
    check: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceConfig:
    """One replicated volume. `device` may be empty only where the role does not come from DRBD; then something must be
    mounted at `source` unless `require_mount` is False: a plain folder.

    `snapshot` "lvm": copies come from an LVM snapshot of the disk below `device`; `snapshot_size` is its room, as a
    share of that disk (up to 1.0) or in bytes. `services` live on it, in the order in which they are started; `service`
    says how, for those that need it.
    """

    name: str
    source: str
    device: str = ""
    exclude: tuple[str, ...] = ()
    dual_primary: str = "refuse"  # or "first-node"
    hooks: tuple[HookConfig, ...] = ()
    databases: tuple[DatabaseConfig, ...] = ()
    services: tuple[str, ...] = ()
    service: tuple[ServiceConfig, ...] = ()
    snapshot: str = ""  # or "lvm"
    snapshot_size: float = 0.1
    require_mount: bool = True


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """A place for copies: `path`, `require_mount` belong to kind "nas"; `device`, `mountpoint`, `on_full` to "disk"."""

    name: str
    kind: str
    path: str = ""
    require_mount: bool = True
    device: str = ""
    mountpoint: str = ""
    retention: Retention = Retention()
    on_full: str = "keep"  # or "replace"
    hooks: tuple[HookConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """How to reach a node's own disk: `ssh` is `user@host` (or an alias), `options` go to ssh before it."""

    node: str
    ssh: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds: `probe` for a look at a share, `ssh` to reach a peer, `run` and `stall` for a run.

    `grace`: how long after a due time its backup may take to be there; `silence`: after which a node counts as silent.
    `verify`: for a night's share of what is read again on a node that stands by; `services`: for a service to start or
    to stop. `shrink`: a source with less than this share of the files or bytes that it had is held back; 0 means never.
    """

    probe: float = 5.0
    ssh: float = 5.0
    run: float = 6 * 3600.0
    stall: float = 15 * 60.0
    shrink: float = 0.5
    grace: float = 6 * 3600.0
    silence: float = 2 * 86400.0
    verify: float = 2 * 3600.0
    services: float = 5 * 60.0


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """What a node that stands by reads again each night: `share` of what lies within its reach, 0.0 for nothing."""

    share: float = 0.05


@dataclass(frozen=True, slots=True)
class DrillConfig:
    """Where a drill restores to ("": below `state_dir`), and where in the volume a database lies ("": nowhere).

    `options` go to the server that is started on what was restored.
    """

    folder: str = ""
    mariadb: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked. `peers` never holds this node itself; `file` is where it was read from."""

    file: str
    node: str
    nodes: tuple[str, ...]
    resources: tuple[ResourceConfig, ...]
    targets: tuple[TargetConfig, ...]
    role: RoleConfig = RoleConfig()
    peers: tuple[PeerConfig, ...] = ()
    schedule: str = "30 4 * * *"
    state_dir: str = "/var/lib/drbdbackup"
    retention: Retention = Retention()
    limits: Limits = Limits()
    verify: VerifyConfig = VerifyConfig()
    drill: DrillConfig = DrillConfig()

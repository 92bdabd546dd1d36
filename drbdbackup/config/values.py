"""The configuration as frozen values, one class per table of the file. `docs/config.md` explains each key.

Values with their defaults. Nothing here reads a file or checks what a key may be.
"""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.config.target_kinds import TARGET_KINDS, TargetKind

STATE_DIR = "/var/lib/drbdbackup"
_SHOWN_AT = "/run/drbdbackup"  # where an engine shows its copies, below the target's name
_CACHES = "/var/cache/drbdbackup"


class Retention(Struct, frozen=True, kw_only=True):
    """How many dated copies to keep per resource and target; `minimum` complete ones always stay (at least 1).

    `last` are the newest, however many were made in a day.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 14
    weekly: int = 8
    monthly: int = 12
    yearly: int = 0
    minimum: int = 3


class RoleConfig(Struct, frozen=True):
    """Where the role comes from: "drbd", "command" (argv prints a role) or "file" (path holds the word)."""

    source: str = "drbd"
    command: tuple[str, ...] = ()
    path: str = ""
    timeout: float = 10.0


class HookConfig(Struct, frozen=True):
    """Programs around a run, or around its part for one target: an argv each, or (); `timeout` is in seconds, each.

    Without one that is not `required` the copy is made all the same, where `before` fails.
    """

    name: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    on_error: tuple[str, ...] = ()
    timeout: float = 300.0
    required: bool = True


class DatabaseConfig(Struct, frozen=True):
    """A database server whose consistent copy is part of every snapshot; `timeout` is in seconds.

    `method` is "dump" (SQL) or "backup" (its files). `databases` () means all; `defaults_file` has the credentials.
    """

    name: str
    kind: str
    method: str = "dump"
    databases: tuple[str, ...] = ()
    defaults_file: str = ""
    timeout: float = 3600.0


class ServiceConfig(Struct, frozen=True):
    """How a service is started, stopped and asked (() where it cannot be) that has no script of its name."""

    name: str
    start: tuple[str, ...]
    stop: tuple[str, ...]
    check: tuple[str, ...] = ()


class ResourceConfig(Struct, frozen=True, kw_only=True):
    """One replicated volume. `device` may be empty only where the role does not come from DRBD; then something must be
    mounted at `source` unless `require_mount` is False: a plain folder.

    `snapshot` "lvm": copies come from an LVM snapshot of the disk below `device`; `snapshot_size` is its room, as a
    share of that disk (up to 1.0) or in bytes. `services` live on it, in the order in which they are started; `service`
    says how, for those that need it. `ignore_volumes` are volumes of the DRBD resource that may be left out.
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
    ignore_volumes: tuple[int, ...] = ()


class TargetConfig(Struct, frozen=True, kw_only=True):
    """A place for copies. Which of the keys a `kind` has, and how kinds differ, is said in `target_kinds`.

    `repository_file`, `password_file` and `env_file` are files of root's that hold what nobody else may know. `rate` is
    in bytes a second, 0 for no limit of its own. `append_only`: nodes add to it, and remove nothing. `schedule`: when
    it is to get its copies, "" for each run.
    """

    name: str
    kind: str
    path: str = ""
    require_mount: bool = True
    device: str = ""
    mountpoint: str = ""
    retention: Retention = Retention()
    on_full: str = "keep"  # or "replace"
    replicate: bool = True
    recycle: bool = True
    hooks: tuple[HookConfig, ...] = ()
    repository_file: str = ""
    password_file: str = ""
    env_file: str = ""
    cache: str = ""
    rate: float = 0.0
    append_only: bool = False
    schedule: str = ""

    @property
    def is_local(self) -> bool:
        """Whether each node has one of its own, which the others reach over ssh."""
        return self._kind.is_local

    @property
    def is_mounted_for_use(self) -> bool:
        """Whether a run mounts its device, and nothing else should."""
        return self._kind.is_mounted_for_use

    @property
    def carries_catalogs(self) -> bool:
        """Whether nodes exchange their catalogs through it."""
        return self._kind.carries_catalogs

    @property
    def wakes_up(self) -> bool:
        """Whether it may have to, so that a look at it takes longer than at a share."""
        return self._kind.wakes_up

    @property
    def has_tree(self) -> bool:
        """Whether its copies lie there as trees of files; otherwise an engine keeps them."""
        return self._kind.has_tree

    @property
    def can_replace(self) -> bool:
        """Whether it may be set to give up its last copy for a new one (`on_full`)."""
        return "on_full" in self._kind.keys

    @property
    def is_replicated(self) -> bool:
        """Whether a node that stands by fetches the newest snapshot to its own one."""
        return self.is_local and self.replicate

    @property
    def closed_hint(self) -> str:
        """What to do where it cannot be opened, and nobody has a better hint."""
        return self._kind.closed_hint

    @property
    def address(self) -> str:
        """What holds the copies: a device, a share's folder."""
        return str(getattr(self, self._kind.address))

    @property
    def folder(self) -> str:
        """Where it is in the tree of files while it is open."""
        return str(getattr(self, self._kind.folder)) or f"{_SHOWN_AT}/{self.name}"

    @property
    def cache_folder(self) -> str:
        """Where an engine keeps on this node what it need not fetch twice."""
        return self.cache or f"{_CACHES}/{self.name}"

    @property
    def folder_key(self) -> str:
        """The key that says `folder`."""
        return self._kind.folder

    def holder(self, node: str) -> str:
        """The node whose own it is, "" for one that all share; `node` is this one."""
        return node if self.is_local else ""

    def location(self, node: str) -> str:
        """What people call it; `node` is this one."""
        return f"{self.holder(node) or self.name}:{self.address}"

    @property
    def _kind(self) -> TargetKind:
        return TARGET_KINDS[self.kind]


class PeerConfig(Struct, frozen=True):
    """How to reach a node's own disk: `ssh` is `user@host` (or an alias), `options` go to ssh before it."""

    node: str
    ssh: str
    options: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """Deadlines in seconds: `probe` for a look at a share, `ssh` to reach a peer, `run` and `stall` for a run.

    `answer`: what `latest`, `list` and `status` wait for a road before they answer without it.

    `grace`: how long after a due time its backup may take to be there; `silence`: after which a node counts as silent.
    `verify`: for a night's share of what is read again on a node that stands by; `services`: for a service to start or
    to stop. `shrink`: a source with less than this share of the files or bytes that it had is held back; 0 means never.
    `nice`: that of what works in the background, from 0 to 19 (the last in line); `ionice`: the class of its I/O, see
    ionice(1). `rate`: bytes a second that a run may copy, to all targets together; 0 for as many as it can.
    """

    probe: float = 5.0
    ssh: float = 5.0
    answer: float = 2.0
    run: float = 6 * 3600.0
    stall: float = 15 * 60.0
    shrink: float = 0.5
    grace: float = 6 * 3600.0
    silence: float = 2 * 86400.0
    verify: float = 2 * 3600.0
    services: float = 5 * 60.0
    nice: int = 19
    ionice: str = "best-effort"
    rate: float = 0.0


class VerifyConfig(Struct, frozen=True):
    """What a node that stands by reads again each night: `share` of what lies within its reach, 0.0 for nothing.

    `ignore` are the names (with `*`, `?`, `[...]`) of what a NAS puts into folders by itself.
    """

    share: float = 0.05
    ignore: tuple[str, ...] = (
        "@eaDir", "#recycle", "@Recycle", ".@__thumb", ".AppleDouble", "._*", ".DS_Store", "Thumbs.db", "desktop.ini",
    )  # fmt: skip


class DrillConfig(Struct, frozen=True):
    """Where a drill restores to ("": below `state_dir`), and where in the volume a database lies ("": nowhere).

    `options` go to the server that is started on what was restored.
    """

    folder: str = ""
    mariadb: str = ""
    options: tuple[str, ...] = ()


class CheckConfig(Struct, frozen=True):
    """When `check` warns: seconds since any copy was verified whole, and since the last drill; 0.0 for never."""

    verified: float = 45 * 86400.0
    drilled: float = 0.0


class ReportConfig(Struct, frozen=True):
    """`html` is the page that is written after each run, "" for none."""

    html: str = ""


class MetricsConfig(Struct, frozen=True):
    """`textfile` is the file for Prometheus's node_exporter, "" for none."""

    textfile: str = ""


class NotifyConfig(Struct, frozen=True):
    """Whom to tell: `urls` as apprise knows them, `ping` as healthchecks does; both may hold secrets.

    `timeout` is in seconds, for all of them together.
    """

    urls: tuple[str, ...] = ()
    ping: str = ""
    timeout: float = 20.0


class Config(Struct, frozen=True, kw_only=True):
    """The whole file, checked. `peers` never holds this node itself; `file` is where it was read from."""

    file: str
    node: str
    nodes: tuple[str, ...]
    resources: tuple[ResourceConfig, ...]
    targets: tuple[TargetConfig, ...]
    role: RoleConfig = RoleConfig()
    peers: tuple[PeerConfig, ...] = ()
    schedule: str = "30 4 * * *"
    state_dir: str = STATE_DIR
    retention: Retention = Retention()
    limits: Limits = Limits()
    verify: VerifyConfig = VerifyConfig()
    drill: DrillConfig = DrillConfig()
    check: CheckConfig = CheckConfig()
    metrics: MetricsConfig = MetricsConfig()
    report: ReportConfig = ReportConfig()
    notify: NotifyConfig = NotifyConfig()

"""Every key of the configuration, what it may be, and which ones must be there. This table is the whole format.

Defaults are in `values.py`, meanings in `docs/config.md`; a test holds the three together.
"""

from __future__ import annotations

from drbdbackup.config.kinds import (
    ADDRESS,
    ARGV,
    AT_LEAST_ONE,
    COUNT,
    CRON,
    DURATION,
    FLAG,
    INSIDE,
    NAME,
    NAMES,
    OPERANDS,
    PATH,
    PORTION,
    ROOM,
    SERVICES,
    SHARE,
    TEXTS,
    Choice,
    Named,
    Table,
    one_of,
)

RETENTION = Table({
    "hourly": COUNT,
    "daily": COUNT,
    "weekly": COUNT,
    "monthly": COUNT,
    "yearly": COUNT,
    "minimum": AT_LEAST_ONE,
})

LIMITS = Table({
    "probe": DURATION,
    "ssh": DURATION,
    "run": DURATION,
    "stall": DURATION,
    "shrink": SHARE,
    "grace": DURATION,
    "silence": DURATION,
    "verify": DURATION,
    "services": DURATION,
})

DRILL = Table({"folder": PATH, "mariadb": INSIDE, "options": TEXTS})

VERIFY = Table({"share": PORTION})

ROLE = Choice("source", {
    "drbd": Table({"timeout": DURATION}),
    "command": Table({"command": ARGV, "timeout": DURATION}, required=("command",)),
    "file": Table({"path": PATH, "timeout": DURATION}, required=("path",)),
}, default="drbd")

HOOK = Table({"before": ARGV, "after": ARGV, "on_error": ARGV, "timeout": DURATION})
SERVICE = Table({"start": ARGV, "stop": ARGV, "check": ARGV}, required=("start", "stop"))

DATABASE = Choice("kind", {
    "mariadb": Table({
        "method": one_of("dump", "backup"), "databases": OPERANDS, "defaults_file": PATH, "timeout": DURATION,
    }),
})

RESOURCE = Table({
    "device": PATH,
    "source": PATH,
    "require_mount": FLAG,
    "exclude": TEXTS,
    "dual_primary": one_of("refuse", "first-node"),
    "snapshot": one_of("lvm"),
    "snapshot_size": ROOM,
    "hook": Named(HOOK, "[resource.raid.hook.freeze]"),
    "database": Named(DATABASE, "[resource.raid.database.shop]"),
    "services": SERVICES,
    "service": Named(SERVICE, "[resource.raid.service.mysql]"),
}, required=("source",))

_TARGET_HOOK = Named(HOOK, "[target.nas.hook.wake]")

TARGET = Choice("kind", {
    "nas": Table({
        "path": PATH, "require_mount": FLAG, "retention": RETENTION, "hook": _TARGET_HOOK,
    }, required=("path",)),
    "disk": Table({
        "device": PATH, "mountpoint": PATH, "on_full": one_of("keep", "replace"), "retention": RETENTION,
        "hook": _TARGET_HOOK,
    }, required=("device", "mountpoint")),
})

PEER = Table({"ssh": ADDRESS, "options": TEXTS}, required=("ssh",))

FILE = Table({
    "node": NAME,
    "nodes": NAMES,
    "schedule": CRON,
    "state_dir": PATH,
    "role": ROLE,
    "resource": Named(RESOURCE, "[resource.raid]", least=1),
    "target": Named(TARGET, "[target.nas]", least=1),
    "peer": Named(PEER, "[peer.www5]"),
    "retention": RETENTION,
    "limits": LIMITS,
    "verify": VERIFY,
    "drill": DRILL,
}, required=("nodes", "resource", "target"))

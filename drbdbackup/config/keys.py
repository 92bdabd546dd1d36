"""Every key of the configuration, what it may be, and which ones must be there. This table is the whole format.

Defaults are in `values.py`, meanings in `docs/config.md`; a test holds the three together.
"""

from __future__ import annotations

from drbdbackup.config.kinds import (
    ADDRESS,
    ARGV,
    AT_LEAST_ONE,
    COUNT,
    COUNTS,
    CRON,
    DURATION,
    ENTRIES,
    FLAG,
    HTML_FILE,
    INSIDE,
    METRICS_FILE,
    NAME,
    NAMES,
    NICE,
    OPERANDS,
    PATH,
    PERIOD,
    PORTION,
    RATE,
    ROOM,
    SERVICES,
    SHARE,
    TEXTS,
    URLS,
    WAIT,
    WEB_ADDRESS,
    Named,
    Table,
    Variants,
    one_of,
)
from drbdbackup.config.target_kinds import TARGET_KINDS

RETENTION = Table({
    "last": COUNT,
    "hourly": COUNT,
    "daily": COUNT,
    "weekly": COUNT,
    "monthly": COUNT,
    "yearly": COUNT,
    "minimum": AT_LEAST_ONE,
})

LIMITS = Table({
    "probe": WAIT,
    "ssh": WAIT,
    "answer": WAIT,
    "run": DURATION,
    "stall": DURATION,
    "shrink": SHARE,
    "grace": DURATION,
    "silence": DURATION,
    "verify": DURATION,
    "services": WAIT,
    "nice": NICE,
    "ionice": one_of("best-effort", "idle"),
    "rate": RATE,
})

DRILL = Table({"folder": PATH, "mariadb": INSIDE, "options": TEXTS})

VERIFY = Table({"share": PORTION, "ignore": ENTRIES})

CHECK = Table({"verified": PERIOD, "drilled": PERIOD})
METRICS = Table({"textfile": METRICS_FILE})
REPORT = Table({"html": HTML_FILE})
NOTIFY = Table({"urls": URLS, "ping": WEB_ADDRESS, "timeout": WAIT}, secret=True)

ROLE = Variants("source", {
    "drbd": Table({"timeout": WAIT}),
    "command": Table({"command": ARGV, "timeout": WAIT}, required=("command",)),
    "file": Table({"path": PATH, "timeout": WAIT}, required=("path",)),
}, default="drbd")

HOOK = Table({"before": ARGV, "after": ARGV, "on_error": ARGV, "timeout": WAIT, "required": FLAG})
SERVICE = Table({"start": ARGV, "stop": ARGV, "check": ARGV}, required=("start", "stop"))

DATABASE = Variants("kind", {
    "mariadb": Table({
        "method": one_of("dump", "backup"), "databases": OPERANDS, "defaults_file": PATH, "timeout": WAIT,
    }),
})

RESOURCE = Table({
    "device": PATH,
    "source": PATH,
    "require_mount": FLAG,
    "exclude": TEXTS,
    "dual_primary": one_of("refuse", "first-node"),
    "ignore_volumes": COUNTS,
    "snapshot": one_of("lvm"),
    "snapshot_size": ROOM,
    "hook": Named(HOOK, "[resource.raid.hook.freeze]"),
    "database": Named(DATABASE, "[resource.raid.database.shop]"),
    "services": SERVICES,
    "service": Named(SERVICE, "[resource.raid.service.mysql]"),
}, required=("source",))

_TARGET_HOOK = Named(HOOK, "[target.nas.hook.wake]")

TARGET = Variants("kind", {
    kind.name: Table({**kind.keys, "schedule": CRON, "retention": RETENTION, "hook": _TARGET_HOOK}, kind.required)
    for kind in TARGET_KINDS.values()
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
    "check": CHECK,
    "metrics": METRICS,
    "report": REPORT,
    "notify": NOTIFY,
}, required=("nodes", "resource", "target"))

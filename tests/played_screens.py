"""What each command says of a pair in which much has gone wrong, on a terminal of any width: values with a fixed clock.

They are said by the functions that the commands themselves use. Only to gather them would take a pair.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from drbdbackup.catalog.bodies import EndedTarget, Run
from drbdbackup.catalog.history import Activity, PrunedCopy, TaskKind
from drbdbackup.catalog.pins import Label, pinned
from drbdbackup.catalog.rates import Measured, Work
from drbdbackup.commands.config import Validated
from drbdbackup.commands.diff import Compared, Side
from drbdbackup.commands.drill import Drilled
from drbdbackup.commands.exposure import Exposure, LineageExposure
from drbdbackup.commands.find import FoundVersions
from drbdbackup.commands.latest import Latest
from drbdbackup.commands.list_copies import Listed
from drbdbackup.commands.pin import PinAnswer
from drbdbackup.commands.prune import PrunedTarget
from drbdbackup.commands.replicate import Replicated
from drbdbackup.commands.run import Afterwards, Alarm, Attempt, KeptCopies
from drbdbackup.commands.runs import Runs
from drbdbackup.commands.setup.peer import NodeKey
from drbdbackup.commands.status import ResourceStatus, Status
from drbdbackup.commands.sync import Synced
from drbdbackup.commands.target import TargetSeen
from drbdbackup.commands.verify import Verified
from drbdbackup.commands.watch import BegunElsewhere, WatchedPair
from drbdbackup.config.load import load
from drbdbackup.config.values import TargetConfig
from drbdbackup.doctor.examine import Diagnosis
from drbdbackup.doctor.finding import Finding, FindingState
from drbdbackup.errors import NotMounted, ToolError
from drbdbackup.exposure import Known, LossKind, Without, left
from drbdbackup.health.judge import Thresholds
from drbdbackup.model.backup import Copy, Outcome, Reach, snapshot_name
from drbdbackup.model.medium import KnownMedium
from drbdbackup.model.problem import Problem
from drbdbackup.model.role import Decision, Role, Verdict
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline.backup.order import TargetResult
from drbdbackup.pipeline.backup.run import RunResult
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from drbdbackup.pipeline.copies.choose import Choice, PassedOver, Way
from drbdbackup.pipeline.copies.known_copies import Heard, KnownCopy
from drbdbackup.pipeline.explore.diff_protocol import RenamedFolder
from drbdbackup.pipeline.explore.versions import History, Kept, Version
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.progress_file import JobProgress, TargetProgress
from drbdbackup.pipeline.restore.request import Request, Restored, RestorePlan
from drbdbackup.pipeline.restore.restore_protocol import RestoreResult
from drbdbackup.pipeline.target.inspect_protocol import TargetLook
from drbdbackup.report import (
    changes,
    console,
    diagnosis,
    exposure,
    history,
    overview,
    peers,
    restores,
    runs,
    settings,
    versions,
    watch_lines,
)
from drbdbackup.report.monitoring import plugin
from drbdbackup.retention import Judged
from drbdbackup.tools.openers import Opener
from tests import played_report

NOW = datetime(2026, 11, 28, 13, 58, 55, tzinfo=UTC)


def copy(sequence: int, target: str, holder: str = "", reach: Reach = Reach.YES, **more: object) -> KnownCopy:
    made = NOW - timedelta(days=9 - sequence, hours=9, minutes=28)
    node = "www4" if sequence % 2 else "www5"
    known = Copy(
        snapshot=snapshot_name(made, node), resource="raid", sequence=sequence, node=node, target=target,
        kind="disk" if holder else "nas", medium=f"{target}{holder}",
        location=f"{holder}:/dev/sdb1" if holder else "nas:/backup", holder=holder, path=f"/saving/{sequence}/data",
        started_at=made, finished_at=made, files=48_112, bytes=23 << 30, manifest_sha256="0" * 64,
    )  # fmt: skip
    return KnownCopy(replace(known, **more), reach)


SNAPSHOTS = (
    (copy(9, "nas"), copy(9, "disk", "www4")),
    (
        copy(8, "nas", verified_at=NOW - timedelta(hours=3)), copy(8, "disk", "www4", damaged_at=NOW),
        copy(8, "disk", "www5", Reach.NO),
    ),
    (
        copy(7, "nas", pinned_at=NOW, note="before the upgrade to Debian 13"),
        copy(7, "disk", "www5", Reach.UNKNOWN, manifest_sha256="", problems=12, pinned_at=NOW,
             note="before the upgrade to Debian 13"),
    ),
    (copy(6, "disk", "www4", purpose="safety"),),
)  # fmt: skip
LISTED = Listed(SNAPSHOTS, more=31)
HEARD = (
    Heard("www4", NOW, "local"), Heard("www5", NOW - timedelta(minutes=3), "nas"), Heard("www6", None, ""),
)  # fmt: skip
LATEST = Latest(
    resource="raid", copies=LISTED.copies, heard=HEARD, choice=LISTED.copies,
    closed={"www6": "ssh: connect to host 192.168.12.4 port 22: No route to host"},
)  # fmt: skip


def activity(hours: int, outcome: Outcome, node: str = "www4", took: int = 0, **more: object) -> Activity:
    began = NOW - timedelta(hours=hours)
    done = Activity(
        name=snapshot_name(began, node), what=TaskKind.RUN, resource="raid", node=node, outcome=outcome,
        started_at=began, finished_at=began + timedelta(seconds=took),
    )  # fmt: skip
    return replace(done, **more)


FAILED_NAS = EndedTarget(outcome="failed", message="nothing is mounted at /backup", hint="Mount it: `mount /backup`")
WELL = EndedTarget(outcome="complete")
PARTIAL = activity(
    9, Outcome.PARTIAL, took=734, snapshot=snapshot_name(NOW - timedelta(hours=9), "www4"), files=1204, bytes=3 << 30,
    because=("raid is Primary here", "the peer www5 is not connected, so the backup is the only second copy"),
    targets=(("nas", FAILED_NAS), ("disk", WELL)), due_at=NOW - timedelta(hours=9, minutes=1),
    pruned=(PrunedCopy("20261109T043000Z-www4", "disk", "no rule keeps it"),),
)  # fmt: skip
DONE = (
    activity(3, Outcome.FAILED, "www5", 5025, what=TaskKind.VERIFY, place="nas:/backup", files=48_000, bytes=22 << 30,
             because=("20261127T043055Z-www5 at nas:/backup: damaged or added to (2 problems)",)),
    activity(8, Outcome.COMPLETE, "www5", 63, what=TaskKind.REPLICATE, place="www5:/dev/sdb1", bytes=12 << 20),
    PARTIAL,
    activity(10, Outcome.STOOD_DOWN, "www5", because=("raid is Secondary here", "the peer www4 is Primary")),
    activity(33, Outcome.COMPLETE, took=300, targets=(("nas", WELL), ("disk", WELL)), bytes=40 << 20,
             because=("raid is Primary here",)),
)  # fmt: skip


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


NAS, DISK = SNAPSHOTS[0][0].copy, SNAPSHOTS[0][1].copy
UNMOUNTED = NotMounted(
    "nothing is mounted at /backup: what would be written there would fill the system's own disk",
    "Mount it: `mount /backup`. `drbdbackup doctor` says what else is missing.",
)
PROCEED = Verdict(
    decision=Decision.PROCEED, because=("raid is Primary here", "the peer www5 is Secondary and UpToDate"),
    role=Role.PRIMARY, disk="UpToDate", peer_role="Secondary",
)  # fmt: skip
STANDS_DOWN = Verdict(
    decision=Decision.STAND_DOWN, because=("raid is Secondary here", "the peer www4 is Primary"), role=Role.SECONDARY
)
REFUSED = Verdict(
    decision=Decision.REFUSE, because=("nothing is mounted at /srv/raid, where the volume should be",),
    role=Role.PRIMARY, hint="Mount it, or see why the cluster manager has not: `systemctl status pacemaker`.",
)  # fmt: skip
LAST_RUN = Run(
    name=NAS.snapshot, resource="raid", node="www4", outcome=Outcome.PARTIAL, started_at=NAS.started_at,
    finished_at=NAS.started_at + timedelta(minutes=12), snapshot=NAS.snapshot,
    targets=(("nas", EndedTarget(outcome="failed", message=UNMOUNTED.message)), ("disk", WELL)),
)  # fmt: skip
RAID = ResourceStatus(
    resource="raid", source="drbdadm", verdict=PROCEED, last_complete=SNAPSHOTS[0][0],
    next_due=NOW + timedelta(hours=14), due_since=ago(hours=9, minutes=28), last_run=LAST_RUN, verified_at=ago(hours=3),
    pair=PairVerdict(PairState.CRITICAL, (
        "nobody has made the backup that was due at 2026-11-28T04:30:00Z: www4 partial, www5 stood-down",
        "www5 has not been heard of since 2026-11-26T04:31:12Z",
    )),
)  # fmt: skip
STATUS = Status("www4", (
    RAID,
    replace(RAID, resource="mail", verdict=STANDS_DOWN, due_since=None, last_run=None, drilled_at=ago(days=12),
            pair=PairVerdict(PairState.OK, ("www5 made 20261128T043055Z-www5",))),
    replace(RAID, resource="db", verdict=REFUSED, last_complete=None, verified_at=None,
            pair=PairVerdict(PairState.WARNING, ("no backup has been made yet",))),
), LATEST.closed)  # fmt: skip

COUNTS = {"entries": 48_377, "copied": 812, "copied_bytes": 1_234_567_890}
DONE_WELL = TargetResult(
    name="disk", copy=DISK, done=True, counts=COUNTS, pruned=("20261109T043000Z-www4",),
    notes=("disk cannot hold extended attributes in the namespace trusted",), recycled="20261101T043000Z-www4",
)  # fmt: skip
LACKS = TargetResult(
    name="other-building", copy=NAS, done=True, counts=COUNTS, problem_count=2, problems=(
        Problem("www/shop/uploads/a name with blanks that is not short at all.jpg", "Input/output error"),
        Problem("mail/1234", "Permission denied"),
    ),
)  # fmt: skip


def attempt(verdict: Verdict, outcome: Outcome, *targets: TargetResult, dry_run: bool = False) -> Attempt:
    result = RunResult(
        resource="raid", outcome=outcome, verdict=verdict, snapshot=NAS.snapshot if targets else "", targets=targets,
        started_at=NAS.started_at, finished_at=NAS.started_at + timedelta(minutes=12), dry_run=dry_run,
    )  # fmt: skip
    return Attempt("raid", result)


ATTEMPTS = (
    attempt(PROCEED, Outcome.PARTIAL, TargetResult(name="nas", error=UNMOUNTED), DONE_WELL, LACKS),
    attempt(STANDS_DOWN, Outcome.STOOD_DOWN), attempt(REFUSED, Outcome.REFUSED),
)  # fmt: skip
AFTERWARDS = Afterwards((KeptCopies("raid", "nas", 34), KeptCopies("raid", "disk@www4", 12)), NOW + timedelta(hours=14))
REPLICAS = (
    Replicated(resource="raid", target="disk", location="www4:/dev/sdb1", snapshot=NAS.snapshot, started_at=NOW,
               sources=(NAS,), copy=DISK, fetched_from=NAS, files=812, bytes=1_234_567_890, pruned=("x",)),
    Replicated(resource="raid", target="disk", location="www4:/dev/sdb1", snapshot="20261127T043055Z-www5",
               started_at=NOW, sources=(), error=ToolError(
                   "ssh: connect to host 192.168.12.4 port 22: No route to host", "Is www5 switched on?")),
)  # fmt: skip
PLAN = RestorePlan(
    request=Request(in_place=True), resource="raid", destination="/srv/raid", entries=48_377, files=48_112,
    choice=Choice(DISK, Way.OWN_DISK, (PassedOver(NAS, "nothing moved for 60 s: is the server of the share up?"),)),
    bytes=23 << 30, free=900 << 30, deleted=12_345, deleted_bytes=5 << 20, keeps=True, services=("apache2", "mariadb"),
    shown=("www/shop/cache/a/rather/deep/folder/of/the/shop/with/a/page.html", "www/shop/new"),
    busy=(Opener(1234, "apache2", "/srv/raid/www", True),),
    warnings=("the newest snapshot is not among those that can be read from here; this is the one before it",),
)  # fmt: skip
RESULT = RestoreResult(
    entries=48_377, files=48_112, bytes=23 << 30, deleted=12_345, changed=90, problem_count=1,
    problems=(Problem("mail/1234", "Permission denied"),),
)  # fmt: skip
VERIFIED = (
    Verified(copy=NAS, share=1.0, files=48_112, bytes=23 << 30),
    Verified(copy=DISK, share=1.0, files=48_110, bytes=23 << 30, problem_count=2, problems=(
        Problem("www/shop/index.php", "its content is not what it was when it was copied"),
        Problem("mail/1", "is missing"),
    )),
    Verified(copy=SNAPSHOTS[1][2].copy, share=0.05, error=ToolError("ssh: Connection refused", "Is sshd running?")),
)  # fmt: skip
DRILLED = Drilled(
    copy=NAS, files=48_112, bytes=23 << 30, tables=212, problem_count=1, damaged=(), dumps=1,
    problems=(Problem("shop.orders", "1 client is using or has not closed the table properly"),),
    started_at=ago(minutes=31), finished_at=ago(minutes=2),
)  # fmt: skip
WEEDED = (
    PrunedTarget("raid", "nas", (
        Judged(NAS, True, "the newest"), Judged(SNAPSHOTS[1][0].copy, True, "daily; pinned (before the upgrade)"),
        Judged(SNAPSHOTS[2][0].copy, False, "no rule keeps it"),
    ), recycled_next=SNAPSHOTS[2][0].copy.snapshot),
    PrunedTarget("raid", "disk", ()),
)  # fmt: skip
SYNCED = Synced(
    ExchangeResult(new={"nas": 12, "www5": 0}, closed={"www6": LATEST.closed["www6"]},
              refused={"/backup/drbdbackup/catalog/www7.db": "www7 is no node of this pair, and nobody knows its key"}),
    ExchangeResult(new={"nas": 0}), frozenset({"nas"}),
)  # fmt: skip
TARGETS = (
    TargetSeen(TargetConfig(name="nas", kind="nas", path="/backup"), "nas:/backup", KnownMedium("fd060c61812e"), True,
               TargetLook(medium="fd060c61812e", enrolled_at="2026-11-01T04:30:00Z", enrolled_by="www4", objection="",
                          filesystem_uuid="", location="nas:/backup", holder="", root="", free_bytes=900 << 30,
                          total_bytes=2 << 40, lacks=("trusted.*", "security.*", "more than 1 hard link")), None),
    TargetSeen(TargetConfig(name="disk", kind="disk", device="/dev/sdb1"), "www4:/dev/sdb1", None, False, None,
               UNMOUNTED),
)  # fmt: skip
DIAGNOSIS = Diagnosis("www4", (
    Finding("drbd", "raid", FindingState.OK, "Primary, UpToDate; the peer www5 is Secondary and UpToDate"),
    Finding("clock", "www5", FindingState.WARN, "it is 94 s ahead of this node's clock",
            "Set up chrony or systemd-timesyncd on both nodes: times in names and in the catalog are of these clocks."),
    Finding("target", "nas", FindingState.FAIL, UNMOUNTED.message, UNMOUNTED.hint),
))  # fmt: skip
FOUND = FoundVersions("raid", "index.php", (
    History("www/shop/index.php", (
        Kept(Version("f", "9f86d081884c7d65", 12_698, int(ago(days=1).timestamp() * 1e9)), (NAS.snapshot,)),
        Kept(Version("f", "60303ae22b998861", 12_390, int(ago(days=40).timestamp() * 1e9)),
             tuple(one[0].copy.snapshot for one in SNAPSHOTS[1:3])),
    )),
    History("www/old/index.php", (
        Kept(Version("l", "", 0, int(ago(days=9).timestamp() * 1e9), "../shop/index.php"), (NAS.snapshot,)),
    )),
), tuple(one[0].copy for one in SNAPSHOTS), (PassedOver(SNAPSHOTS[1][2].copy, "ssh: Connection refused"),))  # fmt: skip
CHANGES = (
    ("mail/1234", "added", (), "f", None, 2_000), ("www/archive", "added", (), "d", None, 4096),
    ("www/archive/1", "added", (), "f", None, 80 << 20), ("www/old", "removed", (), "d", 4096, None),
    ("www/old/1", "removed", (), "f", 80 << 20, None), ("www/shop/.htaccess", "removed", (), "f", 120, None),
    ("www/shop/index.php", "content", ("content", "mode"), "f", 12_390, 12_698),
    ("www/shop/upload", "attributes", ("mode", "owner"), "d", 4096, 4096),
)  # fmt: skip
MEASURED = Measured(work=Work.RESTORED, medium="nas", node="www4", at=ago(days=12), files=48_112, bytes=23 << 30,
                    seconds=1740.0)  # fmt: skip
KNOWN = Known("www4", NOW, [(one.copy, one.reach) for copies in SNAPSHOTS for one in copies], [MEASURED])
EXPOSED = Exposure(
    resource="raid", node="www4", roadless=("www6",), closed=LATEST.closed, missing=None,
    retired=("old-nas:/backup",), lines=(LineageExposure(None, (
        left(KNOWN, Without(LossKind.NOTHING)), left(KNOWN, Without(LossKind.NODE, "www4")),
        left(KNOWN, Without(LossKind.NODE, "www5")), left(KNOWN, Without(LossKind.TARGET, "nas")),
        left(KNOWN, Without(LossKind.TARGET, "disk", "www4")),
    )),),
)  # fmt: skip
JOBS = (
    JobProgress(
        what="run", resource="raid", pid=1234, started_at=ago(minutes=3), at=0.0, entries=48_377, bytes=23 << 30,
        targets=(
            TargetProgress("nas", 20_000, 9_700_000_000), TargetProgress("disk", 48_377, 23 << 30, "complete"),
            TargetProgress("usb", 900, 1 << 20, "failed"),
        )),
    JobProgress(what="verify", resource="mail", pid=77, started_at=ago(seconds=5), at=0.0, reads=True,
                targets=(TargetProgress("nas", 1200, 0),)),
)  # fmt: skip
SEEN = WatchedPair(
    at=NOW, latest=(LATEST,), status=STATUS,
    elsewhere=(BegunElsewhere("mail", "www5", "20261128T133000Z-www5", ago(minutes=28), ("nas",)),),
)  # fmt: skip
NODE_KEYS = (NodeKey("www4", "ab" * 32, "SHA256:x", True), NodeKey("www5", "", "", False))
CONFIG = """
node = "www4"
nodes = ["www4", "www5"]
state_dir = "/var/lib/drbdbackup"
[role]
source = "drbd"
[resource.raid]
device = "/dev/drbd0"
source = "/srv/raid"
[target.nas]
kind = "nas"
path = "/backup"
[target.disk]
kind = "disk"
device = "/dev/disk/by-label/backup"
mountpoint = "/mnt/backup"
on_full = "replace"
[peer.www5]
ssh = "root@www5"
"""


@contextmanager
def compared() -> Iterator[Compared]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "changes"
        names = ("path", "change", "what", "letter", "before", "after")
        file.write_text("".join(json.dumps(dict(zip(names, one, strict=True))) + "\n" for one in CHANGES))
        yield Compared(
            resource="raid", before=Side(SNAPSHOTS[1][0].copy, ago(days=1)), after=Side(None, NOW), same=46_908,
            counts={"added": 3, "removed": 3, "content": 1, "attributes": 1}, path="", problems=(), problem_count=0,
            bytes={"added": 2_000 + (80 << 20), "removed": 120 + (80 << 20), "content": 12_698, "attributes": 0},
            renamed=(RenamedFolder("www/old", "www/archive", 2, 80 << 20),), _file=str(file),
        )  # fmt: skip


def say_run() -> None:
    runs.closing(ATTEMPTS)
    runs.complain(ATTEMPTS)
    runs.raise_alarms([Alarm("raid", RAID.pair.because)])
    console.say(runs.afterwards(ATTEMPTS, AFTERWARDS, NOW), wraps=True)


def say_runs() -> None:
    paint = history.painted if console.has_colours() else str
    console.say(history.table(Runs(DONE, 7, {}), console.width()), paint=paint)


def say_runs_show() -> None:
    console.say(history.one(PARTIAL, console.width(), NOW), paint=history.painted if console.has_colours() else str)


def say_progress() -> None:
    """The last picture that the bars leave: of a run of which a target has failed and one goes on, and of a restore."""
    drawn = PlayedTerminal(is_terminal=sys.stdout.isatty())
    with redirect_stdout(drawn), runs.watched(on_terminal=drawn.isatty()) as watcher:
        watcher.begun("raid", ("nas", "disk"))
        watcher.walked(48_377, 23 << 30)
        watcher.ended("nas", "failed", UNMOUNTED.message)
        watcher.progress("disk", Progress(20_000, 9_700_000_000, 1 << 20))
        watcher.begun("raid", ("nas",), reads=True)
        watcher.walked(48_377, 23 << 30)
        watcher.progress("nas", Progress(100, 1 << 20, 1 << 20))
    console.say([])
    sys.stdout.write(re.split(r"(?:\x1b\[\d*[AK]|\r)+", drawn.getvalue().replace("\x1b[?25h", ""))[-1])


def say_dry_run() -> None:
    attempts = [attempt(PROCEED, Outcome.COMPLETE, replace(DONE_WELL, copy=None), dry_run=True)]
    runs.closing(attempts)
    console.say(runs.how_to_do_it(attempts), wraps=True)


def say_replicate() -> None:
    console.say(runs.replicas(REPLICAS, dry_run=False), wraps=True)
    runs.complain_of_replicas(REPLICAS)


def say_restore() -> None:
    done = Restored(PLAN, RESULT, ago(minutes=31), ago(minutes=2))
    console.say(restores.planned(PLAN, NOW), wraps=True)
    console.say(restores.restored(done), wraps=True)
    restores.complain(done)


def say_verify() -> None:
    console.say(restores.verified(VERIFIED), alarming=True, wraps=True)
    restores.complain_of_damage(VERIFIED)


def say_drill() -> None:
    console.say(restores.drilled(DRILLED), alarming=True, wraps=True)
    restores.complain_of_drill(DRILLED)


def say_diff() -> None:
    with compared() as found, console.paged(wanted=False) as in_colour:
        console.say(changes.lines(found, console.width(), NOW), paint=changes.painted if in_colour else str)


def say_diff_stat() -> None:
    with compared() as found:
        console.say(changes.by_folder(found, console.width(), NOW))


def say_watch() -> None:
    width = console.width() or 80
    rates = {(1234, "nas"): 31.5 * (1 << 20)}
    below = [*watch_lines.jobs(JOBS, rates, width, NOW), "", *watch_lines.standing(SEEN, width, NOW)]
    console.say([*watch_lines.newest(SEEN, width, NOW), "", *below], alarming=True)


def say_check() -> None:
    found = [played_report.played().health]
    console.say(plugin.nagios(found, Thresholds(93_600, 180_000)))


def say_validated() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(CONFIG)
        file.chmod(0o600)
        config = replace(load(str(file)), file="/etc/drbdbackup/config.toml")
    note = "rsync 3.2.7 is older than the 3.5.0 that the security updates of Debian 12 and 13 bring"
    console.say(settings.validated(Validated(config, NOW + timedelta(hours=14), (note,)), NOW), wraps=True)


def say_pin() -> None:
    note = "before the upgrade to Debian 13"
    label = Label((pinned("www4", NOW, "raid", NAS.snapshot, note),), note)
    answer = PinAnswer(
        snapshot=NAS.snapshot, resource="raid", copies=(NAS, DISK), label=label, roads=("nas",), closed=LATEST.closed,
    )  # fmt: skip
    console.say(settings.pinned(answer), wraps=True)


SCREENS: dict[str, Callable[[], None]] = {
    "latest": lambda: console.say(overview.latest([LATEST], console.width(), NOW), alarming=True),
    "list": lambda: console.say(overview.snapshots(LISTED, console.width(), NOW), alarming=True),
    "list-copies": lambda: console.say(overview.copies(LISTED, console.width(), NOW), alarming=True),
    "status": lambda: console.say(overview.status(STATUS, console.width(), NOW), alarming=True),
    "watch": say_watch,
    "check": say_check,
    "runs": say_runs,
    "runs-show": say_runs_show,
    "exposure": lambda: console.say(exposure.lines(EXPOSED, console.width(), NOW), alarming=True),
    "run": say_run,
    "run-dry-run": say_dry_run,
    "run-progress": say_progress,
    "replicate": say_replicate,
    "restore": say_restore,
    "verify": say_verify,
    "drill": say_drill,
    "prune": lambda: console.say(settings.pruning(WEEDED, dry_run=True), wraps=True),
    "sync": lambda: console.say(settings.synced(SYNCED), wraps=True),
    "pin": say_pin,
    "target-list": lambda: console.say(settings.targets(TARGETS), wraps=True),
    "config-validate": say_validated,
    "peer-list": lambda: console.say(peers.keys(NODE_KEYS), wraps=True),
    "doctor": lambda: diagnosis.show(DIAGNOSIS),
    "find": lambda: console.say(versions.lines(FOUND), wraps=True),
    "diff": say_diff,
    "diff-stat": say_diff_stat,
}


class PlayedTerminal(io.StringIO):
    """A terminal, or a pipe; what is said on stdout and on stderr comes one after the other."""

    encoding = "utf-8"

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def said(name: str, columns: int | None, *, in_colour: bool = False) -> str:
    """What a command says on a terminal so wide (None: in a pipe), in UTC."""
    changed = {
        "TZ": "UTC", "TERM": "xterm-256color", "COLUMNS": str(columns or ""), "NO_COLOR": "" if in_colour else "1",
        "COLORTERM": "", "FORCE_COLOR": "",
    }  # fmt: skip
    before = {key: os.environ.get(key) for key in changed}
    terminal = PlayedTerminal(is_terminal=columns is not None)
    os.environ.update(changed)
    time.tzset()
    try:
        with redirect_stdout(terminal), redirect_stderr(terminal):
            SCREENS[name]()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        time.tzset()
    return terminal.getvalue()

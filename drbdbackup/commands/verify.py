"""`verify`: reads copies again on the targets of this node, and puts what it found into the catalog.

A copy is called damaged only by what was read of it; a target that cannot be read proves nothing about its copies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic

from msgspec import Struct

from drbdbackup import gate
from drbdbackup.catalog import bodies, free_space, history, rates, store, view
from drbdbackup.catalog.facts import Fact
from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.catalog.history import Draft, TaskKind
from drbdbackup.catalog.rates import Work
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import Damaged, DrbdBackupError, Failure, NothingFound, PartialResult, UsageError
from drbdbackup.model.amount import count
from drbdbackup.model.backup import Copy, Outcome, recorded
from drbdbackup.model.problem import Problem
from drbdbackup.model.role import Decision
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.copies.choose import resolved
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.progress_file import written_progress
from drbdbackup.pipeline.verify.verify_protocol import NO_EXTRAS, VERIFY, Extras, VerifyJob

REMOVED = "Somebody has removed it. `drbdbackup list` shows what there is; `drbdbackup run` makes a new one."
_GONE = (
    "Another node has pruned it, or somebody has removed it: `drbdbackup runs` tells once that node has made its next "
    "run. `drbdbackup pin` keeps a snapshot on every target."
)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%\Z", re.ASCII)
_FRACTION = re.compile(r"[01]?\.\d{1,9}\Z", re.ASCII)


class Verified(Struct, frozen=True, kw_only=True):
    """One copy: `files` and `bytes` that were read and found right, or why it could not be read (`error`).

    `problems` are the first 1000 of `problem_count`; `share` of its files was to be read, 1.0 for all; it took
    `seconds`. `manifest_sha256` is that of the manifest that it was held to, `sidecar_sha256` that of what its
    sidecar says. `extras` is what lies in it besides: none of that makes it damaged. `unknown` of its entries have
    extended attributes that its manifest does not know, because an older version made it.
    """

    copy: Copy
    share: float
    files: int = 0
    bytes: int = 0
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    error: DrbdBackupError | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0
    manifest_sha256: str = ""
    sidecar_sha256: str = ""
    extras: Extras = NO_EXTRAS
    unknown: int = 0

    @property
    def is_well(self) -> bool:
        """Whether it was read, nothing was wrong, and nobody has added anything to it."""
        return self.error is None and not self.problem_count and not self.extras.added_count


class VerifiedCopies(Struct, frozen=True):
    """Every copy that was to be read."""

    copies: tuple[Verified, ...]

    @property
    def status(self) -> int:
        """1 for damage, for what was added to a copy, or if nothing could be read (its own where all say the same); 3
        if only some could.
        """
        if any(one.problem_count or one.extras.added_count for one in self.copies):
            return Damaged.status
        statuses = [one.error.status for one in self.copies if one.error is not None]
        if statuses and len(statuses) == len(self.copies):
            return statuses[0] if len(set(statuses)) == 1 else DrbdBackupError.status
        return PartialResult.status if statuses else 0


def share_of(text: str) -> float:
    """"5%", or 0.05 as in the configuration; "1" could be 1% or all, and is refused. Raises UsageError."""
    stripped = text.strip()
    percent = _PERCENT.match(stripped)
    share = float(percent[1]) / 100 if percent else float(stripped) if _FRACTION.match(stripped) else 0.0
    if not 0 < share <= 1:
        allowed = 'Allowed: above 0% and up to 100%, like "5%", or a fraction, like 0.05.'
        raise UsageError(f"--sample {text} is not a percentage", allowed)
    return share


def verify(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    snapshot: str = "", share: float = 1.0,
) -> VerifiedCopies:  # fmt: skip
    """Read the newest copy of each resource on each target of this node, or those of `snapshot` (or what begins so).

    What was found is passed on: the other node must not take what is damaged either.

    Raises NothingFound if there is none, UsageError for a beginning of several snapshots' names.
    """
    catalog_exchange.fetch_all(config)  # which one is the newest may be known only to the node that has made it
    wanted = [copy for one in resources for copy in _wanted(config, one, targets, snapshot)]
    if not wanted:
        what = f"no copy of {snapshot} is" if snapshot else "no copy is"
        raise NothingFound(f"{what} on a target of {config.node}", "`drbdbackup list` shows what there is, and where.")
    access = CopyAccess(config)
    found: list[Verified] = []
    for resource in dict.fromkeys(copy.resource for copy in wanted):
        with (
            history.recorded(config, TaskKind.VERIFY, resource) as task,
            written_progress(config, "verify", watcher) as watched,
        ):
            here = [
                verified_copy(config, access, copy, share, watched) for copy in wanted if copy.resource == resource
            ]
            _say(task, here)
        found += here
    catalog_exchange.put_all(config, None, on_volume=False)
    return VerifiedCopies(tuple(found))


def _say(task: Draft, found: Sequence[Verified]) -> None:
    """What came of reading them, for the history."""
    task.snapshot = found[0].copy.snapshot if len({one.copy.snapshot for one in found}) == 1 else ""
    task.place = ", ".join(dict.fromkeys(one.copy.location for one in found))
    task.files, task.bytes = sum(one.files for one in found), sum(one.bytes for one in found)
    wrong = [one for one in found if one.error is not None or not one.is_well]
    for one in wrong:
        why = one.error.message if one.error else f"damaged or added to ({count(one.problem_count, 'problem')})"
        task.because.append(f"{one.copy.snapshot} at {one.copy.location}: {why}")
    is_damaged = any(one.error is None for one in wrong)
    if wrong:
        task.outcome = Outcome.FAILED if is_damaged or len(wrong) == len(found) else Outcome.PARTIAL


def sign(config: Config, target: TargetConfig, watcher: Watcher) -> VerifiedCopies:
    """Read each copy on a target that no node has signed, whole, and sign those that are what their manifest says.

    One whose sidecar is not signed, as older versions leave it, is one of them.

    That a copy was not forged before, nobody can tell by reading it: that is the admin's word.
    """
    unsigned = [
        copy for one in config.resources for copy in copies_here(config, one, [target], safety=True)
        if not (copy.has_known_manifest and copy.sidecar_sha256)
    ]  # fmt: skip
    access = CopyAccess(config)
    found = tuple(verified_copy(config, access, copy, 1.0, watcher) for copy in unsigned)
    now = datetime.now(UTC)
    store.record(config.state_dir, config.node, [
        bodies.signed(config.node, now, one.copy, one.manifest_sha256, one.sidecar_sha256)
        for one in found if one.is_well
    ])  # fmt: skip
    if found:
        catalog_exchange.put_all(config, None, on_volume=False)
    return VerifiedCopies(found)


def copies_here(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], *, safety: bool = False
) -> list[Copy]:
    """The copies that lie on these targets of this node, newest first; then, with `safety`, what restores have kept."""
    names = [target.name for target in targets]
    known = view.configured(config, resource.name, adopted=True)
    if safety:
        known += view.configured_safety(config, resource.name)
    return [copy for copy in known if copy.target in names and copy.holder in ("", config.node)]


def is_kept(config: Config, copy: Copy) -> bool:
    """Whether the catalog still has it: a run that prunes waits for no reader."""
    if copy.purpose:
        kept = view.safety(config.state_dir, config.node, copy.resource, [copy.target])
    else:
        kept = view.copies(config.state_dir, config.node, copy.resource, [copy.target], adopted=True)
    return any((one.medium, one.snapshot) == (copy.medium, copy.snapshot) for one in kept)


def _may_be_pruned(config: Config, copy: Copy) -> bool:
    """Whether another node can have removed it, who says so only when its run is over: the one that makes the backups.

    What an admin has removed from a share, the next run or verify of that node notes.
    """
    resource = next((one for one in config.resources if one.name == copy.resource), None)
    if copy.holder or len(config.nodes) == 1 or resource is None:
        return False
    return gate.ask(config, resource).decision is not Decision.PROCEED


def damage(config: Config, found: Verified) -> Fact:
    """The fact of what was found wrong."""
    lines = [f"{one.path}: {one.reason}".removeprefix(": ") for one in found.problems]
    plain = [text.encode(errors="replace").decode() for text in lines]
    return bodies.damaged(config.node, datetime.now(UTC), found.copy, plain)


def _wanted(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], snapshot: str
) -> list[Copy]:
    here = copies_here(config, resource, targets, safety=bool(snapshot))
    if snapshot:
        name = resolved(snapshot, here)
        return [copy for copy in here if copy.snapshot == name]
    newest: dict[str, Copy] = {}
    for copy in recorded(here):
        newest.setdefault(copy.target, copy)
    return list(newest.values())


def verified_copy(config: Config, access: CopyAccess, copy: Copy, share: float, watcher: Watcher) -> Verified:
    """Read `share` of one copy, and record what was found."""
    watcher.begun(copy.resource, (copy.target,), reads=True)
    watcher.walked(copy.files, int(copy.bytes * share))
    found = _read(config, access, copy, share, watcher)
    problems = count(found.problem_count, "problem") if found.problem_count else ""
    problem = found.error.message if found.error else problems
    watcher.ended(copy.target, "failed" if problem else "complete", problem)
    return found


def _read(config: Config, access: CopyAccess, copy: Copy, share: float, watcher: Watcher) -> Verified:
    begun = monotonic()
    room: LastRoom | None = None
    try:
        result = run_read_job(
            VERIFY, access, copy,
            lambda here, at: VerifyJob(here=here, copy=at, share=share, ignore=config.verify.ignore),
            lambda event: watcher.progress(copy.target, event),
        )  # fmt: skip
    except (Damaged, NothingFound) as error:  # the medium is the right one, and the copy is not there (any more)
        catalog_exchange.fetch_all(config)  # another node may have pruned it
        if not is_kept(config, copy):
            return Verified(copy=copy, share=share, error=NothingFound(f"{copy.snapshot} was pruned while it was read"))
        if isinstance(error, NothingFound):
            is_theirs = _may_be_pruned(config, copy)
            if not is_theirs:
                gone = bodies.pruned(config.node, datetime.now(UTC), copy, bodies.GONE)
                store.record(config.state_dir, config.node, [gone])
            return Verified(
                copy=copy, share=share, error=NothingFound(error.message, _GONE if is_theirs else REMOVED)
            )
        found = Verified(
            copy=copy, share=share, problems=(Problem("", error.message),), problem_count=1,
            finished_at=datetime.now(UTC),
        )
    except Failure as error:
        return Verified(copy=copy, share=share, error=error)
    else:
        if result.wanted and not result.files and not result.problem_count:
            return Verified(copy=copy, share=share, error=Failure("none of its files was read"))
        found = Verified(
            copy=copy, share=share, files=result.files, bytes=result.bytes, problems=result.problems,
            problem_count=result.problem_count, finished_at=datetime.now(UTC), seconds=monotonic() - begun,
            manifest_sha256=result.manifest_sha256, sidecar_sha256=result.sidecar_sha256, extras=result.extras,
            unknown=result.unknown,
        )  # fmt: skip
        if result.room is not None and access.target(copy).is_mounted_for_use:
            room = result.room
    _record(config, found, room)
    return found


def _record(config: Config, found: Verified, room: LastRoom | None) -> None:
    node, now = config.node, datetime.now(UTC)
    if found.problem_count:
        facts = [damage(config, found)]
    else:
        took = rates.measured(node, found.copy, Work.VERIFIED, found.files, found.bytes, found.seconds)
        facts = [bodies.verified(node, now, found.copy, found.files, found.bytes, found.share), *took]
    if room is not None:
        facts.append(free_space.left(node, found.copy.medium, room))
    store.record(config.state_dir, node, facts)

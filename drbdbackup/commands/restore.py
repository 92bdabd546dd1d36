"""`restore`: which copy, what bringing it back would do, and doing it.

The plan is made and shown before anything is written. Over the volume it goes only while this node is its Primary, and
it is gone within a second when the volume has to be let go of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from drbdbackup import gate, lock
from drbdbackup.catalog import view
from drbdbackup.commands import inplace, measuring, places
from drbdbackup.commands.chosen import one_resource
from drbdbackup.commands.inplace import NOTHING, Around, Over
from drbdbackup.commands.reaching import Order, Reaching, alone, attended
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import DrbdBackupError, NothingFound, RoleError, TargetFull, UsageError
from drbdbackup.model.amount import count, size
from drbdbackup.model.backup import Copy
from drbdbackup.model.role import Decision
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.choose import Choice, Way, Wish, candidates, choose, told
from drbdbackup.pipeline.source import identity
from drbdbackup.pipeline.watching import Progress, Watcher
from drbdbackup.tools import mounts
from drbdbackup.tools.openers import Opener


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for: exactly one of `to` and `in_place`; `path` is relative to the volume's top.

    `resume` goes on with a restore in place that was interrupted.

    `origin` is a node or a target ("--from"); `merge` lets `to` hold something already, of which nothing is deleted;
    `yes` means that nobody is there to be asked; `is_ours` that `to` is a folder of drbdbackup's own; `safety` that
    what is there now is kept before it is gone over.
    """

    resource: str | None = None
    origin: str = ""
    at: datetime | None = None
    snapshot: str = ""
    lineage: str = ""
    path: str = ""
    to: str = ""
    in_place: bool = False
    merge: bool = False
    yes: bool = False
    is_ours: bool = False
    safety: bool = True
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore will do: counts and bytes of what is brought, `deleted` entries (in place only), free bytes.

    `choice` holds the copy, the way to it, and what was passed over; `shown` are the first of the deleted paths.
    `missing` are the bytes that it needs and are not free there; `warnings` say so too. `modified_ns` is the time of
    what is at `path` in the snapshot, `inside` are the first names in it, `failed_above` says why that, or a folder
    above it, could not be read when the snapshot was made; `busy` has what uses the volume now, `services` are stopped
    around a restore in place.
    """

    request: Request
    resource: str
    choice: Choice
    destination: str
    entries: int
    files: int
    bytes: int
    free: int
    deleted: int = 0
    deleted_bytes: int = 0
    shown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: int = 0
    modified_ns: int = 0
    failed_above: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    busy: tuple[Opener, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def copy(self) -> Copy:
        """The copy that is restored."""
        return self.choice.copy


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it. `problems` are the first 1000 of `problem_count`, as (path, why); exit status 1 if any.

    `around` is what was done around a restore in place.
    """

    plan: Plan
    entries: int
    files: int
    bytes: int
    deleted: int
    problems: tuple[tuple[str, str], ...]
    problem_count: int
    started_at: datetime
    finished_at: datetime
    around: Around = NOTHING

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.problem_count or self.around.problems else 0


def plan(config: Config, request: Request) -> Plan:
    """Choose a copy, look at it and at the destination; writes nothing.

    Raises UsageError, NothingFound (also, with `yes`, where only something older can be read), RoleError, Locked,
    TargetFull (with `yes`).
    """
    request = _checked(config, request)
    resource = one_resource(config, request.resource)
    with _allowed(config, request, resource):
        return _chosen(config, request, resource)


def plan_aside(config: Config, request: Request) -> Plan:
    """Like `plan`, for a request of our own: `path` is a plain one, and `to` a folder of ours."""
    return _chosen(config, request, one_resource(config, request.resource))


def restore(config: Config, plan: Plan, watcher: Watcher) -> Restored:
    """Do what the plan says. Raises RoleError, Locked, Interrupted if the volume goes, and what the medium says."""
    resource = one_resource(config, plan.resource)
    request, reaching, started_at = plan.request, Reaching(config), datetime.now(UTC)

    def hear(event: Event) -> None:
        if event.name == "progress":
            watcher.progress(plan.copy.target, Progress(**event.fields))

    def bring() -> dict[str, Any]:
        watcher.begun(resource.name, (plan.copy.target,))
        watcher.walked(plan.entries, plan.bytes)
        begun_at = datetime.now(UTC)
        brought = _attended(config, request, resource, reaching, plan.copy, "bring", hear)
        if not brought["problem_count"]:
            took = (datetime.now(UTC) - begun_at).total_seconds()
            measuring.restored(config, plan.choice, brought["files"], brought["bytes"], took)
        return brought

    around = NOTHING
    with _allowed(config, request, resource):
        if request.in_place:
            before = inplace.unfinished_before(config, resource, request.path, resume=request.resume)
            _still(plan, _attended(config, request, resource, reaching, plan.copy, "look"))
            over = Over(config, resource, plan.copy, request.path, request.safety, before, request.resume)
            done, around = inplace.over(over, watcher, bring)
        else:
            done = bring()
    problems = tuple((path, why) for path, why in done["problems"])
    watcher.ended(plan.copy.target, "failed" if problems else "complete", "")
    return Restored(
        plan, done["entries"], done["files"], done["bytes"], done["deleted"], problems, done["problem_count"],
        started_at, datetime.now(UTC), around,
    )  # fmt: skip


def _still(plan: Plan, look: dict[str, Any]) -> None:
    """What was confirmed is what is deleted: the volume went on living while the question stood. Raises."""
    if look["deleted"] > plan.deleted:
        raise DrbdBackupError(
            f"{count(look['deleted'], 'entry', 'entries')} would be deleted by now, "
            f"not the {plan.deleted} that were shown",
            "Stop what writes to the volume, and run it again to see what it would delete.",
        )


def _chosen(config: Config, request: Request, resource: ResourceConfig) -> Plan:
    targets = [target.name for target in config.targets]
    wish = Wish(request.origin, request.at, request.snapshot, request.lineage)
    copies = view.copies(config.state_dir, resource.name, targets)
    if request.snapshot:  # a safety copy is only brought back by its name
        copies += view.safety(config.state_dir, resource.name, targets)
    found = candidates(copies, wish, config.node, config.nodes, targets)
    looks: dict[tuple[str, str], dict[str, Any]] = {}
    reaching = Reaching(config)

    def why_not(copy: Copy) -> str:
        def look() -> None:
            looks[copy.medium, copy.snapshot] = _attended(config, request, resource, reaching, copy, "look")

        return reaching.why_not(copy, look)

    choice = choose(found, config.node, why_not)
    if choice.out_of_reach and request.yes:
        raise NothingFound(
            f"the newest that matches cannot be read:\n{told(choice.out_of_reach)}",
            f"The next is {choice.copy.snapshot} at {choice.copy.location}: name it with --snapshot to take it.",
        )
    planned = _planned(request, resource, choice, looks[choice.copy.medium, choice.copy.snapshot])
    if not request.in_place:
        return planned
    inplace.unfinished_before(config, resource, request.path, resume=request.resume)
    return replace(planned, busy=inplace.busy(config, resource, request.path), services=resource.services)


def _checked(config: Config, request: Request) -> Request:
    """The request with absolute and plain paths. Raises UsageError for what makes no sense or is not safe."""
    if bool(request.to) == request.in_place:
        told = "not both --to and --in-place" if request.to else "say where to restore to"
        raise UsageError(told, "Either --to DIR, or --in-place over the volume itself.")
    if request.merge and request.in_place:
        raise UsageError("--merge belongs to --to", "--in-place makes the volume what the snapshot was.")
    path = places.within(config, request.path)
    to = places.outside(config, request.to, is_ours=request.is_ours) if request.to else ""
    return replace(request, path=path, to=to)


@contextmanager
def _allowed(config: Config, request: Request, resource: ResourceConfig) -> Iterator[None]:
    """Over the volume: no run goes on meanwhile, and this node is its Primary. Raises Locked, RoleError."""
    with ExitStack() as stack:
        if request.in_place:
            stack.enter_context(lock.held(lock_file(config)))
            judge(config, resource)
        yield


def judge(config: Config, resource: ResourceConfig) -> None:
    """Raises RoleError unless this node may write to the volume."""
    verdict = gate.ask(config, resource)
    if verdict.decision is not Decision.PROCEED:
        because = "; ".join(verdict.because)
        hint = verdict.hint or "Restore on the node that is Primary, or to another folder with --to."
        raise RoleError(f"{resource.name} is not restored in place here: {because}", hint)


def _attended(
    config: Config, request: Request, resource: ResourceConfig, reaching: Reaching, copy: Copy, step: str,
    hear: Callable[[Event], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Have the caged job do one of its steps."""
    mounted = identity(mounts.mounted_at(mounts.table(), resource.source))

    def lost() -> str:
        now = identity(mounts.mounted_at(mounts.table(), resource.source))
        return f"{resource.source} was unmounted during the restore" if request.in_place and now != mounted else ""

    with ExitStack() as stack:
        if reaching.way(copy) is Way.OWN_DISK and not request.in_place:  # there the lock is held already
            stack.enter_context(alone(config))
        job = {
            "job": "restore", "step": step, "path": request.path, "to": request.to, "in_place": request.in_place,
            "merge": request.merge, "mounted": mounted, "exclude": list(resource.exclude),
        }  # fmt: skip
        if request.in_place:
            job["source"] = resource.source  # a volume that is not named is let go of: a failover waits for nobody
        return attended(config, Order(copy, job, hear, lost), reaching)


def _planned(request: Request, resource: ResourceConfig, choice: Choice, look: dict[str, Any]) -> Plan:
    short = not request.in_place and look["needs"] > look["free"]
    if short and request.yes:
        raise TargetFull(_missing_room(look), "Make room, or choose another folder.")
    warnings = [
        _missing_room(look) if short else "",
        "this copy was found damaged" if choice.copy.damaged_at else "",
        f"{count(look['unread'], 'entry', 'entries')} could not be read when it was made" if look["unread"] else "",
        "what it leaves out is not known to the last, so nothing is deleted" if not look["may_delete"] else "",
    ]
    return Plan(
        request, resource.name, choice, resource.source if request.in_place else request.to,
        look["entries"], look["files"], look["bytes"], look["free"], look["deleted"], look["deleted_bytes"],
        tuple(look["shown"]), tuple(filter(None, warnings)), look["needs"] - look["free"] if short else 0,
        look["modified_ns"], tuple(look["failed_above"]), tuple(look["inside"]),
    )  # fmt: skip


def _missing_room(look: dict[str, Any]) -> str:
    needs, free = look["needs"], look["free"]
    return f"it needs {size(needs)}, and {size(free)} are free there: {size(needs - free)} are missing"

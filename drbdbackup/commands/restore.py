"""`restore`: which copy, what restoring it would do, and doing it.

The plan is made and shown before anything is written. Over the volume it goes only while this node is its Primary, and
it is gone within a second when the volume has to be let go of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeVar

from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.catalog import history, rates, store, view
from drbdbackup.catalog.history import TaskKind
from drbdbackup.catalog.rates import Work
from drbdbackup.config.select import one_resource
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import (
    CalledOff,
    CatalogError,
    DestinationFull,
    OutOfReach,
    RestoreOutdated,
    RoleError,
    Stopped,
    UsageError,
)
from drbdbackup.lock import lock_file
from drbdbackup.model.amount import count, size
from drbdbackup.model.backup import Copy, Outcome, newer_adopted
from drbdbackup.pipeline.cage.protocol import Answer, Conversation, EndT, EventT, NodeFacts
from drbdbackup.pipeline.copies import retired_targets
from drbdbackup.pipeline.copies.choose import Choice, CopyRequest, Way, candidates, choose, matching, passed_over_lines
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.copies.read_protocol import CopyToRead
from drbdbackup.pipeline.progress import Progress, Watcher
from drbdbackup.pipeline.progress_file import written_progress
from drbdbackup.pipeline.restore import in_place, paths
from drbdbackup.pipeline.restore.in_place import NOTHING, InPlace
from drbdbackup.pipeline.restore.request import Request, Restored, RestorePlan
from drbdbackup.pipeline.restore.restore_protocol import (
    LOOK,
    RESTORE,
    AnyRestoreJob,
    ReadyToReplace,
    Replace,
    RestoreLook,
    RestoreResult,
)
from drbdbackup.pipeline.target import copies_in_use
from drbdbackup.pipeline.volume.destination_protocol import OverVolume, ToFolder
from drbdbackup.pipeline.volume.guard import mounted_now, unmounted

_UNSIGNED = "its snapshot.json is unsigned and says what was left out: check what would be deleted"

RestoreJobT = TypeVar("RestoreJobT", bound=AnyRestoreJob)


def plan(config: Config, request: Request) -> RestorePlan:
    """Choose a copy, look at it and at the destination; writes nothing.

    Raises UsageError, NothingFound (also, with `yes`, where only something older can be read), RoleError, Locked,
    TargetFull (with `yes`).
    """
    request = _checked(config, request)
    resource = one_resource(config, request.resource)
    with _allowed(config, request, resource):
        return _chosen(config, request, resource)


def plan_aside(config: Config, request: Request) -> RestorePlan:
    """Like `plan`, for a request of our own: `path` is a plain one, and `to` a folder of ours."""
    return _chosen(config, request, one_resource(config, request.resource))


def restore(config: Config, plan: RestorePlan, watcher: Watcher) -> Restored:
    """Do what the plan says. Raises RoleError, Locked, Interrupted if the volume goes, and what the medium says."""
    if plan.request.is_ours:  # part of something else, which is recorded itself
        return _restored(config, plan, watcher)
    with (
        history.recorded(config, TaskKind.RESTORE, plan.resource, plan.copy.snapshot, _destination(plan)) as task,
        written_progress(config, "restore", watcher) as watched,
    ):
        done = _restored(config, plan, watched)
        task.files, task.bytes = done.result.files, done.result.bytes
        if done.status:
            task.outcome = Outcome.PARTIAL
            task.because.append(f"{count(done.result.problem_count, 'problem')} with what was restored")
    return done


def _destination(plan: RestorePlan) -> str:
    """Where it was restored to, for the history."""
    part = f"{plan.request.path} to " if plan.request.path else ""
    return f"{part}{plan.destination}{', in place' if plan.request.in_place else ''}"


def _restored(config: Config, plan: RestorePlan, watcher: Watcher) -> Restored:
    resource = one_resource(config, plan.resource)
    request, access, started_at = plan.request, CopyAccess(config), datetime.now(UTC)

    def restore_files(replacing: Callable[[], None] = lambda: None) -> RestoreResult:
        def on_event(event: Progress | ReadyToReplace) -> Replace | None:
            if isinstance(event, Progress):
                watcher.progress(plan.copy.target, event)
                return None
            replacing()
            return Replace()

        watcher.begun(resource.name, (plan.copy.target,), reads=True)
        watcher.walked(plan.entries, plan.bytes)
        begun_at = datetime.now(UTC)
        with copies_in_use.held(config, plan.copy):
            result = _run_job(RESTORE, request, resource, access, plan.copy, on_event)
        if not result.problem_count:
            took = (datetime.now(UTC) - begun_at).total_seconds()
            record_speed(config, plan.choice, result.files, result.bytes, took)
        return result

    in_place_outcome = NOTHING
    with _allowed(config, request, resource):
        if request.in_place:
            before = in_place.unfinished_before(config, resource, request.path, resume=request.resume)
            _check_unchanged(plan, _run_job(LOOK, request, resource, access, plan.copy))
            keeps = in_place.will_keep(before, is_wanted=request.safety)
            if keeps is not plan.keeps:
                hint = "Run it again to see what it would do now."
                raise RestoreOutdated("another restore of this volume was begun or ended meanwhile", hint)
            over = InPlace(
                config=config,
                resource=resource,
                copy=plan.copy,
                path=request.path,
                keep=keeps,
                before=before,
                resume=request.resume,
            )
            done, in_place_outcome = in_place.restore_in_place(over, watcher, restore_files)
        else:
            done = _told_where(plan, restore_files)
    watcher.ended(plan.copy.target, "failed" if done.problems else "complete", "")
    return Restored(plan, done, started_at, datetime.now(UTC), in_place_outcome)


def _told_where(plan: RestorePlan, restore_files: Callable[[], RestoreResult]) -> RestoreResult:
    """Say, where it is stopped, that a part of it is there: the same command would be refused next time."""
    try:
        return restore_files()
    except (Stopped, CalledOff) as error:
        request = plan.request
        with suppress(OSError):
            if not request.is_ours and os.listdir(request.to):
                hint = f"{request.to} holds a part of it. To complete it, restore the same again with --merge."
                raise type(error)(error.message, hint) from None
        raise


def _check_unchanged(plan: RestorePlan, look: RestoreLook) -> None:
    """What was confirmed is what is deleted: the volume went on living while the question stood. Raises."""
    if look.deleted > plan.deleted:
        raise RestoreOutdated(
            f"{count(look.deleted, 'entry', 'entries')} would be deleted by now, "
            f"not the {plan.deleted} that were shown",
            "Stop what writes to the volume, and run it again to see what it would delete.",
        )


def _chosen(config: Config, request: Request, resource: ResourceConfig) -> RestorePlan:
    targets = [target.name for target in config.targets]
    wanted = CopyRequest(request.origin, request.at, request.snapshot, request.lineage)
    copies = view.configured(config, resource.name, adopted=True)
    if request.snapshot:  # a safety copy is only restored by its name
        copies += view.configured_safety(config, resource.name)
    is_retired = retired_targets.retired(config)
    found = candidates(copies, wanted, config.node, config.nodes, targets, is_retired)
    looks: dict[tuple[str, str], RestoreLook] = {}
    access = CopyAccess(config)

    def why_not(copy: Copy) -> str:
        def look() -> None:
            looks[copy.medium, copy.snapshot] = _run_job(LOOK, request, resource, access, copy)

        return access.why_not(copy, look)

    choice = choose(found, config.node, why_not)
    if choice.out_of_reach and request.yes:
        raise OutOfReach(
            f"the newest that matches cannot be read:\n{passed_over_lines(choice.out_of_reach)}",
            f"The next is {choice.copy.snapshot} at {choice.copy.location}: name it with --snapshot to take it.",
        )
    planned = _planned(request, resource, choice, looks[choice.copy.medium, choice.copy.snapshot])
    if newer := newer_adopted([] if request.snapshot else matching(copies, wanted), choice.copy):
        warning = f"{newer.snapshot} at {newer.location} is newer, but unsigned: --snapshot NAME restores it"
        planned = replace(planned, warnings=(*planned.warnings, warning))
    if gone := retired_targets.newer([] if request.snapshot else matching(copies, wanted), choice.copy, is_retired):
        warning = f"{gone.snapshot} at {gone.location} is newer, but no node has the target {gone.target} any more"
        planned = replace(planned, warnings=(*planned.warnings, warning))
    if not request.in_place:
        return planned
    before = in_place.unfinished_before(config, resource, request.path, resume=request.resume)
    return replace(
        planned, busy=in_place.busy(config, resource, request.path), services=resource.services,
        keeps=in_place.will_keep(before, is_wanted=request.safety), kept_before=before.safety if before else "",
    )  # fmt: skip


def _checked(config: Config, request: Request) -> Request:
    """The request with absolute and plain paths. Raises UsageError for what is invalid or not safe."""
    if bool(request.to) == request.in_place:
        message = "not both --to and --in-place" if request.to else "say where to restore to"
        raise UsageError(message, "Either --to DIR, or --in-place over the volume itself.")
    if request.merge and request.in_place:
        raise UsageError("--merge needs --to", "--in-place restores the volume to the state of the snapshot.")
    path = paths.within(config, request.path)
    to = paths.outside(config, request.to, is_ours=request.is_ours) if request.to else ""
    return replace(request, path=path, to=to)


@contextmanager
def _allowed(config: Config, request: Request, resource: ResourceConfig) -> Iterator[None]:
    """Over the volume: no run goes on meanwhile, and this node is its Primary. Raises Locked, RoleError."""
    with ExitStack() as stack:
        if request.in_place:
            stack.enter_context(lock.held(lock_file(config)))
            judge(config, resource, peer_is_stopped=request.peer_is_stopped)
        yield


def judge(config: Config, resource: ResourceConfig, *, peer_is_stopped: bool) -> None:
    """Raises RoleError unless this node may write to the volume, and no other one does.

    With two Primaries a run may read what both write; what is replaced below one that has it mounted is torn apart.
    """
    refused = f"{resource.name} is not restored in place here"
    hint = "Restore on the node that is Primary, or to another folder with --to."
    if gate.require(config, resource, refused, hint).is_shared and not peer_is_stopped:
        raise RoleError(
            f"{refused}: {resource.name} is Primary on another node too, which may have it mounted and write to it",
            "Unmount it there and make that node Secondary; if nothing there can use it: --peer-is-stopped.",
        )


def _run_job(
    conversation: Conversation[RestoreJobT, EventT, EndT], request: Request, resource: ResourceConfig,
    access: CopyAccess, copy: Copy, on_event: Callable[[EventT], Answer | None] = lambda _: None,
) -> EndT:  # fmt: skip
    """Have the caged job look, or restore."""
    mounted = mounted_now(resource.source)

    def why_stop() -> str:
        return unmounted(resource.source, mounted) if request.in_place else ""

    def job(here: NodeFacts, at: CopyToRead) -> RestoreJobT:
        where = OverVolume(resource.source, mounted) if request.in_place else ToFolder(request.to, request.merge)
        return conversation.job(here=here, copy=at, path=request.path, destination=where, exclude=resource.exclude)

    return run_read_job(
        conversation, access, copy, job, on_event, why_stop=why_stop, holds_lock=request.in_place
    )


def _planned(request: Request, resource: ResourceConfig, choice: Choice, look: RestoreLook) -> RestorePlan:
    lacks = 0 if request.in_place or look.free is None else max(0, look.needs - look.free)
    missing = _missing_room(look, lacks)
    if missing and request.yes:
        raise DestinationFull(missing, "Make room, or choose another folder.")
    warnings = [
        missing,
        "this copy was found damaged" if choice.copy.damaged_at else "",
        f"{count(look.unread, 'entry', 'entries')} could not be read when it was made" if look.unread else "",
        "it is not fully known what it leaves out, so nothing is deleted" if not look.may_delete else "",
        _UNSIGNED if request.in_place and look.may_delete and not choice.copy.sidecar_sha256 else "",
    ]
    return RestorePlan(
        request=request, resource=resource.name, choice=choice,
        destination=resource.source if request.in_place else request.to, entries=look.entries, files=look.files,
        bytes=look.bytes, free=look.free, deleted=look.deleted, deleted_bytes=look.deleted_bytes, shown=look.shown,
        warnings=tuple(filter(None, warnings)), missing=lacks,
        modified_ns=look.modified_ns, failed_above=look.failed_above, inside=look.inside,
    )  # fmt: skip


def _missing_room(look: RestoreLook, lacks: int) -> str:
    if not lacks:
        lacks = look.lacks_inodes
        return f"its file system has too few inodes: {lacks:,} are missing there (`df -i`)" if lacks else ""
    return f"it needs {size(look.needs)}, and {size(look.needs - lacks)} are free there: {size(lacks)} are missing"


def record_speed(config: Config, choice: Choice, files: int, size: int, seconds: float) -> None:
    """So many files and bytes of a copy are back. That this cannot be recorded makes no restore a failed one."""
    over_ssh = choice.way is Way.PEER
    facts = rates.measured(config.node, choice.copy, Work.RESTORED, files, size, seconds, over_ssh=over_ssh)
    if facts:
        with suppress(CatalogError):
            store.record(config.state_dir, config.node, facts)

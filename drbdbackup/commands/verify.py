"""`verify`: reads copies again on the targets of this node, and puts what it found into the catalog.

A copy is called damaged only by what was read of it; a target that cannot be read proves nothing about its copies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from drbdbackup.catalog import bodies, rates, store, view
from drbdbackup.catalog.facts import Fact
from drbdbackup.catalog.rates import Work
from drbdbackup.commands.reaching import Order, Reaching, alone, attended
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import Damaged, DrbdBackupError, NothingFound, PartialResult, Stopped, UsageError
from drbdbackup.model.amount import count
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.choose import Way, resolved
from drbdbackup.pipeline.watching import Progress, Watcher

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%\Z")


@dataclass(frozen=True, slots=True)
class Verified:
    """One copy: `files` and `bytes` that were read and found right, or why it could not be read (`error`).

    `problems` are the first 1000 of `problem_count`, as (path, why); `share` of its files was to be read, 1.0 for all;
    it took `seconds`.
    """

    copy: Copy
    share: float
    files: int = 0
    bytes: int = 0
    problems: tuple[tuple[str, str], ...] = ()
    problem_count: int = 0
    error: DrbdBackupError | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        """Whether it was read and nothing was wrong."""
        return self.error is None and not self.problem_count


def share_of(text: str) -> float:
    """"5%" as 0.05. Raises UsageError."""
    found = _SHARE.match(text.strip())
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample {text} is not a share", 'Allowed: above 0% and up to 100%, like "5%".')
    return share


def verify(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    snapshot: str = "", share: float = 1.0,
) -> tuple[Verified, ...]:  # fmt: skip
    """Read the newest copy of each resource on each target of this node, or those of `snapshot` (or what begins so).

    What was found is passed on: the other node must not take what is damaged either.

    Raises NothingFound if there is none, UsageError for a beginning of several snapshots' names.
    """
    wanted = [copy for one in resources for copy in _wanted(config, one, targets, snapshot)]
    if not wanted:
        what = f"no copy of {snapshot} lies" if snapshot else "no copy lies"
        raise NothingFound(f"{what} on a target of {config.node}", "`drbdbackup list` shows what there is, and where.")
    reaching = Reaching(config)
    found = tuple(verified_copy(config, reaching, copy, share, watcher) for copy in wanted)
    roads.put_all(config, None, on_volume=False)
    return found


def exit_status(verified: Sequence[Verified]) -> int:
    """1 for damage, or if nothing could be read (its own where all say the same); 3 if only some could."""
    if any(one.problem_count for one in verified):
        return Damaged.status
    errors = [one.error for one in verified if one.error is not None]
    if errors and len(errors) == len(verified):
        return max({error.status for error in errors}) if len({error.status for error in errors}) == 1 else 1
    return PartialResult.status if errors else 0


def copies_here(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], *, safety: bool = False
) -> list[Copy]:
    """The copies that lie on these targets of this node, newest first; then, with `safety`, what restores have kept."""
    names = [target.name for target in targets]
    known = view.copies(config.state_dir, resource.name, names)
    if safety:
        known += view.safety(config.state_dir, resource.name, names)
    return [copy for copy in known if copy.target in names and copy.holder in ("", config.node)]


def is_kept(config: Config, copy: Copy) -> bool:
    """Whether the catalog still has it: a run that prunes waits for no reader."""
    known = view.safety if copy.purpose else view.copies
    kept = known(config.state_dir, copy.resource, [copy.target])
    return any((one.medium, one.snapshot) == (copy.medium, copy.snapshot) for one in kept)


def damage(config: Config, found: Verified) -> Fact:
    """The fact of what was found wrong."""
    told = [f"{path}: {why}".removeprefix(": ") for path, why in found.problems]
    plain = [text.encode(errors="replace").decode() for text in told]
    return bodies.damaged(config.node, datetime.now(UTC), found.copy, plain)


def _wanted(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], snapshot: str
) -> list[Copy]:
    here = copies_here(config, resource, targets, safety=bool(snapshot))
    if snapshot:
        name = resolved(snapshot, here, "")
        return [copy for copy in here if copy.snapshot == name]
    newest: dict[str, Copy] = {}
    for copy in here:
        newest.setdefault(copy.target, copy)
    return list(newest.values())


def verified_copy(config: Config, reaching: Reaching, copy: Copy, share: float, watcher: Watcher) -> Verified:
    """Read `share` of one copy, and record what was found."""
    watcher.begun(copy.resource, (copy.target,))
    watcher.walked(copy.files, int(copy.bytes * share))
    found = _read(config, reaching, copy, share, watcher)
    problems = count(found.problem_count, "problem") if found.problem_count else ""
    problem = found.error.message if found.error else problems
    watcher.ended(copy.target, "failed" if problem else "complete", problem)
    return found


def _read(config: Config, reaching: Reaching, copy: Copy, share: float, watcher: Watcher) -> Verified:
    def hear(event: Event) -> None:
        if event.name == "progress":
            watcher.progress(copy.target, Progress(**event.fields))

    begun = monotonic()
    try:
        with ExitStack() as stack:
            if reaching.way(copy) is Way.OWN_DISK:
                stack.enter_context(alone(config))
            said = attended(config, Order(copy, {"job": "verify", "share": share}, hear), reaching)
    except Stopped:
        raise
    except (Damaged, NothingFound) as error:  # the medium is the right one, and the copy is not there (any more)
        if not is_kept(config, copy):
            return Verified(copy, share, error=NothingFound(f"{copy.snapshot} was pruned while it was read"))
        found = Verified(copy, share, problems=(("", error.message),), problem_count=1, finished_at=datetime.now(UTC))
    except DrbdBackupError as error:
        return Verified(copy, share, error=error)
    else:
        if said["wanted"] and not said["files"] and not said["problem_count"]:
            return Verified(copy, share, error=DrbdBackupError("none of its files was read"))
        problems = tuple((path, why) for path, why in said["problems"])
        found = Verified(
            copy, share, said["files"], said["bytes"], problems, said["problem_count"], finished_at=datetime.now(UTC),
            seconds=monotonic() - begun,
        )  # fmt: skip
    _record(config, found)
    return found


def _record(config: Config, found: Verified) -> None:
    node, now = config.node, datetime.now(UTC)
    if found.problem_count:
        facts = [damage(config, found)]
    else:
        took = rates.measured(node, found.copy, Work.VERIFIED, found.files, found.bytes, found.seconds)
        facts = [bodies.verified(node, now, found.copy, found.files, found.bytes, found.share), *took]
    store.record(config.state_dir, node, facts)

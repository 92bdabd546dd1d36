"""`scrub`: a node that stands by reads a part of its copies again each night, and so all of them in some weeks.

It is silent unless something is damaged, delays nothing else (a lock of its own, a deadline, the lowest priority), and
ends as soon as the node is Primary. A medium that cannot be read proves nothing; it is read another night.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic

from msgspec import Struct, field

from drbdbackup import lock, proc
from drbdbackup.catalog import bodies, scrubs, store
from drbdbackup.catalog.scrubs import Scrub, Turn
from drbdbackup.commands.verify import REMOVED, Verified, copies_here, damage, is_kept
from drbdbackup.config.target_kinds import has_tree
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import CalledOff, Interrupted, Locked, NothingFound, TargetError, Unguarded
from drbdbackup.model.backup import Copy
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.cage.protocol import NodeFacts
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.copies.read_protocol import CopyToRead, Unread
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.verify.scrub_protocol import SCRUB, ScrubEnd, ScrubEvent, ScrubJob
from drbdbackup.pipeline.verify.verify_protocol import NO_EXTRAS, Extras
from drbdbackup.pipeline.volume.standby_watch import Standby, standing_by


class Scrubbed(Struct, frozen=True):
    """What one medium's turn came to. `found` has each copy that was looked at; `ended` says what cut it short."""

    resource: str
    target: str
    location: str
    scrub: Scrub
    found: tuple[Verified, ...] = ()
    ended: str = ""


class _Work(Struct):
    """One medium's turn under way: the copies still to be read, and what its job has reported."""

    turn: Turn
    of: int
    copies: list[Copy]
    found: list[Verified] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    left: tuple[str, int] | None = None

    def on_event(self, event: ScrubEvent) -> None:
        """Add what the job reports of a copy."""
        if isinstance(event, Progress):
            return
        copy = next((one for one in self.copies if one.snapshot == event.snapshot), None)
        if copy is None:
            return
        if isinstance(event, Unread):
            self.whole.append(copy.snapshot)
            # Of a share the Primary removes copies at this very hour, and says so only when its run is over. What an
            # admin has removed there its next run notes.
            if event.is_gone and not copy.holder:
                return
            if event.is_gone:
                gone = NothingFound(event.why, REMOVED)
                self.found.append(Verified(copy=copy, share=1 / self.of, error=gone))
                return
            self._find(copy, 0, 0, (Problem("", event.why),), 1)
        else:
            if event.is_whole:
                self.whole.append(copy.snapshot)
            self._find(copy, event.files, event.bytes, event.problems, event.problem_count, event.extras)

    def _find(
        self, copy: Copy, files: int, size: int, problems: tuple[Problem, ...], count: int,
        extras: Extras = NO_EXTRAS,
    ) -> None:  # fmt: skip
        now = datetime.now(UTC)
        self.found.append(Verified(
            copy=copy, share=1 / self.of, files=files, bytes=size, problems=problems, problem_count=count,
            finished_at=now, extras=extras,
        ))

    def stop(self) -> None:
        """It was cut short: the copy that was being read is begun again where the last night has left it."""
        if self.turn.left is not None and not self.whole:
            self.left = self.turn.left
        else:
            self.left = next(((one.snapshot, 0) for one in self.copies if one.snapshot not in self.whole), None)


def scrub(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> tuple[Scrubbed, ...]:
    """Read the next share of each medium, this node's own disks first: the Primary may be writing to a share just now.

    Raises CatalogError. Nothing if another scrub is at work, or if `verify.share` is 0.
    """
    if not config.verify.share:
        return ()
    done: list[Scrubbed] = []
    until = monotonic() + config.limits.verify
    try:
        with lock.held(os.path.join(config.state_dir, "scrub.lock")):
            media = _media(config, resources, targets)
            if not media:
                return ()
            proc.prepare()  # following the roles starts threads
            with standing_by(config, resources) as standby:
                for copies in media:
                    if (done and monotonic() > until) or standby.why_over():
                        break
                    done.append(_turn(config, copies, standby, until))
    except Locked:
        return ()
    if done:
        catalog_exchange.put_all(config, None, on_volume=False)
    return tuple(done)


def _media(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> list[list[Copy]]:
    """The undamaged copies on each medium within reach, newest first; what is known to be damaged was reported."""
    media: dict[tuple[str, str], list[Copy]] = {}
    for resource in resources:
        for copy in copies_here(config, resource, targets):
            if copy.damaged_at is None:
                media.setdefault((copy.medium, resource.name), []).append(copy)
    return sorted(media.values(), key=lambda copies: copies[0].holder == "")


def _turn(config: Config, copies: list[Copy], standby: Standby, until: float) -> Scrubbed:
    first = copies[0]
    of = math.ceil(1 / config.verify.share - 1e-9)
    turn = scrubs.next_turn(scrubs.known(config.state_dir, first.resource), first.medium, of)
    work = _Work(turn, of, [copy for copy in copies if copy.snapshot not in turn.done])
    ended = ""
    try:
        work.left = _read(config, work, standby, until).left if work.copies else None
    except CalledOff:
        raise
    except (Interrupted, Locked, TargetError, Unguarded) as error:
        ended = error.message
        work.stop()
    doubtful = [one for one in work.found if one.problem_count or one.error]
    if doubtful:
        # the Primary may have pruned it meanwhile: its run is at work at the same time
        catalog_exchange.fetch_all(config)
    found = [one for one in work.found if one not in doubtful or is_kept(config, one.copy)]
    well = [one for one in found if one not in doubtful]
    is_proof = has_tree(first.kind)  # an engine's packs are none of what the manifest says
    names = tuple(one.copy.snapshot for one in well if is_proof and one.copy.snapshot in work.whole)
    scrubbed = Scrub(
        medium=first.medium, resource=first.resource, turn=turn.number, part=turn.part, of=of, at=datetime.now(UTC),
        snapshots=names, files=sum(one.files for one in well), bytes=sum(one.bytes for one in well), left=work.left,
    )  # fmt: skip
    facts = [damage(config, one) for one in found if one.problem_count]
    facts += [bodies.pruned(config.node, scrubbed.at, one.copy, bodies.GONE) for one in found if one.error]
    if not ended or work.whole:
        facts.append(scrubs.scrubbed(config.node, scrubbed))
    store.record(config.state_dir, config.node, facts)
    return Scrubbed(first.resource, first.target, first.location, scrubbed, tuple(found), ended)


def _read(config: Config, work: _Work, standby: Standby, until: float) -> ScrubEnd:
    """Let a cage read. Raises Interrupted when the node does not stand by any more, TargetError."""
    access, first = CopyAccess(config), work.copies[0]

    def job(here: NodeFacts, at: CopyToRead) -> ScrubJob:
        return ScrubJob(
            here=here, copy=at, part=work.turn.part, of=work.of, left=work.turn.left, before=work.turn.before,
            snapshots=tuple(copy.snapshot for copy in work.copies), seconds=max(0.0, until - monotonic()),
            ignore=config.verify.ignore,
        )  # fmt: skip

    return run_read_job(SCRUB, access, first, job, work.on_event, others=work.copies[1:], why_stop=standby.why_over)

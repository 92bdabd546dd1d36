"""The caged job of a dry run: what a copy would need on its target. It changes nothing."""

from __future__ import annotations

from contextlib import ExitStack

from drbdbackup.manifest import KINDS
from drbdbackup.pipeline.cage.protocol import MediumOpened, Opening
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.snapshot.copy_protocol import CopyJob, Forecast
from drbdbackup.pipeline.snapshot.estimate import estimate_copy, shortage, space
from drbdbackup.pipeline.snapshot.link_sources import newest_base
from drbdbackup.pipeline.snapshot.plan import Planner
from drbdbackup.pipeline.snapshot.target_limits import LimitsForecast
from drbdbackup.pipeline.target.open_target import secluded
from drbdbackup.pipeline.target.published_snapshots import published
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.scan import Spool
from drbdbackup.targets import abilities, identity, layout
from drbdbackup.targets.filesystem_limits import bounds
from drbdbackup.targets.sidecar import KEPT_PROBLEMS


def do(job: CopyJob, channel: Channel) -> Forecast:
    """What a run would copy to the job's target and the room for it."""
    about = job.about
    guarded(job)

    def tell(entries: int) -> None:
        channel.send_progress(Progress(entries, 0, 0))

    # A share is opened as the run opens it, which writes nothing: what the run will report is reported now.
    is_there = not job.target.is_mounted_for_use
    channel.send(Opening())
    with secluded(job.target, job.here, write=is_there, resource=job.resource) as medium, ExitStack() as stack:
        if is_there:
            layout.refuse_unwritable(medium.root, job.resource)
        if medium.identity is not None or about.expected:
            identity.check(medium, about.expected, job.here.node, may_enrol=False)
        identity.refuse_foreign(medium, about.nodes, about.ours)
        marked = medium.identity.medium if medium.identity else ""
        known = published(medium, marked, job.resource)
        backups = known.backups
        channel.send(MediumOpened())
        last = backups[-1] if backups else None
        can = dict(last.abilities) if last else {}
        engine = medium.engine
        base = newest_base(
            medium.root, backups, about, can, stack, job.scratch,
            lambda name: engine.show(job.resource, name, tree=False) if engine else None,
        )  # fmt: skip
        bases = [base] if base else []
        can_share = engine or can.get("hard_links") or can.get("subvolumes")
        planner = Planner(bases if can_share else [], KINDS)
        spool, there = Spool(job.spool, job.patience), space(medium)
        held = bounds(medium.fstype, there.block, nanoseconds=can.get("nanoseconds", True))
        foretold = LimitsForecast(job.source, held, can)
        estimate = estimate_copy(
            spool, planner, bases, source=job.source, block=there.block, tell=tell,
            look=foretold.look if engine is None else lambda _: None,
        )  # fmt: skip
        counts = {**estimate.counts, "needed_bytes": estimate.laid_out}
        if engine is None:
            counts["free_bytes"] = there.free
        problems = (*spool.problems, *foretold.problems)
        return Forecast(
            counts=counts, medium=marked, room=shortage(estimate, there, bases, spool), snapshots=known.copies,
            problems=problems[:KEPT_PROBLEMS],
            problem_count=len(spool.problems) + foretold.count,
            recycles=engine is None and job.target.recycle and bool(bases) and abilities.from_document(can).can_recycle,
        )  # fmt: skip

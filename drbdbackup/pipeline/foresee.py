"""The caged job of a dry run: the same plan as a real one, and nothing is done with it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from drbdbackup.pipeline.bases import newest_base, trust
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.opening import target_config
from drbdbackup.pipeline.plan import Planner, Step, size_of
from drbdbackup.pipeline.source import guarded
from drbdbackup.scan import Spool
from drbdbackup.targets import identity, layout, target

_COPIES = (Step.COPY, Step.COPY_GROUP)


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """What a run would copy to the job's target: `counts` of entries, and of those to be copied, with their bytes."""
    guarded(job)
    counts = {"entries": 0, "copied": 0, "copied_bytes": 0, "gone": 0}
    place = target(target_config(job["target"]), job["marks"])
    with place.opened(job["node"], write=False) as medium, ExitStack() as stack:
        if medium.identity is not None or job["expected"]:
            identity.check(medium, job["expected"], job["node"], may_enrol=False)
        last = next(reversed(layout.snapshots(medium.root, job["resource"])), None)
        can = dict(last.abilities) if last else {}
        trusted = trust(job["damaged"], job["verified"])
        base = newest_base(medium.root, job["resource"], trusted, can, stack)
        can_share = can.get("hard_links") or can.get("subvolumes")
        planner = Planner([base] if base and can_share else [], b"fdlpscb")

        def gone(_: bytes) -> None:
            counts["gone"] += 1

        if base is not None:
            base.on_gone = gone
        for line in Spool(job["spool"], job["patience"]):
            counts["entries"] += 1
            if planner.decide(line).step in _COPIES:
                counts["copied"] += 1
                counts["copied_bytes"] += size_of(line)
            channel.progress(entries=counts["entries"], done_bytes=0, copied_bytes=0)
        if base is not None:
            base.finish()
    return {"counts": counts}

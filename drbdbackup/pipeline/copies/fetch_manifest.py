"""Bringing the manifest of a snapshot here, from the nearest copy that gives it; then the medium is let go of.

It never reads files of the copy, and no medium stays open for it.
"""

from __future__ import annotations

from collections.abc import Callable

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.cage.protocol import NodeFacts
from drbdbackup.pipeline.copies.choose import CopyRequest, candidates, choose
from drbdbackup.pipeline.copies.fetch_protocol import FETCH, FetchJob
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.copies.read_protocol import CopyToRead


def fetched(
    config: Config, resource: ResourceConfig, snapshot: str, into: str, *, plain: bool = False,
    why_stop: Callable[[], str] = lambda: "",
) -> Copy:  # fmt: skip
    """Bring it into a new file, as it is or (`plain`) as the lines that it holds; the copy that gave it.

    `why_stop` says why to give up at once (see `run_job`). Raises NothingFound if no copy gives it, UsageError for a
    beginning of several names, and Interrupted for what `why_stop` says.
    """
    targets = [target.name for target in config.targets]
    copies = view.configured(config, resource.name, adopted=True)
    # found by its name, and nobody asks for less here
    copies += view.configured_safety(config, resource.name)
    found = candidates(copies, CopyRequest(snapshot=snapshot), config.node, config.nodes, targets)
    access = CopyAccess(config)

    def job(here: NodeFacts, at: CopyToRead) -> FetchJob:
        return FetchJob(here=here, copy=at, into=into, plain=plain)

    def why_not(copy: Copy) -> str:
        def look() -> None:
            run_read_job(FETCH, access, copy, job, why_stop=why_stop)

        return access.why_not(copy, look)

    return choose(found, config.node, why_not).copy

"""What all nodes together have done, from what is known of their copies and runs: the evidence for `oversight`.

It only gathers: `oversight` judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from drbdbackup import due, oversight
from drbdbackup.catalog import view
from drbdbackup.config.values import Config
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Copy, Reach
from drbdbackup.oversight import NodeSeen, PairVerdict, Watched
from drbdbackup.pipeline.copies.known_copies import KnownCopy, last_heard, living, undamaged


def last_due(config: Config, now: datetime) -> datetime | None:
    """The newest due time whose backup must be there by now."""
    return due.last_due(config, now - timedelta(seconds=config.limits.grace))


def overseen(
    config: Config, resource: str, copies: Sequence[Copy], now: datetime, apart: tuple[str, ...] = ()
) -> PairVerdict:
    """The verdict on the pair; `copies` as `view.copies` has them, `apart` are the peers whose link DRBD gave up."""
    lines = lineages(copies)
    backup = undamaged(living(tuple(KnownCopy(copy, Reach.UNKNOWN, lines.of(copy)) for copy in copies)))
    heard = {one.node: one.seen_at for one in last_heard(config)}
    nodes = [
        NodeSeen(node, heard.get(node), view.last_run_of(config.state_dir, resource, node), node == config.node)
        for node in config.nodes
    ]
    return oversight.judge(Watched(
        now=now, due=last_due(config, now), silence=timedelta(seconds=config.limits.silence), nodes=nodes,
        backup=backup.copy if backup else None, began=view.first_run_at(config.state_dir, resource),
        rivals=tuple(line.name for line in lines.rivals), apart=apart,
    ))  # fmt: skip

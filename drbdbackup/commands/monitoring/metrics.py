"""Writes the metrics for Prometheus's node_exporter after a run: the whole file or nothing, readable by everybody.

Nothing that goes wrong here is a backup's failure: the caller decides whether to mention it. Nor does anything
that hangs hold a run: a timer would start no further one while this one has not ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drbdbackup.catalog import rates, view
from drbdbackup.config.values import Config
from drbdbackup.due import due_since
from drbdbackup.errors import DrbdBackupError, Failure
from drbdbackup.exposure import Known, left, losses
from drbdbackup.health import exported_file
from drbdbackup.health.judge import PairEvidence
from drbdbackup.oversight import PairState
from drbdbackup.pipeline.copies.known_copies import last_heard

if TYPE_CHECKING:
    from drbdbackup.report.monitoring.metrics import MeasuredResource


def write(config: Config, found: Sequence[PairEvidence]) -> DrbdBackupError | None:
    """Write the file from what was seen of all resources; the error, if it could not be done."""
    from drbdbackup.report.monitoring import metrics

    try:
        heard = {one.node: one.seen_at for one in last_heard(config) if one.seen_at and one.node != config.node}
        content = metrics.text([_measured(config, one) for one in found], heard, found[0].rooms)
        exported_file.replace(config.metrics.textfile, content, config.limits.probe, "metrics were", "metrics")
    except Failure as error:
        return error
    return None


def _measured(config: Config, seen: PairEvidence) -> MeasuredResource:
    from drbdbackup.report.monitoring.metrics import MeasuredResource

    state, name = config.state_dir, seen.resource
    runs = (view.last_run_of(state, name, node) for node in config.nodes)
    copies = [(one.copy, one.reach) for one in seen.known if not one.is_discarded]
    known = Known(config.node, seen.now, copies, rates.known(state, name))
    is_new = seen.newest is None and seen.pair.state is not PairState.CRITICAL
    return MeasuredResource(
        seen=seen, runs=[run for run in runs if run is not None], cases=[left(known, one) for one in losses(config)],
        is_overdue=not is_new and due_since(config, name, seen.now) is not None,
        targets=frozenset(target.name for target in config.targets), nodes=config.nodes,
    )  # fmt: skip

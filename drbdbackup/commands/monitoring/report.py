"""Writes the report after a run, or where it is asked for: the whole page or nothing, readable by everybody.

Nothing that goes wrong here is a backup's failure: the caller decides whether to mention it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from drbdbackup import schedule
from drbdbackup.catalog import history, rates
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import DrbdBackupError, Failure, UsageError
from drbdbackup.exposure import Known, left, losses
from drbdbackup.health import evidence, exported_file
from drbdbackup.health.judge import PairEvidence, Thresholds, judge
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Reach
from drbdbackup.moment import local_zone

if TYPE_CHECKING:
    from drbdbackup.report.html.page import ReportedResource


def write(config: Config, resources: tuple[ResourceConfig, ...], file: str) -> int:
    """Look at these resources and write the page; its size in bytes. Raises Failure."""
    if file == "-":
        raise UsageError("--html - is no file: the page is not printed", "Name a file: --html /tmp/page.html")
    if os.path.lexists(file) and not os.path.isfile(file):
        raise Failure(f"the report was not written: {file} is no file, and would be replaced", "Name another one.")
    return _put(config, evidence.gather(config, resources), file)


def _put(config: Config, seen: Sequence[PairEvidence], file: str) -> int:
    from drbdbackup.report.html import page

    content = page.html(config.node, config.nodes, [_reported(config, one) for one in seen])
    exported_file.replace(file, content, config.limits.probe, "report was", "report")
    return len(content)


def after_run(config: Config, seen: Sequence[PairEvidence]) -> DrbdBackupError | None:
    """Write it where the configuration says, from what was seen; the error, if it could not be done."""
    try:
        _put(config, seen, config.report.html)
    except Failure as error:
        return error
    return None


def _reported(config: Config, seen: PairEvidence) -> ReportedResource:
    from drbdbackup.report.html.page import NIGHTS, LineageLosses, ReportedResource

    counting = [one for one in seen.known if not one.retired]
    reach = {(one.copy.medium, one.copy.snapshot): one.reach for one in counting}
    copies = [one.copy for one in counting]
    lines, measured = lineages(copies), rates.known(config.state_dir, seen.resource)
    found = []
    for line in lines.rivals or ((None,) if copies else ()):
        chosen = lines.chosen(copies, line.generation if line else "")
        known = [(copy, reach.get((copy.medium, copy.snapshot), Reach.UNKNOWN)) for copy in chosen]
        what_is_left = Known(config.node, seen.now, known, measured)
        cases = [left(what_is_left, one) for one in losses(config)]
        found.append(LineageLosses(line.name if line else "", cases))
    return ReportedResource(
        health=judge(seen, config.check, Thresholds()), done=history.activities(config.state_dir, seen.resource),
        losses=found, lines=lines, due=_due_days(config, seen.now, NIGHTS),
    )  # fmt: skip


def _due_days(config: Config, now: datetime, nights: int) -> frozenset[date]:
    """Of the last nights those on which a backup was due, as long ago as the configuration gives a run."""
    zone = local_zone()
    today = now.astimezone().date()
    found = set()
    for back in range(nights):
        day = today - timedelta(days=back)
        due = schedule.next_due(config.schedule, datetime.combine(day, time(), zone) - timedelta(minutes=1))
        if due.astimezone().date() == day and due <= now - timedelta(seconds=config.limits.grace):
            found.add(day)
    return frozenset(found)

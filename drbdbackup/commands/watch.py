"""`watch`: what `latest` and `status` say, and what another node has begun, whenever it is asked. It only looks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from drbdbackup.catalog import view
from drbdbackup.commands.latest import Latest, latest
from drbdbackup.commands.status import Status, status
from drbdbackup.config.values import Config, ResourceConfig


class BegunElsewhere(Struct, frozen=True):
    """A snapshot of another node that has a copy on these targets, and of which no run is known to have ended."""

    resource: str
    node: str
    snapshot: str
    started_at: datetime
    targets: tuple[str, ...]


class WatchedPair(Struct, frozen=True, kw_only=True):
    """All that is known at this moment."""

    at: datetime
    latest: tuple[Latest, ...]
    status: Status
    elsewhere: tuple[BegunElsewhere, ...] = ()


def look(config: Config, resources: tuple[ResourceConfig, ...]) -> WatchedPair:
    """Try every road, ask the gate and the catalog."""
    found, now = latest(config, resources), datetime.now(UTC)
    since = now - timedelta(seconds=config.limits.run)
    elsewhere = tuple(one for known in found for one in begun_elsewhere(config, known, since))
    return WatchedPair(at=now, latest=found, status=status(config, resources), elsewhere=elsewhere)


def begun_elsewhere(config: Config, known: Latest, since: datetime) -> Iterator[BegunElsewhere]:
    """What other nodes began since then (aware), and which is not known to have ended.

    A run that was killed looks the same, for as long as one may take.
    """
    young = [one.copy for one in known.copies if one.copy.started_at >= since and one.copy.node != config.node]
    ended = {run.snapshot or run.name for run in view.runs(config.state_dir, known.resource)} if young else set()
    for name in dict.fromkeys(copy.snapshot for copy in young if copy.snapshot not in ended):
        copies = [copy for copy in young if copy.snapshot == name]
        targets = tuple(dict.fromkeys(copy.target for copy in copies))
        yield BegunElsewhere(known.resource, copies[0].node, name, copies[0].started_at, targets)

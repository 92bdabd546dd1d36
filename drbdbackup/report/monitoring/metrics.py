"""What Prometheus reads: the names, labels and values of all metrics (docs/monitoring.md has a table).

Both nodes say the same of a pair, so whoever asks takes `max by (resource)`. No sample has a time: that of a success is
its value, so that a node that only stands down does not move it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from drbdbackup import __version__
from drbdbackup.catalog.bodies import Run
from drbdbackup.exposure import Left, LossKind, Without
from drbdbackup.health.judge import PairEvidence, TargetRoom
from drbdbackup.model.backup import Copy, Outcome
from drbdbackup.oversight import PairState

PREFIX = "drbdbackup_"


class MeasuredResource(Struct, frozen=True, kw_only=True):
    """All that is exported of one resource: `runs` has the last one of each node, `cases` what would be lost.

    `targets` and `nodes` are those of the configuration: copies elsewhere are not counted.
    """

    seen: PairEvidence
    runs: Sequence[Run]
    cases: Sequence[Left]
    is_overdue: bool
    targets: frozenset[str]
    nodes: tuple[str, ...]


def text(resources: Sequence[MeasuredResource], heard: Mapping[str, datetime], rooms: Sequence[TargetRoom]) -> bytes:
    """The file for node_exporter, in Prometheus's text format; `heard` is when each node was last heard of."""
    registry = CollectorRegistry()
    registry.register(_Collected([*_all(resources), *_of_nodes(heard), *_of_targets(rooms), _build()]))
    return generate_latest(registry)


class _Collected(Collector):
    """What was gathered already."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return them."""
        yield from self._families


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, about, labels=labels)


def _build() -> GaugeMetricFamily:
    family = _gauge("build_info", "The version that wrote this file.", "version")
    family.add_metric([__version__], 1)
    return family


def _all(resources: Sequence[MeasuredResource]) -> Iterator[GaugeMetricFamily]:
    yield from _of_copies(resources)
    yield from _of_runs(resources)
    yield from _of_pairs(resources)
    yield from _of_losses(resources)


def _of_copies(resources: Sequence[MeasuredResource]) -> Iterator[GaugeMetricFamily]:
    place = ("resource", "target", "holder")
    success = _gauge("last_success_timestamp_seconds", "When the newest whole copy there was completed.", *place)
    number = _gauge("copies", "Copies that are kept there.", *place)
    damaged = _gauge("damaged_copies", "Copies that were read again and found damaged.", *place)
    size = _gauge("last_copy_size_bytes", "Size of all files of the newest backup.", "resource")
    files = _gauge("last_copy_files", "Files of the newest backup.", "resource")
    for one in resources:
        name, by_place = one.seen.resource, dict[tuple[str, str], list[Copy]]()
        for known in one.seen.known:
            if known.copy.target not in one.targets or known.copy.holder not in ("", *one.nodes):
                continue  # each name makes series, and another node could invent thousands
            by_place.setdefault((known.copy.target, known.copy.holder), []).append(known.copy)
        for (target, holder), copies in by_place.items():
            labels = [name, target, holder]
            whole = [copy.finished_at for copy in copies if copy.damaged_at is None and not copy.problems]
            number.add_metric(labels, len(copies))
            damaged.add_metric(labels, sum(copy.damaged_at is not None for copy in copies))
            if whole:
                success.add_metric(labels, max(whole).timestamp())
        if one.seen.newest is not None:
            size.add_metric([name], one.seen.newest.bytes)
            files.add_metric([name], one.seen.newest.files)
    yield from (success, number, damaged, size, files)


def _of_runs(resources: Sequence[MeasuredResource]) -> Iterator[GaugeMetricFamily]:
    labels = ("resource", "node")
    ended = _gauge("last_run_timestamp_seconds", "When a node's last run ended, a stand-down too.", *labels)
    took = _gauge("last_run_duration_seconds", "How long a node's last run took.", *labels)
    outcome = _gauge("last_run_outcome", "1 for how a node's last run ended, 0 for the others.", *labels, "outcome")
    for one in resources:
        for run in one.runs:
            values = [one.seen.resource, run.node]
            ended.add_metric(values, run.finished_at.timestamp())
            took.add_metric(values, (run.finished_at - run.started_at).total_seconds())
            for word in Outcome:
                outcome.add_metric([*values, word.value], float(run.outcome is word))
    yield from (ended, took, outcome)


def _of_pairs(resources: Sequence[MeasuredResource]) -> Iterator[GaugeMetricFamily]:
    state = _gauge("pair_state", "1 for the state of the pair, 0 for the others.", "resource", "state")
    overdue = _gauge("overdue", "1 if no node has met the last due time.", "resource")
    late = _gauge("target_late", "1 if the copy of a target with its own schedule is late.", "resource", "target")
    half = _gauge("half_restored", "1 if the volume is neither what it was nor what a restore makes it.", "resource")
    verified = _gauge("last_verified_timestamp_seconds", "When a copy was last verified completely.", "resource")
    drilled = _gauge("last_drill_timestamp_seconds", "When a copy was last restored in a drill.", "resource")
    for one in resources:
        seen = one.seen
        for word in PairState:
            state.add_metric([seen.resource, word.value], float(seen.pair.state is word))
        overdue.add_metric([seen.resource], float(one.is_overdue))
        for own in seen.own_schedules:
            late.add_metric([seen.resource, own.target], float(own in seen.late))
        half.add_metric([seen.resource], float(seen.restoring is not None and seen.restoring.is_half))
        for family, at in ((verified, seen.verified_at), (drilled, seen.drilled_at)):
            if at is not None:
                family.add_metric([seen.resource], at.timestamp())
    yield from (state, overdue, late, half, verified, drilled)


def _of_losses(resources: Sequence[MeasuredResource]) -> Iterator[GaugeMetricFamily]:
    labels = ("resource", "without")
    lost = _gauge("exposure_seconds", "Age of what would be left if the volume were lost now, and this too.", *labels)
    takes = _gauge("restore_estimate_seconds", "How long a restore would take then, as measured.", *labels)
    for one in resources:
        for case in one.cases:
            values = [one.seen.resource, _named(case.without)]
            if case.lost is not None:
                lost.add_metric(values, case.lost.total_seconds())
            if case.estimate is not None:
                takes.add_metric(values, case.estimate.seconds)
    yield from (lost, takes)


def _named(without: Without) -> str:
    if without.kind is LossKind.NOTHING:
        return "nothing"
    return f"{without.name}@{without.holder}" if without.holder else without.name


def _of_nodes(heard: Mapping[str, datetime]) -> Iterator[GaugeMetricFamily]:
    seen = _gauge("node_seen_timestamp_seconds", "When a catalog of another node last came here.", "node")
    for node, at in heard.items():
        seen.add_metric([node], at.timestamp())
    yield seen


def _of_targets(rooms: Sequence[TargetRoom]) -> Iterator[GaugeMetricFamily]:
    free = _gauge("target_free_bytes", "Room on a target, of a disk at its last use.", "target")
    total = _gauge("target_size_bytes", "Size of a target.", "target")
    inodes = _gauge("target_free_inodes", "Inodes that are free, where their number is fixed.", "target")
    used = _gauge("target_last_use_timestamp_seconds", "When the room on a disk was found out.", "target")
    needed = _gauge("target_needed_bytes", "What a night with many changes needs there.", "target")
    reachable = _gauge("target_reachable", "1 if a run here could use the target now.", "target")
    for room in rooms:
        if room.is_asked:
            reachable.add_metric([room.target], float(not room.problem))
        likely = room.need.likely if room.need else None
        at = room.seen_at.timestamp() if room.seen_at else None
        for family, value in (
            (free, room.free), (total, room.total), (needed, likely), (inodes, room.free_inodes), (used, at),
        ):  # fmt: skip
            if value is not None:
                family.add_metric([room.target], value)
    yield from (free, total, needed, inodes, used, reachable)

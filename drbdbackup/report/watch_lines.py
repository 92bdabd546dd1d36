"""What `watch` shows, as lines: the answers of `latest` and `status`, and a bar for each target of a job. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from drbdbackup.commands.watch import BegunElsewhere, WatchedPair
from drbdbackup.pipeline.progress_file import JobProgress, TargetProgress
from drbdbackup.report import overview, text

_LEAST, _MOST, _BESIDE = 6, 30, 54  # columns of a bar, and of what stands beside it
_DONE, _LEFT = "━", "─"
Rates = Mapping[tuple[int, str], float]  # bytes a second, by process and target


class RateMeter:
    """How fast each target of each job is, from what was seen of it in the last seconds."""

    def __init__(self, seconds: float = 15.0) -> None:
        """Nothing was seen yet."""
        self._seconds = seconds
        self._seen: dict[tuple[int, str], list[tuple[float, int]]] = {}

    def rates(self, jobs: Sequence[JobProgress]) -> Rates:
        """What is known with this. A target seen for the first time has none."""
        now = {(job.pid, one.name): (job.at, one.bytes) for job in jobs for one in job.targets}
        self._seen = {key: self._added(self._seen.get(key, []), found) for key, found in now.items()}
        return {
            key: (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
            for key, seen in self._seen.items() if seen[-1][0] > seen[0][0]
        }  # fmt: skip

    def _added(self, seen: list[tuple[float, int]], found: tuple[float, int]) -> list[tuple[float, int]]:
        if seen and (found[1] < seen[-1][1] or found[0] < seen[-1][0]):  # the next resource, or another clock
            return [found]
        kept = [one for one in seen if one[0] >= found[0] - self._seconds]
        return kept if kept and kept[-1] == found else [*kept, found]


def newest(seen: WatchedPair, width: int, now: datetime) -> Iterator[str]:
    """Where the newest backup is, and what another node has begun."""
    sentences = [overview.sentence(known, now) for known in seen.latest] + [_begun(one, now) for one in seen.elsewhere]
    yield from text.fitted([(one,) for one in sentences], width, wrap=(0,))


def standing(seen: WatchedPair, width: int, now: datetime) -> Iterator[str]:
    """What a run would do here, and how the pair is."""
    yield from overview.status(seen.status, width, now)


def jobs(under_way: Sequence[JobProgress], rates: Rates, width: int, now: datetime) -> Iterator[str]:
    """A line for each job of this node, and one for each of its targets."""
    if not under_way:
        yield "Nothing is under way on this node."
    for job in under_way:
        began = f"{job.what} of {job.resource}" if job.resource else job.what
        heading = f"{began}, process {job.pid}, began {text.when(job.started_at, now)}"
        yield from text.fitted([(heading,)], width, wrap=(0,))
        widest = max((len(one.name) for one in job.targets), default=0)
        yield from (_target(job, one, rates.get((job.pid, one.name)), width, widest) for one in job.targets)


def _target(job: JobProgress, one: TargetProgress, rate: float | None, width: int, widest: int) -> str:
    """`  to nas    ━━━━━━━──────  42%  9.7 of 23.0 GiB  30.9 MiB/s  7 min left`, of which the last goes first."""
    head = f"  {'from' if job.reads else 'to'} {text.printable(one.name).ljust(widest)}  "
    if one.outcome:
        return f"{head}{text.printable(one.outcome)}"
    if job.bytes is None:
        return f"{head}looking, {text.count(one.entries, 'entry', 'entries')} so far"
    done = min(1.0, one.bytes / job.bytes) if job.bytes else 1.0
    details = [f"{int(done * 100):3}%", f"{text.size(one.bytes)} of {text.size(job.bytes)}"]
    if rate is not None:
        details.append(f"{text.size(int(rate))}/s")
        if rate >= 1 and done < 1:
            details.append(f"{text.span((job.bytes - one.bytes) / rate)} left")
    room = max(_LEAST, min(_MOST, width - len(head) - _BESIDE))
    filled = int(done * room)
    line = f"{head}{_DONE * filled}{_LEFT * (room - filled)}"
    for word in details:
        if len(line) + 2 + len(word) <= width:
            line += f"  {word}"
    return line


def _begun(one: BegunElsewhere, now: datetime) -> str:
    return (
        f"{one.resource}: {one.node} began {one.snapshot} {text.age(one.started_at, now)}; it is on "
        f"{', '.join(one.targets)}, and that run is not known to have ended"
    )

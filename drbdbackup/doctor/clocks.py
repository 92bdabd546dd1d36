"""The clocks of the NAS and the other nodes, against ours: times of copies, retention and due times go by them.

The NAS shows its own by the time that it gives to a fresh file, which also shows that one can be written there. Another
node gives its time over ssh; without ssh, its catalog on the NAS says when it was sent, and the file when it came.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from time import time

from msgspec import Struct

from drbdbackup import open_flags, proc
from drbdbackup.catalog import folders, merge, view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import Failure
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import identity, layout, target

LARGEST_DIFFERENCE = 60.0  # seconds


class ShareFacts(Struct, frozen=True):
    """By how many seconds a share's clock is ahead of ours; None and the problem where no file could be written."""

    name: str
    ahead: float | None
    problem: str = ""
    hint: str = ""


class ClockFacts(Struct, frozen=True):
    """By how many seconds another node's clock is ahead of ours, None if it is not known; `by` is what says so."""

    node: str
    ahead: float | None
    by: str = ""


def gather_share(config: Config, share: TargetConfig) -> ShareFacts:
    """Have a file written there and away again, by a probe."""
    try:
        ahead = proc.probe(_looking(share, view.expected(config, share), config.node), config.limits.probe, share.path)
    except Failure as error:
        return ShareFacts(share.name, None, error.message, error.hint)
    return ShareFacts(share.name, float(ahead))


def gather_node(config: Config, node: str, over_ssh: float | None, shares: Mapping[str, float]) -> ClockFacts:
    """`over_ssh` is what the node answered over ssh; `shares` are those whose clock is known. Raises CatalogError."""
    if over_ssh is not None:
        return ClockFacts(node, over_ssh)
    for share, ahead in shares.items():
        sent = merge.published(os.path.join(folders.incoming_folder(config.state_dir, share), f"{node}.db"))
        stamp = view.known_files(config.state_dir, share).get(f"{node}.db")
        if sent is not None and sent[0] == node and stamp:
            return ClockFacts(node, sent[1].timestamp() - stamp[0] / 1e9 + ahead, share)
    return ClockFacts(node, None)


def judge_share(facts: ShareFacts) -> list[Finding]:
    """It can be written to, and its clock is within a minute."""
    check = Check("writable", facts.name)
    if facts.ahead is None:
        return [check.fail(f"no file can be written there: {facts.problem}", facts.hint or "See `dmesg`.")]
    return [check.ok("a file can be written there"), *_clock(facts.name, facts.ahead, "")]


def judge_node(facts: ClockFacts) -> list[Finding]:
    """Within a minute, where it is known."""
    if facts.ahead is None:
        return []
    return list(_clock(facts.node, facts.ahead, f", as {facts.by} shows" if facts.by else ""))


def _clock(whose: str, ahead: float, how: str) -> Iterator[Finding]:
    check = Check("clock", whose)
    if abs(ahead) <= LARGEST_DIFFERENCE:
        yield check.ok(f"it is within a minute of ours{how}")
        return
    way = "ahead of" if ahead > 0 else "behind"
    because = f"it is {abs(ahead):,.0f} s {way} ours{how}"
    yield check.fail(because, "Synchronize all clocks with the same server: apt install chrony")


def _looking(share: TargetConfig, expected: KnownMedium | None, node: str) -> Callable[[], float]:
    """What the probe does. Nothing is written where the share is not the target that it was."""

    def look() -> float:
        with target(share).opened(node, write=True) as medium:
            identity.check(medium, expected, node, may_enrol=False)
            folder = os.open(layout.home(medium.root), open_flags.FOLDER)
            try:
                return _ahead(folder, f".clock-{node}-{os.urandom(4).hex()}")
            finally:
                os.close(folder)

    return look


def _ahead(folder: int, name: str) -> float:
    before = time()
    file = os.open(name, open_flags.CREATE, 0o600, dir_fd=folder)
    try:
        os.write(file, b"x")
        os.fsync(file)
        return os.fstat(file).st_mtime - (before + time()) / 2
    finally:
        os.close(file)
        os.unlink(name, dir_fd=folder)

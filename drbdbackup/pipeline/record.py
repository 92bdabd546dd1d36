"""Writes a snapshot's manifest from the plan and from what the copies wrote down; all of them are in merge order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from drbdbackup import manifest
from drbdbackup.manifest import NOTHING, parse, path_of
from drbdbackup.pipeline import plan
from drbdbackup.pipeline.fill import settled
from drbdbackup.pipeline.making import COPIED, GROUPS, MANIFEST, PLAN, UNLINKED, Making
from drbdbackup.pipeline.plan import Planned, Planner, Step


@dataclass(frozen=True, slots=True)
class Made:
    """What `make` has made: the SHA-256 of `manifest.gz` and the number of entries in it."""

    manifest_sha256: str
    entries: int


def write_manifest(making: Making, planner: Planner, unlinked: set[bytes]) -> Made:
    """Write `manifest.gz`; `unlinked` are the paths copied after all."""
    writer = manifest.Writer(making.at(MANIFEST))
    entries = 0
    with ExitStack() as stack:
        written = {
            name: _Recorded(stack.enter_context(open(making.scratch(name), "rb")))
            for name in (COPIED, GROUPS, UNLINKED)
        }
        for line in stack.enter_context(open(making.scratch(PLAN), "rb", buffering=1 << 18)):
            recorded = b"" if unlinked else plan.linked(line)
            if not recorded:
                planned = planner.settle(plan.read(line))
                front = _front(making, planned, written, unlinked)
                recorded = front + b" " + planned.line if front else b""
            if recorded:
                writer.add_line(recorded)
                entries += 1
    writer.close()
    return Made(writer.sha256, entries)


def _front(making: Making, planned: Planned, written: Mapping[str, _Recorded], unlinked: set[bytes]) -> bytes:
    """An entry's `hash flag attributes`; nothing if it has no place in the manifest."""
    step, line = planned.step, planned.line
    if step is Step.LOST:
        return b""
    if step is Step.COPY:
        return written[COPIED].front(line)
    if step is Step.COPY_GROUP:
        return written[GROUPS].front(line)
    if unlinked and step is not Step.FOLDER and path_of(line) in unlinked:
        return written[UNLINKED].front(line)
    return planned.front or _own_front(making, line)


class _Recorded:
    """The lines that a filler wrote down, read in step with the plan."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self._front, self._line = b"", b""
        self._next()

    def front(self, line: bytes) -> bytes:
        """The entry's front, or nothing if it was not copied."""
        if line != self._line:
            return b""
        front = self._front
        self._next()
        return front

    def _next(self) -> None:
        recorded = self._lines.readline()
        self._front, self._line = manifest.split(recorded) if recorded else (b"", b"")


def _own_front(making: Making, line: bytes) -> bytes:
    """The front of what has no content: folders, and entries that only the manifest keeps."""
    entry = parse(line)
    return b" ".join((NOTHING, settled(entry.ctime, making.place.started_ns), making.place.kept(entry.path)))

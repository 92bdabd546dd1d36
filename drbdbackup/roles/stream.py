"""DRBD's events as they happen: not what a role is, only that it is worth asking again.

`drbdsetup events2` reports a demotion about 100 ms after the command was given, before it returns. How far a
resynchronisation has come, which makes most of the lines, is nothing that changes a verdict.
"""

from __future__ import annotations

from collections.abc import Callable

from drbdbackup.errors import ToolMissing
from drbdbackup.proc import PipedProcess
from drbdbackup.tools import drbd

_KINDS = frozenset({"resource", "connection", "device"})
_NEWS = frozenset({"change", "destroy", "rename"})


def is_news(line: str, resource: str) -> bool:
    """Whether a line of the stream may change the verdict about `resource`; the first list (`exists`) is none."""
    event, *rest = line.split()
    return event in _NEWS and rest[:1] != [] and rest[0] in _KINDS and f"name:{resource}" in rest[1:]


def follow(resource: str, on_news: Callable[[], None]) -> PipedProcess | None:
    """Call `on_news`, from another thread, whenever something happens to `resource`; None without drbdsetup."""

    def heard(line: str) -> None:
        if line.strip() and is_news(line, resource):
            on_news()

    try:
        return drbd.events(heard)
    except ToolMissing:
        return None

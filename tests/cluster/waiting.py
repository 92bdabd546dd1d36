"""The one place where the lab waits: for a condition, with a deadline. Nothing else in a scenario may sleep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tests.cluster.times import NOTEBOOK

T = TypeVar("T")
EVERY = 0.5  # seconds; a look takes 50 ms of the processor that the guests have


class NotInTime(AssertionError):
    """A condition did not hold by its deadline."""


class CommandFailed(AssertionError):
    """A command on a node did not end well, or not in time; the text says what it printed."""


def eventually(condition: Callable[[], T], within: float, what: str = "", every: float = EVERY) -> T:
    """The condition's first true value. An AssertionError (a failed command, too) counts as not yet.

    Raises NotInTime after `within` seconds, with what was waited for and what the condition said last.
    """
    deadline = time.monotonic() + within
    with NOTEBOOK.noted("wait", what or name_of(condition)):
        while True:
            try:
                last: Any = condition()
                if last:
                    return last
            except AssertionError as error:
                last = error
            if time.monotonic() > deadline:
                raise NotInTime(f"{what or name_of(condition)}: not within {within:g} s; at last: {last!s:.2000}")
            time.sleep(every)


def stays(condition: Callable[[], object], during: float, what: str = "", every: float = 0.5) -> None:
    """Fails as soon as the condition does not hold; returns after `during` seconds in which it always did."""
    deadline = time.monotonic() + during
    with NOTEBOOK.noted("wait", what or name_of(condition)):
        while time.monotonic() < deadline:
            held = condition()
            assert held, f"{what or name_of(condition)}: no more, {deadline - time.monotonic():.0f} s early"
            time.sleep(every)


def only_one_of(nodes: Iterable[T], condition: Callable[[T], object], what: str = "") -> T:
    """The one node for which the condition holds. Two of them is worse than none: both are failures."""
    asked = list(nodes)
    held = [node for node, holds in zip(asked, together(*((condition, node) for node in asked)), strict=True) if holds]
    assert len(held) == 1, f"{what or name_of(condition)}: holds on {', '.join(map(str, held)) or 'no node'}"
    return held[0]


def together(*calls: tuple[Any, ...]) -> list[Any]:
    """Calls each (function, argument, ...) in a thread of its own, all at once; their results in order."""
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
        asked = [pool.submit(function, *arguments) for function, *arguments in calls]
        return [future.result() for future in asked]


def name_of(condition: Callable[..., object]) -> str:
    return getattr(condition, "__qualname__", repr(condition)).rpartition(".")[2]

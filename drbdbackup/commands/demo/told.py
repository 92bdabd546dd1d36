"""What the demo tells, as values: whoever draws decides how they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """A new chapter."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph of the narrator."""

    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """What an admin types on a node; it is under way now."""

    node: str
    line: str


@dataclass(frozen=True, slots=True)
class Printed:
    """What the command printed, stdout before stderr, and its exit status."""

    text: str
    status: int


Told = Heading | Words | Typed | Printed
Tell = Callable[[Told], None]

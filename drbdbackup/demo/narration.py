"""What the demo shows, as values: whoever draws decides how they look.

Nothing here knows what a terminal is.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Heading(Struct, frozen=True):
    """A new chapter."""

    text: str


class Words(Struct, frozen=True):
    """A paragraph of the narrator."""

    text: str


class Typed(Struct, frozen=True):
    """What an admin types on a node; it is under way now."""

    node: str
    line: str


class Printed(Struct, frozen=True):
    """What the command printed, stdout before stderr, and its exit status."""

    text: str
    status: int


Shown = Heading | Words | Typed | Printed
Show = Callable[[Shown], None]

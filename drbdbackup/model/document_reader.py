"""One reader of what other nodes, media and older or newer versions wrote: a document as a value, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

LARGEST = 1 << 60
_LONGEST_LINE = 1000  # letters
Count = Annotated[int, Meta(ge=0, le=LARGEST)]  # a number of things, that fits a database
_ValueT = TypeVar("_ValueT", bound=Struct)


def fitting(kind: type[_ValueT], document: Mapping[str, Any]) -> _ValueT | None:
    """The document as a `kind`; None where a field that it needs is missing, or one is of another type.

    Other keys, as a newer version has them, are passed over. A field whose nonsense costs only itself is `Any` there.
    """
    try:
        # Only these: msgspec cannot look at a key that is no UTF-8.
        return convert({key: document[key] for key in kind.__struct_fields__ if key in document}, kind)
    except (ValidationError, UnicodeEncodeError):
        return None


def one_line(text: str) -> str:
    """A text of others as it can be in a message: nobody begins a line of his own there, or speaks to a terminal.

    What is no letter could not be sent as mail either.
    """
    shown = text[:_LONGEST_LINE]
    if shown.isprintable():  # nearly every one, and a night asks of thousands
        return shown
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)


def line_of(value: Any) -> str:
    """A value of others as one line, "" for what is no text."""
    return one_line(value) if isinstance(value, str) else ""

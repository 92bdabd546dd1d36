"""DRBD's words to the values of the model: a word that is not known stops the reading, it never becomes a guess.

A new version of DRBD may bring new words; a backup that is refused by name is mended in a minute, one that ran on the
wrong node is not.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from drbdbackup.model.role import Observation, Role

_Word = TypeVar("_Word", bound=Enum)
_SHOWN = 60  # letters


class NotUnderstood(ValueError):
    """A source said something that cannot be read; the text says what, for people."""


def word(kind: type[_Word], text: str) -> _Word:
    """The member of `kind` that DRBD calls `text`; raises NotUnderstood."""
    try:
        return kind(text)
    except ValueError:
        raise NotUnderstood(f"{quoted(text)} is no {kind.__name__.lower()} that is known here") from None


def shown(text: str) -> str:
    """A name that can be shown and stored; raises NotUnderstood."""
    if not text.isprintable():
        raise NotUnderstood(f"{quoted(text)} is not a name")
    return text


def number(text: str) -> int:
    """A plain decimal number; raises NotUnderstood."""
    if not (text.isascii() and text.isdigit()):
        raise NotUnderstood(f"{quoted(text)} is not a number")
    return int(text)


def parse_role(text: str) -> Role:
    """The role that a text of one word says, Primary or Secondary; raises NotUnderstood."""
    stripped = text.strip(" \t\r\n")
    if stripped not in {Role.PRIMARY.value, Role.SECONDARY.value}:
        raise NotUnderstood(f"it says {quoted(stripped)}, not Primary or Secondary" if stripped else "it says nothing")
    return Role(stripped)


def observation_of(text: str, resource: str, source: str, named: str, hint: str) -> Observation:
    """What a source `named` says that reports one word, Primary or Secondary; `hint` is for another one."""
    try:
        return Observation(resource=resource, source=source, role=parse_role(text))
    except NotUnderstood as problem:
        return unknown(resource, source, f"{named} does not report the role of {resource}: {problem}", hint)


def quoted(text: str) -> str:
    """A text from outside as it can be shown and stored: printable, short, in quotes."""
    return ascii(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def unknown(resource: str, source: str, problem: str, hint: str = "") -> Observation:
    """The observation of a source that could not tell the role; what a program said becomes one printable line."""
    return Observation(
        resource=resource, source=source, role=Role.UNKNOWN, problem=_one_line(problem), hint=_one_line(hint)
    )


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in joined)

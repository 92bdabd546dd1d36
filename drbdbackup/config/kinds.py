"""What a value in the file may be: each kind reads one raw TOML value, or adds a line to the list of mistakes.

A kind knows its own shape and nothing of this project's keys (those are the table in `keys.py`) and it never looks
at a second key (that is `rules.py`). Nothing here raises: an admin wants all mistakes of a file at once.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])\Z")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%\Z")
_SIZE = re.compile(r"(\d{1,9}(?:\.\d+)?) ?([MGT])(?:iB|B)?\Z")
_BYTES = {"M": float(1 << 20), "G": float(1 << 30), "T": float(1 << 40)}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_CRON = re.compile(r"(?:[\d*/,-]+\s+){2}[\dLl*/,-]+(?:\s+[\dA-Za-z*/,#-]+){2}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Kind(Protocol):
    """`allowed` completes "must be ..."; `read` returns the value as the configuration holds it."""

    @property
    def allowed(self) -> str: ...  # noqa: D102 the class says it

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any: ...  # noqa: D102 the class says it


@dataclass(frozen=True, slots=True)
class Value:
    """A single value. `parse` returns it as the configuration holds it, or None where it is not allowed."""

    allowed: str
    parse: Callable[[Any], Any]

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The parsed value at the dotted key `at`."""
        value = self.parse(raw)
        if value is None:
            mistakes.append(f"{at} = {shown(raw)}: must be {self.allowed}")
        return value


@dataclass(frozen=True, slots=True)
class Table:
    """A table with these keys and no others; what is left out is left out of the value too."""

    keys: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] | None = None  # keys that would be right under another choice, and which
    allowed: str = "a table"

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The table as a dict of read values."""
        if not isinstance(raw, dict):
            mistakes.append(f"{at} = {shown(raw)}: must be {self.allowed}")
            return None
        mistakes.extend(self._misplaced(at, key) for key in raw if key not in self.keys)
        mistakes.extend(
            f"{under(at, key)} is missing: must be {self.keys[key].allowed}" for key in self.required if key not in raw
        )
        return {key: kind.read(under(at, key), raw[key], mistakes) for key, kind in self.keys.items() if key in raw}

    def _misplaced(self, at: str, key: str) -> str:
        where = (self.elsewhere or {}).get(key)
        if where:
            return f"{under(at, key)}: belongs to {where} only"
        return f"{under(at, key)}: unknown key; {meant(key, self.keys)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A table whose further keys depend on the word at `key`."""

    key: str
    tables: Mapping[str, Table]
    default: str | None = None
    allowed: str = "a table"

    def table(self, word: str) -> Table:
        """The table for `word`, which knows its own key and the keys of the other choices."""
        mine = self.tables[word]
        others = {
            key: f"{self.key} = {shown(other)}"
            for other, table in self.tables.items() for key in table.keys if key not in mine.keys
        }
        return Table({self.key: one_of(*self.tables), **mine.keys}, mine.required, others)

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The table as a dict of read values, the choice among them; a wrong choice hides what depends on it."""
        if not isinstance(raw, dict):
            mistakes.append(f"{at} = {shown(raw)}: must be {self.allowed}")
            return None
        word = raw.get(self.key, self.default)
        if word is None:
            mistakes.append(f"{under(at, self.key)} is missing: must be {one_of(*self.tables).allowed}")
        elif not isinstance(word, str) or word not in self.tables:
            one_of(*self.tables).read(under(at, self.key), word, mistakes)
        else:
            return self.table(word).read(at, raw, mistakes)
        return None


@dataclass(frozen=True, slots=True)
class Named:
    """One table for each name, at least `least` of them: `[resource.raid]`."""

    kind: Kind
    example: str
    least: int = 0

    @property
    def allowed(self) -> str:
        """As in the example."""
        return f"a table for each, like {self.example}"

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """A dict from name to its read table."""
        if not isinstance(raw, dict) or len(raw) < self.least:
            mistakes.append(f"{at} = {shown(raw)}: must be {self.allowed}")
            return None
        mistakes.extend(f"{under(at, name)}: the name must be {NAME.allowed}" for name in raw if _name(name) is None)
        return {name: self.kind.read(under(at, name), table, mistakes) for name, table in raw.items()}


def under(at: str, key: str) -> str:
    """The dotted key of `key` in the table `at`, quoted as TOML wants it."""
    last = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)
    return f"{at}.{last}" if at else last


def shown(raw: Any, longest: int = 60) -> str:
    """A raw value as the file has it, shortened for people."""
    if isinstance(raw, bool):
        text = str(raw).lower()
    elif isinstance(raw, str):
        text = quoted(raw)
    elif isinstance(raw, dict):
        text = "{" + ", ".join(f"{under('', key)} = {shown(value)}" for key, value in raw.items()) + "}"
    elif isinstance(raw, (list, tuple)):
        text = "[" + ", ".join(shown(value) for value in raw) + "]"
    else:
        text = str(raw)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'


def meant(word: str, known: Iterable[str]) -> str:
    """What the admin may have meant, and all that is allowed."""
    from difflib import get_close_matches  # only a mistake pays for it

    close = get_close_matches(word, list(known), n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{guess}allowed here: {', '.join(known)}"


def _name(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and _NAME.match(raw) else None


def _path(raw: Any) -> str | None:
    """Absolute and without `..`, which a symlink would turn into somewhere else."""
    if not isinstance(raw, str) or not raw.startswith("/") or ".." in raw.split("/") or _CONTROL.search(raw):
        return None
    return os.path.normpath("/" + raw.lstrip("/"))


def _inside(raw: Any) -> str | None:
    """A path from a volume's top that does not lead out of it."""
    if not isinstance(raw, str) or raw.startswith("/") or ".." in raw.split("/") or _CONTROL.search(raw):
        return None
    path = os.path.normpath(raw) if raw else "."
    return path if path != "." else None


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and raw and "\0" not in raw else None


def _several(raw: Any, parse: Callable[[Any], str | None], least: int) -> tuple[str, ...] | None:
    if not isinstance(raw, list) or len(raw) < least:
        return None
    read = tuple(value for value in map(parse, raw) if value is not None)
    return read if len(read) == len(raw) else None


def _address(raw: Any) -> str | None:
    """One that ssh cannot take for an option."""
    return raw if _text(raw) and not raw.startswith("-") and not re.search(r"\s", raw) else None


def _operand(raw: Any) -> str | None:
    """One that no program can take for an option."""
    return raw if _text(raw) and not raw.startswith("-") else None


def _duration(raw: Any) -> float | None:
    """Seconds, from a number or a number with a unit."""
    match = _DURATION.match(raw) if isinstance(raw, str) else None
    if match:
        return _duration(float(match[1]) * _SECONDS[match[2]])
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw < math.inf:
        return None
    return float(raw)


def _share(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 <= raw < 1:
        return None
    return float(raw)


def _portion(raw: Any) -> float | None:
    """Of 1, from "5%" or 0.05."""
    match = _PERCENT.match(raw) if isinstance(raw, str) else None
    portion = float(match[1]) / 100 if match else raw
    if isinstance(portion, bool) or not isinstance(portion, (int, float)):
        return None
    return float(portion) if portion == 0 or 0.01 <= portion <= 1 else None


def _room(raw: Any) -> float | None:
    """Of 1, from "10%" or 0.1; or bytes, from "20G" or a number."""
    match = _SIZE.match(raw) if isinstance(raw, str) else None
    room = float(match[1]) * _BYTES[match[2]] if match else raw
    if isinstance(room, (int, float)) and not isinstance(room, bool) and _BYTES["M"] <= room < math.inf:
        return float(room)
    return _portion(room) or None


def _whole(raw: Any, least: int) -> int | None:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) and raw >= least else None


def one_of(*words: str) -> Value:
    """One of these words."""
    allowed = " or ".join(filter(None, [", ".join(map(quoted, words[:-1])), quoted(words[-1])]))
    return Value(allowed, lambda raw: raw if isinstance(raw, str) and raw in words else None)


NAME = Value("letters, digits, '.', '_' and '-', a letter or digit first", _name)
NAMES = Value("a list of at least one name, each of " + NAME.allowed, lambda raw: _several(raw, _name, 1))
SERVICES = Value("a list of names, each of " + NAME.allowed, lambda raw: _several(raw, _name, 0))
PATH = Value('an absolute path without ".."', _path)
INSIDE = Value('a path from the volume\'s top, like "mysql", without ".."', _inside)
OPERANDS = Value('a list of strings, none with "-" first', lambda raw: _several(raw, _operand, 0))
TEXTS = Value("a list of strings", lambda raw: _several(raw, _text, 0))
ARGV = Value("a list of a program and its arguments", lambda raw: _several(raw, _text, 1))
ADDRESS = Value('like "root@host" or an alias of ssh, no spaces, no "-" first', _address)
FLAG = Value("true or false", lambda raw: raw if isinstance(raw, bool) else None)
COUNT = Value("a whole number, 0 or more", lambda raw: _whole(raw, 0))
AT_LEAST_ONE = Value("a whole number, 1 or more", lambda raw: _whole(raw, 1))
DURATION = Value('seconds above 0, or like "90s", "15m", "6h", "1d"', _duration)
SHARE = Value("a share from 0 to below 1, like 0.5", _share)
PORTION = Value('from "1%" to "100%", or 0 for never', _portion)
ROOM = Value('from "1%" to "100%", or a size like "512M", "20G", "1T"', _room)
CRON = Value(
    'five fields as in a crontab (minute hour day month weekday), like "30 4 * * *"',
    lambda raw: raw.strip() if isinstance(raw, str) and _CRON.match(raw.strip()) else None,
)

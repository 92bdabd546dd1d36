"""What a value in the file may be: each kind reads one raw TOML value, or adds a line to the list of mistakes.

A kind knows its own shape and nothing of this project's keys (those are the table in `keys.py`) and it never looks
at a second key (that is `rules.py`). Nothing here raises: an admin wants all mistakes of a file at once.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct

# Compiled where they are needed, but for what each configuration has: all of them cost 2 ms of each command.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_DURATION = r"(\d+(?:\.\d+)?)([smhd])\Z"
_PERCENT = r"(\d{1,3}(?:\.\d+)?) ?%\Z"
_SIZE = r"(\d{1,9}(?:\.\d+)?) ?([MGT])(?:iB|B)?\Z"
_RATE = r"(\d{1,9}(?:\.\d+)?) ?([KMGT])(?:iB|B)?\Z"
_LOWEST_RATE = 65536.0  # bytes a second; who writes 50 means 50M
_BYTES = {"K": 1024.0, "M": float(1 << 20), "G": float(1 << 30), "T": float(1 << 40)}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 3650 * 86400.0  # dates are reckoned with it, and there are none for every number
_LONGEST_WAIT = 3 * 86400.0  # poll(2) counts milliseconds in 31 bits; a run has six times the patience of a probe
_MOST = 10**9
_CRON = r"(?:[\d*/,-]+\s+){2}[\dLl*/,-]+(?:\s+[\dA-Za-z*/,#-]+){2}\Z"
_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\x00-\x1f\x7f]+\Z"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ValueKind(Protocol):
    """`allowed` completes "must be ..."; `read` returns the value as the configuration holds it."""

    @property
    def allowed(self) -> str: ...  # noqa: D102 the class says it

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any: ...  # noqa: D102 the class says it


class Value(Struct, frozen=True):
    """A single value. `parse` returns it as the configuration holds it, or None where it is not allowed.

    `shape` is the same in the words of a JSON Schema, for editors; it may allow more than `parse` does.
    One that is `secret` is in no message and in nothing that is shown.
    """

    allowed: str
    parse: Callable[[Any], Any]
    shape: Mapping[str, Any] = {}  # msgspec copies it
    secret: bool = False

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The parsed value at the dotted key `at`."""
        value = self.parse(raw)
        if value is None:
            mistakes.append(f"{at}{'' if self.secret else f' = {shown(raw)}'}: must be {self.allowed}")
        return value


class Table(Struct, frozen=True):
    """A table with these keys and no others; what is left out is left out of the value too.

    Of one that is `secret` no value is in a message, also where no table was given.
    """

    keys: Mapping[str, ValueKind]
    required: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] | None = None  # keys that would be right under another choice, and which
    allowed: str = "a table"
    secret: bool = False

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """The table as a dict of read values."""
        if not isinstance(raw, dict):
            mistakes.append(f"{at}{'' if self.secret else f' = {shown(raw)}'}: must be {self.allowed}")
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


class Variants(Struct, frozen=True):
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


class Named(Struct, frozen=True):
    """One table for each name, at least `least` of them: `[resource.raid]`."""

    kind: ValueKind
    example: str
    least: int = 0

    @property
    def allowed(self) -> str:
        """As in the example."""
        return f"a table for each, like {self.example}"

    def read(self, at: str, raw: Any, mistakes: list[str]) -> Any:
        """A dict from name to its read table."""
        if not isinstance(raw, dict) or len(raw) < min(1, self.least):
            mistakes.append(f"{at} = {shown(raw)}: must be {self.allowed}")
            return None
        if len(raw) < self.least:
            mistakes.append(f"{at}: has only {', '.join(raw)}: must be at least {self.least}, {self.allowed}")
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


def is_name(text: str) -> bool:
    """Whether a node, a resource or a target may be called so."""
    return _NAME.match(text) is not None


def _name(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and is_name(raw) else None


def _path(raw: Any) -> str | None:
    """Absolute and without `..`, which a symlink would turn into somewhere else."""
    if not isinstance(raw, str) or not raw.startswith("/") or ".." in raw.split("/") or _CONTROL.search(raw):
        return None
    return os.path.normpath("/" + raw.lstrip("/"))


def _metrics_file(raw: Any) -> str | None:
    """node_exporter reads no other names."""
    path = _path(raw)
    return path if path is not None and path.endswith(".prom") else None


def _html_file(raw: Any) -> str | None:
    """What a browser and a web server take for a page."""
    path = _path(raw)
    return path if path is not None and path.endswith(".html") else None


def _inside(raw: Any) -> str | None:
    """A path from a volume's top that does not lead out of it."""
    if not isinstance(raw, str) or raw.startswith("/") or ".." in raw.split("/") or _CONTROL.search(raw):
        return None
    path = os.path.normpath(raw) if raw else "."
    return path if path != "." else None


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and raw and "\0" not in raw else None


def _entry(raw: Any) -> str | None:
    """A name, or a pattern of names."""
    return raw if _text(raw) and "/" not in raw else None


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
    """Seconds, from a number or a number with a unit. Whoever writes more than ten years means for ever."""
    match = re.match(_DURATION, raw) if isinstance(raw, str) else None
    if match:
        return _duration(float(match[1]) * _SECONDS[match[2]])
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw < math.inf:
        return None
    return float(min(raw, _LONGEST))


def _wait(raw: Any) -> float | None:
    """The same for what is waited for at a stretch."""
    seconds = _duration(raw)
    return None if seconds is None else min(seconds, _LONGEST_WAIT)


def _period(raw: Any) -> float | None:
    """The same, or 0.0."""
    return 0.0 if raw == 0 and not isinstance(raw, bool) else _duration(raw)


def _url(raw: Any) -> str | None:
    return raw if isinstance(raw, str) and re.match(_URL, raw) else None


def _web_address(raw: Any) -> str | None:
    return raw if _url(raw) and raw.startswith(("http://", "https://")) else None


def _share(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 <= raw < 1:
        return None
    return float(raw)


def _portion(raw: Any) -> float | None:
    """Of 1, from "5%" or 0.05."""
    match = re.match(_PERCENT, raw) if isinstance(raw, str) else None
    portion = float(match[1]) / 100 if match else raw
    if isinstance(portion, bool) or not isinstance(portion, (int, float)):
        return None
    return float(portion) if portion == 0 or 0.01 <= portion <= 1 else None


def _room(raw: Any) -> float | None:
    """Of 1, from "10%" or 0.1; or bytes, from "20G" or a number."""
    match = re.match(_SIZE, raw) if isinstance(raw, str) else None
    room = float(match[1]) * _BYTES[match[2]] if match else raw
    if isinstance(room, (int, float)) and not isinstance(room, bool) and _BYTES["M"] <= room < math.inf:
        return float(room)
    return _portion(room) or None


def _rate(raw: Any) -> float | None:
    """Bytes a second, from "50M" or a number."""
    match = re.match(_RATE, raw) if isinstance(raw, str) else None
    rate = float(match[1]) * _BYTES[match[2]] if match else raw
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    return float(rate) if is_number and (rate == 0 or _LOWEST_RATE <= rate < math.inf) else None


def _whole(raw: Any, least: int) -> int | None:
    return min(raw, _MOST) if isinstance(raw, int) and not isinstance(raw, bool) and raw >= least else None


def _counts(raw: Any) -> tuple[int, ...] | None:
    found = tuple(_whole(one, 0) for one in raw) if isinstance(raw, list) else (None,)
    whole = tuple(one for one in found if one is not None)
    return whole if len(whole) == len(found) else None


def one_of(*words: str) -> Value:
    """One of these words."""
    allowed = " or ".join(filter(None, [", ".join(map(quoted, words[:-1])), quoted(words[-1])]))
    return Value(allowed, lambda raw: raw if isinstance(raw, str) and raw in words else None, {"enum": list(words)})


def _string(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _list(of: Mapping[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": dict(of), **({"minItems": least} if least else {})}


def _number_or(pattern: str, **bounds: float) -> dict[str, Any]:
    return {"anyOf": [{"type": "number", **bounds}, _string(pattern)]}


_A_NAME = _string("^[A-Za-z0-9][A-Za-z0-9._-]*$")
_A_TEXT = {"type": "string", "minLength": 1}
_A_SIZE = r"[0-9]{1,9}(\.[0-9]+)? ?[MGT](iB|B)?"
_A_PERCENT = r"[0-9]{1,3}(\.[0-9]+)? ?%"

NAME = Value("letters, digits, '.', '_' and '-', a letter or digit first", _name, _A_NAME)
NAMES = Value(
    "a list of at least one name, each of " + NAME.allowed, lambda raw: _several(raw, _name, 1), _list(_A_NAME, 1)
)
SERVICES = Value("a list of names, each of " + NAME.allowed, lambda raw: _several(raw, _name, 0), _list(_A_NAME))
PATH = Value('an absolute path without ".." and control characters', _path, _string("^/"))
METRICS_FILE = Value('an absolute path that ends in ".prom"', _metrics_file, _string(r"^/.*\.prom$"))
HTML_FILE = Value('an absolute path that ends in ".html"', _html_file, _string(r"^/.*\.html$"))
INSIDE = Value(
    'a path from the volume\'s top, like "mysql", without ".." and control characters', _inside, _string("^[^/]")
)
OPERANDS = Value(
    'a list of strings, none with "-" first', lambda raw: _several(raw, _operand, 0), _list(_string("^[^-]"))
)
TEXTS = Value("a list of strings", lambda raw: _several(raw, _text, 0), _list(_A_TEXT))
ENTRIES = Value(
    'a list of names without "/", with * and ? like "._*"', lambda raw: _several(raw, _entry, 0),
    _list(_string("^[^/]+$")),
)  # fmt: skip
ARGV = Value("a list of a program and its arguments", lambda raw: _several(raw, _text, 1), _list(_A_TEXT, 1))
ADDRESS = Value(
    'like "root@host" or an alias of ssh, no spaces, no "-" first', _address, _string(r"^[^-\s]\S*$")
)
FLAG = Value("true or false", lambda raw: raw if isinstance(raw, bool) else None, {"type": "boolean"})
COUNT = Value("a whole number, 0 or more", lambda raw: _whole(raw, 0), {"type": "integer", "minimum": 0})
COUNTS = Value("a list of whole numbers, 0 or more", _counts, _list({"type": "integer", "minimum": 0}))
AT_LEAST_ONE = Value("a whole number, 1 or more", lambda raw: _whole(raw, 1), {"type": "integer", "minimum": 1})
DURATION = Value(
    'seconds above 0, or like "90s", "15m", "6h", "1d"', _duration,
    _number_or(r"^[0-9]+(\.[0-9]+)?[smhd]$", exclusiveMinimum=0),
)  # fmt: skip
WAIT = Value(DURATION.allowed, _wait, DURATION.shape)
PERIOD = Value(
    'like "45d" or "12h", or 0 for never', _period, _number_or(r"^[0-9]+(\.[0-9]+)?[smhd]$", minimum=0),
)  # fmt: skip
URLS = Value(
    'a list of URLs, like "mailto://..."', lambda raw: _several(raw, _url, 0), _list(_string("^[a-z]+://")), secret=True
)
WEB_ADDRESS = Value(
    'a URL that begins with "https://" or "http://"', _web_address, _string("^https?://"), secret=True
)
NICE = Value(
    "a whole number from 0 to 19",
    lambda raw: raw if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= 19 else None,
    {"type": "integer", "minimum": 0, "maximum": 19},
)
SHARE = Value(
    "a share from 0 to below 1, like 0.5", _share, {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
)
PORTION = Value(
    'from "1%" to "100%", or 0 for never', _portion, _number_or(f"^{_A_PERCENT}$", minimum=0, maximum=1)
)
ROOM = Value(
    'from "1%" to "100%", or a size like "512M", "20G", "1T"', _room,
    _number_or(f"^({_A_PERCENT}|{_A_SIZE})$", exclusiveMinimum=0),
)  # fmt: skip
RATE = Value(
    'bytes a second, at least 64 KiB, like "500K" or "50M", or 0 for no limit', _rate,
    _number_or(r"^[0-9]{1,9}(\.[0-9]+)? ?[KMGT](iB|B)?$", minimum=0),
)  # fmt: skip
CRON = Value(
    'five fields as in a crontab (minute hour day month weekday), like "30 4 * * *"',
    lambda raw: raw.strip() if isinstance(raw, str) and re.match(_CRON, raw.strip()) else None,
    _string(r"^\s*(\S+\s+){4}\S+\s*$"),
)

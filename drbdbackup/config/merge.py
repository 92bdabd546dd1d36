"""Several files made one: the configuration and what is beside it in conf.d. Pure: `load` reads them.

A table may be spread over files, a value may not: which one counts would depend on the names of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from drbdbackup.config.kinds import under


class MergedFiles(Struct, frozen=True):
    """All tables as one; `origins` has the file of each dotted key; `mistakes` are keys that two files have."""

    tables: dict[str, Any]
    origins: Mapping[str, str]
    mistakes: tuple[str, ...]

    def origin(self, mistake: str, default: str) -> str:
        """The file that a mistake is about, which begins with its dotted key; `default` where no key of a file does."""
        keys = [key for key in self.origins if mistake.startswith(key) and mistake[len(key) :][:1] in (" ", ":", ".")]
        return self.origins[max(keys, key=len)] if keys else default


def merged(files: Sequence[tuple[str, dict[str, Any]]]) -> MergedFiles:
    """The tables of these files, each with its path, in their order."""
    origins: dict[str, str] = {}
    mistakes: list[str] = []
    whole: dict[str, Any] = {}
    for path, tables in files:
        _take_in(whole, tables, "", path, origins, mistakes)
    return MergedFiles(whole, origins, tuple(mistakes))


def _take_in(
    whole: dict[str, Any], tables: Mapping[str, Any], at: str, path: str, origins: dict[str, str], mistakes: list[str]
) -> None:
    for key, value in tables.items():
        dotted = under(at, key)
        if key not in whole:
            whole[key] = {} if isinstance(value, dict) else value
            origins[dotted] = path
        elif not (isinstance(whole[key], dict) and isinstance(value, dict)):
            mistakes.append(f"{dotted}: is in {origins[dotted]} and in {path}; it must be in one of them only")
            continue
        if isinstance(value, dict):
            _take_in(whole[key], value, dotted, path, origins, mistakes)

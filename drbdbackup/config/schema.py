"""The table of keys as a JSON Schema, for editors that complete and check a TOML file by it. Nothing here checks any.

What it calls right may still be a mistake: rules between keys are `rules`, and only `config validate` knows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drbdbackup.config.keys import FILE
from drbdbackup.config.kinds import NAME, Named, Table, Value, ValueKind, Variants, under

DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that editors of TOML know


def as_schema(meanings: Mapping[str, str]) -> dict[str, Any]:
    """The whole file. `meanings` are the words of docs/config.md by dotted key, with NAME for a name that is chosen."""
    return {
        "$schema": DIALECT, "title": "drbdbackup's configuration", **_schema(FILE, "", meanings),
    }  # fmt: skip


def _schema(kind: ValueKind, at: str, meanings: Mapping[str, str]) -> dict[str, Any]:
    description = {"description": meanings[at]} if at in meanings else {}
    match kind:
        case Value():
            return {**description, **kind.shape}
        case Named():
            names = dict(NAME.shape)
            least = {"minProperties": kind.least} if kind.least else {}
            below = _schema(kind.kind, under(at, "NAME"), meanings)
            return {**description, "type": "object", **least, "propertyNames": names, "additionalProperties": below}
        case Variants():
            return {**description, "type": "object", **_choice(kind, at, meanings)}
        case Table():
            return {**description, **_table(kind, at, meanings)}
    raise TypeError(f"{kind} has no schema")


def _table(table: Table, at: str, meanings: Mapping[str, str]) -> dict[str, Any]:
    properties = {key: _schema(kind, under(at, key), meanings) for key, kind in table.keys.items()}
    required = {"required": list(table.required)} if table.required else {}
    return {"type": "object", "properties": properties, **required, "additionalProperties": False}


def _choice(kind: Variants, at: str, meanings: Mapping[str, str]) -> dict[str, Any]:
    """One table for each word; the word must be there unless one is the default."""
    tables = []
    for word in kind.tables:
        table = _table(kind.table(word), at, meanings)
        table["properties"][kind.key] = {**table["properties"][kind.key], "enum": [word]}
        if word != kind.default:
            table["required"] = [kind.key, *table.get("required", [])]
        tables.append(table)
    return {"oneOf": tables} if len(tables) > 1 else tables[0]

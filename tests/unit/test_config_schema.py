"""drbdbackup/share/config.schema.json is made from the table of keys, and says of a file what `load` says of it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from drbdbackup.config import keys
from drbdbackup.config.kinds import Named, Table, Value, ValueKind, Variants
from tests import write_schema

SCHEMA = json.loads(write_schema.FILE.read_text(encoding="utf-8"))
VALIDATOR = Draft7Validator(SCHEMA)
ROOT = Path(__file__).parents[2]
[SAMPLE] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/config.md").read_text(), re.DOTALL)


def values(kind: ValueKind) -> list[Value]:
    match kind:
        case Value():
            return [kind]
        case Named():
            return values(kind.kind)
        case Variants():
            return [one for word in kind.tables for one in values(kind.table(word))]
        case Table():
            return [one for below in kind.keys.values() for one in values(below)]
    raise AssertionError(kind)


def test_the_file_is_what_the_table_and_the_page_make() -> None:
    assert write_schema.FILE.read_text(encoding="utf-8") == write_schema.text(), "python -m tests.write_schema"


def test_it_is_a_schema_and_every_value_says_what_it_may_be() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert [one.allowed for one in values(keys.FILE) if not one.shape] == []


def test_every_key_is_explained() -> None:
    def unexplained(schema, at=""):
        for table in schema.get("oneOf", [schema]):
            for key, below in table.get("properties", {}).items():
                yield from unexplained(below, f"{at}.{key}")
            if isinstance(table.get("additionalProperties"), dict):
                yield from unexplained(table["additionalProperties"], f"{at}.NAME")
        if schema.get("type") != "object" and "description" not in schema:
            yield at

    assert list(unexplained(SCHEMA)) == []


def wrong(text: str) -> list[str]:
    return [".".join(map(str, one.absolute_path)) for one in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_the_sample_of_the_page_is_right() -> None:
    assert wrong(SAMPLE) == []


@pytest.mark.parametrize(("old", "new", "at"), [
    ('"www4", "www5"', "", "nodes"), ('kind = "nas"', 'kind = "tape"', "target.nas"),
    ("daily = 14", "daily = -1", "retention.daily"),
    ("[role]", "[roll]", ""), ('device = "/dev/drbd0"', 'device = "drbd0"', "resource.raid.device"),
    ('source = "/srv/raid"', "", "resource.raid"), ("minimum = 3", "minimum = 0", "retention.minimum"),
    ("require_mount = true", 'mountpoint = "/x"', "target.nas"), ("[peer.www5]", '[peer."-x"]', "peer"),
    ("[role]", '[limits]\nprobe = "5 parsecs"\n[role]', "limits.probe"), ('"30 4 * * *"', '"30 4"', "schedule"),
])  # fmt: skip
def test_a_mistake_is_seen_where_it_is(old: str, new: str, at: str) -> None:
    assert old in SAMPLE
    assert wrong(SAMPLE.replace(old, new, 1)) == [at]


@pytest.mark.parametrize("text", [
    'rate = "50M"', "rate = 0", 'verify = "90s"', "shrink = 0.5", "nice = 0", 'ionice = "idle"', 'probe = 2.5',
])  # fmt: skip
def test_each_way_to_write_a_value_is_right(text: str) -> None:
    assert wrong(f"{SAMPLE}\n[limits]\n{text}\n") == []

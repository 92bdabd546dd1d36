"""Writes drbdbackup/share/config.schema.json from the table of keys and the words of docs/config.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from drbdbackup.config.schema import as_schema

ROOT = Path(__file__).parents[1]
FILE = ROOT / "drbdbackup/share/config.schema.json"
_NAMES = {"HOOK": "NAME", "DB": "NAME", "NODE": "NAME"}


def meanings(page: str) -> dict[str, str]:
    """What the page says of each key, without its marks."""
    rows = re.findall(r"^\| `([a-zA-Z_.]+)` \| .*? \| (.+) \|$", page, re.MULTILINE)
    plain = {key: re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", told).replace("`", "") for key, told in rows}
    known = {".".join(_NAMES.get(word, word) for word in key.split(".")): told for key, told in plain.items()}
    of_a_target = {f"target.NAME.{key}": told for key, told in known.items() if key.startswith("retention.")}
    return {**of_a_target, **known}


def text() -> str:
    """The file as it should be."""
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    return json.dumps(as_schema(meanings(page)), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

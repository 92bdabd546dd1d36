"""docs/config.md, the table of keys and the values say the same."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from drbdbackup.config import keys, values
from drbdbackup.config.kinds import Choice, Kind, Named, Table
from drbdbackup.config.load import load

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([a-zA-Z_.]+)` \| (.*?) \| .+ \|$", PAGE, re.MULTILINE))
PLACEHOLDER = {
    "resource": "NAME", "target": "NAME", "peer": "NODE", "hook": "HOOK", "database": "DB", "service": "NAME",
}
CLASSES = {
    "": values.Config, "role": values.RoleConfig, "resource.NAME": values.ResourceConfig,
    "target.NAME": values.TargetConfig, "peer.NODE": values.PeerConfig, "retention": values.Retention,
    "limits": values.Limits, "resource.NAME.service.NAME": values.ServiceConfig,
    "resource.NAME.database.DB": values.DatabaseConfig,
    "resource.NAME.hook.HOOK": values.HookConfig, "target.NAME.hook.HOOK": values.HookConfig,
    "verify": values.VerifyConfig, "drill": values.DrillConfig,
}


def test_no_blank_line_cuts_a_table_in_two() -> None:
    assert "|\n\n|" not in PAGE


def known(kind: Kind, at: str = "") -> set[str]:
    """The dotted keys of a table that are values; a target's retention is documented once, at the top."""
    if isinstance(kind, Named):
        return known(kind.kind, f"{at}.{PLACEHOLDER[at.rpartition('.')[2]]}")
    if isinstance(kind, Choice):
        return set().union(*(known(kind.table(word), at) for word in kind.tables))
    if isinstance(kind, Table) and at != "target.NAME.retention":
        return set().union(*(known(below, f"{at}.{key}".lstrip(".")) for key, below in kind.keys.items()))
    return {at}


def test_every_key_that_is_known_is_documented_and_no_other():
    assert set(ROWS) == known(keys.FILE)


def test_every_key_has_its_value_in_the_configuration():
    for dotted in known(keys.FILE):
        table, _, key = dotted.rpartition(".")
        assert key in {field.name for field in fields(CLASSES[table])}, dotted


@pytest.mark.parametrize("dotted", sorted(known(keys.FILE)))
def test_the_documented_default_is_the_real_one(dotted):
    table, _, key = dotted.rpartition(".")
    [field] = [field for field in fields(CLASSES[table]) if field.name == key]
    written = ROWS[dotted].strip("`").strip('"')
    if written.startswith(("must be given", "that of", "the short host name", "root's own")):
        assert field.default in (MISSING, "", ()) or dotted == "target.NAME.retention"
    else:
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert written == str([] if default == () else default)


def test_the_sample_on_the_page_is_read(tmp_path):
    [sample] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "config.toml"
    file.write_text(sample)
    config = load(str(file))
    assert [target.name for target in config.targets] == ["nas", "disk"]
    assert [peer.node for peer in config.peers] == ["www5"]

"""docs/config.md, the table of keys and the values say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

from msgspec import NODEFAULT
from msgspec.structs import fields

from drbdbackup.config import keys, values
from drbdbackup.config.kinds import Named, Table, ValueKind, Variants
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
    "verify": values.VerifyConfig, "drill": values.DrillConfig, "check": values.CheckConfig,
    "metrics": values.MetricsConfig, "report": values.ReportConfig, "notify": values.NotifyConfig,
}


def test_no_blank_line_cuts_a_table_in_two() -> None:
    assert "|\n\n|" not in PAGE


def known(kind: ValueKind, at: str = "") -> set[str]:
    """The dotted keys of a table that are values; a target's retention is documented once, at the top."""
    if isinstance(kind, Named):
        return known(kind.kind, f"{at}.{PLACEHOLDER[at.rpartition('.')[2]]}")
    if isinstance(kind, Variants):
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


def is_real_default(dotted: str) -> bool:
    """Whether the page tells the default that the value has."""
    table, _, key = dotted.rpartition(".")
    [field] = [field for field in fields(CLASSES[table]) if field.name == key]
    written = ROWS[dotted].strip("`").strip('"')
    if written.startswith(("must be given", "that of", "the short host name", "root's own")):
        return field.default in (NODEFAULT, "", ()) or dotted == "target.NAME.retention"
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    if isinstance(default, tuple):
        return json.loads(written) == list(default)
    return written == str(default)


def test_the_documented_defaults_are_the_real_ones():
    assert [dotted for dotted in sorted(known(keys.FILE)) if not is_real_default(dotted)] == []


def test_the_sample_on_the_page_is_read(tmp_path):
    [sample] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "config.toml"
    file.write_text(sample)
    config = load(str(file))
    assert [target.name for target in config.targets] == ["nas", "disk"]
    assert [peer.node for peer in config.peers] == ["www5"]

"""What is known, told by the installed program: `latest`, `list` and `status` on both nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.catalog import bodies, store
from drbdbackup.model.backup import Copy
from drbdbackup.model.document_reader import one_line
from tests import preloaded
from tests.played_pair import PlayedPair

COPY = {
    "snapshot": str, "sequence": int, "node": str, "target": str, "kind": str, "location": str, "path": str,
    "started_at": str, "finished_at": str, "files": int, "bytes": int, "verified_at": (str, type(None)),
    "reachable": (bool, type(None)),
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
HEAVY = {
    "asyncio", "click", "croniter", "pathspec", "pydantic", "rich", "sh", "sqlite_utils", "textual", "typer", "xxhash",
}  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    pair.add_share("second")
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def is_a_copy(found: dict[str, Any]) -> bool:
    return all(isinstance(found[key], kind) for key, kind in COPY.items())


def test_without_a_backup_latest_says_so_and_exits_with_6(pair: PlayedPair) -> None:
    told = pair.run("www4", "latest")
    assert told.returncode == 6
    assert told.stderr.startswith("drbdbackup: raid: no backup is known here\n")
    document = pair.json("www4", "latest", status=6)
    assert (document["schema"], document["resource"]) == (1, "raid")
    assert (document["backup"], document["copies"]) == (None, [])
    (pair.folder / "second").rename(pair.folder / "gone")
    for words in (["list"], ["find", "page"]):
        ended = pair.run("www4", *words)
        assert ended.returncode == 6
        assert f"second: {pair.folder}/second" in ended.stderr, "it may lie there"


def test_latest_is_what_the_design_says(pair: PlayedPair) -> None:
    pair.backs_up()
    document = pair.json("www4", "latest")
    assert {"schema", "resource", "backup", "copies", "catalogs"} <= set(document)
    assert all(is_a_copy(copy) for copy in document["copies"])
    backup = document["backup"]
    assert backup == document["copies"][0]
    assert [copy["target"] for copy in document["copies"]] == ["nas", "second"]
    assert (backup["node"], backup["kind"], backup["location"]) == ("www4", "nas", f"nas:{pair.folder}/nas")
    assert (backup["files"], backup["bytes"], backup["verified_at"], backup["reachable"]) == (1, 1000, None, True)
    assert (Path(backup["path"]) / "page").read_bytes() == b"x" * 1000
    assert TIME.match(backup["started_at"])
    assert document["catalogs"]["www4"]["road"] == "local"
    assert document["catalogs"]["www5"] == {"seen_at": None, "road": None}


def test_the_other_node_knows_it_too_and_says_by_which_road(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up("www5")
    here, there = pair.json("www4", "latest"), pair.json("www5", "latest")
    assert there["backup"] == here["backup"]
    heard = there["catalogs"]["www4"]
    assert heard["road"] in ("nas", "second", "volume-raid")
    assert TIME.match(heard["seen_at"])
    told = pair.run("www5", "latest").stdout
    assert "www4" in told
    assert "through" in told


def test_a_volume_that_is_not_mounted_on_a_secondary_is_nothing_amiss(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.resource = 'device = "/dev/null"'
    assert pair.json("www5", "latest")["closed_roads"] == pair.json("www5", "status")["closed_roads"] == {}


def test_a_copy_out_of_reach_is_still_the_newest_backup(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "nas").rename(pair.folder / "gone")
    document = pair.json("www4", "latest")
    assert [copy["reachable"] for copy in document["copies"]] == [False, True]
    assert document["backup"]["target"] == "nas"
    for command in ("latest", "status"):
        assert "nas (out of reach)" in pair.run("www4", command).stdout, command


def test_a_target_that_nobody_has_any_more_does_not_lead(pair: PlayedPair) -> None:
    """As long as the other node may have it, its copies count like any other."""
    pair.backs_up()
    pair.backs_up("www5")
    (pair.volume / "page").write_bytes(b"y" * 2000)
    pair.backs_up("www4", "--target", "second")
    before, pair.targets = pair.targets, {"nas": pair.targets["nas"]}
    assert pair.json("www4", "latest")["backup"]["target"] == "second"
    restore = ("restore", "--to", str(pair.folder / "restored"), "--yes")
    assert pair.run("www4", *restore).returncode == 6

    pair.json("www5", "sync")
    document = pair.json("www4", "latest")
    assert [document["copies"][0][key] for key in ("target", "retired", "reachable")] == ["second", True, None]
    assert (document["backup"]["target"], document["backup"]["retired"]) == ("nas", False)
    gone, where = document["copies"][0]["snapshot"], f"second:{pair.folder}/second"
    [raid] = pair.json("www4", "status")["resources"]
    assert raid["last_complete"]["target"] == "nas"
    [raid] = pair.json("www4", "exposure")["resources"]
    assert raid["retired"] == [where]
    assert {case["copy"]["target"] for line in raid["lineages"] for case in line["cases"] if case["copy"]} == {"nas"}
    for command in ("latest", "status", "exposure", "list --copies"):
        assert where in pair.run("www4", *command.split()).stdout, command
    assert "second (not known from here, target not configured)" in pair.run("www4", "list").stdout
    document = pair.json("www4", *restore)
    assert any(gone in warning and where in warning for warning in document["plan"]["warnings"])
    assert (pair.folder / "restored/page").stat().st_size == 1000

    assert pair.run("www4", *restore, "--merge", "--snapshot", gone).returncode == 6
    pair.targets = before
    pair.json("www5", "sync")
    assert pair.json("www4", "latest")["backup"]["target"] == "second"


def test_what_was_made_under_another_name_is_told_and_can_be_reached(pair: PlayedPair) -> None:
    pair.backs_up()
    known = pair.json("www4", "status")["other_resources"]
    old = pair.config("www4").rename(pair.folder / "old.toml")
    renamed = pair.folder / "renamed.toml"
    renamed.write_text(old.read_text().replace("[resource.raid]", "[resource.shop]"))

    def told(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-P", "-m", "drbdbackup", "--config", str(config), *words]
        return preloaded.run(argv, capture_output=True, text=True, timeout=60)

    assert known == []
    there = [{"resource": "raid", "snapshots": 1}]
    assert json.loads(told(renamed, "status", "--json").stdout)["other_resources"] == there
    for words in ("latest", "list"):
        ended = told(renamed, words)
        assert ended.returncode == 6
        assert "[resource.raid]" in ended.stderr
    findings = json.loads(told(renamed, "doctor", "--json").stdout)["checks"]
    assert [(one["about"], one["state"]) for one in findings if one["check"] == "other resource"] == [("raid", "warn")]
    assert told(renamed, "run").returncode == 0
    assert json.loads(told(renamed, "list", "--json").stdout)["other_resources"] == there
    assert "[resource.raid]" in told(renamed, "list").stdout
    back = pair.folder / "back"
    assert told(old, "restore", "--to", str(back), "--yes").returncode == 0
    assert (back / "page").stat().st_size == 1000


def test_the_list_has_every_copy_newest_first(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    copies = pair.json("www4", "list")["copies"]
    assert [copy["sequence"] for copy in copies] == sorted((copy["sequence"] for copy in copies), reverse=True)
    assert len(copies) == 4
    lines = pair.run("www4", "list", "--copies").stdout.splitlines()
    assert lines[0].split()[:2] == ["RESOURCE", "SNAPSHOT"]
    assert [line.split()[1] for line in lines[1:]] == [copy["snapshot"] for copy in copies]


def test_the_list_has_a_row_for_each_snapshot_that_is_asked_for(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--target", "nas")
    for _ in range(2):
        pair.backs_up()
    every = pair.json("www4", "list")
    names = [one["snapshot"] for one in every["snapshots"]]
    assert [[copy["target"] for copy in one["copies"]] for one in every["snapshots"]] == [
        ["nas", "second"], ["nas", "second"], ["nas"],
    ]  # fmt: skip
    assert every["more"] == 0
    head, *lines = pair.run("www4", "list").stdout.splitlines()
    assert head.split() == ["SNAPSHOT", "MADE", "FILES", "SIZE", "COPIES", "STATE"]
    assert [line.split()[0] for line in lines] == names

    def listed(*args: str) -> tuple[list[str], int, int]:
        told = pair.json("www4", "list", *args)
        return [one["snapshot"] for one in told["snapshots"]], len(told["copies"]), told["more"]

    assert listed("--limit", "1") == (names[:1], 2, 2)
    assert listed("--target", "second") == (names[:2], 2, 0)
    assert listed("--node", "www4", "--since", "today 00:00") == (names, 5, 0)
    for args, status in ((["--node", "www5"], 6), (["--since", every["copies"][0]["started_at"][:4] + "-12-31"], 6),
                         (["--node", "www9"], 2), (["--target", "tape"], 2), (["--limit", "0"], 2),
                         (["--since", "x"], 2)):
        assert pair.run("www4", "list", *args).returncode == status, args


def test_of_several_resources_a_script_must_name_one(pair: PlayedPair) -> None:
    pair.extra = f'[resource.mail]\nrequire_mount = false\nsource = "{pair.folder}/mail"'
    (pair.folder / "mail").mkdir()
    assert pair.run("www4", "latest").returncode == 6
    pair.backs_up("www4", "--resource", "raid")
    some = pair.run("www4", "latest")
    assert (some.returncode, some.stderr.splitlines()[0]) == (3, "drbdbackup: mail: no backup is known here")
    pair.backs_up()
    assert pair.run("www4", "latest", "--json").returncode == 2
    assert pair.json("www4", "latest", "--resource", "mail")["resource"] == "mail"
    told = pair.run("www4", "latest").stdout
    assert "raid: the newest" in told
    assert "mail: the newest" in told
    assert {copy["resource"] for copy in pair.json("www4", "list")["copies"]} == {"raid", "mail"}


def test_status_is_what_the_design_says(pair: PlayedPair) -> None:
    document = pair.json("www4", "status")
    assert (document["schema"], document["node"]) == (1, "www4")
    [raid] = document["resources"]
    wanted = {
        "resource", "role", "disk", "peer_role", "source", "verdict", "because", "last_complete", "next_due",
        "due_since",
    }  # fmt: skip
    assert wanted <= set(raid)
    assert (raid["resource"], raid["role"], raid["verdict"]) == ("raid", "Primary", "proceed")
    assert raid["last_complete"] is None
    assert TIME.match(raid["next_due"])
    assert TIME.match(raid["due_since"])


def test_status_after_a_backup_has_nothing_overdue_on_either_node(pair: PlayedPair) -> None:
    pair.backs_up()
    for node, role, verdict in (("www4", "Primary", "proceed"), ("www5", "Secondary", "stand-down")):
        [raid] = pair.json(node, "status")["resources"]
        assert (raid["role"], raid["verdict"], raid["due_since"]) == (role, verdict, None)
        assert is_a_copy(raid["last_complete"])


def test_status_exits_with_0_whatever_the_verdict(pair: PlayedPair) -> None:
    (pair.folder / "role-www4").write_text("Perhaps\n")
    [raid] = pair.json("www4", "status")["resources"]
    assert (raid["role"], raid["verdict"]) == ("Unknown", "refuse")
    assert raid["because"]
    told = pair.run("www4", "status")
    assert (told.returncode, told.stderr) == (0, "")
    assert "refuse" in told.stdout


@pytest.mark.parametrize(("node", "words"), [
    ("www4", ["latest"]), ("www4", ["status"]), ("www4", ["list"]), ("www5", ["run"]), ("www4", ["run", "--if-due"]),
])  # fmt: skip
def test_what_scripts_run_loads_only_what_it_needs(pair: PlayedPair, node: str, words: list[str]) -> None:
    pair.backs_up()
    pair.run(node, *words)
    argv = [sys.executable, "-X", "importtime", *pair.command(node, *words, "--json")[1:]]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stderr
    loaded = {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in told.splitlines() if "|" in line}
    assert "drbdbackup" in loaded
    assert loaded & HEAVY == set()


def test_latest_leaves_nothing_readable_for_others(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.run("www5", "latest")
    for folder, _, files in os.walk(pair.folder / "state-www5"):
        assert os.stat(folder).st_mode & 0o077 == 0
        assert [name for name in files if os.stat(os.path.join(folder, name)).st_mode & 0o077] == []


def test_what_another_node_claims_does_nothing_to_the_terminal(pair: PlayedPair) -> None:
    pair.backs_up()
    now = datetime.now(UTC)
    copy = Copy(
        snapshot="20261123T043000Z-www5", resource="raid", sequence=99, node="www5", target="nas", kind="nas",
        medium="0" * 32, location="nas:\x1b]0;gone\x07\n/backup", holder="", path="/backup/\x1b[2J", started_at=now,
        finished_at=now, files=1, bytes=1,
    )  # fmt: skip
    store.record(str(pair.folder / "state-www5"), "www5", [bodies.copied("www5", now, copy)])
    assert pair.run("www5", "sync").returncode == 0
    for command in ("latest", "list", "status"):
        told = pair.run("www4", command)
        assert told.returncode == 0
        assert "20261123T043000Z-www5" in told.stdout
        assert not {"\x1b", "\x07"} & set(told.stdout + told.stderr)
    assert pair.copies()[0]["location"] == one_line(copy.location) != copy.location


def test_a_damaged_copy_is_not_the_newest_backup(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    damaged = pair.newest("nas") / "page"
    damaged.write_bytes(b"y" * 1000)
    assert pair.run("www4", "verify", "--target", "nas").returncode == 1
    document, [raid] = pair.json("www4", "latest"), pair.json("www4", "status")["resources"]
    assert document["copies"][0]["damaged_at"]
    assert document["backup"]["target"] == "second"
    assert raid["last_complete"] == document["backup"]

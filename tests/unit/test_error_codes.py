"""Every error has a code of its own, docs/errors.md has exactly these, and `--json` of real commands carries them."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.errors import DrbdBackupError, Failure, ToolMissing, from_document, tree
from tests.played_pair import PlayedPair

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\S+)` \| (\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
KINDS = tree()
FORM = re.compile(r"[a-z]+(\.[a-z-]+)+")


def shown(pair: PlayedPair, node: str, *args: str, status: int) -> dict[str, Any]:
    """The error of a command that fails, as a script gets it; it is whole, and the process ends as it says."""
    error: dict[str, Any] = pair.json(node, *args, status=status)["error"]
    assert list(error) == ["code", "error", "message", "hint", "status"]
    assert error["status"] == status
    return error


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return PlayedPair(tmp_path)


def test_every_class_has_a_code_of_its_own() -> None:
    assert [kind.__name__ for kind in KINDS if "code" not in vars(kind)] == []
    assert [kind.code for kind in KINDS if not FORM.fullmatch(kind.code)] == []
    assert [code for code, times in Counter(kind.code for kind in KINDS).items() if times > 1] == []


def test_the_tree_is_all_in_one_module() -> None:
    """A class elsewhere would have its code only in processes that import it, and would not cross a cage's wall."""
    files = [file for file in (ROOT / "drbdbackup").rglob("*.py") if file.name != "errors.py"]
    names = "|".join(kind.__name__ for kind in KINDS)
    below = re.compile(rf"^ *class \w+\((?:{names})\b", re.MULTILINE)
    assert len(files) > 200
    assert [str(file) for file in files if below.search(file.read_text(encoding="utf-8"))] == []


def test_the_page_has_exactly_these_with_their_exit_statuses() -> None:
    assert sorted((code, int(status)) for code, status, _, _ in ROWS) == sorted(
        (kind.code, kind.status) for kind in KINDS
    )
    assert len(ROWS) == PAGE.count("\n| `"), "a row that does not have four cells"


def test_an_error_is_the_same_behind_the_wall() -> None:
    for kind in KINDS:
        document = json.loads(json.dumps(kind("what", "do").as_document()))
        assert (document["code"], document["status"]) == (kind.code, kind.status)
        back = from_document(document)
        assert (type(back), back.message, back.hint) == (kind, "what", "do")


def test_a_code_that_is_not_known_is_a_plain_error() -> None:
    back = from_document({"code": "target.on-fire", "error": "TargetError", "message": "what", "hint": "do"})
    assert (type(back), back.message, back.hint) == (Failure, "what", "do")


def test_what_narrows_an_error_is_still_called_so() -> None:
    """Scripts of before the codes go by "error", and by the exit status."""
    narrower = [kind for kind in KINDS if kind.kind != kind.__name__]
    assert narrower
    for kind in narrower:
        broader = kind.__mro__[1]
        assert issubclass(broader, DrbdBackupError)
        assert (kind.kind, kind.status) == (broader.kind, broader.status)


def test_the_configuration(pair: PlayedPair) -> None:
    missing = ("latest", "--config", f"{pair.folder}/nothing.toml")
    assert shown(pair, "www4", *missing, status=2)["code"] == "config.unreadable"
    assert shown(pair, "www4", "latest", "--resource", "mail", status=2)["code"] == "usage.invalid"
    pair.head = 'nonsense = "much"'
    error = shown(pair, "www4", "latest", status=2)
    assert (error["code"], error["error"]) == ("config.invalid", "ConfigError")


@pytest.mark.skipif(os.geteuid() != 0, reason="only what root runs has to be safe from others")
def test_a_configuration_that_others_can_write(pair: PlayedPair) -> None:
    pair.config("www4")
    other = pair.folder / "other.toml"
    other.write_text(pair.config("www4").read_text())
    other.chmod(0o666)
    assert shown(pair, "www4", "latest", "--config", str(other), status=2)["code"] == "config.unsafe"


def test_no_backup(pair: PlayedPair) -> None:
    restore = ("restore", "--to", f"{pair.folder}/out", "--yes")
    for command in (("latest",), ("list",), ("find", "page"), restore):
        assert shown(pair, "www4", *command, status=6)["code"] == "copy.none"
    [raid] = pair.json("www4", "exposure", status=6)["resources"]
    assert raid["error"]["code"] == "copy.none"
    pair.backs_up()
    assert shown(pair, "www4", *restore, "--snapshot", "1999", status=6)["code"] == "copy.not-found"
    assert pair.json("www4", "latest")["error"] is None
    [raid] = pair.json("www4", "exposure")["resources"]
    assert raid["error"] is None


def test_a_lock_that_is_held(pair: PlayedPair) -> None:
    with open(pair.folder / "state-www4" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert shown(pair, "www4", "prune", status=5)["code"] == "lock.held"


def test_a_role_that_cannot_be_read_is_told_from_one_that_is_wrong(pair: PlayedPair) -> None:
    restore = ("restore", "--in-place", "--yes")
    error = shown(pair, "www5", *restore, status=4)
    assert (error["code"], error["error"]) == ("role.refused", "RoleError")
    (pair.folder / "role-www4").unlink()
    error = shown(pair, "www4", *restore, status=4)
    assert (error["code"], error["error"]) == ("role.unreadable", "RoleError")
    [run] = pair.json("www4", "run", status=4)["runs"]
    assert (run["error"]["code"], run["error"]["status"]) == ("role.unreadable", 4)


def test_each_target_of_a_run_has_its_own(pair: PlayedPair) -> None:
    (pair.volume / "page").write_bytes(b"x")
    (pair.folder / "away").mkdir()
    pair.targets["away"] = f'kind = "nas"\npath = "{pair.folder}/away"'
    pair.add_disk("disk", f"{pair.folder}/no-such-image")
    [run] = pair.json("www4", "run", status=3)["runs"]
    errors = {target["target"]: target["error"] for target in run["targets"]}
    assert errors["nas"] is None
    codes = {name: (error["code"], error["error"], error["status"]) for name, error in errors.items() if error}
    assert codes == {
        "away": ("target.not-mounted", "NotMounted", 1), "disk": ("target.missing", "TargetError", 1),
    }  # fmt: skip
    listed = {target["name"]: target["error"] for target in pair.json("www4", "target", "list")["targets"]}
    assert listed["disk"]["code"] == "target.missing"


@pytest.mark.parametrize(("program", "package"), [("drbdadm", "drbd-utils"), ("ssh-keygen", "openssh-client")])
def test_a_missing_program_names_debians_package(program: str, package: str) -> None:
    assert package in ToolMissing.of(program).hint
    assert "no-such-program" in ToolMissing.of("no-such-program").hint

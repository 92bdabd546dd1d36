"""What scripts depend on whatever the state of the node: commands, exit statuses of a wrong use, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drbdbackup.cli.app import COMMANDS as DECLARED
from drbdbackup.cli.command import CliGroup, Option, parameters
from tests import preloaded

PROGRAM = str(Path(sys.executable).parent / "drbdbackup")
COMMANDS = (
    "run", "latest", "list", "status", "watch", "restore", "verify", "replicate", "prune", "sync", "target list",
    "target accept", "config show", "config validate", "serve", "demo", "doctor", "pair init", "pair render", "find",
    "diff", "exposure", "browse", "target sign", "peer list", "peer trust", "peer add", "peer accept", "peer test",
    "peer remove", "pin", "unpin", "check", "install", "init", "runs", "report", "notify test",
)  # fmt: skip
WITHOUT_CONFIG = ("demo", "pair init", "pair render")
SETS_UP = ("install", "init")  # a configuration is not needed yet, and is read where there is one
WITH_ARGUMENTS = (
    "pin", "unpin", "find", "diff", "target sign", "peer trust", "peer add", "peer accept", "peer test", "peer remove",
    "report",
)  # fmt: skip
OF_A_PLUGIN = ("check",)
WITHOUT_JSON = ("serve", "demo", "browse", "watch")
OPTIONS = {
    "run": ["--if-due", "--dry-run", "--resource", "--target", "--note"],
    "pin": ["--note"],
    "report": ["--html", "--resource"],
    "runs": ["--since", "--node", "--outcome", "--limit"],
    "list": ["--resource", "--limit", "--since", "--node", "--target", "--copies"],
    "check": ["-w", "--warning", "-c", "--critical", "--checkmk", "--resource"],
    "restore": [
        "--from", "--at", "--snapshot", "--path", "--to", "--in-place", "--dry-run", "--yes",
    ],
    "verify": ["--sample"],
    "prune": ["--dry-run", "--resource", "--target"],
    "sync": ["--rebuild"],
    "find": ["--resource"],
    "diff": ["--resource", "--path", "--stat", "--no-pager"],
    "exposure": ["--resource"],
    "browse": ["--resource"],
    "watch": ["--resource", "--interval"],
    "peer add": ["--identity", "--yes"],
    "pair render": ["--out", "--dry-run"],
    "init": ["--source", "--nas", "--disk", "--dry-run", "--yes"],
    "install": ["--cron", "--timer", "--agent", "--undo", "--root", "--dry-run"],
}  # fmt: skip
STATUSES = {
    "run": {0, 1, 2, 3, 4, 5, 7, 8, 130, 143}, "latest": {0, 1, 2, 3, 6, 130, 143}, "status": {0, 1, 2, 8, 130, 143},
    "check": {0, 1, 2, 3}, "restore": {0, 1, 2, 4, 5, 6, 7, 130, 143}, "prune": {0, 1, 2, 3, 5, 130, 143},
    "find": {0, 1, 2, 5, 6, 130, 143}, "diff": {0, 1, 2, 3, 4, 5, 6, 7, 130, 143},
    "exposure": {0, 1, 2, 3, 6, 130, 143}, "browse": {0, 1, 2, 5, 6, 130, 143},
}  # fmt: skip
GOOD = """
node = "www4"
nodes = ["www4", "www5"]
state_dir = "{folder}/state"
[role]
source = "file"
path = "{folder}/role"
[resource.raid]
require_mount = false
source = "{folder}/volume"
[target.nas]
kind = "nas"
path = "{folder}/nas"
require_mount = false
"""


def drbdbackup(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "DRBDBACKUP_CONFIG": "/nowhere/config.toml", **environment}
    return preloaded.run(
        [*preloaded.ENTRY, *args], capture_output=True, text=True, errors="surrogateescape", timeout=60,
        env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def is_told_without_a_traceback(ended: subprocess.CompletedProcess[str]) -> bool:
    return ended.stderr.startswith("drbdbackup: ") and "Traceback" not in ended.stderr


def good_file(folder: Path) -> str:
    path = folder / "config.toml"
    path.write_text(GOOD.format(folder=folder))
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_whole_and_has_its_exit_statuses_and_options(command: str) -> None:
    ended = drbdbackup(*command.split(), "--help", COLUMNS="80")
    assert ended.returncode == 0
    assert cut_short(ended.stdout) == []
    told = re.sub(r"\s+", " ", ended.stdout)
    statuses = {int(found) for found in re.findall(r"(?:Exit status: |; )(\d+) ", told)}
    assert ({0, 1, 2, 3} if command in OF_A_PLUGIN else {0, 1, 2, 130, 143}) <= statuses
    assert statuses == STATUSES.get(command, statuses)
    wanted = list(OPTIONS.get(command, ()))
    wanted += [] if command in WITHOUT_CONFIG else ["--config"]
    wanted += [] if command in WITHOUT_JSON else ["--json"]
    assert [option for option in wanted if not re.search(rf"{option}\b", ended.stdout)] == []


@pytest.mark.parametrize("group", ["", "config", "target", "peer", "pair"])
def test_no_help_of_a_group_is_cut_short_on_80_columns(group: str) -> None:
    assert cut_short(drbdbackup(*group.split(), "--help", COLUMNS="80").stdout) == []


def cut_short(told: str) -> list[str]:
    """The lines of a help that are."""
    lines = told.splitlines()
    assert lines[0].startswith("Usage: ")  # which ends with "[ARGS]..." where there are commands
    return [line for line in lines[1:] if len(line) > 80 or line.endswith(("...", "…"))]


def test_the_help_names_every_command_once_in_a_section_that_is_named() -> None:
    told = drbdbackup("--help", COLUMNS="80").stdout
    sections = dict(re.findall(r"^([A-Z][a-z ]+):\n((?:  .*\n)+)", told, re.MULTILINE))
    assert sections.keys() == {"Options", "Back up", "Look", "Restore and verify", "Set up"}
    del sections["Options"]
    named = [name for section in sections.values() for name in re.findall(r"^  (\w+)", section, re.MULTILINE)]
    assert sorted(named) == sorted({*(command.split()[0] for command in COMMANDS), "drill"})


def test_without_a_command_the_help_is_shown_and_that_is_a_wrong_use() -> None:
    ended = drbdbackup()
    assert ended.returncode == 2
    assert all(command.split()[0] in ended.stdout for command in COMMANDS)


def test_the_installed_program_tells_its_version() -> None:
    ended = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"drbdbackup \d+\.\d+\.\d+\S*\n", ended.stdout)


@pytest.mark.parametrize("args", [
    ["nonsense"], ["latest", "--nonsense"], ["latest", "surplus"], ["target"], ["target", "accept"],
    ["run", "--resource"], ["--config"], ["config", "nonsense"], ["\x1b[31m\n\udcff"], ["forget"], ["peer", "forget"],
])  # fmt: skip
def test_a_command_line_that_makes_no_sense_exits_with_2(args: list[str]) -> None:
    ended = drbdbackup(*args)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert is_told_without_a_traceback(ended)
    assert "\x1b" not in ended.stderr
    if args == ["run", "--resource"]:
        assert "See `drbdbackup run --help`." in ended.stderr
    if args[-1] == "forget":  # which removes backups elsewhere; of a peer nobody means that
        assert ("`drbdbackup prune`" in ended.stderr) is (args == ["forget"])


@pytest.mark.parametrize("command", [
    command for command in COMMANDS
    if command not in (*WITHOUT_CONFIG, *WITH_ARGUMENTS, *SETS_UP, *OF_A_PLUGIN, "serve", "target accept", "verify")
])  # fmt: skip
def test_without_a_configuration_every_command_says_what_to_do(command: str) -> None:
    ended = drbdbackup(*command.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert is_told_without_a_traceback(ended)
    assert "/nowhere/config.toml: No such file or directory" in ended.stderr
    assert "--config" in ended.stderr
    assert "drbdbackup init" in ended.stderr


def test_a_script_gets_the_error_as_a_document() -> None:
    ended = drbdbackup("latest", "--json")
    assert ended.returncode == 2
    document = json.loads(ended.stdout)
    assert document["schema"] == 1
    assert document["error"]["code"] == "config.unreadable"
    assert document["error"]["error"] == "ConfigError"
    assert document["error"]["status"] == 2
    assert "/nowhere/config.toml" in document["error"]["message"]
    assert is_told_without_a_traceback(ended)


EVERY = [
    ([one.name, below.name], below.function) if isinstance(one, CliGroup) else ([one.name], below.function)
    for one in DECLARED
    for below in (one.commands if isinstance(one, CliGroup) else (one,))
]


@pytest.mark.parametrize(("words", "function"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_no_option_and_no_argument_may_be_empty_or_blank(words, function, tmp_path: Path) -> None:
    good = ["--config", good_file(tmp_path)]
    for blank in ("", " \t\n"):
        for at, one in enumerate(parameters(function)):
            flag = one.given_by.flag if isinstance(one.given_by, Option) else ""
            if one.type is bool:
                continue
            given = [blank] if not flag else [f"{flag}={blank}"] if at % 2 else [flag, blank]
            if not flag:
                given = ["value"] * (at if one.is_required else 0) + given
            ended = drbdbackup(*good, *words, *given, "--json")
            assert ended.returncode == (3 if " ".join(words) in OF_A_PLUGIN else 2), given
            error = json.loads(ended.stdout)["error"]
            assert error["code"] == "usage.invalid"
            assert error["message"] == f"{flag or 'an argument'} is empty"
    assert not (tmp_path / "state").exists()


def test_an_option_with_one_value_is_not_given_twice(tmp_path: Path) -> None:
    """The last one would count, and the other be left out without a word: --resource mail --resource raid."""
    file = good_file(tmp_path)
    for flag, *words in (
        ["--to", "restore", "--to", "/one", "--dry-run", "--to=/other"],
        ["--limit", "list", "--limit=1", "--limit", "-1"],
        ["--resource", "restore", "--resource", "--to", "--resource", "raid"],
        ["--config", "peer", "list", "--config", file, "--config", file],
    ):
        ended = drbdbackup("--config", file, *words, "--json")
        error = json.loads(ended.stdout)["error"]
        assert (ended.returncode, error["code"]) == (2, "usage.invalid"), words
        assert error["message"] == f"{flag} is given more than once"
    ended = drbdbackup("--config", file, "check", "-w", "1h", "--warning", "2h")
    assert (ended.returncode, "--warning is given more than once" in ended.stdout) == (3, True)
    for words in (["status", "--resource", "raid", "-vv"], ["list", "--node", "--node"]):
        assert "more than once" not in drbdbackup("--config", file, *words).stderr


def test_a_blank_word_is_refused_before_the_command_and_behind_two_dashes(tmp_path: Path) -> None:
    file = good_file(tmp_path)
    for words in (["--config", "", "status"], ["--config=", "status"], ["verify", "--config", file, "--", ""], [""]):
        ended = drbdbackup(*words)
        assert (ended.returncode, ended.stdout) == (2, ""), words
        assert is_told_without_a_traceback(ended)
    assert drbdbackup("find", "--config", file, "--", "--path=").returncode != 2  # a name that looks like an option


def test_what_stands_behind_two_dashes_is_no_option() -> None:
    ended = drbdbackup("verify", "--", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_the_file_is_named_before_the_verb_behind_it_or_by_the_environment(tmp_path: Path) -> None:
    file = good_file(tmp_path)
    ways = [
        drbdbackup("--config", file, "config", "show"), drbdbackup("config", "show", "--config", file),
        drbdbackup("config", "show", DRBDBACKUP_CONFIG=file),
    ]  # fmt: skip
    assert {(ended.returncode, ended.stdout, ended.stderr) for ended in ways} == {(0, ways[0].stdout, "")}
    assert 'node = "www4"' in ways[0].stdout


def test_the_file_behind_the_verb_wins(tmp_path: Path) -> None:
    ended = drbdbackup("--config", "/nowhere/else", "config", "show", "--config", good_file(tmp_path))
    assert ended.returncode == 0


def test_what_is_shown_is_read_back_as_the_same(tmp_path: Path) -> None:
    shown = drbdbackup("config", "show", "--config", good_file(tmp_path)).stdout
    (tmp_path / "again.toml").write_text(shown)
    again = drbdbackup("config", "show", "--config", str(tmp_path / "again.toml"))
    assert (again.returncode, again.stdout) == (0, shown)


def test_validate_tells_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(GOOD.format(folder=tmp_path) + '\n[limits]\nprobe = "soon"\n[retention]\nminimum = 0\n')
    ended = drbdbackup("config", "validate", "--config", str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "limits.probe" in ended.stderr
    assert "retention.minimum" in ended.stderr


def test_validate_understands_the_schedule_too(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('schedule = "0 0 30 2 *"\n' + GOOD.format(folder=tmp_path))
    ended = drbdbackup("config", "validate", "--config", str(file))
    assert ended.returncode == 2
    assert f"{file}: schedule" in ended.stderr


def test_validate_sums_up_what_is_right(tmp_path: Path) -> None:
    file = good_file(tmp_path)
    ended = drbdbackup("config", "validate", "--config", file)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{file} is valid.")
    document = json.loads(drbdbackup("config", "validate", "--config", file, "--json").stdout)
    assert (document["schema"], document["valid"], document["resources"]) == (1, True, ["raid"])


def test_an_unknown_resource_or_target_is_told_with_those_there_are(tmp_path: Path) -> None:
    file = good_file(tmp_path)
    for args, known in ((["latest", "--resource", "mail"], "raid"), (["run", "--target", "tape"], "nas")):
        ended = drbdbackup(*args, "--config", file)
        assert ended.returncode == 2
        assert args[-1] in ended.stderr
        assert f"has: {known}." in ended.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [PROGRAM, "config", "show", "--config", good_file(tmp_path)], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_what_nobody_foresaw_is_one_sentence_unless_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "drbdbackup").symlink_to(Path(__file__).parents[2] / "drbdbackup")
    (tmp_path / "tomllib.py").write_text("def loads(text): raise KeyError('a bug')\nTOMLDecodeError = ValueError\n")
    argv = [sys.executable, "-m", "drbdbackup", "latest", "--config", good_file(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith("drbdbackup: KeyError: 'a bug'\n")
    assert "report" in ended.stderr
    assert "Traceback" not in ended.stderr
    asked = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env={**environment, "DRBDBACKUP_DEBUG": "1"}
    )
    assert "Traceback" in asked.stderr


_INTERRUPTED = """
import importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "drbdbackup.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from drbdbackup.__main__ import main
main()
"""


def test_ctrl_c_while_it_is_still_being_read_is_no_traceback() -> None:
    """It may come before anything of ours can hear it, and on a busy node that takes a while."""
    ended = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (-2, "")

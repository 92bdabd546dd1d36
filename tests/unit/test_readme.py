"""What README.md and docs/ tell an admin to type, write and expect is what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from drbdbackup import errors
from drbdbackup.cli.app import app
from drbdbackup.config.load import load
from drbdbackup.config.values import PeerConfig
from drbdbackup.tools import ssh

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = {file.name: file.read_text(encoding="utf-8") for file in FILES}
README = PAGES["README.md"]
COMMAND_LINE: Any = typer.main.get_command(app)
UNDOCUMENTED = {"serve"}  # told where its line in authorized_keys is


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def typed(page: str) -> list[str]:
    """Every command line of ours in shell blocks and between backticks."""
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return [line for line in (*lines, *re.findall(r"`([^`]+)`", prose)) if line.startswith("drbdbackup ")]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("-")} | {"--help"}


def understand(line: str) -> None:
    """Follow a line through the commands; every option in it must be one of theirs."""
    command = COMMAND_LINE
    for word in shlex.split(line)[1:]:
        below = getattr(command, "commands", {})
        if word.startswith("-"):
            assert word.partition("=")[0] in options(command), f"{line}: there is no {word}"
        elif below:
            assert word in below, f"{line}: there is no command {word}"
            command = below[word]
    assert not getattr(command, "commands", {}) or "--version" in line, f"{line}: a command is missing"


@pytest.mark.parametrize(("page", "line"), [(name, line) for name, page in PAGES.items() for line in typed(page)])
def test_every_command_that_is_told_exists_with_its_options(page: str, line: str) -> None:
    understand(line)


def test_every_command_is_told() -> None:
    rows = re.findall(r"^\| `drbdbackup ([a-z]+)", README, re.MULTILINE)
    assert set(rows) == set(COMMAND_LINE.commands) - UNDOCUMENTED


def test_every_option_of_a_restore_is_told() -> None:
    left_out = {"-h", "--help", "--config", "--json", "--resource"}
    assert {name for name in options(COMMAND_LINE.commands["restore"]) if name not in PAGES["restore.md"]} <= left_out


def test_the_configuration_is_read(tmp_path: Path) -> None:
    [text] = blocks("toml")
    for node, peer in (("www4", "www5"), ("www5", "www4")):
        file = tmp_path / f"{node}.toml"
        file.write_text(f'node = "{node}"\n{text}')
        config = load(str(file))
        assert [one.node for one in config.peers] == [peer]
        assert [target.kind for target in config.targets] == ["nas", "disk"]


def test_the_lines_for_cron_are_those_of_the_file() -> None:
    file = (ROOT / "cron/drbdbackup").read_text().splitlines()
    [lines] = blocks("cron")
    assert [line for line in file if re.match(r"[0-9*]", line)] == lines.splitlines()
    assert "cron/drbdbackup /etc/cron.d/drbdbackup" in README


def test_the_forced_command_is_the_one_that_errors_name() -> None:
    hint = ssh.failure(PeerConfig("www5", "root@www5"), 127, []).hint
    [told] = re.findall(r"^restrict,command=.*$", PAGES["peer.md"], re.MULTILINE)
    forced = told.split(" ssh-")[0]
    assert forced in hint
    understand(forced.partition('"/usr/local/bin/')[2].rstrip('"'))


def test_the_exit_statuses_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \|", README, re.MULTILINE)
    told = {int(number) for row in rows for number in row.split(",")}
    known = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")}
    assert told == known | {0}


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)`", README)) | {"demo", "test"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[page]):
        assert link.startswith("https://") or (folder / link).exists(), link


def test_the_first_words_are_what_it_is_and_the_two_commands() -> None:
    head = README.split("\n## ")[0]
    assert head.index("# make demo") < head.index("# make test")
    assert "On a pair in ten minutes" in README

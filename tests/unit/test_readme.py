"""What README.md and docs/ tell an admin to type, write and expect is what there is."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from drbdbackup import errors
from drbdbackup.cli import typer_app
from drbdbackup.cli.app import COMMANDS
from drbdbackup.cli.command import CliCommand, CliGroup
from drbdbackup.config.load import load
from drbdbackup.config.values import PeerConfig
from drbdbackup.tools import ssh

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/de").glob("*.md")))
PAGES = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
README = PAGES["README.md"]
COMMAND_LINE: Any = typer.main.get_command(typer_app.app(COMMANDS))
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


def misunderstood(line: str) -> str:
    """What is wrong with a line: followed through the commands, every option in it must be one of theirs."""
    command = COMMAND_LINE
    for word in shlex.split(line)[1:]:
        below = getattr(command, "commands", {})
        if word.startswith("-"):
            if word.partition("=")[0] not in options(command):
                return f"{line}: there is no {word}"
        elif below:
            if word not in below:
                return f"{line}: there is no command {word}"
            command = below[word]
    is_whole = not getattr(command, "commands", {}) or {"--version", "--help"} & set(line.split())
    return "" if is_whole else f"{line}: a command is missing"


def test_every_command_that_is_told_exists_with_its_options() -> None:
    lines = [line for page in PAGES.values() for line in typed(page)]
    assert len(lines) > 100
    assert [wrong for line in lines if (wrong := misunderstood(line))] == []


def test_the_example_in_each_help_is_a_command_line_of_that_command() -> None:
    examples = {f"drbdbackup {one.name}": one.example for one in COMMANDS if isinstance(one, CliCommand)}
    for group in COMMANDS:
        if isinstance(group, CliGroup):
            examples |= {f"drbdbackup {group.name} {one.name}": one.example for one in group.commands}
    assert [name for name, example in examples.items() if not example] == []
    del examples["drbdbackup serve"]  # sshd starts that one
    assert [name for name, example in examples.items() if not example.startswith(name)] == []
    assert [wrong for example in examples.values() if (wrong := misunderstood(example))] == []


def test_every_command_is_told() -> None:
    rows = re.findall(r"^\| `drbdbackup ([a-z]+)", README, re.MULTILINE)
    assert set(rows) == set(COMMAND_LINE.commands) - UNDOCUMENTED


def test_every_option_of_a_restore_is_told() -> None:
    left_out = {"-h", "--help", "--config", "--json", "--resource"}
    page = PAGES["docs/restore.md"]
    assert {name for name in options(COMMAND_LINE.commands["restore"]) if name not in page} <= left_out


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
    assert "drbdbackup install --timer --agent\n" in README


def test_the_forced_command_is_the_one_that_errors_name() -> None:
    hint = ssh.failure(PeerConfig("www5", "root@www5"), 127, []).hint
    [told] = re.findall(r"^restrict,command=.*$", PAGES["docs/peer.md"], re.MULTILINE)
    forced = told.split(" ssh-")[0]
    assert forced in hint
    assert misunderstood(forced.partition('"/usr/local/bin/')[2].rstrip('"')) == ""


def test_the_exit_statuses_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \|", README, re.MULTILINE)
    told = {int(number) for row in rows for number in row.split(",")}
    known = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")}
    assert told == known | {0}


def test_the_package_of_this_release_is_installed_where_there_are_others(tmp_path: Path) -> None:
    [release] = re.findall(r'^VERSION_ID="?(\d+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    (tmp_path / "dist").mkdir()
    for one in {"12", "13", release}:
        (tmp_path / f"dist/drbdbackup_0.1.0-1~deb{one}u1_amd64.deb").touch()
    lines = {line for page in PAGES.values() for block in blocks("sh", page) for line in block.splitlines()}
    [line] = (one for one in lines if one.startswith("apt install ./dist"))  # the same on each page
    told = subprocess.run(["sh", "-c", f"apt() {{ echo $*; }}; {line}"], cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout.split() == ["install", f"./dist/drbdbackup_0.1.0-1~deb{release}u1_amd64.deb"]


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)`", README)) | {"demo", "test"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_first_words_are_what_it_is_and_the_two_commands() -> None:
    head = README.split("\n## ")[0]
    assert head.index("# make demo") < head.index("# make test")
    assert "On a pair in ten minutes" in README


def named_pages(tree: ast.AST) -> Iterator[tuple[bool, str]]:
    """Each page that a text of the program names, and whether it is looked up on this node. Docstrings are left out."""
    looked_up = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "documentation.page"
    }
    documented = {
        id(node.body[0].value) for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield from ((id(node) in looked_up, name) for name in re.findall(r"docs/[\w.-]*|README[\w.-]*", node.value))


def test_each_page_that_a_hint_names_is_installed_and_looked_up(tmp_path: Path) -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    installed = wheel["shared-data"]
    assert all(there == f"share/doc/drbdbackup/{here}" and (ROOT / here).exists() for here, there in installed.items())
    named = {
        (str(file.relative_to(ROOT)), *one)
        for file in (ROOT / "drbdbackup").rglob("*.py") for one in named_pages(ast.parse(file.read_text()))
    }  # fmt: skip
    assert len(named) >= 10
    assert [
        one for one in named if not (one[1] and (ROOT / one[2]).is_file() and one[2].split("/")[0] in installed)
    ] == []
    rendered = [file for kind in ("toml", "conf", "crm") for file in (ROOT / "drbdbackup").rglob(f"*.{kind}")]
    assert [file for file in rendered if "docs/" in file.read_text()] == [], "the same on both nodes, wherever it is"

    module = tmp_path / "lib/python3.11/site-packages/drbdbackup/documentation.py"
    page = tmp_path / "share/doc/drbdbackup/docs/config.md"
    for file, text in ((module, (ROOT / "drbdbackup/documentation.py").read_text()), (page, "")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    spec = importlib.util.spec_from_file_location("installed", module)
    assert spec is not None
    there: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(there)
    assert there.page("docs/config.md") == str(page)

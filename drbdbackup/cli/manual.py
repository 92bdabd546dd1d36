"""The manual pages: drbdbackup(1) from the declared commands, drbdbackup.toml(5) from docs/config.md.

Both are for man(1), in the macros of man(7), and say nothing that their sources do not say.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence

from drbdbackup import __version__
from drbdbackup.cli import options
from drbdbackup.cli.command import Argument, CliCommand, CliGroup, Option, Parameter, parameters

_MARK = re.compile(r"\*\*(?P<bold>[^*]+)\*\*|`(?P<code>[^`]+)`|\[(?P<link>[^]]*)\]\((?P<to>[^)]*)\)")


def commands_page(commands: Sequence[CliCommand | CliGroup], statuses: dict[int, str]) -> str:
    """drbdbackup(1)."""
    return "\n".join(_commands_page(commands, statuses)) + "\n"


def config_page(markdown: str) -> str:
    """drbdbackup.toml(5), from the page about the configuration."""
    name = r"drbdbackup.toml \- the configuration of drbdbackup"
    head = [_title("DRBDBACKUP.TOML", 5), ".SH NAME", name, ".SH DESCRIPTION"]
    end = [".SH SEE ALSO", ".BR drbdbackup (1)"]
    return "\n".join([*head, *_converted(markdown), *end]) + "\n"


def _commands_page(commands: Sequence[CliCommand | CliGroup], statuses: dict[int, str]) -> Iterator[str]:
    yield _title("DRBDBACKUP", 1)
    yield from (".SH NAME", r"drbdbackup \- back up the Primary of a DRBD pair, and restore it", ".SH SYNOPSIS")
    yield from (".B drbdbackup", r"[\fB\-\-config\fR \fIFILE\fR] \fICOMMAND\fR [\fIOPTION\fR]...", ".SH DESCRIPTION")
    yield _text(
        "Backs up the volume of a DRBD pair: the Primary makes the backup, the Secondary stands down. Either node "
        "knows where the newest backup is, and one command restores it."
    )
    yield ".SH OPTIONS"
    yield from _option(options.CONFIG)
    yield from (".TP", r"\fB\-\-version\fR", "Print the version and exit.", ".SH COMMANDS")
    for one in commands:
        if isinstance(one, CliCommand):
            yield from _command(one.name, one)
        else:
            for each in one.commands:
                yield from _command(f"{one.name} {each.name}", each)
    yield ".SH EXIT STATUS"
    for status, meaning in statuses.items():
        yield from (".TP", rf"\fB{status}\fR", _text(meaning))
    yield from (".SH FILES", ".TP", r"\fI/etc/drbdbackup/config.toml\fR")
    yield _text("The configuration; further files are read from conf.d beside it.")
    yield from (".TP", r"\fI/var/lib/drbdbackup\fR", _text("The catalog of this node, its keys and its lock."))
    yield from (".SH ENVIRONMENT", ".TP", r"\fBDRBDBACKUP_CONFIG\fR", _text("The configuration to read."))
    yield from (".SH SEE ALSO", ".BR drbdbackup.toml (5),", ".BR drbdsetup (8),", ".BR rsync (1)")


def _title(name: str, section: int) -> str:
    return f'.TH {name} {section} "" "drbdbackup {__version__}" "drbdbackup"\n.nh'  # a name is copied as it is shown


def _command(name: str, command: CliCommand) -> Iterator[str]:
    given = parameters(command.function)
    words = [rf"\fI{_text(one.given_by.metavar)}\fR" for one in given if isinstance(one.given_by, Argument)]
    yield from (f".SS {_text(' '.join([name, *words]))}" if not words else f".SS {_text(name)} {' '.join(words)}",)
    for paragraph in inspect.cleandoc(command.function.__doc__ or "").split("\n\n"):
        yield from (".PP", _text(" ".join(paragraph.split())))
    for one in given:
        yield from _parameter(one)
    if command.example:
        yield from (".PP", f"Example: \\fB{_text(command.example)}\\fR")


def _parameter(one: Parameter) -> Iterator[str]:
    if one.given_by == options.CONFIG:
        return
    if isinstance(one.given_by, Option):
        yield from _option(one.given_by)
    elif one.given_by.help:
        yield from (".TP", rf"\fI{_text(one.given_by.metavar)}\fR", _text(one.given_by.help))


def _option(option: Option) -> Iterator[str]:
    value = rf" \fI{_text(option.metavar)}\fR" if option.metavar else ""
    yield from (".TP", rf"\fB{_text(option.flag)}\fR{value}", _text(option.help))


def _converted(markdown: str) -> Iterator[str]:
    """What docs/config.md has: headings, paragraphs, lists, tables of a key, its default and its meaning, code."""
    blocks = re.findall(r"```.*?\n(?:.*\n)*?```|(?:[^\n]+\n?)+", markdown)
    for block in blocks:
        lines = block.rstrip("\n").split("\n")
        if lines[0].startswith("```"):
            yield from (".PP", ".nf", ".RS 4", *(_text(line) for line in lines[1:-1]), ".RE", ".fi")
        elif lines[0].startswith("#"):
            level, title = lines[0].split(" ", 1)
            if len(level) > 1:
                yield f".{'SH' if len(level) == 2 else 'SS'} {_marked(title)}"
        elif lines[0].startswith("|"):
            yield from _rows(lines)
        elif re.match(r"[-0-9*]+\.? ", lines[0]):
            yield from _items(lines)
        else:
            yield from (".PP", _marked(" ".join(lines)))


def _rows(lines: Sequence[str]) -> Iterator[str]:
    head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines)
    for first, *others in rows:
        cells = [f"{name}: {cell}" for name, cell in zip(head[1:-1], others[:-1], strict=True)]
        yield from (".TP", _marked(first), *(_marked(one) + "." for one in cells), _marked(others[-1]))


def _items(lines: Sequence[str]) -> Iterator[str]:
    item = ""
    for line in [*lines, "- "]:
        begun = re.match(r"[-*] |\d+\. ", line)
        if begun and item:
            yield from (r".IP \(bu 2", _marked(item))
        item = line[begun.end() :] if begun else f"{item} {line.strip()}"


def _marked(markdown: str) -> str:
    """A line of Markdown: bold, code and links."""
    parts, at = [], 0
    for mark in _MARK.finditer(markdown):
        parts.append(_text(markdown[at : mark.start()], is_first=not at))
        if mark["link"] is not None:
            parts.append(_text(re.sub(r"[`*]", "", mark["link"])))
        else:
            parts.append(rf"\fB{_text(mark['bold'] or mark['code'], is_first=False)}\fR")
        at = mark.end()
    return "".join([*parts, _text(markdown[at:], is_first=not at)])


def _text(plain: str, *, is_first: bool = True) -> str:
    """For roff: a backslash, a hyphen that is typed, and what begins a line like a request."""
    escaped = plain.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")
    escaped = escaped.replace("`", r"\(ga").replace("'", r"\(aq").replace("…", "...")
    return rf"\&{escaped}" if is_first and escaped.startswith(".") else escaped

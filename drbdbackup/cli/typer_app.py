"""The same commands as typer's: for --help, for what is wrong in argv, and for whatever is unusual there.

The only module that imports typer. It keeps to what typer documents: each minor release moves the rest.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from drbdbackup import __version__, documentation
from drbdbackup.cli import options
from drbdbackup.cli.command import Argument, Call, CliCommand, CliGroup, Option, parameters
from drbdbackup.errors import UsageError
from drbdbackup.report import console

STATUSES = {
    0: "success, or stood down",
    1: "failed",
    2: "wrong usage or configuration",
    3: "partial, or copy held back",
    4: "refused, or role unreadable",
    5: "another drbdbackup is running",
    6: "nothing found",
    7: "interrupted by a failover",
    8: "the pair is critical: no backup, a silent node, a split brain",
    130: "stopped by Ctrl-C or Ctrl-\\",
    143: "stopped by SIGTERM or SIGHUP",
}
_UNKNOWN = re.compile(r"No such command '([a-z]+)'")
_SUGGESTIONS = {  # what other programs call it
    "backup": "run", "create": "run", "mount": "browse", "snapshots": "list", "history": "runs", "log": "runs",
    "logs": "runs", "forget": "prune", "info": "latest", "version": "--version",
}  # fmt: skip
_SECTIONS = {
    "Back up": ("run", "replicate", "prune", "pin", "unpin", "sync"),
    "Look": ("latest", "list", "status", "watch", "check", "runs", "report", "find", "diff", "browse", "exposure"),
    "Restore and verify": ("restore", "verify", "drill"),
    "Set up": ("init", "install", "doctor", "notify", "config", "target", "peer", "pair", "serve", "demo"),
}


def read(commands: Sequence[CliCommand | CliGroup], argv: Sequence[str]) -> Call | int:
    """Return the call that argv means, or the exit status where typer has answered itself, as for --help.

    Raises UsageError with typer's words.
    """
    try:
        found: Call | int = app(commands)(list(argv), prog_name="drbdbackup", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise _misuse(error, _path(commands, argv)) from None
    return found


def app(commands: Sequence[CliCommand | CliGroup]) -> typer.Typer:
    """Return the whole command line as typer has it."""
    whole = typer.Typer(
        name="drbdbackup", cls=_Whole, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    where = f"Documentation: {documentation.page('README.md')} and {documentation.page('docs')}"
    end = f"{_epilog('drbdbackup latest', *range(3, 9), succeeds_as=STATUSES[0])}\n\n{where}"
    whole.callback(invoke_without_command=True, epilog=end)(_before)
    for one in commands:
        _add(whole, one)
    return whole


def _add(to: typer.Typer, one: CliCommand | CliGroup) -> None:
    if isinstance(one, CliCommand):
        epilog = _epilog(one.example, *one.statuses, statuses_help=one.plugin.statuses if one.plugin else "")
        to.command(one.name, epilog=epilog)(_understood(one.function))
        return
    group = typer.Typer(cls=_Group, rich_markup_mode=None, help=one.help)
    for command in one.commands:
        _add(group, command)
    to.add_typer(group, name=one.name, epilog=_epilog("", *one.statuses))


class _Group(TyperGroup):
    """Commands in one section, each with the whole first sentence of its help: typer's own list cuts it short."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands into a help."""
        for title, names in self.sections(ctx).items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, _first_paragraph(one.help)) for name, one in commands if one is not None])

    def sections(self, ctx: Any) -> dict[str, Sequence[str]]:
        """Return the titles of the sections and the names of their commands."""
        return {"Commands": self.list_commands(ctx)}


class _Whole(_Group):
    """The commands by what an admin wants to do."""

    def sections(self, ctx: Any) -> dict[str, Sequence[str]]:
        """As above; a command that no section names comes last."""
        left = [name for name in self.list_commands(ctx) if not any(name in names for names in _SECTIONS.values())]
        return {**_SECTIONS, **({"Other": left} if left else {})}


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


def _translated(declared: Option | Argument) -> Any:
    if isinstance(declared, Argument):
        return typer.Argument(metavar=declared.metavar, help=declared.help)
    flags = [declared.short, declared.flag] if declared.short else [declared.flag]
    return typer.Option(*flags, metavar=declared.metavar or None, help=declared.help)


def _before(
    context: typer.Context,
    config: Annotated[str | None, _translated(options.CONFIG)] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Back up the Primary of a DRBD pair, find the newest backup from either node, and restore it."""
    options.remember(config)
    if version:
        console.say([f"drbdbackup {__version__}"])
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        console.say([context.get_help()])
        raise typer.Exit(UsageError.status)


def _understood(function: Callable[..., int | None]) -> Callable[..., Call]:
    """Return a function with typer's declarations in its signature in place of ours; it returns the call."""

    @functools.wraps(function)
    def call(**given: Any) -> Call:
        return Call(function, given)

    types = {one.name: Annotated[one.type, _translated(one.given_by)] for one in parameters(function)}
    signature = inspect.signature(function)
    signature = signature.replace(
        parameters=[one.replace(annotation=types[one.name]) for one in signature.parameters.values()]
    )
    call.__annotations__ = types
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _path(commands: Sequence[CliCommand | CliGroup], argv: Sequence[str]) -> str:
    """The command that these words name, as far as they do."""
    path = ["drbdbackup"]
    for word in argv:
        found = next((one for one in commands if one.name == word), None)
        if found is not None:
            path.append(word)
            commands = found.commands if isinstance(found, CliGroup) else ()
    return " ".join(path)


def _misuse(error: Exception, path: str) -> UsageError:
    """typer's errors about argv have a common class in each release, but no public name for it in every one.

    An option that lacks its value is noticed before typer knows whose it is: then `path` is the command.
    """
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    word = _UNKNOWN.search(message)
    at = context.command_path if context else path
    meant = _SUGGESTIONS.get(word[1]) if word and " " not in at else None  # `peer forget` is not about backups
    hint = f"Did you mean `drbdbackup {meant}`? " if meant else ""
    return UsageError(message, f"{hint}See `{at} --help`.")


def _epilog(example: str, *own: int, statuses_help: str = "", succeeds_as: str = "success") -> str:
    """Return the end of a command's help: an example, and its exit statuses. `own` are those that not every one has.

    `statuses_help` are all of them, for a command that has others; `succeeds_as` says what 0 is.
    """
    shown = sorted({0, 1, 2, *own, 130, 143})
    before = f"Example: {example}\n\n" if example else ""
    before += "Every command: -v shows on stderr what it does, -q only what goes wrong.\n\n"
    meanings = {**STATUSES, 0: succeeds_as}
    every = statuses_help or "; ".join(f"{status} {meanings[status]}" for status in shown)
    return f"{before}Exit status: {every}."

"""Entry of the command line, and the one place that maps errors to exit statuses. No traceback ever reaches a user."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from drbdbackup import __version__
from drbdbackup.cli import checking, looking, options, pairing, peering, reading, restoring, running
from drbdbackup.cli.quick import Group
from drbdbackup.errors import DrbdBackupError, Interrupted, Stopped, Terminated, UsageError
from drbdbackup.report import console

REPORT = "This is a mistake in drbdbackup: please report it, with what it says when DRBDBACKUP_DEBUG=1 is set."

_FULL = "Free some space there; the disk that holds state_dir is the first to look at."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "Is that disk healthy? The kernel mounts one read-only that has errors: see `dmesg`.",
    errno.EACCES: "Run it as root.",
    errno.EPERM: "Run it as root.",
}

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # the last is the resource agent's

# What typer raises for a command line that makes no sense; only some of its children have public names.
_Misused: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="drbdbackup", cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
for commands in (running, reading, looking, restoring, pairing, peering, checking):
    commands.register(app)


@app.callback(invoke_without_command=True, epilog=options.exits(3, 4, 5, 6, 7))
def _before(
    context: typer.Context,
    config: options.File = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Back up the Primary of a DRBD pair, know the newest backup from either node, and bring it back."""
    options.remember(config)
    if version:
        console.say([f"drbdbackup {__version__}"])
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        console.say([context.get_help()])
        raise typer.Exit(UsageError.status)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the status of the design's table."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _turn_signals_into_errors()
    status = _guarded(arguments)
    console.flush()
    os._exit(status)  # everything is undone; Python would take as long to clear up as `latest` takes to answer


def _guarded(arguments: list[str]) -> int:
    """The one handler of errors."""
    try:
        return int(app(arguments, prog_name="drbdbackup", standalone_mode=False) or 0)
    except DrbdBackupError as error:
        return _told(error, error.status, arguments)
    except _Misused as misuse:
        return _told(_usage(misuse), UsageError.status, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _told(Stopped("stopped"), Stopped.status, arguments)
    except Exception as error:
        if os.environ.get("DRBDBACKUP_DEBUG"):
            raise
        return _told(_unexpected(error), DrbdBackupError.status, arguments)


def _told(error: DrbdBackupError, status: int, arguments: list[str]) -> int:
    """Say it to people on stderr, and to a script that asked for JSON as a document."""
    console.complain(error.message, error.hint)
    if options.asked_for_json(arguments):
        console.show({"error": {**error.as_document(), "status": status}})
    return status


def _usage(misuse: Exception) -> UsageError:
    context = getattr(misuse, "ctx", None)
    message = getattr(misuse, "format_message", lambda: str(misuse))()
    return UsageError(message, f"See `{context.command_path if context else 'drbdbackup'} --help`.")


def _unexpected(error: Exception) -> DrbdBackupError:
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        hint = _HINTS.get(error.errno or 0, "Set DRBDBACKUP_DEBUG=1 to see where this comes from.")
        return DrbdBackupError(f"{where}{error.strerror}", hint)
    return DrbdBackupError(f"{type(error).__name__}: {error}", REPORT)


def _turn_signals_into_errors() -> None:
    """The first signal ends the work in good order, whatever it is at; further ones must not disturb the undoing."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, _stop)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    for further in _SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    if signum == signal.SIGUSR1:
        raise Interrupted("interrupted: the cluster takes the volume away", "The new Primary makes up for it.")
    if signum == signal.SIGINT:
        raise Stopped("stopped by Ctrl-C")
    raise Terminated(f"stopped by {signal.Signals(signum).name}")

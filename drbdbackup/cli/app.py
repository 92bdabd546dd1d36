"""Entry of the command line, and the one place that maps errors to exit statuses. No traceback ever reaches a user."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from drbdbackup import verbose
from drbdbackup.cli import (
    argv,
    backup,
    doctor,
    explore,
    history,
    init,
    install,
    notify,
    options,
    pair,
    peer,
    process_setup,
    restore,
    status,
)
from drbdbackup.cli.command import CliCommand, CliGroup, Option, parameters
from drbdbackup.errors import (
    NO_RIGHT,
    CalledOff,
    DrbdBackupError,
    Failure,
    OutOfMemory,
    Stopped,
    UnexpectedError,
    hint_for,
    of_module,
    stopped_by,
)
from drbdbackup.report import console

REPORT = "This is a bug in drbdbackup: please report it, with the output that it prints when DRBDBACKUP_DEBUG=1 is set."

_FULL = "Free some space there. Check the disk that holds state_dir first."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "Is that disk healthy? The kernel makes a file system with errors read-only: see `dmesg`.",
    errno.ENOENT: "A folder on that path is missing, or nothing can be made in it, as in /proc: name another path.",
}
_DENIED = (errno.EACCES, errno.EPERM)

COMMANDS: tuple[CliCommand | CliGroup, ...] = (
    *backup.COMMANDS, *status.COMMANDS, *explore.COMMANDS, *history.COMMANDS, *restore.COMMANDS, *pair.COMMANDS,
    *peer.COMMANDS, *doctor.COMMANDS, *init.COMMANDS, install.command(lambda: COMMANDS), *notify.COMMANDS,
)  # fmt: skip

_COMPLETION = "_DRBDBACKUP_COMPLETE"  # a shell asks typer what may come next
_UNATTENDED = ("run", "serve", "watch", "browse")  # cron's and another node's; the others show what they do
_VERBOSE, _QUIET = ("-v", "-vv", "-vvv", "--verbose"), ("-q", "--quiet")
# SIGUSR1 is the resource agent's.
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the status of the design's table."""
    process_setup.prepare_process()
    arguments = _asking_for_help(_without_verbosity(list(sys.argv[1:] if words is None else words)))
    _turn_signals_into_errors()
    status = _guarded(arguments)
    if status:
        console.say_what_was_held()
    console.flush()
    if why := console.lost():
        console.complain(f"the output could not be written: {why}")
        status = status or _status_without_output(arguments)
        console.flush()
    if "drbdbackup.proc" in sys.modules:  # else nothing was started, and it is not loaded for that
        from drbdbackup import proc

        proc.end()
    os._exit(status)  # everything is undone; Python would take as long to clear up as `latest` takes to answer


def _without_verbosity(arguments: list[str]) -> list[str]:
    """The words without -v and -q, which every command takes anywhere before `--`, after doing what they say."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    asked = [at for at in range(end) if arguments[at] in (*_VERBOSE, *_QUIET) and not _is_a_value(arguments, at)]
    if any(arguments[at] in _VERBOSE for at in asked):
        verbose.enable()
    if any(arguments[at] in _QUIET for at in asked) and not options.asked_for_json(arguments):
        console.be_quiet()
    return [word for at, word in enumerate(arguments) if at not in asked]


def _asking_for_help(arguments: list[str]) -> list[str]:
    """`help COMMAND`, which other programs know, as `COMMAND --help`."""
    _, words = argv.before_the_command(options.CONFIG, arguments)
    return [*words[1:], "--help"] if words[:1] == ["help"] else arguments


def _is_a_value(arguments: list[str], at: int) -> bool:
    """Whether a word belongs to the option before it: `--note -v`."""
    command = _command(arguments)
    known = parameters(command.function) if command and at else []
    return any(one.given_by.flag == arguments[at - 1] and one.type is not bool
               for one in known if isinstance(one.given_by, Option))  # fmt: skip


def _status_without_output(arguments: list[str]) -> int:
    """The status of a command that did what it had to, and could not say so: it says of a backup what became of it."""
    word = _command(arguments)
    return 1 if word is None or word.is_answer or "--dry-run" in arguments else 0


def _is_attended(command: CliCommand, arguments: list[str]) -> bool:
    """Whether somebody waits for it who wants to know more than its answer."""
    if any(word in _QUIET for word in arguments) or command.plugin is not None:
        return False
    return command.name not in _UNATTENDED or "--dry-run" in arguments


def _command(arguments: list[str]) -> CliCommand | None:
    """The command that these words name."""
    known: Sequence[CliCommand | CliGroup] = COMMANDS
    for word in arguments:
        found = next((one for one in known if one.name == word), None)
        if isinstance(found, CliCommand):
            return found
        known = found.commands if found is not None else known
    return None


def _guarded(arguments: list[str]) -> int:
    """The one handler of errors."""
    try:
        return _dispatch(arguments) or 0
    except DrbdBackupError as error:
        return _report(error, arguments)
    except KeyboardInterrupt:
        return _report(Stopped("stopped"), arguments)
    except Exception as error:
        if os.environ.get("DRBDBACKUP_DEBUG"):
            raise
        return _report(_unexpected(error), arguments)


def _dispatch(arguments: list[str]) -> int | None:
    """Do what argv says. What our own reader of it does not wholly understand is typer's, which costs 40 ms."""
    call = None
    if _COMPLETION not in os.environ:
        argv.refuse_blank(arguments)
        if (command := _command(arguments)) is not None:
            argv.refuse_repeated(command, arguments)
            if _is_attended(command, arguments) and not console.on_terminal():  # there are bars
                verbose.tell_waits()
        call = argv.read(COMMANDS, options.CONFIG, arguments)
    if call is not None:
        options.remember(call.config)
        return call()
    from drbdbackup.cli import typer_app

    found = typer_app.read(COMMANDS, arguments)
    return found if isinstance(found, int) else found()


def _report(error: DrbdBackupError, arguments: list[str]) -> int:
    """The exit status. Say it to people on stderr, and to a script that asked for JSON as a document."""
    command = _command(arguments)
    plugin = command.plugin if command is not None else None
    if plugin is not None and not options.asked_for_json(arguments):
        console.say(plugin.lines(error.message, error.hint, arguments))
        return plugin.unknown
    console.complain(error.message, error.hint)
    if options.asked_for_json(arguments):
        console.show({"error": error.as_document()})
    return error.status if plugin is None else plugin.unknown


def _unexpected(error: Exception) -> DrbdBackupError:
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        hint = _HINTS.get(error.errno or 0) or hint_for(error.errno)
        if error.errno in _DENIED:
            hint = "Run it as root." if os.geteuid() else NO_RIGHT
        hint = hint or "Set DRBDBACKUP_DEBUG=1 to see where this comes from."
        return Failure(f"{where}{error.strerror}", hint)
    if isinstance(error, MemoryError) or "start new thread" in str(error):
        message = "there is no more memory, or no more threads are allowed"
        return OutOfMemory(message, "See `free`, `ulimit -v -d -u`, and MemoryMax= and TasksMax= of the unit.")
    return of_module(error) or UnexpectedError(f"{type(error).__name__}: {error}", REPORT)


def _turn_signals_into_errors() -> None:
    """The first signal ends the work in good order, whatever it is at; further ones must not disturb the undoing."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, _stop)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    for further in _SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    if signum == signal.SIGUSR1:
        raise CalledOff("interrupted: the cluster takes the volume away", CalledOff.made_there)
    raise stopped_by(signum)

"""mariadbd(8) as a server of our own, on data that nobody else uses, and mariadb-check(1), which asks it to check.

It shares nothing with the system's server: no option file, no network, its own socket. Nothing here judges a backup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from drbdbackup import proc
from drbdbackup.errors import ToolMissing
from drbdbackup.proc import FOREVER, Command

SMALL_LOG = "--innodb-log-file-size=16M"  # that of the settings may be of many gigabytes, for one short start
SOCKET, LOG, PIDS, PLUGINS = "socket", "log.err", "pid", "no-plugins"
LONGEST_SOCKET = 107  # bytes of a path, unix(7)

_READY = "ready for connections"
_SHOWN = 5  # errors of a log
_CORRUPT = re.compile(r"corrupt|checksum|wrong space ID|crashed|log sequence number .* is in the future", re.IGNORECASE)
_MESSAGE = re.compile(r"(note|info|status|warning|error)\s*:\s?(.*)\Z", re.IGNORECASE)
_WELL = re.compile(r"(\S.*?)\s+OK\Z")
_OF_ANOTHER_VERSION = re.compile(r"(upgrade|rebuild) required", re.IGNORECASE)


def server(folder: str, data: str, options: Sequence[str], settings: str = "") -> Command:
    """A server on the data folder `data`, with its own files in `folder`. Raises ToolMissing.

    It loads no grants: nobody but us reaches its socket. It starts no replica and no event, writes no binary log and
    loads no plugin that its own tables name: there is none in `folder`. `settings` is an option file to read, beneath
    all of these.
    """
    argv = (
        _found("mariadbd"), f"--defaults-file={settings}" if settings else "--no-defaults",
        f"--datadir={data}", f"--socket={os.path.join(folder, SOCKET)}",
        f"--pid-file={os.path.join(folder, PIDS)}", f"--log-error={os.path.join(folder, LOG)}", f"--tmpdir={folder}",
        f"--plugin-dir={os.path.join(folder, PLUGINS)}",
        "--skip-networking", "--skip-grant-tables", "--skip-slave-start", "--skip-log-bin", "--event-scheduler=OFF",
        "--innodb-use-native-aio=OFF", *options,
    )  # fmt: skip
    return Command(argv=argv, timeout=FOREVER, memory=proc.memory_for_untrusted_input())


def check(folder: str) -> Command:
    """CHECK TABLE for every table of the server in `folder`; what is wrong is in its words, not in its status."""
    argv = (
        _found("mariadb-check"), "--no-defaults", f"--socket={os.path.join(folder, SOCKET)}", "--all-databases",
        "--check",
    )  # fmt: skip
    return Command(argv=argv, timeout=FOREVER, memory=proc.memory_for_untrusted_input())


def _found(program: str) -> str:
    if path := proc.find(program):
        return path
    raise ToolMissing.of(program)


def is_ready(log: str) -> bool:
    """Whether the server takes questions."""
    return _READY in log


def corruption(log: str) -> list[str]:
    """The errors in a server's log that are about its data, not about the machine that it runs on."""
    errors = (line.partition("[ERROR]")[2].strip() for line in log.splitlines() if "[ERROR]" in line)
    return list(dict.fromkeys(line for line in errors if _CORRUPT.search(line)))


def last_errors(log: str) -> str:
    """The last errors in a server's log before it gave up."""
    lines = [line.partition("[ERROR]")[2].strip() for line in log.splitlines() if "[ERROR]" in line]
    return "\n".join(lines[-_SHOWN:] or log.splitlines()[-_SHOWN:])


def checked(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each table that was checked, and what is wrong with it ("" for nothing)."""
    table, messages = "", list[tuple[str, str]]()
    for line in lines:
        text = line.rstrip()
        if (well := _WELL.match(text)) and not _MESSAGE.match(text):
            yield from _of(table, messages)
            table, messages = "", []
            yield well[1], ""
        elif word := _MESSAGE.match(text):
            messages.append((word[1].lower(), word[2]))
        elif text:
            yield from _of(table, messages)
            table, messages = text, []
    yield from _of(table, messages)


def _of(table: str, messages: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    if table:
        is_wrong = any(kind == "error" and not _OF_ANOTHER_VERSION.search(text) for kind, text in messages)
        yield table, "; ".join(text for kind, text in messages if kind in ("warning", "error")) if is_wrong else ""

"""A look of our own at a place that may hang, in a forked process that can be abandoned.

The caller never waits longer than its deadline, whatever state the process is in.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from drbdbackup import verbose
from drbdbackup.errors import DrbdBackupError, Failure, Stalled, TargetError, from_document, hint_for
from drbdbackup.proc.waiting import end_group, read_until, reap


def probe(look: Callable[[], Any], deadline: float, what: str) -> Any:
    """Call `look` in a forked process and return its (JSON-able) value; raise Stalled after `deadline` seconds.

    For looks at places that may hang (a share): the process is killed, or abandoned if it cannot be. Errors of our
    tree come back as themselves.
    """
    answer = probe_all({what: look}, deadline)[what]
    if isinstance(answer, DrbdBackupError):
        raise answer
    return answer


def probe_all(looks: Mapping[str, Callable[[], Any]], deadline: float) -> dict[str, Any]:
    """The same for several places at once, by what they are called: each one's value, or the error that it would raise.

    However many of them hang, it takes no longer than `deadline` seconds.
    """
    end = time.monotonic() + deadline
    begun: dict[str, tuple[int, int]] = {}
    answers: dict[str, Any] = {}
    try:
        for what, look in looks.items():
            begun[what] = _begun(look)
        for what in looks:
            answers[what] = _heard(what, *begun[what], end, deadline)
    finally:  # where a signal ended the wait
        for pid, _ in (child for what, child in begun.items() if what not in answers):
            end_group(pid)
    return answers


def _begun(look: Callable[[], Any]) -> tuple[int, int]:
    """The process that looks, and where its answer comes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child must never return into its parent's code
        _answer(look, write)
    os.close(write)
    return pid, read


def _heard(what: str, pid: int, read: int, end: float, deadline: float) -> Any:
    ready = select.poll()
    ready.register(read, select.POLLIN)
    untold = end - deadline + verbose.LONG - time.monotonic()
    if deadline > verbose.LONG and not ready.poll(max(0.0, untold * 1000)):
        verbose.tell_wait(what, deadline)
    answer = read_until(read, end)
    if answer is None or reap(pid, end) is None:
        end_group(pid)
        return Stalled(f"{what} does not answer within {deadline:g} s", "Is its server up? See `dmesg`.")
    if not answer:
        return Failure(f"the process that checked {what} died")
    document = json.loads(answer)
    return from_document(document) if "error" in document else document["value"]


def _answer(look: Callable[[], Any], write: int) -> None:
    """The child's side of `probe`; leaves by `os._exit` whatever happens."""
    try:
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, signal.SIG_DFL)
        os.setsid()
        _let_go_of_all_but(write)
        try:
            document: Mapping[str, Any] = {"value": look()}
        except DrbdBackupError as error:
            document = error.as_document()
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            document = TargetError(f"{where}{error.strerror}", hint_for(error.errno)).as_document()
        data = json.dumps(document).encode()
        while data:
            data = data[os.write(write, data):]
    finally:
        os._exit(0)


def _let_go_of_all_but(write: int) -> None:
    """A reader of our parent's output would wait for as long as an abandoned process has it open, too."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.closerange(3, write)
    os.closerange(write + 1, os.sysconf("SC_OPEN_MAX"))

"""Runs a program that answers at once. It costs no import of a library, so a role is known in milliseconds."""

from __future__ import annotations

import os
import selectors
import time

from drbdbackup import verbose
from drbdbackup.errors import AnswerTooLong, ToolError, ToolTimedOut
from drbdbackup.proc.command import Command, Result, failure, found
from drbdbackup.proc.start_program import ENDING, SIGNALS, spawn
from drbdbackup.proc.waiting import end_group, leave, reap

_KEPT_STDERR = 1 << 18  # bytes


def run(command: Command) -> Result:
    """Run a program that answers at once and return its output.

    Raises ToolMissing, ToolTimedOut (it was killed, or abandoned in D state), AnswerTooLong for one of more than `most`
    bytes, or ToolError for an exit status that is not in `ok`. Of stderr the last of its bytes are kept.
    """
    program = found(command.argv[0])
    verbose.tell(command.name if command.secret else " ".join(command.argv))
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    in_read, in_write = os.pipe()
    try:
        # One that is left whole may speak to nobody any more, and must not die of that.
        pid = spawn(
            program, command, (in_read, out_write, err_write), own_session=not command.may_ask,
            signals=ENDING if command.is_whole else SIGNALS,
        )  # fmt: skip
    except ToolError:
        for end in (in_write, out_read, err_read):
            os.close(end)
        raise
    finally:
        for end in (in_read, out_write, err_write):
            os.close(end)
    deadline = time.monotonic() + command.timeout
    try:
        out, err = _converse(command, in_write, out_read, err_read, deadline)
        status = reap(pid, deadline) if out is not None else None
    except BaseException:
        _end(command, pid, deadline)
        raise
    if status is None or out is None:
        _end(command, pid, deadline)
        raise ToolTimedOut(f"{command.name} did not answer within {command.timeout:g} s")
    result = Result(status, out, err)
    if result.exit not in command.ok:
        raise failure(command, result.exit, os.fsdecode(err).splitlines())
    return result


def _end(command: Command, pid: int, deadline: float) -> None:
    if command.is_whole:
        leave(pid, deadline)
    else:
        end_group(pid)


def _converse(command: Command, to: int, out: int, err: int, deadline: float) -> tuple[bytes | None, bytes]:
    """Feed stdin, read both outputs; (None, ...) if the deadline came first. Closes all three ends."""
    data, heard = command.stdin, {out: bytearray(), err: bytearray()}
    with selectors.DefaultSelector() as selector:
        for end in (out, err):
            selector.register(end, selectors.EVENT_READ)
        if data:
            os.set_blocking(to, False)
            selector.register(to, selectors.EVENT_WRITE)
        else:
            os.close(to)
        try:
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    return None, bytes(heard[err])
                for key, _ in ready:
                    end = int(key.fd)
                    if end == to:
                        data = _feed(to, data)
                        done = not data
                    else:
                        chunk = os.read(end, 65536)
                        heard[end] += chunk
                        _bound(command, heard[out], heard[err])
                        done = not chunk
                    if done:
                        selector.unregister(end)
                        os.close(end)
            return bytes(heard[out]), bytes(heard[err])
        finally:
            for left in [key.fd for key in selector.get_map().values()]:
                os.close(left)


def _bound(command: Command, out: bytearray, err: bytearray) -> None:
    """Neither may grow without an end. Raises AnswerTooLong if the answer does."""
    del err[:-_KEPT_STDERR]
    if len(out) > command.most:
        raise AnswerTooLong(f"{command.name} said more than {command.most:,} bytes: it was ended")


def _feed(to: int, data: bytes) -> bytes:
    """Write what fits; nothing is left when the reader has gone."""
    try:
        return data[os.write(to, data):]
    except BrokenPipeError:
        return b""

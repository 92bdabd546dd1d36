"""Messages with descriptors over a socket.

The send_fds() and recv_fds() of Python 3.11 take flags and ignore them: they may wait for ever, and what they receive
is passed on to every program that is started.
"""

from __future__ import annotations

import array
import select
import socket
import time
from collections.abc import Sequence

_SIZE = array.array("i").itemsize


def send(line: socket.socket, message: bytes, descriptors: Sequence[int], deadline: float = 0.0) -> None:
    """Send a message, once there is room for it. Raises OSError, BlockingIOError if there is none by the deadline."""
    passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    while True:
        try:
            line.sendmsg([message], [passed], socket.MSG_DONTWAIT)
        except BlockingIOError:
            ready = select.poll()
            ready.register(line, select.POLLOUT)
            if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise
        else:
            return


def receive(line: socket.socket, most: int, descriptors: int) -> tuple[bytes, list[int]]:
    """The next message, of `most` bytes, and the descriptors that came with it; b"" at the end of the line.

    Raises BlockingIOError if there is none yet, or OSError. Fewer descriptors come where there is no room for them.
    """
    flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
    message, passed, _, _ = line.recvmsg(most, socket.CMSG_LEN(descriptors * _SIZE), flags)
    found = array.array("i")
    for level, kind, data in passed:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _SIZE])
    return message, list(found)

"""Messages with descriptors over a socket, and who sent them.

The send_fds() and recv_fds() of Python 3.11 take flags and ignore them: they may wait for ever, and what they receive
is passed on to every program that is started.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import time
from collections.abc import Sequence

_SIZE = array.array("i").itemsize
_SENDER = struct.Struct("3i")  # unix(7), struct ucred: process, user and group


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


def ask_for_senders(line: socket.socket) -> None:
    """Have `receive_from` say who sent what comes from now on."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def receive(line: socket.socket, most: int, descriptors: int) -> tuple[bytes, list[int]]:
    """The next message, of `most` bytes, and the descriptors that came with it; b"" at the end of the line.

    Raises BlockingIOError if there is none yet, or OSError. Fewer descriptors come where there is no room for them.
    """
    return _received(line, most, socket.CMSG_LEN(descriptors * _SIZE))[:2]


def receive_from(line: socket.socket, most: int, descriptors: int) -> tuple[bytes, list[int], int]:
    """The same after `ask_for_senders`, and the process that sent it, by the id that it has here; 0 at the end."""
    return _received(line, most, socket.CMSG_SPACE(_SENDER.size) + socket.CMSG_LEN(descriptors * _SIZE))


def _received(line: socket.socket, most: int, room: int) -> tuple[bytes, list[int], int]:
    message, passed, _, _ = line.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
    found, sender = array.array("i"), 0
    for level, kind, data in passed:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _SIZE])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            sender = _SENDER.unpack(data)[0]
    return message, list(found), sender

"""Messages with descriptors neither wait for ever nor leave descriptors to programs that are started later."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from drbdbackup.proc import fd_passing
from tests.played_media import PATIENCE

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield pair
    for end in pair:
        end.close()


def fill(end: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            end.send(b"x" * 4096, socket.MSG_DONTWAIT)


def test_what_is_received_is_not_left_to_a_program_that_is_started(ends: Pair) -> None:
    ours, theirs = ends
    fd_passing.send(ours, b"one", [ours.fileno(), theirs.fileno()])
    message, handles = fd_passing.receive(theirs, 100, 2)
    assert message == b"one"
    assert [os.get_inheritable(handle) for handle in handles] == [False, False]
    for handle in handles:
        os.close(handle)


def test_who_has_sent_it_is_known_whatever_it_says(ends: Pair) -> None:
    ours, theirs = ends
    fd_passing.ask_for_senders(ours)
    sender = os.fork()
    if sender == 0:
        fd_passing.send(theirs, b"7", [theirs.fileno()])
        os._exit(0)
    os.waitpid(sender, 0)
    message, handles, found = fd_passing.receive_from(ours, 100, 1)
    assert (message, len(handles), found) == (b"7", 1, sender)
    os.close(handles[0])


def test_nothing_is_waited_for_where_nothing_has_come(ends: Pair) -> None:
    with pytest.raises(BlockingIOError):
        fd_passing.receive(ends[0], 100, 1)


def test_the_end_of_the_line_is_an_empty_message(ends: Pair) -> None:
    ends[0].shutdown(socket.SHUT_RDWR)
    assert fd_passing.receive(ends[1], 100, 1) == (b"", [])


def test_who_does_not_read_is_not_waited_for_longer_than_the_deadline(ends: Pair) -> None:
    fill(ends[0])
    before = time.monotonic()
    for patience in (0.0, 0.2):
        with pytest.raises(BlockingIOError):
            fd_passing.send(ends[0], b"one", [0], before + patience)
    assert time.monotonic() >= before + 0.2


def test_who_reads_late_gets_it(ends: Pair) -> None:
    fill(ends[0])
    sending = threading.Thread(
        target=fd_passing.send, args=(ends[0], b"one", [0], time.monotonic() + PATIENCE), daemon=True
    )
    sending.start()
    got: tuple[bytes, list[int]] = (b"", [])
    while got[0] != b"one":
        assert select.select([ends[1]], [], [], PATIENCE)[0]
        got = fd_passing.receive(ends[1], 4096, 1)
    os.close(got[1][0])
    sending.join(PATIENCE)
    assert not sending.is_alive()

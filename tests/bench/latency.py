"""What the users of a server wait while a backup is at work: single transactions of a MariaDB server on the volume."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from tests.played_mariadb import Server

ROWS = 20_000
PACE = 0.004  # seconds from one transaction to the next: a server that has something to do, and is not at its limit


class Client:
    """A session with the server, in the program that comes with it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout

    def transaction(self, dice: random.Random) -> float:
        """Change a row, read another one, commit; how long that took."""
        one, other = dice.randrange(ROWS), dice.randrange(ROWS)
        begun = time.perf_counter()
        self._to.write(
            f"BEGIN; UPDATE accounts SET amount = amount + 1 WHERE id = {one}; "
            f"SELECT amount FROM accounts WHERE id = {other}; COMMIT; SELECT 'done';\n"
        )
        self._to.flush()
        while self._answers.readline() != "done\n":
            pass
        return time.perf_counter() - begun


@contextmanager
def session(server: Server) -> Iterator[Client]:
    """A client at a server that has a table for it."""
    server.sql(
        "CREATE DATABASE bank; USE bank; CREATE TABLE accounts (id INT PRIMARY KEY, amount INT, note CHAR(200)) "
        f"ENGINE=InnoDB; INSERT INTO accounts SELECT seq, 0, REPEAT('x', 200) FROM seq_0_to_{ROWS};"
    )
    argv = ["mariadb", f"--defaults-file={server.defaults}", "--batch", "--skip-column-names", "--unbuffered", "bank"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()


def slowest_of_hundred(client: Client, goes_on: Callable[[], bool], seed: int) -> float:
    """The time that 99 of 100 transactions do not exceed, as long as it `goes_on`."""
    dice, taken, due = random.Random(seed), list[float](), time.perf_counter()
    while goes_on() or len(taken) < 100:
        taken.append(client.transaction(dice))
        due = max(due + PACE, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    return sorted(taken)[len(taken) * 99 // 100]

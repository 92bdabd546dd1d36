"""A program between rsync and ssh that reads what a peer sends no faster than at a rate: then the peer has to wait.

rsync has an option for it, but only for the sender, and a peer takes no option that it does not know. It must never add
to what passes through, or take from it; what it is between ends as it would without it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from drbdbackup import proc
from drbdbackup.pipeline.files.rate_limit import Pace

_PIECE = 1 << 16  # bytes; as much as a pipe holds


def slowed(shell: str, rate: int) -> str:
    """A remote shell for rsync's `-e` that gives it so many bytes a second; 0: the shell itself."""
    program, *words = proc.own_python("-m", __name__, str(rate))
    return f'"{program}" {" ".join(words)} {shell}' if shell and rate else shell


def main() -> NoReturn:
    """Run the program in argv, after the rate, and end as it does."""
    rate, *argv = sys.argv[1:]
    pace = Pace(int(rate))

    def passed_on(piece: bytes) -> None:
        pace.spend(len(piece))
        while piece:
            piece = piece[os.write(1, piece) :]

    status = proc.pass_on(proc.Command(argv=tuple(argv), timeout=proc.FOREVER), passed_on, _PIECE)
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()

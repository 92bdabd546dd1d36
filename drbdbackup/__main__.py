"""Entry. It hands over to the command line and must hold nothing else."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; the exit status is that of the design's table.

    A Ctrl-C before it can hear one, while its modules are read, ends it like any other program: not in a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from drbdbackup.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

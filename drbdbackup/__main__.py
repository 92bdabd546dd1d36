"""Entry. It prepares the process for the command line, which it starts, and must hold nothing else."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line; the exit status is that of the design's table.

    A Ctrl-C before it can hear one, while its modules are read, ends it like any other program: not in a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _import_msgspec()
    try:
        from drbdbackup.cli import main as command_line
    except (EOFError, TypeError, ValueError):  # a compiled module is damaged: a full disk leaves them so
        sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
        from drbdbackup.cli import main as command_line

    command_line()


def _import_msgspec() -> None:
    """Import it as if typing_extensions were not installed: it then takes two functions from typing, the same ones from
    Python 3.11 on. typing_extensions loads so much that it takes a tenth of the time of `latest`.
    """
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # what Python takes for not installed
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


if __name__ == "__main__":
    main()

"""A job for a cage in tests: it makes the file that it is told."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """As a program would: the file is the only argument."""
    Path(sys.argv[1]).touch()

"""The bench's figures count all that a command starts, also what it leaves to others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.spent import cost, processor, programs

BURNS = 0.3  # seconds of processor
DAEMON = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while time.process_time() < {BURNS}:
            pass
    os._exit(0)
"""
STARTS_TWO = "import subprocess; subprocess.run(['true'], check=True); subprocess.run(['true'], check=True)"


def test_what_a_command_leaves_running_counts() -> None:
    assert processor([sys.executable, "-c", DAEMON]) >= BURNS


def test_a_command_that_fails_has_no_figure() -> None:
    with pytest.raises(SystemExit, match="failed"):
        processor([sys.executable, "-c", "raise SystemExit(3)"])


def test_memory_and_bytes_written_are_those_of_all_that_it_starts(tmp_path: Path) -> None:
    writes = f"held = b'1' * (64 << 20); open({str(tmp_path / 'file')!r}, 'wb').write(held[: 8 << 20])"
    took = cost(["/bin/sh", "-c", f'{sys.executable} -c "{writes}"; sleep 0.1'])
    assert took.peak >= 64
    assert 8 <= took.written < 16
    assert took.seconds >= 0.1


def test_every_program_counts_once_however_long_it_was_looked_for() -> None:
    assert programs([sys.executable, "-c", STARTS_TWO]) == 3

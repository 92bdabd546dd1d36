"""What is read slowly comes whole, at the rate, and ends as the program does that sends it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

SLOWLY = [sys.executable, "-P", "-m", "drbdbackup.pipeline.files.ssh_rate_limit"]


def test_no_more_comes_than_the_rate_allows() -> None:
    began = time.monotonic()
    ended = subprocess.run([*SLOWLY, "1000000", "head", "-c", "1500000", "/dev/zero"], capture_output=True, timeout=60)
    assert time.monotonic() - began > 1.4
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, bytes(1_500_000), b"")


@pytest.mark.parametrize(("script", "status"), [("cat >&2; exit 7", 7), ("kill -9 $$", 137)])
def test_it_ends_as_the_program_does(script: str, status: int) -> None:
    ended = subprocess.run([*SLOWLY, "1000000", "sh", "-c", script], input=b"heard", capture_output=True, timeout=60)
    assert ended.returncode == status
    assert status == 137 or ended.stderr == b"heard"


def test_a_reader_that_goes_ends_the_program_too() -> None:
    with subprocess.Popen([*SLOWLY, "100000000", "yes"], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.read(100)
        running.stdout.close()
        assert running.wait(60) != 0

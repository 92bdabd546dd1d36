"""What holds for all tests: nothing is left out where everything can be run, and what runs side by side stays apart.

Where everything can be run (as root, in CI) a skipped test proves nothing: it counts as failed. Each process of a
parallel run has mounts of its own: the cages of one would else keep the file systems of another busy. At the end it is
told how many faults the crash matrix injected, and how many backups were lost to them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import newer_restic

NOTHING_IS_LEFT_OUT = os.environ.get("CI", "").lower() in ("1", "true") or os.geteuid() == 0

MATRIX = {"faults": 0, "lost": 0}  # summed up where the reports of all processes come together
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


# These machines are shared: how long an example takes says nothing of it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        with suppress(OSError):  # in a container that may not
            have_mounts_of_its_own()


def have_mounts_of_its_own() -> None:
    """unshare(2) and mount(2); Python has the first only since 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    for done in (lambda: libc.unshare(CLONE_NEWNS), lambda: libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)):
        if done():
            raise OSError(ctypes.get_errno(), "no mount namespace can be had")


def as_failure(report: Any) -> Any:
    """The report; that of a skipped test (not of an expected failure) as a failed one with the reason of the skip."""
    if NOTHING_IS_LEFT_OUT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"left out, which counts as failed as root and in CI: {reason}"
    return report


@pytest.fixture
def restic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one a test finds: "this" machine's, or the "newer" one if there is that."""
    if request.param == "newer":
        monkeypatch.setenv("PATH", f"{newer_restic.PROGRAM.parent}:{os.environ['PATH']}")
        assert not newer_restic.is_needed(), "make test fetches it"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return as_failure((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return as_failure((yield))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name in MATRIX and isinstance(value, int):
                MATRIX[name] += value


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MATRIX["faults"]:
        terminalreporter.write_line(
            f"crash matrix: {MATRIX['faults']} faults injected, on four kinds of targets; {MATRIX['lost']} backups lost"
        )

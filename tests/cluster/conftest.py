"""One lab for the session; every scenario begins with the same configured pair, a second after the last one ended."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import host, pair
from tests.cluster.lab import Lab
from tests.cluster.node import Node

CONFIGURED = "configured"
DEADLINE = 600  # seconds for a scenario; setting up the lab comes before the first one's


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEADLINE, func_only=True))


@pytest.fixture(scope="session")
def booted() -> Iterator[Lab]:
    """The lab with the pair of pair.toml, saved as it was when it first served its page."""
    host.must_do()
    with ended_by_sigterm(), Lab() as lab:
        try:
            pair.set_up(lab)
        except BaseException:
            print(lab.tails(), file=sys.stderr)
            raise
        lab.save(CONFIGURED)
        yield lab


@pytest.fixture
def lab(booted: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The configured pair: www4 is Primary, no backup was ever made, it is one minute past noon on all three."""
    booted.revert(CONFIGURED)
    yield booted
    if request.node.stash.get(FAILED, False):
        print(pair.told(booted))


@pytest.fixture
def www4(lab: Lab) -> Node:
    return lab.www4


@pytest.fixture
def www5(lab: Lab) -> Node:
    return lab.www5


@pytest.fixture
def nas(lab: Lab) -> Node:
    return lab.nas


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


class ended_by_sigterm:  # noqa: N801
    """Within it SIGTERM ends the session as Ctrl-C does: with everything taken down."""

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, self.end)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    @staticmethod
    def end(*_: object) -> None:
        raise KeyboardInterrupt

"""One lab for the session, or for each of its workers; every scenario begins with the pair in the state it names."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import beginnings, host, image, pair
from tests.cluster.lab import Lab
from tests.cluster.shelf import Folder, Shelf

FAILED, SHELVES = pytest.StashKey[bool](), pytest.StashKey[Folder]()
DEADLINE = 900  # seconds for a scenario; setting up the lab comes before the first one's


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEADLINE, func_only=True))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where there can be no lab, no test is run, and the reason is told once. The image is built before any worker."""
    config = session.config
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends as with Ctrl-C: everything is taken down
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    try:
        host.must_do(labs=max(1, config.getoption("numprocesses", None) or 1))
        image.image()
    except (host.HostLacks, image.CannotBuild) as error:
        pytest.exit(str(error), returncode=1)
    config.stash[SHELVES] = Folder()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers' labs share what they save."""
    node.workerinput["shelf"] = str(node.config.stash[SHELVES].path)


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(SHELVES, None):
        folder.remove()


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab, off until a scenario begins."""
    given = getattr(request.config, "workerinput", {}).get("shelf") or request.config.stash[SHELVES].path
    with Lab(Shelf(Path(given))) as lab:
        yield lab


def bring(lab: Lab, name: str) -> None:
    """Into that state; where that fails, the consoles are shown."""
    try:
        beginnings.begin(lab, name)
    except BaseException:
        print(lab.tails(), file=sys.stderr)
        raise


def begun(name: str) -> Any:
    """A fixture: the lab with the pair in that state."""

    @pytest.fixture
    def lab(booted: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
        bring(booted, name)
        booted.stands_at = ""
        yield booted
        if request.node.stash.get(FAILED, False):
            print(pair.told(booted))

    return lab


lab = begun(beginnings.CONFIGURED)
backed_up = begun(beginnings.BACKED_UP)
taken_over = begun(beginnings.TAKEN_OVER)
shopped = begun(beginnings.SHOPPED)
filled = begun(beginnings.FILLED)
bare = begun(beginnings.BARE)
on_lvm = begun(beginnings.ON_LVM)
with_pacemaker = begun(beginnings.WITH_PACEMAKER)


@pytest.fixture
def looked_at(booted: Lab) -> Lab:
    """The pair as it was set up, for scenarios that only look: it is not reverted in between."""
    if booted.stands_at != beginnings.CONFIGURED:
        bring(booted, beginnings.CONFIGURED)
    return booted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[FAILED] = True
    return report

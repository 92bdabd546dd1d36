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
from tests.cluster.times import NOTEBOOK, Note, Spent, keep, table

FAILED, SHELVES, LAB = pytest.StashKey[bool](), pytest.StashKey[Folder](), pytest.StashKey[Lab]()
BEFORE = pytest.StashKey[float]()
ORDER = (  # fixtures
    "looked_at", "lab", "with_pacemaker", "fresh", "on_lvm", "bare", "backed_up", "shopped", "taken_over", "filled",
)  # fmt: skip
DEADLINE = 900  # seconds for a scenario; setting up the lab comes before the first one's


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEADLINE, func_only=True))
    items.sort(key=place)


def place(item: pytest.Item) -> int:
    """Where a scenario comes in a session: with those that begin alike. xdist gives each lab a stretch of this order to
    begin with, and in the second half nothing begins with what the first one makes late.
    """
    names = getattr(item, "fixturenames", ())
    return min((ORDER.index(name) for name in names if name in ORDER), default=0)


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
        request.config.stash[LAB] = lab
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
fresh = begun(beginnings.FRESH)
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


# where the time went


SPENT: list[Spent] = []


def processor(item: pytest.Item) -> float:
    lab = item.config.stash.get(LAB, None)
    return lab.processor if lab else 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    NOTEBOOK.begin()
    item.stash[BEFORE] = processor(item)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    used = processor(item) - item.stash[BEFORE]
    item.user_properties.append(("times", [NOTEBOOK.seconds, used, [list(note) for note in NOTEBOOK.notes]]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties if report.when == "teardown" else ():
        if name == "times" and isinstance(value, list):
            seconds, used, notes = value
            SPENT.append(Spent(report.nodeid.rpartition("/")[2], seconds, used, [Note(*note) for note in notes]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SPENT:
        keep(SPENT)
        terminalreporter.section("where the time of the lab went")
        for line in table(SPENT):
            terminalreporter.write_line(line)

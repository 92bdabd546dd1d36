"""A catalog that may not be read is not an empty one, and the folder that holds it is nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drbdbackup import proc
from drbdbackup.catalog import local, store, view
from drbdbackup.commands.latest import latest
from drbdbackup.commands.list_copies import listing
from drbdbackup.commands.status import status
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import CatalogError

NOBODY = 65534
LOOKS: dict[str, Callable[[Config], Any]] = {
    "latest": lambda config: latest(config, config.resources),
    "list": lambda config: listing(config, config.resources),
    "status": lambda config: status(config, config.resources),
    "the catalog": lambda config: view.copies(config.state_dir, "www4", "raid", ()),
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    nas = TargetConfig(name="nas", kind="nas", path=str(tmp_path / "nas"))
    raid = ResourceConfig(name="raid", source=str(tmp_path / "raid"))
    state = str(tmp_path / "state")
    store.note_reported(state, "raid", datetime.now(UTC), "there is a catalog now")
    return Config(file="", node="www4", nodes=("www4", "www5"), resources=(raid,), targets=(nas,), state_dir=state)


def as_somebody_else(look: Callable[[], Any]) -> Any:
    """The tests may run as root, whom nothing stops, or as a user, who shuts himself out."""

    def looked() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(NOBODY)
        look()

    return proc.probe(looked, 30, "somebody else")


@pytest.mark.parametrize("command", LOOKS)
def test_what_may_not_be_looked_at_is_told_as_such(config: Config, command: str) -> None:
    os.chmod(config.state_dir, 0)
    try:
        with pytest.raises(CatalogError, match="Permission denied") as caught:
            as_somebody_else(lambda: LOOKS[command](config))
    finally:
        os.chmod(config.state_dir, 0o700)
    assert (caught.value.status, "root" in caught.value.hint) == (1, True)


@pytest.mark.parametrize("before", [2, 3])
def test_a_catalog_that_another_process_makes_just_now_is_no_foreign_one(tmp_path: Path, before: int) -> None:
    path = tmp_path / "catalog.db"
    path.touch()
    asked: list[str] = []

    def meanwhile(sql: str) -> None:
        asked.append(sql)
        if len(asked) == before:
            store.note_reported(str(tmp_path), "raid", datetime.now(UTC), "there is a catalog now")

    with closing(local.connect(str(path))) as connection:
        connection.set_trace_callback(meanwhile)
        assert local.is_begun(connection, str(path))
    assert len(asked) == 3


def test_it_is_opened_once_and_every_change_is_seen(tmp_path: Path) -> None:
    state, made = str(tmp_path / "state"), [0]
    asked = "SELECT count(*) FROM told"

    def counted() -> tuple[int, list[tuple[Any, ...]]]:
        made[0] += 1
        return made[0], local.rows(state, asked)

    def reports(number: int) -> None:
        store.note_reported(state, str(number), datetime.now(UTC), "somebody else has written")

    assert local.once(state, "told", 0, counted) == (1, [])
    assert local.once(state, "told", 0, counted) == (2, []), "there is none yet, and nothing to know it by"
    reports(1)
    assert [local.once(state, "told", 0, counted) for _ in range(3)] == [(3, [(1,)])] * 3
    assert local.once(state, "another", 0, counted) == (4, [(1,)])
    proc.probe(lambda: reports(2), 30, "another process")
    assert local.once(state, "told", 0, counted) == (5, [(2,)])
    assert opened(state) == 1
    store.set_aside(state)
    assert (local.rows(state, asked), opened(state)) == ([], 1)
    reports(3)
    assert local.once(state, "told", 0, counted) == (6, [(1,)])
    assert opened(state) == 1, "the one that was set aside is let go"
    store.set_aside(state)
    for number in (4, 5):
        reports(number)
    assert local.once(state, "told", 0, counted) == (7, [(2,)]), "another file, of which SQLite counts anew"
    kept = len(local._made)
    assert [local.once(state, "told", minute, counted)[0] for minute in (1, 1, 2, 3)] == [8, 8, 9, 10]
    assert len(local._made) == kept, "who watches for days keeps no value of each minute"


def test_a_forked_process_opens_its_own(config: Config) -> None:
    asked = "SELECT count(*) FROM told"

    def looked() -> tuple[int, list[tuple[Any, ...]], int]:
        before = opened(config.state_dir)
        return before, local.rows(config.state_dir, asked), opened(config.state_dir)

    assert local.rows(config.state_dir, asked) == [(1,)]
    with closing(local.connect(f"{config.state_dir}/catalog.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert proc.probe(looked, 30, "a child") == [0, [[1]], 1]
        with pytest.raises(CatalogError):  # no lock of its parent's was lost
            proc.probe(lambda: held(config), 30, "a child")
        writer.execute("ROLLBACK")
    assert local.rows(config.state_dir, asked) == [(1,)]


def held(config: Config) -> None:
    with local.explained("the catalog"), closing(local.connect(f"{config.state_dir}/catalog.db")) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("BEGIN IMMEDIATE")


def opened(state_dir: str) -> int:
    """How often this process has the catalog open, also where it has another name by now."""
    links = (os.path.join("/proc/self/fd", one) for one in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith(f"{state_dir}/catalog.db") for link in links if os.path.lexists(link))

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


def test_a_catalog_that_another_process_makes_just_now_is_no_foreign_one(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.touch()
    asked: list[str] = []

    def meanwhile(sql: str) -> None:
        asked.append(sql)
        if len(asked) == 2:
            store.note_reported(str(tmp_path), "raid", datetime.now(UTC), "there is a catalog now")

    with closing(local.connect(str(path))) as connection:
        connection.set_trace_callback(meanwhile)
        assert local.is_begun(connection, str(path))
    assert len(asked) == 2

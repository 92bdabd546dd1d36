"""What is said of the files that hold a database's credentials."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.doctor import databases
from drbdbackup.doctor.databases import DefaultsFacts

GOOD = DefaultsFacts(database="shop", file="/root/backup.cnf", mode=stat.S_IFREG | 0o600)


def states(facts: DefaultsFacts) -> list[str]:
    return [one.state.value for one in databases.judge(facts)]


def test_a_file_as_it_should_be() -> None:
    [found] = databases.judge(GOOD)
    assert (found.check, found.about, found.state.value) == ("defaults file", "shop", "ok")


@pytest.mark.parametrize(("changes", "state"), [
    ({"mode": stat.S_IFREG | 0o644}, "warn"), ({"mode": stat.S_IFREG | 0o640}, "warn"),
    ({"mode": stat.S_IFREG | 0o660}, "fail"), ({"mode": stat.S_IFREG | 0o602}, "fail"), ({"owner": 65534}, "fail"),
    ({"mode": stat.S_IFDIR | 0o700}, "fail"), ({"mode": None}, "fail"), ({"mode": None, "problem": "hangs"}, "warn"),
])  # fmt: skip
def test_each_mistake_is_found(changes, state) -> None:
    assert states(replace(GOOD, **changes)) == [state]


def test_it_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "backup.cnf"
    shop = DatabaseConfig("shop", "mariadb", defaults_file=str(file))
    assert states(databases.gather(shop, databases.look(str(file)), "/srv/raid", mounted=True)) == ["fail"]
    file.write_text("[client]")
    file.chmod(0o604)
    found = databases.gather(shop, databases.look(str(file)), "/srv/raid", mounted=True)
    assert found == DefaultsFacts(
        database="shop", file=str(file), mode=stat.S_IFREG | 0o604, owner=os.geteuid()
    )  # fmt: skip
    tmp_path.chmod(0o777)
    found = databases.gather(shop, databases.look(str(file)), "/srv/raid", mounted=True)
    assert states(found) == ["fail" if os.geteuid() == 0 else "warn"]
    assert states(databases.gather(shop, "it does not answer", "/srv/raid", mounted=True)) == ["warn"]


def test_one_on_a_volume_that_is_not_here_is_not_missed() -> None:
    shop = DatabaseConfig("shop", "mariadb", defaults_file="/srv/raid/etc/backup.cnf")
    assert states(databases.gather(shop, None, "/srv/raid", mounted=False)) == []
    assert states(databases.gather(shop, None, "/srv/raid", mounted=True)) == ["fail"]
    assert states(databases.gather(shop, None, "/srv/ra", mounted=False)) == ["fail"]

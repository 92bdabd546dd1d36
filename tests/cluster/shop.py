"""A shop in the database that is always at work: money goes from one account to the other, and never gets lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.waiting import eventually, together

MONEY = 2000
OPENED = f"""use shop; create table account (name varchar(9) primary key, money int) engine=innodb;
insert into account values ('here', {MONEY // 2}), ('there', {MONEY // 2})"""
BOUGHT = (
    "start transaction; update account set money = money - 1 where name = 'here'; do sleep(0.02);"
    " update account set money = money + 1 where name = 'there'; commit;"
)
DUMPED = '\n[resource.raid.database.shop]\nkind = "mariadb"\ndatabases = ["shop"]\n'


def dumped(lab: Lab) -> None:
    """The shop has accounts, and every backup has a dump of them."""
    lab.www4.run("mysql", given=OPENED)
    together(*((node.run, "cat >>/etc/drbdbackup/config.toml", True, 60, DUMPED) for node in lab.pair))


@contextmanager
def at_work(node: Node) -> Iterator[Started]:
    """Somebody buys all the time."""
    started = node.starts(f'yes "{BOUGHT}" | mysql shop')
    before = balance(node)
    eventually(lambda: balance(node) != before, within=60, what="somebody has bought something", every=1)
    yield started
    node.run("pkill -x yes", check=False)
    started.ends(within=60)


def balance(node: Node) -> tuple[int, int]:
    """What is in the two accounts."""
    here, there = node.says("mysql -N -e 'select money from account order by name' shop").split()
    return int(here), int(there)

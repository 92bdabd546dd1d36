"""Nodes that keep real catalogs in folders and pass real files around; any order, repetition and loss."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count

from drbdbackup.catalog import folders, merge, publish, store, view
from drbdbackup.catalog.bodies import copied, damaged, found, pruned, verified
from drbdbackup.catalog.local import rows
from drbdbackup.catalog.pins import noted, pinned, unpinned
from drbdbackup.catalog.signatures import Signers
from drbdbackup.model.backup import Copy, snapshot_name

MEMORY = "/dev/shm"
NIGHT = datetime(2024, 11, 1, 4, 30, tzinfo=UTC)


def a_folder() -> tempfile.TemporaryDirectory[str]:
    """For catalogs that need not outlive anything: a disk would sync for each of thousands of commits."""
    return tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)


def a_copy(sequence: int, node: str, target: str) -> Copy:
    at = NIGHT + timedelta(days=sequence)
    name = snapshot_name(at, node)
    return Copy(
        snapshot=name, resource="raid", sequence=sequence, node=node, target=target, kind="nas", medium=target,
        location=target, holder="", path=f"/{target}/{name}/data", started_at=at, finished_at=at, files=1, bytes=1,
    )  # fmt: skip


def a_fact(node: str, kind: str, sequence: int, maker: str, target: str, hour: int):
    copy, at = a_copy(sequence, maker, target), NIGHT + timedelta(hours=hour)
    match kind:
        case "copy":
            return copied(node, at, copy)
        case "pruned":
            return pruned(node, at, copy, "old")
        case "found":  # after all that was said before
            before = [(who, early) for who in ("www4", "www5") for early in range(hour)]
            said = [a_fact(who, "pruned", sequence, maker, target, early) for who, early in before]
            return found(node, at, copy, [one.id for one in said])
        case "pinned":
            return pinned(node, at, "raid", copy.snapshot, f"why {hour}")
        case "noted":
            return noted(node, at, "raid", copy.snapshot, f"note {hour}")
        case "unpinned":
            pins = [a_fact(node, "pinned", sequence, maker, target, early) for early in range(3)]
            return unpinned(node, at, "raid", copy.snapshot, [one.id for one in pins])
        case "damaged":
            return damaged(node, at, copy, ["a"])
        case _:
            return verified(node, at, copy, 1, 1, 1.0 if kind == "verified" else 0.1)


# No key is known of any of them, as of an older version's.
ANYBODY = Signers("", frozenset({"www4", "www5", "www6", "www7", "www8", "huge", "mail1", "mail2"}), {})


class PlayedNode:
    """A node with a state folder; `published` are the files that it once gave out, the oldest first."""

    def __init__(self, folder: str, name: str) -> None:
        self.name, self.state = name, os.path.join(folder, name)
        self.published: list[bytes] = []
        self._numbers = count()

    def record(self, *facts) -> None:
        store.record(self.state, self.name, facts)

    def publish(self) -> bytes:
        now = NIGHT + timedelta(days=9, minutes=len(self.published))
        with open(publish.publish(self.state, self.name, now), "rb") as file:
            self.published.append(file.read())
        return self.published[-1]

    def hear(self, content: bytes, road: str = "nas") -> merge.Merged:
        folder = folders.incoming_folder(self.state, road)
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, f"heard-{next(self._numbers)}.db")
        with open(file, "wb") as into:
            into.write(content)
        return merge.merge(self.state, file, road, ANYBODY)

    def ids(self) -> set[str]:
        return {row[0] for row in rows(self.state, "SELECT id FROM fact")}

    def copies(self) -> list[Copy]:
        return view.copies(self.state, "www4", "raid", ("nas", "disk"))

    def altered(self, *statements: str) -> None:
        """What another version or another hand did to the node's catalog."""
        with closing(sqlite3.connect(f"{self.state}/catalog.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

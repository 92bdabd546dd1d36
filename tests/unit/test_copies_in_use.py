"""A restore that begins after it was decided which copies go: the copy that it reads stays."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

from msgspec import Struct

from drbdbackup import lock
from drbdbackup.catalog.folders import held_folder
from drbdbackup.pipeline.copies.open_copy import await_name
from drbdbackup.pipeline.snapshot import recycled_tree
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.pipeline.target.copies_in_use import held, held_copies
from drbdbackup.pipeline.target.open_target import OpenTarget
from drbdbackup.targets import layout

OLD, READ = "20261121T043000Z-www4", "20261122T043000Z-www4"


class Wanted(Struct):
    """Of a copy, what is held."""

    medium: str
    snapshot: str


def opened(root: Path, state: Path) -> OpenTarget:
    """A target with two snapshots, as a job sees it."""
    for name in (OLD, READ):
        data = root / "drbdbackup/raid" / name / "data"
        data.mkdir(parents=True)
        (data / "page").write_text(name)
    medium = SimpleNamespace(root=str(root), location=str(root), engine=None)
    told = SimpleNamespace(medium="m1")
    return OpenTarget(medium, told, None, os.stat(root).st_dev, held_folder(str(state)))  # type: ignore[arg-type]


def test_a_copy_that_is_held_since_the_decision_stays_and_is_not_called_gone(tmp_path: Path) -> None:
    at, config = opened(tmp_path / "nas", tmp_path), SimpleNamespace(state_dir=str(tmp_path))
    gone: list[str] = []
    reading = held(config, Wanted("m1", READ))  # type: ignore[arg-type]

    def send(told: remove_snapshots.Pruned) -> None:
        gone.append(told.snapshot)
        reading.__enter__()  # the restore begins once the first of them is gone

    channel = SimpleNamespace(send=send)
    remove_snapshots.drop(at, "raid", [(OLD, "old"), (READ, "old")], channel)  # type: ignore[arg-type]
    assert gone == [OLD]
    assert (tmp_path / "nas/drbdbackup/raid" / READ / "data/page").read_text() == READ
    reading.__exit__(None, None, None)
    remove_snapshots.drop(at, "raid", [(READ, "old")], SimpleNamespace(send=lambda told: None))  # type: ignore[arg-type]
    assert not (tmp_path / "nas/drbdbackup/raid" / READ).exists()
    assert os.listdir(held_folder(str(tmp_path))) == []


def test_one_that_is_held_while_its_name_goes_gets_it_back(tmp_path: Path) -> None:
    """As it is pruned, and as it would become the next one."""
    at = opened(tmp_path / "nas", tmp_path)
    folder = tmp_path / "nas/drbdbackup/raid"

    def is_held() -> bool:  # since its name went
        return not (folder / READ).exists()

    assert not remove_snapshots.removal.retire(str(folder), READ, is_held)
    fresh = folder / ".partial-20261123T043000Z-www4"
    fresh.mkdir()
    assert not recycled_tree.take(at.root, "raid", READ, str(fresh), is_held)
    assert (folder / READ / "data/page").read_text() == READ
    assert os.listdir(fresh) == []


def test_what_is_asked_is_in_nobodys_way_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    folder = held_folder(str(tmp_path))
    config = SimpleNamespace(state_dir=str(tmp_path))
    with held(config, Wanted("m1", READ)), held_copies_of_another(folder):  # type: ignore[arg-type]
        assert held_copies(folder) == {("m1", READ), ("m2", OLD)}
    Path(folder, f"1@m1@{OLD}").write_text("")  # of a restore that was killed
    assert held_copies(folder) == frozenset()
    assert os.listdir(folder) == []


def held_copies_of_another(folder: str) -> AbstractContextManager[None]:
    """As a process of another number holds one."""
    return lock.held(os.path.join(folder, f"1@m2@{OLD}"))


def test_who_reads_a_copy_waits_while_a_removal_gives_its_name_back(tmp_path: Path) -> None:
    folder, waited = str(tmp_path / READ), list[int]()
    os.mkdir(away := str(tmp_path / f"{layout.REMOVING}{READ}"))

    def give_back() -> None:
        waited.append(1)
        os.rename(away, folder)

    await_name(folder, give_back)
    assert os.path.isdir(folder)
    os.rmdir(folder)
    await_name(folder, give_back)
    assert waited == [1], "what is gone is not waited for"

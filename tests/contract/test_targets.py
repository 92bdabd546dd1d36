"""What every kind of target must do, over a share, a weak share and disks with each file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import TargetError, WrongTarget
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import Medium, abilities, identity, layout, mark, removal, sidecar, target
from drbdbackup.targets.sidecar import Sidecar
from tests.played_media import disk_image, nothing_is_left, share, weak_share

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
FIRST, SECOND = "20261123T043000Z-www4", "20261124T043000Z-www4"


@dataclass(frozen=True)
class Place:
    """A target, and another medium that came to lie in the same place."""

    config: TargetConfig
    other: TargetConfig

    def opened(self, write: bool = True) -> Any:
        return target(self.config).opened("www4", write=write)


@contextmanager
def shares(folder: Path) -> Iterator[Place]:
    with share(folder / "a", folder / "behind-a"), share(folder / "b", folder / "behind-b"):
        config = TargetConfig(name="nas", kind="nas", path=str(folder / "a"))
        yield Place(config, replace(config, path=str(folder / "b")))


@contextmanager
def weak_shares(folder: Path, kind: str) -> Iterator[Place]:
    with weak_share(folder / "a", folder / "behind-a", kind), weak_share(folder / "b", folder / "behind-b", kind):
        config = TargetConfig(name="nas", kind="nas", path=str(folder / "a"))
        yield Place(config, replace(config, path=str(folder / "b")))


@contextmanager
def disks(folder: Path, fstype: str) -> Iterator[Place]:
    images = [disk_image(folder / name, fstype) for name in ("a.img", "b.img")]
    config = TargetConfig(name="disk", kind="disk", device=str(images[0]), mountpoint=str(folder / "saving"))
    yield Place(config, replace(config, device=str(images[1])))
    assert os.listdir(folder / "saving") == []


KINDS = {
    "nas": shares, "nas like CIFS": lambda folder: weak_shares(folder, "simple"),
    "nas that squashes": lambda folder: weak_shares(folder, "squashed"),
    "ext4 disk": lambda folder: disks(folder, "ext4"), "btrfs disk": lambda folder: disks(folder, "btrfs"),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with KINDS[request.param](tmp_path) as played:
        yield played
    assert nothing_is_left(tmp_path)


def expected(medium: Medium, may_enrol: bool = True) -> KnownMedium:
    known = identity.check(medium, None, "www4", may_enrol=may_enrol)
    return KnownMedium(known.medium, medium.filesystem_uuid)


def publish(root: str, name: str, sequence: int) -> str:
    begun = layout.begin(root, "raid", name)
    folder = layout.partial(root, "raid", begun)
    os.makedirs(os.path.join(layout.data(folder), "www/deep"))
    Path(layout.data(folder), "www/deep/page").write_text(name)
    sidecar.write(
        folder,
        Sidecar(
            snapshot=begun,
            resource="raid",
            sequence=sequence,
            node="www4",
            started_at=START,
            finished_at=START,
            kind="k",
            target="t",
        ),
    )
    layout.sync(root)
    return layout.publish(root, "raid", begun)


def test_the_first_run_of_a_primary_enrols_it_and_the_next_one_knows_it_again(place: Place):
    with place.opened() as medium:
        assert medium.identity is None
        known = expected(medium)
    with place.opened(write=False) as medium:
        assert medium.identity is not None
        assert identity.check(medium, known, "www4", may_enrol=False) == medium.identity
        assert (medium.identity.name, medium.identity.kind) == (place.config.name, place.config.kind)


def test_an_unmarked_one_is_not_enrolled_when_it_only_is_to_be_read(place: Place):
    with place.opened(write=False) as medium, pytest.raises(WrongTarget, match="not marked"):
        identity.check(medium, None, "www4", may_enrol=False)


def test_another_medium_in_its_place_is_refused_until_it_is_accepted(place: Place):
    with place.opened() as medium:
        known = expected(medium)
    other = target(place.other)
    with other.opened("www4", write=True) as medium:
        with pytest.raises(WrongTarget, match="not marked") as refused:
            identity.check(medium, known, "www4", may_enrol=True)
        assert f"drbdbackup target accept {place.config.name}" in refused.value.hint
        assert os.listdir(medium.root) in ([], ["lost+found"]), "nothing is written to what is refused"
        expected(medium)
    with other.opened("www4", write=True) as medium:
        with pytest.raises(WrongTarget, match="is expected"):
            identity.check(medium, known, "www4", may_enrol=True)
        accepted = identity.accept(medium, "www4")
    with other.opened("www4", write=False) as medium:
        assert identity.check(medium, KnownMedium(accepted.medium), "www4", may_enrol=False) == accepted


def test_a_torn_mark_is_told_and_can_be_accepted(place: Place):
    with place.opened() as medium:
        known = expected(medium)
        Path(layout.mark(medium.root)).write_text('{"medium": "ab')
    with place.opened() as medium:
        with pytest.raises(TargetError, match=r"target\.json is torn") as told:
            identity.check(medium, known, "www4", may_enrol=True)
        assert "target accept" in told.value.hint
        identity.accept(medium, "www4")
        assert mark.read(medium.root) is not None


def test_a_snapshot_is_there_whole_or_not_at_all(place: Place):
    with place.opened() as medium:
        assert layout.snapshots(medium.root, "raid") == []
        begun = layout.begin(medium.root, "raid", FIRST)
        assert layout.snapshots(medium.root, "raid") == []
        assert [os.path.basename(path) for path in layout.partials(medium.root, "raid")] == [f".partial-{begun}"]
        publish(medium.root, SECOND, 1)
    with place.opened(write=False) as medium:
        assert [told.snapshot for told in layout.snapshots(medium.root, "raid")] == [SECOND]
        folder = layout.snapshot_folder(medium.root, "raid", SECOND)
        assert Path(layout.data(folder), "www/deep/page").read_text() == SECOND


def test_the_same_name_twice_makes_two_snapshots(place: Place):
    with place.opened() as medium:
        assert [publish(medium.root, FIRST, sequence) for sequence in (1, 2)] == [FIRST, f"{FIRST}-2"]
        assert [told.sequence for told in layout.snapshots(medium.root, "raid")] == [1, 2]


def test_latest_leads_to_the_newest_where_the_medium_knows_symlinks(place: Place):
    with place.opened() as medium:
        publish(medium.root, FIRST, 1)
        publish(medium.root, SECOND, 2)
        link = os.path.join(layout.resource_folder(medium.root, "raid"), "latest")
        assert os.path.lexists(link) == abilities.probe(medium.root).symlinks
        if os.path.lexists(link):
            assert os.readlink(link) == SECOND
            removal.retire(layout.resource_folder(medium.root, "raid"), SECOND)
            layout.point_latest(medium.root, "raid")
            assert os.readlink(link) == FIRST


def test_a_snapshot_is_removed_with_all_that_is_in_it(place: Place):
    with place.opened() as medium:
        folder = layout.resource_folder(medium.root, "raid")
        publish(medium.root, FIRST, 1)
        publish(medium.root, SECOND, 2)
        removal.retire(folder, FIRST)
        assert [told.snapshot for told in layout.snapshots(medium.root, "raid")] == [SECOND]
        assert sorted(os.listdir(folder)) in ([SECOND], [SECOND, "latest"])
        assert removal.sweep(folder) == ()


def test_what_an_interrupted_removal_left_is_not_a_snapshot_and_is_swept(place: Place):
    with place.opened() as medium:
        folder = layout.resource_folder(medium.root, "raid")
        publish(medium.root, FIRST, 1)
        os.rename(os.path.join(folder, FIRST), os.path.join(folder, f".removing-{FIRST}"))
        assert layout.snapshots(medium.root, "raid") == []
        assert f".removing-{FIRST}" in removal.sweep(folder)
        assert [name for name in os.listdir(folder) if name != "latest"] == []


def test_trying_its_abilities_leaves_nothing(place: Place):
    with place.opened() as medium:
        able = abilities.probe(medium.root)
        assert abilities.from_document(able.as_document()) == able
        assert os.listdir(layout.home(medium.root)) == []


def test_reading_it_changes_nothing(place: Place):
    with place.opened() as medium:
        expected(medium)
        before = os.stat(layout.mark(medium.root))
    with place.opened(write=False) as medium:
        after = os.stat(layout.mark(medium.root))
        if place.config.kind == "disk":
            with pytest.raises(OSError, match="Read-only"):
                os.mkdir(os.path.join(medium.root, "x"))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_it_is_named_for_people(place: Place):
    with place.opened(write=False) as medium:
        nas = place.config.kind == "nas"
        assert medium.location == (f"nas:{place.config.path}" if nas else f"www4:{place.config.device}")
        assert medium.holder == ("" if nas else "www4")
        assert bool(medium.filesystem_uuid) is not nas

"""A disk that is not the one that it was is refused: swapped, cloned, formatted anew, or another node's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import WrongTarget
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import identity, layout, target
from tests import played_media as media


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[TargetConfig]:
    image = media.disk_image(tmp_path / "disk.img")
    yield TargetConfig(name="disk", kind="disk", device=str(image), mountpoint=str(tmp_path / "saving"))
    assert media.nothing_is_left(tmp_path)


def enrolled(config: TargetConfig, node: str = "www4") -> KnownMedium:
    """What the catalog knows after the enrolment."""
    with target(config).opened(node, write=True) as medium:
        known = identity.check(medium, None, node, may_enrol=True)
        return KnownMedium(known.medium, medium.filesystem_uuid)


def refusal(config: TargetConfig, known: KnownMedium | None, node: str = "www4") -> str:
    """Why the disk is refused."""
    with target(config).opened(node, write=True) as medium:
        with pytest.raises(WrongTarget) as told:
            identity.check(medium, known, node, may_enrol=True)
        return told.value.message


def test_two_disks_that_swapped_their_names_are_both_refused(saving: TargetConfig, tmp_path: Path):
    other = replace(saving, device=str(media.disk_image(tmp_path / "other.img")))
    known, others = enrolled(saving), enrolled(other)
    assert "is expected" in refusal(other, known)
    assert "is expected" in refusal(saving, others)


def test_a_disk_that_was_formatted_anew_is_refused(saving: TargetConfig):
    known = enrolled(saving)
    media.disk_image(Path(saving.device))
    assert "it is not marked" in refusal(saving, known)


def test_a_copied_mark_does_not_make_another_disk_the_target(saving: TargetConfig, tmp_path: Path):
    known = enrolled(saving)
    other = replace(saving, device=str(media.disk_image(tmp_path / "other.img")))
    with media.mounted(saving.device, tmp_path / "a"), media.mounted(other.device, tmp_path / "b"):
        shutil.copytree(tmp_path / "a/drbdbackup", tmp_path / "b/drbdbackup")
    assert "its mark was made on the file system" in refusal(other, known)
    assert "its mark was made on the file system" in refusal(other, None), "also if the catalog was lost"
    with target(other).opened("www4", write=True) as medium:
        assert identity.accept(medium, "www4").medium != known.medium, "the first one may still exist"


def test_a_clone_with_a_new_uuid_is_refused(saving: TargetConfig):
    known = enrolled(saving)
    media.give_new_uuid(saving.device)
    assert "file system" in refusal(saving, known)


def test_the_disk_of_the_other_node_is_refused_until_it_is_accepted(saving: TargetConfig):
    known = enrolled(saving, "www5")
    assert "it is the disk of www5" in refusal(saving, None)
    with target(saving).opened("www4", write=True) as medium:
        assert identity.accept(medium, "www4").medium == known.medium, "its snapshots stay known"
    with target(saving).opened("www4", write=True) as medium:
        assert identity.check(medium, known, "www4", may_enrol=False).node == "www4"


def test_a_disk_that_is_marked_as_another_target_is_refused(saving: TargetConfig):
    enrolled(replace(saving, name="weekly"))
    assert "it is marked as target weekly" in refusal(saving, None)


def test_nothing_is_written_to_a_disk_that_is_refused(saving: TargetConfig):
    known = KnownMedium("f" * 32, "x")
    refusal(saving, known)
    with target(saving).opened("www4", write=False) as medium:
        assert os.listdir(medium.root) == ["lost+found"]
        assert not os.path.exists(layout.home(medium.root))

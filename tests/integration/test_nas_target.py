"""A share is used only while it is mounted, is the one that it was, and answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import NotMounted, Stalled, TargetError, TargetReadOnly, WrongTarget
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import identity, layout, target
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.nas import mount_of
from tests import played_media as media

A_MARK = Identity(
    medium="ab" * 16,
    name="nas",
    kind="nas",
    node="",
    filesystem_uuid="",
    enrolled_at=datetime(2026, 11, 23, tzinfo=UTC),
    enrolled_by="www4",
)


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[TargetConfig]:
    (tmp_path / "backup").mkdir()
    yield TargetConfig(name="nas", kind="nas", path=str(tmp_path / "backup"))
    assert media.nothing_is_left(tmp_path)


def behind(nas: TargetConfig) -> Path:
    return Path(nas.path).parent / "behind"


def shared(nas: TargetConfig):
    return media.share(Path(nas.path), behind(nas))


def refusal(nas: TargetConfig, kind: type[TargetError] = TargetError, write: bool = True) -> TargetError:
    with pytest.raises(kind) as told, target(nas).opened("www4", write=write):
        pass
    return told.value


def test_an_unmounted_path_is_refused_and_nothing_is_written_there(nas: TargetConfig):
    error = refusal(nas, NotMounted)
    assert f"mount {nas.path}" in error.hint
    assert "require_mount" not in error.hint  # followed at night, it fills the bare folder
    assert os.listdir(nas.path) == []


def test_a_missing_folder_is_refused(nas: TargetConfig):
    os.rmdir(nas.path)
    assert "mkdir" in refusal(nas, NotMounted).hint
    assert not os.path.exists(nas.path)


def test_a_folder_below_a_mounted_share_is_not_the_share(nas: TargetConfig):
    with shared(nas):
        os.mkdir(f"{nas.path}/sub")
        refusal(replace(nas, path=f"{nas.path}/sub"), NotMounted)


def test_without_require_mount_a_plain_folder_will_do(nas: TargetConfig):
    with target(replace(nas, require_mount=False)).opened("www4", write=True) as medium:
        assert identity.check(medium, None, "www4", may_enrol=True).node == ""


def test_a_path_with_a_symlink_in_it_is_followed(nas: TargetConfig, tmp_path: Path):
    (tmp_path / "link").symlink_to("backup")
    with shared(nas), target(replace(nas, path=str(tmp_path / "link"))).opened("www4", write=True) as medium:
        assert medium.fstype.startswith("fuse")


def test_a_share_that_is_in_use_cannot_be_unmounted_by_mistake(nas: TargetConfig):
    with shared(nas):
        with target(nas).opened("www4", write=True):
            said = subprocess.run(["umount", nas.path], capture_output=True, text=True)
            assert "busy" in said.stderr
        media.tool("umount", nas.path)


def test_a_folder_that_was_opened_before_the_share_came_is_not_the_share(nas: TargetConfig):
    bare = os.open(nas.path, os.O_RDONLY)
    with shared(nas):
        assert mount_of(bare, nas.path) is None
        inside = os.open(nas.path, os.O_RDONLY)
        assert mount_of(inside, nas.path) is not None
        os.close(inside)
    os.close(bare)


def test_a_share_that_was_unmounted_between_two_looks_is_refused(nas: TargetConfig):
    with shared(nas), target(nas).opened("www4", write=True) as medium:
        known = identity.check(medium, None, "www4", may_enrol=True)
    refusal(nas, NotMounted)
    assert known.medium
    assert os.listdir(nas.path) == []


def test_another_share_in_its_place_is_refused(nas: TargetConfig, tmp_path: Path):
    with shared(nas), target(nas).opened("www4", write=True) as medium:
        known = identity.check(medium, None, "www4", may_enrol=True)
    with media.share(Path(nas.path), tmp_path / "another"), target(nas).opened("www4", write=True) as medium:
        with pytest.raises(WrongTarget, match="it is not marked"):
            identity.check(medium, KnownMedium(known.medium), "www4", may_enrol=True)
        assert os.listdir(tmp_path / "another") == []


def test_the_same_share_is_known_on_the_other_node(nas: TargetConfig):
    with shared(nas), target(nas).opened("www4", write=True) as medium:
        known = identity.check(medium, None, "www4", may_enrol=True)
    with shared(nas), target(nas).opened("www5", write=True) as medium:
        assert identity.check(medium, None, "www5", may_enrol=True) == known


def test_a_local_disk_as_share_is_known_by_its_uuid_too(nas: TargetConfig, tmp_path: Path):
    image = media.disk_image(tmp_path / "usb.img")
    with media.mounted(image, Path(nas.path)), target(nas).opened("www4", write=True) as medium:
        assert medium.filesystem_uuid
        known = identity.check(medium, None, "www4", may_enrol=True)
    media.give_new_uuid(image)
    with (
        media.mounted(image, Path(nas.path)), target(nas).opened("www4", write=True) as medium,
        pytest.raises(WrongTarget, match="file system"),
    ):  # fmt: skip
        identity.check(medium, KnownMedium(known.medium), "www4", may_enrol=True)


def test_a_share_that_is_mounted_read_only_can_be_read_and_is_refused_for_writing(nas: TargetConfig):
    with media.share(Path(nas.path), behind(nas), "-r"):
        refusal(nas, TargetReadOnly)
        with target(nas).opened("www4", write=False) as medium:
            assert medium.identity is None


def test_a_share_that_hangs_stalls_the_look_and_not_the_tool(nas: TargetConfig):
    def look() -> str:
        with target(nas).opened("www4", write=False) as medium:
            return medium.location

    with shared(nas) as share:
        assert proc.probe(look, 10.0, "nas") == f"nas:{nas.path}"
        with media.stopped(share):
            began = time.monotonic()
            with pytest.raises(Stalled, match="nas does not answer"):
                proc.probe(look, 0.3, "nas")
            assert time.monotonic() - began < media.PATIENCE
        assert proc.probe(look, 10.0, "nas") == f"nas:{nas.path}"


def test_a_share_whose_server_has_died_is_told(nas: TargetConfig):
    with shared(nas) as share:
        os.kill(share.pid, signal.SIGKILL)
        media.wait_for(lambda: not answers(nas.path), "the share to die")
        assert "cannot be read" in refusal(nas).message


def answers(path: str) -> bool:
    try:
        os.listdir(path)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("what", ["a FIFO", "a symlink", "a folder", "a large file", "someone else's JSON"])
def test_a_mark_that_is_none_is_told_and_never_followed(nas: TargetConfig, tmp_path: Path, what: str):
    with shared(nas):
        mark = Path(layout.mark(nas.path))
        mark.parent.mkdir()
        (tmp_path / "elsewhere").write_text("{}")
        if what == "a FIFO":
            os.mkfifo(mark)
        elif what == "a symlink":
            mark.symlink_to(tmp_path / "elsewhere")
        elif what == "a folder":
            mark.mkdir()
        else:
            whole = json.dumps(A_MARK.as_document()).encode()
            mark.write_bytes(whole + b" " * (1 << 20) if what == "a large file" else b'{"name": "nas"}')
        with target(nas).opened("www4", write=True) as medium:
            with pytest.raises(TargetError, match=r"target\.json") as told:
                identity.check(medium, None, "www4", may_enrol=True)
            assert "target accept nas" in told.value.hint


def test_a_share_that_runs_full_leaves_no_half_mark(nas: TargetConfig, tmp_path: Path):
    with media.weak_share(Path(nas.path), behind(nas), writes=0), target(nas).opened("www4", write=True) as medium:
        with pytest.raises(OSError, match="No space"):
            identity.check(medium, None, "www4", may_enrol=True)
        assert os.listdir(layout.home(nas.path)) == []

"""The generation as drbdsetup tells it: by minor for 8.4, by peer for 9, and nothing where it cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from drbdbackup import roles
from drbdbackup.config.values import ResourceConfig, RoleConfig
from drbdbackup.roles.generation import DrbdVolume, volume_of
from tests.captured import play

TWO = """\
exists resource name:raid role:Primary suspended:no
exists resource name:mail role:Primary suspended:no
exists connection name:raid peer-node-id:1 conn-name:www5 connection:Connected role:Secondary
exists device name:raid volume:0 minor:0 disk:UpToDate
exists device name:raid volume:1 minor:7 disk:UpToDate
exists device name:mail volume:0 minor:1 disk:UpToDate
exists peer-device name:raid peer-node-id:1 conn-name:www5 volume:0 replication:Established peer-disk:UpToDate
exists peer-device name:raid peer-node-id:1 conn-name:www5 volume:1 replication:Established peer-disk:UpToDate
exists peer-device name:raid peer-node-id:2 conn-name:www6 volume:1 replication:Off peer-disk:DUnknown
exists -
"""
GI = "D5A1C7E0B2F34A59:{}:8E1AC21EB3C3F5A4:0000000000000000:1:1:1:1:0:0:0\n"
TOGETHER, APART = GI.format("0" * 16), GI.format("77DE000000000002")
RESOURCE = ResourceConfig(name="raid", source="/srv/raid", device="/dev/drbd7")


@pytest.fixture
def drbdsetup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH, in which a drbdsetup says what the files there hold, and fails for what none holds."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    play(tmp_path / "drbdsetup", f'#!/bin/sh\ncd {tmp_path}\n[ -e "$*" ] || exit 20\ncat "$*"\n')
    (tmp_path / "events2 --now").write_text(TWO)
    return tmp_path


def asked(source: str = "drbd", resource: ResourceConfig = RESOURCE) -> str | None:
    told = roles.generation(RoleConfig(source), resource)
    return told and f"{told.current} {told.bitmap}".strip()


def test_8_4_is_asked_by_minor(drbdsetup: Path) -> None:
    (drbdsetup / "get-gi 7").write_text(APART)
    assert asked() == "D5A1C7E0B2F34A58 77DE000000000002"


def test_9_is_asked_for_each_peer_of_the_volume(drbdsetup: Path) -> None:
    (drbdsetup / "get-gi raid 1 1").write_text(TOGETHER)
    assert asked() is None, "one peer does not tell"
    (drbdsetup / "get-gi raid 2 1").write_text(APART)
    assert asked() == "D5A1C7E0B2F34A58 77DE000000000002"


def test_a_volume_without_a_disk_tells_nothing(drbdsetup: Path) -> None:
    assert asked() is None


def test_without_drbdsetup_there_is_nothing_to_tell(drbdsetup: Path) -> None:
    (drbdsetup / "drbdsetup").unlink()
    assert asked() is None


@pytest.mark.parametrize("source", ["file", "command"])
def test_other_sources_of_the_role_know_of_no_generation(drbdsetup: Path, source: str) -> None:
    (drbdsetup / "get-gi 7").write_text(APART)
    assert asked(source) is None


def test_a_device_on_top_of_drbd_is_told_only_where_there_is_one_volume() -> None:
    assert volume_of(TWO, "raid", None) is None
    assert volume_of(TWO, "mail", None) == DrbdVolume("0", "1", ())
    assert volume_of(TWO, "raid", 7) == DrbdVolume("1", "7", ("1", "2"))
    assert volume_of(TWO, "raid", 1) is None


@pytest.mark.parametrize("text", ["", "exists", "exists \n", "exists device\n", "exists device name:raid minor:x\n"])
def test_an_answer_that_is_not_understood_is_none(text: str) -> None:
    assert volume_of(text, "raid", None) is None

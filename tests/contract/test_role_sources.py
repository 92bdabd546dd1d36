"""One set of sentences over every role source; a source is played by what it really asks: a program, a file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup import roles
from drbdbackup.config.values import ResourceConfig, RoleConfig
from drbdbackup.model.role import Observation, Role
from tests.captured import CAPTURES, EIGHT, NINE, Capture, play
from tests.played_media import PATIENCE, mounted, share, stopped, tool

RAID = ResourceConfig(name="raid", source="/srv/raid", device="/dev/drbd0")


class Source(ABC):
    """A role source as a cluster plays it, in a folder that comes first on PATH."""

    timeout = 20.0  # seconds; a program may be slow to start on a busy machine

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def config(self) -> RoleConfig: ...

    @abstractmethod
    def is_in(self, role: Role) -> None: ...

    @abstractmethod
    def says(self, text: str) -> None: ...

    @abstractmethod
    def hangs(self) -> None: ...

    @abstractmethod
    def fails(self) -> None: ...


class Program(Source):
    """A program that prints; `fails` has it print a role all the same, because the exit status must count."""

    name: str

    def says(self, text: str) -> None:
        (self.folder / "said").write_text(text)
        play(self.folder / self.name, f'#!/bin/sh\ncat {self.folder}/said\n')

    def hangs(self) -> None:
        play(self.folder / self.name, "#!/bin/sh\nexec sleep 60\n")

    def fails(self) -> None:
        self.is_in(Role.PRIMARY)
        whole = (self.folder / self.name).read_text()
        play(self.folder / self.name, f'{whole.replace("exit ", ": ")}printf "the\\nmoon \\377\\033[2J" >&2\nexit 3\n')


class Drbdsetup(Program):
    """The tools as they answered on a pair of this version."""

    name, version = "drbdsetup", ""

    @property
    def config(self) -> RoleConfig:
        return RoleConfig("drbd", timeout=self.timeout)

    def is_in(self, role: Role) -> None:
        node = "www4" if role is Role.PRIMARY else "www5"
        a_capture(self.version, "10", node).play(self.folder)


class Drbdsetup8(Drbdsetup):
    version = EIGHT


class Drbdsetup9(Drbdsetup):
    version = NINE


class Drbdadm(Drbdsetup9):
    """Only drbdadm is installed (and this machine has no /proc/drbd)."""

    name = "drbdadm"

    def is_in(self, role: Role) -> None:
        super().is_in(role)
        (self.folder / "drbdsetup").unlink()


class Command(Program):
    name = "my-role"

    @property
    def config(self) -> RoleConfig:
        return RoleConfig("command", ("my-role", "raid"), timeout=self.timeout)

    def is_in(self, role: Role) -> None:
        self.says(f"{role.value}\n")


class File(Source):
    """`fails`: it cannot be read; `hangs`: it is a FIFO that nobody writes to."""

    @property
    def config(self) -> RoleConfig:
        return RoleConfig("file", path=str(self.folder / "role"), timeout=self.timeout)

    def is_in(self, role: Role) -> None:
        self.says(f"{role.value}\n")

    def says(self, text: str) -> None:
        (self.folder / "role").write_text(text)

    def hangs(self) -> None:
        os.mkfifo(self.folder / "role")

    def fails(self) -> None:
        (self.folder / "role").mkdir()


def test_the_command_and_the_file_know_which_resource_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch)
    play(tmp_path / "my-role", '#!/bin/sh\n[ "$1/$DRBDBACKUP_RESOURCE" = r1/r1 ] && echo Primary || echo Secondary\n')
    (tmp_path / "role-r1").write_text("Primary\n")
    (tmp_path / "role-r2").write_text("Secondary\n")
    command = RoleConfig("command", ("my-role", "{resource}"))
    for config in (command, RoleConfig("file", path=f"{tmp_path}/role-{{resource}}")):
        seen = [roles.observe(config, ResourceConfig(name=name, source="/srv"))[0].role for name in ("r1", "r2")]
        assert seen == [Role.PRIMARY, Role.SECONDARY]


def a_capture(version: str, number: str, node: str) -> Capture:
    return next(each for each in CAPTURES if (each.version, each.state[:2], each.node) == (version, number, node))


@pytest.fixture(params=[Drbdsetup8, Drbdsetup9, Drbdadm, Command, File], ids=lambda kind: kind.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    on_path(tmp_path, monkeypatch)
    return request.param(tmp_path)


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def seen_by(source: Source) -> Observation:
    [seen] = roles.observe(source.config, RAID)
    assert seen.resource == "raid"
    return seen


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY])
def test_the_role_that_the_node_has_is_told(source: Source, role: Role):
    source.is_in(role)
    seen = seen_by(source)
    assert (seen.role, seen.problem, seen.hint) == (role, "", "")


@pytest.mark.parametrize("text", ["", "\n", "primary\n", "Primary Secondary\n", "Prim", "\x00\xff\u2028\n", "x" * 9999])
def test_what_is_not_understood_is_unknown_with_a_reason(source: Source, text: str):
    source.says(text)
    assert_unknown(seen_by(source))


def test_a_source_that_is_not_there_is_unknown_with_its_name(source: Source):
    seen = seen_by(source)
    assert_unknown(seen)
    assert any(word in seen.problem for word in ("is not installed", "not loaded", "No such file"))


def test_a_source_that_hangs_is_unknown_with_its_deadline(source: Source):
    source.hangs()
    source.timeout = 0.5
    seen = seen_by(source)
    assert_unknown(seen)
    assert "within 0.5 s" in seen.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
@pytest.mark.parametrize("way", ["share", "link", "link-to-a-folder", "share/../own"])
def test_a_role_file_that_lies_behind_a_share_is_not_waited_for(tmp_path: Path, way: str):
    for name in ("share", "behind", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "behind/role").write_text("Primary\n")
    (tmp_path / "link").symlink_to("share")
    (tmp_path / "link-to-a-folder").mkdir()
    for name in ("link-to-a-folder", "own"):
        (tmp_path / name / "role").symlink_to("../share/role")
    config = RoleConfig("file", path=f"{tmp_path}/{way}/role", timeout=20.0)
    with share(tmp_path / "share", tmp_path / "behind") as served:
        assert roles.observe(config, RAID)[0].role is Role.PRIMARY
        with ThreadPoolExecutor() as looking, stopped(served):
            seen = looking.submit(roles.observe, replace(config, timeout=0.5), RAID).result(PATIENCE)
    assert_unknown(seen[0])
    assert "within 0.5 s" in seen[0].problem


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
def test_a_role_file_on_a_disk_that_hangs_is_not_waited_for(tmp_path: Path):
    """The disk of a SAN, here an image file on a share."""
    for name in ("share", "behind", "content"):
        (tmp_path / name).mkdir()
    (tmp_path / "content/role").write_text("Primary\n")
    tool("truncate", "--size", "8M", tmp_path / "behind/image")
    tool("mkfs.ext4", "-q", "-d", tmp_path / "content", tmp_path / "behind/image")
    with (
        share(tmp_path / "share", tmp_path / "behind") as served,
        mounted(tmp_path / "share/image", tmp_path / "disk", "loop", "ro") as disk,
    ):
        config = RoleConfig("file", path=str(disk / "role"), timeout=0.5)
        with ThreadPoolExecutor() as looking, stopped(served):
            seen = looking.submit(roles.observe, config, RAID).result(PATIENCE)
        assert_unknown(seen[0])
        assert "within 0.5 s" in seen[0].problem
        assert roles.observe(replace(config, timeout=PATIENCE), RAID)[0].role is Role.PRIMARY


def test_a_source_that_fails_is_unknown_even_if_it_printed_a_role(source: Source):
    source.fails()
    assert_unknown(seen_by(source))


def assert_unknown(seen: Observation) -> None:
    assert seen.role is Role.UNKNOWN
    assert seen.problem
    assert seen.hint
    assert (seen.problem + seen.hint).isprintable()


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_every_captured_pair_is_understood_through_its_programs(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    on_path(tmp_path, monkeypatch)
    capture.play(tmp_path)
    [seen] = roles.observe(RoleConfig("drbd"), RAID)
    assert seen.role is capture.expected.role
    assert bool(seen.problem) is (seen.role is Role.UNKNOWN)


def test_a_drbdsetup_that_does_not_know_events2_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    on_path(tmp_path, monkeypatch)
    a_capture(EIGHT, "10", "www4").play(tmp_path)
    play(tmp_path / "drbdsetup", '#!/bin/sh\necho "USAGE: drbdsetup command device"\nexit 20\n')
    [seen] = roles.observe(RoleConfig("drbd"), RAID)
    assert (seen.source, seen.role) == ("drbdadm", Role.PRIMARY)


def test_a_role_source_that_is_not_known_is_unknown():
    [seen] = roles.observe(RoleConfig("oracle"), RAID)
    assert seen.role is Role.UNKNOWN

"""Whatever somebody puts in a file's place on a medium: no reader of ours hangs, eats memory up or dies of it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup import manifest, plain_file
from drbdbackup.config.values import Config, PeerConfig, TargetConfig
from drbdbackup.errors import Damaged, DrbdBackupError, PeerError, TargetError
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.backup import journal
from drbdbackup.pipeline.copies.open_copy import _pulled
from drbdbackup.pipeline.copies.read_copy import CopyAccess
from drbdbackup.pipeline.copies.read_protocol import AtPeer, CopyToRead
from drbdbackup.pipeline.snapshot import link_sources
from drbdbackup.targets import claim, mark, sidecar
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import ssh

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
NAME = "20261123T043000Z-www4"
TOLD = Sidecar(snapshot=NAME, resource="raid", sequence=1, node="www4", started_at=NOW, finished_at=NOW)
LINE = b"%032x s - f 644 0 0 5 1 2 3 1 0 a\n" % 1
SPARSE = 2 << 30
MOST = 160 << 20  # bytes of memory beyond what the test has already


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """With more memory than a reader may take."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def fifo(file: Path) -> None:
    os.mkfifo(file)


def a_socket(file: Path) -> None:
    os.mknod(file, stat.S_IFSOCK | 0o600)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def folder(file: Path) -> None:
    file.mkdir()


def sparse(file: Path) -> None:
    with file.open("wb") as made:
        made.truncate(SPARSE)


def one_line(file: Path) -> None:
    file.write_bytes(b"x" * (5 << 20))


def deep(file: Path) -> None:
    file.write_bytes(b"[" * 100_000)


def many_objects(file: Path) -> None:
    file.write_bytes(b"[" + b"{}," * (4 << 20) + b"{}]")


def no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\xed\xa0\x80\n")


def list_of_lists(file: Path) -> None:
    file.write_bytes(b"[]\n")


def packed(content: bytes, times: int = 1) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        with gzip.open(file, "wb", compresslevel=1) as made:
            made.write(manifest.HEADER)
            for _ in range(times):
                made.write(content)

    return put


def one_packed_line(file: Path) -> None:
    packed(b"x" * (1 << 20), 200)(file)


def no_header(file: Path) -> None:
    with gzip.open(file, "wb", compresslevel=1) as made:
        for _ in range(200):
            made.write(b"x" * (1 << 20))


ATTACKS = (fifo, a_socket, endless, folder, sparse, one_line, deep, many_objects, no_text, list_of_lists)


def read_manifest(file: Path) -> None:
    with manifest.reading(str(file)) as lines:
        for line in lines:
            manifest.recorded(line)


def copy_manifest(file: Path) -> None:
    into = file.with_name("here")
    try:
        manifest.copied(str(file), str(into))
    except (Damaged, OSError):
        assert not into.exists()
        raise


def read_mark(file: Path) -> None:
    os.makedirs(file.parent / "drbdbackup", exist_ok=True)
    os.rename(file, file.parent / "drbdbackup/target.json")
    mark.read(str(file.parent))


def read_sidecar(file: Path) -> None:
    os.rename(file, file.with_name("snapshot.json"))
    sidecar.read(str(file.parent))


@pytest.mark.parametrize("read", [read_sidecar, read_mark, read_manifest])
@pytest.mark.parametrize("attack", [*ATTACKS, one_packed_line, no_header])
def test_what_lies_on_a_medium_is_read_or_damaged(
    tmp_path: Path, attack: Callable[[Path], None], read: Callable[[Path], None]
) -> None:
    attack(tmp_path / "file")
    with pytest.raises(Damaged):
        read(tmp_path / "file")


@pytest.mark.parametrize("attack", [fifo, a_socket, endless, folder, sparse, one_line, deep, no_text])
def test_nothing_is_left_of_a_manifest_that_cannot_be_brought_here(
    tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    attack(tmp_path / "file")
    with pytest.raises(Damaged):
        copy_manifest(tmp_path / "file")


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_run_left_for_the_next_one_counts_or_does_not(
    tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    """The abilities, the note that all is there, and what was noted as copied; and the journal of our own."""
    left = tmp_path / f"drbdbackup/raid/.partial-{NAME}"
    (left / "data").mkdir(parents=True)
    for name in ("abilities.json", "whole"):
        attack(left / name)
        assert link_sources._abilities_in(str(left)) is None
        assert not link_sources._is_signed_whole(str(left), {}, str(tmp_path / "here"))
    attack(tmp_path / "journal")
    assert journal.unfinished(str(tmp_path / "journal")) is None
    attack(left / "copied")
    try:
        opened = plain_file.opened(str(left / "copied"), SPARSE)
    except Damaged:
        return
    with opened:
        assert list(link_sources.until_torn(opened, {})) == []  # type: ignore[arg-type]


NUMBERS = [
    (3, b"-1"), (3, b"70000"), (4, b"-5"), (4, b"4294967296"), (6, b"-1"), (6, b"9" * 30), (7, b"9" * 40),
    (8, b"-" + b"9" * 4000), (9, b"-2"), (10, b"9" * 4301), (10, b"NaN"), (11, b"1e5"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "value"), NUMBERS)
def test_a_number_that_makes_no_sense_is_damaged(at: int, value: bytes) -> None:
    fields = LINE.split(b" ")
    fields[at + 1 if at > 2 else at] = value
    with pytest.raises(Damaged):
        manifest.recorded(b" ".join(fields))


@pytest.mark.parametrize("text", ["9" * 4301, "9" * 4000, "-1", "NaN", "Infinity", "-Infinity", "1e999", "1.5", "true"])
def test_a_number_in_a_sidecar_that_makes_no_sense_is_damaged(tmp_path: Path, text: str) -> None:
    whole = json.dumps({**TOLD.as_document(), "sequence": "HERE"}).replace('"HERE"', text)
    (tmp_path / "snapshot.json").write_text(whole)
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))


@pytest.mark.parametrize(
    "at",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1968-12-31T23:59:59Z", "9999-01-01T00:00:00Z"],
)
def test_a_time_that_not_every_zone_has_is_damaged(tmp_path: Path, at: str) -> None:
    (tmp_path / "snapshot.json").write_text(json.dumps({**TOLD.as_document(), "started_at": at}))
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))


def test_what_is_written_of_a_snapshot_can_be_read_again(tmp_path: Path) -> None:
    long = tuple(Problem.at(b"\xff" * 4000, "why") for _ in range(1000))
    sidecar.write(str(tmp_path), Sidecar(
        snapshot=NAME, resource="raid", sequence=1, node="www4", started_at=NOW, finished_at=NOW, problems=long,
        problem_count=1000,
    ))
    found = sidecar.read(str(tmp_path))
    assert (found.problem_count, found.problems) == (1000, long[: len(found.problems)])
    assert found.problems


def test_a_mark_of_a_mounted_disk_that_is_nonsense_says_nothing(tmp_path: Path) -> None:
    config = TargetConfig(name="disk", kind="disk", device="/dev/null", mountpoint="/nowhere")
    (tmp_path / "mounted-disk").write_bytes(b"[" * 65536)
    assert not claim.clear(config, str(tmp_path))


@pytest.mark.parametrize("said", ["[" * 100_000, "[1, 2]", '{"copies": 3}', '{"copies": NaN, "digests": []}', "\udcff"])
def test_a_peers_nonsense_is_the_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    program = tmp_path / "ssh"
    program.write_bytes(b"#!/bin/sh\ncat <<'END'\n%s\nEND\n" % os.fsencode(said))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    peer = PeerConfig("www5", "root@www5")
    for ask in (ssh.listing, ssh.digests):
        with pytest.raises(PeerError):
            ask(peer, 5.0, 5.0)


def test_a_peer_that_describes_no_snapshot_gives_a_damaged_one(tmp_path: Path) -> None:
    way = AtPeer(PeerConfig("www5", "root@www5"), "disk", {"snapshot": NAME, "sequence": -1}, 5.0, takes_list=True)
    copy = CopyToRead(
        resource="raid", snapshot=NAME, medium="m", way=way, scratch=str(tmp_path), patience=5.0, manifests={},
            sidecars={},
    )
    with pytest.raises(DrbdBackupError, match=NAME) as caught:
        _pulled(copy, way, None)  # type: ignore[arg-type]
    assert caught.value.code == "copy.damaged"


@pytest.mark.parametrize("closed", ['"no"', "[1]", "7", "null", '{"disk": ["deep"]}'])
def test_a_peer_that_lists_nonsense_only_does_not_have_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """Its copies count as out of reach, and another one is taken."""
    program = tmp_path / "ssh"
    said = '{"copies": [1, "x", null, [], {"medium": []}], "closed": CLOSED}'.replace("CLOSED", closed)
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    peer = PeerConfig("www5", "root@www5")
    config = Config(
        file="", node="www4", nodes=("www4", "www5"), resources=(), targets=(), peers=(peer,), state_dir=str(tmp_path),
    )
    copy = TOLD.copy("www5:/dev/sdb1", "/backup/data")
    access = CopyAccess(config)
    with pytest.raises(TargetError):
        access.open_way(replace(copy, holder="www5"))

"""Nothing that somebody wrote to a medium runs as somebody else: neither while a restore is at work nor afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from drbdbackup.manifest import SETTLED, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.tree import entries, open_folder
from drbdbackup.pipeline.restore.apply_metadata import MetadataWriter, Pair, WrittenMetadata
from drbdbackup.pipeline.restore.privileged_files import RightsWriter
from drbdbackup.pipeline.restore.proven_metadata import ProvenMetadataWriter, apply_proven
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools import rsync
from tests.integration.test_forged_attributes import CAPABILITY, MAY_CHANGE_USER, named
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore
from tests.settled import wait_until_settled

# The owner of a folder in a restore's destination has a file of his own, with content and times as the manifest says
# but for a letter, in the place of each that comes.
EXCHANGES = """
import os, sys
folder, size, time = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgid(33), os.setuid(33)
number, his = 0, set()
print("ready", flush=True)
while True:
    try:
        for name in os.listdir(folder):
            if name.startswith(("set", ".set.")) and os.lstat(f"{folder}/{name}").st_ino not in his:
                number += 1
                with open(f"{folder}/.his", "wb") as file:
                    file.write(b"#!/bin/evil".ljust(size, b"."))
                    his.add(os.fstat(file.fileno()).st_ino)
                os.chmod(f"{folder}/.his", 0o755)
                os.utime(f"{folder}/.his", ns=(time, time))
                os.rename(f"{folder}/{name}", f"{folder}/.away-{number}")
                os.rename(f"{folder}/.his", f"{folder}/{name}")
    except OSError:
        pass
"""
# In a folder of his he exchanges his own file for one of root's, as often as each has the name that it should have.
SWAPS = """
import os
import socket
os.setgid(33), os.setuid(33)
print("ready", flush=True)
while True:
    try:
        if os.lstat("www/his").st_uid == 33 and os.lstat("www/secret").st_uid == 0:
            os.rename("www/secret", "www/.away"), os.rename("www/his", "www/secret"), os.rename("www/.away", "www/his")
    except OSError:
        pass
"""
# The owner of a folder writes to all that he can in it.
WRITES = """
import os
import socket
os.setgroups([]), os.setgid(1000), os.setuid(1000)
for folder, _, names in os.walk("."):
    for name in names:
        try:
            with open(f"{folder}/{name}", "r+b") as file:
                file.write(b"#!/bin/evil")
            print(f"{folder}/{name}")
        except OSError:
            pass
"""
ALL = Abilities(**dict.fromkeys(Abilities.__struct_fields__, True))
NAMES = [f"www/{name}" for name in ("plain", "set", "able", "edited-set", "edited-able")]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """With programs of the web user: plain ones, and some that run as their owner or with a capability."""
    played = PlayedPair(tmp_path)
    (played.volume / "www").mkdir()
    for name in NAMES:
        (played.volume / name).write_bytes(b"#!/bin/true\n")
        os.chown(played.volume / name, 33, 33)
        os.chmod(played.volume / name, 0o6755 if name.endswith("set") else 0o755)
        if name.endswith("able"):
            os.setxattr(played.volume / name, CAPABILITY, MAY_CHANGE_USER)
    wait_until_settled(played.volume)
    played.backs_up()
    return played


def edit(file: Path) -> None:
    """Another content, with everything else as it was."""
    seen, held = file.stat(), {name: os.getxattr(file, name) for name in os.listxattr(file)}
    file.write_bytes(b"#!/bin/evil\n")
    os.chmod(file, seen.st_mode & 0o7777)
    for name, value in held.items():
        os.setxattr(file, name, value)
    os.utime(file, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def attack(data: Path) -> None:
    """A program that runs as root, one that was set so and now is root's, and others with a content of the attacker."""
    for name in ("www/plain", "www/set"):
        os.chown(data / name, 0, 0)
        os.chmod(data / name, 0o4755)
    edit(data / "www/edited-set")
    edit(data / "www/edited-able")


@contextmanager
def watched(
    destination: Path, is_wrong: Callable[[str, os.stat_result], bool], names: Iterable[str] = NAMES
) -> Iterator[set[str]]:
    """Names that somebody could have run meanwhile with rights that they must not have."""
    found: set[str] = set()
    done, seen = threading.Event(), {name: destination / name for name in names}

    def look() -> None:
        while not done.is_set():
            for name, file in seen.items():
                try:
                    if is_wrong(name, file.stat()):
                        found.add(name)
                except OSError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        done.set()
        looking.join()


def is_wrong(name: str, seen: os.stat_result) -> bool:
    return bool(seen.st_mode & 0o6000) and (seen.st_uid == 0 or name != "www/set")


def gives_rights(folder: Path, writer: type[MetadataWriter], path: str, content: bytes) -> list[Problem]:
    """What could not be given to a file below the `folder` that should be as it is, but with this content."""
    with open_folder(str(folder)) as tree:
        seen = next(entries(tree, path.encode(), lambda _: None))
        one = Recorded(replace(seen, size=len(content)), xxhash.xxh128(content).hexdigest(), SETTLED, b"")
        return RightsWriter(tree, writer(ALL, is_own=True), lambda: None).write_all([one], (), lambda: None)


def left_by_a_kill(folder: Path, path: str) -> list[tuple[int, int]]:
    """Owner and mode of what is there of our own after a kill while a file gets its rights."""

    class IsKilled(MetadataWriter, frozen=True):
        def write(self, at: bytes | int, one: Recorded, entry: Entry, *, is_other: bool) -> WrittenMetadata:
            super().write(at, one, entry, is_other=is_other)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    child = os.fork()
    if not child:
        try:
            gives_rights(folder, IsKilled, path, (folder / path).read_bytes())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seen = [one.stat() for one in folder.rglob(".drbdbackup-*")]
    return [(one.st_uid, one.st_mode & 0o7777) for one in seen]


@pytest.mark.parametrize("way", ["to", "in place"])
def test_a_program_from_a_share_never_runs_as_somebody_else(pair: PlayedPair, tmp_path: Path, way: str) -> None:
    """A NAS gives it setuid and root as its owner: it has neither, at no moment of the restore. What a killed restore
    left of a file with such rights is removed.
    """
    attack(pair.newest("nas"))
    at = pair.volume if way == "in place" else tmp_path / "back"
    args = ["--in-place", "--no-safety"] if way == "in place" else ["--to", str(at)]
    if way == "in place":
        assert left_by_a_kill(at, "www/set") == [(0, 0o700)]
        for name in NAMES:
            (at / name).unlink()
    else:
        at.mkdir(mode=0o700)
    with watched(at, is_wrong) as found:
        done = pair.json("www4", "restore", "--yes", *args, status=1)
    assert found == set()
    assert named(done) == {"www/edited-set", "www/edited-able"}
    modes = {name: (at / name).stat() for name in NAMES}
    assert {name: (seen.st_uid, seen.st_mode & 0o7777) for name, seen in modes.items()} == {
        "www/plain": (33, 0o755), "www/set": (33, 0o6755), "www/able": (33, 0o755), "www/edited-set": (0, 0o600),
        "www/edited-able": (0, 0o600),
    }  # fmt: skip
    assert [name for name in NAMES if os.listxattr(at / name)] == ["www/able"]
    assert {str(one.relative_to(at)) for one in (at / "www").iterdir()} == set(NAMES)


def test_programs_that_were_there_keep_what_they_have(pair: PlayedPair, tmp_path: Path) -> None:
    """What nobody touched is as it was, and a volume that is as it was is said to be."""
    assert "already had the content of the snapshot; " in restore(pair, "--in-place", "--no-safety")
    pair.json("www4", "restore", "--yes", "--to", str(tmp_path / "back"))
    assert differences(pair.volume, tmp_path / "back") == []
    os.chmod(pair.volume / "www/set", 0o755)
    assert ": 1 entry corrected" in restore(pair, "--in-place", "--no-safety")
    assert differences(pair.volume, tmp_path / "back") == []


def test_its_owner_cannot_write_to_a_file_before_it_has_its_rights(tmp_path: Path) -> None:
    """It is his from chown(2) on, in a folder of his."""
    could: list[str] = []

    class WritesMeanwhile(MetadataWriter, frozen=True):
        def write(self, at: bytes | int, one: Recorded, entry: Entry, *, is_other: bool) -> WrittenMetadata:
            os.chown(at, entry.uid, entry.gid)
            argv = [sys.executable, "-c", WRITES]
            could.extend(subprocess.check_output(argv, cwd=tmp_path, text=True, timeout=60).split())
            return super().write(at, one, entry, is_other=is_other)

    content, program = b"#!/bin/true", tmp_path / "his/set"
    program.parent.mkdir()
    program.write_bytes(content)
    for path in (tmp_path, program.parent, program):
        os.chown(path, 1000, 50)
    program.chmod(0o2755)
    assert gives_rights(tmp_path, WritesMeanwhile, "his/set", content) == []
    seen = program.stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (1000, 50, 0o2755)
    assert program.read_bytes() == content
    assert could == ["./his/set"]
    assert os.listdir(program.parent) == ["set"]


def test_what_has_the_name_of_a_program_by_now_gets_no_further_name_of_it(tmp_path: Path) -> None:
    """Its owner exchanges the first name for a file of root's, which would have one in a folder of his then."""
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"#!/bin/true")
        (tmp_path / name).chmod(0o4755)

    def met() -> None:
        looked.append(1)
        if len(looked) > 1:
            (tmp_path / "one").unlink()
            (tmp_path / "one").write_text("secret")

    looked = list[int]()
    with open_folder(str(tmp_path)) as tree:
        found = [next(entries(tree, name, lambda _: None)) for name in (b"one", b"other")]
        content = xxhash.xxh128(b"#!/bin/true").hexdigest()
        wanted = [Recorded(replace(one, inode=7, nlink=2), content, SETTLED, b"") for one in found]
        assert RightsWriter(tree, MetadataWriter(ALL, is_own=True), lambda: None).write_all(wanted, (), met) == []
    assert (tmp_path / "other").read_bytes() == b"#!/bin/true"
    assert (tmp_path / "other").stat().st_mode & 0o7777 == 0o4755


@pytest.mark.parametrize("is_above", [False, True])
@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_made"),
    [(33, 33, 0o700, False), (0, 0, 0o755, False), (0, 33, 0o750, False), (0, 0, 0o700, True), (0, 50, 0o750, True)],
)
def test_a_program_of_a_closed_folder_is_made_in_none_that_is_open_to_others(
    tmp_path: Path, owner: int, group: int, mode: int, *, is_made: bool, is_above: bool
) -> None:
    """The web user owns the folder around it, and has another one in its place when the program gets its rights."""
    closed, his, content = tmp_path / "www/closed", tmp_path / "www/his", b"#!/bin/true"
    for folder in (closed / "in", his / "in"):
        folder.mkdir(parents=True)
        (folder / "set").write_bytes(content)
    for folder, who, its, bits in ((closed, 0, 50, 0o750), (his, owner, group, mode), (closed.parent, 33, 33, 0o755)):
        os.chown(folder, who, its)
        folder.chmod(bits)
    os.chown(his / "in/set", 33, 33)

    def met() -> None:
        if his.exists():
            closed.rename(tmp_path / "www/away")
            his.rename(closed)

    with open_folder(str(tmp_path)) as tree:
        found = list(entries(tree, b"www", lambda _: None))
        found = [replace(one, mode=0o4755) if one.kind == b"f" else one for one in found]
        hashes = {b"f": xxhash.xxh128(content).hexdigest(), b"d": ""}
        wanted = [Recorded(one, hashes[one.kind], SETTLED, b"") for one in found if b"/his" not in one.path]
        at = len(wanted) - 1 if is_above else 0
        writer = RightsWriter(tree, MetadataWriter(ALL, is_own=True), lambda: None, wanted[:at])
        problems = writer.write_all(wanted[at:], (), met)
    assert [one.path for one in problems] == ([] if is_made else ["www/closed/in/set"])
    assert (closed / "in/set").stat().st_mode & 0o4000 == (0o4000 if is_made else 0)


def test_it_is_told_that_a_large_file_is_being_read_before_it_gets_its_own(tmp_path: Path) -> None:
    """Whoever waits for the restore would take it for one that hangs."""
    file, told, problems = tmp_path / "large", list[int](), list[Problem]()
    file.write_bytes(b"x" * (3 << 20))
    with open_folder(str(tmp_path)) as tree:
        [seen] = entries(tree, b"large", lambda _: None)
        one = Recorded(replace(seen, mode=0o640), xxhash.xxh128(file.read_bytes()).hexdigest(), SETTLED, b"")
        to = ProvenMetadataWriter(
            folder=tree, writer=MetadataWriter(ALL, is_own=True), problems=problems, hashes=ContentHashes(told.append)
        )
        assert list(apply_proven([(one, seen)], to)) == [(one, seen)]
    assert (file.stat().st_mode & 0o7777, problems) == (0o640, [])
    assert len(told) > 1


def test_nothing_of_roots_that_has_his_name_by_now_is_given_to_a_user(tmp_path: Path) -> None:
    """He exchanges his symlink, FIFO, file and folders for root's between the walk's look and the writing."""
    kinds: dict[str, Callable[[Path], object]] = {
        "link": lambda path: path.symlink_to("x"), "fifo": os.mkfifo, "file": lambda path: path.write_text("x"),
        "folder": Path.mkdir, "other": Path.mkdir,
    }  # fmt: skip
    with open_folder(str(tmp_path)) as tree:
        pairs: list[Pair] = []
        for name, make in kinds.items():
            make(tmp_path / name)
            [seen] = entries(tree, name.encode(), lambda _: None)
            content = xxhash.xxh128(b"x").hexdigest() if name == "file" else ""
            his = Recorded(replace(seen, uid=33, gid=33, mode=0o777), content, SETTLED, b"")
            pairs.append((his, seen))
            if name != "other":
                os.rename(tmp_path / name, tmp_path / "away")
                (tmp_path / "away").unlink() if name != "folder" else (tmp_path / "away").rmdir()
        for name in ("link", "fifo", "file"):
            (tmp_path / name).write_text("secret of root's")
        (tmp_path / "folder").mkdir(mode=0o700)
        (tmp_path / "folder/secret").write_text("of root's")
        problems = list[Problem]()
        to = ProvenMetadataWriter(folder=tree, writer=MetadataWriter(ALL, is_own=True), problems=problems)
        assert list(apply_proven(sorted(pairs, key=lambda pair: pair[0].entry.path), to))
    assert {one.path for one in problems} == {"link", "fifo", "file", "folder"}
    assert {name: (tmp_path / name).stat().st_uid for name in kinds} == {**dict.fromkeys(kinds, 0), "other": 33}


def test_nothing_of_roots_that_looks_like_his_is_given_to_a_user(tmp_path: Path) -> None:
    """A folder with the same names in it, a FIFO and a socket, a file with the same content and a name elsewhere."""

    def plug(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as plugged:
            plugged.bind(str(path))

    for home in ("his", "roots"):
        (tmp_path / home / "folder/inner").mkdir(parents=True)
        (tmp_path / home / "folder/key").write_text(home)
        (tmp_path / home / "folder/inner/key").write_text("x")
        os.mkfifo(tmp_path / home / "fifo")
        plug(tmp_path / home / "plug")
        (tmp_path / home / "file").write_text("x")
    os.link(tmp_path / "roots/file", tmp_path / "elsewhere")
    (tmp_path / "roots/folder").chmod(0o700)
    names = "folder", "folder/inner", "folder/inner/key", "folder/key", "fifo", "plug", "file"
    of_root = {name: (tmp_path / "roots" / name).stat() for name in names}
    problems, begun = list[Problem](), time.time_ns()

    def met() -> Iterator[Pair]:
        found = list(entries(tree, b"his", lambda _: None))
        for name in ("fifo", "file", "plug"):
            (tmp_path / "his" / name).rename(tmp_path / f"his-{name}")
            (tmp_path / "roots" / name).rename(tmp_path / "his" / name)
        for seen in found:
            content = {b"his/folder/key": "his"}.get(seen.path, "x")
            content = xxhash.xxh128(content.encode()).hexdigest() if seen.kind == b"f" else ""
            yield Recorded(replace(seen, uid=33, gid=33, mode=0o777), content, SETTLED, b""), seen
            if seen.path == b"his/folder/key":  # all that is in it is his by now
                (tmp_path / "his/folder").rename(tmp_path / "away")
                (tmp_path / "roots/folder").rename(tmp_path / "his/folder")

    with open_folder(str(tmp_path)) as tree:
        to = ProvenMetadataWriter(folder=tree, writer=MetadataWriter(ALL, is_own=True), problems=problems, begun=begun)
        list(apply_proven(met(), to))
    given = {name: (tmp_path / "his" / name).lstat() for name in names}
    kept = {name for name in names if given[name].st_ino == of_root[name].st_ino}
    assert kept == {"file", *(name for name in names if name.startswith("folder"))}
    assert {given[name].st_uid for name in kept} == {0}
    assert (given["fifo"].st_uid, given["plug"].st_uid, given["fifo"].st_mode & 0o7777) == (33, 33, 0o777)
    assert {one.path for one in problems} == {"his", "his/file", "his/folder"}


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "right"), [(33, 33, 0o700, 0o700), (0, 0, 0o755, 0o700), (0, 33, 0o750, 0o750)]
)
def test_what_roots_closed_folder_has_is_open_to_nobody_while_it_is_given(
    tmp_path: Path, uid: int, gid: int, mode: int, right: int
) -> None:
    """Under the name of the closed folder is one of a user's by now, another one of root's, or one of a group's."""
    folder, seen_then = tmp_path / "closed", list[tuple[int, int]]()
    folder.mkdir()
    (folder / "key").write_text("x")
    (folder / "key").chmod(0o600)
    os.chown(folder, uid, gid)
    folder.chmod(mode)

    def met() -> Iterator[Pair]:
        for seen in list(entries(tree, b"closed", lambda _: None)):
            then, content = (right, "") if seen.kind == b"d" else (0o644, xxhash.xxh128(b"x").hexdigest())
            yield Recorded(replace(seen, uid=0, gid=0, mode=then), content, SETTLED, b""), seen
        now = folder.stat()
        seen_then.append((now.st_uid, now.st_mode & 0o7777))

    with open_folder(str(tmp_path)) as tree:
        to = ProvenMetadataWriter(
            folder=tree, writer=MetadataWriter(ALL, is_own=True), problems=[], begun=time.time_ns()
        )
        list(apply_proven(met(), to))
    assert (folder / "key").stat().st_mode & 0o7777 == 0o644
    assert seen_then == [(0, 0o700)]


@pytest.mark.parametrize("how", [(), ("--path", "www/his")])
def test_a_folder_of_roots_under_the_name_of_a_users_is_not_opened_to_him(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    """He owns the folder around both, and renames root's; what is in it goes before he could enter."""
    pair = PlayedPair(tmp_path)
    his, private = pair.volume / "www/his", pair.volume / "www/private"
    (pair.volume / "www").mkdir()
    his.mkdir()
    for path in (his.parent, his):
        os.chown(path, 33, 33)
    pair.backs_up()
    private.mkdir(mode=0o700)
    (private / "dump.sql").write_text("secret")
    his.rename(his.with_name("gone"))
    private.rename(his)
    could = his.stat()

    def is_open(_: str, seen: os.stat_result) -> bool:
        return (seen.st_uid, seen.st_mode & 0o777) != (could.st_uid, could.st_mode & 0o777) and any(os.listdir(his))

    with watched(pair.volume, is_open, ["www/his"]) as found:
        pair.json("www4", "restore", "--yes", "--in-place", "--no-safety", *how)
    assert found == set()
    assert (his.stat().st_uid, os.listdir(his)) == (33, [])
    if how:  # where nothing is deleted, it is not given to him
        merged = tmp_path / "merged/www/his"
        merged.mkdir(parents=True)
        merged.chmod(0o700)
        (merged / "dump.sql").write_text("secret")
        said = pair.run("www4", "restore", "--yes", "--to", str(tmp_path / "merged"), "--merge", *how)
        assert (said.returncode, merged.stat().st_uid, merged.stat().st_mode & 0o777) == (1, 0, 0o700), said.stderr


def test_what_rsync_brings_is_for_root_alone_whatever_was_there_before(tmp_path: Path) -> None:
    """Without its own mode a new file, which is root's, would get that of the user's before: setuid root."""
    for folder, content in (("from", "#!/bin/evil"), ("to", "old")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "set").write_text(content)
        (tmp_path / folder / "set").chmod(0o4755)
    (tmp_path / "list").write_bytes(rsync.listed(b"set"))
    for holds in (Abilities.holds.fget(ALL), rsync.Holds(owners=False, modes=False)):  # type: ignore[attr-defined]
        os.chown(tmp_path / "to/set", 33, 33)
        closed = replace(holds, closed=True, privileges=False)
        ends = f"{tmp_path}/from/", f"{tmp_path}/to/"
        command = rsync.restoring(*ends, closed, over=True, listing=str(tmp_path / "list"))
        subprocess.run(command.argv, check=True, capture_output=True, timeout=60)
        seen = (tmp_path / "to/set").stat()
        assert (seen.st_uid, seen.st_mode & 0o7777) == (0, 0o600)
        (tmp_path / "to/set").write_text("older")
        (tmp_path / "to/set").chmod(0o4755)


def test_what_the_owner_of_a_folder_puts_in_the_place_of_a_program_never_gets_its_rights(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    pair.volume.chmod(0o755)
    program = pair.volume / "www/set"
    program.parent.mkdir()
    program.write_bytes(b"#!/bin/true\n".ljust(100, b"."))
    os.utime(program, ns=(1, 1_000_000_000))
    program.chmod(0o4755)
    (pair.volume / "www/other").write_bytes(b"#!/bin/true")
    (pair.volume / "www/other").chmod(0o4755)
    os.chown(program.parent, 33, 33)
    for number in range(1000):
        (pair.volume / f"file-{number}").write_text("x")
    pair.backs_up()
    for number in range(3):
        to = tmp_path / f"to-{number}"
        to.mkdir()
        os.chown(to, 33, 33)
        argv = [sys.executable, "-c", EXCHANGES, "www", "100", "1000000000"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=to) as attacker:
            try:
                assert attacker.stdout is not None
                attacker.stdout.readline()
                ended = pair.run("www4", "restore", "--yes", "--to", str(to))
            finally:
                attacker.kill()
        assert ended.returncode in (0, 1), ended.stderr
        found = [one for one in (to / "www").iterdir() if one.stat().st_mode & 0o6000]
        assert not [one.name for one in found if b"evil" in one.read_bytes()]
        assert "other" in [one.name for one in found]


def test_a_file_of_roots_is_not_given_to_who_exchanges_his_own_for_it(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "www").mkdir()
    for name, letter, owner, mode in (("his", "x", 33, 0o666), ("secret", "s", 0, 0o600)):
        (pair.volume / "www" / name).write_text(letter * 100)
        os.chown(pair.volume / "www" / name, owner, owner)
        (pair.volume / "www" / name).chmod(mode)
    os.chown(pair.volume / "www", 33, 33)
    pair.volume.chmod(0o755)
    for number in range(1000):
        (pair.volume / f"file-{number}").write_text("x")
    pair.backs_up()
    with subprocess.Popen([sys.executable, "-c", SWAPS], stdout=subprocess.PIPE, cwd=pair.volume) as attacker:
        try:
            assert attacker.stdout is not None
            attacker.stdout.readline()
            ended = pair.run("www4", "restore", "--yes", "--in-place", "--no-safety")
        finally:
            attacker.kill()
    assert ended.returncode in (0, 1), ended.stderr
    secret = [one for one in (pair.volume / "www").iterdir() if one.read_text().startswith("s")]
    assert {(one.stat().st_uid, one.stat().st_mode & 0o777) for one in secret} <= {(0, 0o600)}

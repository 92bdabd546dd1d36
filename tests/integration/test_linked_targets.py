"""Who can write to a target, or to what is just restored, puts symlinks there: nothing else on the node is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from drbdbackup.manifest import Entry
from drbdbackup.pipeline.files.metadata import write_metadata
from tests.played_media import share, wait_for
from tests.played_pair import PlayedPair, differences

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chown, namespaces and mounts want root")

NOBODY = 65534
OURS = ["drbdbackup", "drbdbackup/raid", "drbdbackup/catalog"]
# Takes a folder of the copy away and leaves a symlink in its place, for as long as it takes to be fallen for.
SWAPS = """
import glob, os, sys, time
folders, local, begun = sys.argv[1:]
open(begun, "w").close()
while True:
    for folder in glob.glob(folders):
        try:
            os.rename(folder, f"{folder}.real")
            os.symlink(local, folder)
            time.sleep(0.3)
            os.unlink(folder)
            os.rename(f"{folder}.real", folder)
        except OSError:
            pass
"""


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "www/shop").mkdir(parents=True)
    for number in range(300):
        (played.volume / f"www/shop/page-{number}").write_text(f"page {number}")
        (played.volume / f"www/page-{number}").write_text(f"page {number}")
    for folder in (played.volume / "www", played.volume / "www/shop"):
        os.chown(folder, 33, 33)
        folder.chmod(0o777)
    return played


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder of the node, with names in it that are ours to remove on a target."""
    folder = tmp_path / "etc"
    for name in (".partial-20200101T000000Z-www4/data", ".removing-0123", "20200101T000000Z-www4/data", "shop"):
        (folder / name).mkdir(parents=True)
        (folder / name / "passwd").write_text("root:x:0:0")
    for name in ("target.json", "passwd", "page-1", "www4.db"):
        (folder / name).write_text("root:x:0:0")
    folder.chmod(0o700)
    return folder


def seen(folder: Path) -> list[tuple[str, int, int, int, bytes]]:
    """All that there is, with owners, modes, times and content."""
    found = []
    for path in sorted((folder, *folder.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path), status.st_uid, status.st_mode, status.st_mtime_ns, content))
    return found


def code(pair: PlayedPair) -> str:
    """The error of a run for its target."""
    [run] = pair.json("www4", "run", status=1)["runs"]
    [target] = run["targets"]
    return str(target["error"]["code"])


@contextmanager
def swapping(pair: PlayedPair, folders: str, local: Path) -> Iterator[None]:
    begun = pair.folder / "begun"
    with subprocess.Popen([sys.executable, "-c", SWAPS, folders, local, begun]) as attacker:
        wait_for(begun.exists, "the attacker")
        try:
            yield
        finally:
            attacker.kill()


@contextmanager
def mounted(pair: PlayedPair) -> Iterator[None]:
    nas, behind = pair.folder / "nas", pair.folder / "behind"
    pair.targets["nas"] = f'kind = "nas"\npath = "{nas}"'
    with share(nas, behind):
        yield


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_symlink_for_a_folder_of_ours_is_not_followed(
    pair: PlayedPair, local: Path, name: str, is_mounted: bool
) -> None:
    with mounted(pair) if is_mounted else nullcontext():
        pair.backs_up()
        place = pair.folder / "nas" / name
        shutil.copy2(pair.folder / "nas/drbdbackup/target.json", local)
        shutil.move(place, pair.folder / "away")
        place.symlink_to(local)
        before = seen(local)
        assert code(pair) == "target.unsafe"
        for command in ("sync", "prune", "latest", "verify"):
            pair.run("www4", command)
        assert seen(local) == before
        place.unlink()
        shutil.move(pair.folder / "away", place)
        pair.backs_up()


def test_a_folder_that_becomes_a_symlink_while_it_is_copied_leads_nowhere(pair: PlayedPair, local: Path) -> None:
    before = seen(local)
    with swapping(pair, f"{pair.folder}/nas/drbdbackup/raid/.partial-*/data/www", local):
        for number in range(3):
            for page in (pair.volume / "www/shop").iterdir():
                page.write_text(f"version {number}")
            pair.run("www4", "run")
    assert seen(local) == before
    for folder in ("www/shop", "www"):  # what a run could not give to them then, its manifest keeps until they change
        os.utime(pair.volume / folder)
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_nothing_is_restored_through_a_symlink_that_appears_meanwhile(pair: PlayedPair, local: Path) -> None:
    """rsync 3.2.7 follows one; here a program of its name does, whatever the real one is."""
    os.link(next((pair.volume / "www/shop").iterdir()), pair.volume / "again")  # rsync's, as a file of several names
    pair.backs_up()
    before, out, program = seen(local), pair.folder / "out", pair.folder / "bin/rsync"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
for to; do :; done
ln -s {local} "$to/trap" && touch {pair.folder}/tried && echo changed >"$to/trap/passwd"
rm "$to/trap"
exec {shutil.which("rsync")} "$@"
""")
    program.chmod(0o755)
    pair.path = f"{program.parent}:{os.environ['PATH']}"
    ended = pair.run("www4", "restore", "--to", str(out), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert (pair.folder / "tried").exists()
    assert seen(local) == before
    assert differences(pair.volume, out) == []


def test_no_mode_is_given_to_what_a_symlink_leads_to(local: Path, tmp_path: Path) -> None:
    (tmp_path / "page").symlink_to(local / "passwd")
    before = seen(local)
    entry = Entry(
        kind=b"f", mode=0o4777, uid=0, gid=0, size=0, mtime=0, ctime=0, inode=0, nlink=1, rdev=0, path=b"page"
    )
    assert write_metadata(os.fsencode(tmp_path / "page"), entry, {}, owners=False) == ("mode: it has become a symlink",)
    assert seen(local) == before


@pytest.mark.parametrize("name", ["drbdbackup", "drbdbackup/raid", "drbdbackup/raid/safety"])
def test_a_folder_that_somebody_has_made_before_us_is_refused(pair: PlayedPair, name: str) -> None:
    place = pair.folder / "nas" / name
    place.mkdir(parents=True, mode=0o755)
    os.chown(place, NOBODY, NOBODY)
    assert code(pair) == "target.unsafe"
    os.chown(place, 0, 0)
    place.chmod(0o770)
    assert code(pair) == "target.unsafe"
    place.chmod(0o750)
    pair.backs_up()
    if name.endswith("safety"):
        place.rmdir()
        place.symlink_to(pair.folder)
        assert code(pair) == "target.unsafe"


def test_a_share_that_gives_all_to_one_user_is_as_good_as_ever(pair: PlayedPair) -> None:
    nas = pair.folder / "nas"
    pair.targets["nas"] = f'kind = "nas"\npath = "{nas}"'
    with share(nas, pair.folder / "behind", "--force-user=nobody", "--force-group=nogroup", "--chown-ignore"):
        pair.run("www4", "run")
        assert (nas / "drbdbackup").stat().st_uid == NOBODY
        assert pair.json("www4", "latest")["error"] is None

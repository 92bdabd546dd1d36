"""What the tests of restore and verify share: a furnished pair, a restore nobody is asked about, and bad days."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.integration.test_snapshots import HOSTILE, furnish
from tests.played_media import tool
from tests.played_pair import PlayedPair


def furnished(folder: Path) -> PlayedPair:
    """A pair whose volume holds everything that is hard to keep."""
    played = PlayedPair(folder)
    furnish(played.volume)
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(played.volume) + b"/www/" + name))).write_text("odd")
    return played


def restore(pair: PlayedPair, *args: str | Path, node: str = "www4", status: int = 0) -> str:
    """What a restore without anyone to ask says; its exit status is `status`."""
    ended = pair.run(node, "restore", "--yes", *map(str, args))
    assert ended.returncode == status, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def spoil(volume: Path) -> None:
    """What a bad day does: content changed with size and time kept, entries gone, swapped for others, and added."""
    same = volume / "www/site/same"
    same.write_text("bbbb")
    os.utime(same, ns=(1, 1_000_000_001))
    os.chmod(volume / "mail/1", 0o777)
    (volume / "mail/1-again").unlink()
    (volume / "old").unlink()
    (volume / "old").mkdir()
    (volume / "old/intruder").write_text("x")
    (volume / "queue").unlink()
    (volume / "queue").symlink_to("/etc/passwd")
    shutil.rmtree(volume / "locked")
    (volume / "locked").write_text("a file now")
    (volume / "intruders/deep").mkdir(parents=True)
    (volume / "intruders/deep/one").write_text("x")


def rot(path: Path) -> None:
    """Flip a bit, and leave everything that stat shows as it was."""
    seen = path.stat()
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def with_a_way(volume: Path, *names: str) -> str:
    """A file whose folders above have what is hard to keep; its path from the volume's top."""
    way = volume / "way/sh[o]p\\"
    way.mkdir(parents=True)
    (way / "f").write_text("f")
    for number, folder in enumerate((way, volume / "way")):
        tool("setfacl", "-m", "g::---,u:1234:rwx,o::---", folder)
        tool("setfacl", "-d", "-m", "u:1234:rwx,g::---", folder)
        for name in names or ("user.k", "trusted.k", "security.k"):
            os.setxattr(folder, name, b"\0v")
        os.chown(folder, 33, 44 + number)
        os.utime(folder, ns=(1, 1_234_567_890_123_456_789 + number))
    return str((way / "f").relative_to(volume))


def the_way(root: Path) -> list[tuple[object, ...]]:
    """What the folders above that file have of their own."""
    found: list[tuple[object, ...]] = []
    for one in (root / "way", root / "way/sh[o]p\\"):
        seen, extended = one.stat(), {name: os.getxattr(one, name) for name in os.listxattr(one)}
        found.append((seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, extended))
    return found

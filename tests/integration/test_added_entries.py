"""What somebody, or a NAS, has put into a copy since it was made: never restored, told, and no damage of the copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.played_media import tool
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore
from tests.settled import wait_until_settled

DUMP = "drbdbackup-databases/shop"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = furnished(tmp_path)
    (played.volume / DUMP).mkdir(parents=True)
    (played.volume / DUMP / "dump.sql").write_text("\n-- Dump completed on 2026-11-23 04:30:00\n")
    return played


def attacked(data: Path) -> set[str]:
    """A web shell beside the pages, one in a folder of its own, one at the top, and a newer backup of a database.

    Their names.
    """
    names = {"www/shell.php", "www/more/shell.php", "shell.php", f"{DUMP}/backup-2/evil.so", f"{DUMP}/shell.php"}
    for name in names:
        put(data / name, "<?php system($_GET['do']);")
        os.chmod(data / name, 0o4755)
    return names


def littered(data: Path) -> set[str]:
    """What NAS boxes and the desktops of their users put into folders."""
    names = {"@eaDir/mail@SynoEAStream", "www/@eaDir/x", "mail/Thumbs.db", "www/._same", "www/site/.DS_Store"}
    for name in names:
        put(data / name, "indexed")
    return names


def put(path: Path, text: str) -> None:
    """Write a file, and give the folders above it their times again."""
    folder = path.parent if path.parent.exists() else path.parent.parent
    seen = folder.stat()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(folder, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_it_is_never_restored(pair: PlayedPair) -> None:
    """Into an empty folder, over what others keep there, in place, one path, one file."""
    pair.backs_up()
    data = pair.newest("nas")
    added = attacked(data) | littered(data)
    whole, merged, part, file = (pair.folder / name for name in ("whole", "merged", "part", "file"))
    (merged / "www/site").mkdir(parents=True)
    for name in ("www/mine", "www/shell.php"):
        (merged / name).write_text("mine")
    for args in (
        ("--to", whole), ("--to", merged, "--merge"), ("--to", part, "--path", "www"),
        ("--to", file, "--path", "www/site/same"), ("--in-place", "--no-safety"),
    ):  # fmt: skip
        restore(pair, *args)
    assert (merged / "www/shell.php").read_text() == "mine"
    for name in ("www/mine", "www/shell.php"):
        (merged / name).unlink()
    tool("touch", "--reference", pair.volume / "www", merged / "www")
    for folder in (whole, merged):
        assert differences(pair.volume, folder) == []
    assert differences(pair.volume / "www", part / "www") == []
    assert os.listdir(file / "www") == ["site"]
    assert os.listdir(file / "www/site") == ["same"]
    assert not [name for name in added if any((root / name).exists() for root in (whole, merged, part, pair.volume))]


def test_a_drill_passes_and_does_not_meet_it(pair: PlayedPair) -> None:
    pair.backs_up()
    attacked(pair.newest("nas"))
    littered(pair.newest("nas"))
    drilled = pair.json("www4", "drill")
    assert (drilled["problem_count"], drilled["damaged"]) == (0, [])
    assert drilled["files"] == pair.copies()[0]["files"]


def test_verify_names_what_was_added_and_the_copy_is_the_backup_all_the_same(pair: PlayedPair) -> None:
    wait_until_settled(pair.volume)
    pair.backs_up()
    data = pair.newest("nas")
    littered(data)
    [seen] = pair.json("www4", "verify")["copies"]
    assert (seen["ok"], seen["problem_count"], seen["added_count"], seen["ignored"]) == (True, 0, 0, 5)
    attacked(data)
    [seen] = pair.json("www4", "verify", status=1)["copies"]
    top = ["drbdbackup-databases/shop/backup-2", "drbdbackup-databases/shop/shell.php", "shell.php", "www/more",
           "www/shell.php"]  # fmt: skip
    assert seen["ok"] is seen["well"]
    assert (seen["ok"], seen["problem_count"], sorted(seen["added"]), seen["ignored"]) == (False, 0, top, 5)
    ended = pair.run("www4", "verify")
    assert ended.returncode == 1
    assert "www/shell.php" in ended.stderr
    assert "eaDir" not in ended.stderr
    assert "DAMAGED" not in ended.stdout
    newest = pair.json("www4", "latest")["backup"]
    assert (newest["snapshot"], newest["damaged_at"]) == (data.parent.name, None)
    pair.backs_up()
    assert os.stat(pair.newest("nas") / "mail/1").st_ino == os.stat(data / "mail/1").st_ino
    assert not (pair.newest("nas") / "www/shell.php").exists()


def test_which_names_are_a_nas_own_can_be_configured(pair: PlayedPair) -> None:
    pair.backs_up()
    littered(pair.newest("nas"))
    pair.extra = '[verify]\nignore = ["@*", "Thumbs.db"]\n'
    [seen] = pair.json("www4", "verify", status=1)["copies"]
    assert (sorted(seen["added"]), seen["ignored"]) == (["www/._same", "www/site/.DS_Store"], 3)


def test_a_node_that_stands_by_tells_what_was_added_and_nothing_of_a_nas_own(pair: PlayedPair) -> None:
    pair.extra = '[verify]\nshare = "100%"\n'
    pair.backs_up()
    data = pair.newest("nas")
    littered(data)
    ended = pair.run("www5", "run")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    attacked(data)
    ended = pair.run("www5", "run")
    assert ended.returncode == 1
    assert "www/shell.php" in ended.stderr
    assert "eaDir" not in ended.stderr
    assert pair.json("www5", "latest")["backup"]["damaged_at"] is None

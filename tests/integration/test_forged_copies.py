"""Whoever can write to a medium can change a copy, its manifest and its record together: it is no backup then."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from tests.played_media import tool
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled

SECRET, FORGED = b"<?php login();", b"<?php system()"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    played.add_share("second")
    (played.volume / "index.php").write_bytes(b"<?php phpinf();")
    played.backs_up()
    (played.volume / "index.php").write_bytes(SECRET)
    wait_until_settled(played.volume)
    played.backs_up()
    return played


def write_sidecar(folder: Path, **changed: object) -> None:
    """As the medium's own program would: with the digest of the manifest that lies there now."""
    file = folder / "snapshot.json"
    sha256 = hashlib.sha256((folder / "manifest.gz").read_bytes()).hexdigest()
    file.write_text(json.dumps({**json.loads(file.read_text()), "manifest_sha256": sha256, **changed}))


def forge(tree: Path) -> None:
    """Another content of the same size and time, with a manifest and a sidecar that say so."""
    file, manifest = tree / "index.php", tree.parent / "manifest.gz"
    before, lines = file.stat(), gzip.decompress(manifest.read_bytes())
    was, now = (xxhash.xxh128_hexdigest(content).encode() for content in (SECRET, FORGED))
    assert was in lines
    file.write_bytes(FORGED)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    manifest.write_bytes(gzip.compress(lines.replace(was, now)))
    write_sidecar(tree.parent)


def roll_back(tree: Path) -> None:
    """The older snapshot's tree and manifest under the newest one's name."""
    older, newest = sorted(path.parent for path in tree.parents[1].glob("2*/snapshot.json"))
    assert newest == tree.parent
    shutil.rmtree(tree)
    tool("cp", "-a", older / "data", tree)
    shutil.copy(older / "manifest.gz", newest / "manifest.gz")
    write_sidecar(newest)


def test_a_planted_snapshot_is_no_backup_until_it_is_signed(pair: PlayedPair, tmp_path: Path) -> None:
    """A whole one of the attacker's own, newer than all: nothing is linked from it, and nobody gets it unasked.

    Nor does it hold a night back because it was larger, or stand against the others as a rival.
    """
    newest = pair.newest("nas").parent
    planted = newest.parent / "20991231T000000Z-www5"
    tool("cp", "-a", newest, planted)
    forge(planted / "data")
    large, base = {"files": 10**9, "bytes": 10**15}, {"bitmap": "C" * 16, "history": []}
    line = {"current": "A" * 16, **base}
    write_sidecar(planted, snapshot=planted.name, node="www5", sequence=1_000, generation=line, **large)
    endless = newest.parent / "20991231T000001Z-www4"
    tool("cp", "-a", planted, endless)
    line = {"current": "B" * 16, **base}
    write_sidecar(endless, snapshot=endless.name, node="www4", sequence=1 << 60, generation=line, **large)

    for _ in range(2):  # in the second night the first one has told of what it found
        pair.backs_up()
        assert (pair.newest("nas") / "index.php").read_bytes() == SECRET
    made = pair.json("www4", "latest")["backup"]
    assert (made["snapshot"] in (planted.name, endless.name), made["sequence"]) == (False, 4)
    plan = pair.json("www4", "restore", "--to", str(tmp_path / "good"), "--yes")["plan"]
    assert plan["copy"]["snapshot"] == made["snapshot"]
    unsigned = {copy["snapshot"] for copy in pair.copies() if not copy["signed"]}
    assert unsigned == {planted.name, endless.name}

    shutil.rmtree(endless)  # signed, the two would be rivals
    pair.backs_up()
    [signed] = pair.json("www4", "target", "sign", "nas")["copies"]
    assert (signed["copy"]["snapshot"], signed["well"]) == (planted.name, True)
    assert all(copy["signed"] for copy in pair.copies())
    assert pair.json("www4", "target", "sign", "nas")["copies"] == []


def test_what_cannot_be_read_on_a_target_costs_no_night(pair: PlayedPair) -> None:
    """Snapshots, unfinished ones and a catalog that hang a reader, have no end, or are too much for its memory."""
    newest = pair.newest("nas").parent
    home = newest.parents[1]
    deep = b"[" * 100_000
    whole = json.loads((newest / "snapshot.json").read_text())
    before_time = json.dumps({**whole, "started_at": "0001-01-01T00:00:00+23:59"}).encode()
    puts: list[Callable[[Path], object]] = [
        os.mkfifo, Path.mkdir, lambda file: file.symlink_to("/dev/zero"), lambda file: file.write_bytes(deep),
        lambda file: os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 2 << 30),
        lambda file: file.write_bytes(before_time.replace(newest.name.encode(), file.parent.name.encode())),
    ]  # fmt: skip
    for number, put in enumerate(puts):
        planted = newest.parent / f"20991231T00000{number}Z-www4"
        left = newest.parent / f".partial-20991231T00001{number}Z-www4"
        (planted / "data").mkdir(parents=True)
        put(planted / "snapshot.json")
        put(planted / "manifest.gz")
        (left / "data").mkdir(parents=True)
        (left / "abilities.json").write_text(json.dumps(whole["abilities"]))
        for name in ("whole", "manifest.partial", "manifest.gz"):
            put(left / name)
        tool("rm", "-rf", home / "catalog/www5.db")
        put(home / "catalog/www5.db")
        pair.backs_up("www4", "--target", "nas") if number % 2 else pair.json("www4", "latest")
    assert (pair.newest("nas") / "index.php").read_bytes() == SECRET
    known = {copy["snapshot"] for copy in pair.copies()}
    assert not {name for name in known if name.startswith("2099")}
    assert pair.run("www4", "sync", "--rebuild").returncode in (0, 3)
    assert {copy["snapshot"] for copy in pair.copies()} == known


@pytest.mark.parametrize("note", ["manifest.partial", "whole"])
def test_nothing_is_linked_from_an_unfinished_copy_that_no_node_has_signed(pair: PlayedPair, note: str) -> None:
    newest = pair.newest("nas").parent
    forge(newest / "data")
    left = newest.with_name(".partial-20991231T000000Z-www5")
    newest.rename(left)
    sidecar = json.loads((left / "snapshot.json").read_text())
    (left / "abilities.json").write_text(json.dumps(sidecar["abilities"]))
    packed = (left / "manifest.gz").read_bytes()
    lines = b"".join(gzip.decompress(packed).splitlines(keepends=True)[1:])
    said = {"manifest.partial": lines, "whole": f"whole {hashlib.sha256(packed).hexdigest()}\n".encode()}
    (left / note).write_bytes(said[note] + b"signed www5 " + b"4f" * 64 + b"\n")
    pair.misses(newest.name)
    assert (pair.newest("nas") / "index.php").read_bytes() == SECRET


@pytest.mark.parametrize("attack", [forge, roll_back])
def test_a_copy_that_was_replaced_with_its_manifest_is_found(
    pair: PlayedPair, attack: Callable[[Path], None], tmp_path: Path
) -> None:
    attack(pair.newest("nas"))
    newest = pair.copies()[0]["snapshot"]

    def read(verb: str, *args: str, status: int = 0) -> Any:
        return pair.json("www4", verb, *args, status=status)

    assert pair.run("www4", "restore", "--from", "nas", "--to", str(tmp_path / "bad"), "--yes").returncode == 6
    assert not (tmp_path / "bad").exists()
    plan = read("restore", "--to", str(tmp_path / "good"), "--yes")["plan"]
    assert (plan["copy"]["target"], [one["copy"]["target"] for one in plan["passed_over"]]) == ("second", ["nas"])
    assert differences(pair.volume, tmp_path / "good") == []
    assert read("diff", newest, "now")["changes"] == []

    pair.backs_up()  # nothing has changed since, and nothing is linked from what was forged
    assert (pair.newest("nas") / "index.php").read_bytes() == SECRET

    [judged] = read("verify", newest, "--target", "nas", status=1)["copies"]
    assert (judged["well"], judged["problem_count"]) == (False, 1)
    assert {one["target"] for one in pair.copies() if one["damaged_at"]} == {"nas"}


def test_a_manifest_that_is_swapped_after_the_look_at_it_is_not_read(pair: PlayedPair, tmp_path: Path) -> None:
    """The content is forged; as soon as the genuine manifest was read once, one that fits comes in its place."""
    folder = pair.newest("nas").parent
    genuine = (folder / "manifest.gz").read_bytes()
    forge(folder / "data")
    forged = (folder / "manifest.gz").read_bytes()
    (folder / "manifest.gz").write_bytes(genuine)
    write_sidecar(folder)
    watch = tmp_path / "swap.py"
    watch.write_text(f"""import ctypes, os
libc = ctypes.CDLL(None)
at = libc.inotify_init()
libc.inotify_add_watch(at, {os.fsencode(folder / "manifest.gz")!r}, 0x10)  # closed after reading
print("ready", flush=True)
os.read(at, 4096)
with open({str(folder / "other")!r}, "wb") as file:
    file.write({forged!r})
os.rename({str(folder / "other")!r}, {str(folder / "manifest.gz")!r})
""")
    with subprocess.Popen([sys.executable, watch], stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"ready\n"
        [judged] = pair.json("www4", "verify", folder.name, "--target", "nas", status=1)["copies"]
        assert attacker.wait(30) == 0
    assert (judged["problem_count"], (folder / "manifest.gz").read_bytes()) == (1, forged)


def test_what_a_snapshot_says_it_left_out_cannot_be_altered(pair: PlayedPair) -> None:
    """A restore in place would delete what was excluded then, or spare what an attacker has left in the volume."""
    (pair.volume / "cache").mkdir()
    (pair.volume / "cache/page").write_text("kept")
    pair.resource = 'exclude = ["cache/"]'
    pair.backs_up()
    pair.resource = ""
    newest = pair.newest("nas").parent
    genuine = (newest / "snapshot.json").read_bytes()
    write_sidecar(newest, sequence=1 << 60, exclude=[])
    (pair.volume / "shell.php").write_text("<?php system();")

    done = pair.json("www4", "restore", "--in-place", "--yes", "--no-safety", "--from", "www4")
    assert done["plan"]["copy"]["target"] == "second"
    assert [one["copy"]["target"] for one in done["plan"]["passed_over"]] == ["nas"]
    assert (pair.volume / "cache/page").read_text() == "kept"
    assert not (pair.volume / "shell.php").exists()

    write_sidecar(newest, sequence=1 << 60, exclude=["*"])
    failed = pair.json("www4", "restore", "--in-place", "--yes", "--from", "nas", "--snapshot", newest.name, status=6)
    assert failed["error"]["code"] == "copy.out-of-reach"
    [judged] = pair.json("www4", "verify", newest.name, "--target", "nas", status=1)["copies"]
    assert "snapshot.json" in judged["problems"][0]["problem"]
    pair.backs_up()
    assert {copy["sequence"] for copy in pair.copies()} == {1, 2, 3, 4}

    (newest / "snapshot.json").write_bytes(genuine)
    [judged] = pair.json("www4", "verify", newest.name, "--target", "nas")["copies"]
    assert judged["well"]


def test_a_sidecar_does_not_say_on_which_medium_it_lies(pair: PlayedPair) -> None:
    """With all that the catalog on the share tells, a copy that was removed from another target is planted on this."""
    taken = pair.newest("second").parent
    planted = pair.newest("nas").parent
    assert planted.name == taken.name
    [copy] = [one for one in pair.copies(target="second") if one["snapshot"] == taken.name]
    shutil.rmtree(taken)
    pair.misses(taken.name)
    assert taken.name not in {one["snapshot"] for one in pair.copies(target="second")}
    write_sidecar(planted, medium=copy["medium"], target="second")
    pair.backs_up()
    assert taken.name not in {one["snapshot"] for one in pair.copies(target="second")}

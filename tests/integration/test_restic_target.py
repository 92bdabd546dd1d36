"""A target whose copies restic keeps: real restic, a repository on this machine and one behind a REST server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.captured import play
from tests.newer_restic import with_both_restics, with_newer_restic
from tests.played_media import disk_image, mounted, nothing_is_left, wait_for
from tests.played_pair import TIMEOUT, PlayedPair, differences
from tests.played_repository import (
    PASSWORD,
    add_repository,
    asked,
    cheapen,
    reaching,
    recorded,
    rest_server,
    stored,
    summaries,
)
from tests.played_sshd import SFTP, Reached, sshd
from tests.settled import settled_volume

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def everything(volume: Path) -> None:
    """One of each that is hard to store."""
    (volume / "www/shop").mkdir(parents=True)
    (volume / "www/index").write_text("hello")
    os.link(volume / "www/index", volume / "www/shop/again")
    os.symlink("../www/index", volume / "www/link")
    os.lchown(volume / "www/link", 7, 8)
    Path(os.fsdecode(os.fsencode(volume) + b"/www/caf\xe9 *[x]?$y#")).write_text("bytes")
    with (volume / "holed").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"in the middle")
    os.mkfifo(volume / "www/fifo")
    os.mknod(volume / "www/null", 0o20666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(volume / "www")
        one.bind("socket")
        os.chdir(here)
    (volume / "program").write_text("#!/bin/sh\n")
    os.chown(volume / "program", 33, 34)
    os.chmod(volume / "program", 0o4755)
    os.setxattr(volume / "www/shop", "user.note", b"one")
    os.setxattr(volume / "www/index", "trusted.note", b"two")
    subprocess.run(["setfacl", "-m", "u:12345:rw", volume / "www/index"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:12345:r", volume / "www/shop"], check=True)
    os.utime(volume / "www/shop", ns=(1, 1_234_567_890_123_456_789))
    (volume / "cache/deep").mkdir(parents=True)
    (volume / "cache/deep/a").write_text("not this")
    (volume / "keep.tmp").mkdir()
    (volume / "keep.tmp/x.tmp").write_text("nor this")
    (volume / "keep.tmp/y").write_text("but this")
    (volume / "www/torn\n$x.tmp").write_text("nor this")
    (volume / "www/gone ").write_text("nor this, and the next one is another")
    (volume / "www/gone").write_text("but this")
    os.chown(volume, 5, 6)
    os.chmod(volume, 0o711)


def played(folder: Path, head: str = "") -> PlayedPair:
    pair = PlayedPair(folder, head=head, resource='exclude = ["/cache/", "*.tmp", "!keep.tmp", "gone?"]')
    shutil.rmtree(pair.volume)
    settled_volume(pair.volume, everything)
    return pair


def test_what_either_node_stores_on_either_server_comes_back_as_it_was(tmp_path: Path) -> None:
    pair = played(tmp_path)
    del pair.targets["nas"]
    recorded(pair)
    with rest_server(tmp_path / "served", "--user", "raid", "--pass", "s3cret-of-rest") as server:
        address = server.address
        add_repository(pair, "offsite", str(tmp_path / "repository"))
        add_repository(pair, "rest", address.replace("//", "//raid:s3cret-of-rest@"))
        pair.backs_up("www4")
        cheapen(tmp_path / "repository")
        cheapen(tmp_path / "served")
        first = pair.copies("www4")
        assert {(copy["target"], copy["files"], copy["problems"], copy["reachable"]) for copy in first} == {
            ("offsite", 7, 0, None), ("rest", 7, 0, None),
        }  # fmt: skip
        (repository,) = {copy["medium"] for copy in first if copy["target"] == "offsite"}
        assert repository == json.loads(asked(pair, "offsite", "cat", "config", "--no-lock"))["id"]

        vouched = stored(pair, "rest", "drbdbackup-data")[0]
        forge_a_newer_one(pair, "rest", tmp_path / "forged")
        pair.roles("www5")
        (pair.volume / "www/new").write_text("of www5")
        pair.backs_up("www5")
        parents = re.findall(r"--parent ([0-9a-f]{64})\b", (tmp_path / "bin/argv").read_text())  # a record's is shorter
        assert [parents.count(vouched["id"]), len(parents)] == [1, 2], "what a node vouches for, on each"
        runs = [run for run in pair.json("www5", "runs")["runs"] if run["node"] == "www5"]
        assert runs[0]["files"] == 2, "one on each target"
        trees = [one for one in summaries(pair) if one["total_files_processed"] > 3]
        assert [(one["files_new"], one["files_changed"]) for one in trees[-2:]] == [(1, 0)] * 2, trees
        assert trees[-1]["files_unmodified"] == 7
        assert len(stored(pair, "rest", "drbdbackup-record")) == len(stored(pair, "rest", "drbdbackup-data")) == 3

        argv = (tmp_path / "bin/argv").read_text()
        assert "backup" in argv
        assert not any(secret in argv for secret in (PASSWORD, "s3cret", address, str(tmp_path / "repository")))
        shown = [pair.run("www5", *args).stdout for args in (["config", "show"], ["target", "list"], ["list"])]
        assert not any(secret in text for secret in (PASSWORD, "s3cret") for text in shown)

        again = pair.json("www4", "verify", "--target", "rest", "--target", "offsite")
        assert {(one["copy"]["target"], one["files"], one["ok"]) for one in again["copies"]} == {
            ("rest", 8, True), ("offsite", 8, True),
        }  # fmt: skip
        for node, origin, snapshot in (("www5", "rest", runs[0]["snapshot"]), ("www4", "offsite", "")):
            back = tmp_path / f"back-{node}"
            wish = ["--snapshot", snapshot] if snapshot else []
            done = pair.run(node, "restore", "--from", origin, *wish, "--to", str(back), "--yes")
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            left_out = ["cache", "keep.tmp/x.tmp", "www/torn", "www/gone "]
            assert [line for line in differences(pair.volume, back) if not _is_below(line, left_out)] == []
            assert os.stat(back / "www/index").st_ino == os.stat(back / "www/shop/again").st_ino
            assert os.stat(back / "holed").st_blocks * 512 < 1 << 20
            assert (back.stat().st_uid, back.stat().st_gid, back.stat().st_mode & 0o7777) == (5, 6, 0o711)
        part = ["--path", "www/shop", "--to", str(tmp_path / "part")]
        done = pair.run("www4", "restore", "--from", "rest", *part, "--yes")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "part/www/shop/again").read_text() == "hello"

        found = pair.json("www4", "find", "www/new")
        assert [one["path"] for one in found["paths"]] == ["www/new"]
        assert key_sheet_of(pair, "www5") == {"offsite": "warn", "rest": "warn"}
        sheet = pair.run("www5", "target", "key", "offsite").stdout
        typed = "\n".join(line for line in sheet.splitlines() if line.startswith("  "))
        assert PASSWORD in typed
        subprocess.run(  # on a machine that has nothing of ours
            ["sh", "-ec", typed.replace("/mnt/back", str(tmp_path / "alone"))], check=True, timeout=60,
            stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")},
        )  # fmt: skip
        assert (tmp_path / "alone/www/new").read_text() == "of www5"
        assert pair.run("www5", "sync").returncode == 0
        assert key_sheet_of(pair, "www4") == {"offsite": "ok", "rest": "warn"}, "one sheet is enough for both nodes"

        for lost in (tmp_path / "state-www4", pair.volume / ".drbdbackup"):
            shutil.rmtree(lost)
        told = pair.json("www4", "sync", "--rebuild")
        assert {one["target"]: one["copies"] for one in told["regained"]} == {"offsite": 2, "rest": 2}
    assert nothing_is_left(tmp_path)


def forge_a_newer_one(pair: PlayedPair, name: str, folder: Path) -> None:
    """Whoever has the password gives the newest snapshot other data: its record is repeated, and names them."""
    [record] = stored(pair, name, "drbdbackup-record")
    [data] = stored(pair, name, "drbdbackup-data")
    folder.mkdir()
    for file in ("snapshot.json", "manifest.gz"):
        with (folder / file).open("wb") as content:
            subprocess.run(["restic", "dump", "--no-lock", record["id"], f"/{file}"], env=reaching(pair, name),
                           stdout=content, check=True)  # fmt: skip
    asked(pair, name, "backup", "--host", "raid", *tagged(data["tags"]), ".", cwd=pair.volume / "www")
    [_, other] = stored(pair, name, "drbdbackup-data")
    tags = [f"data={other['id']}" if tag.startswith("data=") else tag for tag in record["tags"]]
    asked(pair, name, "backup", "--host", "raid", "--time", "2001-01-01 00:00:00", *tagged(tags), ".", cwd=folder)


def test_records_without_end_start_no_restic_each(tmp_path: Path) -> None:
    """Whoever may add to the repository has added some that are none; a node that has met no record yet reads all."""
    pair = PlayedPair(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"))
    (pair.volume / "page").write_text("x")
    pair.backs_up("www4")
    cheapen(tmp_path / "repository")
    [good] = stored(pair, "offsite", "drbdbackup-record")
    for number, forged in enumerate(("none", "small", "large", "folder", "link", "twin")):
        place = tmp_path / forged
        (place / "snapshot.json" if forged == "folder" else place).mkdir(parents=True)
        if forged == "link":
            (place / "snapshot.json").symlink_to("/etc/passwd")
        elif forged in ("small", "large", "twin"):
            (place / "snapshot.json").write_text(" " * {"small": 2, "large": 5 << 20, "twin": 9}[forged])
        (place / "other").touch()
        when = f"2001-01-01 00:00:0{number}"
        asked(pair, "offsite", "backup", "--host", "raid", "--time", when, *tagged(good["tags"]), ".", cwd=place)
    recorded(pair)
    pair.config("www5")
    assert pair.run("www5", "sync", "--rebuild").returncode == 0
    typed = (tmp_path / "bin/argv").read_text().splitlines()
    assert sum(line.startswith("mount ") for line in typed) == 1, typed
    assert not [line for line in typed if line.startswith("dump ") and line.endswith("/snapshot.json")], typed
    kept = {len(file.read_bytes()) for file in (tmp_path / "cache-offsite-www5/records").glob("*-snapshot.json")}
    assert {0, 2, 9} < kept, kept
    [copy] = pair.copies("www5", "offsite")
    assert copy["files"] == 1


def tagged(tags: list[str]) -> list[str]:
    """Options that give a snapshot these tags."""
    return [word for tag in tags for word in ("--tag", tag)]


def key_sheet_of(pair: PlayedPair, node: str) -> dict[str, str]:
    """What the doctor says of the sheets for the safe, by target."""
    checks = json.loads(pair.run(node, "doctor", "--json").stdout)["checks"]
    return {one["about"]: one["state"] for one in checks if one["check"] == "key sheet"}


def _is_below(line: str, paths: list[str]) -> bool:
    return any(line.split(" ", 1)[-1].startswith(path) for path in paths)


@with_newer_restic
def test_a_disk_is_filled_and_the_volume_replaced_from_off_site(tmp_path: Path) -> None:
    pair = played(tmp_path)
    del pair.targets["nas"]
    with sshd(tmp_path / "sshd", SFTP) as reached:
        reach_by_ssh(pair, reached)
        add_repository(pair, "offsite", f"sftp:root@127.0.0.1:{tmp_path}/repository")
        fill_and_replace(pair)


def reach_by_ssh(pair: PlayedPair, reached: Reached) -> None:
    """Let each ssh of the pair know the way; on a real node ~/.ssh/config does."""
    folder = pair.folder / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {" ".join(reached.options)} "$@"\n')
    (folder / "ssh").chmod(0o755)
    pair.path = f"{folder}:{os.environ['PATH']}"


def fill_and_replace(pair: PlayedPair) -> None:
    tmp_path = pair.folder
    pair.backs_up("www4")
    cheapen(tmp_path / "repository")
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"{node}.img")
    pair.add_disk("disk", f"{tmp_path}/{{node}}.img")
    assert pair.run("www5", "sync").returncode == 0
    [filled] = pair.json("www5", "replicate")["replicated"]
    assert (filled["error"], filled["fetched_from"]) == (None, f"offsite:{tmp_path}/offsite.repository")
    [read] = pair.json("www5", "verify", "--target", "disk")["copies"]
    assert (read["ok"], read["files"]) == (True, 7)

    del pair.targets["disk"]
    subprocess.run(["cp", "-a", pair.volume, tmp_path / "was"], check=True)
    (pair.volume / "www/index").write_text("defaced")
    (pair.volume / "holed").unlink()
    (pair.volume / "planted").write_text("x")
    changes = pair.json("www4", "diff", filled["snapshot"], "now")["changes"]
    assert {(one["path"], one["change"]) for one in changes} >= {("holed", "removed"), ("planted", "added")}, changes
    done = pair.run("www4", "restore", "--in-place", "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert differences(tmp_path / "was", pair.volume) == []
    kept = [one for one in stored(pair, "offsite", "drbdbackup-record") if "safety" in "".join(one["tags"])]
    assert len(kept) == 1, "what was there is kept, if only there"
    assert pair.json("www4", "drill")["ok"]
    pair.backs_up("www4")
    assert [copy["purpose"] for copy in pair.copies("www4")] == ["backup"] * 2
    assert len(stored(pair, "offsite", "drbdbackup-record")) == 3


def of_target(document: dict[str, Any], name: str) -> dict[str, Any]:
    """How a run's answer says that it ended on a target."""
    [found] = [one for one in document["runs"][0]["targets"] if one["target"] == name]
    return dict(found)


def test_what_is_wrong_with_a_repository_is_said_and_costs_the_other_targets_nothing(tmp_path: Path) -> None:
    pair = played(tmp_path, "[limits]\nstall = 6")
    repository, password = tmp_path / "repository", tmp_path / "offsite.password"
    add_repository(pair, "offsite", str(repository))
    seen = {one["name"]: one for one in pair.json("www4", "target", "list")["targets"]}
    assert seen["offsite"]["error"]["code"] == "repository.missing"
    checks = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    assert [one["state"] for one in checks if (one["check"], one["about"]) == ("target", "offsite")] == ["warn"]
    assert not repository.exists(), "only a run of the Primary makes one"
    pair.backs_up("www4")
    cheapen(repository)

    def refused() -> str:
        told = pair.json("www4", "run", status=3)
        assert (of_target(told, "nas")["error"], bool(of_target(told, "nas")["copy"])) == (None, True), told
        return str(of_target(told, "offsite")["error"]["code"])

    (tmp_path / "here").mkdir()
    (repository / "data").rename(tmp_path / "data")
    (repository / "data").symlink_to(tmp_path / "here")
    (pair.volume / "www/new").write_text("it has to be stored")
    assert refused() == "target.unsafe"
    assert not os.listdir(tmp_path / "here"), "who can write to the repository leads root's writes there"
    (repository / "data").unlink()
    (tmp_path / "data").rename(repository / "data")
    password.chmod(0o640)
    assert refused() == "target.unsafe"
    password.chmod(0o600)
    records = tmp_path / "cache-offsite-www4/records"
    for folder in (records, records.parent):
        os.chown(folder, 33, 33)
        assert refused() == "target.unsafe", "what lies there is believed"
        os.chown(folder, 0, 0)
    password.write_text("another\n")
    assert refused() == "repository.password"
    assert "another" not in pair.run("www4", "run").stderr
    password.write_text(f"{PASSWORD}\n")
    repository.rename(tmp_path / "elsewhere")
    assert refused() == "repository.missing"
    asked(pair, "offsite", "init")
    assert refused() == "target.wrong"
    assert stored(pair, "offsite", "drbdbackup") == [], "nothing is written to what is refused"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        add_repository(pair, "offsite", f"rest:http://127.0.0.1:{mute.getsockname()[1]}/")
        assert refused() == "target.stalled"
    add_repository(pair, "offsite", str(tmp_path / "elsewhere"))
    done = pair.run("www4", "restore", "--from", "offsite", "--to", str(tmp_path / "back"), "--yes")
    assert done.returncode == 0, done.stderr
    for pack in (tmp_path / "elsewhere/data").glob("*/*"):
        pack.chmod(0o600)
        pack.write_bytes(b"decayed" + pack.read_bytes()[7:])
    [read] = pair.json("www4", "verify", "--target", "offsite", status=1)["copies"]
    assert not read["ok"], read
    assert pair.copies("www4", "offsite")[0]["damaged_at"] is not None, read
    add_repository(pair, "offsite", str(tmp_path / "another"))
    assert pair.json("www4", "target", "accept", "offsite")["accepted"]["before"] == read["copy"]["medium"]
    told = pair.json("www4", "run")
    assert of_target(told, "offsite")["copy"]["medium"] != read["copy"]["medium"]
    assert nothing_is_left(tmp_path)


KEEPS_ONE = "retention = { last = 1, daily = 0, weekly = 0, monthly = 0, minimum = 1 }"


def users(repository: Path) -> list[str]:
    """The processes that have a file of the repository open."""
    found = []
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found += [str(file)] * os.readlink(file).startswith(f"{repository}/")
    return found


def test_a_repository_that_cannot_be_written_is_given_up_at_once_and_said_to_be_so(tmp_path: Path) -> None:
    """restic 0.14 complains of a lock then, and in front of a read-only one tries again for a quarter of an hour."""
    pair, place = PlayedPair(tmp_path), tmp_path / "repository"
    place.mkdir()
    (pair.volume / "file").write_text("content")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], check=True)
    try:
        add_repository(pair, "offsite", str(place / "restic"))
        pair.backs_up()
        for code in ("target.full", "target.read-only"):
            if code == "target.full":
                with suppress(OSError), (place / "filling").open("wb", buffering=0) as filling:
                    while filling.write(bytes(4096)):
                        pass
            else:
                subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            [run] = pair.json("www4", "run", "--target", "offsite", status=1)["runs"]
            assert [one["error"]["code"] for one in run["targets"]] == [code]
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_run_that_was_killed_blocks_nobody_and_what_it_left_goes(tmp_path: Path) -> None:
    pair = played(tmp_path)
    del pair.targets["nas"]
    repository = tmp_path / "repository"
    add_repository(pair, "offsite", str(repository), KEEPS_ONE)
    pair.backs_up("www4")
    cheapen(repository)
    (pair.volume / "large").write_bytes(os.urandom(6 << 20))
    add_repository(pair, "offsite", str(repository), f'rate = "64K"\n{KEEPS_ONE}')
    running = subprocess.Popen(pair.command("www4", "run"), start_new_session=True)
    locks, packs = repository / "locks", repository / "data"
    wait_for(lambda: list(locks.iterdir()) and list(packs.glob("*/*tmp*")), "an upload")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    wait_for(lambda: not users(repository), "its processes to go")
    assert list(locks.iterdir()), "it had no time to take it back"

    add_repository(pair, "offsite", str(repository), KEEPS_ONE)
    pair.roles("www5")
    (tmp_path / "bin").mkdir()
    play(tmp_path / "bin/restic", f"""#!/bin/sh
echo "$1" >>{tmp_path}/typed
if [ "$1" = backup ] && [ "$(grep -c backup {tmp_path}/typed)" = 1 ]; then
    echo "Fatal: unable to create lock in backend: repository is already locked exclusively by PID 1" >&2; exit 1
fi
exec {which("restic")} "$@"
""")
    pair.path = f"{tmp_path}/bin:{os.environ['PATH']}"
    pair.backs_up("www5")
    pair.path = ""
    typed = (tmp_path / "typed").read_text().split()
    typed = typed[typed.index("backup") :]
    assert typed.index("list") < typed.index("backup", 1), "an exclusive lock of half an hour ago must not stop it"
    [ended] = pair.json("www5", "runs")["runs"][:1]
    assert (ended["node"], ended["outcome"], ended["pruned"]) == ("www5", "complete", [])
    assert "locked" in ended["targets"]["offsite"]["message"]
    asked(pair, "offsite", "unlock", "--remove-all")
    [*_, newest] = stored(pair, "offsite", "drbdbackup-data")
    oldest = pair.copies("www4")[-1]["snapshot"]
    tags = ("drbdbackup", "drbdbackup-record", "resource=raid", f"snapshot={oldest}", f"data={newest['id']}")
    forged = [word for tag in tags for word in ("--tag", tag)]  # whoever may only add has the newest forgotten so
    asked(pair, "offsite", "backup", "--host", "raid", *forged, str(pair.volume / "www"))
    told = pair.json("www5", "prune")
    assert [one["removed"] for one in told["targets"]] == [[pair.copies("www4")[-1]["snapshot"]]], told
    assert [one["tags"][3] for one in stored(pair, "offsite", "drbdbackup-data")] == [f"snapshot={ended['snapshot']}"]
    assert len(stored(pair, "offsite", "drbdbackup-record")) == 2, "the forged one counts for nothing"
    assert [copy["snapshot"] for copy in pair.copies("www5")] == [ended["snapshot"]]
    assert pair.json("www5", "verify")["copies"][0]["ok"]
    there = {one["id"] for one in stored(pair, "offsite", "drbdbackup")}
    kept = {name.partition("-")[0] for name in os.listdir(tmp_path / "cache-offsite-www5/records")}
    assert kept
    assert kept <= there, "of what is gone nothing is kept"


@with_both_restics
def test_from_a_server_that_lets_nobody_remove_anything_nothing_goes(tmp_path: Path) -> None:
    pair = played(tmp_path)
    del pair.targets["nas"]
    with rest_server(tmp_path / "served", "--append-only") as server:
        address = server.address
        add_repository(pair, "offsite", address, f"append_only = true\n{KEEPS_ONE}")
        pair.backs_up("www4")
        cheapen(tmp_path / "served")
        pair.backs_up("www4")
        told = pair.json("www4", "prune", status=1)
        assert [one["error"]["code"] for one in told["targets"]] == ["target.not-supported"]
        for one in stored(pair, "offsite", "drbdbackup"):  # as root on the node would
            url = f"{address.removeprefix('rest:')}snapshots/{one['id']}"
            with pytest.raises(HTTPError, match="403"):
                urlopen(Request(url, method="DELETE"), timeout=9)
        [*_, record] = stored(pair, "offsite", "drbdbackup-record")
        (tmp_path / "forged").mkdir()
        for name in ("snapshot.json", "manifest.gz"):
            (tmp_path / "forged" / name).write_text("{}")
        for day, at in (("01", pair.volume / "www"), ("02", tmp_path / "forged")):
            asked(pair, "offsite", "backup", "--time", f"2001-01-{day} 00:00:00", "--host", "raid", ".",
                  *(word for tag in record["tags"] for word in ("--tag", tag)), cwd=at)  # fmt: skip
        for resource, snapshot in (
            ("target.json", "20010101T000000Z-www5"), ("r" * 300, "20010101T000000Z-www5"),
            ("raid", "20010101T000000Z-" + "w" * 300),
        ):  # fmt: skip
            record_with_odd_name(pair, resource, snapshot)
        index = leave_what_is_too_large(pair)
        assert all(one["ok"] for one in pair.json("www4", "verify")["copies"])
        shutil.rmtree(tmp_path / "state-www4")
        shutil.rmtree(pair.volume / ".drbdbackup")
        told = pair.json("www4", "sync", "--rebuild")
        assert [one["copies"] for one in told["regained"]] == [2]
        done = pair.run("www4", "restore", "--from", "offsite", "--to", str(tmp_path / "back"), "--yes")
        assert done.returncode == 0, done.stderr
        assert max(one.stat().st_size for one in (tmp_path / "cache-offsite-www4/records").iterdir()) < 1 << 20
        index.write_bytes(b"nobody encrypted this")
        said = pair.run("www4", "verify")
        assert said.returncode == 1
        assert index.name in said.stderr
        assert not any(one["damaged_at"] for one in pair.copies("www4")), "nothing is wrong with what is stored"


def leave_what_is_too_large(pair: PlayedPair) -> Path:
    """A record and a mark of 300 MiB that take no room there; where a file of the index would be."""
    at = pair.folder / "large"
    at.mkdir()
    for name in ("snapshot.json", "target.json"):
        with (at / name).open("wb") as file:
            file.truncate(300 << 20)
    asked(pair, "offsite", "backup", "--host", "drbdbackup", ".", "--tag", "drbdbackup", "--tag", "drbdbackup-target",
          cwd=at)  # fmt: skip
    [*_, record] = stored(pair, "offsite", "drbdbackup-record")
    asked(pair, "offsite", "backup", "--host", "raid", ".", *(w for tag in record["tags"] for w in ("--tag", tag)),
          cwd=at)  # fmt: skip
    return pair.folder / "served/index" / hashlib.sha256(b"nobody encrypted this").hexdigest()


def record_with_odd_name(pair: PlayedPair, resource: str, snapshot: str) -> None:
    """What is whole by itself, with a name that no folder of a target can have."""
    at = pair.folder / f"odd-{len(resource)}-{len(snapshot)}"
    at.mkdir()
    (at / "manifest.gz").write_text("{}")
    [*_, real] = stored(pair, "offsite", "drbdbackup-record")
    told = json.loads(asked(pair, "offsite", "dump", "--no-lock", real["id"], "/snapshot.json"))
    (at / "snapshot.json").write_text(json.dumps({**told, "resource": resource, "snapshot": snapshot}))
    tags = ["drbdbackup", f"resource={resource}", f"snapshot={snapshot}", "node=www5"]
    for more in ("drbdbackup-data", "drbdbackup-record"):
        asked(pair, "offsite", "backup", "--host", "raid", ".", *(w for tag in (*tags, more) for w in ("--tag", tag)),
              cwd=at)  # fmt: skip
        data = stored(pair, "offsite", "drbdbackup-data")[-1]
        tags.append(f"data={data['id']}")


def test_a_server_that_freezes_in_the_middle_of_an_upload_is_given_up(tmp_path: Path) -> None:
    pair = played(tmp_path, "[limits]\nstall = 6")
    (pair.volume / "large").write_bytes(os.urandom(40 << 20))
    with rest_server(tmp_path / "served") as server:
        add_repository(pair, "offsite", server.address, 'rate = "2M"')
        running = subprocess.Popen(pair.command("www4", "run", "--json"), stdout=subprocess.PIPE)
        try:
            packs = tmp_path / "served/data"
            wait_for(lambda: any(one.stat().st_size > 1 << 20 for one in packs.glob("*/*")), "a part of it")
            server.process.send_signal(signal.SIGSTOP)
            told = json.loads(running.communicate(timeout=TIMEOUT)[0])
        finally:
            running.kill()
        server.process.send_signal(signal.SIGCONT)
        assert of_target(told, "offsite")["error"]["code"] == "target.stalled"
        assert of_target(told, "nas")["error"] is None
        add_repository(pair, "offsite", server.address)
        pair.backs_up("www4")


def test_what_changes_between_the_walk_and_the_storing_is_recorded_as_it_is_stored(tmp_path: Path) -> None:
    pair = played(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"))
    (tmp_path / "bin").mkdir()
    waits = f": >{tmp_path}/waits; until [ -e {tmp_path}/goes-on ]; do sleep 0.05; done"
    (tmp_path / "bin/restic").write_text(
        f'#!/bin/sh\ncase "$*" in *drbdbackup-data*) {waits} ;; esac\nexec {shutil.which("restic")} "$@"\n'
    )
    (tmp_path / "bin/restic").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    odd = os.fsencode(pair.volume / "www/odd")
    os.mkdir(odd)
    names = [b"\xe9", b"\xff", "\uff01".encode(), "\ufffd".encode(), b"c\r\n\xff", b"d\nd", b"\xf0\x9f\x98\x80"]
    for number, name in enumerate(names):  # in restic's JSON several of them are one
        Path(os.fsdecode(os.path.join(odd, name))).write_text(str(number))
    running = subprocess.Popen(pair.command("www4", "run"), env={**os.environ, "PATH": path})
    try:
        wait_for((tmp_path / "waits").exists, "the walk")
        with (pair.volume / "www/index").open("a") as file:
            file.write(" and more")
        (pair.volume / "holed").unlink()
        (pair.volume / "www/new").write_text("new")
        os.unlink(os.path.join(odd, names[0]))
        Path(os.fsdecode(os.path.join(odd, b"\x80\xff"))).write_text("new")
        (tmp_path / "goes-on").touch()
        assert running.wait(TIMEOUT) == 0
    finally:
        running.kill()
    [read] = pair.json("www4", "verify")["copies"]
    assert (read["ok"], read["problem_count"]) == (True, 0), read
    done = pair.run("www4", "restore", "--to", str(tmp_path / "back"), "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "back/www/index").read_text() == "hello and more"
    assert (tmp_path / "back/www/shop/again").read_text() == "hello and more"
    assert not (tmp_path / "back/holed").exists()
    assert not (tmp_path / "back/www/new").exists(), "the next backup has it"
    back = os.fsencode(tmp_path / "back/www/odd")
    assert sorted(os.listdir(back)) == sorted(names[1:])
    read = [Path(os.fsdecode(os.path.join(back, name))).read_text() for name in names[1:]]
    assert read == [str(number) for number in range(1, len(names))]


def test_restic_does_not_get_terabytes_of_holes_of_a_user(tmp_path: Path) -> None:
    """It reads 0.15 GiB of them in a second, and each name of a file anew."""
    pair = played(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"))
    large = pair.volume / "www/large"
    with large.open("wb") as file:
        file.truncate(3 << 40)
    with (pair.volume / "www/large-of-root").open("wb") as file:
        file.truncate(4 << 20)
    os.chown(large, 33, 33)
    os.link(large, pair.volume / "www/large-again")
    for _ in range(2):
        told = of_target(pair.json("www4", "run", status=3), "offsite")
        assert sorted(one["path"] for one in told["problems"]) == ["www/large", "www/large-again"]
    done = pair.run("www4", "restore", "--to", str(tmp_path / "back"), "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "back/www/large-of-root").stat().st_size == 4 << 20
    assert not (tmp_path / "back/www/large").exists()


def plain(volume: Path) -> None:
    """Two links at the top and a few files."""
    (volume / "www").mkdir(parents=True)
    for name in ("one", "two", "three"):
        (volume / "www" / name).write_text(name)
    os.symlink("www", volume / "current")
    os.symlink("1234", volume / "lock")


def test_a_night_without_changes_starts_restic_three_times_and_sees_what_goes_meanwhile(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, resource='exclude = ["/lock"]')
    del pair.targets["nas"]
    pair.volume.rmdir()
    settled_volume(pair.volume, plain)
    add_repository(pair, "offsite", str(tmp_path / "repository"), KEEPS_ONE.replace("last = 1", "last = 9"))
    calls, waits, goes_on, folder = (tmp_path / name for name in ("calls", "waits", "goes-on", "bin"))
    goes_on.touch()
    folder.mkdir()
    (folder / "restic").write_text(
        f'#!/bin/sh\necho "$1" >>{calls}\n'
        f'case "$*" in *drbdbackup-data*) : >{waits}; until [ -e {goes_on} ]; do sleep 0.05; done ;; esac\n'
        f'exec {which("restic")} "$@"\n'
    )
    (folder / "restic").chmod(0o755)
    pair.path = f"{folder}:{os.environ['PATH']}"

    def starts(gone: str = "") -> list[str]:
        calls.write_text("")
        waits.unlink(missing_ok=True)
        if gone:
            goes_on.unlink()
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(pair.backs_up, "www4")
            try:
                wait_for(lambda: waits.exists() or running.done(), "the walk")
                if gone:
                    (pair.volume / gone).unlink()
            finally:
                goes_on.touch()
            running.result()
        return calls.read_text().split()

    starts()  # without the link: then there is a list of the top folder as it will be when that is gone
    pair.resource = ""
    assert "ls" in starts(), "the link is new"
    assert starts() == ["snapshots", "backup", "backup"]
    for gone in ("lock", "www/two"):
        assert "ls" in starts(gone), gone
        [read] = pair.json("www4", "verify")["copies"]
        assert (read["ok"], read["problem_count"]) == (True, 0), (gone, read)
    shutil.rmtree(tmp_path / "cache-offsite-www4")
    assert starts()[:2] == ["snapshots", "mount"], "its own folder in the cache says which repository it is"


def test_what_restic_says_of_a_removal_is_not_believed(tmp_path: Path) -> None:
    """0.18 says 0 of what a server has refused."""
    pair = played(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"), KEEPS_ONE)
    pair.backs_up("www4")
    cheapen(tmp_path / "repository")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/restic").write_text(f'#!/bin/sh\n[ "$1" = forget ] || exec {shutil.which("restic")} "$@"\n')
    (tmp_path / "bin/restic").chmod(0o755)
    pair.path = f"{tmp_path}/bin:{os.environ['PATH']}"
    ended = of_target(pair.json("www4", "run", status=3), "offsite")
    assert ended["pruned"] == []
    assert pair.copies("www4")[0]["snapshot"] == ended["copy"]["snapshot"]
    assert len(pair.copies("www4")) == 2, "what is still there is still known"


@with_both_restics
def test_what_is_gone_before_it_is_recorded_is_no_snapshot_and_no_lock_is_not_waited_for(tmp_path: Path) -> None:
    """A node was frozen, say, and another one has taken its unrecorded data for what a crash has left."""
    pair = played(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"), KEEPS_ONE)
    pair.backs_up("www4")
    cheapen(tmp_path / "repository")
    [before] = [one["snapshot"] for one in pair.copies("www4")]
    (tmp_path / "bin").mkdir()
    restic = f"{which('restic')} --cache-dir {tmp_path}/of-another-node"
    play(tmp_path / "bin/restic", f"""#!/bin/sh
case "$*" in *drbdbackup-record*)
    for id in $({restic} list snapshots --no-lock); do
        {restic} cat snapshot $id --no-lock | grep -q "=$(cat {tmp_path}/name)" && {restic} forget $id >>{tmp_path}/gone
    done ;;
*drbdbackup-data*) echo "$*" | grep -o "snapshot=[^ ]*" | cut -d= -f2 >{tmp_path}/name ;;
esac
exec {which("restic")} "$@"
""")
    pair.path = f"{tmp_path}/bin:{os.environ['PATH']}"
    [run] = pair.json("www4", "run", status=1)["runs"]
    assert (tmp_path / "gone").exists()
    assert of_target({"runs": [run]}, "offsite")["copy"] is None
    assert [one["snapshot"] for one in pair.copies("www4")] == [before]
    play(tmp_path / "bin/restic", f"""#!/bin/sh
echo "$1" >>{tmp_path}/typed
[ "$1" != backup ] || {{ echo "Fatal: unable to create lock in backend: permission denied" >&2; exit 1; }}
exec {which("restic")} "$@"
""")
    ended = of_target(pair.json("www4", "run", status=1), "offsite")
    assert ended["error"]["code"] == "repository.unreachable"
    assert (tmp_path / "typed").read_text().split().count("backup") == 1


def test_a_change_that_no_time_tells_is_recorded_as_it_is_stored(tmp_path: Path) -> None:
    """Two changes within one tick of the clock leave the same times: restic takes the second for none."""
    pair = PlayedPair(tmp_path)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(tmp_path / "repository"))
    image = disk_image(tmp_path / "empty.img")  # a journal would undo what is set in a copy of a mounted one
    subprocess.run(["tune2fs", "-O", "^has_journal", image], check=True, capture_output=True, timeout=60)
    for content, status in (("first", 0), ("later", 3)):
        with mounted(image, pair.volume, "loop"):
            (pair.volume / "page").write_text(content)
            subprocess.run(["sync", "-f", pair.volume], check=True, timeout=60)
        image = of_2030(image, tmp_path / f"{content}.img")
        with mounted(image, pair.volume, "loop"):
            assert pair.run("www4", "run").returncode == status
            cheapen(tmp_path / "repository")
            [read, *_] = pair.json("www4", "verify")["copies"]
            assert read["ok"], read
            subprocess.run(["sync", "-f", pair.volume], check=True, timeout=60)
    assert pair.copies("www4")[0]["problems"] == 1, "that it is not stored as it is now is said"
    with mounted(image, pair.volume, "loop"):
        (pair.volume / "page").write_text("newer")
        pair.backs_up("www4")
        done = pair.run("www4", "restore", "--to", str(tmp_path / "back"), "--yes")
    assert (done.returncode, (tmp_path / "back/page").read_text()) == (0, "newer"), done.stderr


def of_2030(image: Path, copy: Path) -> Path:
    """A copy of a file system, in which `page` was last changed at a certain time. It may still be mounted."""
    shutil.copyfile(image, copy)
    for field in ("mtime 20300101000000", "mtime_extra 0", "ctime 20300101000000", "ctime_extra 0"):
        debugfs = ["debugfs", "-w", "-R", f"set_inode_field /page {field}", copy]
        subprocess.run(debugfs, check=True, capture_output=True, timeout=60)
    return copy

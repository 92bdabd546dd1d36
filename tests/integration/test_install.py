"""`install` sets up one starter, the agent, the manual and the completion; --undo takes back what it made, no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.tools import inside_root
from tests import preloaded
from tests.captured import play
from tests.played_node import PlayedNodes

CRON = "etc/cron.d/drbdbackup"
UNITS = {
    f"etc/systemd/system/{name}"
    for name in ("drbdbackup.service", "drbdbackup.timer", "drbdbackup-due.service", "drbdbackup-due.timer",
                 "timers.target.wants/drbdbackup.timer", "timers.target.wants/drbdbackup-due.timer")
}  # fmt: skip
HEARTBEATS, OCF = "etc/ha.d/resource.d/drbdbackup", "usr/lib/ocf/resource.d/drbdbackup/drbdbackup"
FURTHER = {
    "usr/local/share/man/man1/drbdbackup.1", "usr/local/share/man/man5/drbdbackup.toml.5",
    "usr/local/share/bash-completion/completions/drbdbackup", "usr/local/share/zsh/site-functions/_drbdbackup",
    "usr/local/share/fish/vendor_completions.d/drbdbackup.fish",
}  # fmt: skip
RECEIPT = "var/lib/drbdbackup/installed.json"
CONFIG = (
    'nodes = ["www4"]\nnode = "www4"\nschedule = "20 2 * * 0"\n'
    '[resource.raid]\ndevice = "/dev/drbd0"\nsource = "/srv/raid"\n'
    '[target.nas]\nkind = "nas"\npath = "/backup"\n'
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    return folder


def install(root: Path, *words: str, status: int = 0) -> dict[str, Any]:
    ended = preloaded.run(
        [*preloaded.ENTRY, "install", "--root", str(root), "--json", *words], capture_output=True, text=True,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == status, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {one["path"].lstrip("/"): one["state"] for one in answer["changes"]}


def files(root: Path) -> set[str]:
    there = (path for path in root.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(root)) for path in there} - {RECEIPT}


def everything(root: Path) -> dict[str, Any]:
    """All of it, with modes, contents and targets."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, os.readlink(path) if path.is_symlink() else
                                      path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
    }  # fmt: skip


@pytest.mark.parametrize(("words", "made"), [(["--cron"], {CRON}), (["--timer"], UNITS)])
def test_it_sets_up_one_starter_and_the_second_time_nothing(root: Path, words: list[str], made: set[str]) -> None:
    before = everything(root)
    dry = install(root, *words, "--dry-run")
    assert everything(root) == before
    answer = install(root, *words)
    assert files(root) == made | FURTHER
    assert states(answer) == states(dry) == dict.fromkeys(made | FURTHER, "created")
    assert answer["starter"] == words[0].lstrip("-")
    once = everything(root)
    assert set(states(install(root, *words)).values()) == set(states(install(root)).values()) == {"unchanged"}
    assert everything(root) == once
    assert set(states(install(root, "--undo")).values()) == {"removed"}
    assert everything(root) == before | {name: once[name] for name in ("var", "var/lib")}


def test_the_other_starter_takes_its_place(root: Path) -> None:
    install(root, "--cron")
    assert states(install(root, "--timer"))[CRON] == "removed"
    assert files(root) == UNITS | FURTHER
    back = states(install(root, "--cron"))
    assert {back[name] for name in UNITS} == {"removed"}
    assert files(root) == {CRON} | FURTHER
    install(root, "--undo")
    assert files(root) == set()


def test_the_time_is_that_of_the_configuration_and_follows_it(root: Path) -> None:
    install(root, "--timer")
    (root / "etc/drbdbackup").mkdir()
    (root / "etc/drbdbackup/config.toml").write_text(CONFIG)
    changed = {name for name, state in states(install(root)).items() if state == "changed"}
    assert changed == {f"etc/systemd/system/drbdbackup{more}.timer" for more in ("", "-due")}
    assert "\nOnCalendar=Sun *-*-* 02:20:00\n" in (root / "etc/systemd/system/drbdbackup.timer").read_text()
    install(root, "--cron")
    assert "\n20 2 * * 0 root " in (root / CRON).read_text()


@pytest.mark.parametrize("signs", [
    {"etc/ha.d/ha.cf": HEARTBEATS}, {"etc/corosync/corosync.conf": OCF}, {"etc/drbd-reactor.toml": OCF},
    {"etc/ha.d/ha.cf": HEARTBEATS, "usr/sbin/drbd-reactor": OCF}, {},
])  # fmt: skip
def test_the_agent_goes_where_a_manager_looks_for_it(root: Path, signs: dict[str, str]) -> None:
    for sign in signs:
        (root / sign).parent.mkdir(parents=True, exist_ok=True)
        (root / sign).touch()
    if not signs:
        assert install(root, "--agent", status=2)["error"]["code"] == "usage.invalid"
        assert files(root) == set()
        return
    answer = install(root, "--agent", "--cron")
    assert files(root) == {CRON, *signs, *signs.values()} | FURTHER
    assert all((root / path).stat().st_mode & 0o777 == 0o755 for path in signs.values())
    assert len(answer["next"]) == len(signs)
    (root / next(iter(signs.values()))).unlink()
    assert states(install(root))[next(iter(signs.values()))] == "created"  # it stays on the list
    install(root, "--undo")
    assert files(root) == set(signs)


def test_what_an_admin_changed_stays(root: Path) -> None:
    install(root, "--timer")
    mine = root / "etc/systemd/system/drbdbackup.service"
    mine.write_text(mine.read_text() + "Nice=5\n")
    assert states(install(root, status=3))["etc/systemd/system/drbdbackup.service"] == "left"
    assert install(root, "--cron", status=2)["error"]["code"] == "usage.invalid"
    assert mine.read_text().endswith("Nice=5\n")
    assert states(install(root, "--undo", status=3))["etc/systemd/system/drbdbackup.service"] == "left"
    assert files(root) == {"etc/systemd/system/drbdbackup.service"}


def test_a_file_that_somebody_else_made_is_neither_replaced_nor_removed(root: Path) -> None:
    (root / "etc/cron.d").mkdir()
    (root / CRON).write_text("1 1 * * * root drbdbackup run\n")
    assert install(root, "--timer", status=2)["error"]["code"] == "usage.invalid"
    assert files(root) == {CRON}
    assert states(install(root, "--cron", status=3))[CRON] == "left"
    install(root, "--undo")
    assert files(root) == {CRON}


def test_what_pair_render_made_gives_way_and_comes_back(root: Path) -> None:
    (root / "etc/cron.d").mkdir()
    text = (Path(__file__).parents[2] / "cron/drbdbackup").read_text()
    (root / CRON).write_text(text)
    assert states(install(root, "--cron"))[CRON] == "unchanged"
    assert states(install(root, "--timer"))[CRON] == "removed"
    assert files(root) == UNITS | FURTHER
    install(root, "--undo")
    assert (files(root), (root / CRON).read_text()) == ({CRON}, text)


def test_a_package_has_its_manual_and_completion_already(root: Path) -> None:
    for name in ("man/man1/drbdbackup.1.gz", "zsh/vendor-completions/_drbdbackup"):
        (root / "usr/share" / name).parent.mkdir(parents=True)
        (root / "usr/share" / name).touch()
    own = {"usr/local/share/man/man1/drbdbackup.1", "usr/local/share/zsh/site-functions/_drbdbackup"}
    assert set(states(install(root, "--cron"))) == {CRON} | FURTHER - own


def test_a_list_that_is_none_is_no_reason_to_remove_anything(root: Path) -> None:
    install(root, "--cron")
    (root / RECEIPT).write_text("{}")
    assert install(root, "--undo", status=1)["error"]["code"] == "error.other"
    assert files(root) == {CRON} | FURTHER


def test_an_error_names_the_whole_path(root: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, inside_root.opened_folder(str(root), "/etc/none/deep"):
        pass
    assert missing.value.filename == f"{root}/etc/none/deep"
    with pytest.raises(FileNotFoundError) as missing, inside_root.opened_folder(str(root), "/etc") as folder:
        os.open("file", os.O_RDONLY, dir_fd=folder)
    assert missing.value.filename == f"{root}/etc/file"


def test_nothing_leads_out_of_an_image(root: Path, tmp_path: Path) -> None:
    """Its symlinks lead from its own root, as they do once it runs; a list that others could have made does nothing."""
    outside = tmp_path / "outside"
    for folder in (outside, root / "outside", root / "usr/local", root / "inside"):
        folder.mkdir(parents=True)
    victim = outside / "victim"
    victim.write_text("of this machine")
    (root / "etc/cron.d").symlink_to("../../outside")
    (root / "usr/local/share").symlink_to("/inside")
    (root / "var").symlink_to("../../../../../outside")
    before = everything(outside)
    install(root, "--cron")
    assert everything(outside) == before
    receipt = root / "outside/lib/drbdbackup/installed.json"
    assert files(root) >= {"outside/drbdbackup", "inside/man/man1/drbdbackup.1", str(receipt.relative_to(root))}
    listed = json.loads(receipt.read_text())
    digest = hashlib.sha256(victim.read_bytes()).hexdigest()
    for forged in (
        {"files": {"/../outside/victim": digest}}, {"files": {"../outside/victim": digest}}, {"agents": ["nobody's"]},
        {"removed": {"/../outside/new": "evil"}}, {"removed": {"/etc/new": 7}}, {"folders": [["/etc"]]},
    ):  # fmt: skip
        receipt.write_text(json.dumps(listed | forged))
        assert install(root, "--undo", status=1)["error"]["code"] == "error.other", forged
    receipt.write_text(json.dumps(listed))
    for path, owner, mode in ((receipt, 33, 0o600), (receipt, 0, 0o666), (receipt.parent, 33, 0o700)):
        kept = path.stat()
        os.chown(path, owner, owner)
        path.chmod(mode)
        assert install(root, "--undo", status=1)["error"]["code"] == "error.other", (path, owner, mode)
        os.chown(path, kept.st_uid, kept.st_gid)
        path.chmod(kept.st_mode)
    install(root, "--undo")
    assert (everything(outside), files(root)) == (before, {"etc/cron.d", "usr/local/share", "var"})


@pytest.mark.parametrize("words", [["--cron", "--timer"], ["--undo", "--cron"]])
def test_what_excludes_each_other(root: Path, words: list[str]) -> None:
    assert install(root, *words, status=2)["error"]["code"] == "usage.invalid"


def test_the_manual_and_the_completion_are_right(root: Path) -> None:
    install(root, "--cron")
    for name in ("man1/drbdbackup.1", "man5/drbdbackup.toml.5"):
        page = root / "usr/local/share/man" / name
        ended = subprocess.run(
            ["man", "--warnings", "--encoding=UTF-8", "--local-file", page], capture_output=True, text=True, timeout=60,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""},
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, ""), "groff warns of what it does not understand"
        plain = " ".join(re.sub(r".\x08|\x1b\[[0-9;]*m", "", ended.stdout).split())
        of_commands, of_config = ("--accept-shrink", "peer add NODE", "143"), ("resource.NAME.source", "limits.rate")
        told = of_commands if "man1" in name else of_config
        assert [word for word in told if word not in plain] == []
        assert "\u2010" not in plain, "no name is broken by a hyphen"
    script = root / "usr/local/share/bash-completion/completions/drbdbackup"
    ask = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _drbdbackup; echo "${{COMPREPLY[*]}}"'

    def completed(*words: str) -> str:
        asked = ["bash", "-c", ask, "bash", "drbdbackup", *words]
        return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    assert completed("re") == "replicate report restore"
    assert "--if-due" in completed("run", "--").split()
    assert completed("peer", "a") == "add accept"
    assert "--identity" in completed("--config", "/x", "peer", "add", "www5", "--").split()
    assert completed("latest", "--config", str(script)[:-3]) == str(script)
    assert subprocess.run(["bash", "-n", script], timeout=60).returncode == 0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedNodes]:
    played = PlayedNodes.set_up(tmp_path_factory.mktemp("install"))
    yield played
    played.take_down()


def test_on_a_node_systemd_is_told_and_the_doctor_knows_it(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write("mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/system\n")
    asked = nodes.of("www4") / "asked"
    folder = shlex.quote(str(nodes.of("www4")))
    play(nodes.of("www4") / "bin/systemctl", f"""#!/bin/sh
echo "$*" >>{asked}
[ "$1" = is-enabled ] || exit 0
[ ! -L "/etc/systemd/system/timers.target.wants/$3" ] || {{ echo enabled; exit 0; }}
[ ! -e {folder}/units/"$3" ] || {{ cat {folder}/units/"$3"; exit 0; }}
echo "No such file or directory" >&2; exit 1
""")  # fmt: skip

    def does(*words: str) -> None:
        ended = nodes.run("www4", *words)
        assert ended.returncode == 0, ended.stderr

    def starting() -> dict[str, str]:
        checks = json.loads(nodes.run("www4", "doctor", "--json").stdout)["checks"]
        return {one["check"]: one["state"] for one in checks if one["check"] in ("schedule", "missed runs", "agent")}

    good = {"schedule": "ok", "missed runs": "ok", "agent": "ok"}
    does("install", "--timer", "--agent")
    told = asked.read_text().splitlines()
    assert told == ["daemon-reload", "restart drbdbackup.timer drbdbackup-due.timer"]
    assert starting() == good
    mounts = nodes.of("www4") / "mounts"
    booted = mounts.read_text()
    mounts.write_text(booted.replace("mkdir -p /run/systemd/system\n", ""))
    assert starting()["schedule"] == "fail", "nobody starts the timer"
    mounts.write_text(booted)
    asked.unlink()
    does("install", "--cron")
    assert asked.read_text().splitlines() == ["stop drbdbackup.timer drbdbackup-due.timer", "daemon-reload"]
    assert starting() == good
    does("install", "--undo")
    assert starting() == {"schedule": "ok", "missed runs": "ok", "agent": "ok"}, "what was there before is back"

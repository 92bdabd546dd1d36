"""`init` on a played pair: what it sees there, what it writes, and what it never does."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.captured import play
from tests.played_media import share
from tests.played_node import PlayedNodes
from tests.played_terminal import on_a_terminal

DUMP = """\
resource raid {{
    on www4 {{ device {0} minor 0; disk /dev/sda1; address ipv4 192.168.12.2:7788; }}
    on www5 {{ device {0} minor 0; disk /dev/sda1; address ipv4 192.168.12.3:7788; }}
}}
"""
SPARE = {
    "path": "/dev/null", "kname": "null", "pkname": None, "type": "disk", "fstype": "ext4", "uuid": "u",
    "size": 1 << 40, "ro": False, "mountpoints": [None],
}  # fmt: skip
LSBLK = {"blockdevices": [SPARE]}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedNodes]:
    played = PlayedNodes.set_up(tmp_path_factory.mktemp("init"))
    for node in ("www4", "www5"):
        for words in ("drbdadm dump", "drbdadm dump raid"):
            played.answer(node, words, DUMP.format(played.device))
        play(played.of(node) / "bin/lsblk", f"#!/bin/sh\ncat <<'END'\n{json.dumps(LSBLK)}\nEND\n")
        (played.of(node) / "etc/drbdbackup").mkdir()
    yield played
    played.take_down()


@pytest.fixture
def file(nodes: PlayedNodes) -> Iterator[Path]:
    yield nodes.of("www4") / "etc/drbdbackup/config.toml"
    (nodes.of("www4") / "etc/drbdbackup/config.toml").unlink(missing_ok=True)


def command(nodes: PlayedNodes, node: str, *words: str) -> list[str]:
    """As an admin types it, without a configuration."""
    whole = nodes.command(node, "init", *words)
    at = whole.index("--config")
    return whole[:at] + whole[at + 2 :]


def init(nodes: PlayedNodes, *words: str, node: str = "www4") -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        command(nodes, node, *words), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "DRBDBACKUP_CONFIG"},
    )  # fmt: skip


def test_for_a_script_it_writes_checks_and_plans(nodes: PlayedNodes, file: Path) -> None:
    dry = json.loads(init(nodes, "--dry-run", "--json", "--nas", f"{nodes.folder}/nas").stdout)
    assert (dry["written"], file.exists()) == (False, False)
    ended = init(nodes, "--yes", "--json", "--nas", f"{nodes.folder}/nas")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["written"], told["file"], told["config"]) == (True, "/etc/drbdbackup/config.toml", dry["config"])
    assert file.read_text() == told["config"]
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)
    assert f'source = "{nodes.volume}"' in told["config"], "from the table of mounts"
    assert 'services = ["mysql", "apache2"]' in told["config"]
    assert "[resource.raid.database.mariadb]" in told["config"], "/var/lib/mysql leads to the volume"
    checks = {one["check"]: one["state"] for one in told["doctor"]["checks"]}
    assert (checks["node"], checks["drbd configuration"]) == ("ok", "ok")
    assert [run["resource"] for run in told["run"]["runs"]] == ["raid"]


def test_one_that_is_there_is_never_overwritten(nodes: PlayedNodes, file: Path) -> None:
    file.write_text("# mine\n")
    ended = init(nodes, "--yes", "--json", "--nas", f"{nodes.folder}/nas")
    assert (ended.returncode, file.read_text()) == (1, "# mine\n")
    file.unlink()
    file.symlink_to("nowhere")
    assert init(nodes, "--yes").returncode == 1
    assert file.is_symlink()


@pytest.mark.parametrize("place", ["/proc/config.toml", "/dev/null/etc/config.toml"])
def test_where_nothing_can_be_written_it_names_the_file(nodes: PlayedNodes, place: str) -> None:
    ended = init(nodes, "--yes", "--json", "--nas", f"{nodes.folder}/nas", "--config", place)
    assert ended.returncode == 1
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "error.other"
    assert place in error["message"]


def test_without_an_answer_nothing_is_written(nodes: PlayedNodes, file: Path) -> None:
    assert init(nodes, "--nas", f"{nodes.folder}/nas").returncode == 2
    assert not file.exists()


def test_a_person_sees_it_with_its_reasons_and_is_asked(nodes: PlayedNodes, file: Path) -> None:
    words = shlex.join(command(nodes, "www4", "--nas", f"{nodes.folder}/nas"))
    status, said = on_a_terminal(words, "[y/N]", b"n\n")
    assert (status, file.exists()) == (1, False)
    assert "Because:" in said
    status, said = on_a_terminal(words, "[y/N]", b"y\n")
    assert (status, file.exists()) == (0, True)


def test_a_node_that_stands_by_asks_the_cluster_where_the_volume_belongs(nodes: PlayedNodes) -> None:
    ended = init(nodes, "--dry-run", "--json", "--nas", "/backup", node="www5")
    assert ended.returncode == 2, "haresources names another device there"
    ended = init(nodes, "--dry-run", "--json", "--nas", "/backup", "--source", "/srv/raid", node="www5")
    assert 'source = "/srv/raid"' in json.loads(ended.stdout)["config"]
    line = f"www4 drbddisk::raid Filesystem::{nodes.device}::/srv/web::ext4 apache2\n"
    nodes.write("www5", "etc/ha.d/haresources", line)
    ended = init(nodes, "--dry-run", "--json", "--nas", "/backup", node="www5")
    assert 'source = "/srv/web"' in json.loads(ended.stdout)["config"]


def test_a_share_that_a_user_could_have_mounted_is_not_proposed(nodes: PlayedNodes, tmp_path: Path) -> None:
    """FUSE lets him, under any name, and adds two options to it."""
    for number, options in enumerate((",suid,dev", ",nosuid,nodev")):
        at = tmp_path / f"backup-{number}"
        with share(at, tmp_path / "behind", "-o", f"fsname=nas:/b,subtype=glusterfs{options}"):
            told = init(nodes, "--dry-run", "--json").stdout
        assert (str(at) in told) == (options == ",suid,dev")

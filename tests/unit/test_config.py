"""The configuration: what is read, and what an admin is told when it is wrong."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.config.values import (
    Config,
    Limits,
    PeerConfig,
    ResourceConfig,
    Retention,
    RoleConfig,
    TargetConfig,
)
from drbdbackup.errors import ConfigError, ConfigUnreadable

SMALLEST = """
node = "www4"
nodes = ["www4", "www5"]

[resource.raid]
device = "/dev/drbd0"
source = "/srv/raid"

[target.nas]
kind = "nas"
path = "/backup"
"""

CONTRACT = """
node = "www4"
nodes = ["www4", "www5"]
schedule = "30 4 * * *"
state_dir = "/var/lib/drbdbackup"

[role]
source = "drbd"

[resource.raid]
device = "/dev/drbd0"
source = "/srv/raid"
exclude = ["www/*/cache/"]

[target.nas]
kind = "nas"
path = "/backup"
require_mount = true

[target.disk]
kind = "disk"
device = "/dev/sdb1"
mountpoint = "/saving"
retention = { daily = 3, minimum = 1 }

[peer.www5]
ssh = "root@192.168.12.3"

[retention]
daily = 14
weekly = 8
monthly = 12
minimum = 3
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> Config:
        file = tmp_path / "config.toml"
        file.write_text(text)
        return load(str(file))

    return read


@pytest.fixture
def mistakes(read, tmp_path):
    """The lines of the error, without the file that each must begin with."""

    def mistakes(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        assert caught.value.status == 2
        assert caught.value.hint
        begin = f"{tmp_path / 'config.toml'}: "
        lines = caught.value.message.splitlines()
        assert all(line.startswith(begin) for line in lines), lines
        return [line.removeprefix(begin) for line in lines]

    return mistakes


def test_the_file_of_the_contract_is_read(read, tmp_path):
    assert read(CONTRACT) == Config(
        file=str(tmp_path / "config.toml"),
        node="www4",
        nodes=("www4", "www5"),
        resources=(ResourceConfig(name="raid", source="/srv/raid", device="/dev/drbd0", exclude=("www/*/cache/",)),),
        targets=(
            TargetConfig(name="nas", kind="nas", path="/backup"),
            TargetConfig(name="disk", kind="disk", device="/dev/sdb1", mountpoint="/saving",
                         retention=Retention(daily=3, minimum=1)),
        ),
        role=RoleConfig("drbd"),
        peers=(PeerConfig("www5", "root@192.168.12.3"),),
        retention=Retention(daily=14, weekly=8, monthly=12, minimum=3),
    )


def test_what_is_left_out_has_the_defaults(read):
    config = read(SMALLEST)
    assert config.schedule == "30 4 * * *"
    assert config.state_dir == "/var/lib/drbdbackup"
    assert config.role == RoleConfig("drbd", timeout=10.0)
    assert config.limits == Limits(probe=5.0, ssh=5.0, run=6 * 3600.0, stall=15 * 60.0)
    assert config.targets[0].retention == config.retention == Retention()
    assert config.targets[0].require_mount
    assert config.resources[0].dual_primary == "refuse"


def test_the_node_is_the_short_host_name_unless_it_is_said(read):
    host = os.uname().nodename.split(".")[0]
    text = SMALLEST.replace('node = "www4"\n', "", 1).replace('"www5"', f'"{host}"')
    assert read(text).node == host


def test_a_host_name_that_is_no_node_is_told_with_the_nodes(mistakes):
    host = os.uname().nodename.split(".")[0]
    [told] = mistakes(SMALLEST.replace('node = "www4"\n', "", 1))
    assert told == f'node = "{host}" (the short host name where it is left out): must be one of nodes, "www4", "www5"'


def test_a_node_passes_over_its_own_peer_entry(read):
    both = SMALLEST + '[peer.www4]\nssh = "root@a"\n[peer.www5]\nssh = "root@b"\noptions = ["-p", "2222"]\n'
    assert read(both).peers == (PeerConfig("www5", "root@b", ("-p", "2222")),)
    assert read(both.replace('node = "www4"', 'node = "www5"')).peers == (PeerConfig("www4", "root@a"),)


def test_a_target_overrides_only_the_retention_keys_it_names(read):
    text = SMALLEST.replace('path = "/backup"', 'path = "/backup"\nretention = { daily = 2 }')
    config = read(text + "[retention]\ndaily = 30\nweekly = 1\nminimum = 5\n")
    assert config.targets[0].retention == Retention(daily=2, weekly=1, monthly=12, minimum=5)
    assert config.retention.daily == 30


@pytest.mark.parametrize(("written", "seconds"), [
    ("90", 90.0), ("0.5", 0.5), ('"90s"', 90.0), ('"15m"', 900.0), ('"6h"', 21600.0), ('"1.5h"', 5400.0),
    ('"1d"', 86400.0),
])
def test_a_limit_is_seconds_or_has_a_unit(read, written, seconds):
    assert read(SMALLEST + f"[limits]\nrun = {written}\n").limits.run == seconds


def test_a_number_that_nothing_can_reckon_with_is_the_most_that_can(read):
    numbers = '[limits]\nrun = "99999999d"\ngrace = 1e300\nprobe = "60d"\nanswer = 1e300\n'
    config = read(SMALLEST + numbers + "[retention]\ndaily = 999999999999999999999\n[role]\ntimeout = 1e20\n")
    assert datetime.now(UTC) - timedelta(seconds=config.limits.run + config.limits.grace)
    writable = select.poll()
    writable.register(os.memfd_create("any"))
    for seconds in (6 * config.limits.probe, config.limits.answer, config.role.timeout):
        assert writable.poll(seconds * 1000)
    assert config.retention.daily <= sys.maxsize


def test_paths_lose_what_says_nothing(read):
    config = read(SMALLEST.replace('"/srv/raid"', '"//srv//raid/./"'))
    assert config.resources[0].source == "/srv/raid"


@pytest.mark.parametrize(("role", "expected"), [
    ('source = "command"\ncommand = ["my-role", "raid"]', RoleConfig("command", ("my-role", "raid"))),
    ('source = "file"\npath = "/run/role"\ntimeout = "3s"', RoleConfig("file", path="/run/role", timeout=3.0)),
])
def test_another_role_source_needs_no_device(read, role, expected):
    text = SMALLEST.replace('device = "/dev/drbd0"\n', "") + f"[role]\n{role}\n"
    assert read(text).role == expected


def test_the_file_is_the_given_one_then_the_variable(read, tmp_path, monkeypatch):
    read(SMALLEST)
    other = tmp_path / "other.toml"
    other.write_text(SMALLEST.replace('"www4"\n', '"www5"\n', 1))
    monkeypatch.setenv("DRBDBACKUP_CONFIG", str(other))
    assert load().node == "www5"
    assert load(str(tmp_path / "config.toml")).node == "www4"
    monkeypatch.chdir(tmp_path)
    assert load("config.toml").file == str(tmp_path / "config.toml")


def test_without_a_word_it_is_the_file_in_etc(monkeypatch):
    monkeypatch.setenv("DRBDBACKUP_CONFIG", "")
    try:
        named = load().file
    except ConfigError as error:
        named = error.message
    assert named.startswith("/etc/drbdbackup/config.toml")


def test_a_missing_file_comes_with_a_file_to_begin_with(read, tmp_path):
    with pytest.raises(ConfigUnreadable, match=r"nowhere\.toml") as caught:
        load(str(tmp_path / "nowhere.toml"))
    sample = caught.value.hint.split("\n", 1)[1]
    assert read('node = "www4"\n' + sample).targets[0].path == "/backup"


def test_a_folder_in_place_of_the_file_is_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigUnreadable):
        load(str(tmp_path))


def test_reading_the_configuration_imports_nothing_heavy():
    probe = "import sys; before = set(sys.modules); import drbdbackup.config.load; print(*set(sys.modules) - before)"
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60,
                          cwd=Path(__file__).parents[2])
    loaded = {name.split(".")[0] for name in said.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"drbdbackup", "msgspec", "typing_extensions"}
    assert not loaded & {"difflib", "zoneinfo", "subprocess", "socket", "json", "logging", "asyncio", "dataclasses"}

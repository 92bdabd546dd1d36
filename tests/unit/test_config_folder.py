"""What is in conf.d beside the configuration is read with it, and each mistake names the file that it is in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.config.merge import merged
from drbdbackup.errors import ConfigError, ConfigUnreadable, ConfigUnsafe

AGENT = Path(__file__).parents[2] / "drbdbackup/share/resource-agent"
MAIN = """
node = "www4"
nodes = ["www4", "www5"]
[resource.raid]
device = "/dev/drbd0"
source = "/srv/raid"
[target.nas]
kind = "nas"
path = "/backup"
"""
DISK = '[target.disk]\nkind = "disk"\ndevice = "/dev/sdb1"\nmountpoint = "/saving"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "config.toml").write_text(MAIN)
    return tmp_path / "conf.d"


def read(folder: Path):
    return load(str(folder.parent / "config.toml"))


def told(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder)
    return caught.value.message.splitlines()


def test_tables_and_keys_are_added_in_the_order_of_the_names(folder: Path) -> None:
    (folder / "20-disk.toml").write_text(DISK)
    (folder / "10-raid.toml").write_text('schedule = "0 3 * * *"\n[resource.raid]\nexclude = ["cache/"]\n')
    config = read(folder)
    assert config.schedule == "0 3 * * *"
    assert (config.resources[0].device, config.resources[0].exclude) == ("/dev/drbd0", ("cache/",))
    assert [one.name for one in config.targets] == ["nas", "disk"]


def test_other_names_and_an_empty_folder_say_nothing(folder: Path) -> None:
    plain = read(folder)
    for name in ("old.toml.bak", "README", ".hidden.toml"):
        (folder / name).write_text("this is no TOML")
    assert read(folder) == plain
    folder.rename(folder.with_name("away"))
    assert read(folder) == plain


@pytest.mark.parametrize(("text", "key"), [
    ('nodes = ["www4"]\n', "nodes"), ('[target.nas]\npath = "/other"\n', "target.nas.path"),
    ('target = "nas"\n', "target"), ("[schedule.x]\n[nodes.y]\n", "nodes"),
])  # fmt: skip
def test_a_key_in_two_files_is_a_mistake_that_names_both(folder: Path, text: str, key: str) -> None:
    (folder / "more.toml").write_text(text)
    [line] = told(folder)
    assert line.startswith(f"{key}: ")
    assert f"{folder.parent}/config.toml" in line
    assert f"{folder}/more.toml" in line


def test_a_mistake_names_the_file_that_it_is_in(folder: Path) -> None:
    (folder / "more.toml").write_text(DISK.replace("disk]", '"d.d"]') + "wrong = 1\n[limits]\nprobe = 0\n")
    main = folder.parent / "config.toml"
    main.write_text(MAIN + "paht = 1\n")
    assert {line.split(":")[0] for line in told(folder) if "limits" in line or "d.d" in line} == {f"{folder}/more.toml"}
    assert [line.split(":")[0] for line in told(folder) if "paht" in line] == [str(main)]
    (folder / "more.toml").write_text('[resource.raid]\nsource = 1\n')
    main.write_text(MAIN.replace('source = "/srv/raid"\n', ""))
    assert told(folder)[0].startswith(f"{folder}/more.toml: resource.raid.source = 1")


def test_a_key_is_not_taken_for_one_that_begins_like_it() -> None:
    files = merged([("/a", {"target": {"nas": {}}}), ("/b", {"target": {"nas2": {"kind": "nas"}}})])
    assert files.origin('target.nas2.kind = "x": must be', "/main") == "/b"
    assert files.origin("target.nas.kind is missing", "/main") == "/a"
    assert files.origin("peer.x: unknown", "/main") == "/main"


def test_what_is_no_toml_or_no_folder_is_named(folder: Path) -> None:
    (folder / "more.toml").write_text("[")
    assert told(folder)[0].startswith(f"{folder}/more.toml: not TOML")
    (folder / "more.toml").unlink()
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(ConfigUnreadable, match=r"conf\.d"):
        read(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root minds")
@pytest.mark.parametrize("spoil", [lambda file: file.chmod(0o666), lambda file: os.chown(file, 1234, 0)])
def test_only_root_may_write_what_is_there(folder: Path, spoil) -> None:
    (folder / "disk.toml").write_text(DISK)
    (folder / "disk.toml").chmod(0o644)
    read(folder)
    spoil(folder / "disk.toml")
    with pytest.raises(ConfigUnsafe, match=r"conf\.d/disk\.toml"):
        read(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root minds")
def test_nor_the_folder(folder: Path) -> None:
    (folder / "disk.toml").write_text(DISK)
    folder.chmod(0o777)
    with pytest.raises(ConfigUnsafe, match=r"conf\.d"):
        read(folder)


def test_the_resource_agent_finds_the_state_folder_there(folder: Path) -> None:
    state = folder.parent / "state"
    state.mkdir()
    (state / "holding").touch()
    (folder / "state.toml").write_text(f'state_dir = "{state}"\n')
    script = 'echo "process $$," >"$0"; echo; exec sleep 60'
    words = ["flock", "--no-fork", state / "lock", "sh", "-c", script, state / "lock"]
    run = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.readline()
    settings = {"OCF_RESKEY_config": str(folder.parent / "config.toml"), "OCF_RESKEY_patience": "0"}
    subprocess.run([AGENT, "stop"], env={**os.environ, "HA_RSCTMP": str(state), **settings}, check=True, timeout=60)
    assert run.wait(60) < 0


def test_what_is_no_file_is_told_as_that_and_holds_up_nobody(folder: Path) -> None:
    odd = folder / "odd.toml"
    for make in (odd.mkdir, lambda: os.mkfifo(odd), lambda: odd.symlink_to("/nonexistent")):
        make()
        with pytest.raises(ConfigUnreadable) as caught:
            read(folder)
        assert str(odd) in caught.value.message
        assert "[resource.raid]" not in caught.value.hint, "the configuration is there"
        odd.rmdir() if odd.is_dir() else odd.unlink()

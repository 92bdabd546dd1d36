"""A restore in place stops the services of the volume and starts them again, but never on half a volume."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_daemons import Daemons
from tests.played_media import share, stopped
from tests.played_pair import PlayedPair
from tests.played_restore import restore
from tests.played_volume import on_a_device

STOPPED, STARTED = ["apache2 stop", "mysql stop"], ["mysql start", "mysql status", "apache2 start", "apache2 status"]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    for name in ("www", "mail"):
        (played.volume / name).mkdir()
        (played.volume / name / "file").write_text(name)
    played.backs_up()
    (played.volume / "www/file").write_text("spoiled")
    return played


@pytest.fixture
def daemons(pair: PlayedPair) -> Iterator[Daemons]:
    played = Daemons(pair)
    yield played
    played.end()


def test_they_are_stopped_in_reverse_and_started_in_order(pair: PlayedPair, daemons: Daemons) -> None:
    said = restore(pair, "--in-place")
    assert daemons.calls == [*STOPPED, *STARTED]
    assert "mysql, apache2" in said
    assert (pair.volume / "www/file").read_text() == "www"
    pair.backs_up()


def test_a_dry_run_and_a_restore_beside_stop_nothing(pair: PlayedPair, daemons: Daemons) -> None:
    restore(pair, "--in-place", "--dry-run")
    restore(pair, "--to", pair.folder / "back")
    assert daemons.calls == []


def test_one_that_does_not_stop_has_the_others_started_again(pair: PlayedPair, daemons: Daemons) -> None:
    daemons.fails("mysql", "stop")
    said = restore(pair, "--in-place", status=1)
    assert "mysql could not be stopped" in said
    assert "mysql will not stop" in said
    assert daemons.running == ["mysql", "apache2"]
    assert (pair.volume / "www/file").read_text() == "spoiled"
    pair.backs_up()


def test_what_can_be_seen_before_is_seen_before_they_stop(pair: PlayedPair, daemons: Daemons) -> None:
    (pair.volume / "www/file").unlink()
    for in_the_way in (Path.write_text, Path.symlink_to):
        (pair.volume / "www").rmdir() if (pair.volume / "www").is_dir() else (pair.volume / "www").unlink()
        in_the_way(pair.volume / "www", "mail")
        for more in ((), ("--dry-run",)):
            assert "'www/file'" in restore(pair, "--in-place", "--path", "www/file", *more, status=2)
    assert daemons.calls == []
    assert pair.json("www4", "status")["resources"][0]["restore"] is None
    assert len(pair.copies()) == 1  # and no safety copy
    pair.backs_up("www4", "--accept-shrink")


def test_where_nothing_was_replaced_all_is_as_it_was(pair: PlayedPair, daemons: Daemons) -> None:
    """The medium goes away when they are stopped, as the last thing that can fail before anything is written."""
    nas, gone = pair.folder / "nas", pair.folder / "gone"
    daemons.end()
    pair.resource = f"""
services = ["shop"]
[resource.raid.service.shop]
stop = ["mv", "{nas}", "{gone}"]
start = ["mv", "{gone}", "{nas}"]
check = ["test", "-d", "{nas}"]
"""
    said = restore(pair, "--in-place", "--no-safety", status=1)
    assert "restore --resume" not in said
    assert (nas / "drbdbackup").is_dir()
    assert (pair.volume / "www/file").read_text() == "spoiled"
    assert pair.json("www4", "status")["resources"][0]["restore"] is None
    pair.backs_up()


def test_a_failover_while_they_are_stopped_starts_none_of_them_here(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        pair.resource += f"""
services = ["shop"]
[resource.raid.service.shop]
stop = ["sh", "-c", "umount {pair.volume}; exit 1"]
start = ["touch", "{tmp_path}/started"]
"""
        assert "was unmounted meanwhile" in restore(pair, "--in-place", status=7)
        assert not (tmp_path / "started").exists()


def test_one_that_does_not_run_need_not_be_stopped(pair: PlayedPair, daemons: Daemons) -> None:
    daemons.fails("mysql", "stop")
    (daemons.folder / "mysql.runs").unlink()
    restore(pair, "--in-place")
    assert (pair.volume / "www/file").read_text() == "www"
    assert daemons.running == ["mysql", "apache2"]


def test_they_run_again_where_no_safety_copy_could_be_made(pair: PlayedPair, daemons: Daemons) -> None:
    (pair.folder / "nas/drbdbackup/raid/safety").write_text("in the way")
    assert "--no-safety" in restore(pair, "--in-place", status=1)
    assert daemons.running == ["mysql", "apache2"]
    assert (pair.volume / "www/file").read_text() == "spoiled"


@pytest.mark.parametrize("verb", ["start", "status"])
def test_one_that_does_not_run_afterwards_is_named(pair: PlayedPair, daemons: Daemons, verb: str) -> None:
    daemons.fails("mysql", verb)
    said = restore(pair, "--in-place", status=1)
    assert f"mysql will not {verb}" in said
    assert daemons.calls[-2:] == STARTED[-2:]
    assert (pair.volume / "www/file").read_text() == "www"
    pair.backs_up()


def test_they_stay_stopped_on_a_volume_that_is_not_as_it_was(pair: PlayedPair, daemons: Daemons) -> None:
    (pair.newest("nas") / "www/file").unlink()
    said = restore(pair, "--in-place", status=1)
    assert "www/file" in said
    assert "restore --resume" in said
    assert daemons.calls == STOPPED
    assert "restore --resume" in pair.run("www4", "run").stderr
    restore(pair, "--accept")
    assert daemons.running == ["mysql", "apache2"]
    pair.backs_up()


def test_who_writes_to_the_volume_is_named_and_nothing_is_replaced(pair: PlayedPair, daemons: Daemons) -> None:
    with writing(pair.volume / "mail/log") as writer:
        said = restore(pair, "--in-place", status=1)
        assert f"process {writer.pid}, {pair.volume}/mail/log" in said
        assert (pair.volume / "www/file").read_text() == "spoiled"
        assert daemons.running == ["mysql", "apache2"]
        assert f"process {writer.pid}" in restore(pair, "--in-place", "--dry-run")
        restore(pair, "--in-place", "--path", "www")
        assert (pair.volume / "www/file").read_text() == "www"


def test_who_only_reads_is_named_and_in_nobodys_way(pair: PlayedPair) -> None:
    with subprocess.Popen(["sleep", "300"], cwd=pair.volume / "www") as reader:
        try:
            assert f"sleep (process {reader.pid}" in restore(pair, "--in-place")
        finally:
            reader.kill()


class writing:  # noqa: N801  reads as a verb in a with statement
    """A process that has a file open for writing."""

    def __init__(self, path: Path) -> None:
        script = f"import sys; file = open({str(path)!r}, 'a'); print(flush=True); sys.stdin.read()"
        self.process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n"

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def test_a_dead_share_that_somebody_uses_is_in_nobodys_way(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair, share(tmp_path / "dead", tmp_path / "behind") as dead:
        pair.backs_up()
        with writing(dead.path / "log"), stopped(dead):
            restore(pair, "--in-place", "--no-safety")


def test_who_writes_from_another_namespace_is_named_too(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        (tmp_path / "other").mkdir()
        script = f"mount --bind {pair.volume} {tmp_path}/other && exec 3>>{tmp_path}/other/log && echo && read -r _"
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        with subprocess.Popen(argv, stdin=-1, stdout=-1) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"\n"
            assert f"(process {writer.pid}, " in restore(pair, "--in-place", status=1)
            writer.communicate()


ASKED = "--type crm_config --name maintenance-mode --query --quiet --default false"
CRM = f'#!/bin/sh\n[ "$*" = "{ASKED}" ] || exit 64\n'


@pytest.mark.parametrize(("answer", "status"), [("echo false", 1), ("echo true", 0), ("exit 102", 0), ("exit 5", 1)])
def test_pacemaker_must_keep_off(pair: PlayedPair, daemons: Daemons, answer: str, status: int) -> None:
    programs = pair.folder / "bin"
    programs.mkdir()
    (programs / "crm_attribute").write_text(CRM + answer)
    (programs / "crm_attribute").chmod(0o755)
    pair.path = f"{programs}:{os.environ['PATH']}"
    said = restore(pair, "--in-place", status=status)
    assert ("maintenance-mode --update true" in said) == bool(status)
    assert daemons.calls == ([] if status else [*STOPPED, *STARTED])


def test_a_service_without_a_table_is_asked_of_the_system(pair: PlayedPair) -> None:
    programs = pair.folder / "bin"
    programs.mkdir()
    log = pair.folder / "log"
    (programs / "service").write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    (programs / "service").chmod(0o755)
    pair.path = f"{programs}:{os.environ['PATH']}"
    pair.resource = 'services = ["nobody-has-this"]'
    restore(pair, "--in-place")
    assert log.read_text().split("\n")[:-1] == [f"nobody-has-this {verb}" for verb in ("stop", "start", "status")]

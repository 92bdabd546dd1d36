"""What is said of the services that live on the volume, and of their folders."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from drbdbackup.doctor import services, systemd
from drbdbackup.doctor.services import FolderState, LinkFacts, ServiceFacts
from drbdbackup.pair import digests
from drbdbackup.tools.text_file import TextFile, read
from tests.captured import play

GOOD = ServiceFacts("apache2", "disabled", (), "/var/www", FolderState.LINK)


def wrong(facts: ServiceFacts) -> dict[str, str]:
    return {one.check: one.state.value for one in services.judge(facts) if one.state.value != "ok"}


def test_a_service_as_it_should_be() -> None:
    assert wrong(GOOD) == {}
    assert [one.check for one in services.judge(GOOD)] == ["boot", "data folder"]


@pytest.mark.parametrize(("changes", "check", "state"), [
    ({"unit": "enabled"}, "boot", "fail"), ({"unit": "enabled-runtime"}, "boot", "fail"),
    ({"unit": "alias"}, "boot", "fail"), ({"unit": "masked"}, "boot", "warn"), ({"unit": None}, "boot", "warn"),
    ({"unit": "", "links": ("/etc/rc2.d/S01apache2",)}, "boot", "fail"),
    ({"unit": "generated", "links": ("/etc/rc2.d/S01apache2",)}, "boot", "fail"),
    ({"folder_state": FolderState.FOLDER}, "data folder", "warn"),
    ({"folder_state": FolderState.FOREIGN_LINK}, "data folder", "warn"),
])  # fmt: skip
def test_each_mistake_is_found_and_no_other(changes, check, state) -> None:
    assert wrong(replace(GOOD, **changes)) == {check: state}


@pytest.mark.parametrize("changes", [
    {"unit": ""}, {"unit": "static"}, {"unit": "indirect"}, {"unit": "generated"},
    {"unit": "disabled", "links": ("/etc/rc2.d/S01apache2",)},  # systemd passes over a script that has a unit
    {"folder_state": FolderState.MISSING}, {"folder": "", "folder_state": FolderState.MISSING},
])  # fmt: skip
def test_what_is_not_started_at_boot_is_right(changes) -> None:
    assert wrong(replace(GOOD, **changes)) == {}


@pytest.mark.parametrize(("script", "word"), [
    ("echo enabled", "enabled"), ("echo disabled; exit 1", "disabled"), ("echo alias", "alias"),
    ("echo 'Failed to get unit file state for x.service: No such file or directory' >&2; exit 1", ""),
    ("echo not-found; exit 4", ""), ("echo 'Failed to connect to bus' >&2; exit 1", None), ("exit 1", None),
    ("kill -9 $$", None),
])  # fmt: skip
def test_what_systemctl_says_is_a_word_or_nothing(tmp_path, monkeypatch, script, word) -> None:
    play(tmp_path / "systemctl", f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert systemd.is_enabled("x") == word


def test_the_list_beside_the_configuration_is_read(tmp_path) -> None:
    (tmp_path / "not-at-boot").write_text("# these not\nmariadb\n\napache2.service  # nor this\n")
    assert services.listed(str(tmp_path / "config.toml")) == ("mariadb", "apache2")
    assert services.listed("/nowhere/config.toml") == ()


@pytest.mark.parametrize(("folder", "link", "inside"), [
    ("/var", "/srv/raid/www", True), ("/var", "/srv/raid", True), ("/var", "../srv/raid/www/", True),
    ("/var", "/srv/raider/www", False), ("/var", "/srv/raid/../x", False), ("/var", "www", False),
])  # fmt: skip
def test_a_link_leads_to_the_volume_or_not(folder, link, inside) -> None:
    assert digests.leads_into(folder, link, "/srv/raid") is inside


def test_links_to_the_volume_are_found_without_following_them(tmp_path) -> None:
    for name, to in (("www", "/srv/raid/www"), ("mysql", "/srv/raid/mysql"), ("other", "/tmp")):
        (tmp_path / name).symlink_to(to)
    (tmp_path / "plain").mkdir()
    (tmp_path / "parent").symlink_to(tmp_path)
    parents = [str(tmp_path), "/nowhere", str(tmp_path / "parent")]
    assert sorted(digests.links("/srv/raid", parents)) == [f"{tmp_path}/mysql", f"{tmp_path}/www"]
    if os.geteuid() == 0:
        os.chown(tmp_path / "www", 33, 33, follow_symlinks=False)
        assert list(digests.links("/srv/raid", parents)) == [f"{tmp_path}/mysql"], "not another user's"


LINKS = LinkFacts("raid", ("/var/lib/mysql", "/var/www"), frozenset({"/var/lib/mysql", "/var/www"}))


@pytest.mark.parametrize(("facts", "states"), [
    (LINKS, ["ok"]), (replace(LINKS, there=None), []), (replace(LINKS, links=()), []),
    (replace(LINKS, there=frozenset({"/var/www"})), ["fail"]),
])  # fmt: skip
def test_a_link_that_leads_nowhere_is_wrong_only_where_the_volume_is(facts, states) -> None:
    found = services.judge_links(facts)
    assert [one.state.value for one in found] == states
    assert all("/var/lib/mysql" in one.because for one in found)


def test_a_file_that_is_none_is_told_and_nothing_waits_for_it(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"text\xff")
    assert read(str(tmp_path / "nothing")) is None
    assert read(str(tmp_path / "file/below")) is None
    assert read(str(tmp_path)) == TextFile(problem="Is a directory")
    assert read(str(tmp_path / "fifo")) == TextFile(problem="not a plain file")
    file = tmp_path / "file"
    assert read(str(file)) == TextFile("text\udcff", file.stat().st_mode, os.geteuid())

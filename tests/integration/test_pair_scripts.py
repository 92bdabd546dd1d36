"""The rendered scripts, really run: the services' folders onto the volume and back, again, and after a crash."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_pair import differences
from tests.played_services import FOLDERS, PlayedServices, played_services

MOVE, LINK, PREPARE = "pair-move-services", "pair-link-services", "pair-prepare"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces want root")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedServices]:
    with played_services(tmp_path) as played:
        subprocess.run(["cp", "-a", played.root("www4"), tmp_path / "before-www4"], check=True)
        subprocess.run(["cp", "-a", played.root("www5"), tmp_path / "before-www5"], check=True)
        yield played


def before(pair: PlayedServices, node: str, folder: str) -> Path:
    return pair.folder / f"before-{node}" / folder


def leads_to_the_volume(pair: PlayedServices, node: str, folder: str) -> bool:
    link = pair.root(node) / folder
    return link.is_symlink() and str(link.readlink()) == str(pair.on_volume(folder)).replace("/volume/", "/raid/", 1)


def is_moved(pair: PlayedServices) -> None:
    for folder in FOLDERS:
        assert leads_to_the_volume(pair, "www4", folder)
        assert differences(before(pair, "www4", folder), pair.on_volume(folder)) == []


def is_as_before(pair: PlayedServices, node: str) -> None:
    for folder in FOLDERS:
        assert not (pair.root(node) / folder).is_symlink()
        assert differences(before(pair, node, folder), pair.root(node) / folder) == []


def test_the_folders_are_moved_with_all_that_they_have_and_what_was_there_is_set_aside(pair: PlayedServices) -> None:
    told = pair.does("www4", MOVE)
    is_moved(pair)
    for folder in FOLDERS:
        assert differences(before(pair, "www4", folder), pair.root("www4") / f"{folder}.before-pair") == []
        assert f"/here/{folder} leads to " in told


def test_the_services_are_stopped_first_the_last_one_started_before_the_others(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    assert pair.calls == ["systemctl stop apache2", "systemctl stop mariadb"]


def test_without_systemd_the_scripts_of_system_v_are_asked(pair: PlayedServices) -> None:
    pair.systemd = False
    pair.does("www4", MOVE)
    assert pair.calls == ["service apache2 stop", "service mariadb stop"]


def test_a_service_that_does_not_stop_keeps_its_folders(pair: PlayedServices) -> None:
    (pair.folder / "bin/systemctl").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    assert "no" in pair.refuses("www4", MOVE)
    is_as_before(pair, "www4")


def test_moving_again_changes_nothing_and_stops_nothing(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    calls = pair.calls
    assert pair.does("www4", MOVE) == "nothing to do\n"
    assert pair.calls == calls
    is_moved(pair)


def test_undone_the_folders_are_what_they_were_on_the_volume_at_last(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    (pair.on_volume("var/www") / "new").write_text("written since\n")
    (before(pair, "www4", "var/www") / "new").write_text("written since\n")
    subprocess.run(["cp", "-a", pair.on_volume("var/www") / "new", before(pair, "www4", "var/www")], check=True)
    subprocess.run(["touch", "-r", pair.on_volume("var/www"), before(pair, "www4", "var/www")], check=True)
    pair.does("www4", MOVE, "--undo")
    is_as_before(pair, "www4")
    assert pair.does("www4", MOVE, "--undo") == "nothing to do\n"
    assert not any(pair.on_volume(folder).exists() for folder in FOLDERS)


def test_moved_undone_and_moved_again_nothing_that_was_set_aside_is_lost(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    pair.does("www4", MOVE, "--undo")
    pair.does("www4", MOVE)
    is_moved(pair)
    assert (pair.root("www4") / "var/www.before-pair").is_dir()
    assert (pair.root("www4") / "var/www.before-pair.2").is_dir()
    assert (pair.on_volume("var/www.undone") / "what").is_file()


def test_the_other_node_sets_its_folders_aside_and_links_them_to_where_nothing_is_yet(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    pair.does("www5", LINK)
    for folder in FOLDERS:
        assert leads_to_the_volume(pair, "www5", folder)
        assert differences(before(pair, "www5", folder), pair.root("www5") / f"{folder}.before-pair") == []
    assert pair.does("www5", LINK) == "nothing to do\n"


def test_what_the_other_node_has_set_aside_is_put_back(pair: PlayedServices) -> None:
    pair.does("www5", LINK)
    pair.does("www5", LINK, "--undo")
    is_as_before(pair, "www5")
    assert not (pair.root("www5") / "var/www.before-pair").exists()
    assert pair.does("www5", LINK, "--undo") == "nothing to do\n"


def test_after_a_failover_both_nodes_have_their_folders_on_the_volume(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    pair.does("www5", LINK)
    pair.primary = "www5"
    assert pair.does("www5", MOVE) == "nothing to do\n"
    assert pair.does("www4", LINK) == "nothing to do\n"


@pytest.mark.parametrize("undo", [[], ["--undo"]])
def test_nothing_is_moved_where_the_volume_is_not_mounted(pair: PlayedServices, undo: list[str]) -> None:
    assert f"/dev/drbd0 is not mounted at {pair.folder}/raid" in pair.refuses("www5", MOVE, *undo)
    is_as_before(pair, "www5")
    assert pair.calls == []


@pytest.mark.parametrize("undo", [[], ["--undo"]])
def test_nothing_is_set_aside_where_the_volume_is_mounted(pair: PlayedServices, undo: list[str]) -> None:
    assert "is mounted on this node" in pair.refuses("www4", LINK, *undo)
    is_as_before(pair, "www4")


def test_nothing_is_set_aside_on_a_primary_that_has_not_mounted_it(pair: PlayedServices) -> None:
    (pair.folder / "bin/drbdadm").write_text("#!/bin/sh\necho Primary/Secondary\n")
    assert "raid is Primary on this node" in pair.refuses("www5", LINK)
    is_as_before(pair, "www5")


def test_another_file_system_at_the_mount_point_is_not_the_volume(pair: PlayedServices) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "other", pair.folder / "raid"], check=True)
    try:
        assert "is not mounted" in pair.refuses("www5", MOVE)
    finally:
        subprocess.run(["umount", pair.folder / "raid"], check=True)


def test_what_the_other_node_has_moved_is_not_overwritten(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    pair.primary = "www5"
    assert "are both there" in pair.refuses("www5", MOVE)
    is_as_before(pair, "www5")
    is_moved(pair)


def test_a_service_that_is_not_installed_is_told_before_anything_is_done(pair: PlayedServices) -> None:
    subprocess.run(["rm", "-r", pair.root("www4") / "var/www", pair.root("www5") / "var/www"], check=True)
    for node, script in (("www4", MOVE), ("www5", LINK)):
        assert f"there is no {pair.folder}/here/var/www: install" in pair.refuses(node, script)
        assert not (pair.root(node) / "var/lib/mysql").is_symlink()
    assert pair.calls == []


def test_a_link_that_leads_elsewhere_is_the_admins(pair: PlayedServices) -> None:
    for node, script in (("www4", MOVE), ("www5", LINK)):
        www = pair.root(node) / "var/www"
        www.rename(www.with_name("elsewhere"))
        www.symlink_to("elsewhere")
        assert "var/www is a link to elsewhere, not to " in pair.refuses(node, script)
        assert not (pair.root(node) / "var/lib/mysql").is_symlink()


def test_a_volume_without_room_is_told_before_anything_is_done(pair: PlayedServices) -> None:
    for folder in ("var/lib/mysql", "var/www"):  # each of them would fit
        (pair.root("www4") / folder / "large").write_bytes(bytes(5 << 20))
    assert "needs more room" in pair.refuses("www4", MOVE)
    assert pair.calls == []
    assert list(pair.volume.iterdir()) == []


def test_a_program_that_still_has_files_open_is_named(pair: PlayedServices) -> None:
    script = f"""
        mount --bind {pair.root("www4")} {pair.folder}/here
        exec 0<{pair.folder}/here/var/lib/mysql/table
        echo open
        exec tail -f /dev/null
    """
    inside = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script], stdout=subprocess.PIPE, text=True
    )
    try:
        assert inside.stdout
        assert inside.stdout.readline() == "open\n"
        assert f"process {inside.pid} (tail) still has files open" in pair.refuses("www4", MOVE)
    finally:
        inside.kill()
        inside.communicate()
    assert not (pair.root("www4") / "var/lib/mysql").is_symlink()


def crashes(pair: PlayedServices, node: str, script: str, *args: str) -> Iterator[int]:
    """Let the script die in its first call, its second, ... until it survives; what follows a yield is on the crash."""
    for number in range(1, 200):
        if pair.run(node, script, *args, dies_in=number).returncode == 0:
            assert number > len(FOLDERS)
            return
        yield number


def test_a_move_that_dies_at_any_point_is_completed_or_undone_by_the_next(pair: PlayedServices) -> None:
    points = 0
    for points in crashes(pair, "www4", MOVE):
        if points % 2:
            pair.does("www4", MOVE)
            is_moved(pair)
        pair.does("www4", MOVE, "--undo")
        is_as_before(pair, "www4")
    assert points >= 6 * len(FOLDERS)
    is_moved(pair)


def test_an_undo_that_dies_at_any_point_is_completed_by_the_next(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    for _ in crashes(pair, "www4", MOVE, "--undo"):
        pair.does("www4", MOVE, "--undo")
        is_as_before(pair, "www4")
        pair.does("www4", MOVE)
        is_moved(pair)


def test_a_folder_that_is_lost_with_the_volume_is_not_taken_for_an_old_one(pair: PlayedServices) -> None:
    pair.does("www4", MOVE)
    subprocess.run(["rm", "-r", pair.on_volume("var/www")], check=True)
    assert "which is not there" in pair.refuses("www4", MOVE)
    assert "which is not there" in pair.refuses("www4", MOVE, "--undo")
    assert leads_to_the_volume(pair, "www4", "var/lib/mysql")


def test_a_link_that_dies_at_any_point_is_completed_or_undone_by_the_next(pair: PlayedServices) -> None:
    for number in crashes(pair, "www5", LINK):
        if number % 2:
            pair.does("www5", LINK)
            assert all(leads_to_the_volume(pair, "www5", folder) for folder in FOLDERS)
        pair.does("www5", LINK, "--undo")
        is_as_before(pair, "www5")


def test_an_unlinking_that_dies_at_any_point_is_completed_by_the_next(pair: PlayedServices) -> None:
    pair.does("www5", LINK)
    for _ in crashes(pair, "www5", LINK, "--undo"):
        pair.does("www5", LINK, "--undo")
        is_as_before(pair, "www5")
        pair.does("www5", LINK)


def test_a_wrong_use_is_told(pair: PlayedServices) -> None:
    for script in (MOVE, LINK, PREPARE):
        assert pair.refuses("www4", script, "--nonsense") == f"{script}: usage: {script} [--undo]\n"
    assert pair.calls == []


def test_a_node_is_prepared_and_can_be_prepared_again(pair: PlayedServices) -> None:
    etc = pair.root("www4") / "etc"
    pair.does("www4", PREPARE)
    hosts, fstab = (etc / "hosts").read_text(), (etc / "fstab").read_text()
    assert hosts.startswith("127.0.0.1 localhost\n# drbdbackup pair: from here\n133.10.10.5 www4\n")
    assert f"\n133.10.10.20:/export/backup {pair.folder}/backup nfs " in fstab
    assert pair.calls == [
        "systemctl disable mariadb", "systemctl disable apache2", "systemctl enable drbd", "systemctl enable heartbeat"
    ]
    assert all((pair.folder / name).is_dir() for name in ("raid", "backup", "saving"))
    assert "is changed" not in pair.does("www4", PREPARE)
    assert ((etc / "hosts").read_text(), (etc / "fstab").read_text()) == (hosts, fstab)


def test_a_change_of_the_pair_takes_the_place_of_what_was_there(pair: PlayedServices) -> None:
    etc = pair.root("www4") / "etc"
    pair.does("www4", PREPARE)
    with (etc / "hosts").open("a") as hosts:
        hosts.write("10.0.0.1 below\n")
    (etc / "hosts.pair").write_text("133.10.10.7 www6\n")
    pair.does("www4", PREPARE)
    told = (etc / "hosts").read_text()
    assert "www4" not in told
    assert told.count("# drbdbackup pair: from here") == 1
    assert "10.0.0.1 below\n" in told
    assert "133.10.10.7 www6\n" in told


def test_a_prepared_node_is_given_back(pair: PlayedServices) -> None:
    pair.does("www4", PREPARE)
    pair.does("www4", PREPARE, "--undo")
    for name in ("hosts", "fstab"):
        assert (pair.root("www4") / "etc" / name).read_bytes() == before(pair, "www4", f"etc/{name}").read_bytes()
    assert pair.calls[4:] == [
        "systemctl disable heartbeat", "systemctl disable drbd", "systemctl enable mariadb", "systemctl enable apache2"
    ]


@pytest.mark.parametrize("line", [
    "/dev/drbd0 /mnt ext4 defaults 0 0", "/dev/sda3 /mnt ext4 defaults 0 0", "UUID=2 {folder}/raid ext4 noauto 0 0",
    "/dev/sdb1 /mnt ext4 defaults 0 0", "nas:/else {folder}/backup nfs defaults 0 0",
])  # fmt: skip
def test_a_line_of_fstab_that_would_be_in_the_way_is_told(pair: PlayedServices, line: str) -> None:
    line = line.format(folder=pair.folder)
    (pair.root("www4") / "etc/fstab").write_text(f"{line}\n")
    assert f"/etc/fstab: take out this line first: {line}\n" in pair.refuses("www4", PREPARE)
    assert (pair.root("www4") / "etc/fstab").read_text() == f"{line}\n"


def test_a_start_script_that_heartbeat_would_not_find_is_told(pair: PlayedServices) -> None:
    (pair.root("www4") / "etc/init.d/mariadb").unlink()
    assert "there is neither /etc/init.d/mariadb nor " in pair.refuses("www4", PREPARE)
    assert pair.calls == []


def test_half_a_block_is_left_to_the_admin(pair: PlayedServices) -> None:
    hosts = pair.root("www4") / "etc/hosts"
    hosts.write_text("# drbdbackup pair: from here\n10.0.0.1 below\n")
    assert "the first or the last line is gone" in pair.refuses("www4", PREPARE)
    assert hosts.read_text().endswith("10.0.0.1 below\n")

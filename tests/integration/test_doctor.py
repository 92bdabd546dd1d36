"""The doctor on a played pair: content with a good one, and each broken set-up is found by its own item alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.captured import play
from tests.parsed import ROOT
from tests.played_media import disk_image, nothing_is_left, share, stopped, weak_share
from tests.played_node import HOSTS, PlayedNodes
from tests.played_pair import PlayedPair
from tests.played_sshd import Reached, sshd
from tests.played_terminal import on_a_terminal

BOOTED = "mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/system\n"  # by systemd


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedNodes]:
    nodes = PlayedNodes.set_up(tmp_path_factory.mktemp("doctor"))
    try:
        with reached(nodes, "www4") as www4, reached(nodes, "www5") as www5:
            nodes.extra = www4.table("www4") + www5.table("www5")
            for primary in ("www5", "www4"):
                nodes.roles(primary)
                nodes.backs_up(primary)
            nodes.save()
            yield nodes
    finally:
        nodes.take_down()


def reached(nodes: PlayedNodes, node: str) -> AbstractContextManager[Reached]:
    """The way to a node's forced command, as it is set up when somebody comes."""
    script = nodes.folder / f"to-{node}"
    play(script, f"#!/bin/sh\nexec {shlex.join(nodes.command(node, 'serve'))}\n")
    return sshd(nodes.folder / f"ssh-{node}", str(script))


@pytest.fixture
def nodes(played: PlayedNodes) -> Iterator[PlayedNodes]:
    played.restore()
    yield played
    assert nothing_is_left(played.folder / "nas")


def diagnosis(nodes: PlayedNodes, node: str = "www4") -> list[dict[str, Any]]:
    ended = nodes.run(node, "doctor", "--json")
    document = json.loads(ended.stdout)
    assert (document["schema"], document["node"]) == (1, node)
    failed = any(check["state"] == "fail" for check in document["checks"])
    assert ended.returncode == int(failed), ended.stderr
    return document["checks"]


def wrong(nodes: PlayedNodes, node: str = "www4") -> dict[str, str]:
    """What is not as it should be; all of it comes with what to do."""
    found = [check for check in diagnosis(nodes, node) if check["state"] != "ok"]
    assert all(check["remedy"] for check in found)
    return {" ".join(filter(None, [check["check"], check["about"]])): check["state"] for check in found}


def test_a_good_pair_is_found_good(nodes: PlayedNodes) -> None:
    """On either node; the link of a service leads nowhere on the Secondary, and that is right."""
    for node in ("www4", "www5"):
        assert [check for check in diagnosis(nodes, node) if check["state"] != "ok"] == []


def test_every_item_is_looked_at(nodes: PlayedNodes) -> None:
    assert {check["check"] for check in diagnosis(nodes)} == {
        "node", "drbd tools", "drbd configuration", "drbd host", "drbd module", "drbd up", "role", "mount point",
        "fstab", "links", "ha.cf", "haresources", "lets go", "authkeys", "boot", "data folder", "owners", "rsync",
        "state folder", "schedule", "missed runs", "target", "not mounted", "room", "writable", "clock", "peer", "key",
        "same haresources", "same authkeys", "same resource raid", "same links", "agent",
    }  # fmt: skip


Plant = Callable[[PlayedNodes], None]
PLANTS: dict[str, tuple[Plant, dict[str, str]]] = {}


def planted(**found: str) -> Callable[[Plant], Plant]:
    """What the doctor must find on www4, and nothing else; `_` stands for a blank."""

    def keep(plant: Plant) -> Plant:
        PLANTS[plant.__name__] = plant, {name.replace("_", " "): state for name, state in found.items()}
        return plant

    return keep


@planted(drbd_tools="fail")
def drbd_utils_are_not_installed(nodes: PlayedNodes) -> None:
    for name in ("drbdadm", "drbdsetup"):
        (nodes.of("www4") / "bin" / name).unlink()
        hide = f"[ ! -e /usr/sbin/{name} ] || mount --bind /dev/null /usr/sbin/{name}\n"  # this machine may have them
        (nodes.of("www4") / "mounts").open("a").write(hide)


@planted(drbd_module="fail")
def the_module_is_not_loaded(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "module/drbd").rmdir()
    said = "Could not connect to 'drbd' generic netlink family\n"
    nodes.answer("www4", "drbdsetup events2 --now", err=said, status=20)


@planted(drbd_configuration_raid="fail")
def the_resource_is_called_otherwise(nodes: PlayedNodes) -> None:
    other = f"resource r0 {{\n{HOSTS}}}\n"
    nodes.answer("www4", "drbdadm dump", other)
    nodes.answer("www4", "drbdadm dump raid", err="'raid' not defined in your config (for this host).\n", status=1)


@planted(drbd_configuration_raid="fail")
def drbds_configuration_has_a_mistake(nodes: PlayedNodes) -> None:
    for words in ("drbdadm dump", "drbdadm dump raid"):
        nodes.answer("www4", words, err="raid.res:5: Parse error: 'on' expected, but got 'onn'\n", status=10)


@planted(drbd_host_raid="fail")
def this_host_is_not_in_drbds_configuration(nodes: PlayedNodes) -> None:
    nodes.answer("www4", "drbdadm dump", f"resource raid {{\n{HOSTS.replace('www4', 'web')}}}\n")
    nodes.answer("www4", "drbdadm dump raid", err="'raid' not defined in your config (for this host).\n", status=1)


@planted(drbd_up_raid="fail")
def the_resource_is_down(nodes: PlayedNodes) -> None:
    nodes.answer("www4", "drbdsetup events2 --now", "exists -\n")
    nodes.answer("www4", "drbdadm role raid", err="unknown minor\n", status=10)


@planted(role_raid="fail")
def drbd_says_what_nobody_understands(nodes: PlayedNodes) -> None:
    nodes.answer("www4", "drbdsetup events2 --now", "exists resource name:raid role:Emperor suspended:no\nexists -\n")


@planted(role_raid="fail")
def the_volume_is_not_mounted_on_the_primary(nodes: PlayedNodes) -> None:
    nodes.mounts("www4", f"mount --bind {nodes.folder}/nas-behind {nodes.folder}/nas")


@planted(node="fail")
def the_configuration_of_the_other_node_was_copied(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write("hostname www5\n")
    nodes.write("www4", "etc/ha.d/ha.cf", "node www4 www5\n")
    nodes.answer("www4", "drbdadm dump", f"resource raid {{\n{HOSTS}}}\n")


@planted(mount_point_raid="fail")
def everybody_may_write_to_the_volume(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write(f"chmod 1777 {nodes.volume}\n")


@planted(fstab_raid="fail")
def the_volume_is_mounted_at_boot(nodes: PlayedNodes) -> None:
    nodes.write("www4", "etc/fstab", f"/dev/drbd0 {nodes.volume} ext4 defaults 0 2\n")


@planted(fstab_raid="fail")
def the_disk_below_drbd_is_mounted_at_boot(nodes: PlayedNodes) -> None:
    nodes.write("www4", "etc/fstab", "/dev/sda1 /data ext4 defaults 0 2\n")


@planted(ha_cf="fail")
def this_host_is_not_in_ha_cf(nodes: PlayedNodes) -> None:
    for node in ("www4", "www5"):
        nodes.write(node, "etc/ha.d/ha.cf", "node web www5\n")
        nodes.write(node, "etc/ha.d/haresources", "www5 drbddisk::raid mysql apache2\n")


@planted(haresources="fail")
def heartbeat_has_no_script_for_a_service(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/init.d/mysql").unlink()


@planted(lets_go="warn")
def nothing_makes_a_backup_let_go(nodes: PlayedNodes) -> None:
    text = (nodes.of("www4") / "etc/ha.d/haresources").read_text()
    for node in ("www4", "www5"):
        nodes.write(node, "etc/ha.d/haresources", text.replace(" drbdbackup", ""))


@planted(same_haresources_www5="fail")
def haresources_differ(nodes: PlayedNodes) -> None:
    text = (nodes.of("www4") / "etc/ha.d/haresources").read_text()
    nodes.write("www5", "etc/ha.d/haresources", text.replace("www4", "www5"))


@planted(same_haresources_www5="fail", haresources="fail")
def haresources_are_missing_here(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/ha.d/haresources").unlink()


@planted(same_authkeys_www5="fail")
def the_nodes_have_different_keys(nodes: PlayedNodes) -> None:
    nodes.write("www5", "etc/ha.d/authkeys", "auth 1\n1 sha1 8f14e45fceea167a5a36dedd4bea2544\n", 0o600)


@planted(same_resource_raid_www5="fail")
def the_nodes_have_different_resource_files(nodes: PlayedNodes) -> None:
    nodes.write("www5", "etc/drbd.d/raid.res", "resource raid { protocol B; }\n")


@planted(authkeys="fail")
def others_can_read_the_key(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/ha.d/authkeys").chmod(0o644)


@planted(authkeys="warn")
def the_key_is_none(nodes: PlayedNodes) -> None:
    for node in ("www4", "www5"):
        nodes.write(node, "etc/ha.d/authkeys", "auth 1\n1 crc\n", 0o600)


@planted(boot_apache2="fail")
def a_service_is_started_at_boot(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "units/apache2").write_text("enabled\n")


@planted(boot_mysql="fail")
def a_service_is_started_by_its_links(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/rc2.d").mkdir()
    (nodes.of("www4") / "etc/rc2.d/S01mysql").symlink_to("../init.d/mysql")


@planted(boot_mariadb="fail")
def a_service_of_the_list_is_started_at_boot(nodes: PlayedNodes) -> None:
    (nodes.folder / "not-at-boot").write_text("# these must not\nmariadb\n")
    (nodes.of("www4") / "units/mariadb").write_text("enabled\n")


@planted(boot_mysql="warn", boot_apache2="warn")
def systemctl_does_not_answer(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "units/hang").touch()


@planted(same_links_www5="fail", data_folder_mysql="warn")
def a_folder_is_not_linked_here(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "var/lib/mysql").unlink()
    (nodes.of("www4") / "var/lib/mysql").mkdir()


@planted(same_links_www5="fail")
def a_folder_is_not_linked_there(nodes: PlayedNodes) -> None:
    (nodes.of("www5") / "etc/apache2").unlink()


@planted(links_raid="fail")
def a_link_leads_to_what_is_not_on_the_volume(nodes: PlayedNodes) -> None:
    for node in ("www4", "www5"):
        (nodes.of(node) / "etc/php").symlink_to(nodes.volume / "etc/php")


@planted(target_nas="fail")
def the_nas_is_not_mounted(nodes: PlayedNodes) -> None:
    nodes.mounts("www4", f"mount {nodes.device} {nodes.volume}")


@planted(target_nas="fail")
def another_share_is_mounted_there(nodes: PlayedNodes) -> None:
    shutil.rmtree(nodes.folder / "nas-behind/drbdbackup")


@planted(writable_nas="fail")
def the_nas_is_read_only(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write(f"mount -o remount,bind,ro {nodes.folder}/nas\n")


@planted(target_disk="fail")
def the_disk_is_gone(nodes: PlayedNodes) -> None:
    (nodes.folder / "disk-www4.img").unlink()


@planted(target_disk="fail")
def another_disk_is_there(nodes: PlayedNodes) -> None:
    disk_image(nodes.folder / "disk-www4.img")


@planted(target_disk="fail")
def the_disk_has_no_file_system(nodes: PlayedNodes) -> None:
    (nodes.folder / "disk-www4.img").write_bytes(bytes(1 << 20))


@planted(not_mounted_disk="warn")
def the_disk_is_mounted_all_the_time(nodes: PlayedNodes) -> None:
    line = f"mount {nodes.folder}/disk-www4.img {nodes.folder}/disk-at-www4\n"
    (nodes.of("www4") / "mounts").open("a").write(line)


@planted(target_disk="fail")
def something_else_is_mounted_where_the_disk_comes(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write(f"mount -t tmpfs tmpfs {nodes.folder}/disk-at-www4\n")


@planted(agent_Heartbeat="warn")
def the_agent_is_an_older_one(nodes: PlayedNodes) -> None:
    nodes.write("www4", "etc/ha.d/resource.d/drbdbackup", "#!/bin/sh\n", 0o755)


@planted(schedule="warn", messages="warn")  # a timer mails nobody
def the_timer_has_another_time(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/cron.d/drbdbackup").unlink()
    for unit, words in (("drbdbackup", ""), ("drbdbackup-due", " --if-due")):
        command = f"[Service]\nExecStart=/usr/local/bin/drbdbackup run{words}\n"
        nodes.write("www4", f"etc/systemd/system/{unit}.service", command)
        nodes.write("www4", f"etc/systemd/system/{unit}.timer", "[Timer]\nOnCalendar=*-*-* 03:30:00\n")
        (nodes.of("www4") / f"units/{unit}.timer").write_text("enabled\n")
    (nodes.of("www4") / "mounts").open("a").write(BOOTED)


@planted(schedule="fail")
def nothing_starts_it(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/cron.d/drbdbackup").unlink()


@planted(schedule="fail")
def cron_passes_over_the_file(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "etc/cron.d/drbdbackup").rename(nodes.of("www4") / "etc/cron.d/drbdbackup.cron")


@planted(schedule="warn")
def it_is_started_twice(nodes: PlayedNodes) -> None:
    nodes.write("www4", "var/spool/cron/crontabs/root", "30 4 * * * /usr/local/bin/drbdbackup run\n", 0o600)


@planted(schedule="warn")
def a_timer_starts_it_as_well(nodes: PlayedNodes) -> None:
    nodes.write("www4", "etc/systemd/system/drbdbackup.timer", "[Timer]\nOnCalendar=04:30\n")
    nodes.write("www4", "etc/systemd/system/drbdbackup.service", "[Service]\nExecStart=/usr/local/bin/drbdbackup run\n")
    (nodes.of("www4") / "units/drbdbackup.timer").write_text("enabled\n")
    (nodes.of("www4") / "mounts").open("a").write(BOOTED)


@planted(schedule="fail")
def cron_does_not_find_the_program(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "usr/local/bin/drbdbackup").unlink()


@planted(schedule="warn")
def cron_and_configuration_are_out_of_step(nodes: PlayedNodes) -> None:
    nodes.head = 'schedule = "0 3 * * *"'


@planted(peer_www5="warn")
def the_peer_is_away(nodes: PlayedNodes) -> None:
    nodes.extra = nodes.extra.replace('"-p", "', '"-p", "1')


@planted(peer_www5="fail")
def the_peer_does_not_know_our_key(nodes: PlayedNodes) -> None:
    nodes.extra = nodes.extra.replace("/key", "/host")


@planted(state_folder="fail")
def a_state_folder_that_is_read_only(nodes: PlayedNodes) -> None:
    state = nodes.folder / "state-www4"
    frozen = f"mount --bind {state} {state}\nmount -o remount,bind,ro {state}\n"
    (nodes.of("www4") / "mounts").open("a").write(frozen)


@planted(rsync="fail")
def rsync_is_too_old(nodes: PlayedNodes) -> None:
    play(nodes.of("www4") / "bin/rsync", "#!/bin/sh\necho 'rsync  version 3.1.3  protocol version 31'\n")


# Each time from other corners, so that one finding cannot stand for another; what is left over is planted alone.
TOGETHER = [
    [
        the_volume_is_mounted_at_boot, heartbeat_has_no_script_for_a_service, others_can_read_the_key,
        a_service_is_started_at_boot, the_nas_is_not_mounted, the_disk_is_gone, the_agent_is_an_older_one,
        nothing_starts_it, the_nodes_have_different_resource_files, a_link_leads_to_what_is_not_on_the_volume,
    ], [
        the_disk_below_drbd_is_mounted_at_boot, nothing_makes_a_backup_let_go, the_key_is_none,
        a_service_is_started_by_its_links, another_share_is_mounted_there, another_disk_is_there,
        cron_passes_over_the_file, everybody_may_write_to_the_volume,
    ], [
        haresources_differ, the_nodes_have_different_keys, a_service_of_the_list_is_started_at_boot,
        a_folder_is_not_linked_here, the_nas_is_read_only, the_disk_has_no_file_system, it_is_started_twice,
        rsync_is_too_old, the_resource_is_down,
    ], [
        haresources_are_missing_here, a_folder_is_not_linked_there, the_disk_is_mounted_all_the_time,
        a_timer_starts_it_as_well, drbds_configuration_has_a_mistake,
    ], [
        drbd_utils_are_not_installed, something_else_is_mounted_where_the_disk_comes, cron_does_not_find_the_program,
        the_peer_is_away,
    ], [
        the_module_is_not_loaded, cron_and_configuration_are_out_of_step, the_peer_does_not_know_our_key,
        a_state_folder_that_is_read_only,
    ],
]  # fmt: skip
APART = [plant for plant, _ in PLANTS.values() if not any(plant in group for group in TOGETHER)]


@pytest.mark.parametrize("plants", [*TOGETHER, *([one] for one in APART)], ids=lambda plants: plants[0].__name__)
def test_what_is_broken_is_found_and_nothing_else(nodes: PlayedNodes, plants: list[Plant]) -> None:
    expected = [found for plant, found in PLANTS.values() if plant in plants]
    assert sum(map(len, expected)) == len({name for found in expected for name in found}), "one would hide another"
    for plant in plants:
        plant(nodes)
    assert wrong(nodes) == {
        told.replace("ha cf", "ha.cf"): state for found in expected for told, state in found.items()
    }


def test_what_pair_render_makes_is_found_good(nodes: PlayedNodes) -> None:
    """Its files of DRBD, Heartbeat, cron and the list of services, as they are; of the fakes only what they need."""
    for words in (["init"], ["render", "--out", str(nodes.folder / "pair")]):
        argv = [sys.executable, "-P", "-m", "drbdbackup", "pair", *words]
        made = subprocess.run(argv, cwd=nodes.folder, capture_output=True, timeout=60)
        assert made.returncode == 0, made.stderr
    for node in ("www4", "www5"):
        shutil.copytree(nodes.folder / "pair" / node / "etc", nodes.of(node) / "etc", dirs_exist_ok=True)
        (nodes.of(node) / "etc/init.d/mysql").rename(nodes.of(node) / "etc/init.d/mariadb")
    shutil.copy(nodes.folder / "pair/www4/etc/drbdbackup/not-at-boot", nodes.folder)
    found = diagnosis(nodes)
    assert [check for check in found if check["state"] != "ok"] == []
    assert {check["about"] for check in found if check["check"] == "boot"} == {"mariadb", "apache2"}


def test_without_ssh_the_nodes_know_each_other_by_the_nas(nodes: PlayedNodes) -> None:
    nodes.extra = ""
    assert wrong(nodes) == {"peer www5": "warn"}
    nodes.write("www5", "etc/ha.d/authkeys", "auth 1\n1 sha1 another-key-of-this-node\n", 0o600)
    assert wrong(nodes) == {"peer www5": "warn"}  # www5 has said nothing new
    assert wrong(nodes, "www5") == {"peer www4": "warn", "same authkeys www4": "warn"}  # nor www4 since
    assert wrong(nodes) == {"peer www5": "warn", "same authkeys www5": "fail"}


def test_a_run_tells_what_is_set_up_too(nodes: PlayedNodes) -> None:
    nodes.extra = ""
    (nodes.of("www5") / "etc/apache2").unlink()
    nodes.backs_up("www5")  # it stands down
    assert wrong(nodes) == {"peer www5": "warn", "same links www5": "fail"}


def test_neither_secret_nor_a_digest_that_tells_it_leaves_the_node(nodes: PlayedNodes) -> None:
    told = b"".join(file.read_bytes() for file in (nodes.folder / "nas-behind").rglob("*.db"))
    said = nodes.run("www4", "doctor", "--json").stdout
    key = "8f14e45fceea167a5a36dedd4bea2543"
    authkeys = (nodes.of("www4") / "etc/ha.d/authkeys").read_bytes()
    for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5):
        assert digest(authkeys).hexdigest().encode() not in told
    assert b'"authkeys":"' in told.replace(b'"authkeys": "', b'"authkeys":"')
    assert key.encode() not in told
    assert b"geheim" not in told
    assert key not in said


def test_with_pacemaker_nothing_of_heartbeat_is_missed(nodes: PlayedNodes) -> None:
    for node in ("www4", "www5"):
        nodes.write(node, "etc/corosync/corosync.conf", "totem { version: 2 }\n")
    assert wrong(nodes) == {}, "Debian's corosync comes with one: Heartbeat's files say who looks after the pair"
    for node in ("www4", "www5"):
        shutil.rmtree(nodes.of(node) / "etc/ha.d")
    assert wrong(nodes) == {"agent Pacemaker": "warn"}, "it is not below /usr/lib/ocf here"
    assert "Pacemaker" in next(check["because"] for check in diagnosis(nodes) if check["check"] == "cluster")


def test_with_a_role_from_elsewhere_nothing_of_drbd_is_asked_for(nodes: PlayedNodes) -> None:
    nodes.role = f'source = "file"\npath = "{nodes.folder}/role"'
    (nodes.folder / "role").write_text("Primary\n")
    checks = {check["check"] for check in diagnosis(nodes)}
    assert not any(check.startswith("drbd") or check == "same resource raid" for check in checks)
    assert {"role", "fstab", "same authkeys"} <= checks


def test_a_nas_that_hangs_does_not_hang_the_doctor(nodes: PlayedNodes) -> None:
    nodes.extra += "[limits]\nprobe = 1\n"
    nodes.mounts("www4", f"mount {nodes.device} {nodes.volume}")
    with share(nodes.folder / "nas", nodes.folder / "nas-behind") as played, stopped(played):
        began = time.monotonic()
        assert wrong(nodes) == {"target nas": "fail"}
        assert time.monotonic() - began < 60


def test_a_nas_whose_clock_is_off_is_found_and_no_node_is_blamed(nodes: PlayedNodes) -> None:
    nodes.mounts("www4", f"mount {nodes.device} {nodes.volume}")
    with weak_share(nodes.folder / "nas", nodes.folder / "nas-behind", "ahead"):
        assert wrong(nodes) == {"clock nas": "fail"}
        nodes.extra = ""
        assert wrong(nodes) == {"clock nas": "fail", "peer www5": "warn"}


def test_a_node_whose_clock_is_off_is_found_over_ssh(nodes: PlayedNodes) -> None:
    """What is no time says nothing of it."""
    for now, found in (("1000000000.5", {"clock www5": "fail"}), ("9" * 400, {}), ("NaN", {})):
        other = f"""sed 's/"now": [0-9.]*/"now": {now}/'"""
        play(nodes.of("www4") / "bin/ssh", f'#!/bin/sh\n/usr/bin/ssh "$@" | {other}\n')
        assert wrong(nodes) == found


def test_a_node_whose_clock_is_off_is_found_by_the_nas(nodes: PlayedNodes) -> None:
    nodes.extra = ""
    os.utime(nodes.folder / "nas-behind/drbdbackup/catalog/www5.db", (1, time.time() + 3600))
    assert wrong(nodes) == {"peer www5": "warn", "clock www5": "fail"}


def test_a_volume_that_hangs_does_not_hang_the_doctor(nodes: PlayedNodes) -> None:
    nodes.extra += "[limits]\nprobe = 1\n"
    nodes.mounts("www4", f"mount --bind {nodes.folder}/nas-behind {nodes.folder}/nas")
    nodes.role, nodes.resource = f'source = "file"\npath = "{nodes.folder}/role"', ""
    (nodes.folder / "role").write_text("Primary\n")
    with share(nodes.volume, nodes.folder / "behind") as played, stopped(played):
        assert wrong(nodes) == {"mount point raid": "fail"}


def test_a_peer_of_an_older_version_is_known_by_the_nas(nodes: PlayedNodes) -> None:
    refuse = "drbdbackup: refused: this is not for you"
    play(nodes.of("www4") / "bin/ssh", f"#!/bin/sh\necho '{refuse}' >&2\nexit 2\n")
    assert wrong(nodes) == {"peer www5": "warn"}


def test_a_disk_that_the_next_copy_does_not_fit_on_is_found(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "mounts").open("a").write(f"fallocate -l 24M {nodes.volume}/large\n")
    nodes.backs_up()
    nodes.roles("www4")
    disk_image(nodes.folder / "disk-www4.img", size="20M")
    assert nodes.run("www4", "target", "accept", "disk").returncode == 0
    assert wrong(nodes) == {"room disk": "fail"}


def test_without_a_terminal_there_are_plain_lines(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "units/apache2").write_text("enabled\n")
    ended = nodes.run("www4", "doctor")
    assert ended.returncode == 1
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("FAIL")]
    assert line.split()[:3] == ["FAIL", "boot", "apache2"]
    assert "-> systemctl disable apache2" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("www4: 1 FAIL, 0 WARN, ")
    assert "\x1b" not in ended.stdout


def test_on_a_terminal_there_are_colours(nodes: PlayedNodes) -> None:
    (nodes.of("www4") / "units/apache2").write_text("enabled\n")
    command = shlex.join(["env", "TERM=xterm-256color", "COLUMNS=160", *nodes.command("www4", "doctor")])
    status, seen = on_a_terminal(command, "nobody asks", b"")
    assert status == 1
    assert "\x1b[31mFAIL\x1b[0m" in seen
    assert re.search(r"\x1b\[32mOK *\x1b\[0m", seen)
    assert "systemctl disable apache2" in seen


def test_a_broken_catalog_is_a_finding(nodes: PlayedNodes) -> None:
    (nodes.folder / "state-www4/catalog.db").write_bytes(b"nonsense" * 1000)
    assert wrong(nodes) == {"catalog": "fail"}


def test_a_program_that_others_can_change_is_named(tmp_path: Path) -> None:
    """Installed in somebody's home and started by root's cron, it does what he likes."""
    shutil.copytree(ROOT / "drbdbackup", tmp_path / "his/drbdbackup")
    os.chown(tmp_path / "his", 33, 33)
    pair = PlayedPair(tmp_path)
    command = [sys.executable, "-P", "-m", "drbdbackup", "--config", str(pair.config("www4")), "doctor", "--json"]
    for path, states in ((tmp_path / "his", ["fail"]), (ROOT, [])):
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(path)},
        )
        found = [one for one in json.loads(ended.stdout)["checks"] if one["check"] == "owners"]
        assert [one["state"] for one in found if one["about"] == "drbdbackup"] == states


def test_the_credentials_of_a_database_are_looked_at(tmp_path: Path) -> None:
    defaults = tmp_path / "backup.cnf"
    defaults.write_text("[client]\npassword = geheim\n")
    defaults.chmod(0o644)
    table = f'[resource.raid.database.shop]\nkind = "mariadb"\ndefaults_file = "{defaults}"\n'
    ended = PlayedPair(tmp_path, extra=table).run("www4", "doctor", "--json")
    [found] = [one for one in json.loads(ended.stdout)["checks"] if one["check"] == "defaults file"]
    assert (found["about"], found["state"], "0644" in found["because"]) == ("shop", "warn", True)
    assert "geheim" not in ended.stdout

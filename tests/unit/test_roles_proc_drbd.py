from __future__ import annotations

from pathlib import Path

import pytest

from drbdbackup.model.role import Connection, DiskState, PeerSeen, Role
from drbdbackup.roles import events2, proc_drbd
from tests.captured import CAPTURES, EIGHT, NINE, Capture

HEAD = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: F73C670A7EC572DB9CF3E5B \n"
COUNTS = "    ns:0 nr:0 dw:0 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n"
LINE = " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/Diskless C r-----\n"
EIGHTS = [capture for capture in CAPTURES if capture.version == EIGHT]
NINES = [capture for capture in CAPTURES if capture.version == NINE]


def links(peers: tuple[PeerSeen, ...]) -> list[tuple[object, ...]]:
    return [(peer.role, peer.connection, peer.disks, peer.syncing) for peer in peers]


@pytest.mark.parametrize("capture", EIGHTS, ids=str)
def test_proc_drbd_and_events2_see_the_same_in_each_captured_state(capture: Capture):
    here = proc_drbd.parse(capture.proc_drbd, "raid", 0)
    there = events2.parse(capture.events2, "raid")
    assert here.role is there.role is capture.expected.role
    assert (here.disks, here.suspended) == (there.disks, there.suspended)
    assert links(here.peers) == links(there.peers)
    assert bool(here.problem) is (here.role is Role.UNKNOWN)


@pytest.mark.parametrize("capture", NINES, ids=str)
def test_the_proc_drbd_of_9_tells_no_role(capture: Capture, tmp_path: Path):
    assert proc_drbd.parse(capture.proc_drbd, "raid", 0).role is Role.UNKNOWN
    (tmp_path / "drbd").write_text(capture.proc_drbd or "version: 9.3.3")
    assert proc_drbd.observe("raid", "/dev/drbd0", str(tmp_path / "drbd")) is None


def test_the_device_says_which_line_is_meant(tmp_path: Path):
    there = tmp_path / "drbd"
    other = LINE.replace(" 0:", "10:").replace("Primary/Secondary", "Secondary/Primary")
    there.write_text(HEAD + LINE + COUNTS + other + COUNTS)
    for device, role in (("/dev/drbd0", Role.PRIMARY), ("/dev/drbd10", Role.SECONDARY), ("/dev/drbd1", Role.UNKNOWN)):
        seen = proc_drbd.observe("raid", device, str(there))
        assert seen is not None
        assert seen.role is role


def test_a_device_that_is_not_drbds_has_no_line(tmp_path: Path):
    (tmp_path / "drbd").write_text(HEAD + LINE + COUNTS)
    seen = proc_drbd.observe("raid", "/dev/mapper/vg-web", str(tmp_path / "drbd"))
    assert seen is not None
    assert (seen.role, "/dev/mapper/vg-web is none of DRBD's" in seen.problem) == (Role.UNKNOWN, True)


def test_without_the_file_this_source_is_not_there(tmp_path: Path):
    assert proc_drbd.observe("raid", "/dev/drbd0", str(tmp_path / "none")) is None


@pytest.mark.parametrize("flags", ["C r-----", "C r----", "  r-----", "A r---d-", "B ra-u-s"])
def test_the_flags_of_8_3_and_8_4_are_read(flags: str):
    seen = proc_drbd.parse(HEAD + LINE.replace("C r-----", flags) + COUNTS, "raid", 0)
    assert (seen.role, seen.disks, seen.minors) == (Role.PRIMARY, (DiskState.UP_TO_DATE,), (0,))
    assert seen.suspended == ""


def test_suspended_io_is_told():
    assert proc_drbd.parse(HEAD + LINE.replace("r-----", "s-----"), "raid", 0).suspended == "not-told"


@pytest.mark.parametrize(
    ("link", "connection", "syncing"),
    [
        ("WFConnection", Connection.CONNECTING, ""),
        ("WFReportParams", Connection.CONNECTING, ""),
        ("StandAlone", Connection.STANDALONE, ""),
        ("BrokenPipe", Connection.BROKEN_PIPE, ""),
        ("PausedSyncT", Connection.CONNECTED, "PausedSyncT"),
        ("VerifyS", Connection.CONNECTED, "VerifyS"),
        ("Ahead", Connection.CONNECTED, "Ahead"),
    ],
)
def test_one_word_of_8_tells_the_link_and_what_goes_over_it(link: str, connection: Connection, syncing: str):
    [peer] = proc_drbd.parse(HEAD + LINE.replace("cs:Connected", f"cs:{link}"), "raid", 0).peers
    assert (peer.connection, peer.syncing) == (connection, syncing)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not that of DRBD 8.3 or 8.4"),
        ("version: 8.2.7\n" + LINE, "not that of DRBD 8.3 or 8.4"),
        (HEAD, "minor 0 is not in"),
        (HEAD + " 0: cs:Unconfigured\n", "is not configured: the resource is down"),
        (HEAD + LINE + LINE, "2 times"),
        (HEAD + LINE.replace(" C r-----", ""), "not as it should be"),
        (HEAD + LINE.replace("ro:", "st:"), "not as it should be"),
        (HEAD + LINE.replace("Primary/", "Leader/"), "'Leader' is no role"),
        (HEAD + LINE.replace("UpToDate/", "Sleeping/"), "'Sleeping' is no disk"),
        (HEAD + LINE.replace("cs:Connected", "cs:Courting"), "'Courting' is no connection"),
        (HEAD + LINE.replace("Primary/", "Unknown/"), "does not know the role"),
    ],
)
def test_what_is_not_whole_or_not_understood_is_no_role(text: str, words: str):
    seen = proc_drbd.parse(text, "raid", 0)
    assert seen.role is Role.UNKNOWN
    assert words in seen.problem

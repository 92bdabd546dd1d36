"""What rsync says of an entry is judged by what failed and why, and never by the entry's name."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.errors import FileTooLarge, TargetFull, TargetReadOnly, ToolError
from drbdbackup.model.problem import Problem
from drbdbackup.tools import rsync

NAMED = ("chown", "set_acl", "rsync_xal_set/lsetxattr", "f: chown (2)", "rsync: [receiver] chown")


@pytest.mark.parametrize("name", NAMED)
def test_a_full_target_is_one_whatever_the_names_of_the_files_that_had_no_room(name: str) -> None:
    said = f'rsync: [receiver] write failed on "/mnt/nas/data/{name}/big": No space left on device (28)'
    with pytest.raises(TargetFull):
        rsync.answered(11, [said, "rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]"])
    with pytest.raises(TargetFull):
        rsync.answered(
            23, [f'rsync: [generator] recv_generator: mkdir "/mnt/{name}" failed: Disk quota exceeded (122)']
        )
    with pytest.raises(TargetReadOnly):
        rsync.answered(23, [f'rsync: [receiver] mkstemp "/mnt/{name}" failed: Read-only file system (30)'])


def test_a_file_that_is_too_large_is_named_and_so_is_a_limit_of_ours() -> None:
    said = 'rsync: [receiver] write failed on "/proc/1/fd/7/a/big": File too large (27)'
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most, word in ((before[1], "file system"), (1 << 30, "`ulimit -f`")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(FileTooLarge) as caught:
                rsync.answered(11, [said])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (caught.value.path, word in caught.value.hint) == (b"/proc/1/fd/7/a/big", True)
        assert caught.value.message.startswith("a/big: ")


def test_too_little_memory_names_the_limit_that_we_have_set() -> None:
    said = "[receiver] out of memory: my_alloc caller (file=lib/pool_alloc.c, line=169)"
    with pytest.raises(ToolError) as caught:
        rsync.answered(22, [said])
    assert f"{proc.memory_for_untrusted_input() >> 20:,} MiB" in caught.value.hint
    with pytest.raises(ToolError) as caught:
        rsync.answered(12, [said])
    assert not caught.value.hint


@pytest.mark.parametrize("name", ["No space left on device", "x: Disk quota exceeded (122)", "Read-only file system"])
def test_a_file_that_is_called_like_an_error_ends_no_copy(name: str) -> None:
    assert rsync.answered(24, [f'file has vanished: "/srv/{name}"']) == ()
    said = f'rsync: [sender] send_files failed to open "/srv/{name}": Input/output error (5)'
    assert rsync.answered(23, [said]) == (said,)


@pytest.mark.parametrize(
    "said",
    [
        'rsync: [sender] link_stat "/srv/raid/site/index.php" failed: Not a directory (20)',
        'rsync: [sender] send_files failed to open "/srv/raid/site/index.php": Not a directory (20)',
        "rsync: [sender] get_acl: sys_acl_get_file(site/index.php, ACL_TYPE_ACCESS): No such file or directory (2)",
        "rsync: [sender] get_acl: sys_acl_get_file(site, ACL_TYPE_DEFAULT): Not a directory (20)",
        'rsync: [sender] get_xattr_names: llistxattr("/srv/raid/a",1024) failed: No such file or directory (2)',
        'rsync: [sender] get_xattr_data: lgetxattr("/srv/raid/a","user.b",0) failed: No such file or directory (2)',
        'file has vanished: "/srv/raid/site/index.php"',
        "WARNING: site/index.php failed verification -- update discarded (will try again).",
    ],
)
def test_what_vanished_or_is_tried_again_is_no_problem_beside_one_that_is(said: str) -> None:
    other = 'rsync: [sender] send_files failed to open "/srv/failed: Not a directory (20)": Permission denied (13)'
    acl = "rsync: [sender] get_acl: sys_acl_get_file(a, ACL_TYPE_ACCESS): Input/output error (5)"
    final = "ERROR: site/index.php failed verification -- update discarded."
    assert rsync.answered(23, [said, other, acl, final, "rsync error: some files (code 23)"]) == (other, acl, final)


@pytest.mark.parametrize(
    "said",
    [
        'rsync: [receiver] chown "/mnt/a" failed: Disk quota exceeded (122)',
        'rsync: [generator] chgrp "/mnt/a" failed: Disk quota exceeded (122)',  # the owner is right, the group is not
        'rsync: [receiver] rsync_xal_set: lsetxattr("/mnt/a","user.a") failed: No space left on device (28)',
        "rsync: [generator] set_acl: sys_acl_set_file(/mnt/a, ACL_TYPE_ACCESS): No space left on device (28)",
        'rsync: chown "/mnt/a" failed: Disk quota exceeded (122)',
    ],
)
def test_what_an_entry_could_not_be_given_is_no_full_target(said: str) -> None:
    assert rsync.answered(23, [said]) == (said,)
    assert rsync.is_of_metadata(said)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("rsync: [receiver] set_acl: xacl_set(www/.a2.AeB2AU, ACL_TYPE_ACCESS): Operation not supported (95)",
         Problem("top/www/a2", "ACL: Operation not supported")),
        ("rsync: [generator] set_acl: sys_acl_set_file(www/.a2.AeB2AU, ACL_TYPE_DEFAULT): Operation not supported (95)",
         Problem("top/www/.a2.AeB2AU", "ACL: Operation not supported")),
        ('rsync: [receiver] rsync_xal_set: fsetxattr("/proc/1/fd/5/w,\\#012w/.b.mfiRFj","user.k") failed: Denied (1)',
         Problem("top/w,\nw/b", "user.k: Denied")),
        ('rsync: [generator] chown "/proc/1/fd/5/a" failed: Operation not permitted (1)',
         Problem("top/a", "owner: Operation not permitted")),
        ('rsync: [receiver] rename "/proc/1/fd/5/w/.b.hzqcqc" -> "w/b": Operation not permitted (1)',
         Problem("top/w/b", "not replaced: Operation not permitted")),
        ('rsync: [sender] send_files failed to open "/a": Input/output error (5)',
         Problem("", 'rsync: [sender] send_files failed to open "/a": Input/output error (5)')),
    ],
)  # fmt: skip
def test_what_is_said_of_an_owner_or_an_attribute_names_the_entry(said: str, problem: Problem) -> None:
    assert rsync.problem_of(said, "/proc/1/fd/5/", b"top/") == problem


def test_what_a_peer_has_said_through_it_has_an_end() -> None:
    with pytest.raises(ToolError) as caught:
        rsync.answered(12, ["x" * 300_000] * 30)
    assert len(caught.value.message) < 26_000


def test_an_rsync_of_ours_obeys_no_variable_that_is_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHECKSUM_LIST", "none"), ("MAX_ALLOC", "2K"), ("PARTIAL_DIR", str(tmp_path / "partial"))):
        monkeypatch.setenv(f"RSYNC_{name}", value)
    (tmp_path / "from").mkdir()
    (tmp_path / "from/page").write_text("x")
    (tmp_path / "list").write_bytes(rsync.listing([b"page"]))
    holds = rsync.Holds(modes=True)
    source, target = f"{tmp_path}/from/", str(tmp_path / "to")
    for command in (
        rsync.filling(source, target, str(tmp_path / "list"), holds, 0),
        rsync.fetching(source, target, "", 30.0, 1 << 20),
    ):  # fmt: skip
        proc.run(command)
        (tmp_path / "to/page").unlink()
    proc.run(rsync.restoring_folder(source, target, holds))


def test_a_file_from_a_peer_does_not_fill_the_disk(tmp_path: Path) -> None:
    """The peer's rsync says how long it is while it sends; nothing here has asked for so much."""
    (tmp_path / "manifest.gz").write_bytes(b"x" * (3 << 20))
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    shell.chmod(0o755)
    for most, status in ((2 << 20, 1), (4 << 20, 0)):
        command = rsync.fetching(f"peer:{tmp_path}/manifest.gz", f"{tmp_path}/here", str(shell), 30.0, most)
        if status:
            with pytest.raises(ToolError, match="File too large"):
                proc.run(command)
        else:
            proc.run(command)
        assert (tmp_path / "here").exists() is not bool(status)


def test_what_a_peer_says_of_its_files_does_not_take_all_memory() -> None:
    asked = ("a/", "b/", rsync.Holds())
    for shell, most in (("ssh peer", proc.memory_for_untrusted_input()), ("", 0)):
        commands = (
            rsync.restoring(*asked, over=True, listing="x", shell=shell),
            rsync.restoring_tree(*asked, over=True, rules="", shell=shell), rsync.restoring_folder(*asked, shell=shell),
        )  # fmt: skip
        assert {command.memory for command in commands} == {most}

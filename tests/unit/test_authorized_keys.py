"""What drbdbackup does to authorized_keys: one line more or less, and nothing to anybody else's."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from drbdbackup.errors import DrbdBackupError, UsageError
from drbdbackup.tools.authorized_keys import Key, change, forced_line, granted, public_key, with_line, without

COMMAND = "/usr/local/bin/drbdbackup serve"


def a_key(letter: str = "a", kind: str = "ssh-ed25519") -> Key:
    data = len(kind).to_bytes(4, "big") + kind.encode() + b"\0\0\0\x20" + letter.encode() * 32
    return Key(kind, base64.b64encode(data).decode())


KEY, OTHER = a_key("a"), a_key("b", "ssh-rsa")
OURS = forced_line(KEY, "www4", COMMAND)
THEIRS = f"# the admins\n{OTHER.kind} {OTHER.blob} jo@desk\n"


def test_the_line_is_the_one_of_the_pages() -> None:
    assert f'restrict,command="{COMMAND}" {KEY.kind} {KEY.blob} drbdbackup@www4' == OURS


def test_a_public_key_is_one_line_that_is_a_key() -> None:
    assert public_key(f"{KEY.kind} {KEY.blob} root@www4\n") == KEY


@pytest.mark.parametrize("text", [
    "", "\n", "ssh-ed25519", f"{KEY.kind} {OTHER.blob}", f"{KEY.kind} {KEY.blob}\n{KEY.kind} {KEY.blob}\n",
    f'command="id" {KEY.kind} {KEY.blob}', f"ssh-ed25519 {KEY.blob[:-3]}", f"ssh-dss {KEY.blob}",
    f"{KEY.kind} {KEY.blob}\rssh-rsa AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----",
])  # fmt: skip
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        public_key(text)


@pytest.mark.parametrize("command", [
    "serve", "/bin/sh -c id", 'x" serve', "/bin/x; serve", "/a$b serve", "/a\nb serve", "/opt/ä serve",
])  # fmt: skip
def test_what_cannot_be_a_forced_command_is_refused(command: str) -> None:
    with pytest.raises(UsageError):
        forced_line(KEY, "www4", command)


@pytest.mark.parametrize("text", ["", THEIRS, THEIRS.rstrip("\n"), "nonsense that nobody understands\n"])
def test_the_line_comes_to_the_end_once(text: str) -> None:
    once = with_line(text, OURS)
    assert once.splitlines() == [*text.splitlines(), OURS]
    assert once.endswith("\n")
    assert with_line(once, OURS) == once


@pytest.mark.parametrize("options", [
    "", 'command="/bin/sh"', f'command="{COMMAND}"', f'restrict,pty,command="{COMMAND}"', "restrict",
    f'restrict,command="{COMMAND} --all"', f'restrict,command="{COMMAND}",port-forwarding',
])  # fmt: skip
def test_the_same_key_with_other_rights_is_left_alone_and_refused(options: str) -> None:
    """A line behind it would do nothing, and that one is somebody's."""
    text = THEIRS + f"{options} {KEY.kind} {KEY.blob} jo@desk\n".lstrip()
    with pytest.raises(DrbdBackupError, match="line 3"):
        with_line(text, OURS)


@pytest.mark.parametrize("options", [
    f'restrict,command="{COMMAND}"', f'from="192.168.12.0/24,10.0.0.1",restrict,command="{COMMAND}"',
    f'command="{COMMAND}",restrict,no-pty', f'restrict,expiry-time="20300101",command="{COMMAND}"',
])  # fmt: skip
def test_the_same_key_with_the_same_rights_or_fewer_is_there(options: str) -> None:
    text = THEIRS + f"{options}\t{KEY.kind} {KEY.blob} anything\n"
    assert with_line(text, OURS) == text


def test_only_our_line_of_that_node_is_taken_out() -> None:
    others = [
        THEIRS, forced_line(a_key("c"), "www5", COMMAND) + "\n", f"{KEY.kind} {KEY.blob} drbdbackup@www4\n",
        f'command="{COMMAND}" {KEY.kind} {KEY.blob} drbdbackup@www4\n', "#" + OURS + "\n",
        f'restrict,command="/bin/false" {KEY.kind} {KEY.blob} drbdbackup@www4\n',
    ]  # fmt: skip
    text = "".join(others)
    assert without(text + OURS + "\n", "www4") == (text, [OURS])
    assert without(text, "www4") == (text, [])


def test_only_a_line_feed_ends_a_line() -> None:
    """As sshd has it: what Python takes for the end of a line is a part of a comment there."""
    text = f"# jo's\x0c{OURS}\n"
    assert with_line(text, OURS) == text + OURS + "\n"
    assert without(text, "www4") == (text, [])


def test_quotes_and_commas_in_an_option_are_one_option() -> None:
    found = granted(f'environment="A=\\"x, y\\"",from="a,b",restrict {KEY.kind} {KEY.blob} jo s desk')
    assert found is not None
    assert found.options == ('environment="A=\\"x, y\\""', 'from="a,b"', "restrict")
    assert (found.key, found.comment) == (KEY, "jo s desk")


@pytest.mark.parametrize("line", ["", "# x", "restrict", f"restrict {KEY.kind}", f'command="x {KEY.kind} {KEY.blob}'])
def test_what_sshd_would_not_take_grants_nothing(line: str) -> None:
    assert granted(line) is None


def test_the_file_keeps_what_it_is(tmp_path: Path) -> None:
    real, file = tmp_path / "elsewhere/keys", tmp_path / "authorized_keys"
    real.parent.mkdir()
    real.write_bytes(THEIRS.encode() + b"# caf\xe9\n")
    real.chmod(0o640)
    os.utime(real, ns=(1, 1))
    file.symlink_to(real)
    assert change(str(file), lambda text: with_line(text, OURS))
    assert file.is_symlink()
    assert real.read_bytes() == THEIRS.encode() + b"# caf\xe9\n" + OURS.encode() + b"\n"
    assert real.stat().st_mode & 0o7777 == 0o640
    before = real.stat()
    assert not change(str(file), lambda text: with_line(text, OURS))
    assert (real.stat().st_ino, real.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(real.parent) == ["keys"]


def test_where_there_is_none_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "home/.ssh/authorized_keys"
    assert change(str(file), lambda text: with_line(text, OURS))
    assert (file.stat().st_mode & 0o7777, file.parent.stat().st_mode & 0o7777) == (0o600, 0o700)


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "authorized_keys"
    file.write_text(f"{KEY.kind} {KEY.blob}\n")
    with pytest.raises(DrbdBackupError):
        change(str(file), lambda text: with_line(text, OURS))
    assert file.read_text() == f"{KEY.kind} {KEY.blob}\n"
    assert os.listdir(tmp_path) == ["authorized_keys"]

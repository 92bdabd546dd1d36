"""sshd's authorized_keys: which keys may do what, and how a forced command for another node gets into it, and out.

No line of anybody else's is ever changed or moved. The file is replaced by one rename and keeps mode, owner and
attributes, so that a crash cannot lock anybody out. Format: sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from msgspec import Struct

from drbdbackup import durable
from drbdbackup.errors import Failure, UsageError

_KINDS = re.compile(r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9-]+@openssh\.com)\Z", re.ASCII)
_OPTION = re.compile(r'(?:[^ \t,"]|"(?:\\"|[^"])*")+')
_COMMAND = re.compile(r"[A-Za-z0-9/._+ -]+ serve\Z", re.ASCII)
_NARROWING = ("from=", "expiry-time=", "no-", "verify-required")  # what an admin may have put before ours
_BLANK = " \t\r\n"  # sshd's; Python knows more
OWNER = "drbdbackup@"


class Key(Struct, frozen=True):
    """A public key: its type and its bytes in base64."""

    kind: str
    blob: str


class Granted(Struct, frozen=True):
    """A line that grants something: `options` as they stand there, one by one."""

    options: tuple[str, ...]
    key: Key
    comment: str


def public_key(text: str) -> Key:
    """The key of a public key file's one line. Raises UsageError for anything else."""
    words = text.strip().split()
    if len(text.strip().splitlines()) != 1 or len(words) < 2 or not _is_key(words[0], words[1]):
        raise UsageError("this is no public key", "It is one line, like: ssh-ed25519 AAAA... root@www4")
    return Key(words[0], words[1])


def forced_line(key: Key, node: str, command: str) -> str:
    """The line that lets `node`, by its key, run `command` here and nothing else. Raises UsageError."""
    if not _COMMAND.match(command):
        raise UsageError(f"{command!r} cannot be a forced command", "Install drbdbackup under a plain path.")
    return f'restrict,command="{command}" {key.kind} {key.blob} {OWNER}{node}'


def granted(line: str) -> Granted | None:
    """What a line grants; None for a comment, and for what sshd would not take for a key either."""
    rest, options = line.strip(_BLANK), []
    if rest.startswith("#"):
        return None
    if not _KINDS.match(rest.partition(" ")[0]):
        while found := _OPTION.match(rest):
            options.append(found[0])
            rest = rest[found.end() :]
            if not rest.startswith(","):
                break
            rest = rest[1:]
    words = re.split(r"[ \t]+", rest.strip(_BLANK), maxsplit=2)
    if len(words) < 2 or not _is_key(words[0], words[1]):
        return None
    return Granted(tuple(options), Key(words[0], words[1]), words[2] if len(words) > 2 else "")


def with_line(text: str, line: str) -> str:
    """The file's text with the line at its end, or as it is if the same is granted already.

    Raises DrbdBackupError if the key is there with other rights: sshd goes by the first line that has it.
    """
    wanted = granted(line)
    assert wanted is not None  # noqa: S101  `forced_line` made it
    for number, there in enumerate(text.split("\n"), 1):
        found = granted(there)
        if found is None or found.key != wanted.key:
            continue
        if _is_as_strict(found, wanted):
            return text
        raise Failure(
            f"line {number} of authorized_keys has this very key, with other rights",
            "sshd uses the first line with a key. Check that line, remove it yourself, and try again.",
        )
    return text + ("" if text.endswith("\n") or not text else "\n") + line + "\n"


def without(text: str, node: str) -> tuple[str, list[str]]:
    """The text without the lines that `forced_line` made for a node, and these lines; all others stay as they are."""
    kept: list[str] = []
    gone: list[str] = []
    for line in re.findall(r"[^\n]*\n|[^\n]+\Z", text):
        found = granted(line)
        ours = found is not None and found.comment.strip() == OWNER + node and _is_ours(found)
        (gone if ours else kept).append(line)
    return "".join(kept), [line.rstrip("\n") for line in gone]


def read(path: str) -> str:
    """The file's text, "" if there is none; bytes that are no UTF-8 survive."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def change(path: str, edit: Callable[[str], str]) -> bool:
    """Replace the file by what `edit` makes of it, at once; whether anything changed. What is new is root's alone."""
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with _alone(folder) as at:
        before = read(real)
        after = edit(before)
        if after == before:
            return False
        with durable.replacing(at, os.path.basename(real)) as file:
            _be_like(file.fileno(), real)
            file.write(after.encode(errors="surrogateescape"))
    return True


@contextmanager
def _alone(folder: str) -> Iterator[int]:
    """The open folder. Two of us at once must not lose a line; what was done lasts."""
    with durable.opened_folder(folder) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
        durable.sync_opened(handle)


def _be_like(handle: int, path: str) -> None:
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return  # it was made 0600
    os.fchown(handle, seen.st_uid, seen.st_gid)
    os.fchmod(handle, seen.st_mode & 0o7777)
    with suppress(OSError):  # a file system without them
        for name in os.listxattr(path):
            os.setxattr(handle, name, os.getxattr(path, name))


def _is_key(kind: str, blob: str) -> bool:
    """Whether it is a type of key, and base64 of one that says so itself."""
    if not _KINDS.match(kind):
        return False
    try:
        data = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    return data[:4] == len(kind).to_bytes(4, "big") and data[4 : 4 + len(kind)] == kind.encode()


def _is_ours(found: Granted) -> bool:
    commands = [option for option in found.options if option.startswith("command=")]
    return "restrict" in found.options and len(commands) == 1 and commands[0].endswith(' serve"')


def _is_as_strict(found: Granted, wanted: Granted) -> bool:
    """Whether a line has all of our options, and beside them only what narrows it further."""
    beside = [option for option in found.options if option not in wanted.options]
    return set(wanted.options) <= set(found.options) and all(option.startswith(_NARROWING) for option in beside)

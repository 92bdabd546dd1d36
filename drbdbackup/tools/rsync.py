"""rsync: its argv, its output and what its exit statuses mean (rsync(1), 3.2 or newer).

Names go through --files-from with `./` before each (rsync drops those that begin with # or ; otherwise) and never
through argv. `--delete` is never given: what an in-place restore deletes is decided entry by entry.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from msgspec import Struct

from drbdbackup import plain_file
from drbdbackup.errors import FileTooLarge, Killed, TargetFull, TargetReadOnly, ToolError, hint_for
from drbdbackup.model.problem import Problem
from drbdbackup.proc import FOREVER, LONGEST_LINE, Command, memory_for_untrusted_input
from drbdbackup.tools import ssh

# Before each item: a peer has our rsync print what it likes, also in front of a line of its own.
_KNOWN_BY = secrets.token_hex(16)
OUT_FORMAT = f"--out-format={_KNOWN_BY}%i|%C|%l|%n"
LONGEST_ITEM = 1 << 16  # bytes of such a line; a path with all of its bytes escaped has a quarter of that
_KEPT = 1000  # lines of stderr: where a folder is restored to can perhaps hold no ACL of any file
_KILLED = (20, -9, -15, 137, 143)  # 20: by TERM, HUP or INT
VANISHED, SOME_FAILED = 24, 23
_OUT_OF_MEMORY = 22
# What whoever starts us may have set for rsyncs of his own. With two of these no copy is made.
_NOBODYS = tuple(
    (f"RSYNC_{name}", "")
    for name in ("CHECKSUM_LIST", "COMPRESS_LIST", "ICONV", "MAX_ALLOC", "OLD_ARGS", "PARTIAL_DIR", "PROTECT_ARGS")
)
ANSWERED = frozenset({0, SOME_FAILED, VANISHED})
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
_OPEN_FOLDER = re.compile(r"/proc/\d+/fd/\d+/")
_TOO_LARGE = r'write failed on "(.*)": File too large'
# What fails comes first, then a path, then why: a path is what somebody who can write to the volume has thought up.
_METADATA = r"rsync: (?:\[\w+\] )?(?:rsync_xal_set|set_xattr_acl|set_acl|chown|chgrp)\b"
_OF_METADATA = (
    r'rsync: \[(?P<who>\w+)\] set_acl: \w+\((?P<path>.*), (?P<what>ACL)_TYPE_\w+\): (?P<why>.*) \(\d+\)',
    r'rsync: \[(?P<who>\w+)\] rsync_xal_set: \w+\("(?P<path>.*)","(?P<what>.*)"\) failed: (?P<why>.*) \(\d+\)',
    r'rsync: \[(?P<who>\w+)\] (?P<what>chown|chgrp) "(?P<path>.*)" failed: (?P<why>.*) \(\d+\)',
)
_OF_RENAME = r'rsync: \[(?P<who>receiver)\] (?P<what>rename) "(?P<path>[^"]*)" -> "[^"]*": (?P<why>.*) \(\d+\)'
_REFUSED_WRITE = r'(?m)^rsync: \[receiver\] write failed on ".*": (.*) \(\d+\)$'
_UNFINISHED = re.compile(rb"\.(.+)\.[0-9A-Za-z]{6}\Z")  # what the receiver calls a file before it is whole
# What is gone, also with a folder that has become something else, and what is tried again: no problem of an entry.
# Of what goes between its lstat(2) and the look at its ACL or attributes rsync does not say that it has vanished.
_PASSING = (
    r'(?:rsync: (?:\[sender\] )?(?:link_stat ".*" failed|send_files failed to open ".*"): Not a directory \(20\)'
    r'|rsync: (?:\[sender\] )?(?:get_acl: sys_acl_get_file\(.*, ACL_TYPE_(?:ACCESS|DEFAULT)\)'
    r'|get_xattr_names: llistxattr\(".*",\d+\) failed|get_xattr_data: lgetxattr\(".*",".*",\d+\) failed)'
    r': (?:No such file or directory \(2\)|Not a directory \(20\))'
    r'|file has vanished: ".*"|WARNING: .* failed verification -- update discarded \(will try again\)\.)\Z'
)
_ONLY_MODE = re.compile(rb"\.[fd]\.\.\.p\.+")
_WHY = r": ([^:]+) \(\d+\)\Z"
_WILDCARD, _SPECIAL = re.compile(rb"[*?[]"), re.compile(rb"[*?[\\]")


class Holds(Struct, frozen=True, kw_only=True):
    """What the receiving side can hold; the rest stays in the manifest.

    `privileges`: setuid bits and attributes in `security.` (capabilities of programs among them) come with it. Else
    they are given later, by the manifest. `closed`: owners, modes and ACLs come later, too; until then what comes is
    for root alone, whatever was there before.
    """

    owners: bool = True
    modes: bool = True
    acls: bool = True
    xattrs: bool = True
    symlinks: bool = True
    devices: bool = True
    specials: bool = True
    hard_links: bool = True
    privileges: bool = True
    closed: bool = False


class Item(Struct, frozen=True):
    """One line that rsync printed: itemized changes, the content's hash ("" if none), its length and the path."""

    changes: bytes
    hash: bytes
    length: int
    path: bytes

    @property
    def is_transferred(self) -> bool:
        """Whether it has brought a content; with --checksum it prints the hash of a file that had it, too."""
        return self.changes.startswith((b">", b"<"))

    @property
    def is_of_mode(self) -> bool:
        """Whether a plain file or a folder got another mode, and nothing else."""
        return _ONLY_MODE.fullmatch(self.changes) is not None


def archive(holds: Holds) -> tuple[str, ...]:
    """-aHAXS in as far as the receiver holds it, without recursion; times in ns, ids as numbers."""
    letters = "t" + "".join(
        letter
        for letter, held in (
            ("l", holds.symlinks), ("p", holds.modes or holds.closed), ("go", holds.owners and not holds.closed),
            ("H", holds.hard_links), ("A", holds.acls and not holds.closed), ("X", holds.xattrs),
        )
        if held
    )  # fmt: skip
    nodes = (*(("--devices",) if holds.devices else ()), *(("--specials",) if holds.specials else ()))
    # Else we could not read our own copy again; and what is root's until it gets its owner back must not run as root.
    readable = () if holds.owners else ("--chmod=Du+rwx,Fu+rw,ug-s",)
    if holds.closed:  # without -p a new file, which is root's, would get the mode of the one before, setuid bit and all
        readable = ("--chmod=D0700,F0600",)
    return (f"-{letters}S", *nodes, "--numeric-ids", "--modify-window=-1", *readable, *_unprivileged(holds))


def _unprivileged(holds: Holds) -> tuple[str, ...]:
    """With a filter for attributes rsync takes ACLs for some of them, unless that leaves them out, too."""
    if holds.privileges:
        return ()
    filters = ("--filter=-x security.*", "--filter=-x system.*") if holds.xattrs else ()
    return (*(("--chmod=Fug-s",) if holds.modes and not holds.closed else ()), *filters)


def filling(source: str, target: str, listing: str, holds: Holds, rate: int) -> Command:
    """Copy the listed entries whole into a fresh folder and print each one's hash.

    `--ignore-times`: a listed entry is known to differ, also where size and time say otherwise. `rate` is in bytes a
    second, 0 for as many as it can.
    """
    argv = (
        "rsync", *archive(holds), "--whole-file", "--ignore-times", "--no-implied-dirs", "--ignore-missing-args",
        f"--files-from={listing}", "--from0", "--checksum-choice=xxh128", *_limited(rate), OUT_FORMAT, _folder(source),
        _folder(target),
    )  # fmt: skip
    return Command(argv=argv, ok=ANSWERED, timeout=FOREVER, env=_NOBODYS)


def _limited(rate: int) -> tuple[str, ...]:
    return (f"--bwlimit={max(1, rate >> 10)}",) if rate else ()


def restoring(
    source: str, target: str, holds: Holds, *, over: bool | None, listing: str, shell: str = "", rate: int = 0
) -> Command:
    """Bring the listed entries of a folder, and nothing else, into another folder.

    `over` what is there, by content, whatever sizes and times say; a folder with something in it makes no way for
    something else. None: what has the size and the time has the content. `holds` is what the snapshot's medium holds,
    `shell` is for a source at a peer, `rate`, in bytes a second, only for one that is mounted here: a peer takes no
    option that it does not know (see `ssh_rate_limit`).
    """
    listed = ("--no-implied-dirs", "--ignore-missing-args", f"--files-from={listing}")
    limited = () if shell else _limited(rate)
    return _restoring(source, target, holds, (*listed, *_compared(over=over), *limited), shell)


def restoring_tree(source: str, target: str, holds: Holds, *, over: bool, rules: str, shell: str) -> Command:
    """Bring an entry, or all that is in a folder, from a peer through `shell`, which is rsync's -e.

    `rules` is a file that says what the peer may send (see `only_below`, `only_folders`), "" for anything into that
    folder.
    """
    filters = (f"--exclude-from={rules}",) if rules else ()
    return _restoring(source, target, holds, ("--recursive", *_compared(over=over), *filters), shell)


def restoring_folder(source: str, target: str, holds: Holds, *, shell: str = "") -> Command:
    """Give a folder what another one has of its own (owner, mode, times, attributes), and nothing that is in it."""
    return _restoring(_folder(source), target, holds, ("--recursive", "--exclude=*"), shell)


def _restoring(source: str, target: str, holds: Holds, options: tuple[str, ...], shell: str) -> Command:
    """What a peer says of its files is kept in memory, however many it names."""
    argv = (
        "rsync", *archive(holds), "--from0", *options, *_from_peer(shell), "--checksum-choice=xxh128", OUT_FORMAT, "--",
        source, target,
    )  # fmt: skip
    memory = memory_for_untrusted_input() if shell else 0
    return Command(argv=argv, ok=ANSWERED, timeout=FOREVER, kept=_KEPT, env=_NOBODYS, memory=memory)


def _from_peer(shell: str) -> tuple[str, ...]:
    """What comes is not held against what was asked for (`--old-args`), only against rules.

    An entry is asked for in hex; and of a list rsync takes names with a backslash and a wildcard for unasked.
    """
    return (*_through(shell), "--old-args") if shell else ()


def _compared(*, over: bool | None) -> tuple[str, ...]:
    if over is None:
        return ()
    return ("--checksum",) if over else ("--ignore-times",)


def only_below(name: bytes) -> bytes:
    """The content of a file with rules for --from0: the entry of this name, what is in it, and nothing beside it.

    rsync 3.2.5 and newer hold each name that a peer sends against them, and end the transfer at the first that is not
    allowed.
    """
    return b"+ /%s\0+ /%s/**\0- *\0" % (_literal(name), _quoted(name))


def only_folders(paths: Iterable[bytes]) -> bytes:
    """The same for these folders, each in the one before it, and nothing else that is in them."""
    return b"".join(b"+ /%s/\0" % _literal(path) for path in paths) + b"- *\0"


def _literal(name: bytes) -> bytes:
    """As the whole of a rule; without wildcards a backslash is a backslash."""
    return _quoted(name) if _WILDCARD.search(name) else name


def _quoted(name: bytes) -> bytes:
    return _SPECIAL.sub(rb"\\\g<0>", name)


def fetching(source: str, target: str, shell: str, timeout: float, largest_file: int) -> Command:
    """Copy a file, or a folder's files, from a peer; `timeout` in seconds is for all of it.

    Whatever the peer sends, no file gets more than `largest_file` bytes.
    """
    argv = ("rsync", "--times", "--recursive", *_through(shell), "--", source, target)
    memory = memory_for_untrusted_input()
    return Command(argv=argv, timeout=timeout, env=_NOBODYS, memory=memory, largest_file=largest_file)


def _through(shell: str) -> tuple[str, ...]:
    """Through ssh, with the arguments on its command line, where the forced command reads them."""
    return ("--no-protect-args", f"--rsh={shell}")


def listing(paths: Iterable[bytes]) -> bytes:
    """The content of a --files-from file for --from0."""
    return b"".join(map(listed, paths))


def read_listing(file: BinaryIO) -> Iterator[bytes]:
    """The paths in a --files-from file, without all of them in memory."""
    rest = b""
    while piece := file.read(1 << 16):
        *whole, rest = (rest + piece).split(b"\0")
        yield from (path.removeprefix(b"./") for path in whole)


def listed(path: bytes) -> bytes:
    """One entry of it."""
    return b"./" + path + b"\0"


def item(line: bytes) -> Item | None:
    """One line of output, or None for what is not an item of our own rsync."""
    _, is_own, said = line.rstrip(b"\n").partition(_KNOWN_BY.encode())
    parts = said.split(b"|", 3)
    if not is_own or len(parts) != 4 or not parts[2].isdigit():
        return None
    return Item(parts[0], parts[1].strip(), int(parts[2]), _plain(parts[3]))


def _plain(path: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), path)


def answered(exit_status: int, stderr: Iterable[str]) -> tuple[str, ...]:
    """What went wrong for single entries (exit 23), or nothing; raises for what ends the copy."""
    lines = [line.rstrip() for line in stderr if line.strip()]
    reasons = {_why(line) for line in lines if not is_of_metadata(line)}
    if reasons & {"No space left on device", "Disk quota exceeded"}:
        raise full(is_quota="No space left on device" not in reasons)
    if "Read-only file system" in reasons:
        raise TargetReadOnly("the target has become read-only", "Check its disk: see `dmesg`.")
    too_large = (found for line in lines if (found := re.search(_TOO_LARGE, line)))
    if exit_status not in ANSWERED and (found := next(too_large, None)):
        error = FileTooLarge(*_too_large(_shown(found[1])))
        error.path = _plain(os.fsencode(found[1]))
        raise error
    if exit_status not in ANSWERED:
        ssh.refuse_busy(lines)
        if exit_status in _KILLED:
            raise Killed("rsync was killed")
        how = f"was killed by signal {-exit_status}" if exit_status < 0 else f"ended with exit status {exit_status}"
        said = "\n".join(_shown(line)[:LONGEST_LINE] for line in lines[-25:])
        raise ToolError(f"rsync {how}\n{said}", _too_little_memory() if exit_status == _OUT_OF_MEMORY else "")
    if exit_status != SOME_FAILED:
        return ()
    return tuple(line for line in lines if not line.startswith("rsync error:") and not re.match(_PASSING, line))


def _too_little_memory() -> str:
    most = memory_for_untrusted_input() >> 20
    return f"{hint_for(errno.ENOMEM)} One that gets files from a peer may take {most:,} MiB."


def _too_large(path: str) -> tuple[str, str]:
    """Message and hint."""
    if plain_file.is_size_limited():
        return f"{path}: the file is larger than this process may write", hint_for(errno.EFBIG)
    return f"{path}: the file is too large for where it goes", "Take another file system for it, or leave it out."


def _shown(line: str) -> str:
    """A line without the folder as rsync was given it: an open one of ours, which is nowhere any more."""
    return _OPEN_FOLDER.sub("", line)


def refused_write(message: str) -> str:
    """Why what rsync wrote to would take no more, in the kernel's words; "" if that is not what it said."""
    found = re.search(_REFUSED_WRITE, message)
    return found[1] if found else ""


def full(*, is_quota: bool) -> TargetFull:
    """Nothing more can be written to the target."""
    message = "a quota on the target is used up" if is_quota else "no space is left on the target"
    error = TargetFull(message, "Remove something there, or let it keep fewer copies.")
    error.is_quota = is_quota
    return error


def is_of_links(line: str) -> bool:
    """Whether it says that a file has as many names as it can have."""
    return _why(line) == "Too many links"


def is_of_depth(line: str) -> bool:
    """Whether it says that a folder lies deeper than it can go: it has no memory for it, and says so of each above."""
    return _why(line) == "Cannot allocate memory"


def is_of_metadata(line: str) -> bool:
    """Whether it says that an entry could not be given an owner or an attribute. The entry is there all the same.

    Of an attribute that is too large for it, ext4 says that no space is left.
    """
    return bool(re.match(_METADATA, line))


def problem_of(line: str, target: str, base: bytes) -> Problem:
    """What a line on an owner, an ACL, an attribute or a name says that is wrong with an entry.

    `target` is the folder that rsync brings to, `base` what that is called, with a slash. Other lines are of no
    entry.
    """
    found = next(filter(None, (re.fullmatch(form, line) for form in (*_OF_METADATA, _OF_RENAME))), None)
    if found is None:
        return Problem("", line)
    folder, _, name = os.fsencode(found["path"].removeprefix(target)).rpartition(b"/")
    if found["who"] == "receiver" and (unfinished := _UNFINISHED.fullmatch(name)):
        name = unfinished[1]
    path = _plain(folder + b"/" + name if folder else name)
    what = {"chown": "owner", "chgrp": "owner", "rename": "not replaced"}.get(found["what"], found["what"])
    return Problem.at(base + path, f"{what}: {found['why']}")


def _why(line: str) -> str:
    """The kernel's words at the end of a line; "" if there are none."""
    found = re.search(_WHY, line)
    return found[1] if found else ""


def _folder(path: str) -> str:
    return os.path.join(path, "")

"""rsync: its argv, its output and what its exit statuses mean (rsync(1), 3.2 or newer).

Names go through --files-from with `./` before each (rsync drops those that begin with # or ; otherwise) and never
through argv. `--delete` is never given: what an in-place restore deletes is decided entry by entry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from drbdbackup.errors import Killed, TargetError, TargetFull, ToolError
from drbdbackup.proc import FOREVER, Command

OUT_FORMAT = "--out-format=%i|%C|%l|%n"
_KILLED = (20, -9, -15, 137, 143)  # 20: by TERM, HUP or INT
VANISHED, SOME_FAILED = 24, 23
ANSWERED = frozenset({0, SOME_FAILED, VANISHED})
_ESCAPED = re.compile(rb"\\#([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Holds:
    """What the receiving side can hold; the rest stays in the manifest."""

    owners: bool = True
    modes: bool = True
    acls: bool = True
    xattrs: bool = True
    symlinks: bool = True
    devices: bool = True
    specials: bool = True
    hard_links: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One line that rsync printed: itemized changes, the content's hash ("" if none), its length and the path."""

    changes: bytes
    hash: bytes
    length: int
    path: bytes


def archive(holds: Holds) -> tuple[str, ...]:
    """-aHAXS in as far as the receiver holds it, without recursion; times in ns, ids as numbers."""
    letters = "t" + "".join(
        letter
        for letter, held in (
            ("l", holds.symlinks), ("p", holds.modes), ("go", holds.owners), ("H", holds.hard_links),
            ("A", holds.acls), ("X", holds.xattrs),
        )
        if held
    )  # fmt: skip
    nodes = (*(("--devices",) if holds.devices else ()), *(("--specials",) if holds.specials else ()))
    readable = () if holds.owners else ("--chmod=Du+rwx,Fu+rw",)  # else we could not read our own copy again
    return (f"-{letters}S", *nodes, "--numeric-ids", "--modify-window=-1", *readable)


def filling(source: str, target: str, listing: str, holds: Holds) -> Command:
    """Copy the listed entries whole into a fresh folder and print each one's hash.

    `--ignore-times`: a listed entry is known to differ, also where size and time say otherwise.
    """
    argv = (
        "rsync", *archive(holds), "--whole-file", "--ignore-times", "--no-implied-dirs", "--ignore-missing-args",
        f"--files-from={listing}", "--from0", "--checksum-choice=xxh128", OUT_FORMAT, _folder(source), _folder(target),
    )  # fmt: skip
    return Command(argv, ok=ANSWERED, timeout=FOREVER)


def restoring(
    source: str, target: str, holds: Holds, *, over: bool, listing: str = "", shell: str = ""
) -> Command:
    """Bring a tree (its content, if `source` ends with a slash) or a listed entry back into a folder.

    `over` what is there, by content, whatever sizes and times say; a folder with something in it makes no way for
    something else. `holds` is what the snapshot's medium holds, `shell` is for a source at a peer.
    """
    listed = (f"--files-from={listing}", "--from0", "--no-implied-dirs") if listing else ()
    argv = (
        "rsync", "--recursive", *archive(holds), "--checksum" if over else "--ignore-times",
        *listed, *_through(shell), "--checksum-choice=xxh128", OUT_FORMAT, "--",
        source, target,
    )  # fmt: skip
    return Command(argv, ok=ANSWERED, timeout=FOREVER)


def fetching(source: str, target: str, shell: str, timeout: float) -> Command:
    """Copy a file, or a folder's files, from a peer; `timeout` in seconds is for all of it."""
    return Command(("rsync", "--times", "--recursive", *_through(shell), "--", source, target), timeout=timeout)


def _through(shell: str) -> tuple[str, ...]:
    """Through ssh, with the arguments on its command line, where the forced command reads them.

    It calls an entry by another name than its own; a sender that must be asked for each name refuses that.
    """
    return ("--no-protect-args", "--trust-sender", f"--rsh={shell}") if shell else ()


def listing(paths: Iterable[bytes]) -> bytes:
    """The content of a --files-from file for --from0."""
    return b"".join(b"./" + path + b"\0" for path in paths)


def item(line: bytes) -> Item | None:
    """One line of output, or None for what is not an item."""
    parts = line.rstrip(b"\n").split(b"|", 3)
    if len(parts) != 4 or not parts[2].isdigit():
        return None
    path = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), parts[3])
    return Item(parts[0], parts[1].strip(), int(parts[2]), path)


def answered(exit_status: int, stderr: Iterable[str]) -> tuple[str, ...]:
    """What went wrong for single entries (exit 23), or nothing; raises for what ends the copy."""
    said = [line.rstrip() for line in stderr if line.strip()]
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in said):
        raise TargetFull("no space is left on the target", "Remove something there, or let it keep fewer copies.")
    if any("Read-only file system" in line for line in said):
        raise TargetError("the target has become read-only", "Look at its disk: dmesg | tail")
    if exit_status not in ANSWERED:
        if exit_status in _KILLED:
            raise Killed("rsync was killed")
        told = f"was killed by signal {-exit_status}" if exit_status < 0 else f"ended with exit status {exit_status}"
        raise ToolError(f"rsync {told}\n" + "\n".join(said[-25:]))
    return tuple(line for line in said if not line.startswith("rsync error:")) if exit_status == SOME_FAILED else ()


def _folder(path: str) -> str:
    return os.path.join(path, "")

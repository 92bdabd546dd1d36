"""Writes rendered files into a folder: a file that is as it should be is left alone, every other one is reported.

The folder is its owner's only; those below have the modes that they have on a node, because a copy takes them along.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum

from msgspec import Struct

from drbdbackup import durable
from drbdbackup.config.open_to_others import caller, open_to_others
from drbdbackup.errors import UsageError
from drbdbackup.pair.render import AUTHKEYS, Rendered

PRIVATE, FOLDER = 0o700, 0o755  # the second as on a node


class FileState(Enum):
    """What became of a file."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    LEFT = "left"  # of an earlier rendering, no longer one of the pair's


class WrittenFile(Struct, frozen=True):
    """A file below the folder, and what became of it."""

    path: str
    state: FileState


def write(
    out: str, nodes: Sequence[str], files: Sequence[Rendered], *, dry_run: bool = False
) -> tuple[WrittenFile, ...]:
    """Put the files of every node below `out`; with `dry_run` only say so. Raises UsageError for an unfit `out`."""
    check(out)
    if not dry_run:
        os.makedirs(out, exist_ok=True)
        check(out)  # where everybody may make folders, this may be another user's by now
        os.chmod(out, PRIVATE)
    wanted = [(os.path.join(node, file.path), file) for node in nodes for file in files]
    written = [_written(out, path, file, dry_run=dry_run) for path, file in wanted]
    known = {path for path, _ in wanted}
    return (*written, *(WrittenFile(path, FileState.LEFT) for path in _rendered_before(out) if path not in known))


def check(out: str) -> None:
    """A folder of ours, or none yet, or an empty one: another's is not taken over, whatever --out says.

    Nor one in which another user could have left a secret of his choice, or a symlink by which root writes elsewhere.
    Raises UsageError.
    """
    if os.path.lexists(out) and not os.path.isdir(out):
        raise UsageError(f"{out} is no folder", "Name a folder with --out; it is created if it does not exist.")
    if os.path.isdir(out) and os.listdir(out) and os.stat(out).st_mode & 0o077:
        hint = f"The files hold the pair's secret: name another folder, or `chmod 700 {out}`."
        raise UsageError(f"{out} is not empty, and others than its owner can look into it", hint)
    where = out
    while not os.path.lexists(where):
        where = os.path.dirname(where)
    for one in open_to_others(where, {0, os.geteuid(), caller()}) if os.geteuid() == 0 else ():
        if not one.is_groups or f" {where}" in one.why:
            raise UsageError(f"--out {out}: {one.why}", "Name a folder that only root can write: /root/pair, say.")


def _written(out: str, path: str, file: Rendered, *, dry_run: bool) -> WrittenFile:
    state = _state(os.path.join(out, path), file)
    if state is not FileState.UNCHANGED and not dry_run:
        _write(out, path, file)
    return WrittenFile(path, state)


def _state(path: str, file: Rendered) -> FileState:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as earlier:
            same = earlier.read() == file.text.encode() and os.fstat(earlier.fileno()).st_mode & 0o7777 == file.mode
    except FileNotFoundError:
        return FileState.CREATED
    except OSError:  # a link, a folder: whatever it is, it is not ours
        return FileState.CHANGED
    return FileState.UNCHANGED if same else FileState.CHANGED


def _write(out: str, path: str, file: Rendered) -> None:
    """Whole or not at all, and never readable for others before it is."""
    at = out
    for part in path.split("/")[:-1]:
        at = os.path.join(at, part)
        with suppress(FileExistsError):
            os.mkdir(at)
            os.chmod(at, FOLDER)
    name = os.path.basename(path)
    draft = f"{name}.new"  # always the same: these folders are copied to nodes, and no draft should be left in them
    with durable.opened_folder(at) as folder:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        with durable.replacing(folder, name, draft=draft) as stream:
            os.fchmod(stream.fileno(), file.mode)
            stream.write(file.text.encode())


def _rendered_before(out: str) -> Iterator[str]:
    """Every file below the folders that hold a node's files, those of a node that has another name now too."""
    here = sorted(os.listdir(out)) if os.path.isdir(out) else []
    nodes = [node for node in here if os.path.isfile(os.path.join(out, node, AUTHKEYS))]
    for node in nodes:
        for folder, _, names in sorted(os.walk(os.path.join(out, node))):
            yield from sorted(os.path.relpath(os.path.join(folder, name), out) for name in names)

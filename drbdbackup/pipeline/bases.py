"""The older copies on a target that a snapshot may be linked from: the newest whole one, and what crashes left.

What another node left may still be written to. So of what is unfinished only that counts which its writer had on the
medium, done with, before it wrote it down: nobody touches those files again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.pipeline.making import COPIED, MANIFEST, WHOLE
from drbdbackup.pipeline.plan import Base
from drbdbackup.targets import document, layout

ABILITIES = "abilities.json"


def newest_base(
    root: str, resource: str, trusted: Callable[[str], bool], abilities: Mapping[str, bool], stack: ExitStack
) -> Base | None:
    """The newest copy that is trusted and whose manifest is what its sidecar says; None if there is none.

    One that was made when the medium could hold something else is not for linking: what it holds is not what a copy
    made now would hold.
    """
    for one in reversed(layout.snapshots(root, resource)):
        folder = layout.snapshot_folder(root, resource, one.snapshot)
        file = layout.manifest(folder)
        if trusted(one.snapshot) and dict(one.abilities) == abilities and _is_whole(file, one.manifest_sha256):
            return Base(layout.data(folder), stack.enter_context(manifest.reading(file)))
    return None


def trust(damaged: Collection[str], verified: Collection[str]) -> Callable[[str], bool]:
    """Which snapshots may be linked from. Copies share content: once one is damaged, only those verified since are."""
    return lambda snapshot: snapshot in verified if damaged else True


def note_abilities(fresh: str, abilities: Mapping[str, bool]) -> None:
    """For the next run, should this one crash. It comes to the medium with what is noted as copied."""
    with open(os.path.join(fresh, ABILITIES), "x") as file:
        json.dump(dict(abilities), file)


def settle(root: str, fresh: str) -> None:
    """Bring a copy that is made to the medium, and note that for the next run: this one may not be let to publish.

    Raises TargetFull, TargetError, OSError.
    """
    layout.sync(root)
    os.close(os.open(os.path.join(fresh, WHOLE), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def clear_notes(fresh: str) -> None:
    """What was noted for the next run is no part of a snapshot."""
    for name in (ABILITIES, COPIED, WHOLE):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(fresh, name))


def left_behind(
    root: str, job: dict[str, Any], fresh: str, abilities: Mapping[str, bool], stack: ExitStack
) -> list[Base]:
    """What runs left unfinished, of any node, but for `fresh`: more places to link from, as far as they came."""
    found = []
    for folder in layout.partials(root, job["resource"]):
        if folder == fresh or _abilities_in(folder) != abilities or not os.path.isdir(layout.data(folder)):
            continue
        with suppress(OSError):  # its node may be clearing it away
            found.append(Base(layout.data(folder), _written_down(folder, stack, may_be_linked=not job["damaged"])))
    return found


def _written_down(folder: str, stack: ExitStack, *, may_be_linked: bool) -> Iterator[bytes]:
    """The lines of what it holds; without `may_be_linked` only of what was copied into it, from no older copy."""
    if may_be_linked and os.path.lexists(os.path.join(folder, WHOLE)):
        return until_damaged(stack.enter_context(manifest.reading(os.path.join(folder, MANIFEST))))
    return until_torn(stack.enter_context(open(os.path.join(folder, COPIED), "rb")))


def until_torn(file: BinaryIO) -> Iterator[bytes]:
    """The lines that were there when the file was opened, up to the first that is torn.

    Somebody may be adding to it, and a power cut or a share may show zeros for what has not come yet.
    """
    left = os.fstat(file.fileno()).st_size
    for line in file:
        left -= len(line)
        if left < 0 or not line.endswith(b"\n") or b"\0" in line or not _is_recorded(line):
            return
        yield line


def until_damaged(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines up to where they cannot be read: it is only one more place to link from."""
    with suppress(Damaged):
        yield from lines


def _is_recorded(line: bytes) -> bool:
    try:
        manifest.recorded(line)
    except Damaged:
        return False
    return True


def _abilities_in(folder: str) -> dict[str, Any] | None:
    try:
        return dict(document.read(os.path.join(folder, ABILITIES), 1 << 16))
    except (OSError, Damaged):
        return None


def _is_whole(file: str, sha256: str) -> bool:
    try:
        return manifest.digest_of(file) == sha256
    except OSError:
        return False

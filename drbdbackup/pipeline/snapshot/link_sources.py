"""The older copies on a target that a snapshot may be linked from: the newest whole one, and what crashes left.

What another node left may still be written to. So of what is unfinished only that counts which its writer had on the
medium, done with, before it wrote it down: nobody touches those files again. And it counts only with the signature of a
node: whoever can write to a share could have put it there.
"""

from __future__ import annotations

import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from drbdbackup import manifest, plain_file
from drbdbackup.catalog.signatures import OwnKey, is_signed
from drbdbackup.errors import Damaged, NothingFound, StateError, TargetError
from drbdbackup.pipeline.files.compare import recorded_below
from drbdbackup.pipeline.snapshot.copy_protocol import TargetFacts
from drbdbackup.pipeline.snapshot.plan import Base
from drbdbackup.pipeline.snapshot.workspace import COPIED, WHOLE
from drbdbackup.targets import document, layout
from drbdbackup.targets.sidecar import MANIFEST, Sidecar
from drbdbackup.tools import btrfs

ABILITIES = "abilities.json"
_SIGNED = "signed"  # how no line of a manifest begins
_TO_SIGN = b"drbdbackup-unfinished\n"
_LARGEST_CHUNK = 64 << 20  # bytes; of paths of 4 KiB each, as many entries as there are in one
_LARGEST_NOTES = 1 << 40  # bytes; never held in memory
_LONGEST_NOTE = 1024  # bytes


def make_tree(data: str, base: Base | None, *, subvolumes: bool) -> bool:
    """Make the fresh tree `data`, empty; with `subvolumes` a clone of the `base`, if that is one: then True."""
    if not subvolumes:
        os.mkdir(data, 0o700)
    elif base is not None and btrfs.is_subvolume(base.data):
        btrfs.snapshot(base.data, data)
        return True
    else:
        btrfs.create(data)
    return False


def newest_base(
    root: str, snapshots: Sequence[Sidecar], about: TargetFacts, abilities: Mapping[str, bool], stack: ExitStack,
    scratch: str, fetch: Callable[[str], None] = lambda _: None,
) -> Base | None:  # fmt: skip
    """The newest of `snapshots` that is trusted and whose manifest is what its sidecar says; None if there is none.

    Its manifest is read from a copy in the folder `scratch`, and where no node vouches for it, whole before it is used.

    They come oldest first, and one may be gone by now. One that was made when the medium could hold something else is
    not for linking: what it holds is not what a copy made now would hold. `fetch` puts a manifest to its place, where
    an engine has it.
    """
    trusted = _trust(about)
    for one in reversed(snapshots):
        folder = layout.snapshot_folder(root, one.resource, one.snapshot)
        here = os.path.join(scratch, "base.gz")
        if not trusted(one) or dict(one.abilities) != abilities:
            continue
        with suppress(OSError, Damaged, NothingFound, StateError, TargetError):
            fetch(one.snapshot)
            if manifest.copied(layout.manifest(folder), here) == one.manifest_sha256:
                if not about.manifests[one.snapshot]:
                    _read_through(here)
                return Base(layout.data(folder), stack.enter_context(manifest.reading(here)))
    return None


def _read_through(file: str) -> None:
    """Raises Damaged for a manifest that only seems to be one: half-way through a copy it is too late to do without."""
    with manifest.reading(file) as lines:
        deque(recorded_below(lines, b""), maxlen=0)


def _trust(about: TargetFacts) -> Callable[[Sidecar], bool]:
    """Which snapshots may be linked from: those that the nodes know to have made, with what they made of them.

    Copies share content: once one is damaged, only those verified since are.
    """

    def trusted(one: Sidecar) -> bool:
        is_recorded = about.manifests.get(one.snapshot) in ("", one.manifest_sha256)
        is_recorded = is_recorded and about.sidecars.get(one.snapshot, one.sha256) == one.sha256
        return is_recorded and (one.snapshot in about.verified or not about.damaged)

    return trusted


def note_abilities(fresh: str, abilities: Mapping[str, bool]) -> None:
    """For the next run, should this one crash. It comes to the medium with what is noted as copied."""
    with open(os.path.join(fresh, ABILITIES), "x") as file:
        json.dump(dict(abilities), file)


def note_whole(root: str, fresh: str, manifest_sha256: str, key: OwnKey) -> None:
    """Bring a copy that is made to the medium, and note that for the next run: this one may not be let to publish.

    Raises TargetFull, TargetError, OSError.
    """
    layout.sync(root)
    note = os.open(os.path.join(fresh, WHOLE), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(note, "wb") as file:
        file.write(signed(f"whole {manifest_sha256}\n".encode(), key))


def signed(lines: bytes, key: OwnKey) -> bytes:
    """The lines, and one that says whose they are."""
    return lines + f"{_SIGNED} {key.node} {key.sign(_TO_SIGN + lines)}\n".encode()


def clear_notes(fresh: str) -> None:
    """What was noted for the next run is no part of a snapshot."""
    for name in (ABILITIES, COPIED, WHOLE):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(fresh, name))


def left_behind(
    root: str, resource: str, fresh: str, abilities: Mapping[str, bool], stack: ExitStack, about: TargetFacts,
    scratch: str,
) -> list[Base]:  # fmt: skip
    """What runs left unfinished, of any node, but for `fresh`: more places to link from, as far as they came.

    Whole manifests are read from copies in the folder `scratch`.

    Where a copy on that target was found damaged, only what was copied afresh counts.
    """
    found: list[Base] = []
    for folder in layout.partials(root, resource):
        if folder == fresh or _abilities_in(folder) != abilities or not os.path.isdir(layout.data(folder)):
            continue
        with suppress(OSError, Damaged):  # its node may be clearing it away
            here = os.path.join(scratch, f"left-{len(found)}.gz")
            found.append(Base(layout.data(folder), _written_down(folder, stack, about, here)))
    return found


def _written_down(folder: str, stack: ExitStack, about: TargetFacts, here: str) -> Iterator[bytes]:
    """The lines of what it holds; once a copy is damaged only of what was copied into it, from no older one."""
    if not about.damaged and _is_signed_whole(folder, about.keys, here):
        return until_damaged(stack.enter_context(manifest.reading(here)))
    noted = plain_file.opened(os.path.join(folder, COPIED), _LARGEST_NOTES)
    return until_torn(stack.enter_context(io.BufferedReader(noted)), about.keys)


def until_torn(file: BinaryIO, keys: Mapping[str, str]) -> Iterator[bytes]:
    """The signed lines that were there when the file was opened, up to the first that is torn; `keys` by node.

    Somebody may be adding to it, and a power cut or a share may show zeros for what has not come yet.
    """
    left, size, chunk = os.fstat(file.fileno()).st_size, 0, list[bytes]()
    for line in until_damaged(plain_file.lines(file, manifest.LONGEST_LINE, COPIED)):
        left, size = left - len(line), size + len(line)
        if left < 0 or size > _LARGEST_CHUNK or not line.endswith(b"\n") or b"\0" in line:
            return
        if line.startswith(_SIGNED.encode()):
            if not _is_signed(b"".join(chunk), line, keys):
                return
            yield from chunk
            size, chunk = 0, []
        elif _is_recorded(line):
            chunk.append(line)
        else:
            return


def _is_signed_whole(folder: str, keys: Mapping[str, str], here: str) -> bool:
    """Whether a node says that all that the manifest there names is there. That is copied to the file `here`."""
    try:
        note = plain_file.content(os.path.join(folder, WHOLE), _LONGEST_NOTE)
        statement, _, by = note.partition(b"\n")
        if not _is_signed(statement + b"\n", by, keys):
            return False
        return statement == f"whole {manifest.copied(os.path.join(folder, MANIFEST), here)}".encode()
    except (OSError, Damaged, StateError):
        return False


def _is_signed(lines: bytes, by: bytes, keys: Mapping[str, str]) -> bool:
    words = by.decode("utf-8", "replace").split()
    key = keys.get(words[1], "") if len(words) == 3 else ""
    return bool(key) and is_signed(key, _TO_SIGN + lines, words[2])


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

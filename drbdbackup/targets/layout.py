"""Where everything is on a target, and the steps by which a snapshot appears there whole or not at all.

```
<root>/drbdbackup/target.json, catalog/<node>.db
<root>/drbdbackup/<resource>/<snapshot>/data/, snapshot.json, manifest.gz
<root>/drbdbackup/<resource>/.partial-<snapshot>/, .removing-<name>/, latest
<root>/drbdbackup/<resource>/safety/<snapshot>/
```
What a restore in place keeps of the volume lies in `safety`, apart: it is no backup, and nothing that looks for one
looks there, an older version neither. Only `publish` may make a snapshot's name appear; nothing here writes into a
published one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

from drbdbackup import durable
from drbdbackup.errors import NO_RIGHT, Damaged, NothingFound, TargetError, TargetFull, TargetUnsafe, ToolError
from drbdbackup.model.backup import Copy, is_snapshot_name
from drbdbackup.targets import sidecar
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import mount

DATA, ASIDE = "data", "aside"
PARTIAL, REMOVING, LATEST, SAFETY = ".partial-", ".removing-", "latest", "safety"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_NO_SYMLINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def home(root: str) -> str:
    """The one folder of ours on a medium."""
    return os.path.join(root, "drbdbackup")


def mark(root: str) -> str:
    """The file that says which target the medium is."""
    return os.path.join(home(root), "target.json")


def catalogs(root: str) -> str:
    """The folder of the nodes' published catalogs."""
    return os.path.join(home(root), "catalog")


def resource_folder(root: str, resource: str) -> str:
    """The folder of a resource's snapshots."""
    return os.path.join(home(root), resource)


def snapshot_folder(root: str, resource: str, snapshot: str) -> str:
    """The folder of a published snapshot. Raises NothingFound for what is not a snapshot's name."""
    if not is_snapshot_name(snapshot):
        raise NothingFound(f"{snapshot!r} is not a snapshot's name", "`drbdbackup list` shows them.")
    return os.path.join(resource_folder(root, resource), snapshot)


def safety_folder(root: str, resource: str) -> str:
    """The folder of what restores in place have kept."""
    return os.path.join(resource_folder(root, resource), SAFETY)


def published(root: str, resource: str, snapshot: str) -> str:
    """Where the snapshot of this name lies: among the backups, or in `safety`. Raises NothingFound as above."""
    folder = snapshot_folder(root, resource, snapshot)
    kept = os.path.join(safety_folder(root, resource), snapshot)
    return kept if not os.path.lexists(folder) and os.path.lexists(kept) else folder


def partial(root: str, resource: str, snapshot: str) -> str:
    """The folder of a snapshot under way."""
    return os.path.join(resource_folder(root, resource), PARTIAL + snapshot)


def has_unpublished(folder: str) -> bool:
    """Whether a snapshot in a resource's folder is under way, or on its way out."""
    with suppress(OSError):
        return any(name.startswith((PARTIAL, REMOVING)) for name in os.listdir(folder))
    return False


def data(folder: str) -> str:
    """The tree of the snapshot (or partial) that lies in `folder`."""
    return os.path.join(folder, DATA)


def manifest(folder: str) -> str:
    """The manifest of the snapshot that lies in `folder`."""
    return os.path.join(folder, sidecar.MANIFEST)


def refuse_links(root: str, resource: str = "") -> None:
    """Raises TargetUnsafe if a folder of ours there, of this resource too, is anything but a folder."""
    for folder, seen in _own_folders(root, resource):
        if not stat.S_ISDIR(seen.st_mode):
            what = "a symlink" if stat.S_ISLNK(seen.st_mode) else "no folder"
            hint = (
                f"`ls -ld {folder}` shows who made it. Remove it: the next run makes a folder. To back up to another"
                " place, give that as the target's path."
            )
            raise TargetUnsafe(f"{folder} is {what}", hint)


def refuse_unwritable(root: str, resource: str) -> None:
    """Raises TargetError if nothing can be made where the resource's next folder goes. Writes nothing."""
    folder = resource_folder(root, resource)
    while len(folder) > len(root) and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TargetError(f"{folder}: nothing can be written there", NO_RIGHT)


def refuse_others_folders(root: str, resource: str, like: os.stat_result) -> None:
    """Raises TargetUnsafe if somebody else owns a folder of ours there, or can write to it.

    `like` is what a fresh folder of mode 0700 gets there: a share may give all to one user, and know no modes.
    """
    wrong, hints = [], []
    for folder, seen in _own_folders(root, resource):
        if seen.st_uid not in (0, like.st_uid):
            wrong.append(f"{folder} belongs to the user {seen.st_uid}")
            hints.append(f"`chown --no-dereference {like.st_uid} {folder}`")
        if seen.st_mode & ~like.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            wrong.append(f"others can write to {folder}")
            hints.append(f"`chmod go-w {folder}`")
    if wrong:
        how = f"Find out who has made it, or whether the share maps users in another way now. Then: {', '.join(hints)}"
        raise TargetUnsafe("; ".join(wrong), how)


def _own_folders(root: str, resource: str) -> Iterator[tuple[str, os.stat_result]]:
    of_resource = (resource_folder(root, resource), safety_folder(root, resource)) if resource else ()
    for folder in dict.fromkeys((home(root), catalogs(root), *of_resource)):
        with suppress(FileNotFoundError):
            yield folder, os.lstat(folder)


def make_folder(path: str) -> None:
    """Make a folder of mode 0700 where there is none; its parent must exist. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def begin(root: str, resource: str, snapshot: str) -> str:
    """Make the fresh, empty folder of a snapshot under way (see `partial`) and return the snapshot's name.

    A number is put behind the name if it is taken; what a crashed run left is kept, for linking. Raises OSError.
    """
    make_folder(home(root))
    make_folder(resource_folder(root, resource))
    return next(name for name in _names(snapshot) if _begun(root, resource, name))


def _begun(root: str, resource: str, snapshot: str) -> bool:
    if os.path.lexists(published(root, resource, snapshot)):
        return False
    try:
        os.mkdir(partial(root, resource, snapshot), 0o700)
    except FileExistsError:
        return False
    return True


def snapshots(root: str, resource: str) -> list[Sidecar]:
    """The sidecars of all published snapshots, oldest sequence first; what has no readable sidecar is not one.

    Raises OSError if the folder cannot be read: that is not the same as being empty.
    """
    return _described(resource_folder(root, resource), resource, "")


def safety(root: str, resource: str) -> list[Sidecar]:
    """The same of what restores in place have kept."""
    return _described(safety_folder(root, resource), resource, SAFETY)


def copy_of(root: str, recorded: Sidecar, location: str) -> Copy:
    """A published snapshot as the catalog knows it."""
    return recorded.copy(location, data(published(root, recorded.resource, recorded.snapshot)))


def _described(folder: str, resource: str, purpose: str) -> list[Sidecar]:
    found = []
    for name in _folders(folder, ""):
        with suppress(Damaged, FileNotFoundError):
            recorded = sidecar.read(os.path.join(folder, name))
            if (recorded.snapshot, recorded.resource, recorded.purpose) == (name, resource, purpose):
                found.append(recorded)
    return sorted(found, key=lambda recorded: (recorded.sequence, recorded.snapshot))


def names(root: str, resource: str) -> list[str]:
    """The names of all that is published, also of what has no readable sidecar. Raises OSError."""
    return [*_folders(resource_folder(root, resource), ""), *_folders(safety_folder(root, resource), "")]


def partials(root: str, resource: str) -> list[str]:
    """The paths of all snapshots under way or left by a crash, newest first. Raises OSError."""
    folder = resource_folder(root, resource)
    return [os.path.join(folder, name) for name in sorted(_folders(folder, PARTIAL), reverse=True)]


def publish_again(root: str, resource: str, snapshot: str) -> None:
    """Put the finished snapshot in the place of the published one of its name, at once.

    That one is unfinished from then on, to be swept. Raises OSError.
    """
    durable.exchange(partial(root, resource, snapshot), snapshot_folder(root, resource, snapshot))
    durable.sync_folder(resource_folder(root, resource))


def publish(root: str, resource: str, snapshot: str) -> str:
    """Give the finished snapshot its name, point `latest` at the newest, and return the name.

    Its sidecar must be there and everything on the medium already (`sync`). If the name is taken, a number is put
    behind it, in the sidecar too. Raises Damaged, FileNotFoundError without a sidecar, OSError.
    """
    folder = partial(root, resource, snapshot)
    recorded = sidecar.read(folder)
    name = next(name for name in _names(snapshot) if _published(folder, root, recorded.named(name)))
    durable.sync_folder(resource_folder(root, resource))
    if recorded.purpose:
        durable.sync_folder(safety_folder(root, resource))
        return name
    with suppress(OSError):  # the snapshot is there; the link is a convenience, and the next one puts it right
        point_latest(root, resource)
    return name


def _published(folder: str, root: str, recorded: Sidecar) -> bool:
    """Rename the folder to its snapshot's name; False if that is taken."""
    wanted = snapshot_folder(root, recorded.resource, recorded.snapshot)
    if os.path.lexists(published(root, recorded.resource, recorded.snapshot)):
        return False
    if recorded.purpose:
        make_folder(safety_folder(root, recorded.resource))
        wanted = os.path.join(safety_folder(root, recorded.resource), recorded.snapshot)
    if sidecar.read(folder).as_document() != recorded.as_document():
        sidecar.write(folder, recorded)
    try:
        os.rename(folder, wanted)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def point_latest(root: str, resource: str) -> None:
    """Let `latest` be a relative symlink to the newest snapshot by sequence, swapped by rename.

    Left out where the share knows no symlinks; removed when there is no snapshot. Raises OSError.
    """
    folder = resource_folder(root, resource)
    link = os.path.join(folder, LATEST)
    newest = snapshots(root, resource)[-1:]
    if not newest:
        with suppress(FileNotFoundError):
            os.unlink(link)
        return
    fresh = os.path.join(folder, f".{LATEST}.{os.urandom(4).hex()}")
    try:
        os.symlink(newest[0].snapshot, fresh)
        os.rename(fresh, link)
    except OSError as error:
        with suppress(OSError):
            os.unlink(fresh)
        if error.errno in _NO_SYMLINKS:
            return
        raise
    durable.sync_folder(folder)


def sync(root: str) -> None:
    """Bring everything that was written to the medium (syncfs).

    Raises TargetFull or TargetError if a write turns out to have failed.
    """
    try:
        mount.sync(root)
    except ToolError as error:
        if "No space left" in error.message or "quota" in error.message:
            raise TargetFull(f"no space is left on {root}", "Remove something, or let it keep fewer copies.") from None
        raise TargetError(f"{root}: not everything could be written: {error.message}", "See `dmesg`.") from None


def _names(snapshot: str) -> Iterator[str]:
    """The name, and what to call it if that is taken."""
    yield snapshot
    yield from (f"{snapshot}-{again}" for again in count(2))


def _folders(folder: str, prefix: str) -> list[str]:
    """The real folders in it that are named `prefix` and a snapshot's name."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _is_snapshot(entry, prefix)]
    except FileNotFoundError:
        return []


def _is_snapshot(entry: os.DirEntry[str], prefix: str) -> bool:
    named = entry.name.startswith(prefix) and is_snapshot_name(entry.name.removeprefix(prefix))
    return named and entry.is_dir(follow_symlinks=False)


def stored_at(snapshot: str, path: bytes) -> str:
    """Where the content of `path` lies in the snapshot's folder, if its flag says that it lies aside (upper case)."""
    import hashlib

    return os.path.join(snapshot, ASIDE, hashlib.sha256(path).hexdigest()[:32])

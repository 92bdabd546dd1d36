"""What a medium can hold, found out by trying it: nobody knows what options a share was mounted with.

Everything is tried in a scratch folder of its own that is gone afterwards. An ability is claimed only if what was
written came back the same; in doubt the manifest keeps it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from stat import S_IMODE, S_ISCHR, S_ISFIFO
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, fields

from drbdbackup.errors import Failure
from drbdbackup.targets import layout, removal
from drbdbackup.tools import btrfs, mounts
from drbdbackup.tools.rsync import Holds

_SCRATCH = ".probe-"
_ABANDONED = 86400.0  # seconds after which a killed probe's folder is not a probe under way
_MODES = (0o000, 0o750, 0o4755)
_NAMES = (
    b"a:b", b"a*b?", b"dot.", b"space ", b'"<>|\\', b"new\nline", b"\xff\xfe", b"\xc3\xa9", b"e\xcc\x81", b"l" * 255,
)  # fmt: skip
_XATTRS = ("user.drbdbackup", "trusted.drbdbackup")
_NS = 1_234_567_890_123_456_789
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who)
    for tag, perm, who in ((1, 6, 2**32 - 1), (2, 4, 12345), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)
_WORDS = {
    "hard_links": "hard links (every copy is whole)", "symlinks": "symlinks", "owners": "owners", "modes": "modes",
    "acls": "ACLs", "xattrs": "extended attributes", "devices": "device nodes", "fifo": "FIFOs and sockets",
    "case_sensitive": "names that differ in case only", "any_name": "any file name", "nanoseconds": "exact times",
    "sparse": "holes in files",
}  # fmt: skip


class Abilities(Struct, frozen=True, kw_only=True):
    """What came back as it was written. `subvolumes`: btrfs, and we may make and delete them."""

    hard_links: bool
    symlinks: bool
    owners: bool
    modes: bool
    acls: bool
    xattrs: bool
    devices: bool
    fifo: bool
    case_sensitive: bool
    any_name: bool
    nanoseconds: bool
    sparse: bool
    subvolumes: bool

    @property
    def kinds(self) -> bytes:
        """The types of entries that have a place in a copy there; the others are in the manifest only."""
        kinds = b"fd" + (b"l" if self.symlinks else b"") + (b"bc" if self.devices else b"")
        return kinds + (b"ps" if self.fifo else b"")

    @property
    def holds(self) -> Holds:
        """What rsync may give to it, and take from it."""
        return Holds(
            owners=self.owners,
            modes=self.modes,
            acls=self.acls,
            xattrs=self.xattrs,
            symlinks=self.symlinks,
            devices=self.devices,
            specials=self.fifo,
            hard_links=self.hard_links,
        )

    @property
    def can_recycle(self) -> bool:
        """Whether the tree of an old snapshot can become the next one: by links, where a name is that name only."""
        return self.hard_links and not self.subvolumes and self.case_sensitive and self.any_name

    def as_document(self) -> dict[str, bool]:
        """The abilities as the sidecar keeps them."""
        return asdict(self)

    def lacks(self) -> tuple[str, ...]:
        """What cannot be held, in words for people; subvolumes are a bonus and not missed."""
        return tuple(word for name, word in _WORDS.items() if not getattr(self, name))


def from_document(document: Mapping[str, Any]) -> Abilities:
    """The abilities that a document names; what it does not name (an older version) counts as missing."""
    return Abilities(**{field.name: document.get(field.name) is True for field in fields(Abilities)})


def probe(root: str, resource: str = "") -> Abilities:
    """Try what the medium mounted at `root` can hold. Raises OSError if nothing at all can be written.

    What it makes shows to whom our folders there must belong, also that of the resource: raises TargetUnsafe.
    """
    layout.make_folder(layout.home(root))
    _sweep(layout.home(root))
    scratch = os.path.join(layout.home(root), _SCRATCH + os.urandom(8).hex())
    os.mkdir(scratch, 0o700)
    try:
        layout.refuse_others_folders(root, resource, os.lstat(scratch))
        return Abilities(**{name: _holds(trial, os.path.join(scratch, name)) for name, trial in _TRIALS.items()})
    finally:
        removal.remove_tree(os.path.dirname(scratch), os.fsencode(os.path.basename(scratch)))


def _holds(trial: Callable[[str], bool], folder: str) -> bool:
    """Whether a trial in a folder of its own went well. No space is no answer."""
    os.mkdir(folder, 0o700)
    try:
        return trial(folder)
    except OSError as error:
        if error.errno in (28, 122):
            raise
        return False
    except Failure:
        return False


def _sweep(home: str) -> None:
    """Remove what killed probes have left; not that of another node at work."""
    for name in os.listdir(home):
        with suppress(FileNotFoundError):
            if name.startswith(_SCRATCH) and time.time() - os.lstat(os.path.join(home, name)).st_mtime > _ABANDONED:
                removal.remove_tree(home, os.fsencode(name))


def _file(folder: str, content: bytes = b"x") -> str:
    path = os.path.join(folder, "file")
    with open(path, "wb") as file:
        file.write(content)
    return path


def _hard_links(folder: str) -> bool:
    """Both names must lead to one content, and the count must show: a share that hides it loses the groups.

    The size stays the same, since a share may have it cached for the other name.
    """
    path = _file(folder, b"before")
    other = os.path.join(folder, "other")
    os.link(path, other, follow_symlinks=False)
    with open(path, "r+b") as file:
        file.write(b"after!")
    with open(other, "rb") as file:
        return file.read() == b"after!" and os.fstat(file.fileno()).st_nlink == 2


def _symlinks(folder: str) -> bool:
    path = os.path.join(folder, "link")
    os.symlink(b"to/\xff nowhere", path)
    return os.readlink(os.fsencode(path)) == b"to/\xff nowhere"


def _owners(folder: str) -> bool:
    path = _file(folder)
    link = os.path.join(folder, "link")
    with suppress(OSError):
        os.symlink("nowhere", link)
    for name in filter(os.path.lexists, (path, folder, link)):
        os.chown(name, 1, 2, follow_symlinks=False)
        seen = os.lstat(name)
        if (seen.st_uid, seen.st_gid) != (1, 2):
            return False
    return True


def _modes(folder: str) -> bool:
    path = _file(folder)
    for mode in _MODES:
        os.chmod(path, mode)
        if S_IMODE(os.stat(path).st_mode) != mode:
            return False
    os.chmod(folder, 0o1700)
    return S_IMODE(os.stat(folder).st_mode) == 0o1700


def _acls(folder: str) -> bool:
    path = _file(folder)
    os.setxattr(path, "system.posix_acl_access", _ACL)
    os.setxattr(folder, "system.posix_acl_default", _ACL)
    return (
        os.getxattr(path, "system.posix_acl_access") == _ACL and os.getxattr(folder, "system.posix_acl_default") == _ACL
    )


def _xattrs(folder: str) -> bool:
    """Those of users and of the system (NFS knows only the former: then the manifest keeps them all)."""
    path = _file(folder)
    for name in _XATTRS:
        os.setxattr(path, name, b"\0value")
    return all(os.getxattr(path, name) == b"\0value" for name in _XATTRS)


def _devices(folder: str) -> bool:
    path = os.path.join(folder, "device")
    os.mknod(path, 0o20600, os.makedev(1, 3))
    seen = os.lstat(path)
    return S_ISCHR(seen.st_mode) and seen.st_rdev == os.makedev(1, 3)


def _fifo(folder: str) -> bool:
    path = os.path.join(folder, "fifo")
    os.mkfifo(path, 0o600)
    return S_ISFIFO(os.lstat(path).st_mode)


def _case_sensitive(folder: str) -> bool:
    _file(folder)
    return not os.path.lexists(os.path.join(folder, "FILE"))


def _any_name(folder: str) -> bool:
    """Names that Windows, case folding and Unicode normalization do not leave alone."""
    for name in _NAMES:
        with open(os.path.join(os.fsencode(folder), name), "xb"):
            pass
    return set(os.listdir(os.fsencode(folder))) == set(_NAMES)


def _nanoseconds(folder: str) -> bool:
    path = _file(folder)
    os.utime(path, ns=(_NS, _NS))
    return os.stat(path).st_mtime_ns == _NS


def _sparse(folder: str) -> bool:
    path = _file(folder)
    os.truncate(path, 1 << 23)
    return os.stat(path).st_blocks * 512 < 1 << 20


def _subvolumes(folder: str) -> bool:
    if not _is_on("btrfs", folder):
        return False
    one, other = os.path.join(folder, "one"), os.path.join(folder, "other")
    btrfs.create(one)
    btrfs.snapshot(one, other)
    btrfs.delete(other)
    btrfs.delete(one)
    return True


def _is_on(fstype: str, folder: str) -> bool:
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        below = mounts.mount_id_of(handle)
    finally:
        os.close(handle)
    return any(one.mount_id == below and one.fstype == fstype for one in mounts.table())


_TRIALS: Mapping[str, Callable[[str], bool]] = {
    "hard_links": _hard_links, "symlinks": _symlinks, "owners": _owners, "modes": _modes, "acls": _acls,
    "xattrs": _xattrs, "devices": _devices, "fifo": _fifo, "case_sensitive": _case_sensitive, "any_name": _any_name,
    "nanoseconds": _nanoseconds, "sparse": _sparse, "subvolumes": _subvolumes,
}  # fmt: skip

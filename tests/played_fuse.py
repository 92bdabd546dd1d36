"""FUSE file systems that keep less than a disk does, spoken over /dev/fuse in plain Python.

`played_fuse.py KIND BEHIND AT [WRITES ERRNO [NAME]]`: shows the folder BEHIND at AT. `simple` is like CIFS or exFAT: no
links, owners, modes, attributes or devices; names fold case and must suit Windows; times have 100 ns. `squashed` is
like NFS with all_squash: whoever asks, `nobody` does it. On `small`, too, and no file may have more than a MiB or three
names. After WRITES writes each further one fails with ERRNO. When a file is to be made whose name holds NAME it stops
itself, once. Ends when it is unmounted.
Source: linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

ROOT = 1
ATTR = struct.Struct("<6Q10I")
MAX_WRITE = 1 << 17
FORBIDDEN = set(b':*?"<>|\\') | set(range(32))
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_MTIME_NOW = 1, 2, 4, 8, 16, 32, 256
NOBODY = 65534
ANSWERS_NOTHING = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET


class SimpleShare:
    """One method per operation, from the body of a request to the body of the answer."""

    grain = 100  # of times, in ns
    ahead = 0  # of its clock, in seconds
    largest = 0  # bytes of a file, 0 for any
    makes = (stat.S_IFREG,)

    def __init__(self, behind: str, writes: int | None, refusal: int, stops_at: str) -> None:
        os.chdir(behind)
        self.stops_at = stops_at.encode()
        self.writes, self.refusal = writes, refusal
        self.paths: dict[int, bytes] = {ROOT: b""}
        self.nodes: dict[bytes, int] = {b"": ROOT}  # the other way round
        self.next = ROOT
        self.operations: dict[int, Callable[[int, bytes], bytes]] = {
            1: self.lookup, 3: self.getattr, 4: self.setattr, 8: self.mknod, 9: self.mkdir, 10: self.unlink,
            11: self.rmdir, 12: self.rename, 14: self.open, 15: self.read, 16: self.write, 17: self.statfs,
            18: self.release, 20: self.nothing, 25: self.nothing, 26: self.init, 27: self.opendir, 28: self.readdir,
            29: self.nothing, 30: self.nothing, 35: self.create, 45: self.rename2, 50: self.nothing, 6: self.symlink,
            13: self.link, 5: self.readlink,
        }  # fmt: skip

    def answer(self, request: bytes) -> bytes | None:
        _, operation, unique, node, *_ = struct.unpack_from("<IIQQIIII", request)
        if operation in ANSWERS_NOTHING:
            return None
        try:
            body, error = self.operations.get(operation, self.unknown)(node, request[40:]), 0
        except OSError as refused:
            body, error = b"", refused.errno or errno.EIO
        return struct.pack("<IiQ", 16 + len(body), -error, unique) + body

    def unknown(self, _node: int, _body: bytes) -> bytes:
        raise OSError(errno.ENOSYS, "not known")

    def refuse(self, _node: int, _body: bytes) -> bytes:
        raise OSError(errno.EPERM, "not on this share")

    symlink = link = readlink = refuse

    def nothing(self, _node: int, _body: bytes) -> bytes:
        return b""

    def opendir(self, _node: int, _body: bytes) -> bytes:
        return bytes(16)

    def init(self, _node: int, _body: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 12, 9, MAX_WRITE, self.grain, 32, 0, 0, *([0] * 7))

    def lookup(self, node: int, body: bytes) -> bytes:
        return self.entry(self.child(node, body))

    def getattr(self, node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attributes(self.paths[node], node)

    def setattr(self, node: int, body: bytes) -> bytes:
        valid, _, _, size, _, atime, mtime, _, ans, mns, _, mode, *_ = struct.unpack_from("<IIQQQQQQIIIIIIII", body)
        if valid & (SET_UID | SET_GID):
            raise OSError(errno.EPERM, "owners are not kept")
        path = self.real(self.paths[node])
        if valid & SET_MODE:
            self.chmod(path, mode)
        if valid & SET_SIZE:
            os.truncate(path, size)
        if valid & (SET_ATIME | SET_MTIME) and not valid & SET_MTIME_NOW:
            times = (atime * 10**9 + ans, mtime * 10**9 + mns // self.grain * self.grain)
            os.utime(path, ns=times, follow_symlinks=False)
        return self.getattr(node, b"")

    def chmod(self, path: bytes, mode: int) -> None:
        """Modes are not kept, and nobody is told."""

    def mknod(self, node: int, body: bytes) -> bytes:
        mode, _, _, _ = struct.unpack_from("<IIII", body)
        if stat.S_IFMT(mode) not in self.makes:
            return self.refuse(node, body)
        path = self.child(node, body[16:])
        os.mknod(self.real(path), mode)
        return self.entry(path)

    def mkdir(self, node: int, body: bytes) -> bytes:
        path = self.child(node, body[8:])
        os.mkdir(self.real(path), struct.unpack_from("<I", body)[0] & 0o7777)
        return self.entry(path)

    def unlink(self, node: int, body: bytes) -> bytes:
        os.unlink(self.real(self.child(node, body)))
        return b""

    def rmdir(self, node: int, body: bytes) -> bytes:
        os.rmdir(self.real(self.child(node, body)))
        return b""

    def rename(self, node: int, body: bytes, skip: int = 8) -> bytes:
        (to,) = struct.unpack_from("<Q", body)
        old_name, new_name, _ = body[skip:].split(b"\0")
        old, new = self.child(node, old_name), self.child(to, new_name)
        os.rename(self.real(old), self.real(new))
        for known, path in self.paths.items():
            if path == old or path.startswith(old + b"/"):
                self.paths[known] = moved = new + path[len(old) :]
                if self.nodes.get(path) == known:
                    del self.nodes[path]
                    self.nodes[moved] = known
        return b""

    def rename2(self, node: int, body: bytes) -> bytes:
        if struct.unpack_from("<QI", body)[1]:
            raise OSError(errno.EINVAL, "no flags")
        return self.rename(node, body, 16)

    def open(self, node: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        fd = os.open(self.real(self.paths[node]), flags & (os.O_ACCMODE | os.O_TRUNC))
        return struct.pack("<QII", fd, 0, 0)

    def create(self, node: int, body: bytes) -> bytes:
        flags, mode, *_ = struct.unpack_from("<IIII", body)
        path = self.child(node, body[16:])
        if self.stops_at and self.stops_at in path:
            self.stops_at = b""
            os.kill(os.getpid(), signal.SIGSTOP)
        fd = os.open(self.real(path), flags & (os.O_ACCMODE | os.O_TRUNC | os.O_EXCL) | os.O_CREAT, mode & 0o7777)
        return struct.pack("<128sQII", self.entry(path), fd, 0, 0)

    def read(self, _node: int, body: bytes) -> bytes:
        fd, offset, size, *_ = struct.unpack_from("<QQI", body)
        return os.pread(fd, size, offset)

    def write(self, _node: int, body: bytes) -> bytes:
        if self.writes is not None:
            if self.writes <= 0:
                raise OSError(self.refusal, "as told")
            self.writes -= 1
        fd, offset, size, *_ = struct.unpack_from("<QQI", body)
        if self.largest and offset + size > self.largest:
            raise OSError(errno.EFBIG, "as told")
        return struct.pack("<II", os.pwrite(fd, body[40 : 40 + size], offset), 0)

    def release(self, _node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def statfs(self, _node: int, _body: bytes) -> bytes:
        seen = os.statvfs(".")
        return struct.pack(
            "<5Q10I", seen.f_blocks, seen.f_bfree, seen.f_bavail, seen.f_files, seen.f_ffree, seen.f_bsize, 255,
            seen.f_frsize, *([0] * 7),
        )  # fmt: skip

    def readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size, *_ = struct.unpack_from("<QQI", body)
        listed = b""
        names = [b".", b"..", *sorted(os.listdir(self.real(self.paths[node])))]
        for index, name in enumerate(names[offset:], offset + 1):
            entry = struct.pack("<QQII", index + 1, index, len(name), 0) + name
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    def entry(self, path: bytes) -> bytes:
        """What a name leads to."""
        node = self.nodes.get(path, 0)
        attributes = self.attributes(path, node or self.next + 1)
        if not node:
            self.next = node = self.next + 1
            self.paths[node], self.nodes[path] = path, node
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def attributes(self, path: bytes, node: int) -> bytes:
        seen = os.lstat(self.real(path))
        mtime, mns = divmod(seen.st_mtime_ns // self.grain * self.grain, 10**9)
        ctime, cns = divmod(seen.st_ctime_ns, 10**9)
        times = (int(seen.st_atime), mtime + self.ahead, ctime, 0, mns, cns)
        return ATTR.pack(node, seen.st_size, seen.st_blocks, *times, *self.kept(seen), 0, 4096, 0)

    def kept(self, seen: os.stat_result) -> tuple[int, int, int, int]:
        """Mode, link count and owners, as far as the share keeps them."""
        return stat.S_IFMT(seen.st_mode) | 0o755, 1, 0, 0

    def child(self, node: int, body: bytes) -> bytes:
        """The path of a name in a folder, as it is written there if it is there in another case."""
        name = body.split(b"\0", 1)[0]
        return self.paths[node] + b"/" + self.written(self.paths[node], name)

    def written(self, folder: bytes, name: bytes) -> bytes:
        try:
            folded = name.decode().casefold()
        except UnicodeDecodeError:
            raise OSError(errno.EINVAL, "not UTF-8") from None
        if FORBIDDEN & set(name) or name.endswith((b".", b" ")):
            raise OSError(errno.EINVAL, "not a Windows name")
        if os.path.lexists(os.path.join(self.real(folder), name)):
            return name
        same = (there for there in os.listdir(self.real(folder)) if there.decode().casefold() == folded)
        return next(same, name)

    def real(self, path: bytes) -> bytes:
        return b"." + path  # whoever serves need not be able to come here


class SquashedShare(SimpleShare):
    """Keeps modes, links and any name; everything belongs to nobody, who may do what nobody may."""

    grain = 1
    makes = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)

    def symlink(self, node: int, body: bytes) -> bytes:
        name, target, _ = body.split(b"\0")
        path = self.child(node, name)
        os.symlink(target, self.real(path))
        return self.entry(path)

    def readlink(self, node: int, _body: bytes) -> bytes:
        return os.readlink(self.real(self.paths[node]))

    def link(self, node: int, body: bytes) -> bytes:
        path = self.child(node, body[8:])
        os.link(self.real(self.paths[struct.unpack_from("<Q", body)[0]]), self.real(path), follow_symlinks=False)
        return self.entry(path)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode & 0o7777)

    def attributes(self, path: bytes, node: int) -> bytes:
        return super().attributes(path, os.lstat(self.real(path)).st_ino)

    def kept(self, seen: os.stat_result) -> tuple[int, int, int, int]:
        return seen.st_mode, seen.st_nlink, seen.st_uid, seen.st_gid

    def written(self, folder: bytes, name: bytes) -> bytes:
        return name


class AheadShare(SquashedShare):
    """One whose clock is an hour ahead."""

    ahead = 3600


class SmallShare(SquashedShare):
    """No file may be large, or have many names."""

    largest = 1 << 20
    names = 3

    def link(self, node: int, body: bytes) -> bytes:
        if os.lstat(self.real(self.paths[struct.unpack_from("<Q", body)[0]])).st_nlink >= self.names:
            raise OSError(errno.EMLINK, "as told")
        return super().link(node, body)


def main(kind: str, behind: str, at: str, writes: str = "", refusal: str = "28", stops_at: str = "") -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    source = os.environ.get("PLAYED_SOURCE", "simple").encode()
    if libc.mount(source, os.fsencode(at), b"fuse.simple", 6, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    kinds = {"simple": SimpleShare, "squashed": SquashedShare, "ahead": AheadShare, "small": SmallShare}
    share = kinds[kind](behind, int(writes) if writes else None, int(refusal), stops_at)
    os.umask(0)
    if kind == "squashed":
        os.chown(behind, NOBODY, NOBODY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    while True:
        try:
            request = os.read(device, MAX_WRITE + 4096)
        except OSError as ended:
            sys.exit(None if ended.errno == errno.ENODEV else ended.strerror)
        answered = share.answer(request)
        if answered is not None:
            with suppress(FileNotFoundError):  # the request was interrupted
                os.write(device, answered)


if __name__ == "__main__":
    main(*sys.argv[1:])

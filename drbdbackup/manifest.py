"""The file format of a snapshot's manifest and of the walk's spool: text lines in merge order, bytes throughout.

A spool line is what the walk saw: `type mode uid gid size mtime_ns ctime_ns inode nlink rdev path[TAB link target]`;
a manifest line has `hash flag attributes` before it. Whole lines are compared as bytes and parsed only where needed,
because a million of them must cost about a second. Nothing here touches a source or a target's tree.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drbdbackup.errors import Damaged

HEADER = b"#drbdbackup manifest 1 xxh128\n"
SETTLED, RACY, CHANGED = b"s", b"r", b"c"
SETTLE_NS = 2_000_000_000
NOTHING = b"-"
ROOT = b"."  # the folder that is copied, itself: no other entry can have this name
DEEPEST_PATH = 4000  # bytes; rsync and the kernel stop at 4096, and a target's own path comes before it


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as the walk saw it; times in ns since the epoch, `link` is a symlink's target."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    inode: int
    nlink: int
    rdev: int
    path: bytes
    link: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A manifest line: the entry, its content's hash ("" for what has none), its flag and attributes kept for it."""

    entry: Entry
    hash: str
    flag: bytes
    attributes: bytes


def escape(path: bytes) -> bytes:
    """`path` on one line: backslash, newline and tab escaped."""
    if b"\\" in path or b"\n" in path or b"\t" in path:
        return path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\t", b"\\t")
    return path


def unescape(text: bytes) -> bytes:
    """The inverse of `escape`."""
    if b"\\" not in text:
        return text
    parts = text.split(b"\\\\")
    return b"\\".join(part.replace(b"\\n", b"\n").replace(b"\\t", b"\t") for part in parts)


def order(path: bytes) -> bytes:
    """The key by which lines are sorted: the root, then depth first, names in byte order."""
    return b"" if path == ROOT else path.replace(b"/", b"\0")


def spool_line(
    kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, ctime: int, inode: int, nlink: int, rdev: int,
    path: bytes, link: bytes = b"",
) -> bytes:  # fmt: skip
    """The fields of an `Entry` as the walk writes them, with their newline."""
    tail = escape(path) + b"\t" + escape(link) if kind == b"l" else escape(path)
    return b"%c %o %d %d %d %d %d %d %d %d %s\n" % (
        kind, mode, uid, gid, size, mtime, ctime, inode, nlink, rdev, tail
    )  # fmt: skip


def line_begins(kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int) -> bytes:
    """How the spool line of such an entry begins, up to what a copy has of its own."""
    return b"%c %o %d %d %d %d " % (kind, mode, uid, gid, size, mtime)


def parse(line: bytes) -> Entry:
    """The inverse of `spool_line`; Damaged for anything else."""
    fields = line.rstrip(b"\n").split(b" ", 10)
    try:
        mode = int(fields[1], 8)
        uid, gid, size, mtime, ctime, inode, nlink, rdev = map(int, fields[2:10])
        path, _, link = fields[10].partition(b"\t")
    except (ValueError, IndexError):
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None
    if fields[0] not in b"fdlpscb" or len(fields[0]) != 1:
        raise Damaged(f"a manifest line has an unknown type: {line[:80]!r}")
    return Entry(fields[0], mode, uid, gid, size, mtime, ctime, inode, nlink, rdev, unescape(path), unescape(link))


def path_of(line: bytes) -> bytes:
    """The path in a spool line, unescaped, without parsing the rest."""
    return _path(line.split(b" ", 10)[10])


def _path(tail: bytes) -> bytes:
    if b"\\" in tail or b"\t" in tail:
        return unescape(tail[:-1].partition(b"\t")[0])
    return tail[:-1]


def split(line: bytes) -> tuple[bytes, bytes]:
    """A manifest line as (`hash flag attributes`, spool line)."""
    rest = line.split(b" ", 3)[3]
    return line[: -len(rest) - 1], rest


def recorded(line: bytes) -> Recorded:
    """A manifest line, parsed; Damaged for anything else."""
    try:
        content_hash, flag, attributes, rest = line.split(b" ", 3)
    except ValueError:
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None
    return Recorded(
        parse(rest), "" if content_hash == NOTHING else os.fsdecode(content_hash), flag, decode_attributes(attributes)
    )


def is_safe(path: bytes) -> bool:
    """Whether a path from a manifest stays below its root: relative, no `..`, no empty part."""
    return bool(path) and not any(part in (b"", b".", b"..") for part in path.split(b"/"))


def encode_attributes(attributes: dict[bytes, bytes]) -> bytes:
    """Extended attributes (ACLs among them) as one word; `-` for none."""
    if not attributes:
        return NOTHING
    plain = {os.fsdecode(name): base64.b64encode(value).decode() for name, value in sorted(attributes.items())}
    return base64.urlsafe_b64encode(json.dumps(plain).encode())


def decode_attributes(word: bytes) -> bytes:
    """The word as it is, checked to be one; see `attributes_of`."""
    return b"" if word == NOTHING else word


def attributes_of(word: bytes) -> dict[str, bytes]:
    """Extended attributes by name from a `Recorded.attributes` word; Damaged if it is not one."""
    if not word:
        return {}
    try:
        plain = json.loads(base64.urlsafe_b64decode(word))
        return {str(name): base64.b64decode(value) for name, value in plain.items()}
    except (ValueError, AttributeError, TypeError):
        raise Damaged("the attributes in a manifest line cannot be read") from None


class Digest(io.RawIOBase):
    """A file being written (or read) whose SHA-256 is known at its end."""

    def __init__(self, raw: io.FileIO) -> None:
        """Wrap an unbuffered file."""
        import hashlib

        self._raw = raw
        self._sha = hashlib.sha256()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write and digest."""
        self._sha.update(data)
        view = memoryview(data)
        while view:
            view = view[self._raw.write(view) :]
        return len(data)

    def hexdigest(self) -> str:
        """SHA-256 of all that was written."""
        return self._sha.hexdigest()


class Writer:
    """Writes manifest lines to a gzip file; `sha256` is that of the compressed bytes, known after `close`."""

    def __init__(self, file: str) -> None:
        """Create `file` (0600); it must not exist."""
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._raw = io.FileIO(handle, "w")
        self._digest = Digest(self._raw)
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=self._digest, mtime=0)
        self._lines: list[bytes] = [HEADER]
        self.sha256 = ""

    def add(self, front: bytes, line: bytes) -> None:
        """One entry: `hash flag attributes` and its spool line."""
        self.add_line(front + b" " + line)

    def add_line(self, recorded: bytes) -> None:
        """One entry as a whole line."""
        self._lines.append(recorded)
        if len(self._lines) >= 2000:
            self._flush()

    def close(self) -> None:
        """Write what is left and make it durable."""
        self._flush()
        self._gzip.close()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self.sha256 = self._digest.hexdigest()

    def _flush(self) -> None:
        self._gzip.write(b"".join(self._lines))
        self._lines.clear()


def digest_of(file: str) -> str:
    """SHA-256 of a file's bytes, in hex."""
    import hashlib

    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def reading(file: str) -> Iterator[Iterator[bytes]]:
    """The lines of a manifest without its header; Damaged if it is torn or not a manifest."""
    with gzip.open(file, "rb") as lines:
        yield _checked(lines, file)


def _checked(lines: gzip.GzipFile, file: str) -> Iterator[bytes]:
    try:
        if lines.readline() != HEADER:
            raise Damaged(f"{file} is not a manifest of this version")
        yield from io.BufferedReader(lines, 1 << 16)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise Damaged(f"{file} is damaged: {error}") from None

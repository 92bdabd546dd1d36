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
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from msgspec import Struct

from drbdbackup import open_flags, plain_file
from drbdbackup.errors import Damaged, StateError, hint_for

HEADER = b"#drbdbackup manifest 1 xxh128\n"
SETTLED, RACY, CHANGED = b"s", b"r", b"c"
SETTLE_NS = 2_000_000_000
_PACKED = b"\x1f\x8b"  # how a gzip file begins
_MODES, _OWNERS, _LARGE, _HUGE = 0o7777, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1
_TIMES = 10**9 << 63  # ns; what a file system may know, and utime(2) takes
NOTHING = b"-"
ROOT = b"."  # the folder that is copied, itself: no other entry can have this name
LARGEST = 4 << 30  # bytes, packed: some 70 million entries
LONGEST_LINE = 1 << 20  # bytes; a path and a link's target take 16 KiB at most, attributes the rest
LARGEST_ATTRIBUTES = 512 << 10  # bytes of them as a word, so that what is written can be read again
LARGEST_VALUE = 1024  # bytes of one that are kept where the target holds it, too; of a longer one its digest is
LACKS = "lacks"  # what of an entry its target cannot hold; stands with its attributes, whose names have a dot
SHORT = "the target cannot hold its "  # how a problem begins that costs nothing but that
_HELD_TIMES = range(-(2**31), 2**31)  # seconds that every file system can hold
_DIGEST = "sha256 "  # before the name of an attribute of which only the digest is kept
NO_ATTRIBUTES_WORD = base64.urlsafe_b64encode(b"{}")  # the word of an entry that has no attributes
_SHORT_WORD = base64.urlsafe_b64encode(b'{"%s":' % LACKS.encode())  # 12 whole characters: how such a word begins
KINDS = b"fdlpscb"  # the types of entries, as lines begin: file, folder, symlink, FIFO, socket, two kinds of device
DEEPEST_PATH = 4000  # bytes; rsync and the kernel stop at 4096, and a target's own path comes before it


class Entry(Struct, frozen=True, kw_only=True):
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


class KnownAttributes(Struct, frozen=True):
    """The extended attributes of an entry, by name: values, and of what is long only the SHA-256."""

    values: dict[str, bytes]
    digests: dict[str, bytes]

    def are(self, name: str, value: bytes) -> bool:
        """Whether this is one of them."""
        if name in self.values:
            return self.values[name] == value
        return name in self.digests and self.digests[name] == _sha256(value)


NO_ATTRIBUTES = KnownAttributes({}, {})


class Recorded(Struct, frozen=True):
    """A manifest line: the entry, its content's hash ("" for what has none), its flag and attributes.

    These are a word for `known_attributes`; "" where an older version made the line, and noted none.
    """

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
    if not (
        0 <= mode <= _MODES and 0 <= uid <= _OWNERS >= gid >= 0 and 0 <= size <= _LARGE and 0 <= inode <= _HUGE
        and 0 <= nlink <= _HUGE and 0 <= rdev <= _HUGE and -_TIMES < mtime < _TIMES and -_TIMES < ctime < _TIMES
    ):  # fmt: skip
        raise Damaged(f"a manifest line has a number out of range: {line[:80]!r}")
    if fields[0] not in KINDS or len(fields[0]) != 1:
        raise Damaged(f"a manifest line has an unknown type: {line[:80]!r}")
    return Entry(
        kind=fields[0],
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
        mtime=mtime,
        ctime=ctime,
        inode=inode,
        nlink=nlink,
        rdev=rdev,
        path=unescape(path),
        link=unescape(link),
    )


def path_of(line: bytes) -> bytes:
    """The path in a spool line, unescaped, without parsing the rest."""
    return _path(line.split(b" ", 10)[10])


def _path(tail: bytes) -> bytes:
    if b"\\" in tail or b"\t" in tail:
        return unescape(tail[:-1].partition(b"\t")[0])
    return tail[:-1]


def path_in(line: bytes) -> bytes:
    """The path in a manifest line, without parsing the rest; Damaged for what is none."""
    fields = line.split(b" ", 13)
    if len(fields) < 14:
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}")
    return _path(fields[13])


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
    if b"\0" in rest or not (content_hash.isalnum() or content_hash == NOTHING):
        raise Damaged(f"a manifest line has bytes that no entry has: {line[:80]!r}")
    return Recorded(
        parse(rest), "" if content_hash == NOTHING else os.fsdecode(content_hash), flag, decode_attributes(attributes)
    )


def is_safe(path: bytes) -> bool:
    """Whether a path from a manifest stays below its root: relative, no `..`, no empty part."""
    parts = b"/%s/" % path
    return not (b"//" in parts or b"/./" in parts or b"/../" in parts)


def encode_attributes(
    attributes: Mapping[bytes, bytes] | Mapping[str, bytes], lacks: Collection[str] = (),
    longest: int = LARGEST_ATTRIBUTES,
) -> bytes:  # fmt: skip
    """Extended attributes (ACLs among them) as one word. `lacks` is what the target cannot hold.

    Of a value of more than `longest` bytes the word has the SHA-256 only.
    """
    if not (attributes or lacks):
        return NO_ATTRIBUTES_WORD
    plain = {LACKS: base64.b64encode(" ".join(sorted(lacks)).encode()).decode()} if lacks else {}
    for name, value in sorted((os.fsdecode(name), value) for name, value in attributes.items()):
        is_long = len(value) > longest and not name.startswith("security.")  # these may come from the manifest alone
        plain[(_DIGEST if is_long else "") + name] = base64.b64encode(_sha256(value) if is_long else value).decode()
    return base64.urlsafe_b64encode(json.dumps(plain).encode())


def _sha256(value: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(value).digest()


def is_short(recorded: bytes) -> bool:
    """Whether a manifest line is that of an entry of which its target cannot hold everything."""
    return _SHORT_WORD in recorded and recorded.split(b" ", 3)[2].startswith(_SHORT_WORD)


def is_odd_time(mtime: int) -> bool:
    """Whether there are file systems that cannot hold this time; they keep another one without a word."""
    return mtime // 10**9 not in _HELD_TIMES


def decode_attributes(word: bytes) -> bytes:
    """The word as it is, "" for one that says nothing; see `known_attributes`."""
    return b"" if word == NOTHING else word


def known_attributes(word: bytes) -> KnownAttributes | None:
    """The extended attributes that an entry had, from a `Recorded.attributes` word; None where nobody noted them.

    Raises Damaged if it is not such a word.
    """
    if not word:
        return None
    if word == NO_ATTRIBUTES_WORD:
        return NO_ATTRIBUTES
    values, digests = dict[str, bytes](), dict[str, bytes]()
    for name, value in _decoded(word).items():
        if name.startswith(_DIGEST):
            digests[name.removeprefix(_DIGEST)] = value
        elif name != LACKS:
            values[name] = value
    return KnownAttributes(values, digests)


def is_unknown(front: bytes) -> bool:
    """Whether a `hash flag attributes` says nothing of attributes, since an older version has made it."""
    return front.endswith(b" " + NOTHING)


def lacks_of(word: bytes) -> frozenset[str]:
    """What of an entry its target cannot hold: "owner", "attributes", "mode", "times". Raises Damaged."""
    if not word.startswith(_SHORT_WORD):
        return frozenset()
    return frozenset(_decoded(word)[LACKS].decode("utf-8", "replace").split())


def _decoded(word: bytes) -> dict[str, bytes]:
    if not word:
        return {}
    try:
        plain = json.loads(base64.urlsafe_b64decode(word))
        found = {str(name): base64.b64decode(value) for name, value in plain.items()}
        is_possible = not any(b"\0" in os.fsencode(name) for name in found)
    except (ValueError, AttributeError, TypeError, RecursionError):
        is_possible = False
    if not is_possible:
        raise Damaged("the attributes in a manifest line cannot be read")
    return found


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

    def __init__(self, file: str, *, variant: int = 0) -> None:
        """Create `file` (0600); it must not exist.

        The same lines give the same bytes, but with another `variant`. An engine stores no bytes again that it has, not
        even if they are damaged there.
        """
        handle = os.open(file, open_flags.CREATE, 0o600)
        self._raw = io.FileIO(handle, "w")
        self._digest = Digest(self._raw)
        level = 2 + variant % 5 if variant else 1
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=self._digest, mtime=variant)
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

    def add_lines(self, recorded: bytes) -> None:
        """Several whole lines."""
        self._flush()
        self._gzip.write(recorded)

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
    """SHA-256 of a manifest's bytes, in hex. Raises OSError, or Damaged for what is no file of this kind."""
    import hashlib

    with plain_file.opened(file, LARGEST) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def copied(file: str, into: str) -> str:
    """Copy a manifest to a new file on a local disk; the SHA-256 of what was copied, in hex.

    Raises OSError of the medium, Damaged for what is no packed file, StateError if there is no room for it here, which
    says nothing of the manifest; then nothing is left of it here.
    Whoever can write to a medium could put another one in its place between a look at its digest and the reading of it.
    """
    import hashlib

    with suppress(FileNotFoundError):
        os.unlink(into)  # somebody may still be reading the one that was here
    digest = hashlib.sha256()
    with plain_file.opened(file, LARGEST) as reader, _written_here(into) as write:
        for piece in _packed(reader, file):
            digest.update(piece)
            write(piece)
    return digest.hexdigest()


@contextmanager
def _written_here(file: str) -> Iterator[Callable[[bytes], None]]:
    """What writes to a new file of our own, which goes if not all of it is written. Raises StateError."""

    def write(piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[writer.write(rest) :]
        except OSError as error:
            raise _not_written(file, error) from None

    try:
        writer = open(file, "xb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise _not_written(file, error) from None
    with writer:
        try:
            yield write
        except BaseException:
            os.unlink(file)
            raise


def _not_written(file: str, error: OSError) -> StateError:
    hint = hint_for(error.errno) or "Free some space on the disk that holds state_dir, and see `dmesg`."
    return StateError(f"{file}: no copy of a manifest can be written here: {error.strerror}", hint)


def _packed(reader: io.FileIO, file: str) -> Iterator[bytes]:
    """All of a file, as long as it looks like a packed one; somebody may be adding to it."""
    left = LARGEST
    while piece := reader.read(1 << 20):
        if left == LARGEST and not piece.startswith(_PACKED):
            raise Damaged(f"{file} is damaged: it is no gzip file")
        left -= len(piece)
        if left < 0:
            raise Damaged(f"{file} is larger than a manifest")
        yield piece


@contextmanager
def reading(file: str) -> Iterator[Iterator[bytes]]:
    """The lines of a manifest without its header; Damaged if it is torn or not a manifest."""
    with plain_file.opened(file, LARGEST) as packed, gzip.GzipFile(fileobj=io.BufferedReader(packed)) as lines:
        yield _checked(lines, file)


def _checked(lines: gzip.GzipFile, file: str) -> Iterator[bytes]:
    try:
        if lines.readline(len(HEADER)) != HEADER:
            raise Damaged(f"{file} is not a manifest of this version")
        yield from plain_file.lines(io.BufferedReader(lines, 1 << 16), LONGEST_LINE, file)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise Damaged(f"{file} is damaged: {error}") from None

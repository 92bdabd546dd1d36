"""What a compromised peer has between its rsync and the wire: it puts messages into what an honest sender says.

Run as a program, with the argv of that sender behind what it does:

- `--prove FILE`: no line that the other rsync prints can be read, and then those in FILE are printed instead.
- `--talk`: messages without an end.
- `--grow FILE BYTES`: the file gets so many bytes once the list of all of them was sent.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import BinaryIO, NoReturn

_DATA, _INFO, _BASE = 0, 2, 7  # rsync.h: MSG_DATA, MSG_INFO, MPLEX_BASE
_SEED, _MANY_FLAGS = 4, 0x80
_ASKED = 60  # bytes, by which the list was asked for


def frame(tag: int, data: bytes) -> bytes:
    """A message of rsync's protocol, as it goes over the wire."""
    return struct.pack("<I", (_BASE + tag) << 24 | len(data)) + data


def pass_on(said: BinaryIO, out: BinaryIO, proofs: bytes, *, talks: bool) -> None:
    """What the sender has said, a byte at a time, with what is to be printed between."""
    begins = said.read(5)  # protocol version, flags
    out.write(begins)
    out.flush()
    out.write(said.read(_SEED + (begins[4] >= _MANY_FLAGS)))
    out.flush()
    while talks:
        out.write(frame(_INFO, b"x" * 1000))
    while header := said.read(4):
        number = struct.unpack("<I", header)[0]
        data = said.read(number & 0xFFFFFF)
        if (number >> 24) - _BASE != _DATA:
            out.write(header + data)
            continue
        for byte in data:
            out.write(frame(_INFO, b"a|b|c|") + frame(_DATA, bytes([byte])))
        lines = proofs.splitlines(keepends=True) if b"EVIL" in data else []
        out.write(b"".join(frame(_INFO, line) for line in (b"\n", *lines)))
        out.flush()
    out.flush()


def grow(to: BinaryIO, file: Path, size: int) -> None:
    """Hand on what the other side says, and let the file grow in between."""
    heard = 0
    while piece := os.read(0, 1 << 16):
        heard += len(piece)
        if heard > _ASKED and file.stat().st_size < size:
            os.truncate(file, size)
        to.write(piece)
        to.flush()


def main(words: list[str]) -> NoReturn:
    """See the module."""
    what = words.pop(0)
    proofs = Path(words.pop(0)).read_bytes() if what == "--prove" else b""
    if what == "--grow":
        file, size = Path(words.pop(0)), int(words.pop(0))
        with subprocess.Popen(words, stdin=subprocess.PIPE) as sender:
            assert sender.stdin is not None
            Thread(target=grow, args=(sender.stdin, file, size), daemon=True).start()
            os._exit(sender.wait())
    with subprocess.Popen(words, stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        pass_on(sender.stdout, sys.stdout.buffer, proofs, talks=what == "--talk")
        os._exit(sender.wait())


if __name__ == "__main__":
    main(sys.argv[1:])

"""A lock that a real restic has left in a repository, as it would be read later and on another host.

restic believes the time in a lock, and nobody can give it another clock. So the lock is sealed again, as restic does.
Source: "Keys, Encryption and MAC" in restic's references.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.played_pair import PlayedPair
from tests.played_repository import asked

_MASK, _PRIME = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, (1 << 130) - 5


def move_lock(pair: PlayedPair, name: str, locks: Path, *, age: timedelta, host: str) -> None:
    """Let the only lock of a target's repository be so old, and of that host."""
    [lock] = locks.iterdir()
    document = json.loads(asked(pair, name, "cat", "lock", lock.name, "--no-lock"))
    document |= {"time": (datetime.now(UTC) - age).isoformat(), "hostname": host}
    sealed = _sealed(json.loads(asked(pair, name, "cat", "masterkey", "--no-lock")), json.dumps(document).encode())
    (locks / hashlib.sha256(sealed).hexdigest()).write_bytes(sealed)
    lock.unlink()


def _sealed(keys: dict[str, dict[str, str] | str], content: bytes) -> bytes:
    """AES-256-CTR, and Poly1305-AES of what comes out."""
    mac, iv = keys["mac"], os.urandom(16)
    assert isinstance(mac, dict)
    encrypted = _openssl("-aes-256-ctr", str(keys["encrypt"]), content, "-iv", iv.hex())
    r, total = int.from_bytes(b64decode(mac["r"]), "little") & _MASK, 0
    for at in range(0, len(encrypted), 16):
        total = (total + int.from_bytes(encrypted[at : at + 16] + b"\1", "little")) * r % _PRIME
    pad = _openssl("-aes-128-ecb", mac["k"], iv, "-nopad")
    tag = (total + int.from_bytes(pad, "little")) % (1 << 128)
    return iv + encrypted + tag.to_bytes(16, "little")


def _openssl(cipher: str, key: str, content: bytes, *more: str) -> bytes:
    words = ["openssl", "enc", cipher, "-K", b64decode(key).hex(), *more]
    return subprocess.run(words, input=content, capture_output=True, check=True, timeout=9).stdout

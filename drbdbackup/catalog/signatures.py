"""Each node signs what it records with a key that only it has, and others check that with its public key.

A share is written to by more than the nodes, so a fact counts only with the signature of the node that it names. Keys
come from where only a node can have put them: over ssh, or on the replicated volume. Once known, a key stays: another
one in a node's name is refused until an admin says which is right. A private key never leaves the node.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeGuard

from msgspec import Struct

from drbdbackup import durable, open_flags
from drbdbackup.catalog.folders import hint_of, private_folder
from drbdbackup.errors import CatalogError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PUBLIC = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST = 4096  # bytes of a file with a key
_OWN = "own.key"
_STALE = 3600.0  # seconds
_NEW_KEY = "Restore it. If you remove it, a new one is made: then run `drbdbackup peer trust {node}` on the other node."


class Signers(Struct, frozen=True):
    """Whose facts the node `own` takes in: those of `nodes`. `keys` are the public keys that are known, by node."""

    own: str
    nodes: frozenset[str]
    keys: Mapping[str, str]

    def takes(self, node: str, content: bytes, signature: object) -> bool:
        """Whether this is to be believed of a node: it has signed it, or its key is not known (an older version's)."""
        if node not in self.nodes:
            return False
        key = self.keys.get(node)
        return key is None or is_signed(key, content, signature)


class OwnKey(Struct, frozen=True):
    """The key of `node`, which is this one: its two halves, 64 hex digits each. Others know it by the `public` one."""

    node: str
    private: str
    public: str

    def sign(self, content: bytes) -> str:
        """The signature: 128 hex digits. This loads a library, so it happens where there is something to sign."""
        return _loaded(self.private).sign(content).hex()


@cache
def _loaded(private: str) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))


def own_key(state_dir: str, node: str) -> OwnKey:
    """The key of this node, made at first use, readable by root alone. Raises CatalogError."""
    path = os.path.join(_folder(state_dir), _OWN)
    try:
        text = _read(path)
        if text is None:
            private_folder(_folder(state_dir))
            private = os.urandom(32).hex()
            halves = f"{private} {_loaded(private).public_key().public_bytes_raw().hex()}"
            _write(path, halves, may_replace=False)  # another process may be first
            text = _read(path)
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}", hint_of(error)) from error
    private_and_public = (text or "").split()
    if len(private_and_public) != 2 or not all(map(is_public_key, private_and_public)):
        raise CatalogError(f"{path} is not a key", _NEW_KEY.format(node=node))
    return OwnKey(node, *private_and_public)


def signers(state_dir: str, node: str, nodes: tuple[str, ...]) -> Signers:
    """Whose facts `node` takes in; its own only with its signature. Raises CatalogError."""
    keys = {one: key for one in nodes if one != node and (key := known_key(state_dir, one))}
    return Signers(node, frozenset(nodes), {**keys, node: own_key(state_dir, node).public})


def known_key(state_dir: str, node: str) -> str:
    """The public key that is known of another node, "" if none is. Raises CatalogError."""
    path = _public_file(state_dir, node)
    try:
        text = _read(path)
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}", hint_of(error)) from error
    if text is not None and not is_public_key(text):
        raise CatalogError(f"{path} is not a key", f"`drbdbackup peer trust {node} KEY` writes it anew.")
    return text or ""


def known_since(state_dir: str, node: str) -> float:
    """When the key of another node was learned, by the clock of the state folder; 0 if none is."""
    return _written_at(_public_file(state_dir, node))


def own_since(state_dir: str) -> float:
    """When the key of this node was made, by the same clock; 0 if it has none."""
    return _written_at(os.path.join(_folder(state_dir), _OWN))


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def learn(state_dir: str, node: str, key: str) -> None:
    """Know a node by this key from now on, whatever was known before. Raises CatalogError."""
    path = _public_file(state_dir, node)
    try:
        private_folder(_folder(state_dir))
        _write(path, key)
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}", hint_of(error)) from error


def is_public_key(text: object) -> TypeGuard[str]:
    """Whether it has the form of a public key."""
    return isinstance(text, str) and _PUBLIC.match(text) is not None


def is_signed(key: str, content: bytes, signature: object) -> bool:
    """Whether a signature is that of the key's owner over this content. Nothing that others wrote raises."""
    if not isinstance(signature, str) or len(signature) != 128:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(key: str) -> str:
    """What two admins compare on the telephone, in the form that ssh prints."""
    import hashlib

    digest = hashlib.sha256(bytes.fromhex(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _folder(state_dir: str) -> str:
    return os.path.join(state_dir, "keys")


def _public_file(state_dir: str, node: str) -> str:
    return os.path.join(_folder(state_dir), f"{node}.pub")


def _read(path: str) -> str | None:
    """The one line of a file; None if it is not there. Raises OSError."""
    try:
        handle = os.open(path, open_flags.READ)
    except FileNotFoundError:
        return None
    with open(handle, "rb", buffering=0) as file:
        return (file.read(_LONGEST) or b"").decode("ascii", "replace").strip()


def _write(path: str, text: str, *, may_replace: bool = True) -> None:
    """A file of the folder, which is private already. What killed processes have left there goes. Raises OSError."""
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        if name.startswith(".") or ".tmp-" in name:
            with suppress(OSError):
                if time.time() - os.lstat(os.path.join(folder, name)).st_mtime > _STALE:  # else another is at work
                    os.unlink(os.path.join(folder, name))
    durable.write(path, f"{text}\n".encode(), may_replace=may_replace)

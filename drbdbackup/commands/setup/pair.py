"""`pair`: one file that describes a pair, and from it every file that must agree on both nodes.

It writes only to the given folder, never to /etc by itself.
"""

from __future__ import annotations

import os
from importlib import resources

from msgspec import Struct

from drbdbackup.errors import Failure
from drbdbackup.pair import output, secret
from drbdbackup.pair.load import load
from drbdbackup.pair.render import render as rendered
from drbdbackup.pair.values import Pair


class PairRendered(Struct, frozen=True):
    """What a rendering has done, or would do, below `out`."""

    pair: Pair
    out: str
    secret: secret.Origin
    files: tuple[output.WrittenFile, ...]


def init(file: str) -> str:
    """Write a pair.toml that explains itself, and return its path. Raises DrbdBackupError where one is there."""
    path = os.path.abspath(file)
    text = resources.files("drbdbackup").joinpath("pair", "sample.toml").read_text(encoding="utf-8")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise Failure(f"{path} already exists", "Name another file; none is overwritten.") from None
    return path


def render(file: str, out: str, *, dry_run: bool = False) -> PairRendered:
    """Write the files of both nodes below `out`, or only find out what would change. Raises ConfigError, UsageError."""
    pair = load(file)
    folder = os.path.abspath(out)
    output.check(folder)
    used = secret.secret(pair, folder)
    files = output.write(folder, tuple(node.name for node in pair.nodes), rendered(pair, used.text), dry_run=dry_run)
    return PairRendered(pair, folder, used.origin, files)

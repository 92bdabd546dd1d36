"""The secret of a pair: the file's, else the one that an earlier rendering has left, else a new one.

A new one is never made where an earlier rendering is known: both nodes would have to be changed at once.
"""

from __future__ import annotations

import os
import re
import secrets
from enum import Enum

from msgspec import Struct

from drbdbackup.errors import ConfigError
from drbdbackup.pair.keys import SECRET
from drbdbackup.pair.render import AUTHKEYS, KEPT
from drbdbackup.pair.values import Pair

_LOOKS = {AUTHKEYS: r"auth 1\n1 sha1 (\S+)\n", KEPT: r"(\S+)\n"}  # of which a rendering has one


class Origin(Enum):
    """Where a secret comes from."""

    GIVEN = "given"
    KEPT = "kept"
    GENERATED = "generated"


class PairSecret(Struct, frozen=True):
    """The secret, and where it is from."""

    text: str
    origin: Origin


def secret(pair: Pair, out: str) -> PairSecret:
    """The secret for a rendering into `out`. Raises ConfigError where earlier files in `out` disagree or hold none."""
    if pair.secret:
        return PairSecret(pair.secret, Origin.GIVEN)
    earlier = {
        path: found for node in pair.nodes for name, looks in _LOOKS.items()
        if (found := _earlier(path := os.path.join(out, node.name, name), looks)) is not None
    }  # fmt: skip
    if len(set(earlier.values())) > 1:
        raise ConfigError(f"{' and '.join(earlier)} hold different secrets", "Remove the wrong one, or both.")
    if earlier:
        return PairSecret(next(iter(earlier.values())), Origin.KEPT)
    return PairSecret(secrets.token_hex(20), Origin.GENERATED)


def _earlier(path: str, looks: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(4096)
    except (FileNotFoundError, NotADirectoryError):
        return None
    match = re.fullmatch(looks, text)
    if match is None or SECRET.parse(match[1]) is None:
        raise ConfigError(f"{path}: is not as it was rendered", "Put its secret into pair.toml, or remove the file.")
    return match[1]

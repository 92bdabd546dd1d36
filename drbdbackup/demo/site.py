"""The website that lives on the volume of the demo: how it begins, and what a day does to it.

It writes only below the folder that it is given.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress

from drbdbackup import proc
from drbdbackup.errors import ToolError
from drbdbackup.proc import Command

_WWW_DATA = 33
_PICTURES, _MAILS = 240, 60
_PRICE_BEFORE, _PRICE_AFTER = b"price = 100\n", b"price = 900\n"


def create_files(volume: str) -> None:
    """Some hundred files with what a server keeps: hard links, symlinks, sparse files, owners, modes, times, ACLs."""
    for folder in ("www/shop/pictures", "www/shop/templates", "mail/anna", "mail/archive", "database"):
        os.makedirs(os.path.join(volume, folder))
    for number in range(_PICTURES):
        _write(volume, f"www/shop/pictures/{number:04}.jpg", _noise(number, 4000 + 90 * number))
    for number in range(_MAILS):
        _write(volume, f"mail/anna/{number:03}", b"From: shop\n\n" + _noise(number, 900))
        os.link(os.path.join(volume, f"mail/anna/{number:03}"), os.path.join(volume, f"mail/archive/{number:03}"))
    _write(volume, "www/shop/index.php", b"<?php include 'templates/page.php';\n")
    _write(volume, "www/shop/templates/page.php", b"<h1>Our shop</h1>\n")
    _write(volume, "www/shop/price.conf", _PRICE_BEFORE)
    _write(volume, "www/shop/-rf #1; it's 5 \u20ac.txt", b"a name that bites\n")
    os.symlink("shop", os.path.join(volume, "www/current"))
    os.truncate(_write(volume, "database/ibdata1", _noise(1, 300_000)), 16 << 20)
    os.chmod(os.path.join(volume, "database/ibdata1"), 0o640)
    os.utime(os.path.join(volume, "www/shop/index.php"), ns=(1, 1_400_000_000_123_456_789))
    _set_metadata(volume)


def change_files(volume: str) -> None:
    """What people do to it: change, add, rename, remove; and one change that size and date do not show."""

    def at(path: str) -> str:
        return os.path.join(volume, path)

    _write(volume, "www/shop/templates/page.php", b"<h1>Our shop</h1><p>Winter sale!</p>\n")
    for number in range(_PICTURES, _PICTURES + 12):
        _write(volume, f"www/shop/pictures/{number:04}.jpg", _noise(number, 20_000))
    os.rename(at("mail/archive"), at("mail/archive-2026"))
    for number in range(10):
        os.unlink(at(f"mail/anna/{number:03}"))
    os.chmod(at("www/shop/index.php"), 0o600)
    before = os.stat(at("www/shop/price.conf"))
    _write(volume, "www/shop/price.conf", _PRICE_AFTER)
    os.utime(at("www/shop/price.conf"), ns=(before.st_atime_ns, before.st_mtime_ns))


def wipe(volume: str) -> None:
    """`rm -rf` of everything on the volume; the volume itself stays mounted."""
    with os.scandir(volume) as entries:
        for entry in entries:
            remove: Callable[[str], object] = shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink
            remove(entry.path)


def _write(volume: str, path: str, content: bytes) -> str:
    full = os.path.join(volume, path)
    with open(full, "wb") as file:
        file.write(content)
    return full


def _noise(seed: int, size: int) -> bytes:
    """The same bytes for the same seed, and nothing that compresses."""
    import random

    return random.Random(seed).randbytes(size)  # noqa: S311  pictures, not secrets


def _set_metadata(volume: str) -> None:
    """What only root can give, and what not every file system can hold."""
    with suppress(OSError):
        for folder, _, files in os.walk(os.path.join(volume, "www")):
            for name in (".", *files):
                os.chown(os.path.join(folder, name), _WWW_DATA, _WWW_DATA)
    with suppress(OSError):
        os.setxattr(os.path.join(volume, "www/shop"), "user.origin", b"the old server")
    with suppress(ToolError):
        proc.run(Command(argv=("setfacl", "-m", "u:8:rw", os.path.join(volume, "mail/anna/030"))))

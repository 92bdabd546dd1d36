"""The configuration of a node, kept beside its catalog on every road, to set it up again from nothing.

It is what `config show` prints: conf.d is in it, and no secret, since a share shows it to others. It is for people.
Nothing here reads it again: whoever can write to a share could have changed it, and hooks are run as root. Each version
has a name of its own, so that what a node that is set up anew says first hides nothing.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from drbdbackup import durable, plain_file
from drbdbackup.catalog.folders import private_folder, published_path
from drbdbackup.config.values import Config
from drbdbackup.errors import Damaged

_FILES = ("config", "pair")  # pair.toml lies beside the configuration, without the pair's secret
_LARGEST = 1 << 20  # bytes
_KEPT = 5  # versions of each


def keep(config: Config) -> None:
    """Lay what there is of it beside what this node publishes. That it cannot be read makes nothing fail."""
    from drbdbackup.config import show

    folder = os.path.dirname(published_path(config.state_dir, config.node))
    for kind, content in (("config", show.as_toml(config).encode()), ("pair", _content(_beside(config.file)))):
        name = os.path.join(folder, f"{kind}.toml")
        with suppress(OSError, Damaged):
            private_folder(folder)
            if content is not None and _content(name) != content:
                durable.write(name, content)


def put(published: str, at: int, node: str) -> None:
    """Copy it from the folder of a published catalog into the open folder for catalogs, and drop the oldest versions.

    Catalogs matter more: what goes wrong here is passed over.
    """
    from hashlib import sha256

    for kind in _FILES:
        content = _content(os.path.join(os.path.dirname(published), f"{kind}.toml"))
        if content is None:
            continue
        name = f"{node}.{kind}.{sha256(content).hexdigest()[:8]}.toml"
        with suppress(OSError, Damaged):
            if _content(name, at) == content:
                os.utime(name, dir_fd=at, follow_symlinks=False)
            else:
                durable.write_in(at, name, content)
            _drop_oldest(at, re.compile(rf"{re.escape(node)}\.{kind}\.[0-9a-f]{{8}}\.toml\Z"))


def _drop_oldest(at: int, form: re.Pattern[str]) -> None:
    versions = filter(form.match, os.listdir(at))
    newest_first = sorted(versions, key=lambda name: os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime_ns)[::-1]
    for name in newest_first[_KEPT:]:
        os.unlink(name, dir_fd=at)


def _beside(file: str) -> str:
    return os.path.join(os.path.dirname(os.path.realpath(file)), "pair.toml")


def _content(path: str, folder: int | None = None) -> bytes | None:
    with suppress(OSError, Damaged):
        return plain_file.content(path, _LARGEST, folder)
    return None

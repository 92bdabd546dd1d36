"""Small JSON documents on a medium: written whole or not at all, read with distrust.

A medium comes from outside: what is not a plain file of a sensible size with one object in it is Damaged, and no read
may hang on a FIFO or follow a symlink.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from drbdbackup import durable, plain_file
from drbdbackup.durable import opened_folder
from drbdbackup.errors import Damaged


def read(path: str, limit: int) -> dict[str, Any]:
    """The object that the file holds; at most `limit` bytes.

    Raises FileNotFoundError, other OSErrors of a medium that does not answer, or Damaged.
    """
    try:
        with opened_folder(os.path.dirname(path), follow=False) as folder:
            return read_in(folder, path, limit)
    except OSError as error:
        raise plain_file.judged(error, path) from None


def read_in(folder: int, path: str, limit: int) -> dict[str, Any]:
    """The same in an open folder, in which the file has the last name of `path`. Raises Damaged, OSError."""
    data = plain_file.content(path, limit, folder)
    found = plain_file.json_object(data)
    if found is None:
        raise Damaged(f"{path} is torn or foreign: it holds no JSON object")
    return found


def write(path: str, content: Mapping[str, Any]) -> None:
    """Write the object, readable by us alone, and see that it lasts. Raises OSError."""
    with opened_folder(os.path.dirname(path), follow=False) as folder:
        durable.write_in(folder, os.path.basename(path), json.dumps(content, indent=1).encode() + b"\n")

"""For building a package: `python -m drbdbackup.cli.package_files SHARE` writes the manual pages and the completion.

They are those of `drbdbackup install`, below a folder that becomes /usr/share.

It changes nothing on this node.
"""

from __future__ import annotations

import os
import sys

from drbdbackup.cli import installed_files
from drbdbackup.cli.app import COMMANDS

_SHARE = "/usr/share/"


def write(share: str) -> None:
    """Write each of them below `share`."""
    for file in installed_files.files(COMMANDS):
        path = os.path.join(share, file.of_package.removeprefix(_SHARE))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as written:
            written.write(file.text)


if __name__ == "__main__":
    write(sys.argv[1])

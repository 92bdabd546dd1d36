"""Another user of a node, who swaps a folder of his for a symlink while root is on the way through it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWAPS = """
import os, sys
his, away, link = sys.argv[1:4]
os.setgid(33), os.setuid(33)
print("ready", flush=True)
while True:
    os.rename(his, away), os.rename(link, his), os.rename(his, link), os.rename(away, his)
"""


@contextmanager
def attacked(home: Path, victim: Path) -> Iterator[Path]:
    """A folder that user 33 swaps for a symlink to the victim, thousands of times a second."""
    his, link = home / "his", home / "link"
    his.mkdir()
    link.symlink_to(victim)
    for path in (home, his, link):
        os.chown(path, 33, 33, follow_symlinks=False)
    for above in (home, *home.parents):
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 1:
            above.chmod(above.stat().st_mode | 0o111)
    argv = [sys.executable, "-c", SWAPS, his, home / "away", link]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "ready\n"
        try:
            yield his
        finally:
            attacker.kill()

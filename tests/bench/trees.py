"""Trees to be backed up: many small files, a few large ones, and what changes in them from one night to the next."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

PAGE = 4096
SETTLES = 3.0  # seconds; what changed within two before a walk is not trusted by the next one


def grow(root: Path, files: int, per_folder: int, bytes_each: int, seed: int = 1) -> None:
    """`files` small ones of up to twice `bytes_each`, `per_folder` to a folder, two levels deep."""
    dice = random.Random(seed)
    noise = dice.randbytes(1 << 20)
    for number in range(0, files, per_folder):
        folder = root / f"d{number // per_folder // 100:02}" / f"e{number // per_folder % 100:02}"
        folder.mkdir(parents=True)
        for name in range(min(per_folder, files - number)):
            size = dice.randrange(2 * bytes_each + 1)
            offset = dice.randrange(len(noise) - size)
            descriptor = os.open(folder / f"file-{name:05}", os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(descriptor, noise[offset : offset + size])
            os.close(descriptor)


def add_large(root: Path, mebibytes: int, count: int, seed: int = 2) -> None:
    """`count` files that hold so much together."""
    dice = random.Random(seed)
    (root / "large").mkdir()
    for number in range(count):
        with open(root / "large" / f"table-{number:02}", "wb") as file:
            for _ in range(mebibytes // count):
                file.write(dice.randbytes(1 << 20))


def change_files(root: Path, share: float, seed: int) -> None:
    """Write other content of the same size to this share of the files, small and large alike."""
    dice = random.Random(seed)
    names = sorted(path for path in root.rglob("*") if path.is_file())
    for path in dice.sample(names, max(1, round(len(names) * share))):
        path.write_bytes(dice.randbytes(path.stat().st_size))


def change_pages(root: Path, one_in: int, seed: int) -> None:
    """Write to one page in so many of every large file, as a database does."""
    dice = random.Random(seed)
    for path in sorted((root / "large").iterdir()):
        with open(path, "r+b") as file:
            for page in range(dice.randrange(one_in), path.stat().st_size // PAGE, one_in):
                file.seek(page * PAGE)
                file.write(dice.randbytes(PAGE))


def settle() -> None:
    """Let so much time pass that what was just written is trusted by the night after next."""
    time.sleep(SETTLES)

"""The cases: each makes its ground, measures ours and theirs in turn, and returns a row for each promise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import memory, scripts, trees
from tests.bench.ground import backs_up, calm, cold, image, pair, seconds, silent
from tests.bench.measured import Row
from tests.played_media import mounted
from tests.played_pair import PlayedPair

FULL, SAME, CHANGED = "first full", "nothing changed", "1 % of the files changed"
PAGES = "1 % changed, 1 of 64 pages of the large ones"
GOALS = {FULL: 1.0, SAME: 0.3, CHANGED: 0.5, PAGES: 0.5}
PER_PROCESS = 64.0  # MiB


@dataclass(frozen=True)
class Scale:
    """How much of everything: files of the trees, MiB of large ones, rounds."""

    rounds: int
    small: int = 12_000
    large: int = 120
    walked: int = 100_000
    few: int = 100_000
    many: int = 1_000_000
    starts: int = 15
    patience: float = 60.0  # seconds to wait for a calm moment, for each pair of figures


QUICK = Scale(rounds=1, small=2_000, large=20, walked=10_000, few=5_000, many=20_000, starts=5, patience=0.0)
Timings = dict[str, tuple[list[float], list[float]]]


def copies(folder: Path, scale: Scale, fstype: str) -> Iterator[Row]:
    """Against the two scripts, from an empty target on, night after night."""
    source = image(folder / "source.img", "ext4", 1024, inodes=4 * scale.small)
    with mounted(source, folder / "growing", "loop") as root:
        trees.grow(root, scale.small, per_folder=100, bytes_each=4096)
        trees.add_large(root, scale.large, count=12)
    timings: Timings = {name: ([], []) for name in GOALS}
    for number in range(scale.rounds):
        media = [image(folder / f"{name}.img", fstype, 2048) for name in ("nas", "disk", "their-nas", "their-disk")]
        _nights(folder, source, media, number, timings, scale.patience)
    for name, (ours, theirs) in timings.items():
        yield Row(f"{fstype}: {name}", GOALS[name], ours, theirs)


def _nights(folder: Path, source: Path, media: list[Path], number: int, timings: Timings, patience: float) -> None:
    nas, disk, their_nas, their_disk = media
    their_share, saving = folder / "their-backup", folder / "their-saving"
    saving.mkdir(exist_ok=True)
    with pair(folder / f"pair-{number}", source, nas, disk) as played, mounted(their_nas, their_share, "loop"):

        def ours() -> None:
            backs_up(played)

        def theirs() -> None:
            scripts.back_up(played.volume, their_share, their_disk, saving)

        def night(name: str, turn: int) -> None:
            trees.settle()
            calm(patience)
            _side_by_side(ours, theirs, timings[name], turn + number)

        night(FULL, 0)
        night(SAME, 1)
        night(SAME, 0)
        night(SAME, 1)
        for again in range(2):
            trees.change_files(played.volume, 0.01, seed=10 * number + again)
            night(CHANGED, again)
        for again in range(2):
            trees.change_files(played.volume, 0.01, seed=10 * number + again + 5)
            trees.change_pages(played.volume, 64, seed=10 * number + again)
            night(PAGES, again)


def _side_by_side(
    ours: Callable[[], None], theirs: Callable[[], None], into: tuple[list[float], list[float]], turn: int
) -> None:
    """A pair of figures, each with a cold cache; who is first takes turns."""
    order = [(ours, into[0]), (theirs, into[1])]
    for work, figures in reversed(order) if turn % 2 else order:
        cold()
        figures.append(seconds(work))


def walked(folder: Path, scale: Scale) -> Iterator[Row]:
    """A night on which nothing changed, against a bare walk."""
    media = [image(folder / f"{name}.img", "ext4", 1536, inodes=2 * scale.walked) for name in ("source", "nas", "disk")]
    figures: tuple[list[float], list[float]] = ([], [])
    with pair(folder / "pair", *media) as played:
        trees.grow(played.volume, scale.walked, per_folder=500, bytes_each=200)
        trees.settle()
        backs_up(played)

        def find() -> None:
            silent("find", played.volume, "-printf", "%p %y %m %U %G %s %T@ %C@ %i %n\\n")

        for turn in range(2 * scale.rounds + 1):
            calm(scale.patience)
            _side_by_side(lambda: backs_up(played), find, figures, turn)
    yield Row(f"{scale.walked:,} files, nothing changed, against find -printf", 3.0, *figures)


def commands(folder: Path, scale: Scale) -> Iterator[Row]:
    """What sits in a shell's prompt or runs every quarter of an hour, against a Python that imports typer."""
    media = [image(folder / f"{name}.img", "ext4", 64) for name in ("source", "nas", "disk")]
    with pair(folder / "pair", *media) as played:
        trees.grow(played.volume, 100, per_folder=10, bytes_each=100)
        for _ in range(3):
            backs_up(played)
        played.extra += "\n[verify]\nshare = 0\n"  # what a node that stands by reads again takes as long as it is large
        latest, stands_down = played.command("www4", "latest"), played.command("www5", "run")
        silent(*stands_down)
        figures: dict[str, list[float]] = {"typer": [], "latest": [], "stand-down": []}
        for _ in range(scale.starts):
            calm(scale.patience / 10)
            figures["typer"].append(seconds(lambda: silent(sys.executable, "-c", "import typer")))
            figures["latest"].append(seconds(lambda: silent(*latest)))
            figures["stand-down"].append(seconds(lambda: silent(*stands_down)))
    yield Row("latest, against `import typer`", 2.5, figures["latest"], figures["typer"])
    yield Row("a stand-down, against `import typer`", 4.0, figures["stand-down"], figures["typer"])


def peaks(folder: Path, scale: Scale) -> Iterator[Row]:
    """Python's memory: a first full copy, a night with nothing changed and one with changes, at two sizes."""
    highest = {size: _peak(folder / str(size), size) for size in (scale.few, scale.many)}
    for size, mebibytes in highest.items():
        yield Row(f"{size:,} files: largest Python process", PER_PROCESS, [mebibytes], unit="MiB")
    yield Row(f"{scale.many:,} against {scale.few:,} files", 1.15, [highest[scale.many]], [highest[scale.few]], "MiB")


def _peak(folder: Path, files: int) -> float:
    folder.mkdir()
    size = 256 + files * 3 // 1000  # MiB: inodes, folders of several snapshots, manifests
    media = [image(folder / f"{name}.img", "ext4", size, files * 5 // 4) for name in ("source", "nas", "disk")]
    with pair(folder / "pair", *media) as played:
        trees.grow(played.volume, files, per_folder=1000, bytes_each=0)
        highest = _peak_of_a_night(played)
        highest = max(highest, _peak_of_a_night(played))
        trees.change_files(played.volume, 0.01, seed=1)
        return max(highest, _peak_of_a_night(played))


def _peak_of_a_night(played: PlayedPair) -> float:
    trees.settle()
    return memory.watch(played.command("www4", "run")).highest


CASES: dict[str, Callable[[Path, Scale], Iterator[Row]]] = {
    "ext4": lambda folder, scale: copies(folder, scale, "ext4"),
    "btrfs": lambda folder, scale: copies(folder, scale, "btrfs"),
    "walk": walked,
    "commands": commands,
    "memory": peaks,
}

"""The cases: each makes its ground, measures ours and theirs in turn, and returns a row for each promise."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from tests import played_mariadb
from tests.bench import latency, memory, peers, scripts, trees
from tests.bench.ground import NO_PRUNING, PATIENCE, backs_up, calm, cold, image, pair, seconds, silent
from tests.bench.measured import Row
from tests.bench.spent import Cost, cost, processor, programs
from tests.played_media import mounted, slow_share, tool
from tests.played_pair import PlayedPair
from tests.played_repository import add_repository

FULL, SAME, CHANGED = "first full", "nothing changed", "1 % of the files changed"
PAGES = "1 % changed, 1 of 64 pages of the large ones"
GOALS = {FULL: 1.0, SAME: 0.25, CHANGED: 0.5, PAGES: 0.5}
_QUIET = 8.0  # seconds
PER_PROCESS = 40.0  # MiB
DROPPED = f"{SAME}, one copy dropped"
MANY_PAGES, WHOLE = "2 % of the pages changed", "restore of everything"
AGAINST = {
    FULL: {"the howto's scripts": 0.75},
    DROPPED: {"the howto's scripts": 0.165, "rsync --link-dest": 0.15, "restic": 0.22, "borg": 0.18},
    CHANGED: dict.fromkeys(("the howto's scripts", "rsync --link-dest", "restic", "borg"), 0.3),
    WHOLE: {"rsync --link-dest": 1.15},
}
COSTS = {
    "latest": ("latest", 1.4), "status": ("status", 1.7), "stand-down": ("a stand-down", 2.5),
    "night": ("a night on which nothing changed", 7.0),
}  # fmt: skip


class Scale(Struct, frozen=True, kw_only=True):
    """How much of everything: files of the trees, MiB of large ones, rounds.

    `peers` is how many seconds a comparison with peers may take until it does no more than one round of each step, and
    those that are slow take part in no further round once they have had their part of it. After twice as many nothing
    more is begun.
    """

    rounds: int
    small: int = 12_000
    large: int = 120
    walked: int = 100_000
    quiet: int = 2_000
    off_site: int = 10_000
    shared: int = 20_000
    few: int = 100_000
    many: int = 1_000_000
    starts: int = 15
    web: tuple[int, int] = (30_000, 400)  # small files, MiB of large ones
    mail: int = 200_000
    tables: int = 1000  # MiB of ten files
    patience: float = 60.0  # seconds to wait for a calm moment, for each pair of figures
    peers: float = 420.0

    def shrunk(self, share: float) -> Scale:
        """The same with trees of this share of the files and bytes."""
        sizes = ("small", "large", "walked", "quiet", "off_site", "shared", "few", "many", "mail", "tables")
        small, large = self.web
        web = max(500, round(small * share)), max(20, round(large * share))
        return replace(self, web=web, **{name: max(20, round(getattr(self, name) * share)) for name in sizes})


QUICK = Scale(
    rounds=1, small=2_000, large=20, walked=10_000, quiet=500, off_site=1_000, shared=1_000, few=5_000, many=20_000,
    starts=5, patience=0.0, web=(1_000, 20), mail=2_000, tables=40,
)  # fmt: skip
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
    """What a command costs before it has touched a file, against a Python that imports typer: processor time.

    That of everything that a command starts; and the programs that a night on which nothing changed executes.
    """
    media = [image(folder / f"{name}.img", "ext4", 256) for name in ("source", "nas", "disk")]
    with pair(folder / "pair", *media) as played:
        trees.grow(played.volume, scale.quiet, per_folder=40, bytes_each=4096)
        trees.settle()
        for _ in range(3):
            backs_up(played)
        played.extra += "\n[verify]\nshare = 0\n"  # what a node that stands by reads again takes as long as it is large
        asked = {
            "latest": played.command("www4", "latest"), "status": played.command("www4", "status"),
            "stand-down": played.command("www5", "run"), "night": played.command("www4", "run"),
        }  # fmt: skip
        typer = [sys.executable, "-c", "import typer"]
        for argv in (typer, *asked.values()):
            silent(*argv)
        ours: dict[str, list[float]] = {name: [] for name in asked}
        theirs: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(scale.starts):
            calm(scale.patience / 10)
            for name, argv in asked.items():
                theirs[name].append(processor(typer))
                ours[name].append(processor(argv))
        executed = programs(asked["night"])
    for name, (title, goal) in COSTS.items():
        yield Row(f"{title}: processor, against `import typer`", goal, ours[name], theirs[name])
    yield Row(f"{scale.quiet:,} files, nothing changed: programs", 14, [executed], unit="programs")


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


def slow(folder: Path, scale: Scale) -> Iterator[Row]:
    """A share that answers each call 0.3 ms later, nothing changed, a copy dropped each night: with its tree recycled,
    against a tree of new links and the old one removed, and against `rsync --link-dest` and `rm`.
    """
    names = ("recycled", "linked", "rsync")
    first = image(folder / "recycled-source.img", "ext4", 512, inodes=4 * scale.shared)
    with mounted(first, folder / "growing", "loop") as root:
        trees.grow(root, scale.shared, per_folder=100, bytes_each=4096)
    nights: list[str] = []
    with ExitStack() as stack:
        for name in names:
            at, source = folder / f"at-{name}", first.with_name(f"{name}-source.img")
            if source != first:
                tool("cp", "--sparse=always", first, source)
            medium = image(folder / f"{name}.img", "ext4", 768, inodes=8 * scale.shared)
            stack.enter_context(mounted(medium, folder / f"behind-{name}", "loop"))
            recycle = str(name == "recycled").lower()
            targets = {"nas": f'kind = "nas"\npath = "{at}"\nrequire_mount = true\nrecycle = {recycle}'}
            played = PlayedPair(folder / f"pair-{name}", targets, extra=peers.RETENTION)
            stack.enter_context(mounted(source, played.volume, "loop"))
            ours = f"{peers.shell(played.command('www4', 'run'))}; sync -f {at}"
            nights.append(peers.link_dest_at(played.volume, at) if name == "rsync" else ours)
        taken: dict[str, list[Cost]] = {name: [] for name in names}
        trees.settle()
        for number in range(peers.KEEP + scale.rounds):
            delay = 300 if number >= peers.KEEP else 0
            calm(scale.patience if delay else 0.0)
            order = list(zip(names, nights, strict=True))
            for name, night in reversed(order) if number % 2 else order:
                with slow_share(folder / f"at-{name}", folder / f"behind-{name}", delay):
                    cold()
                    took = cost(["/bin/bash", "-e", "-c", night], PATIENCE)
                if delay:
                    taken[name].append(took)
                    print(f"  {name}: {took.seconds:.2f} s", file=sys.stderr, flush=True)
    figures = {name: [each.seconds for each in costs] for name, costs in taken.items()}
    for name, goal in (("linked", 0.2), ("rsync", None)):
        title = {"linked": "links and a removal", "rsync": "rsync --link-dest"}[name]
        beside = _beside(taken["recycled"], taken[name])
        row = f"a share with 0.3 ms a call: {scale.shared:,} files, {DROPPED}, against {title}"
        yield Row(row, goal, figures["recycled"], figures[name], beside=beside)


def restored(folder: Path, scale: Scale) -> Iterator[Row]:
    """Everything from the share to a third file system, checked, against rsync, which checks nothing; and one file."""
    small, large = scale.web[0], scale.web[1] * 3 // 4
    sizes = {"source": 256 + 2 * large, "nas": 256 + 2 * large, "disk": 256 + 2 * large, "third": 256 + 2 * large}
    media = [image(folder / f"{name}.img", "ext4", size, inodes=2 * small) for name, size in sizes.items()]
    whole: dict[str, list[Cost]] = {"ours": [], "theirs": []}
    one: list[Cost] = []
    with pair(folder / "pair", *media[:3]) as played, mounted(media[3], folder / "third", "loop"):
        trees.grow(played.volume, small, per_folder=100, bytes_each=4096)
        trees.add_large(played.volume, large, count=10)
        trees.settle()
        backs_up(played)
        to, rsync = folder / "third/back", shutil.which("rsync") or "rsync"
        ours = played.command("www4", "restore", "--from", "nas", "--yes", "--to", str(to))
        theirs = [rsync, "-aHAX", "--numeric-ids", f"{played.newest('nas')}/", str(to)]

        def turn(argv: list[str], into: list[Cost]) -> None:
            cold()
            into.append(cost(argv))
            shutil.rmtree(to)

        for number in range(2 * scale.rounds):
            calm(scale.patience)
            order = [(ours, whole["ours"]), (theirs, whole["theirs"])]
            for argv, into in reversed(order) if number % 2 else order:
                turn(argv, into)
            turn([*ours, "--path", "d00/e05/file-00007"], one)
    taken = [[each.seconds for each in side] for side in whole.values()]
    beside = _beside(whole["ours"], whole["theirs"])
    yield Row("restore of everything, checked, against rsync -aHAX", 1.15, *taken, beside=beside)
    processor_of_one = f"processor {median(each.processor for each in one):.2f} s"
    yield Row("restore of one file of these", 0.5, [each.seconds for each in one], beside=processor_of_one)


def off_site(folder: Path, scale: Scale) -> Iterator[Row]:
    """A night on which nothing changed, to a restic repository alone, against `restic backup` with the same key."""
    if not shutil.which("restic"):
        print("  left out: restic is not installed", flush=True)
        return
    calm(scale.patience)  # restic makes its key so that deriving it takes half a second, and a busy machine misleads it
    source = image(folder / "source.img", "ext4", 512, inodes=4 * scale.off_site)
    played = PlayedPair(folder / "pair", extra=NO_PRUNING)
    del played.targets["nas"]
    add_repository(played, "offsite", str(folder / "repository"))
    figures: dict[str, list[Cost]] = {"ours": [], "theirs": []}
    with mounted(source, played.volume, "loop"):
        trees.grow(played.volume, scale.off_site, per_folder=100, bytes_each=4096)
        for _ in range(2):
            trees.settle()
            if played.run("www4", "run", timeout=PATIENCE).returncode != 0:
                raise SystemExit("drbdbackup run failed")
        shutil.copytree(folder / "repository", folder / "theirs")
        restic = f"restic --quiet --repo {folder}/theirs --password-file {played.folder}/offsite.password"
        backup = f"cd {played.volume}; exec {restic} --cache-dir {folder}/their-cache backup ."
        orders = [("ours", played.command("www4", "run")), ("theirs", ["/bin/sh", "-c", backup])]
        cost(orders[1][1])
        for number in range(2 * scale.rounds + 1):
            calm(scale.patience)
            for name, argv in reversed(orders) if number % 2 else orders:
                figures[name].append(cost(argv, PATIENCE))
        executed = programs(orders[0][1], "restic")
    taken = [[each.seconds for each in side] for side in figures.values()]
    beside = _beside(figures["ours"], figures["theirs"])
    yield Row(f"off site: {scale.off_site:,} files, nothing changed, against restic backup", 2.0, *taken, beside=beside)
    yield Row("the same: starts of restic", 3, [executed], unit="starts")


def under_load(folder: Path, scale: Scale) -> Iterator[Row]:
    """What a transaction on the volume waits while a first full copy is at work, against a quiet time before or after.

    Each commit is written to the disk (`innodb_flush_log_at_trx_commit = 1`). The targets are on the same one, which is
    the worst that can be, then in memory, as if they had disks of their own, and then on the same one with a rate.
    """
    if not played_mariadb.IS_INSTALLED:
        print("  left out: MariaDB is not installed", flush=True)
        return
    small, large = scale.web
    source = image(folder / "source.img", "ext4", 1024 + 2 * large, inodes=4 * small)
    with mounted(source, folder / "growing", "loop") as root:
        trees.grow(root, small, per_folder=100, bytes_each=4096)
        trees.add_large(root, large, count=10)
    durable = "--innodb-flush-log-at-trx-commit=1"
    for where, memory_folder, limits in (
        ("one disk for all", None, ""), ("targets in memory", "/dev/shm", ""),
        ("one disk for all, 50 MiB/s", None, 'rate = "50M"'),
    ):  # fmt: skip
        figures: tuple[list[float], list[float]] = ([], [])
        for number in range(scale.rounds):
            with ExitStack() as stack:
                at = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=memory_folder or folder))
                media = [image(Path(at) / name, "ext4", 512 + 2 * large, inodes=4 * small) for name in ("nas", "disk")]
                played = stack.enter_context(pair(Path(at) / "pair", source, *media))
                played.extra += f"\n[limits]\nnice = 19\n{limits}\n"
                server = stack.enter_context(played_mariadb.server(None, durable, home=played.volume))
                client = stack.enter_context(latency.session(server))
                calm(scale.patience)
                _in_turn(played, client, figures, number)
        yield Row(f"{where}: a transaction's 99th percentile under a first full copy, against none", 1.2, *figures)


def _in_turn(played: PlayedPair, client: latency.Client, into: tuple[list[float], list[float]], number: int) -> None:
    """A pair of figures; the quiet time is as long, and comes first or last by turns."""

    def quiet(seconds: float) -> None:
        until = time.monotonic() + seconds
        into[1].append(latency.slowest_of_hundred(client, lambda: time.monotonic() < until, seed=number))

    if number % 2 == 0:
        quiet(_QUIET)
    cold()
    begun = time.monotonic()
    with subprocess.Popen(played.command("www4", "run"), stdin=subprocess.DEVNULL) as running:
        into[0].append(latency.slowest_of_hundred(client, lambda: running.poll() is None, seed=number))
    if running.returncode != 0:
        raise SystemExit(f"drbdbackup run ended with {running.returncode}")
    print(f"  the copy took {time.monotonic() - begun:.1f} s", file=sys.stderr)
    if number % 2:
        quiet(_QUIET)


def beside_peers(folder: Path, scale: Scale, tree: str) -> Iterator[Row]:
    """Against what a user would pick instead: a full copy, nights with one copy dropped, and the way back."""
    files = {"web": scale.web[0], "mail": scale.mail, "pages": 0}[tree]
    large = {"web": scale.web[1], "mail": 0, "pages": scale.tables}[tree]
    per_folder, bytes_each = (500, 1000) if tree == "mail" else (100, 4096)
    size = 1536 + (peers.KEEP + 3) * large + files * (2 * bytes_each + 4096) // 2**20
    inodes = 20_000 + 6 * files
    names = ("nas", "disk", *(f"their-{number}" for number in range(2 * peers.CONTESTANTS)))
    media = [image(folder / f"{name}.img", "ext4", size, inodes) for name in names]
    source = image(folder / "source.img", "ext4", size, inodes)
    with ExitStack() as stack:
        played = stack.enter_context(pair(folder / "pair", source, media[0], media[1]))
        played.extra = peers.RETENTION
        places = [folder / f"at-{number}" for number in range(2 * peers.CONTESTANTS)]
        for medium, place in zip(media[2:], places, strict=True):
            stack.enter_context(mounted(medium, place, "loop"))
        if files:
            trees.grow(played.volume, files, per_folder, bytes_each)
        if large:
            trees.add_large(played.volume, large, count=10)
        one, to = "large/table-04" if tree == "pages" else "d00/e00/file-00007", folder / "back"
        contestants = [peers.ours(played, one, to), *peers.others(folder, played.volume, places, one, to)]
        comparison = _Comparison(contestants, to, scale)
        comparison.compare(played.volume, has_pages=tree == "pages")
    holds = [f"{files:,} small files"] * bool(files) + [f"{large} MiB"] * bool(large)
    yield from comparison.rows(f"{tree} ({', '.join(holds)})")


class _Comparison:
    """Ours and the others, step after step; `taken` by step, and there by name and round."""

    def __init__(self, contestants: list[peers.Peer], to: Path, scale: Scale) -> None:
        self._contestants, self._to, self._scale = contestants, to, scale
        self._part = scale.peers / len(contestants)
        self._until = time.monotonic() + scale.peers
        self._spent = dict.fromkeys((one.name for one in contestants), 0.0)
        self._taken: dict[str, dict[str, dict[int, Cost]]] = {}
        self._turn = 0

    def compare(self, volume: Path, *, has_pages: bool) -> None:
        """All steps, each at least once. Each has as many rounds as there is time for."""
        rounds = self._scale.rounds

        def changed(number: int) -> None:
            if has_pages:
                trees.change_pages(volume, 50, seed=number)
            else:
                trees.change_files(volume, 0.01, seed=number)
            trees.settle()

        trees.settle()
        self._round(FULL, 0, lambda one: one.night)
        for number in range(1, peers.KEEP):
            trees.settle()
            self._round("", number, lambda one: one.night)
        for number in range(rounds):  # by turns, so that the last of each is not of another hour
            if number and self._is_over():
                break
            trees.settle()
            self._round(DROPPED, number, lambda one: one.night)
            changed(number)
            self._round(MANY_PAGES if has_pages else CHANGED, number, lambda one: one.night)
            self._round(WHOLE, number, lambda one: one.restore)
            self._round("restore of one file", number, lambda one: one.restore_one)

    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    def _round(self, step: str, number: int, script: Callable[[peers.Peer], str]) -> None:
        calm(self._scale.patience)
        first = self._turn % len(self._contestants)  # who is first takes turns
        self._turn += 1
        for one in self._contestants[first:] + self._contestants[:first]:
            if number and step and one is not self._contestants[0] and self._spent[one.name] > self._part:
                continue
            if time.monotonic() > self._until + self._scale.peers:
                print(f"  left out, since it takes too long: {step or 'filling up'}, {one.name}", flush=True)
                continue
            cold()
            took = cost(["/bin/bash", "-e", "-c", script(one)], PATIENCE)
            self._spent[one.name] += took.seconds
            self._taken.setdefault(step, {}).setdefault(one.name, {})[number] = took
            print(f"  {step or 'filling up'}, {one.name}: {took.seconds:.2f} s", file=sys.stderr, flush=True)
            shutil.rmtree(self._to, ignore_errors=True)

    def rows(self, tree: str) -> Iterator[Row]:
        """A row for each step and each of the others, of the rounds in which it took part."""
        for step, by_name in self._taken.items():
            for peer in self._contestants[1:] if step else ():
                own, theirs = (by_name.get(one.name, {}) for one in (self._contestants[0], peer))
                pairs = [(own[number], cost) for number, cost in theirs.items() if number in own]
                if not pairs:
                    continue
                mine, others = [one for one, _ in pairs], [other for _, other in pairs]
                figures = [one.seconds for one in mine], [one.seconds for one in others]
                goal = AGAINST.get(step, {}).get(peer.name)
                yield Row(f"{tree}: {step}, against {peer.name}", goal, *figures, beside=_beside(mine, others))


def _beside(mine: list[Cost], theirs: list[Cost]) -> str:
    """What it took beside the time, ours and theirs."""
    shown = {"processor": "s", "peak": "MiB", "written": "MiB"}
    medians = (
        (name, unit, *(median(getattr(one, name) for one in side) for side in (mine, theirs)))
        for name, unit in shown.items()
    )
    return ", ".join(f"{name} {ours:.1f} : {others:.1f} {unit}" for name, unit, ours, others in medians)


CASES: dict[str, Callable[[Path, Scale], Iterator[Row]]] = {
    "ext4": lambda folder, scale: copies(folder, scale, "ext4"),
    "btrfs": lambda folder, scale: copies(folder, scale, "btrfs"),
    "walk": walked,
    "commands": commands,
    "memory": peaks,
    "web": lambda folder, scale: beside_peers(folder, scale, "web"),
    "mail": lambda folder, scale: beside_peers(folder, scale, "mail"),
    "restore": restored,
    "slow": slow,
    "off-site": off_site,
    "load": under_load,
    "pages": lambda folder, scale: beside_peers(folder, scale, "pages"),
}

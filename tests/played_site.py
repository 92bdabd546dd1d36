"""A pair with a target of every kind, for faults: runs are killed, and whatever was there must be there.

A NAS (ext4), a disk with ext4 and one with btrfs for each node, and a share that knows no links. www4's state folder
lies on a disk of its own. What was once published is known by its content, and looked at on the media themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from drbdbackup.catalog import view
from tests import preloaded
from tests.descent import family
from tests.played_media import disk_image, loop_devices, mount_points, mounted, unmount, wait_for, weak_share
from tests.played_pair import PlayedPair
from tests.settled import settled_volume

KINDS = ("nas", "disk", "btrfs", "share")
KEPT = 2  # copies on each target: every run drops one
PATIENCE = 120.0
KEEPS = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = {}"
Tree = dict[str, tuple[object, ...]]


def furnish(volume: Path) -> None:
    for number in range(30):
        (volume / f"file-{number}").write_text(f"content {number}" * 100)
    for number in (1, 2):
        os.link(volume / f"file-{number}", volume / f"again-{number}")


class Site:
    """`faults` counts what was done to it, `lost` names what should have survived that and did not."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """All that is mounted goes with `stack`."""
        self.folder = folder
        self.faults = 0
        self.lost: list[str] = []
        self.survived = False
        self._truth: dict[tuple[str, str], Tree] = {}
        self._spared = KEPT  # how many of the newest are there for certain
        self._may_go: set[tuple[str, str]] = set()
        for name, fstype in (("nas", "ext4"), ("state-www4", "ext4")):
            disk_image(folder / f"{name}.img", fstype)
            stack.callback(unmount, folder / name)
            self._mount(name)
        stack.enter_context(weak_share(folder / "share", folder / "behind"))
        targets = {name: f'kind = "nas"\npath = "{folder}/{name}"' for name in ("nas", "share")}
        self.pair = PlayedPair(folder, targets, KEEPS.format(KEPT))
        for name, fstype in (("disk", "ext4"), ("btrfs", "btrfs")):
            self.pair.add_disk(name, f"{folder}/{name}-{{node}}.img")
            for node in ("www4", "www5"):
                disk_image(folder / f"{name}-{node}.img", fstype)
        self._own = set(mount_points(folder))
        settled_volume(self.pair.volume, furnish)
        for _ in range(KEPT):
            self.pair.backs_up()
        self.look("www4")

    def changes(self) -> None:
        """A day's work: something new, something changed, a hard link changed."""
        volume, now = self.pair.volume, str(time.time_ns())
        (volume / f"new-{self.faults % 5}").write_text(now)
        (volume / "file-1").write_text(now)
        (volume / "file-3").write_text(now * 50)

    def spares(self) -> None:
        """From now on only the newest copy has to stay, so that the next run begins with the tree of the one before."""
        self._spared = 1
        self.pair.extra = KEEPS.format(self._spared)

    def broken(self, number: int, fault: Callable[[subprocess.Popen[bytes]], None], path: str = "") -> list[str]:
        """Start a run on www4 and do that to it right after its journal's event `number`; the events it came to."""
        self.faults += 1
        journal = self.folder / "state-www4/journal"
        journal.unlink(missing_ok=True)
        os.mkfifo(journal)
        run = preloaded.Popen(
            self.pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "PATH": path or os.environ["PATH"]},
        )  # fmt: skip
        lines = []
        with journal.open() as events:
            for line in events:
                lines.append(line)
                if len(lines) == number:
                    fault(run)
                    break
            lines += events.readlines()
        run.wait(PATIENCE)
        assert len(lines) >= number, "the run has fewer events than this test thinks"
        if journal.is_fifo():
            journal.unlink()
            journal.write_text("".join(lines))
        return [str(json.loads(line)["event"]) for line in lines if line.endswith("\n")]

    def heals(self, node: str) -> None:
        """Nothing is lost; then this node backs up, as if nothing had been, and both nodes know the same."""
        wait_for(lambda: set(mount_points(self.folder)) == self._own, "the run's mounts to go")
        self.look("www4", is_healed=False)
        self._spared = KEPT
        self.pair.extra = KEEPS.format(self._spared)
        self.pair.roles(node)
        self.pair.backs_up(node)
        self.look(node)
        for name in KINDS:
            newest = self._copies(node, name)[0]
            assert newest.sequence == self._copies(node, KINDS[0])[0].sequence, f"{name} was left out"
        for left in (self.folder / "nas", self.folder / "behind"):
            found = [path.name for path in (left / "drbdbackup/raid").glob(".*")]
            assert [name for name in found if not (node == "www5" and re.search(r"-www4(-\d+)?$", name))] == []
        self.pair.roles("www4")
        if node == "www5":
            for other, command in (("www4", "sync"), ("www5", "run")):  # tells and hears; hears, and stands down
                assert self.pair.run(other, command).returncode == 0
            known = [view.copies(str(self.folder / f"state-{one}"), one, "raid", KINDS) for one in ("www4", "www5")]
            assert known[0] == known[1], "the catalogs do not converge"
        assert list((self.folder / f"state-{node}/spool").glob("*")) == []
        assert self.lost == [], self.lost
        self.survived = True

    def note(self, node: str) -> None:
        """All that lies on the media before a node, under a snapshot's name, was published: as the volume is now."""
        now = tree_of(self.pair.volume)
        for place, there in self._places(node):
            for path in sorted(there.glob("[0-9]*"), key=lambda path: path.stat().st_ctime_ns):
                self._truth.setdefault((place, path.name), now)

    def look(self, node: str, *, is_healed: bool = True) -> None:
        """Hold what a node calls a copy, and what must be there still, against what was published.

        Before it has healed, a copy that retention dropped may be listed still.
        """
        self.note(node)
        for place, there in self._places(node):
            name = place.partition("-")[0]
            listed = {copy.snapshot for copy in self._copies(node, name)}
            there_once = [one for one in self._truth if one[0] == place and one not in self._may_go]
            newest = [snapshot for _, snapshot in there_once][-self._spared :]
            if self._spared < KEPT:
                self._may_go.update(there_once[: -self._spared])
            for snapshot in sorted(listed.union(newest)):
                if not (is_healed or snapshot in newest or (there / snapshot).exists()):
                    continue
                found, truth = tree_of(there / snapshot / "data"), self._truth.get((place, snapshot))
                if why := difference(found, truth, is_plain=name == "share"):
                    self.lost.append(f"{snapshot} on {place}: {why}")

    def _places(self, node: str) -> Iterator[tuple[str, Path]]:
        """What a node's targets lie on, and the resource's folder there, for as long as the caller looks at it."""
        for name in KINDS:
            place = name if name in ("nas", "share") else f"{name}-{node}"
            with ExitStack() as stack:
                yield place, self._opened(place, stack) / "drbdbackup/raid"

    def _copies(self, node: str, target: str) -> list[view.Copy]:
        found = view.copies(str(self.folder / f"state-{node}"), node, "raid", KINDS)
        return [copy for copy in found if copy.target == target and copy.holder in ("", node)]

    def _opened(self, place: str, stack: ExitStack) -> Path:
        if place in ("nas", "share"):
            return self.folder / ("behind" if place == "share" else place)
        image = self.folder / f"{place}.img"
        wait_for(lambda: str(image) not in loop_devices(self.folder), f"{image} to be let go of")
        return stack.enter_context(mounted(image, self.folder / "look", "loop"))

    def _mount(self, name: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", self.folder / f"{name}.img", self.folder / name], check=True)


def tree_of(root: Path) -> Tree:
    """Path, and what its entry is: type and mode, owner, size, time in ns, content."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in (".drbdbackup", "lost+found")]
        for path in (os.path.join(folder, name) for name in (*folders, *files)):
            seen = os.lstat(path)
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""
            found[os.path.relpath(path, root)] = (content, seen.st_mode, seen.st_uid, seen.st_mtime_ns)
    return found


def difference(found: Tree, truth: Tree | None, *, is_plain: bool) -> str:
    """How a copy differs from what was published, "" if it does not; `is_plain`: as far as names and content go."""
    if truth is None:
        return "it is listed and was never there"
    if is_plain:
        found, truth = ({path: seen[:1] for path, seen in tree.items()} for tree in (found, truth))
    wrong = [path for path in sorted(found.keys() | truth.keys()) if found.get(path) != truth.get(path)]
    told = "".join(f"; {path} is {found.get(path)}, was {truth.get(path)}" for path in wrong[:1])
    return f"{len(wrong)} of {len(truth)} entries{told}" if wrong else ""


def caged(run: subprocess.Popen[bytes], job: str) -> list[int]:
    """The processes of a run that do such a job: the first in their cages, which have children with the same name."""
    found = []
    for pid in family(run.pid):
        with suppress(OSError):
            home = Path(f"/proc/{pid}")
            is_first = re.search(r"^NSpid:.*\t1$", (home / "status").read_text(), re.MULTILINE)
            if is_first and (home / "comm").read_text() == f"cage: {job}\n":
                found.append(pid)
    return found

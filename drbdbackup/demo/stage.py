"""Where the demo is played: a temporary folder with two nodes, a volume, a NAS, and a disk for each node.

As root they are ext4 images that are mounted for the time of the play; else, or where nothing can be mounted, they are
plain folders. Everything is undone at the end, whatever happens, unless it is to be kept.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, field

from drbdbackup import proc
from drbdbackup.config.load import VARIABLE
from drbdbackup.demo.narration import Printed, Show, Typed
from drbdbackup.errors import Failure, ToolError
from drbdbackup.model.role import Role
from drbdbackup.proc import Command
from drbdbackup.temporary_mounts import detach
from drbdbackup.tools import mount, mounts

NODES = ("www4", "www5")

_MIB = 1 << 20
_SIZES = {"raid": 96 * _MIB, "nas": 192 * _MIB, "www4/disk.img": 192 * _MIB, "www5/disk.img": 192 * _MIB}
_TIMEOUT = 120.0  # seconds for one command
_ANY = frozenset(range(256))


class Stage(Struct):
    """The play's folder. `plain` says why nothing is mounted, or is empty."""

    folder: str
    tell: Show
    plain: str = ""
    mounted: set[str] = field(default_factory=set)

    def at(self, path: str) -> str:
        """A path in the folder."""
        return os.path.join(self.folder, path)

    def types(self, node: str, line: str) -> str:
        """Run what an admin types on a node, show it and what it prints, and return that.

        Raises DrbdBackupError if it ends with another exit status than 0.
        """
        self.tell(Typed(node, line))
        argv = proc.own_python("-m", *shlex.split(line))
        ended = proc.run(Command(argv=argv, ok=_ANY, timeout=_TIMEOUT, env=((VARIABLE, self.config(node)),)))
        self.tell(Printed(os.fsdecode(ended.out + ended.err), ended.exit))
        if ended.exit:
            hint = "`drbdbackup demo --keep` leaves everything as it is, to have a look."
            raise Failure(f"`{line}` on {node}: exit status {ended.exit}", hint)
        return ended.text

    def config(self, node: str) -> str:
        """Its configuration file."""
        return self.at(f"{node}/config.toml")

    def give_volume_to(self, primary: str) -> None:
        """What the cluster does: this node becomes Primary and has the volume mounted, the others become Secondary."""
        if "raid" in self.mounted:
            self.unplug("raid")
            self.mount("raid")
        for node in NODES:
            with open(self.at(f"{node}/role"), "w", encoding="ascii") as file:
                file.write(f"{(Role.PRIMARY if node == primary else Role.SECONDARY).value}\n")

    def mount(self, name: str) -> None:
        """Mount the image of this name at the folder of this name. Raises ToolError."""
        mount.attach(self.at(f"{name}.img"), self.at(name))
        self.mounted.add(name)
        if name == "raid":
            self._point_device_at_volume()

    def unplug(self, name: str) -> None:
        """Unmount what is mounted at the folder of this name; a plain folder is moved away."""
        if name in self.mounted:
            detach(self.at(name))
            self.mounted.remove(name)
        else:
            os.rename(self.at(name), self.at(f"{name}-unplugged"))

    def pull_out(self, node: str) -> None:
        """Take the node's own disk away."""
        disk = self.at(f"{node}/disk" if self.plain else f"{node}/disk.img")
        os.rename(disk, f"{disk}-pulled-out")

    def _point_device_at_volume(self) -> None:
        """The loop device may be another one after each mount; the configuration names a link to it."""
        link, seen = self.at("drbd0"), mounts.mounted_at(mounts.table(), os.path.realpath(self.at("raid")))
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(seen.source if seen else "/dev/null", link)


@contextmanager
def stage(tell: Show, *, keep: bool) -> Iterator[Stage]:
    """Set everything up, and take it down again unless `keep`."""
    built = Stage(os.path.realpath(tempfile.mkdtemp(prefix="demo-")), tell)
    try:
        for folder in ("raid", "nas", *(f"{node}/state" for node in NODES)):
            os.makedirs(built.at(folder), 0o700)
        _mount_images(built)
        for node in NODES:
            _write_config(built, node)
        built.give_volume_to(NODES[0])
        yield built
    finally:
        if not keep:
            _take_down(built)


def _mount_images(built: Stage) -> None:
    """Volume, NAS and disks as images; where that cannot be, plain folders and the reason."""
    if os.geteuid() != 0:
        built.plain = "this is not root"
    try:
        for name in () if built.plain else _SIZES:
            _make_image(built.at(name if name.endswith(".img") else f"{name}.img"), _SIZES[name])
        for name in () if built.plain else ("raid", "nas"):
            built.mount(name)
    except ToolError:
        built.plain = "nothing can be mounted here"
        for name in tuple(built.mounted):
            built.unplug(name)
    if built.plain:
        for node in NODES:
            os.mkdir(built.at(f"{node}/disk"), 0o700)


def _make_image(path: str, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
    proc.run(Command(argv=("mkfs.ext4", "-q", "-F", path)))


def _write_config(built: Stage, node: str) -> None:
    home = built.at(node)
    device = "require_mount = false" if built.plain else f'device = "{built.at("drbd0")}"'
    if built.plain:
        disk = f'[target.disk-{node}]\nkind = "nas"\npath = "{home}/disk"\nrequire_mount = false\n'
    else:
        disk = f'[target.disk]\nkind = "disk"\ndevice = "{home}/disk.img"\nmountpoint = "{home}/saving"\n'
    with open(built.config(node), "w", encoding="utf-8") as file:
        file.write(
            f'node = "{node}"\nnodes = ["www4", "www5"]\nstate_dir = "{home}/state"\n\n'
            f'[role]\nsource = "file"\npath = "{home}/role"\n\n'
            f'[resource.raid]\n{device}\nsource = "{built.at("raid")}"\n\n'
            f'[target.nas]\nkind = "nas"\npath = "{built.at("nas")}"\n'
            f'require_mount = {"false" if built.plain else "true"}\n\n{disk}'
        )


def _take_down(built: Stage) -> None:
    """Unmount what the mount table shows, then remove the folder; never while something is mounted in it."""
    for left in reversed(mounts.below(mounts.table(), built.folder)):
        detach(left.point)
    shutil.rmtree(built.folder)

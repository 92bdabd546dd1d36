"""LVM played with loop devices: a snapshot is a loop device of a copy of its origin's image.

`PlayedLvm` puts `lvs`, `lvcreate`, `lvremove`, `lvmconfig`, `drbdadm` and `drbdsetup` first on PATH. What they say and
do can be bent: files in the folder say how. They know the options and columns that lvm2 2.03 has, as far as they are
used, and no others. There is no device-mapper: a snapshot that ran over only says so.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.captured import play
from tests.played_lvm_programs import ORIGIN, PROGRAMS, remove
from tests.played_pair import PlayedPair

DRBDSETUP = """#!/bin/sh
[ "$1" = events2 ] || exit 1
cd '{folder}' || exit 99
said() {{ echo "$1 resource name:raid role:$(cat role) suspended:no"; }}
said exists
echo "exists connection name:raid peer-node-id:0 conn-name:peer connection:Connected role:Secondary"
echo "exists device name:raid volume:0 minor:0 disk:$(cat disk)"
echo "exists peer-device name:raid peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate"
echo "exists -"
[ "$2" = --now ] && exit 0
last=$(said change)
while :; do
    [ "$(said change)" = "$last" ] || said change
    last=$(said change)
    sleep 0.05
done
"""
DRBDADM = """#!/bin/sh
cd '{folder}' || exit 99
case "$1" in
role) cat role ;;
sh-dev) echo '{device}' ;;
sh-ll-dev) cat below ;;
dump) echo "resource raid {{"; echo "on $(uname -n) {{ disk {device}; }}"; echo "}}" ;;
*) exit 1 ;;
esac
"""


@dataclass
class PlayedLvm:
    """The volume group of a played pair whose volume lies on the loop device `device`, which plays DRBD's too."""

    folder: Path
    device: str

    @classmethod
    def below(cls, pair: PlayedPair) -> PlayedLvm:
        """Put the programs on the pair's PATH, and have it use them."""
        folder = pair.folder / "lvm"
        (folder / "bin").mkdir(parents=True)
        played = cls(folder, pair.resource.split('"')[1])
        for name, text in (("drbdsetup", DRBDSETUP), ("drbdadm", DRBDADM)):
            play(folder / "bin" / name, text.format(folder=folder, device=played.device))
        for name in PROGRAMS:
            program = f"{sys.executable} -I -S {Path(__file__).with_name('played_lvm_programs.py')}"
            play(folder / "bin" / name, f'#!/bin/sh\nexec {program} {name} {folder} {played.device} "$@"\n')
        played.tell(role="Primary", disk="UpToDate", below=played.device, free=str(1 << 30))
        pair.role, pair.path = 'source = "drbd"', f"{folder}/bin:{os.environ['PATH']}"
        pair.resource += '\nsnapshot = "lvm"'
        return played

    def tell(self, **words: str) -> None:
        """What the programs go by: `role`, `disk`, `below` (the backing device), `free` (bytes in the group),
        `segtype`, `before` and `after` (a shell's lines around the copying of lvcreate), `used` (per cent of every
        snapshot), `invalid` (0 or 1), `refuses` (what lvremove says instead of removing), `stuck` (a snapshot of which
        it says that it is in use), `stumbles` (so often lvs fails), `elsewhere` (what it says is wrong with another
        group).
        """
        for name, word in words.items():
            (self.folder / name).write_text(word)

    @property
    def snapshots(self) -> list[str]:
        """The names of those that are there."""
        return sorted(path.name.removesuffix(".snapshot") for path in self.folder.glob("*.snapshot"))

    @property
    def made(self) -> list[list[str]]:
        """The name and the size of every lvcreate."""
        path = self.folder / "made"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def leave(self, name: str, origin: str = ORIGIN) -> None:
        """A snapshot that somebody has left."""
        (self.folder / f"{name}.snapshot").write_text(json.dumps({"origin": origin, "device": ""}))

    def clear(self) -> None:
        for name in self.snapshots:
            remove(self.folder, name)

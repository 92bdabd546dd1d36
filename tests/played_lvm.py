"""LVM played with loop devices: a snapshot is a loop device of a copy of its origin's image.

This file is also the programs.

`PlayedLvm` puts `lvs`, `lvcreate`, `lvremove`, `drbdadm` and `drbdsetup` first on PATH. What they say and do can be
bent: files in the folder say how. There is no device-mapper: a snapshot that ran over only says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.captured import play
from tests.played_pair import PlayedPair

GROUP, ORIGIN = "vg0", "raid"
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
        for name in ("lvs", "lvcreate", "lvremove"):
            program = f"{sys.executable} -m tests.played_lvm {name} {folder} {played.device}"
            play(folder / "bin" / name, f'#!/bin/sh\ncd {Path(__file__).parents[1]}\nexec {program} "$@"\n')
        played.tell(role="Primary", disk="UpToDate", below=played.device, free=str(1 << 30))
        pair.role, pair.path = 'source = "drbd"', f"{folder}/bin:{os.environ['PATH']}"
        pair.resource += '\nsnapshot = "lvm"'
        return played

    def tell(self, **words: str) -> None:
        """What the programs go by: `role`, `disk`, `below` (the backing device), `free` (bytes in the group), `pool`,
        `before` and `after` (a shell's lines around the copying of lvcreate), `used` (per cent of every snapshot),
        `invalid` (0 or 1), `refuses` (what lvremove says instead of removing).
        """
        for name, word in words.items():
            (self.folder / name).write_text(word)

    @property
    def snapshots(self) -> list[str]:
        """The names of those that are there."""
        return sorted(path.name.removesuffix(".snapshot") for path in self.folder.glob("*.snapshot"))

    @property
    def made(self) -> list[list[str]]:
        """The arguments of every lvcreate."""
        path = self.folder / "made"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def leave(self, name: str, origin: str = ORIGIN) -> None:
        """A snapshot that somebody has left."""
        (self.folder / f"{name}.snapshot").write_text(json.dumps({"origin": origin, "device": ""}))

    def clear(self) -> None:
        for name in self.snapshots:
            remove(self.folder, name)


def word(folder: Path, name: str, default: str = "") -> str:
    path = folder / name
    return path.read_text().strip() if path.exists() else default


def number(device: str) -> tuple[str, str]:
    seen = os.stat(device).st_rdev if device else 0
    return (str(os.major(seen)), str(os.minor(seen))) if seen else ("-1", "-1")


def row(folder: Path, device: str, name: str, origin: str) -> dict[str, str]:
    major, minor = number(device)
    return {
        "vg_name": GROUP, "lv_name": name, "lv_path": device, "origin": origin, "lv_kernel_major": major,
        "lv_kernel_minor": minor, "lv_size": str(200 << 20), "vg_free": word(folder, "free"),
        "pool_lv": word(folder, "pool") if not origin else "",
        "data_percent": word(folder, "used", "0.03") if origin else "",
        "lv_snapshot_invalid": word(folder, "invalid", "0") if origin else "-1",
    }  # fmt: skip


def listed(folder: Path, device: str) -> int:
    rows = [row(folder, device, ORIGIN, "")]
    for path in sorted(folder.glob("*.snapshot")):
        told = json.loads(path.read_text())
        rows.append(row(folder, told["device"], path.name.removesuffix(".snapshot"), told["origin"]))
    print(json.dumps({"report": [{"lv": rows}]}))
    return 0


def create(folder: Path, device: str, args: list[str]) -> int:
    given = dict(pairwise(args))
    name, size = given["--name"], int(given["--size"].removesuffix("b"))
    with (folder / "made").open("a") as made:
        made.write(" ".join(args) + "\n")
    if size > int(word(folder, "free")):
        print('  Volume group "vg0" has insufficient free space', file=sys.stderr)
        return 5
    subprocess.run(["sh", "-ec", word(folder, "before", ":")], check=True)
    image = folder / f"{name}.img"
    backing = Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file").read_text().rstrip("\n")
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", backing, image], check=True)
    loop = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    (folder / f"{name}.snapshot").write_text(json.dumps({"origin": ORIGIN, "device": loop.stdout.strip()}))
    subprocess.run(["sh", "-ec", word(folder, "after", ":")], check=True)
    return 0


def remove(folder: Path, name: str) -> int:
    path = folder / f"{name}.snapshot"
    device = json.loads(path.read_text())["device"]
    refusal = word(folder, "refuses")
    if device and not refusal:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
        except OSError:
            refusal = f"Logical volume {GROUP}/{name} contains a filesystem in use."
    if refusal:
        print(f"  {refusal}", file=sys.stderr)
        return 5
    if device:
        subprocess.run(["losetup", "--detach", device], check=True)
        (folder / f"{name}.img").unlink()
    path.unlink()
    return 0


def main(program: str, folder: Path, device: str, args: list[str]) -> int:
    if program == "lvs":
        return listed(folder, device)
    if program == "lvcreate":
        return create(folder, device, args)
    return remove(folder, args[-1].removeprefix(f"{GROUP}/"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))

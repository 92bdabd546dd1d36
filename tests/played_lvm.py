"""LVM played with loop devices: a snapshot is a loop device of a copy of its origin's image.

This file is also the programs.

`PlayedLvm` puts `lvs`, `lvcreate`, `lvremove`, `lvmconfig`, `drbdadm` and `drbdsetup` first on PATH. What they say and
do can be bent: files in the folder say how. They know the options and columns that lvm2 2.03 has, as far as they are
used, and no others. There is no device-mapper: a snapshot that ran over only says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from tests.captured import play
from tests.played_pair import PlayedPair

GROUP, ORIGIN = "vg0", "raid"
PROGRAMS = {  # what they may be given: a flag that must be there, the one value that is known here, or any
    "lvs": {
        "--config": "", "--reportformat": "json", "--units": "b", "--nosuffix": "flag", "--binary": "flag",
        "--options": "", "--select": "",
    },
    "lvcreate": {"--config": "", "--yes": "flag", "--snapshot": "flag", "--name": "", "--size": ""},
    "lvremove": {"--config": "", "--yes": "flag"},
    "lvmconfig": {"--typeconfig": "full"},
}  # fmt: skip
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
            program = f"{sys.executable} -m tests.played_lvm {name} {folder} {played.device}"
            play(folder / "bin" / name, f'#!/bin/sh\ncd {Path(__file__).parents[1]}\nexec {program} "$@"\n')
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
        "segtype": word(folder, "segtype", "linear") if not origin else "linear",
        "data_percent": word(folder, "used", "0.03") if origin else "",
        "lv_snapshot_invalid": word(folder, "invalid", "0") if origin else "-1",
    }  # fmt: skip


def listed(folder: Path, device: str, given: Namespace) -> int:
    if stumbles := int(word(folder, "stumbles", "0")):
        (folder / "stumbles").write_text(str(stumbles - 1))
        return failed("Can't get lock for vg0.")
    if not given.where and word(folder, "elsewhere"):
        return failed(word(folder, "elsewhere"))
    if given.where not in ("", GROUP):
        return failed(f'Volume group "{given.where}" not found')
    rows = [row(folder, device, ORIGIN, "")]
    for path in sorted(folder.glob("*.snapshot")):
        told = json.loads(path.read_text())
        rows.append(row(folder, told["device"], path.name.removesuffix(".snapshot"), told["origin"]))
    columns = given.options.split(",")
    if unknown := [column for column in columns if column not in rows[0]]:
        return failed(f"Unrecognised field: {unknown[0]}")
    chosen = [one for one in rows if given.select in ("", f'lv_name="{one["lv_name"]}"')]
    print(json.dumps({"report": [{"lv": [{column: one[column] for column in columns} for one in chosen]}]}))
    return 0


def create(folder: Path, device: str, given: Namespace) -> int:
    name, size = given.name, int(given.size.removesuffix("b"))
    with (folder / "made").open("a") as made:
        made.write(f"{name} {given.size}\n")
    if given.where != f"{GROUP}/{ORIGIN}":
        return failed(f"Failed to find logical volume {given.where}")
    if size > int(word(folder, "free")):
        return failed('Volume group "vg0" has insufficient free space')
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
    refusal, in_use = word(folder, "refuses"), f"Logical volume {GROUP}/{name} contains a filesystem in use."
    if name == word(folder, "stuck"):
        refusal = in_use
    if device and not refusal:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
        except OSError:
            refusal = in_use
    if refusal:
        return failed(refusal)
    if device:
        subprocess.run(["losetup", "--detach", device], check=True)
        (folder / f"{name}.img").unlink()
    path.unlink()
    return 0


def failed(said: str) -> int:
    print(f"  {said}", file=sys.stderr)
    return 5


def given_to(program: str, args: list[str]) -> Namespace:
    """Its arguments; anything that is not known to it ends it."""
    parser = ArgumentParser(program, allow_abbrev=False)
    for option, kind in PROGRAMS[program].items():
        if kind == "flag":
            parser.add_argument(option, action="store_true", required=True)
        else:
            parser.add_argument(option, default="", choices=[kind] if kind else None)
    parser.add_argument("where", nargs="?", default="")
    return parser.parse_args(args)


def main(program: str, folder: Path, device: str, args: list[str]) -> int:
    given = given_to(program, args)
    if program == "lvmconfig":
        print('global_filter=["a|.*|"]')
        return 0
    if not given.config.startswith('devices/global_filter=["r|^/dev/drbd|"'):
        return failed("it would open DRBD's devices")
    if program == "lvs":
        return listed(folder, device, given)
    if program == "lvcreate":
        return create(folder, device, given)
    return remove(folder, given.where.removeprefix(f"{GROUP}/"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))

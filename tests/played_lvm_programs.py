"""The programs of played LVM, and what they know: a process of its own for each call, so it imports next to nothing.

`played_lvm.py` puts them first on PATH and says what they go by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

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

"""The guests' image: one Debian root file system with all packages, a kernel and an initramfs, kept between sessions.

Its key is a digest of all that goes into it: the package list, the files in guest/, the project's dependencies, this
file. A change of the project's own code therefore makes no new image: its wheel is installed into running guests.
Building wants root and the host's own apt sources; no mirror is named here.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
GUEST = Path(__file__).parent / "guest"
SUITE, PYTHON = "bookworm", "3.11"
SIZE = "3G"  # sparse
FIRST_MODULES = ("virtio_pci", "virtio_blk")  # what the initramfs loads, with all that they need
LEFT_OUT = ("doc", "info", "locale", "man", "mysql-test")
KEPT = 2  # images in the cache, the newest
IN_USE = 4 * 3600  # seconds after its last start that an image may be in use


class CannotBuild(Exception):
    """The image cannot be made on this machine; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Image:
    """The files that a guest boots from; never written to: each guest has its own overlay."""

    root: Path
    kernel: Path
    initramfs: Path


def cache() -> Path:
    """Where images are kept; $XDG_CACHE_HOME moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drbdbackup-lab"


def image() -> Image:
    """The image for what is in this tree; built if it is not in the cache (about two minutes)."""
    folder = cache() / key()
    with locked(cache()):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            (folder / "complete").touch()
        os.utime(folder)
        forget_older()
    return Image(folder / "root.ext4", folder / "vmlinuz", folder / "initramfs")


def key() -> str:
    """The digest of all that goes into an image."""
    digest = hashlib.sha256("\n".join(dependencies()).encode())
    for file in [*sorted(GUEST.iterdir()), Path(__file__)]:
        digest.update(f"\0{file.name}\0{file.stat().st_mode:o}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def dependencies() -> list[str]:
    declared: list[str] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    return sorted(declared)


def packages() -> list[str]:
    lines = (GUEST / "packages").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def build(folder: Path) -> None:
    began = time.monotonic()
    if os.geteuid() != 0:
        raise CannotBuild("The lab's image is built as root (it is a Debian with owners and devices of its own).")
    print(f"Building the lab's image in {folder} ...", file=sys.stderr, flush=True)
    root, wheels = folder / "root", folder / "wheels"
    root.mkdir()
    with ThreadPoolExecutor() as pool:
        wheels_are_here = pool.submit(download_wheels, wheels)
        tar = debian()
        wheels_are_here.result()
    whole = ("--numeric-owner", "--xattrs", "--xattrs-include=*")
    must("tar", "--extract", *whole, f"--file={tar}", f"--directory={root}")
    must(str(GUEST / "customize"), str(root), str(wheels), str(GUEST))
    modules = next((root / "lib/modules").iterdir())
    shutil.copy(root / "boot" / f"vmlinuz-{modules.name}", folder / "vmlinuz")
    initramfs(root, modules, folder / "initramfs")
    must("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(folder / "root.ext4"), SIZE)
    shutil.rmtree(root)
    shutil.rmtree(wheels)
    print(f"Built in {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True)


def download_wheels(into: Path) -> None:
    """The dependencies as the guests' Python wants them, whatever Python this is."""
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux2014", "manylinux_2_28", "manylinux_2_34")]
    must(
        sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={PYTHON}", f"--abi=cp{PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none", *platforms,
        f"--dest={into}", *dependencies(),
    )  # fmt: skip


def debian() -> Path:
    """A tar of the packages, installed, and the kernel: the slow part, kept when only guest/'s files change."""
    names = packages()
    digest = hashlib.sha256("\n".join([SUITE, *names]).encode() + (GUEST / "kernel").read_bytes()).hexdigest()[:16]
    tar = cache() / f"debian-{digest}.tar"
    if not tar.exists():
        for older in cache().glob("debian-*"):
            older.unlink()
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
        must(
            "mmdebstrap", "--quiet", "--variant=minbase", "--architectures=amd64", "--format=tar",
            f"--include={','.join(names)}", "--dpkgopt=force-unsafe-io", *leave_out,
            f'--customize-hook={GUEST / "kernel"} "$1"', SUITE, f"{tar}.part", *sources(),
        )  # fmt: skip
        Path(f"{tar}.part").rename(tar)
    return tar


def sources() -> list[str]:
    """The host's own apt sources of the guests' suite; none where the host is another Debian: then Debian's default."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    wanted = re.compile(rf"^(Suites:|deb\s)(.*\s)?{SUITE}(\s|$)", re.MULTILINE)
    return [str(file) for file in files if file.is_file() and wanted.search(file.read_text(errors="replace"))]


def initramfs(root: Path, modules: Path, to: Path) -> None:
    """busybox, the drivers of a virtual disk in the order of their needs, and guest/initramfs."""
    folder = to.parent / "initramfs.d"
    for name in ("bin", "dev", "lib", "proc", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin/busybox")
    names = []
    for module in needed(modules):
        shutil.copy(modules / module, folder / "lib")
        names.append(Path(module).name)
    (folder / "modules").write_text("\n".join(names) + "\n")
    shutil.copy(GUEST / "initramfs", folder / "init")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    packed = must("cpio", "--create", "--format=newc", "--quiet", given="\n".join(found).encode(), where=folder)
    to.write_bytes(gzip.compress(packed, 6))
    shutil.rmtree(folder)


def needed(modules: Path) -> list[str]:
    """The paths of FIRST_MODULES and of what they need, needs first, from modules.dep."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    found: list[str] = []
    for name in FIRST_MODULES:
        for path in (path for path in needs if Path(path).name == f"{name}.ko"):
            found += [*reversed(needs[path]), path]
    return list(dict.fromkeys(found))


def must(*argv: str, given: bytes = b"", where: Path | None = None) -> bytes:
    """Its output; a program that is missing or fails is CannotBuild with the end of what it said."""
    try:
        ended = subprocess.run(argv, input=given, capture_output=True, cwd=where, timeout=900)
    except FileNotFoundError as error:
        raise CannotBuild(f"{argv[0]} is not there; make cluster installs it where it is root") from error
    if ended.returncode:
        said = "\n".join(ended.stderr.decode(errors="replace").splitlines()[-25:])
        raise CannotBuild(f"{argv[0]} ended with {ended.returncode}:\n{said}")
    return ended.stdout


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two sessions do not build the same image."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_older() -> None:
    """All but the newest, and but what another session may be running on."""
    folders = sorted((path for path in cache().iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-KEPT]:
        if time.time() - folder.stat().st_mtime > IN_USE:
            shutil.rmtree(folder)


if __name__ == "__main__":
    print(image().root)

"""restic as Debian 13 has it, beside the one of this machine: some tests run with both, some with the newer one.

`make test` fetches it by `python -m tests.newer_restic`, from the mirror of this machine's apt, which checks Debian's
signature; nothing is installed. Where that cannot be had, all of them run with the restic that is there. In CI that is
an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

RELEASE, VERSION = "trixie", (0, 18)
FOLDER = Path(__file__).parents[1] / ".cache" / f"restic-{RELEASE}"
PROGRAM = FOLDER / "usr/bin/restic"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian/"


def is_needed() -> bool:
    """Whether the restic of this machine is an older one."""
    said = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.match(r"restic (\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) < VERSION


def versions() -> list[str]:
    """The values of the fixture `restic` in `conftest.py`."""
    wanted = PROGRAM.exists() or (bool(os.environ.get("CI")) and shutil.which("restic") and is_needed())
    return ["this", "newer"] if wanted else ["this"]


def with_both_restics(test: Callable[..., None]) -> pytest.MarkDecorator:
    """For a test that runs with this machine's restic, and with the newer one if there is that."""
    return _with(versions(), test)


def with_newer_restic(test: Callable[..., None]) -> pytest.MarkDecorator:
    """For a test that runs with the newer one if there is that."""
    return _with(versions()[-1:], test)


def _with(values: list[str], test: Callable[..., None]) -> pytest.MarkDecorator:
    return pytest.mark.usefixtures("restic")(pytest.mark.parametrize("restic", values, indirect=True)(test))


def mirror() -> str:
    """Where this machine has Debian from."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    return next((one for one in found if "security" not in one), MIRROR)


def fetch(into: Path) -> None:
    """Bring the package, with lists of apt's own that nothing else sees. Raises CalledProcessError."""
    for name in ("lists/partial", "archives/partial"):
        (into / name).mkdir(parents=True)
    (into / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {RELEASE} main\n")
    settings = {
        "Dir::Etc::sourcelist": into / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": into / "lists",
        "Dir::Cache": into, "Acquire::Languages": "none", "APT::Sandbox::User": "root",
    }  # fmt: skip
    apt = ["apt-get", "--quiet=2", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    for words in (["update"], ["download", f"restic/{RELEASE}"]):
        subprocess.run([*apt, *words], cwd=into, check=True, timeout=300)
    [package] = into.glob("restic_*.deb")
    FOLDER.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "--extract", package, into / "root"], check=True, timeout=60)
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.move(into / "root", FOLDER)


def main() -> int:
    """Fetch it if it is needed and not there; say so if that is not possible."""
    if PROGRAM.exists() or not shutil.which("restic") or not is_needed():
        return 0
    try:
        with TemporaryDirectory() as folder:
            fetch(Path(folder))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(f"restic of Debian 13 is not to be had, so no test runs with it: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

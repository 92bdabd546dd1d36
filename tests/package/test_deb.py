"""The .deb of each release in a fresh Debian: lintian reports nothing; it is installed, upgraded, removed and purged
without a trace, and another release refuses it.

It makes a system of each release and builds the package for it, so `make package` asks for it by name. PACKAGE_SYSTEMS
names a folder with systems that are there already (`bookworm`, made by mmdebstrap as below); they are changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INCLUDED = "--include=python3-venv,rsync,man-db"
HERE = re.findall(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
QUICKLY = os.environ | {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
OURS = re.compile(r"drbdbackup")
pytestmark = pytest.mark.timeout(1500)


def run(*words: str | Path, cwd: Path = ROOT, status: int = 0) -> str:
    ended = subprocess.run(
        words, capture_output=True, text=True, cwd=cwd, timeout=1200, stdin=subprocess.DEVNULL, env=QUICKLY
    )  # fmt: skip
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout if not status else ended.stderr


@pytest.fixture(scope="class")
def release(request: pytest.FixtureRequest) -> str:
    return str(request.cls.release)


@pytest.fixture(scope="class")
def package(release: str, system: Path) -> Path:
    """As `make deb` builds it for the release that this runs on, and `make deb RELEASE=...` for another."""
    words = ("debian/build", sys.executable) if release in HERE else ("debian/build-for", release, system)
    return ROOT / run(*words).split()[-1]


@pytest.fixture(scope="class")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an earlier version, with a file that the new one does not have."""
    folder = tmp_path_factory.mktemp("older")
    run("dpkg-deb", "--raw-extract", package, folder / "root")
    control = folder / "root/DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.0.1-1", control.read_text(), flags=re.MULTILINE))
    gone = folder / "root/opt/drbdbackup/lib/gone.py"
    gone.write_text("")
    run("dpkg-deb", "--root-owner-group", "--build", folder / "root", folder / "older.deb")
    return folder / "older.deb"


@pytest.fixture(scope="class")
def of_another_release(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What says of itself that it is for another release's Python, with a file that must not come."""
    folder = tmp_path_factory.mktemp("another")
    (folder / "root/opt/drbdbackup").mkdir(parents=True)
    run("dpkg-deb", "--control", package, folder / "root/DEBIAN")
    control = folder / "root/DEBIAN/control"
    control.write_text(re.sub(r"3\.(1\d)~", lambda found: f"3.{int(found[1]) - 3}~", control.read_text()))
    run("dpkg-deb", "--root-owner-group", "--build", folder / "root", folder / "another.deb")
    return folder / "another.deb"


@pytest.fixture(scope="class")
def system(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if "PACKAGE_SYSTEMS" in os.environ:
        yield Path(os.environ["PACKAGE_SYSTEMS"], release)
        return
    folder = tmp_path_factory.mktemp("system") / "root"
    run("mmdebstrap", "--variant=minbase", INCLUDED, release, folder)
    yield folder
    run("rm", "--recursive", "--force", "--one-file-system", folder)


def inside(system: Path, *words: str, status: int = 0) -> str:
    """A command in that Debian, in namespaces of its own."""
    script = 'mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/run" && exec chroot "$0" "$@"'
    return run("unshare", "--mount", "--pid", "--fork", "sh", "-c", script, system, *words, status=status)


def files(system: Path) -> set[str]:
    """All that is there, without what dpkg, man and the clock write."""
    found = run("find", system, "-xdev", "(", "-name", "proc", "-o", "-path", f"{system}/run", ")", "-prune", "-o",
                "-printf", "%P\n")  # fmt: skip
    own = re.compile(r"var/(lib/dpkg|log|cache)|tmp\b|root\b")
    return {line for line in found.splitlines() if not own.match(line)}


def install(system: Path, package: Path, before: str = "true") -> str:
    run("cp", package, system / "tmp/package.deb")
    unpacking = "dpkg '--path-exclude=/usr/share/doc/*' --install /tmp/package.deb"  # as on a small Debian
    return inside(system, "sh", "-c", f"{before} && {unpacking}")


class Package:
    """What each release's package has to do. A worker has a whole class: its system and its package are made once."""

    release: str

    def test_lintian_has_nothing_to_say(self, package: Path) -> None:
        assert run("lintian", "--allow-root", "--fail-on", "error,warning", package) == ""

    def test_another_release_refuses_it_and_is_left_as_it_was(self, system: Path, of_another_release: Path) -> None:
        before = files(system)
        run("cp", of_another_release, system / "tmp/package.deb")
        said = inside(system, "dpkg", "--install", "/tmp/package.deb", status=1)
        assert re.search(r"drbdbackup pre-depends on python3 \(<< 3\.\d+~\)", said), said
        assert "not installing drbdbackup" in said
        assert files(system) == before
        status = inside(system, "dpkg-query", "--show", "--showformat=${db:Status-Status}", "drbdbackup")
        assert status == "not-installed"

    def test_it_is_installed_upgraded_removed_and_purged(self, system: Path, package: Path, older: Path) -> None:
        before = files(system)
        install(system, older)
        assert (system / "opt/drbdbackup/lib/gone.py").exists()
        inside(system, "drbdbackup", "install", "--cron")
        unit = system / "etc/cron.d/drbdbackup"
        was = unit.read_text()
        assert "command -v drbdbackup" in was
        own = ("zsh/vendor-completions/_drbdbackup", "fish/vendor_completions.d/drbdbackup.fish")
        assert [name for name in own if not (system / "usr/share" / name).is_file()] == []
        further = ("man/man1/drbdbackup.1", "zsh/site-functions/_drbdbackup", "fish")
        assert [name for name in further if (system / "usr/local/share" / name).exists()] == [], "the package has it"
        (system / "etc/drbdbackup/config.toml").write_text(
            'node = "a"\nnodes = ["a"]\nschedule = "15 3 * * *"\n'
            '[resource.r]\ndevice = "/dev/drbd0"\nsource = "/srv/r"\n'
            '[target.n]\nkind = "nas"\npath = "/backup"\n'
        )  # fmt: skip

        install(system, package)  # upgrades, and refreshes what was set up
        assert not (system / "opt/drbdbackup/lib/gone.py").exists()
        assert "\n15 3 * * * root " in unit.read_text()
        assert re.fullmatch(r"drbdbackup \S+\n", inside(system, "drbdbackup", "--version"))
        assert "15 3 * * *" in inside(system, "drbdbackup", "config", "show")
        assert inside(system, "drbdbackup", "status", "--json", status=0)
        help_text = inside(system, "drbdbackup", "--help")
        assert "/usr/share/doc/drbdbackup/README.md" in help_text or "share/doc/drbdbackup" in help_text
        assert "/usr/share/man/man1/drbdbackup.1.gz" in inside(system, "man", "--where", "drbdbackup")
        assert "/man5/" in inside(system, "man", "--where", "drbdbackup.toml")

        inside(system, "dpkg", "--remove", "drbdbackup")
        left = {path for path in files(system) - before if OURS.search(path)}
        others = {path for path in left if not path.startswith("var/lib/drbdbackup")}
        assert others == {"etc/drbdbackup", "etc/drbdbackup/config.toml"}, "these stay until the purge"
        assert not unit.exists(), "nothing starts what is not there"

        assert "drbdbackup install" in install(system, package), "it is back, and what starts it is not"
        assert "nothing starts" not in install(system, package, "drbdbackup install --cron"), "on an upgrade it is"

        at = "/var/lib/drbdbackup/at"
        script = f"mkdir {at} && mount -t tmpfs tmpfs {at} && : >{at}/copy && dpkg --purge drbdbackup && ls {at}"
        assert inside(system, "sh", "-c", script).split()[-1] == "copy", "what is mounted there is no part of it"
        assert {path for path in files(system) - before if OURS.search(path)} == {at[1:], os.path.dirname(at[1:])}


class TestBookworm(Package):
    release = "bookworm"


class TestTrixie(Package):
    release = "trixie"

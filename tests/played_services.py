"""A node played for the rendered scripts: its folders, its volume, and the programs that they call.

Each script runs in a mount namespace of its own, where `here` is the root of the node that is played and `/etc` is that
node's. The volume is a tmpfs that calls itself /dev/drbd0; a node that is Primary sees it mounted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import preloaded
from tests.played_media import unmount

COUNTED = ("cp", "ln", "mkdir", "mv", "rm", "sync")
FAKE = '#!/bin/sh\necho "${0##*/} $*" >>"$PLAYED_LOG"\n'
DYING = """#!/bin/sh
n=$(($(cat "$PLAYED_COUNT") + 1))
echo $n >"$PLAYED_COUNT"
if [ "$n" = "$PLAYED_DIES_IN" ]; then # in the midst of it
    [ {name} != cp ] || {{ for last; do :; done; mkdir -p "$last"; echo half >"$last/half"; }}
    kill -KILL $PPID
    exit 1
fi
/bin/{name} "$@" || exit
"""

PAIR = """
[node.www4]
public = "133.10.10.5"
private = "192.168.12.2"
[node.www5]
public = "133.10.10.6"
private = "192.168.12.3"
[public]
interface = "eth0"
network = "133.10.10.0/24"
virtual_ip = "133.10.10.10"
[private]
interface = "eth1"
network = "192.168.12.0/24"
[volume]
disk = "/dev/sda3"
mount_point = "{folder}/raid"
[service.mysql]
folders = ["{folder}/here/var/lib/mysql"]
[service.php]
folders = ["{folder}/here/var/lib/php/sessions"]
[service.apache]
folders = ["{folder}/here/var/www"]
[backup.nas]
source = "133.10.10.20:/export/backup"
path = "{folder}/backup"
[backup.disk]
device = "/dev/sdb1"
mountpoint = "{folder}/saving"
"""
FOLDERS = ("var/lib/mysql", "var/lib/php/sessions", "var/www")


@dataclass
class PlayedServices:
    """`scripts` are the rendered ones. A node's root is `<folder>/<node>`, the volume is `<folder>/volume`."""

    folder: Path
    scripts: Path
    primary: str = "www4"
    systemd: bool = True

    def root(self, node: str) -> Path:
        return self.folder / node

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def calls(self) -> list[str]:
        """What was called of the fakes, in order."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def on_volume(self, folder: str) -> Path:
        """Where a folder of FOLDERS lies on the volume. The whole path counts, because it is none of Debian's."""
        return self.volume / str(self.folder).lstrip("/") / "here" / folder

    def run(self, node: str, script: str, *args: str, dies_in: int = 0) -> subprocess.CompletedProcess[str]:
        """The script on the node, where `dies_in` is the number of the call that it does not survive."""
        mounts = [
            f"mount --bind {self.root(node)} {self.folder}/here",
            f"mount --bind {self.root(node)}/etc /etc",
            "mount -t tmpfs none /run",
        ]
        mounts += ["mkdir -p /run/systemd/system"] if self.systemd else []
        mounts += [f"mount --bind {self.volume} {self.folder}/raid"] if node == self.primary else []
        (self.folder / "count").write_text("0")
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin", "PLAYED_LOG": str(self.folder / "log"),
            "PLAYED_COUNT": str(self.folder / "count"), "PLAYED_DIES_IN": str(dies_in),
        }  # fmt: skip
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", " && ".join([*mounts, 'exec "$0" "$@"']),
             str(self.scripts / script), *args],
            env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def does(self, node: str, script: str, *args: str) -> str:
        """A script that must succeed, and what it says."""
        ended = self.run(node, script, *args)
        assert (ended.returncode, ended.stderr) == (0, ""), f"{ended.returncode} {ended.stdout} {ended.stderr}"
        return ended.stdout

    def refuses(self, node: str, script: str, *args: str) -> str:
        """A script that must refuse, and why."""
        ended = self.run(node, script, *args)
        assert ended.returncode == 1, ended.stdout
        return ended.stderr


@contextmanager
def played_services(folder: Path) -> Iterator[PlayedServices]:
    """Two nodes with services installed, www4 the Primary, nothing moved yet."""
    (folder / "pair.toml").write_text(PAIR.format(folder=folder))
    argv = [*preloaded.ENTRY, "pair", "render", str(folder / "pair.toml"), "--out", str(folder / "out")]
    rendered = preloaded.run(argv, capture_output=True, timeout=60)
    assert rendered.returncode == 0, rendered.stderr
    for name in ("here", "raid", "volume", "bin"):
        (folder / name).mkdir()
    for node in ("www4", "www5"):
        _install(folder / node, node)
    _programs(folder / "bin")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "/dev/drbd0", folder / "volume"], check=True, timeout=60)
    try:
        yield PlayedServices(folder, folder / "out/www4/usr/local/sbin")
    finally:
        unmount(folder / "volume")


def _install(root: Path, node: str) -> None:
    """Folders with owners, modes, links and times of all kinds."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        (root / folder / "what").write_text(f"{folder} of {node}\n")
    (root / "var/lib/mysql/table").write_bytes(os.urandom(9000))
    os.chown(root / "var/lib/mysql/table", 104, 112)
    os.chown(root / "var/lib/mysql", 104, 112)
    (root / "var/lib/mysql").chmod(0o750)
    (root / "var/lib/php/sessions").chmod(0o1733)
    (root / "var/www/enabled").symlink_to("../www/what")
    (root / "etc").mkdir()
    os.link(root / "var/www/what", root / "var/www/same")
    os.utime(root / "var/www/what", ns=(1, 1_600_000_000_123_456_789))
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/fstab").write_text("UUID=1 / ext4 defaults 0 1\n")
    (root / "etc/alternatives").mkdir()
    (root / "etc/alternatives/awk").symlink_to(Path("/usr/bin/awk").resolve())
    for script in ("init.d/mariadb", "init.d/apache2", *(f"ha.d/resource.d/{name}" for name in AGENTS)):
        (root / "etc" / script).parent.mkdir(parents=True, exist_ok=True)
        (root / "etc" / script).write_text("#!/bin/sh\n")
        (root / "etc" / script).chmod(0o755)
    for name in ("hosts.pair", "fstab.pair"):
        (root / "etc" / name).write_bytes((root.parent / "out" / node / "etc" / name).read_bytes())


AGENTS = ("IPaddr", "drbddisk", "Filesystem", "drbdbackup")


def _programs(folder: Path) -> None:
    for name in ("systemctl", "service", "update-rc.d"):
        (folder / name).write_text(FAKE)
    (folder / "drbdadm").write_text("#!/bin/sh\necho Secondary/Primary\n")
    for name in COUNTED:
        (folder / name).write_text(DYING.format(name=name))
    for program in folder.iterdir():
        program.chmod(0o755)

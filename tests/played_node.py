"""Two nodes as the howto sets them up, played on one machine: each has an /etc, a /var and a name of its own.

A command runs in namespaces of its own, in which overlays show what the node has, the NAS and (on the Primary) the
volume are mounted, and `drbdadm`, `drbdsetup` and `systemctl` are fakes first on PATH. Nothing of it is seen outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests import preloaded
from tests.captured import play
from tests.played_media import disk_image, tool
from tests.played_pair import PlayedPair

NODES = ("www4", "www5")
LINKED = {"var/www": "www", "var/lib/mysql": "mysql", "etc/apache2": "etc/apache2"}
HOSTS = "    on www4 {\n        disk  /dev/sda1;\n    }\n    on www5 {\n        disk  /dev/sda1;\n    }\n"
FILES = {
    "etc/drbd.d/raid.res": f"resource raid {{\n{HOSTS}    net {{ shared-secret geheim; }}\n}}\n",
    "etc/ha.d/ha.cf": "keepalive 1\nauto_failback off\nnode www4\nnode www5\n",
    "etc/ha.d/haresources":
        "www4 IPaddr::133.10.10.10/24/eth0 drbddisk::raid Filesystem::/dev/drbd0::/srv/raid::ext4 "
        "mysql apache2 drbdbackup\n",
    "etc/ha.d/authkeys": "auth 1\n1 sha1 8f14e45fceea167a5a36dedd4bea2543\n",
    "etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n/dev/drbd0 /srv/raid ext4 noauto 0 0\nnas:/b /backup nfs hard 0 0\n",
    "etc/cron.d/drbdbackup": (Path(__file__).parents[1] / "cron/drbdbackup").read_text(),
}
AGENT = Path(__file__).parents[1] / "drbdbackup/share/resource-agent"
PROGRAMS = (
    "etc/ha.d/resource.d/IPaddr", "etc/ha.d/resource.d/drbddisk", "etc/ha.d/resource.d/Filesystem", "etc/init.d/mysql",
    "etc/init.d/apache2", "usr/local/bin/drbdbackup",
)  # fmt: skip
EVENTS = """\
exists resource name:raid role:{} suspended:no
exists connection name:raid peer-node-id:0 conn-name:peer connection:Connected role:{}
exists device name:raid volume:0 minor:0 disk:UpToDate
exists peer-device name:raid peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate
exists -
"""
SYSTEMCTL = """#!/bin/sh
unit=$3
[ ! -e {units}/hang ] || exec sleep 60
if [ -e {units}/$unit ]; then cat {units}/$unit; exit 0; fi
echo "Failed to get unit file state for $unit.service: No such file or directory" >&2
exit 1
"""
# $1 the node, $2 its folder; what is left is run.
SETTING = """#!/bin/sh
set -e
hostname "$1"
mount --make-rprivate /
for place in etc var usr/local; do
    mkdir -p "$2/work/$place" "$2/seen/$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$2/$place,workdir=$2/work/$place" "$2/seen/$place"
    mount --bind "$2/seen/$place" "/$place"
done
mount -t tmpfs tmpfs /sys/module
cp -r "$2/module/." /sys/module/
. "$2/mounts"
shift 2
exec "$@"
"""


@dataclass
class PlayedNodes(PlayedPair):
    """Both nodes, well set up, with a NAS and a disk each; www4 is Primary. `device` is the volume's."""

    device: str = ""
    saved: dict[str, str] = field(default_factory=dict)

    @classmethod
    def set_up(cls, folder: Path) -> PlayedNodes:
        """Everything as it should be; `take_down` lets go of the volume's device."""
        image = disk_image(folder / "volume.img")
        device = tool("losetup", "--find", "--show", image).strip()
        nodes = cls(folder, {"nas": ""}, role='source = "drbd"', resource=f'device = "{device}"', device=device)
        nodes.targets["nas"] = f'kind = "nas"\npath = "{folder}/nas"'
        (folder / "setting").write_text(SETTING)
        for name in ("nas", "nas-behind", "disk-at-www4", "disk-at-www5"):
            (folder / name).mkdir()
        nodes.add_disk("disk", f"{folder}/disk-{{node}}.img")
        for node in NODES:
            disk_image(folder / f"disk-{node}.img")
            nodes.furnish(node)
        nodes.roles("www4")
        tool("mount", device, nodes.volume)
        for name in LINKED.values():
            (nodes.volume / name).mkdir(parents=True)
            (nodes.volume / name / "file").write_text("content\n")
        nodes.volume.chmod(0o755)
        tool("umount", nodes.volume)
        nodes.volume.chmod(0o755)
        return nodes

    def take_down(self) -> None:
        tool("losetup", "--detach", self.device)

    def of(self, node: str) -> Path:
        """The node's own folder: `etc`, `var` and `usr/local` hold what it has there, `bin` its fakes."""
        return self.folder / node

    def furnish(self, node: str) -> None:
        home = self.of(node)
        for place in ("etc", "var/lib", "usr/local", "bin", "units", "module/drbd"):
            (home / place).mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            self.write(node, name, text)
        (home / "etc/ha.d/authkeys").chmod(0o600)
        for name in PROGRAMS:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            play(home / name, "#!/bin/sh\n")
            (home / name).chmod(0o755)
        self.write(node, "etc/ha.d/resource.d/drbdbackup", AGENT.read_text(), 0o755)
        for name, place in LINKED.items():
            (home / name).symlink_to(self.volume / place)
        (home / "units/apache2").write_text("disabled\n")
        play(home / "bin/sendmail", "#!/bin/sh\n")
        play(home / "bin/systemctl", SYSTEMCTL.format(units=home / "units"))
        for program in ("drbdadm", "drbdsetup"):
            script = f'#!/bin/sh\ncd {home}/bin || exit 99\nsaid="{program} $*"\n'
            play(home / "bin" / program, script + 'cat "$said.err" >&2; cat "$said.out"; exit "$(cat "$said.exit")"\n')
        for words in ("drbdadm dump raid", "drbdadm dump"):
            self.answer(node, words, f"resource raid {{\n{HOSTS}}}\n")

    def write(self, node: str, name: str, text: str, mode: int = 0o644) -> None:
        path = self.of(node) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def answer(self, node: str, words: str, out: str = "", *, err: str = "", status: int = 0) -> None:
        """What a fake of DRBD's says."""
        for part, text in (("out", out), ("err", err), ("exit", str(status))):
            (self.of(node) / "bin" / f"{words}.{part}").write_text(text)

    def roles(self, primary: str | None) -> None:
        """DRBD's words, and the volume mounted on the Primary."""
        for node in NODES if (self.folder / "setting").exists() else ():
            mine, other = ("Primary", "Secondary") if node == primary else ("Secondary", "Primary")
            self.answer(node, "drbdsetup events2 --now", EVENTS.format(mine, other))
            lines = [f"mount --bind {self.folder}/nas-behind {self.folder}/nas"]
            lines += [f"mount {self.device} {self.volume}", f"chmod 755 {self.volume}"] if node == primary else []
            self.mounts(node, *lines)

    def mounts(self, node: str, *lines: str) -> None:
        """What is mounted on a node: lines of shell."""
        (self.of(node) / "mounts").write_text("\n".join(lines) + "\n")

    def command(self, node: str, *args: str) -> list[str]:
        inner = [*preloaded.door(), *super().command(node, *args)[len(preloaded.ENTRY) :]]
        home, path = self.of(node), f"PATH={self.of(node)}/bin:{os.environ['PATH']}"
        setting = ["sh", str(self.folder / "setting"), node, str(home), "env", path]
        return ["unshare", "--mount", "--uts", *setting, *inner]

    def save(self) -> None:
        """Remember all that a test may change."""
        self.saved = {"extra": self.extra, "resource": self.resource, "head": self.head, "role": self.role}
        self._copy(self.folder, self.folder / "saved")

    def restore(self) -> None:
        """Make it so again."""
        for name, value in self.saved.items():
            setattr(self, name, value)
        (self.folder / "not-at-boot").unlink(missing_ok=True)
        inside = 'mount "$0" "$1" && rm -rf "$1/.drbdbackup" "$1/large" && umount "$1"'
        tool("unshare", "--mount", "sh", "-c", inside, self.device, self.volume)
        self._copy(self.folder / "saved", self.folder)

    def _copy(self, source: Path, to: Path) -> None:
        to.mkdir(exist_ok=True)
        own = (name.format(node) for node in NODES for name in ("{}", "state-{}", "disk-{}.img"))
        for name in (*own, "nas-behind"):
            if (to / name).is_dir():
                shutil.rmtree(to / name)
            subprocess.run(["cp", "-a", "--sparse=always", source / name, to], check=True, timeout=60)

"""A pair as frozen values, one class per table of `pair.toml`. `sample.toml` explains each key.

Nothing here reads a file or checks what a key may be.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from msgspec import Struct


class Node(Struct, frozen=True):
    """One of the two. `name` is what `uname -n` prints there; `disk` is the one below DRBD."""

    name: str
    public: IPv4Address
    private: IPv4Address
    disk: str


class Public(Struct, frozen=True):
    """The link that the users come by, and the address that moves with the Primary."""

    interface: str
    network: IPv4Network
    virtual_ip: IPv4Address


class Private(Struct, frozen=True):
    """The link between the nodes; `port` is DRBD's TCP port there."""

    interface: str
    network: IPv4Network
    port: int = 7788


class PairVolume(Struct, frozen=True):
    """What DRBD replicates. `rate` is a fixed speed of the resync, as in "40M" bytes a second; else DRBD finds one."""

    disk: str
    resource: str = "raid"
    device: str = "/dev/drbd0"
    mount_point: str = "/srv/raid"
    filesystem: str = "ext4"
    rate: str = ""


class Heartbeat(Struct, frozen=True):
    """Heartbeat's times in seconds (ha.cf(5)) and its UDP port."""

    keepalive: int = 1
    warntime: int = 5
    deadtime: int = 10
    initdead: int = 60
    port: int = 694


class Pacemaker(Struct, frozen=True):
    """Corosync's `token` in seconds, after which a silent node counts as dead (corosync.conf(5)), and its UDP port."""

    token: int = 5
    port: int = 5405


class PairService(Struct, frozen=True):
    """One that runs on the Primary only. `init` is its start script ("": none), `units` must not start at boot."""

    name: str
    folders: tuple[str, ...] = ()
    init: str = ""
    units: tuple[str, ...] = ()


# bg, nofail: a boot waits for nobody, and the mount is tried again until the NAS is there. soft: a NAS that is gone is
# an error after three minutes (30 + 60 + 90 s) and no process that cannot be killed. The rest: it holds data only.
NFS_OPTIONS = "rw,_netdev,nofail,bg,soft,timeo=300,retrans=2,noatime,nosuid,nodev,noexec"


class Nas(Struct, frozen=True):
    """The share for the backups, as its line in fstab says it."""

    source: str
    path: str = "/backup"
    type: str = "nfs"
    options: str = NFS_OPTIONS


class Disk(Struct, frozen=True):
    """Each node's own second disk for the backups."""

    device: str
    mountpoint: str = "/saving"


class Pair(Struct, frozen=True, kw_only=True):
    """The whole file, checked. `nodes` are two; Heartbeat prefers the first. `secret` is "" where the file has none.

    `pacemaker` is None where Heartbeat swaps the nodes, and else has its place.
    """

    file: str
    nodes: tuple[Node, ...]
    public: Public
    private: Private
    volume: PairVolume
    services: tuple[PairService, ...] = ()
    heartbeat: Heartbeat = Heartbeat()
    pacemaker: Pacemaker | None = None
    nas: Nas | None = None
    disk: Disk | None = None
    schedule: str = "30 4 * * *"
    secret: str = ""

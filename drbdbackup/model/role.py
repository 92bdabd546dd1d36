"""What a node is for a resource, and what was seen of it. A role is never a bool, and Unknown is a value.

The words are DRBD's own (drbdsetup(8), "Connection states", "Disk states", "Replication states"). A word that is not
listed here is an error at the rim, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """The role of a node, this one or a peer."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class Disk(Enum):
    """The state of a backing disk, here or at the peer."""

    DISKLESS = "Diskless"
    ATTACHING = "Attaching"
    DETACHING = "Detaching"
    FAILED = "Failed"
    NEGOTIATING = "Negotiating"
    INCONSISTENT = "Inconsistent"
    OUTDATED = "Outdated"
    UNKNOWN = "DUnknown"
    CONSISTENT = "Consistent"
    UP_TO_DATE = "UpToDate"


class Connection(Enum):
    """The state of the link to one peer."""

    STANDALONE = "StandAlone"
    DISCONNECTING = "Disconnecting"
    UNCONNECTED = "Unconnected"
    TIMEOUT = "Timeout"
    BROKEN_PIPE = "BrokenPipe"
    NETWORK_FAILURE = "NetworkFailure"
    PROTOCOL_ERROR = "ProtocolError"
    TEAR_DOWN = "TearDown"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"


class Replication(Enum):
    """What goes over a connected link for one volume; DRBD 8 shows these words where 9 shows `Connected`."""

    OFF = "Off"
    ESTABLISHED = "Established"
    STARTING_SYNC_S = "StartingSyncS"
    STARTING_SYNC_T = "StartingSyncT"
    WAITING_BITMAP_S = "WFBitMapS"
    WAITING_BITMAP_T = "WFBitMapT"
    WAITING_SYNC_UUID = "WFSyncUUID"
    SYNC_SOURCE = "SyncSource"
    SYNC_TARGET = "SyncTarget"
    VERIFY_S = "VerifyS"
    VERIFY_T = "VerifyT"
    PAUSED_SYNC_S = "PausedSyncS"
    PAUSED_SYNC_T = "PausedSyncT"
    AHEAD = "Ahead"
    BEHIND = "Behind"


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """One peer as this node sees it. `disks` has one state per volume; `syncing` says so in DRBD's word, or is "".

    `name` is DRBD's: with 8.x it is "peer", or "" while the link is down.
    """

    name: str
    role: Role
    connection: Connection
    disks: tuple[Disk, ...] = ()
    syncing: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one role source said of one resource.

    `disks` and `minors` have one entry per volume, in the order of the volumes; both are empty where the source does
    not tell. `suspended` says why I/O is, in DRBD's words joined by commas, or is "". `problem` says why the role is
    Unknown and `hint` what to do about it.
    """

    resource: str
    source: str
    role: Role
    disks: tuple[Disk, ...] = ()
    peers: tuple[PeerSeen, ...] = ()
    suspended: str = ""
    problem: str = ""
    hint: str = ""
    minors: tuple[int, ...] = ()


class Decision(Enum):
    """The three verdicts."""

    PROCEED = "proceed"
    STAND_DOWN = "stand-down"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its reasons, shown and stored. `role` and the rest are what `status` prints of the evidence."""

    decision: Decision
    because: tuple[str, ...]
    role: Role
    disk: str = ""
    peer_role: str = ""
    hint: str = ""

"""What a node is for a resource, and what was seen of it. A role is never a bool, and Unknown is a value.

The words are DRBD's own (drbdsetup(8), "Connection states", "Disk states", "Replication states"). A word that is not
listed here is an error at the rim, never a guess.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Role(Enum):
    """The role of a node, this one or a peer."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class DiskState(Enum):
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


class PeerSeen(Struct, frozen=True):
    """One peer as this node sees it. `disks` has one state per volume; `syncing` says so in DRBD's word, or is "".

    `name` is DRBD's: with 8.x it is "peer", or "" while the link is down. `is_client`: it is to have no
    disk, as a tie-breaker.
    """

    name: str
    role: Role
    connection: Connection
    disks: tuple[DiskState, ...] = ()
    syncing: str = ""
    is_client: bool = False


class Observation(Struct, frozen=True, kw_only=True):
    """What one role source said of one resource.

    `disks`, `minors` and `volumes` (their numbers) have one entry per volume, in their order; they are empty where the
    source does not say. `suspended` says why I/O is, in DRBD's words joined by commas, or is "". `problem` says why
    the role is Unknown and `hint` what to do about it.
    """

    resource: str
    source: str
    role: Role
    disks: tuple[DiskState, ...] = ()
    peers: tuple[PeerSeen, ...] = ()
    suspended: str = ""
    problem: str = ""
    hint: str = ""
    minors: tuple[int, ...] = ()
    volumes: tuple[int, ...] = ()


class Decision(Enum):
    """The three verdicts."""

    PROCEED = "proceed"
    STAND_DOWN = "stand-down"
    REFUSE = "refuse"


class Verdict(Struct, frozen=True, kw_only=True):
    """A decision with its reasons, shown and stored. `role` and the rest are what `status` prints of the evidence.

    `left_out` are volumes of the resource that nobody backs up.
    """

    decision: Decision
    because: tuple[str, ...]
    role: Role
    disk: str = ""
    peer_role: str = ""
    hint: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether a connected peer is Primary, too."""
        return Role.PRIMARY.value in self.peer_role.split(",")

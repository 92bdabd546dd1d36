"""How values pass between a supervisor and the job in its cage: one JSON object on each line, encoded and decoded here.

Jobs, events and answers are frozen Structs; those of a conversation are in a `*_protocol.py` beside its job. Such a
file has values only: the supervisor and the job import it, and never each other. Events carry their names in `event`,
answers in `answer`. What a newer version adds is ignored; whatever else is not as it was agreed on is a ProtocolError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

from drbdbackup.errors import DrbdBackupError, ProtocolError, from_document

SUPERVISOR = "the supervisor"
_SHOWN = 200  # characters of a line that nobody understands
_HINT = "Is the same version of drbdbackup installed everywhere on this node? If so, this is a bug: please report it."


class JobEvent(Struct, frozen=True, tag_field="event", tag=str.lower):
    """What a job says. Not msgspec's own JSON: paths that are no UTF-8 pass as lone surrogates, and it has none."""


class Alive(JobEvent, frozen=True):
    """It works, and has nothing else to say."""


class Opening(JobEvent, frozen=True):
    """It opens its medium, which may take as long as a disk takes to wake up or a server to answer."""


class MediumOpened(JobEvent, frozen=True, tag="medium"):
    """The medium is open: from now on it has to move."""


class Ended(JobEvent, frozen=True, tag="done"):
    """It is done, and there is nothing to say about it."""


class Failed(JobEvent, frozen=True, tag="error"):
    """It has ended, with this error: `error` is its class, `code` what it is known by."""

    error: str
    message: str
    code: str = ""
    hint: str = ""

    @classmethod
    def of(cls, error: DrbdBackupError) -> Failed:
        """The event that carries this error."""
        return cls(error.kind, error.message, error.code, error.hint)

    @property
    def reason(self) -> DrbdBackupError:
        """The error itself; a code that is not known here becomes a plain one."""
        return from_document({"code": self.code, "message": self.message, "hint": self.hint})


class Answer(Struct, frozen=True, tag_field="answer", tag=str.lower):
    """What the supervisor answers to an event."""


class NodeFacts(Struct, frozen=True, kw_only=True):
    """The facts about its node that every job carries.

    `volumes` are the mount points of all resources: a cage lets go of those that it has no business with. `marks` is
    where disks that are mounted without a cage are marked, None where cages are available. `nice`, `ionice`: see
    `Limits`.
    `held`: the folder that says which copies a restore of this node reads (`copies_in_use`). `media` are the media of
    all targets, with the target's name of each: none may pass for another.
    """

    node: str
    caged: bool
    volumes: tuple[str, ...]
    marks: str | None
    nice: int
    ionice: str = "best-effort"
    held: str = ""
    media: Mapping[str, str] = field(default_factory=dict)


class CageJob(Struct, frozen=True, kw_only=True):
    """A job for a cage: the facts about its node; each kind of job adds what it has to do."""

    here: NodeFacts

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of this node that it works on. A replicated volume that holds none of them is let go of."""
        return ()

    @property
    def is_background_work(self) -> bool:
        """Whether it may take its time, so that the services of this node have the processor first."""
        return False

    @property
    def is_idle_work(self) -> bool:
        """Whether nobody waits for it: everything else on this node comes first."""
        return False

    @property
    def own_folder(self) -> str:
        """Where it keeps lists of its own, in the state folder, "" if it has none. That may be full, too."""
        return ""


JobT = TypeVar("JobT", bound=CageJob)
EventT = TypeVar("EventT")
EndT = TypeVar("EndT", bound=JobEvent)


class Conversation(Struct, Generic[JobT, EventT, EndT], frozen=True):
    """What passes between a supervisor and a job of this `kind`: the `job`, its own `events` (a Struct, a union,
    or None), and its `end`. `Opening`, `MediumOpened`, `Alive` and `Failed` may come from every job.
    """

    kind: str
    job: type[JobT]
    end: type[EndT]
    events: Any = None

    @property
    def job_says(self) -> Any:
        """All that the job may say."""
        common = Alive | Opening | MediumOpened | Failed | self.end
        return common if self.events is None else self.events | common


class EndedRuns(Struct, frozen=True):
    """For a job that removes what crashes left: the nodes, names of runs that have ended, and where the names of those
    begin that must have.
    """

    nodes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    before: str = ""


def encode(message: Struct) -> str:
    """A message as one line of JSON, without its end."""
    return json.dumps(msgspec.to_builtins(message))


def decode(line: str | bytes, kind: Any, sender: str) -> Any:
    """What is on a line from `sender`, as a value of `kind`: a Struct, or a union. Raises ProtocolError."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _nonsense(sender, str(error), line) from None
    if not isinstance(found, dict):
        raise _nonsense(sender, "no JSON object", line)
    try:
        return msgspec.convert(found, kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _nonsense(sender, str(error), line) from None


def _nonsense(sender: str, why: str, line: str | bytes) -> ProtocolError:
    shown = repr(line[:_SHOWN])
    return ProtocolError(f"{sender} sent a message that cannot be understood ({why}): {shown}", _HINT)

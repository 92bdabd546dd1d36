"""The only place that starts processes: programs looked up on PATH, never through a shell, each in a group of its own.

A process that hangs on a dead share stays in D state after SIGKILL, so nothing here ever waits without a deadline:
what cannot be killed is abandoned. `run` is for programs that answer at once, `run_leaving` for those that leave
others running, `start` for those that work for long, `talk` for those that talk with us meanwhile, `probe` for a look
of our own at a place that may hang (`probe_all` at several), `pass_through` for one that a peer talks to, `caged` wraps
an argv so that no mount and no process of it outlives us, `bound` so that the process does not. `had` tells a guard
that cannot be had from one that a moment keeps from us.
"""

from drbdbackup.proc.caging import bound, caged, can_cage
from drbdbackup.proc.command import FOREVER, Command, Result, environment, failure, find
from drbdbackup.proc.group import GRACE
from drbdbackup.proc.guard import had
from drbdbackup.proc.leaving import run_leaving
from drbdbackup.proc.once import run
from drbdbackup.proc.passing import pass_through
from drbdbackup.proc.probing import probe, probe_all
from drbdbackup.proc.running import Running, start
from drbdbackup.proc.talking import Talking, talk

__all__ = [
    "FOREVER", "GRACE", "Command", "Result", "Running", "Talking", "bound", "can_cage", "caged", "environment",
    "failure", "find", "had", "pass_through", "probe", "probe_all", "run", "run_leaving", "start", "talk",
]  # fmt: skip

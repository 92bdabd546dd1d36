"""The only place that starts processes: programs looked up on PATH, never through a shell, each in a group of its own.

A process that hangs on a dead share stays in D state after SIGKILL, so nothing here ever waits without a deadline:
what cannot be killed is abandoned. `run` is for programs that answer at once, `run_leaving` for those that leave
others running, `start` for those that work for long, `start_in_background` for one that nobody waits for, `talk` for
those that talk with us meanwhile, `probe` for a look of our own at a place that may hang (`probe_all` at several),
`pass_through` for one that a peer talks to, `paging` for one in which a person reads. What is `caged` is a job of our
own, in a process of which no mount and no process outlives us; `bound` wraps an argv so that the process does not;
`bind` bounds our own memory. `had` distinguishes a guard that is refused from one that only fails for now. `end` comes
last.
"""

from drbdbackup.proc.background import start_in_background
from drbdbackup.proc.caging import Job, bound, can_cage, end, prepare
from drbdbackup.proc.command import FOREVER, Command, Result, environment, failure, find, why_not_found
from drbdbackup.proc.group import GRACE
from drbdbackup.proc.leaving import run_leaving
from drbdbackup.proc.memory import bind
from drbdbackup.proc.once import run
from drbdbackup.proc.paging import paging
from drbdbackup.proc.passing import pass_through, pass_through_caged
from drbdbackup.proc.probing import probe, probe_all
from drbdbackup.proc.refusal import had
from drbdbackup.proc.running import Running, start
from drbdbackup.proc.talking import Talking, talk, talk_caged

__all__ = [
    "FOREVER", "GRACE", "Command", "Job", "Result", "Running", "Talking", "bind", "bound", "can_cage", "end",
    "environment", "failure", "find", "had", "paging", "pass_through", "pass_through_caged", "prepare", "probe",
    "probe_all", "run", "run_leaving", "start", "start_in_background", "talk", "talk_caged", "why_not_found",
]  # fmt: skip

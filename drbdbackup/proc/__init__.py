"""The only place that starts processes: programs looked up on PATH, no shell reads a word, each in a group of its own.

A process that hangs on a dead share stays in D state after SIGKILL, so nothing here ever waits without a deadline: what
cannot be killed is abandoned. `run` is for programs that answer at once, `run_start_script` for those that leave others
running, `start` for those that work for long, `start_in_background` for one that nobody waits for, `start_piped` for
those that talk with us meanwhile, `probe` for a look of our own at a place that may hang (`probe_all` at several),
`pass_through` for one that a peer talks to, `pass_on` for one whose output we hand on, `paging` for one in which a
person reads. What is `caged` is a job of our own, in a process of which no mount and no process outlives us; `bound`
wraps an argv so that the process does not; `limit_memory` bounds our own memory, `memory_for_untrusted_input` is what a
program may take whose input others have made, `be_first_oom_victim` is for what a peer has us start. `try_guard`
distinguishes a guard that is refused from one that only fails for now. `end` comes last.
"""

from drbdbackup.proc.background import start_in_background
from drbdbackup.proc.caging import Job, bound, can_cage, end, prepare
from drbdbackup.proc.command import (
    FOREVER,
    LONGEST_LINE,
    Command,
    Result,
    environment,
    failure,
    find,
    own_python,
    why_not_found,
)
from drbdbackup.proc.group import GRACE
from drbdbackup.proc.inherited_streams import pass_on, pass_through, pass_through_caged
from drbdbackup.proc.memory import be_first_oom_victim, limit_memory, memory_for_untrusted_input
from drbdbackup.proc.once import run
from drbdbackup.proc.paging import is_for_another, paging
from drbdbackup.proc.piped_process import PipedProcess, start_piped, start_piped_caged
from drbdbackup.proc.probing import probe, probe_all
from drbdbackup.proc.refusal import try_guard
from drbdbackup.proc.running import Running, start
from drbdbackup.proc.start_script import run_start_script

__all__ = [
    "FOREVER", "GRACE", "LONGEST_LINE", "Command", "Job", "Result", "Running", "PipedProcess", "limit_memory", "bound",
    "can_cage", "be_first_oom_victim", "memory_for_untrusted_input", "end",
    "environment", "failure", "find", "try_guard", "is_for_another", "own_python", "paging", "pass_on", "pass_through",
    "pass_through_caged", "prepare", "probe", "probe_all", "run", "run_start_script", "start", "start_in_background",
    "start_piped",
    "start_piped_caged", "why_not_found",
]  # fmt: skip

"""The name and the role of this node, and what a run would do now, in the gate's own words.

The same configuration may serve all nodes only as long as it does not say which one this is: so its word for the
node is held against the machine's own.
"""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.model.role import Decision, Role, Verdict


def judge(verdict: Verdict, resource: str, *, explained: bool) -> list[Finding]:
    """A role that cannot be read, or a run that would be refused; `explained` if its cause is reported already."""
    because = "; ".join(verdict.because)
    if verdict.role is Role.UNKNOWN:
        return [] if explained else [Check("role", resource).fail(because, verdict.hint)]
    if verdict.decision is Decision.REFUSE:
        return [Check("role", resource).fail(f"a run would refuse: {because}", verdict.hint)]
    if verdict.left_out:
        hint = "Only one volume of a resource can be backed up. Name what may be left out in `ignore_volumes`."
        return [Check("role", resource).warn("; ".join((*verdict.left_out, because)), hint)]
    return [Check("role", resource).ok(because)]


class NameFacts(Struct, frozen=True):
    """`host` is what `uname -n` prints."""

    file: str
    node: str
    nodes: tuple[str, ...]
    host: str


def judge_name(facts: NameFacts) -> list[Finding]:
    """Two nodes that take themselves for the same one would spoil each other's catalog."""
    check, short = Check("node"), facts.host.partition(".")[0]
    if short != facts.node and short in facts.nodes:
        because = f"{facts.file} says that this is {facts.node}, and the machine is called {facts.host}"
        return [check.fail(because, f"Take `node` out of {facts.file}: the short host name is right.")]
    return [check.ok(f"{facts.node}, one of {', '.join(facts.nodes)}")]

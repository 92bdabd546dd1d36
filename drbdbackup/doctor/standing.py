"""The role of this node and what a run would do now: the gate's own words."""

from __future__ import annotations

from drbdbackup import gate
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.model.role import Decision, Role, Verdict


def gather(config: Config, resource: ResourceConfig) -> Verdict:
    """Ask the gate; a device or role that hangs is given up after the role's time."""
    return gate.judge(resource, config.node, config.nodes, gate.gather(config, resource))


def judge(verdict: Verdict, resource: str, *, explained: bool) -> list[Finding]:
    """A role that cannot be read, or a run that would be refused; `explained` if a cause of it is told already."""
    because = "; ".join(verdict.because)
    if verdict.role is Role.UNKNOWN:
        return [] if explained else [Check("role", resource).fail(because, verdict.hint)]
    if verdict.decision is Decision.REFUSE:
        return [Check("role", resource).fail(f"a run would refuse: {because}", verdict.hint)]
    return [Check("role", resource).ok(because)]

"""What this node is called: the configuration's word against the machine's own.

The same file may serve all nodes only as long as it does not say which one this is.
"""

from __future__ import annotations

from dataclasses import dataclass

from drbdbackup.doctor.finding import Check, Finding


@dataclass(frozen=True, slots=True)
class NameFacts:
    """`host` is what `uname -n` prints."""

    file: str
    node: str
    nodes: tuple[str, ...]
    host: str


def judge(facts: NameFacts) -> list[Finding]:
    """Two nodes that take themselves for the same one would spoil each other's catalog."""
    check, short = Check("node"), facts.host.partition(".")[0]
    if short != facts.node and short in facts.nodes:
        because = f"{facts.file} says that this is {facts.node}, and the machine is called {facts.host}"
        return [check.fail(because, f"Take `node` out of {facts.file}: the short host name is right.")]
    return [check.ok(f"{facts.node}, one of {', '.join(facts.nodes)}")]

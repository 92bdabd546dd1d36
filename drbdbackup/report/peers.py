"""Keys between the nodes, for people and for scripts: what will be changed, what was, and how to take it back.

Private keys never come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import to_builtins

from drbdbackup.commands.setup.peer import AcceptedKey, Added, NodeKey, PeerPlan, Removed
from drbdbackup.report import text


def planned(plan: PeerPlan) -> Iterator[str]:
    """What `peer add` will do, with the fingerprints that nobody has vouched for."""
    yield f"To reach {plan.peer.node} at {plan.peer.ssh}:"
    yield f"  {'make the key' if plan.makes_key else 'use the key'} {plan.key_file}"
    yield f"  let it run `drbdbackup serve` on {plan.peer.node} and nothing else; let {plan.peer.node} in here likewise"
    if plan.learns:
        yield f"  from now on know {plan.host.name} by these keys, put into {plan.host.files[0]}:"
        yield from (f"    {one}" for one in plan.shown)
        yield f"  Are they its own? On {plan.peer.node}: for k in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $k; done"


def added(done: Added) -> Iterator[str]:
    """Each line and where it is, and whether the roads are open."""
    peer = done.plan.peer.node
    if done.plan.makes_key:
        yield f"made {done.plan.key_file}"
    if done.known_hosts:
        yield f"{done.known_hosts}: {text.count(len(done.plan.learns), 'key')} of {done.plan.host.name} added"
    for one in filter(None, (done.there, done.here)):
        yield from accepted(one)
    yield from _road(f"from here to {peer}", done.closed_there)
    yield from _road(f"from {peer} to here", done.closed_here)
    if done.closed_here:
        yield f"  On {peer}: `drbdbackup peer add` for this node makes its host key known there, too."


def accepted(one: AcceptedKey) -> Iterator[str]:
    """The line that lets a node in, and how it is taken back."""
    yield f"{one.node}:{one.file}: {'added' if one.is_new else 'was there already'}"
    yield f"  {one.line}"
    yield f"  to take it back: `drbdbackup peer remove {one.accepts}` on {one.node}, or take that line out"


def removed(done: Removed) -> Iterator[str]:
    """What was taken out."""
    yield f"{done.node} is not let in any more; taken out of {done.file}:"
    yield from (f"  {line}" for line in done.lines)


def keys(nodes: Iterable[NodeKey]) -> Iterator[str]:
    """A line for each node, and what to do about a key that is not known."""
    for one in nodes:
        note = "  (this node)" if one.is_own else ""
        yield f"{one.node}  {one.key}{note}" if one.key else f"{one.node}  no key is known"
        if not one.key:
            yield "  Until then its catalogs are believed without a signature. `peer trust` sets a key."


def trusted(one: NodeKey) -> Iterator[str]:
    """The key that counts from now on."""
    yield f"{one.node} is known by the key {one.key} ({one.fingerprint})"


def document(done: Added) -> dict[str, Any]:
    """`peer add --json`."""
    return {
        "node": done.plan.peer.node, "key_file": done.plan.key_file, "key_is_new": done.plan.makes_key,
        "known_hosts": done.known_hosts or None, "fingerprints": list(done.plan.shown),
        "lines": [to_builtins(one) for one in (done.there, done.here) if one],
        "road_there": done.closed_there or None, "road_here": done.closed_here or None,
    }  # fmt: skip


def _road(way: str, closed: str) -> Iterator[str]:
    if not closed:
        yield f"{way}: open"
        return
    first, *others = closed.splitlines()
    yield f"{way}: CLOSED, {first}"
    yield from (f"  {line}" for line in others)

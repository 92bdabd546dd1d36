"""`peer`: the keys that sign the nodes' catalogs, and the ssh keys by which the nodes read each other's disks.

What `add` installs can do that and nothing else. It works with the access that the admin has and leaves none of its
own. What it changes on a node is changed by that node's own drbdbackup (`accept`), which shows it. No line in
authorized_keys is ever touched but ours.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from drbdbackup import documentation, plain_file, proc
from drbdbackup.catalog import merge, signatures, store
from drbdbackup.config.load import DEFAULT_FILE
from drbdbackup.config.values import Config, PeerConfig
from drbdbackup.errors import DrbdBackupError, Failure, NothingFound, PeerError, ToolError, ToolMissing, UsageError
from drbdbackup.model.backup import LONGEST_NAME
from drbdbackup.tools import authorized_keys, ssh, ssh_keys
from drbdbackup.tools.authorized_keys import Key

AUTHORIZED = "~/.ssh/authorized_keys"
_ADMIN = "Can you say"
_FULL = 0.9  # of the room for a node's facts
_ANSWER = 60.0  # seconds for a peer that was reached: it starts a program, wakes a disk and mounts it


class PeerPlan(Struct, frozen=True):
    """What `add` will do. `learns` are the host's keys that ssh does not know yet, `shown` their fingerprints."""

    peer: PeerConfig
    key_file: str
    makes_key: bool
    host: ssh_keys.Host
    learns: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


class AcceptedKey(Struct, frozen=True):
    """A node lets another one in by a `line` in `file`, which is new or was there. `key` is its own public key."""

    node: str
    accepts: str
    file: str
    line: str
    is_new: bool
    key: str = ""


class Added(Struct, frozen=True):
    """What came of it: who lets whom in (`there`, `here`), where the host key went, and why a road is closed yet."""

    plan: PeerPlan
    there: AcceptedKey
    here: AcceptedKey | None
    known_hosts: str
    closed_there: str
    closed_here: str

    @property
    def status(self) -> int:
        """The exit status: the road from here is what was asked for."""
        return DrbdBackupError.status if self.closed_there else 0


class Removed(Struct, frozen=True):
    """Lines that were taken out of `file`."""

    node: str
    file: str
    lines: tuple[str, ...]


class NodeKey(Struct, frozen=True):
    """The key that signs a node's catalogs, 64 hex digits, and its fingerprint; both "" where none is known.

    `is_own`: it is that of this node.
    """

    node: str
    key: str
    fingerprint: str
    is_own: bool


def keys(config: Config) -> tuple[NodeKey, ...]:
    """Those of all nodes of the configuration. This node's is made if it has none. Raises CatalogError."""
    own = signatures.own_key(config.state_dir, config.node).public
    known = {one: own if one == config.node else signatures.known_key(config.state_dir, one) for one in config.nodes}
    return tuple(_node_key(config, node, key) for node, key in known.items())


def trust(config: Config, node: str, key: str) -> NodeKey:
    """Know a node by this key from now on. Raises UsageError, CatalogError."""
    _check_is_another(config, node)
    if not signatures.is_public_key(key):
        raise UsageError(f"{key!r} is not a key", f"`drbdbackup peer list` on {node} shows it: 64 hex digits.")
    known = signatures.known_key(config.state_dir, node)
    signatures.learn(config.state_dir, node, key)
    if known not in ("", key) and merge.stored_bytes(config.state_dir, node) > merge.quota(config.nodes) * _FULL:
        store.forget_all(config.state_dir, node)  # it was flooded, and what the node says now would have no room
    store.forget_fetched(config.state_dir)  # so that what was left out is looked at again
    return _node_key(config, node, key)


def plan(config: Config, node: str) -> PeerPlan:
    """Look what is there already; changes nothing. Raises UsageError, ToolError if nothing answers there."""
    peer = _peer(config, node)
    key = ssh_keys.key_file(peer)
    host = ssh_keys.host_of(peer)
    learns = () if ssh_keys.is_known(host) else ssh_keys.scanned(host, config.limits.ssh)
    shown = ssh_keys.fingerprints(learns) if learns else ()
    return PeerPlan(peer, key, not os.path.exists(key), host, learns, shown)


def add(config: Config, plan: PeerPlan, identity: str, *, may_ask: bool) -> Added:
    """Do it. `identity` is a key of the admin's own, "" for what ssh finds by itself. Raises what ssh says."""
    known = ssh_keys.remember(plan.host, plan.learns) if plan.learns else ""
    if plan.makes_key:
        ssh_keys.create(plan.key_file, authorized_keys.OWNER + config.node)
    options = ssh_keys.others(plan.peer.options) + (("-i", identity) if identity else ())

    def there(*words: str, stdin: bytes = b"") -> dict[str, Any]:
        return _at_peer(config, plan.peer, options, ("drbdbackup", "peer", *words, "--json"), stdin, may_ask=may_ask)

    key = ssh_keys.public_half(plan.key_file)
    answer = there("accept", config.node, stdin=f"{key}\n".encode())
    accepted = _accepted(plan.peer, answer)
    here = accept(config, plan.peer.node, accepted.key) if accepted.key else None
    closed_there = _closed(lambda: try_out(config, plan.peer.node))
    closed_here = _closed(lambda: there("test", config.node)) if here else f"it has no [peer.{config.node}]"
    closed_here = closed_here.partition(f"\n{_ADMIN}")[0].removeprefix(f"{plan.peer.node}: ")
    return Added(plan, accepted, here, known, closed_there, closed_here)


def accept(config: Config, node: str, public: str) -> AcceptedKey:
    """Let `node` read this node's disk by its public key; our own key for it is made if the configuration names one."""
    _check_is_another(config, node)
    key = authorized_keys.public_key(public)
    line, file = authorized_keys.forced_line(key, node, _command(config)), os.path.expanduser(AUTHORIZED)
    own = _own_key(config, node)
    is_new = authorized_keys.change(file, lambda text: authorized_keys.with_line(text, line))
    return AcceptedKey(config.node, node, file, line if is_new else _there(file, key), is_new, own)


def try_out(config: Config, node: str) -> int:
    """Ask a node what lies on its disk, as `restore` would; the number of copies. Raises what speaks against it."""
    listed = ssh.listing(_peer(config, node), config.limits.ssh, _ANSWER)
    if listed.get("node") != node:
        raise PeerError(f"the node that answers there is {_name(listed)}, not {node}", f"Look at [peer.{node}].")
    return len(listed["copies"])


def remove(config: Config, node: str) -> Removed:
    """Let `node` in no longer. Raises NothingFound if no line of ours lets it in."""
    file, gone = os.path.expanduser(AUTHORIZED), list[str]()

    def edit(text: str) -> str:
        kept, lines = authorized_keys.without(text, node)
        gone.extend(lines)
        return kept

    authorized_keys.change(file, edit)
    if not gone:
        hint = f"A line that was put there by hand is taken out by hand; ours end in {authorized_keys.OWNER}{node}."
        raise NothingFound(f"no line of drbdbackup's in {file} lets {node} in", hint)
    return Removed(node, file, tuple(gone))


def _check_is_another(config: Config, node: str) -> None:
    if node == config.node:
        raise UsageError(f"{node} is this node", f"Name another one: {_others(config)}.")
    if node not in config.nodes:
        nodes = json.dumps([*config.nodes, node], ensure_ascii=False)
        hint = f"{config.file} knows: {_others(config)}. For a new node: nodes = {nodes}, in the configuration of each."
        raise UsageError(f"{node} is not another node of this pair", hint)


def _others(config: Config) -> str:
    return ", ".join(one for one in config.nodes if one != config.node)


def _node_key(config: Config, node: str, key: str) -> NodeKey:
    return NodeKey(node, key, signatures.fingerprint(key) if key else "", node == config.node)


def _peer(config: Config, node: str) -> PeerConfig:
    _check_is_another(config, node)
    found = next((peer for peer in config.peers if peer.node == node), None)
    if found is None:
        hint = f'Put it into {config.file}: ssh = "root@ADDRESS", options = ["-i", "{ssh_keys.KEY}"].'
        raise UsageError(f"there is no [peer.{node}]", hint)
    return found


def _own_key(config: Config, node: str) -> str:
    """The public half of the key by which this node goes there, made if need be; "" if it is not to go there."""
    peer = next((peer for peer in config.peers if peer.node == node), None)
    if peer is None:
        return ""
    file = ssh_keys.key_file(peer)
    if not os.path.exists(file):
        ssh_keys.create(file, authorized_keys.OWNER + config.node)
    return ssh_keys.public_half(file)


def _command(config: Config) -> str:
    """The forced command on this node."""
    program = proc.find("drbdbackup")
    if program is None:
        raise ToolMissing("drbdbackup is not on the PATH", "ln -s /opt/drbdbackup/bin/drbdbackup /usr/local/bin/")
    return f"{program} serve" if config.file == DEFAULT_FILE else f"{program} --config {config.file} serve"


def _there(file: str, key: Key) -> str:
    """The line that has the key already."""
    lines = authorized_keys.read(file).splitlines()
    return next(line for line in lines if (found := authorized_keys.granted(line)) is not None and found.key == key)


def _at_peer(
    config: Config, peer: PeerConfig, options: tuple[str, ...], words: tuple[str, ...], stdin: bytes, *,
    may_ask: bool,
) -> dict[str, Any]:  # fmt: skip
    """What the peer's own drbdbackup answers to the admin."""
    try:
        output = ssh.as_admin(peer, options, words, config.limits.ssh, stdin=stdin, may_ask=may_ask)
    except ToolError as error:
        first, *lines_there = error.message.splitlines()
        message = "\n".join(lines_there).removeprefix("drbdbackup: ") or first
        if ssh.is_about_host_key(last := message.splitlines()[-1]):
            raise ToolError(f"{peer.node}: {last}", ssh.ask_console(peer)) from None
        tried = shlex.join(("ssh", *options, "--", peer.ssh, "drbdbackup", "--version"))
        hint = f"{_ADMIN} `{tried}`? If not, by hand: {documentation.page('docs/peer.md')}."
        raise ToolError(f"{peer.node}: {message}", hint) from None
    ssh.refuse_preamble(peer, output, ssh.DOCUMENT)
    document = plain_file.json_object(output)
    if document is None:
        raise PeerError(f"{peer.node} sent an invalid answer", "Do both nodes have the same drbdbackup?")
    return document


def _accepted(peer: PeerConfig, answer: dict[str, Any]) -> AcceptedKey:
    """The answer of `accept` there; it must come from the node that was meant."""
    texts = [answer.get(name) for name in ("node", "accepts", "file", "line", "key")]
    if not all(isinstance(text, str) for text in texts) or answer.get("node") != peer.node:
        raise PeerError(f"the node at {peer.ssh} is {_name(answer)}, not {peer.node}", "Check its address.")
    node, accepts, file, line, key = map(str, texts)
    return AcceptedKey(node, accepts, file, line, answer.get("is_new") is True, key)


def _name(answer: dict[str, Any]) -> str:
    """How who answers calls itself; it may say anything there."""
    return str(answer.get("node"))[:LONGEST_NAME]


def _closed(look: Callable[[], object]) -> str:
    """Why a road is closed, "" if it is open."""
    try:
        look()
    except Failure as error:
        return f"{error.message}\n{error.hint}".rstrip()
    return ""

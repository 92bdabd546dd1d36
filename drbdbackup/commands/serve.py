"""`serve`: the forced command of the other nodes' keys. It reads, four things only, and refuses everything else.

`catalog`: this node's catalog; `list`: the copies on its own disks; `digests`: check values of its configuration (never
content), and its clock; and rsync's sender for one copy's manifest or tree.
What comes over the wire is parsed word by word against a whitelist, and the argv that is run is made anew: not one
byte of a path or an option that was not checked gets into it.
"""

from __future__ import annotations

import json
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from msgspec import Struct

from drbdbackup import lock, proc
from drbdbackup.catalog import publish, view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import Failure, Locked, NoSandbox, NothingFound, PeerBusy, Stalled, UsageError
from drbdbackup.manifest import DEEPEST_PATH, is_safe
from drbdbackup.model.backup import is_snapshot_name
from drbdbackup.pair import digests
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import encode
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.copies.read_copy import alone
from drbdbackup.pipeline.copies.serve_protocol import LIST, ListJob, SendJob
from drbdbackup.targets.layout import ASIDE, DATA
from drbdbackup.targets.sidecar import MANIFEST
from drbdbackup.tools import ssh

VARIABLE = "SSH_ORIGINAL_COMMAND"
# What our own rsync sends (rsync(1), "--server"): archive letters, then what its protocol can do.
_LETTERS = re.compile(r"-[lHogDtpAXrcIRSnvx]{1,24}(?:e[0-9]{0,3}\.[A-Za-z]{0,24})?\Z", re.ASCII)
# A list of names, over stdin. It may name any file, but the sender sees none but those of the snapshot.
_LISTED = ("--files-from=-", "--from0", "--no-implied-dirs", "--ignore-missing-args")
_LONG = frozenset({"--numeric-ids", "--checksum-choice=xxh128", "--specials", "--devices", *_LISTED})
_SENDER = (ssh.RSYNC_HOST, "rsync", "--server", "--sender")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})+\Z", re.ASCII)
_LONGEST = 16384  # letters
SLOTS = 6  # three nodes: each of the other two may restore, verify and replicate at the same time
_SLOTS_OF = {ssh.CATALOG: "telling", ssh.DIGESTS: "telling", ssh.LIST: "listing"}
_WAIT = 1.0  # seconds
_NO_CAGE = "This host allows no mount namespaces (is it a container?). Restore on this node, or from another target."
_SENDS = "drbdbackup.pipeline.copies.serve_job"


class Send(Struct, frozen=True):
    """A checked wish for a `part` of a copy; `inside` is one entry of its tree, b"" for all of the part."""

    target: str
    resource: str
    snapshot: str
    part: str
    inside: bytes
    options: tuple[str, ...]


def parse_request(words: str) -> str | Send:
    """What the peer asks for: one of the three words or a `Send`. Raises UsageError for everything else. Pure."""
    if words in (ssh.CATALOG, ssh.LIST, ssh.DIGESTS):
        return words
    parts = tuple(words.split(" "))
    if len(words) > _LONGEST or parts[:4] != _SENDER or len(parts) < 6 or parts[-2] != ".":
        raise _refused("this is not for you")
    options = parts[4:-2]
    if not all(_LETTERS.match(option) or option in _LONG for option in options):
        raise _refused("an option of rsync that is not allowed")
    return _parse_path(parts[-1], options)


def _parse_path(path: str, options: tuple[str, ...]) -> Send:
    """`TARGET/RESOURCE/SNAPSHOT/manifest.gz`, `.../data/`, `.../aside/` or `.../data/HEX` for a path in the tree."""
    parts = path.split("/")
    if len(parts) not in (4, 5) or not all(_NAME.match(part) for part in parts[:3]) or not is_snapshot_name(parts[2]):
        raise _refused("a path that is not one of a copy")
    target, resource, snapshot, part = parts[:4]
    if parts[3:] in ([MANIFEST], [DATA, ""], [ASIDE, ""]):
        return Send(target, resource, snapshot, part, b"", options)
    if len(parts) != 5 or part != DATA or not _HEX.match(parts[4]):
        raise _refused("a path that is not one of a copy")
    inside = bytes.fromhex(parts[4])
    if not is_safe(inside) or b"\0" in inside or len(inside) > DEEPEST_PATH:
        raise _refused("a path that leads elsewhere")
    return Send(target, resource, snapshot, part, inside, options)


def _refused(why: str) -> UsageError:
    return UsageError(f"refused: {why}", "This key may read copies of drbdbackup and do nothing else.")


def serve(config: Config, words: str | None = None) -> int:
    """Answer the peer on stdout; the exit status. Raises UsageError for what is refused."""
    request = parse_request(os.environ.get(VARIABLE, "") if words is None else words)
    if isinstance(request, Send):
        return _send(config, request)
    with _slot(config, _SLOTS_OF[request]):
        _answer(_reply(config, request), config.limits.stall)
    return 0


def _reply(config: Config, request: str) -> bytes:
    """The answer to one of the three words."""
    if request == ssh.CATALOG:
        with open(publish.publish(config.state_dir, config.node), "rb") as file:
            return file.read()
    document = _digests(config) if request == ssh.DIGESTS else _listing(config)
    return json.dumps(document).encode() + b"\n"


def _send(config: Config, request: Send) -> int:
    """Let rsync talk to the peer, with the disk open around it, for as long as it moves."""
    disk = next((one for one in _own_disks(config) if one.name == request.target), None)
    if disk is None or request.resource not in [one.name for one in config.resources]:
        raise NothingFound(f"{config.node} has no copy of {request.resource} on a disk {request.target}")
    job = SendJob(
        here=node_facts(config), target=disk, expected=view.expected(config, disk), resource=request.resource,
        snapshot=request.snapshot, part=request.part, inside=request.inside, options=request.options,
        patience=config.limits.stall,
    )  # fmt: skip
    if not proc.can_cage():
        raise NoSandbox("no copy is sent: what reads it could not be kept from this host's other files", _NO_CAGE)
    with _slot(config, "serving"):
        return proc.pass_through_caged(proc.Job("cage: send", (_SENDS,), (encode(job),)), config.limits.stall)


@contextmanager
def _slot(config: Config, folder: str) -> Iterator[None]:
    """One of a few, so that a peer that opens many connections cannot fill this host. Raises PeerBusy.

    The wait is for who was just served and has still to let go of the disk.
    """
    files = [os.path.join(config.state_dir, folder, str(number + 1)) for number in range(SLOTS)]
    with ExitStack() as stack:
        try:
            stack.enter_context(lock.one_held(files, _WAIT))
        except Locked:
            raise PeerBusy(f"{config.node} {ssh.BUSY}", "Try again later.") from None
        yield


def _listing(config: Config) -> dict[str, Any]:
    """The sidecars of what lies on this node's own disks; `closed` says why one cannot be read."""
    copies: list[dict[str, Any]] = []
    closed: dict[str, str] = {}
    for disk in _own_disks(config):
        try:
            job = ListJob(
                here=node_facts(config), target=disk, expected=view.expected(config, disk),
                resources=tuple(one.name for one in config.resources),
            )  # fmt: skip
            with alone(config):
                listed = run_job(LIST, disk.name, job, Patience.stalled_after(config.limits.stall))
            copies += [{**document, "target": disk.name} for document in listed.copies]
        except Failure as error:
            closed[disk.name] = error.message
    return {"schema": 1, "node": config.node, "copies": copies, "closed": closed, "takes_list": True}


def _digests(config: Config) -> dict[str, Any]:
    """What must be the same on every node, and the time here in seconds since 1970."""
    return {"schema": 1, "node": config.node, "now": time.time(), **digests.own_summary(config).summary.as_body()}


def _own_disks(config: Config) -> Iterator[TargetConfig]:
    return (one for one in config.targets if one.is_local)


def _answer(data: bytes, patience: float) -> None:
    """Write it, for as long as the peer takes some of it. Raises Stalled."""
    ready, left = select.poll(), memoryview(data)
    ready.register(1, select.POLLOUT)
    os.set_blocking(1, False)
    try:
        while left:
            if not ready.poll(patience * 1000):
                raise Stalled(f"the peer has read nothing for {patience:g} s")
            with suppress(BlockingIOError):
                left = left[os.write(1, left) :]
    finally:
        os.set_blocking(1, True)

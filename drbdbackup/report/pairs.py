"""A rendered pair, for people and for scripts.

The secret itself is never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drbdbackup.report import text

if TYPE_CHECKING:
    from drbdbackup.commands.setup.pair import PairRendered

_ORIGINS = {
    "given": "that of pair.toml", "kept": "that of the earlier rendering", "generated": "a new one; keep this folder",
}  # fmt: skip


def rendered(done: PairRendered, *, dry_run: bool) -> Iterator[str]:
    """Each file that is new or changed, and how many are as they were."""
    changed = [one for one in done.files if one.state.value != "unchanged"]
    words = {"created": "would create", "changed": "would change"} if dry_run else {}
    words |= {"left": "not of this pair any more"}
    yield from text.aligned([(words.get(one.state.value, one.state.value), one.path) for one in changed], "  ")
    before = text.count(len(done.files) - len(changed), "file")
    yield f"{done.out}: {before} as before; the secret is {_ORIGINS[done.secret.value]}."


def document(done: PairRendered, *, dry_run: bool) -> dict[str, Any]:
    """`pair render --json`. The secret itself is never shown."""
    return {
        "dry_run": dry_run, "file": done.pair.file, "out": done.out, "nodes": [node.name for node in done.pair.nodes],
        "secret": done.secret.value,
        "files": [{"path": one.path, "state": one.state.value} for one in done.files],
    }  # fmt: skip

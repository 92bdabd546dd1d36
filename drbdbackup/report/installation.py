"""What `install` has done, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drbdbackup.report import text

if TYPE_CHECKING:
    from drbdbackup.commands.setup.install import InstallAnswer

_WOULD = {"created": "would create", "changed": "would change", "removed": "would remove"}


def shown(answer: InstallAnswer) -> Iterator[str]:
    """Each change, and what is left to do by hand."""
    changed = [one for one in answer.changes if one.state.value != "unchanged"]
    words = _WOULD if answer.dry_run else {}
    yield from text.aligned([(words.get(one.state.value, one.state.value), one.path, one.because) for one in changed])
    if not changed:
        yield "Nothing to change."
    if answer.starter is not None:
        yield f"Started by: {answer.starter.value}."
    yield from answer.next_steps


def document(answer: InstallAnswer) -> dict[str, Any]:
    """`install --json`."""
    return {
        "dry_run": answer.dry_run, "starter": answer.starter.value if answer.starter else None,
        "changes": [
            {"path": one.path, "state": one.state.value, "because": one.because or None} for one in answer.changes
        ],
        "next": list(answer.next_steps),
    }  # fmt: skip

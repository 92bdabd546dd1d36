"""What `init` proposes, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drbdbackup.report import text

if TYPE_CHECKING:
    from drbdbackup.commands.setup.init import Initialized


def shown(one: Initialized) -> Iterator[str]:
    """The file as it would be, and the reasons."""
    yield f"This would be {one.file}:"
    yield ""
    yield from (f"    {line}".rstrip() for line in one.proposal.toml.splitlines())
    yield ""
    yield "Because:"
    yield from text.aligned([(reason.about, reason.because) for reason in one.proposal.reasons], "    ")
    yield ""


def document(one: Initialized, *, written: bool) -> dict[str, Any]:
    """The part of `init --json` that is about the file."""
    reasons = [{"about": reason.about, "because": reason.because} for reason in one.proposal.reasons]
    return {"file": one.file, "written": written, "config": one.proposal.toml, "reasons": reasons}

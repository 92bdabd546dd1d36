"""Pacemaker: whether it looks after the resources of this node just now, and would undo what is done to them.

It only asks: the cluster is never told anything.
"""

from __future__ import annotations

from drbdbackup import proc
from drbdbackup.errors import ToolError
from drbdbackup.proc import Command

_ASK = (
    "crm_attribute", "--type", "crm_config", "--name", "maintenance-mode", "--query", "--quiet", "--default", "false",
)  # fmt: skip
# Of Pacemaker 2 (CRM_EX_DISCONNECT) and 1.1 (ENOTCONN): no cluster runs here.
_NOT_RUNNING = frozenset({102, 107})
_YES = frozenset({"true", "on", "yes", "y", "1"})


def interferes() -> bool:
    """Whether it runs here and is not in maintenance mode. Raises ToolError if that is not known."""
    if proc.find(_ASK[0]) is None:
        return False
    answer = proc.run(Command(argv=_ASK, ok=frozenset({0}) | _NOT_RUNNING))
    if answer.exit in _NOT_RUNNING:
        return False
    value = answer.text.strip().lower()
    if value not in {*_YES, "false", "off", "no", "n", "0"}:
        raise ToolError(f"crm_attribute says {value!r} of the maintenance mode")
    return value not in _YES

"""Records what real DRBD says in every state, in the form of tests/captures.

    python -m tests.cluster.recording tests/captures/drbd84-utils9.22

The folder's name tells the versions: a new Debian gets a new one. Compare with git diff before you keep it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.cluster.beginnings import BARE, begin
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.states import STATES
from tests.cluster.waiting import together

ASKED = (
    "drbdadm role all", "drbdadm role raid", "drbdsetup events2 --now", "drbdsetup status --json", "drbdadm status",
    "cat /proc/drbd", "drbdadm cstate all", "drbdadm dstate all", "cat /proc/mounts",
)  # fmt: skip
UNPRIVILEGED = "setpriv --reuid=65534 --regid=65534 --clear-groups "


def recorded(node: Node, before: str = "") -> dict[str, dict[str, Any]]:
    """What each command answers on a node: exit status, output, errors."""
    answers = {}
    for words in ASKED:
        ended = node.run(before + words, check=False)
        answers[words] = {"rc": ended.returncode, "out": ended.stdout, "err": ended.stderr}
    return answers


def record(lab: Lab, before: str = "") -> dict[str, dict[str, Any]]:
    """Both nodes' answers; those of one that is off are left out."""
    on = [node for node in lab.pair if node.machine.is_on]
    return dict(zip([node.name for node in on], together(*((recorded, node, before) for node in on)), strict=True))


def record_all(lab: Lab, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, arrive in STATES.items():
        begin(lab, BARE)
        arrive(lab)
        keep(folder, name, record(lab))
        if name.startswith("08-"):
            keep(folder, "09-same-as-08-but-unprivileged-user", record(lab, UNPRIVILEGED))


def keep(folder: Path, name: str, answers: dict[str, dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")
    print(name, flush=True)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with Lab() as lab:
        record_all(lab, Path(sys.argv[1]))


if __name__ == "__main__":
    main()

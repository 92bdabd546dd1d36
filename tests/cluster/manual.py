"""The commands of docs/pair.md, as they stand there, in their order: the lab's pair is set up by them.

So the page and the lab cannot part. What is not typed in the lab stands in LEFT_OUT, with the reason, and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.cluster.image import PROJECT
from tests.cluster.node import Ended, Node
from tests.cluster.waiting import together

LEFT_OUT = {"apt install": "the guests reach no network: their image has these packages (guest/packages)"}


def blocks(page: str) -> list[str]:
    """The shell blocks of a page of docs."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def is_left_out(block: str) -> bool:
    """Whether all of it is; a block of both kinds is a mistake of the page."""
    left_out = [line.startswith(tuple(LEFT_OUT)) for line in block.splitlines()]
    assert all(left_out) or not any(left_out), f"one block, typed in the lab only in part:\n{block}"
    return all(left_out)


@dataclass
class Manual:
    """An admin with the page in hand, who does one block after another, and none twice."""

    ahead: list[str] = field(default_factory=lambda: [block for block in blocks("pair.md") if not is_left_out(block)])

    def type(self, begins: str, *nodes: Node, timeout: float = 120) -> list[Ended]:
        """The next block, which begins with these words, on these nodes at once. Its first failure is CommandFailed."""
        block = self.ahead.pop(0)
        assert block.startswith(begins), f"next on the page is\n{block}\nand not {begins}"
        return together(*((node.run, f"set -e; cd /root\n{block}", True, timeout) for node in nodes))

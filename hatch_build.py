"""The readme of the package, from README.md: on PyPI, a relative link leads nowhere.

Such links become plain text, and pictures of this repository go. It runs whenever pip builds or installs the package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"\[([^]]*)\]\((?![a-z]+:|#)[^)]*\)")
_PICTURE = re.compile(r"<img src=\"(?![a-z]+:)[^>]*>\s*")
_PAGES = "The pages that are named here are installed with the program: `drbdbackup --help` says where.\n"


class PackageReadme(MetadataHookInterface):
    """What hatchling asks for a field that pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        plain = _LINK.sub(r"\1", _PICTURE.sub("", text))
        metadata["readme"] = {"content-type": "text/markdown", "text": f"{plain}\n{_PAGES}"}

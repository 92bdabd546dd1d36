"""Prints the lowest versions that pyproject.toml allows, as constraints for pip. `make lowest` tests with them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest() -> Iterator[str]:
    """`name==version` for each dependency; one without a lower bound is a mistake, for nobody has tried them all."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        found = re.fullmatch(r"([\w-]+)>=([\w.]+)(,<[\w.]+)?", requirement)
        if found is None:
            raise SystemExit(f"{PROJECT}: {requirement}: not of the form name>=lowest or name>=lowest,<next")
        yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(lowest()))

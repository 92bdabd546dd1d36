"""The product's own files as Python parses them: for tests of how the code is written.

Parsed once for who asks, and not where a test file is imported: each of the processes that share the tests imports all
files of tests, and few of them ever ask.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {str(file.relative_to(ROOT)): file for file in sorted((ROOT / "drbdbackup").rglob("*.py"))}
NAMES = [*FILES]


@cache
def trees() -> dict[str, ast.Module]:
    """By name, `drbdbackup/...py`."""
    return {name: ast.parse(file.read_bytes(), name) for name, file in FILES.items()}

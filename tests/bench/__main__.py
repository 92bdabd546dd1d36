"""`python -m tests.bench`: what was promised about time and memory, measured on this machine, as root.

Prints one table of ratios, taken side by side in one run, so that they mean something on any machine; figures of
single commands do not. Exit status 1 says that a goal was missed.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import sys
import tempfile
from pathlib import Path

from msgspec.structs import replace

from tests.bench.cases import CASES, QUICK, Scale
from tests.bench.measured import Row, table

PACKAGE = Path(__file__).parents[2] / "drbdbackup"


def main() -> int:
    chosen = _arguments()
    if os.geteuid() != 0:
        print("The bench mounts images and empties caches: run it as root.", file=sys.stderr)
        return 2
    scale = QUICK if chosen.quick else Scale(rounds=3)
    if chosen.rounds:
        scale = replace(scale, rounds=chosen.rounds)
    if chosen.patience is not None:
        scale = replace(scale, patience=chosen.patience)
    if chosen.minutes is not None:
        scale = replace(scale, peers=60 * chosen.minutes)
    scale = scale.shrunk(chosen.scale)
    compileall.compile_dir(PACKAGE, quiet=1)  # as pip does where it is installed; what we compare with is compiled, too
    rows: list[Row] = []
    for name in chosen.case or CASES:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="drbdbackup-bench-", dir=chosen.folder) as folder:
            rows += CASES[name](Path(folder), scale)
    if chosen.json:
        print(json.dumps({"schema": 1, "quick": chosen.quick, "rows": [row.document() for row in rows]}, indent=2))
    else:
        print(table(rows))
    return 0 if all(row.is_met for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one (may be given again)")
    parser.add_argument("--quick", action="store_true", help="small trees, one round: does it run, not how fast")
    parser.add_argument("--rounds", type=int, help="how often each pair is measured (default: 3, with --quick 1)")
    parser.add_argument("--patience", type=float, help="seconds to wait for a calm moment, for each pair (default: 60)")
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the files and bytes (default: 1)")
    minutes = "after so many each step is compared with peers once at most, after twice as many none (default: 7)"
    parser.add_argument("--minutes", type=float, help=minutes)
    parser.add_argument("--json", action="store_true", help="one JSON document, with every single figure")
    parser.add_argument("--folder", type=Path, help="where the images lie for the time (default: TMPDIR); 10 GiB free")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""A copy as the catalog knows it, for tests that need one and do not care which."""

from __future__ import annotations

from datetime import UTC, datetime

from drbdbackup.model.backup import Copy

MADE = datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
COPY = Copy(
    snapshot="20261101T043000Z-www4", resource="raid", sequence=1, node="www4", target="nas", kind="nas", medium="m1",
    location="nas:/backup", holder="", path="/backup/1", started_at=MADE, finished_at=MADE, files=1, bytes=1,
)  # fmt: skip

"""A medium as the catalog knows it: what a target is expected to be.

A value only: `catalog` records it, `targets.identity` compares it with what is mounted.
"""

from __future__ import annotations

from msgspec import Struct


class KnownMedium(Struct, frozen=True):
    """What the newest fact about a target says its medium is; "" for what that fact does not say."""

    medium: str
    filesystem_uuid: str = ""
    location: str = ""
    kind: str = ""

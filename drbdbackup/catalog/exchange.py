"""The whole trip of a catalog: `publish` here, `put` on a road, `fetch` there, `take_in` (a `merge` for each file).

`put` and `fetch` are file work for a process that may hang and be abandoned; the rest is local and opens databases.
"""

from drbdbackup.catalog.folders import incoming_folder, published_path
from drbdbackup.catalog.merge import Merged, merge, published, remember, salvage, take_in
from drbdbackup.catalog.publish import publish
from drbdbackup.catalog.road import fetch, put

__all__ = [
    "publish", "put", "fetch", "take_in", "merge", "Merged", "published", "remember", "salvage", "incoming_folder",
    "published_path",
]

"""The services that are known by name, and where a folder lies once it is on the volume.

A table, as Debian has it. Nothing here looks at this node.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from drbdbackup.pair.values import PairService

_MARIADB = PairService("mariadb", ("/etc/mysql", "/var/lib/mysql"), "mariadb", ("mariadb",))

# As Debian has them. Of PHP only the sessions: the rest of /var/lib/php says which packages this node has.
KNOWN = {
    "apache": PairService("apache", ("/etc/apache2", "/var/www"), "apache2", ("apache2",)),
    "php": PairService("php", ("/etc/php", "/var/lib/php/sessions")),
    "mariadb": _MARIADB,
    "mysql": replace(_MARIADB, name="mysql"),  # Debian has had no other MySQL since 9
}

_SHORTENED = ("/var/lib/", "/var/", "/")


def service(name: str, keys: dict[str, Any]) -> PairService:
    """A service of the file, with what is known of it where the file says nothing; units follow the start script."""
    known = KNOWN.get(name, PairService(name))
    units = keys.get("units", (keys["init"],) if "init" in keys else known.units)
    return replace(known, **{**keys, "units": units})


def place_on_volume(folder: str) -> str:
    """Where on the volume: `/var/www` is `www` there, `/var/lib/mysql` is `mysql`, `/etc/php` is `etc/php`."""
    start = next(start for start in _SHORTENED if folder.startswith(start))
    return folder.removeprefix(start)

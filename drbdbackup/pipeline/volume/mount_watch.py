"""Watches the host's mount table for the moment in which the node lets go of the volume.

In a thread of its own, because the supervisor may be asking DRBD or writing the catalog just then, and a volume that is
unmounted and mounted again can have the number that it had. Since Linux 6.8 a mount has an id that lasts, too; before,
only a look between the two shows it. It never touches the volume.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from msgspec.structs import replace

from drbdbackup.model.mount import Mount
from drbdbackup.tools import mounts


class MountWatch:
    """Calls `on_gone` once, from its thread, when what is mounted at `source` is not `mount` any more."""

    def __init__(self, source: str, on_gone: Callable[[], None]) -> None:
        """Look once; `mount` is what is there, None for a plain folder."""
        from drbdbackup.tools import mount_ids  # with ctypes, which a stand-down does without

        self._table = mounts.opened()  # here: a thread that cannot open it would end without a word
        self.mount = mounts.mounted_at(mounts.reread(self._table), source)
        self._lasting = mount_ids.lasting_id(self.mount.mount_id) if self.mount else None
        self.is_gone = False
        self._source = source
        self._on_gone = on_gone
        self._over = os.eventfd(0)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Watch from now on (and for what happened since the first look)."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        os.eventfd_write(self._over, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._over)
        self._table.close()

    def _watch(self) -> None:
        changes = select.poll()
        changes.register(self._table, select.POLLPRI | select.POLLERR)
        changes.register(self._over, select.POLLIN)
        while True:
            if self._is_another():
                self.is_gone = True
                self._on_gone()
                return
            if any(descriptor == self._over for descriptor, _ in changes.poll()):
                return

    def _is_another(self) -> bool:
        """Whether what was there at first has gone, even if its like is there by now."""
        from drbdbackup.tools import mount_ids

        if _itself(mounts.mounted_at(mounts.reread(self._table), self._source)) != _itself(self.mount):
            return True
        return self._lasting is not None and not mount_ids.is_there(self._lasting)


def _itself(mount: Mount | None) -> Mount | None:
    """The mount without what a remount changes: the kernel makes a volume with errors read-only, and it stays there."""
    return None if mount is None else replace(mount, options=(), propagation=())

"""Makes one snapshot's tree and manifest on one target: link what is unchanged, copy the rest, write it down.

Works inside a cage, on folders that are given to it; it never publishes, never writes into a published copy and never
into what a crash left.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress

from drbdbackup.manifest import path_of
from drbdbackup.pipeline import plan
from drbdbackup.pipeline.aside import Aside
from drbdbackup.pipeline.fill import Filler
from drbdbackup.pipeline.folders import Folders
from drbdbackup.pipeline.link import Linker
from drbdbackup.pipeline.making import COPIED, GROUPS, PLAN, UNLINKED, Making, decided
from drbdbackup.pipeline.plan import Planner, Step, size_of
from drbdbackup.pipeline.record import Made, write_manifest
from drbdbackup.scan import Spool


def make(making: Making, spool: Spool) -> Made:
    """Fill `data` and write `manifest.gz`. Raises what ends the copy of this target."""
    planner = Planner(making.bases, making.holdable, making.names)
    with ExitStack() as stack:
        linker = Linker([base.data for base in making.bases], making.place.data, making.workers)
        stack.callback(linker.close)
        planned = stack.enter_context(open(making.scratch(PLAN), "wb"))
        folders = Folders(making)
        stack.callback(folders.close)
        for base in making.bases:
            base.on_gone = folders.gone
        filler = Filler(making.place, COPIED, making.filled, making.tell, kept=making.at(COPIED))
        _first_pass(making, spool, planner, linker, filler, planned.write, folders)
        linker.finish()
        filler.close()
        planned.flush()
        _second_pass(making, planner, linker, folders)
        _third_pass(making, planner, linker.failed)
        folders.give_all()
    return write_manifest(making, planner, linker.failed)


def _first_pass(
    making: Making, spool: Spool, planner: Planner, linker: Linker, filler: Filler,
    write: Callable[[bytes], object], folders: Folders,
) -> None:  # fmt: skip
    """Decide for each entry as the walk finds it; make folders, link and copy what needs no second thought."""
    aside = Aside(making.place, making.fresh, [os.path.dirname(base.data) for base in making.bases], making.filled)
    data = os.open(making.place.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for line in spool:
            making.place.started_ns = spool.started_ns
            making.met(line)
            planned = planner.decide(line)
            if planned.step is Step.ASIDE:
                planned = aside.put(planned)
            write(plan.write(planned))
            if planned.step is Step.LINK:
                making.linked_bytes += size_of(line)
                if not making.updating:
                    linker.add(planned.base, path_of(line))
            elif planned.step is Step.COPY:
                path = path_of(line)
                folders.touched(path)
                filler.add(path, line)
            elif planned.step is Step.FOLDER:
                folders.entered(line)
                if not (making.updating and planned.front):
                    folders.differs(line)
                with suppress(FileExistsError):
                    os.mkdir(path_of(line), 0o700, dir_fd=data)
        for base in making.bases:
            base.finish()
    finally:
        os.close(data)


def _second_pass(making: Making, planner: Planner, linker: Linker, folders: Folders) -> None:
    """Names of multiply linked inodes: all copied together, or all linked."""
    groups = Filler(making.place, GROUPS, making.filled, making.tell)
    if planner.has_groups:
        for planned in decided(making, planner):
            if planned.step is Step.FOLDER:
                folders.entered(planned.line)
            elif planned.step is Step.COPY_GROUP:
                folders.touched(path_of(planned.line))
                groups.add(path_of(planned.line), planned.line)
            elif planned.step is Step.LINK_GROUP and not making.updating:
                linker.add(planned.base, path_of(planned.line))
        linker.finish()
    groups.close()


def _third_pass(making: Making, planner: Planner, unlinked: set[bytes]) -> None:
    """What could not be linked (too many links on the inode, a damaged base) is copied after all."""
    again = Filler(making.place, UNLINKED, making.filled, making.tell)
    if unlinked:
        for planned in decided(making, planner):
            if planned.step in (Step.LINK, Step.LINK_GROUP) and path_of(planned.line) in unlinked:
                again.add(path_of(planned.line), planned.line)
    again.close()

"""How a scenario can begin: each state of the pair is made once a session, saved, and reverted to from then on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.cluster.asking import RUN, backs_up, syncs
from tests.cluster.fresh import fresh
from tests.cluster.lab import Lab
from tests.cluster.pacemaker import take_in
from tests.cluster.pair import hands_over, prepare, start_heartbeat
from tests.cluster.shop import at_work, dumped
from tests.cluster.states import bare
from tests.cluster.times import NOTEBOOK
from tests.cluster.volume_group import on_lvm

PREPARED = "prepared"  # set up but for Heartbeat, which was never started: DRBD is in sync, both nodes are Secondary
CONFIGURED = "configured"  # www4 is Primary, no backup was ever made, it is eight minutes past noon
BACKED_UP = "backed-up"  # and www4 has made a backup
SHOPPED = "shopped"  # www4 has made a backup while customers bought, another after, which www5 fetched, and took over
TAKEN_OVER = "taken-over"  # and then www5 has made one
FILLED = "filled"  # as configured, with so many files on the volume that a copy takes minutes
BARE = "bare"  # as prepared, and without cron: nobody moves DRBD but the scenario
ON_LVM = "on-lvm"  # as bare, but on logical volumes; www4 is Primary, and its copies come from snapshots of its own
FRESH = "fresh"  # as prepared, but under systemd and without drbdbackup; no Heartbeat runs, www4 is Primary
WITH_PACEMAKER = "with-pacemaker"  # Corosync and Pacemaker look after the pair, not Heartbeat

FILES = "mkdir /srv/raid/much && cd /srv/raid/much && head -c 12M /dev/urandom | split -a 4 -b 4096 -d - file- && sync"


def back_up(lab: Lab) -> None:
    assert backs_up(lab.www4).stdout == ""
    syncs(lab.www5)


def sell(lab: Lab) -> None:
    dumped(lab)
    with at_work(lab.www4) as shop:
        backs_up(lab.www4)
        assert shop.runs, "nobody bought anything any more"
    backs_up(lab.www4)  # files of a server that writes may not start one: nobody promises that, so none is asked to
    lab.www5.run("drbdbackup replicate", timeout=RUN)
    hands_over(lab, lab.www4)
    syncs(lab.www5)


def go_on(lab: Lab) -> None:
    backs_up(lab.www5)
    syncs(lab.www4)


def fill(lab: Lab) -> None:
    lab.www4.run(FILES, timeout=180)


MADE: dict[str, tuple[str, Callable[[Lab], None]]] = {
    PREPARED: ("", prepare),
    CONFIGURED: (PREPARED, start_heartbeat),
    BACKED_UP: (CONFIGURED, back_up),
    SHOPPED: (CONFIGURED, sell),
    TAKEN_OVER: (SHOPPED, go_on),
    FILLED: (CONFIGURED, fill),
    BARE: (PREPARED, bare),
    ON_LVM: (BARE, on_lvm),
    FRESH: (PREPARED, fresh),
    WITH_PACEMAKER: (BARE, take_in),
}


def begin(lab: Lab, name: str) -> None:
    """Brings the pair into that state, whatever has become of it. It is made once, by one of the labs on a shelf."""
    with ExitStack() as stack:
        with NOTEBOOK.noted("beginning", f"{name} may be made by another lab"):
            stack.enter_context(lab.shelf.alone(name))
        if not lab.shelf.has(name):
            before, make = MADE[name]
            if before:
                begin(lab, before)
            lab.stands_at = ""
            with NOTEBOOK.noted("beginning", f"{name} is made"):
                make(lab)
            with NOTEBOOK.noted("beginning", f"{name} is saved"):
                lab.save(name)
            return
    with NOTEBOOK.noted("beginning", f"back to {name}"):
        lab.revert(name)

"""How a scenario can begin: each state of the pair is made once a session, saved, and reverted to from then on."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.asking import backs_up, syncs
from tests.cluster.lab import Lab
from tests.cluster.pacemaker import take_in
from tests.cluster.pair import hands_over, set_up
from tests.cluster.shop import at_work, dumped
from tests.cluster.states import bare
from tests.cluster.volume_group import on_lvm

CONFIGURED = "configured"  # www4 is Primary, no backup was ever made, it is one minute past noon on all three
BACKED_UP = "backed-up"  # and www4 has made a backup
TAKEN_OVER = "taken-over"  # and then www5 took over, in good order, and made one
FILLED = "filled"  # as configured, with so many files on the volume that a copy takes minutes
SHOPPED = "shopped"  # www4 has made a backup while the shop's customers bought; then www5 took over
BARE = "bare"  # no Heartbeat, no cron, both nodes Secondary: nobody moves DRBD but the scenario
ON_LVM = "on-lvm"  # as bare, but on logical volumes; www4 is Primary, and its copies come from snapshots of its own
WITH_PACEMAKER = "with-pacemaker"  # Corosync and Pacemaker look after the pair, not Heartbeat

FILES = "mkdir /srv/raid/much && cd /srv/raid/much && seq 3000 | while read n; do echo $n >file-$n; done && sync"


def back_up(lab: Lab) -> None:
    assert backs_up(lab.www4).stdout == ""
    syncs(lab.www5)


def take_over(lab: Lab) -> None:
    hands_over(lab, lab.www4)
    backs_up(lab.www5)
    syncs(lab.www4)


def sell(lab: Lab) -> None:
    dumped(lab)
    with at_work(lab.www4) as shop:
        backs_up(lab.www4)
        assert shop.runs, "nobody bought anything any more"
    hands_over(lab, lab.www4)
    syncs(lab.www5)


def fill(lab: Lab) -> None:
    lab.www4.run(FILES, timeout=180)


MADE: dict[str, tuple[str, Callable[[Lab], None]]] = {
    CONFIGURED: ("", set_up),
    BACKED_UP: (CONFIGURED, back_up),
    TAKEN_OVER: (BACKED_UP, take_over),
    SHOPPED: (CONFIGURED, sell),
    FILLED: (CONFIGURED, fill),
    BARE: (CONFIGURED, bare),
    ON_LVM: (BARE, on_lvm),
    WITH_PACEMAKER: (BARE, take_in),
}


def begin(lab: Lab, name: str) -> None:
    """Brings the pair into that state, whatever has become of it. It is made once, by one of the labs on a shelf."""
    with lab.shelf.alone(name):
        if not lab.shelf.has(name):
            before, make = MADE[name]
            if before:
                begin(lab, before)
            lab.stands_at = ""
            make(lab)
            lab.save(name)
            return
    lab.revert(name)

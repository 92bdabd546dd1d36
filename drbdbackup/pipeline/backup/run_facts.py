"""What a run writes into the catalog, and what it looks up there to decide, for one resource on this node.

Only what happened is written, when it has happened; what lies on a medium is believed before what the catalog says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog import bodies, folders, free_space, merge, rates, store, view
from drbdbackup.catalog.bodies import subject
from drbdbackup.catalog.facts import Fact
from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.catalog.rates import Work
from drbdbackup.catalog.signatures import signers
from drbdbackup.config.values import Config, ResourceConfig, Retention, TargetConfig
from drbdbackup.errors import TargetError
from drbdbackup.lineage import ONE_LINE, Lineages, lineages
from drbdbackup.model.backup import Copy
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.node_facts import known_to_be_over
from drbdbackup.pipeline.snapshot.copy_protocol import CopyCounts, TargetFacts
from drbdbackup.pipeline.target.copies_in_use import held_copies
from drbdbackup.retention import FROZEN, is_pinned, safety
from drbdbackup.retention import plan as judge


class RunFacts:
    """What is recorded of one resource."""

    def __init__(self, config: Config, resource: ResourceConfig) -> None:
        """Opens nothing; each entry is one transaction."""
        self._config = config
        self._resource = resource.name
        self._known: dict[str, frozenset[tuple[str, str]]] = {}
        self._looked_at: dict[str, int] = {}  # by target: how far the catalog was when its job began to look
        self._read: dict[str, dict[str, Copy]] = {}  # by medium and snapshot: what this run read there itself

    def highest_sequence(self) -> int:
        """The highest sequence that any snapshot of the resource was ever known to have."""
        return view.highest_sequence(self._config.state_dir, self._resource)

    def last_complete(self) -> tuple[Copy, ...]:
        """The newest undamaged copy that lacks no file (else the newest at all), of a lineage that lives; and the same
        of those that this node has made, if that is another one. What is in the others is only what somebody says.
        """
        copies = self._copies()
        living = lineages(copies).chosen(copies, "")
        sound = [copy for copy in living if not copy.damaged_at]
        own = [copy for copy in sound if copy.node == self._config.node]
        newest = (next((copy for copy in some if not copy.problems), next(iter(some), None)) for some in (sound, own))
        return tuple(dict.fromkeys(copy for copy in newest if copy is not None))

    def about(self, target: TargetConfig) -> TargetFacts:
        """What a copy job is to know of its target."""
        state, nodes = self._config.state_dir, self._config.nodes
        copies, named = self._all_copies(), subject(target, self._config.node)
        known = [copy for copy in copies if copy.target == target.name]
        self._known[target.name] = frozenset((copy.medium, copy.snapshot) for copy in (*copies, *self._safety()))
        self._looked_at[target.name] = view.newest_row(state)
        damaged, verified = trusted(known)
        expected = view.expected(self._config, target)
        there = [copy for copy in known if expected is not None and copy.medium == expected.medium]
        return TargetFacts(
            expected=expected, damaged=damaged, verified=verified,
            manifests={copy.snapshot: copy.manifest_sha256 for copy in there if not copy.adopted},
            sidecars={copy.snapshot: copy.sidecar_sha256 for copy in there if copy.sidecar_sha256},
            keys=dict(signers(state, self._config.node, nodes).keys),
            nodes=nodes, ours=tuple(sorted(view.ours(state, named, nodes))),
            incoming=folders.incoming_folder(state, target.name),
            known_files=view.known_files(state, target.name), over=known_to_be_over(self._config),
        )  # fmt: skip

    def opened(
        self, target: TargetConfig, medium: KnownMedium, there: Iterable[Copy], names: Collection[str]
    ) -> tuple[str, ...]:
        """What lies on a medium and what is known of it are made one. Returns the missing snapshots.

        Those are not there any more though retention keeps them. (A prune that was killed may have removed others
        before it could record that.)

        A crash may come between a snapshot and its fact, or between a mark and its fact; and an admin may remove a
        snapshot by hand, or put one back. `there` are the copies with a readable sidecar, `names` those of all
        snapshots' folders. Only what was known before its job began to look can have gone, or be back: what
        another process takes in meanwhile of another node may have happened after the look.
        """
        state, node, now = self._config.state_dir, self._config.node, datetime.now(UTC)
        named, there = subject(target, node), list(there)
        self.has_read(medium.medium, there)
        new: list[Fact] = []
        if view.expected(self._config, target) is None:
            new.append(bodies.expected(node, now, named, medium))
        known = view.known_subjects(state)
        new += [bodies.adopted(node, now, copy) for copy in there if bodies.subject_of(copy) not in known]
        live = [*self._all_copies(), *self._safety()]
        hidden = {bodies.subject_of(copy) for copy in there} & known - {bodies.subject_of(copy) for copy in live}
        shown = [copy for copy in there if bodies.subject_of(copy) in hidden]
        for copy, facts in view.reported_pruned(state, node, shown, self._looked_at[target.name]):
            new.append(bodies.found(node, now, copy, facts))
        known_there = self._known.get(target.name, ())
        here = [copy for copy in live if copy.medium == medium.medium]
        gone = [copy for copy in here if copy.snapshot not in names and (copy.medium, copy.snapshot) in known_there]
        self._record([*new, *(bodies.pruned(node, now, copy, bodies.GONE) for copy in gone)])
        if not gone:
            return ()
        backups = {copy.snapshot: copy for copy in (*here, *there) if not copy.purpose}
        kept = {one.copy.snapshot for one in judge(list(backups.values()), target.retention, now) if one.keep}
        return tuple(sorted({copy.snapshot for copy in gone if not copy.adopted} & kept))

    def recorded(self, medium: str, there: Iterable[Copy]) -> list[Copy]:
        """Those on a medium that a node says it has made, as it has recorded them; all, if no node says so of any."""
        known = {(copy.medium, copy.snapshot): copy for copy in self._copies() if not copy.adopted}
        found = (known.get((medium, copy.snapshot)) for copy in there)
        return [copy for copy in found if copy is not None] if known else list(there)

    def has_read(self, medium: str, there: Iterable[Copy]) -> None:
        """Which copies a medium's own sidecars show: of no others is it ever decided that they go."""
        self._read[medium] = {copy.snapshot: copy for copy in there}

    def published(self, body: dict[str, Any], counts: CopyCounts) -> Copy:
        """Record that a whole snapshot is there, and how long its copy took. Raises TargetError for an invalid body."""
        copy = bodies.copy_from(body)
        if copy is None:
            raise TargetError("the new snapshot's record is invalid")
        now = datetime.now(UTC)
        self._read.setdefault(copy.medium, {})[copy.snapshot] = copy
        took = (now - copy.started_at).total_seconds()
        self._record([
            bodies.copied(self._config.node, now, copy),
            *rates.measured(self._config.node, copy, Work.COPIED, counts.copied, counts.copied_bytes, took),
        ])
        return copy

    def replicated(self, body: dict[str, Any], files: int, size: int, *, is_all: bool) -> Copy:
        """Record that a snapshot was fetched to this node's disk, and that it was read, if that `is_all` of it.

        Raises TargetError for an invalid body.
        """
        copy = bodies.copy_from(body)
        if copy is None:
            raise TargetError("the fetched snapshot's record is invalid")
        now = datetime.now(UTC)
        self._read.setdefault(copy.medium, {})[copy.snapshot] = copy
        facts = [bodies.copied(self._config.node, now, copy)]
        self._record(facts + [bodies.verified(self._config.node, now, copy, files, size, 1.0)] * is_all)
        state = self._config.state_dir  # one that was pruned before, and is fetched again
        gone = view.reported_pruned(state, self._config.node, [copy], view.newest_row(state))
        self._record([bodies.found(self._config.node, now, copy, after) for _, after in gone])
        return copy

    def left(self, target: TargetConfig, medium: str, room: LastRoom | None) -> None:
        """A medium that is mounted only while it is used has so much room left: a fact, until its next use."""
        if room is not None and target.is_mounted_for_use:
            self._record([free_space.left(self._config.node, medium, room)])

    def may_go_first(self, coming: Copy, target: TargetConfig) -> list[tuple[str, str]]:
        """The snapshots on the medium of the `coming` copy that may be removed to make room for it, oldest first.

        That is what retention drops once it is there, and after that what restores have kept; each with its reason.
        """
        every, own = self.there(coming.medium)
        now = datetime.now(UTC)
        found, agreed = (may_go_first(one.backups, coming, target.retention, now, one.lines) for one in (every, own))
        found = [(snapshot, reason) for snapshot, reason in found if snapshot in dict(agreed)]
        return found + [
            (copy.snapshot, "safety copy, and a backup needs its room")
            for copy in reversed(every.safety) if not (every.lines.rivals or is_pinned(copy))
        ]  # fmt: skip

    def to_recycle(self, coming: Copy, target: TargetConfig, base: str) -> str:
        """The snapshot on its medium with whose tree the `coming` copy, linked from `base`, may begin; "" for none.

        It is one that goes once the new one is there, whoever is asked, as in `superfluous`.
        """
        if lineages([*self._all_copies(), coming]).rivals:
            return ""
        every, own = self.there(coming.medium)
        recorded = replace(every, backups=tuple(copy for copy in every.backups if not copy.adopted))
        now = datetime.now(UTC)
        asked = dict.fromkeys((one.backups, one.lines) for one in (every, own, recorded))  # mostly they are the same
        found, *others = (recyclable(backups, coming, target.retention, now, lines) for backups, lines in asked)
        return next((one for one in found if one != base and all(one in other for other in others)), "")

    def to_drop(self, target: TargetConfig, medium: str, fresh: str) -> list[tuple[str, str]]:
        """The snapshots on a medium that no rule keeps, with the reason; never `fresh`, which was just published."""
        drop = superfluous(self._config, self._resource, target.retention, medium, self._read.get(medium, {}))
        return [(snapshot, reason) for snapshot, reason in drop if snapshot != fresh]

    def there(self, medium: str) -> tuple[Shown, Shown]:
        """What a medium holds, as far as this run has read its sidecars: see `shown_there`."""
        return shown_there(self._config, self._resource, medium, self._read.get(medium, {}))

    def pinned_on(self, medium: str) -> list[str]:
        """The snapshots on a medium that never go."""
        return [copy.snapshot for copy in self._all_copies() if copy.medium == medium and is_pinned(copy)]

    def held_on(self, medium: str) -> list[str]:
        """The snapshots on a medium that do not go now: a restore of this node reads them."""
        held = held_copies(folders.held_folder(self._config.state_dir))
        return sorted(snapshot for place, snapshot in held if place == medium)

    def why_frozen(self) -> list[str]:
        """Why nothing is dropped at all, for a run's notes."""
        return [FROZEN] if lineages(self._copies()).rivals else []

    def pruned(self, medium: str, snapshot: str, reason: str) -> None:
        """A snapshot is gone."""
        now = datetime.now(UTC)
        every = (*self._all_copies(), *self._safety())
        gone = [copy for copy in every if (copy.medium, copy.snapshot) == (medium, snapshot)]
        self._record([bodies.pruned(self._config.node, now, copy, reason) for copy in gone])

    def merge_found(self, road: str, stamps: dict[str, list[int]]) -> None:
        """Catalogs that a copy job found on its medium."""
        config, state = self._config, self._config.state_dir
        whose = signers(state, config.node, config.nodes)
        merge.merge_fetched(state, road, folders.incoming_folder(state, road), stamps, whose)

    def _copies(self) -> list[Copy]:
        return view.configured(self._config, self._resource)

    def _all_copies(self) -> list[Copy]:
        """With those that are known from their medium alone."""
        return view.configured(self._config, self._resource, adopted=True)

    def _safety(self) -> list[Copy]:
        return view.safety(self._config.state_dir, self._config.node, self._resource)

    def _record(self, facts: list[Fact]) -> None:
        if facts:
            store.record(self._config.state_dir, self._config.node, facts)


def may_go_first(
    known: Sequence[Copy], coming: Copy, policy: Retention, now: datetime, lines: Lineages = ONE_LINE
) -> list[tuple[str, str]]:
    """The copies on a medium that retention drops once `coming` is there, and that may go before it: oldest first.

    With the reason of each. The base of the new copy is for the caller to leave out.
    """
    later = {one.copy.snapshot: one.reason for one in judge([*known, coming], policy, now, lines=lines) if not one.keep}
    floor = replace(policy, last=0, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
    free = [one.copy.snapshot for one in judge(known, floor, now, lines=lines) if not one.keep]
    return [(snapshot, later[snapshot]) for snapshot in reversed(free) if snapshot in later]


def recyclable(
    known: Sequence[Copy], coming: Copy, policy: Retention, now: datetime, lines: Lineages = ONE_LINE
) -> list[str]:
    """The copies on a medium that may become the `coming` one, the newest first, as that is the most like it.

    They go once it is there, also if it turns out to lack files, and nothing needs them until then. One that is
    damaged, or of a lineage of its own, goes in the ordinary way. The new copy's base is for the caller to leave out.
    """
    whole, lacking = (
        [snapshot for snapshot, _ in may_go_first(known, replace(coming, problems=problems), policy, now, lines)]
        for problems in (0, 1)
    )
    sound = {copy.snapshot for copy in known if copy.damaged_at is None and lines.of(copy) is None}
    return [snapshot for snapshot in reversed(whole) if snapshot in lacking and snapshot in sound]


class Shown(Struct, frozen=True):
    """The backups and the safety copies that a medium shows, newest first, and the lineages of the resource."""

    backups: tuple[Copy, ...]
    safety: tuple[Copy, ...]
    lines: Lineages


def shown_there(config: Config, resource: str, medium: str, sidecars: Mapping[str, Copy]) -> tuple[Shown, Shown]:
    """The copies on a medium as their own `sidecars` (by snapshot) describe them, for whoever decides what goes.

    A catalog is only what somebody says: 400 invented copies must not make the real ones superfluous, so what no
    sidecar shows does not count. That a copy is damaged, or was verified, is said by whoever has read it, and both
    can cost another copy its place. So they come twice: with what all nodes have found, and with what this node has
    found itself. What goes must be superfluous in both.
    """
    return _shown(config, resource, medium, sidecars, ""), _shown(config, resource, medium, sidecars, config.node)


def _shown(config: Config, resource: str, medium: str, sidecars: Mapping[str, Copy], read_by: str) -> Shown:
    copies = view.copies(config.state_dir, config.node, resource, (), read_by, adopted=True)
    held, now = held_copies(folders.held_folder(config.state_dir)), datetime.now(UTC)

    def there(known: Iterable[Copy]) -> tuple[Copy, ...]:
        return tuple(
            replace(sidecars[one.snapshot], verified_at=one.verified_at, drilled_at=one.drilled_at,
                    damaged_at=one.damaged_at, adopted=one.adopted, note=one.note,
                    pinned_at=now if (medium, one.snapshot) in held else one.pinned_at)
            for one in known if one.medium == medium and one.snapshot in sidecars
        )  # fmt: skip

    kept = view.safety(config.state_dir, config.node, resource, (), read_by)
    return Shown(there(copies), there(kept), lineages(copies))


def superfluous(
    config: Config, resource: str, policy: Retention, medium: str, sidecars: Mapping[str, Copy]
) -> list[tuple[str, str]]:
    """The snapshots on a medium that no rule keeps, with the reason, whoever is asked what damaged or verified is.

    What is known from the medium alone takes no place of a copy that a node has recorded.
    """
    now = datetime.now(UTC)
    shown = shown_there(config, resource, medium, sidecars)
    judged = {
        one: [*judge(one.backups, policy, now, lines=one.lines), *safety(one.safety, one.backups, now, one.lines)]
        for one in dict.fromkeys(shown)  # mostly both are the same
    }
    every, own = (judged[one] for one in shown)
    alone = judge([copy for copy in shown[0].backups if not copy.adopted], policy, now, lines=shown[0].lines)
    gone = {one.copy.snapshot for one in own if not one.keep} - {one.copy.snapshot for one in alone if one.keep}
    return [(one.copy.snapshot, one.reason) for one in every if not one.keep and one.copy.snapshot in gone]


def trusted(known: Sequence[Copy]) -> tuple[frozenset[str], frozenset[str]]:
    """Of the copies on a target, those found damaged, and those found well after the last damage was found."""
    damage = [copy.damaged_at for copy in known if copy.damaged_at]
    well = [copy for copy in known if copy.verified_at and (not damage or copy.verified_at > max(damage))]
    return frozenset(copy.snapshot for copy in known if copy.damaged_at), frozenset(copy.snapshot for copy in well)

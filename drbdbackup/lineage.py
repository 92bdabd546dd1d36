"""Which copies descend from which, and whether two nodes diverged: a split brain. Pure.

DRBD gives the data a new generation when a Primary goes on without its peer, and notes from which it departs (in the
bitmap's UUID). That one was on every node; a node departs from it once. When the peers meet again, the younger one
becomes that of all nodes, and the one that it came from goes to the history: a generation that is anybody's ancestor,
or that was seen with an empty bitmap, *was shared*.

- **Split brain**: two nodes made copies of two generations that depart from the same one, neither was shared, neither
  node has gone on to another generation, and no later copy of a shared one is known. It is what DRBD itself calls so
  (equal bitmap UUIDs). Then there are rivals.
- **Resolved**: one of the two was shared. It survives, the other is discarded.
- **Unknown ancestry is no split brain.** DRBD remembers but one or two generations, a link that comes and goes in the
  night makes more than these, and no copy saw those in between. Yet each departed from one that all nodes had, so the
  later of two that depart from different ones has the earlier behind it.

Copies without a generation count as what their node had when it last had one. A node's own copies come in the order of
their sequence; between nodes that have not heard of each other it says nothing, so it is asked last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from drbdbackup.errors import NothingFound, Undecided, UsageError
from drbdbackup.model.backup import Copy, recorded
from drbdbackup.model.generation import Generation

_SYNC_OFFSET = 0x0001000000000000  # UUID_NEW_BM_OFFSET: 8.4 names the base of a resync after the bitmap's, plus this
_ALL = (1 << 64) - 1

_Place = tuple[str, str]


class Lineage(Struct, frozen=True):
    """The copies of one generation that stand against others. `nodes` made them; `members` are (medium, snapshot)."""

    generation: str
    nodes: tuple[str, ...]
    discarded: bool
    members: frozenset[_Place] = frozenset()

    def __contains__(self, copy: Copy) -> bool:
        """Whether the copy belongs to it."""
        return (copy.medium, copy.snapshot) in self.members

    @property
    def name(self) -> str:
        """What people call it: by the nodes that made it."""
        return " and ".join(self.nodes)

    @property
    def word(self) -> str:
        """What `--lineage` calls it: by its node, or its generation where there are several."""
        return self.nodes[0] if len(self.nodes) == 1 else self.generation

    def is_called(self, word: str) -> bool:
        """By a node, or by its generation or the beginning of it (four digits at least)."""
        return word in self.nodes or (len(word) >= 4 and self.generation.startswith(word.upper()))


class Lineages(Struct, frozen=True):
    """Two or more `rivals`, or none; and those `discarded` whose copies are still there. All others are of one line."""

    rivals: tuple[Lineage, ...] = ()
    discarded: tuple[Lineage, ...] = ()

    def of(self, copy: Copy) -> Lineage | None:
        """The rival or discarded lineage that a copy belongs to; None for the line that all share."""
        return next((line for line in (*self.rivals, *self.discarded) if copy in line), None)

    def is_discarded(self, copy: Copy) -> bool:
        """Whether it is of a lineage that DRBD threw away."""
        return any(copy in line for line in self.discarded)

    def named(self, word: str) -> Lineage:
        """The lineage that is called so. Raises UsageError with those that there are."""
        every = (*self.rivals, *self.discarded)
        found = [line for line in every if line.is_called(word)]
        found = [line for line in found if not line.discarded] or found
        if len(found) == 1:
            return found[0]
        if not every:
            raise UsageError(f"--lineage {word}: all copies are of one lineage", "Leave it out.")
        why = "several are called so" if found else "there is no such lineage"
        listed = "; ".join(f"{line.generation} by {line.name}{' (discarded)' * line.discarded}" for line in every)
        raise UsageError(f"--lineage {word}: {why}", f"There are: {listed}.")

    def chosen(self, copies: Iterable[Copy], word: str) -> list[Copy]:
        """The copies that may be the newest: those of the lineage called `word` and what all have in common.

        A discarded one has its own copies only. Without a word: all but the discarded.
        """
        line = self.named(word) if word else None
        if line is not None and line.discarded:
            return [copy for copy in copies if copy in line]
        others = self.discarded if line is None else (*self.rivals, *self.discarded)
        return [copy for copy in copies if (own := self.of(copy)) is None or own is line or own not in others]

    def heads(self, copies: Sequence[Copy]) -> list[tuple[Lineage, Copy]]:
        """Each rival with its newest undamaged copy; `copies` come newest first."""
        sound = [copy for copy in copies if copy.damaged_at is None]
        newest = ((line, next((copy for copy in sound if copy in line), None)) for line in self.rivals)
        return [(line, copy) for line, copy in newest if copy is not None]

    def undecided(self, copies: Sequence[Copy]) -> NothingFound | None:
        """Why none of `copies` (newest first) is the newest: they are of more than one rival lineage."""
        heads = self.heads(copies)
        if len(heads) < 2:
            return None
        choices = " or ".join(f"--lineage {line.word} ({copy.snapshot})" for line, copy in heads)
        names = " and ".join(line.name for line, _ in heads)
        return Undecided(
            f"split brain: {names} diverged, so there is no single newest backup",
            f"Choose {choices}, or a copy with --snapshot.",
        )


ONE_LINE = Lineages()


def lineages(copies: Iterable[Copy]) -> Lineages:
    """What the copies of one resource, of all nodes on all media and in any order, say of its lineages.

    Copies that are known only from their medium do not count while there are others: see `recorded`.
    """
    known = recorded(list(copies))
    ordered = sorted(known, key=lambda copy: (copy.sequence, copy.started_at, copy.snapshot, copy.medium))
    made = [(copy, generation) for copy in ordered if (generation := _generation(copy)) is not None]
    family = _Family(made)
    rivals: set[str] = set()
    discarded: set[str] = set()
    for children in family.forks():
        shared = children & family.shared
        apart = {child for child in children - shared if not family.is_left(child)}
        apart -= {older for child in apart for older in family.ancestors(child)}
        if shared:
            discarded |= {child for child in children - shared if not family.ancestors(child) & shared}
        elif len({node for child in apart for node in family.makers[child]}) > 1 and not family.are_past(apart):
            rivals |= apart if len(apart) > 1 else set()
    if not rivals and not discarded:
        return ONE_LINE
    belonging = dict(_belonging(ordered))
    return Lineages(
        _lines(rivals - discarded, belonging, discarded=False), _lines(discarded, belonging, discarded=True)
    )


class _Family:
    """All that is known of generations by their UUIDs."""

    def __init__(self, made: Sequence[tuple[Copy, Generation]]) -> None:
        self.makers: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}
        self._before: dict[str, set[str]] = {}
        self._made = made
        for copy, generation in made:
            self.makers.setdefault(generation.current, set()).add(copy.node)
            older = {*filter(None, (generation.bitmap,)), *generation.history}
            self._before.setdefault(generation.current, set()).update(older)
            self._parents.setdefault(generation.current, set()).update(
                [generation.bitmap] if generation.bitmap else generation.history[:1]
            )
        self.shared: set[str] = set().union(*(self._shared_by(generation) for _, generation in made))

    def _shared_by(self, generation: Generation) -> set[str]:
        """What a tuple shows to have been on every node: not what its node alone wrote before, apart already."""
        if not generation.bitmap:
            return {generation.current, *generation.history}
        return {
            generation.bitmap,
            *(uuid for uuid in generation.history if generation.bitmap not in self._parents.get(uuid, ())),
        }

    def forks(self) -> Iterator[set[str]]:
        """Generations that depart from the same one."""
        children: dict[str, set[str]] = {}
        for child, parents in self._parents.items():
            for parent in parents:
                children.setdefault(parent, set()).add(child)
        return (found for _, found in sorted(children.items()) if len(found) > 1)

    def ancestors(self, uuid: str) -> set[str]:
        """All that it is known to come from, over the copies in between too."""
        found: set[str] = set()
        left = [uuid]
        while left:
            new = self._before.get(left.pop(), set()) - found
            found |= new
            left += new
        return found

    def is_left(self, uuid: str) -> bool:
        """Whether a node that made it has gone on to another since."""
        past = self.ancestors(uuid) | {uuid}
        return any(
            generation.current not in past and copy.node in self.makers[uuid]
            for copy, generation in self._made[self._end(uuid) :]
        )

    def are_past(self, uuids: set[str]) -> bool:
        """Whether a copy of what all nodes share was made after all of these, by a node that came for another."""
        past = uuids.union(*map(self.ancestors, uuids))
        end = max(map(self._end, uuids), default=0)
        return any(generation.current not in past and not generation.bitmap for _, generation in self._made[end:])

    def _end(self, uuid: str) -> int:
        """Where the copies of a generation end in the order of all."""
        return 1 + max(at for at, (_, generation) in enumerate(self._made) if generation.current == uuid)


def _generation(copy: Copy) -> Generation | None:
    """The copy's generation without the names that 8.4 makes up for the base of a resync."""
    generation = copy.generation
    if generation is None:
        return None
    line = [generation.bitmap or "", *generation.history]
    plain = [uuid for uuid, older in zip(line, [*line[1:], ""], strict=True) if not _is_made_up(uuid, older)]
    return Generation(generation.current, plain[0], tuple(plain[1:])) if generation.bitmap else Generation(
        generation.current, "", tuple(filter(None, plain))
    )  # fmt: skip


def _is_made_up(uuid: str, older: str) -> bool:
    return bool(uuid and older) and int(uuid, 16) == (int(older, 16) + _SYNC_OFFSET) & _ALL


def _belonging(ordered: Sequence[Copy]) -> Iterator[tuple[_Place, tuple[str, str]]]:
    """Each copy's (generation, node); one that has none gets that of its node's copy before it."""
    last: dict[str, str] = {}
    for copy in ordered:
        if copy.generation is not None:
            last[copy.node] = copy.generation.current
        yield (copy.medium, copy.snapshot), (last.get(copy.node, ""), copy.node)


def _lines(
    uuids: set[str], belonging: Mapping[_Place, tuple[str, str]], *, discarded: bool
) -> tuple[Lineage, ...]:
    """The lineages of these generations, by the names of their nodes."""
    found = []
    for uuid in uuids:
        members = {place: node for place, (own, node) in belonging.items() if own == uuid}
        found.append(Lineage(uuid, tuple(sorted(set(members.values()))), discarded, frozenset(members)))
    return tuple(sorted(found, key=lambda line: (line.nodes, line.generation)))

"""Rungs of ladders: which of them share a generation batch, so that their order can be paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, permutations

from vqathinker.rewards.contrast import apart


@dataclass(frozen=True)
class Rungs:
    """A data set's rungs, and how they are to meet.

    Attributes:
        ladders: Row -> name of its ladder; only of rows that are rungs.
        ranks: Row -> rank, higher is worse.
        together: Rungs n of a ladder that one generation batch takes.
        min_difference: Least difference of rank at which their order counts, see `rewards.Contrast`.
    """

    ladders: Mapping[int, str]
    ranks: Mapping[int, float]
    together: int
    min_difference: float

    def arrange(self, order: Sequence[int], batch: int) -> list[int]:
        """An order in which rungs of one ladder share a generation batch.

        Rungs of a ladder are put into groups of n, in the order given, each of them far enough from all others of its
        group; what is left over joins one of them. A group goes into the batch in which the order has the first of its
        rows by number, or the next one that has space for it, so that groups come as evenly over the epoch as other
        rows. These fill the batches, in their order. A group is cut only where no batch has space for it.

        Args:
            order: Rows, each once.
            batch: Rows of a generation batch.

        Returns:
            The same rows, each once. As always, those behind the last whole batch are not trained on in this epoch.
        """
        place = {row: i for i, row in enumerate(order)}
        batches = _Batches(len(order), batch)
        groups = [group for rows in self._by_ladder(order).values() for group in self._groups(rows, batch)]
        for group in sorted(groups, key=lambda group: place[min(group)]):
            batches.put_near(group, place[min(group)] // batch)
        self._join([row for row in order if row in self.ladders and row not in batches.rows], batches)
        others = iter([row for row in order if row not in batches.rows])
        for number, left in enumerate(list(batches.space)):
            for row in islice(others, left):
                batches.put([row], number)
        return [row for units in batches.units for unit in sorted(units, key=lambda u: place[min(u)]) for row in unit]

    def alone(self, arranged: Sequence[int], batch: int) -> list[int]:
        """Rungs in whole batches whose order counts against no other rung of their batch."""
        found = []
        for start in range(0, len(arranged) - batch + 1, batch):
            for rows in self._by_ladder(arranged[start : start + batch]).values():
                found += [row for row in rows if not any(self._apart(row, other) for other in rows)]
        return found

    def _by_ladder(self, rows: Sequence[int]) -> dict[str, list[int]]:
        ladders: dict[str, list[int]] = {}
        for row in rows:
            if row in self.ladders:
                ladders.setdefault(self.ladders[row], []).append(row)
        return ladders

    def _groups(self, rows: Sequence[int], most: int) -> list[list[int]]:
        """Rungs of one ladder in groups of at most so many; a rung that finds no partner is in none."""
        left, groups, over = list(rows), list[list[int]](), list[int]()
        while left:
            group = [left.pop(0)]
            for row in list(left):
                if len(group) < self.together and self._fits(row, group):
                    group.append(row)
                    left.remove(row)
            if len(group) > 1:
                groups.append(group)
            else:
                over += group
        for row in self._paired(over, groups):
            open_to = [group for group in groups if len(group) < most and self._joins(row, group)]
            if open_to:
                min(open_to, key=len).append(row)
        return groups

    def _paired(self, over: Sequence[int], groups: list[list[int]]) -> list[int]:
        """Make pairs of two rungs that are left over: one of them changes places with a rung of a group that is far
        enough from the other. Returns what is still left over."""
        left = list(over)
        for row, other in permutations(over, 2):
            changes = (
                (group, i)
                for group in groups
                for i, member in enumerate(group)
                if self._apart(member, other) and self._fits(row, group[:i] + group[i + 1 :])
            )
            if row in left and other in left and (change := next(changes, None)):
                group, i = change
                groups.append([group[i], other])
                group[i] = row
                left = [rung for rung in left if rung not in (row, other)]
        return left

    def _join(self, rows: Sequence[int], batches: _Batches) -> None:
        """Put rungs that are in no batch into one with space that has a rung to compare them with, if there is one."""
        homes: dict[str, list[int]] = {}
        for number, units in enumerate(batches.units):
            for unit in units:
                homes.setdefault(self.ladders[unit[0]], []).append(number)
        for row in rows:
            for number in homes.get(self.ladders[row], ()):
                own = [rung for unit in batches.units[number] for rung in unit]
                own = [rung for rung in own if self.ladders[rung] == self.ladders[row]]
                if batches.space[number] and self._joins(row, own):
                    batches.put([row], number)
                    break

    def _apart(self, row: int, other: int) -> bool:
        """Whether the order of two rungs of one ladder counts."""
        return apart(self.ranks[row], self.ranks[other], self.min_difference)

    def _fits(self, row: int, group: Sequence[int]) -> bool:
        """Whether the rung is far enough from all of a group."""
        return all(self._apart(row, other) for other in group)

    def _joins(self, row: int, group: Sequence[int]) -> bool:
        """Whether the rung is far enough from one of a group, and not in it yet under another number."""
        new = all(self.ranks[row] != self.ranks[other] for other in group)
        return new and any(self._apart(row, other) for other in group)


class _Batches:
    """Generation batches while they are filled; the last one holds what is left of an epoch.

    Attributes:
        units: For each batch, groups of rows that stay together.
        space: For each, how many rows it still takes.
        rows: All rows that are in one.
    """

    def __init__(self, count: int, size: int) -> None:
        whole, rest = divmod(count, size)
        self.space = [size] * whole + [rest]
        self.units: list[list[list[int]]] = [[] for _ in self.space]
        self.rows: set[int] = set()
        self._largest = size

    def put(self, unit: list[int], number: int) -> None:
        """Add a unit to a batch."""
        self.units[number].append(unit)
        self.space[number] -= len(unit)
        self.rows.update(unit)

    def put_near(self, unit: list[int], number: int) -> None:
        """Add a unit to this batch, or to the next one with space for it; to none where there is no such batch."""
        if len(unit) > self._largest:
            return
        for candidate in chain(range(number, len(self.space)), range(number)):
            if self.space[candidate] >= len(unit):
                return self.put(unit, candidate)
        self._largest = len(unit) - 1  # space never grows: no need to look again

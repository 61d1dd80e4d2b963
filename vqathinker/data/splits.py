"""Clips to train on and clips held out, of different sources."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from vqathinker.data.labels import LabelRow
from vqathinker.data.sources import SOURCE_COLUMNS, Sources, sources_of
from vqathinker.wording import counted

DRAWS = 200

Row = TypeVar("Row", bound=LabelRow)


@dataclass(frozen=True)
class Split(Generic[Row]):
    """Two parts of a set that share no source.

    Attributes:
        train: Clips to train on, in the order that they were given in.
        held_out: The others.
        reason: What told the sources, or that each clip was taken as its own.
    """

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    reason: str


def split_by_source(
    rows: Sequence[Row], share: float = 0.2, seed: int = 0, sources: Sources | None = None
) -> Split[Row]:
    """Hold whole sources out, drawn at random from all over the range of MOS.

    Sources are sorted by their mean MOS and cut into as many runs of even length as sources are held out; one source
    is drawn from each run. Of up to `DRAWS` such draws, the one whose clips come nearest to the share counts.

    Args:
        rows: The clips, with labels.
        share: Share of the clips to hold out, in (0, 1). At least one source is on each side.
        seed: Of the draws.
        sources: Source of each clip; default `sources_of(rows)`, its column. Where nothing tells it, each clip is taken
            as a source of its own, and versions of one scene may land on both sides.

    Raises:
        ValueError: If the share is outside (0, 1), there is one source only, or `sources` is of other clips.
    """
    if not 0 < share < 1:
        raise ValueError(f"share {share} to hold out must be above 0 and below 1, e.g. 0.2.")
    told = sources_of(rows) if sources is None else sources
    if told.names and len(told.names) != len(rows):
        raise ValueError(f"{len(told.names)} sources for {len(rows)} clips: give one source per clip.")
    names: Sequence[Hashable] = told.names or [row.video for row in rows]
    reason = f"sources by {told.reason or 'the caller'}"
    if not told.names:
        why = told.reason or f"no column {' or '.join(map(repr, SOURCE_COLUMNS))} names them"
        reason = f"each clip is taken as its own source: {why}"
    if len(set(names)) < 2:
        raise ValueError(
            f"{counted(len(rows), 'clip')} of one source ({reason}). Add clips of another scene: a held-out set needs "
            "at least 2 sources."
        )
    held_out = _drawn(names, np.array([row.mos for row in rows]), share, seed)
    return Split(
        tuple(row for row, name in zip(rows, names, strict=True) if name not in held_out),
        tuple(row for row, name in zip(rows, names, strict=True) if name in held_out),
        reason,
    )


def _drawn(names: Sequence[Hashable], mos: np.ndarray, share: float, seed: int) -> set[Hashable]:
    """The sources that are held out."""
    known = list(dict.fromkeys(names))
    place = {name: number for number, name in enumerate(known)}
    of_clip = np.array([place[name] for name in names])
    clips = np.bincount(of_clip)
    order = np.argsort(np.bincount(of_clip, mos) / clips, kind="stable")
    wanted = share * len(names)
    count = share * len(known)
    rng = np.random.default_rng(seed)
    best, distance = order[:0], float("inf")
    for _ in range(DRAWS):
        runs = np.array_split(order, min(max(round(count), 1), len(known) - 1))
        chosen = np.array([run[rng.integers(len(run))] for run in runs])
        drawn = clips[chosen].sum()
        off = abs(drawn - wanted)
        if off < distance:
            best, distance = chosen, off
        if distance <= 0.5:
            break
        count = len(runs) * wanted / drawn  # sources are of different sizes
    return {known[number] for number in best}

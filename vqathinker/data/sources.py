"""Which clips of a test set were made from one source: the rungs of a ladder, the versions of a scene."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from vqathinker.data.labels import LabelRow

SOURCE_COLUMNS = ("source", "scene")
"""CSV columns that tell a clip's source; the first one that a set has counts."""


@dataclass(frozen=True)
class Sources:
    """The sources of a test set's clips, as far as anything tells them.

    Attributes:
        names: Each clip's source, in the order of the clips; none where nothing tells them.
        reason: What tells them, or why a rule for file names does not; "" where there is neither.
    """

    names: tuple[Hashable, ...] = ()
    reason: str = ""

    def drawn(self, names: Sequence[Hashable]) -> str:
        """What a bootstrap over some clips draws: "clips", "16 sources (file names)", or "clips (...)" with a reason.

        Args:
            names: The source of each of these clips; one of its own where nothing tells it.
        """
        count = len(set(names))
        if count == len(names):
            return "clips" if self.names or not self.reason else f"clips ({self.reason})"
        return f"{count} sources ({self.reason})" if count > 1 else f"1 source ({self.reason}; no interval)"


def sources_of(rows: Sequence[LabelRow], column: str | None = None, pattern: str = "") -> Sources:
    """The source of each clip: from a CSV column or, where no column tells it, from the clip's name. Never guessed.

    Args:
        rows: The set's clips.
        column: CSV column that tells it, one of `rows`; default the first of `SOURCE_COLUMNS` that they have. A clip
            with an empty cell is a source of its own, and a column of empty cells tells nothing.
        pattern: Rule for names, a regular expression for a whole `video_id`, whose group `source` is the source. If one
            name does not fit, no name counts.
    """
    for name in (column,) if column else SOURCE_COLUMNS:
        cells = [row.extra.get(name, "").strip() for row in rows]
        if any(cells):
            own = [(row.video_id,) for row in rows]  # a tuple, which no cell's text equals
            return Sources(tuple(cell or clip for cell, clip in zip(cells, own, strict=True)), f"column {name!r}")
    if not pattern:
        return Sources()
    matches: list[re.Match[str]] = []
    for row in rows:
        match = re.fullmatch(pattern, row.video_id)
        if match is None:
            return Sources(reason=f"the name {row.video_id!r} does not show its source")
        matches.append(match)
    return Sources(tuple(match["source"] for match in matches), "file names")

"""How long the rest will take, told once the first batch is done."""

from __future__ import annotations

import sys
from time import monotonic

from tqdm.auto import tqdm

TOLD_FROM = 20.0
"""Seconds; what takes less is not worth a line."""


class Estimate:
    """Says once, on stderr, about how long a run will take: "about 12 min for 300 clips".

    A progress bar tells it too, but only on a terminal.

    Args:
        total: How many there are to do, on all processes.
        unit: What they are, in the plural.
        title: What the line begins with.
        silent: Say nothing, as on processes that do not print.
    """

    def __init__(self, total: int, unit: str, title: str = "", silent: bool = False) -> None:
        self.total, self.unit, self.title, self.told = total, unit, title, silent
        self.start = monotonic()

    def update(self, count: int) -> None:
        """Call it after each batch, with how many it had; the first one counts."""
        if self.told or count < 1:
            return
        self.told = True
        seconds = (monotonic() - self.start) * self.total / count
        if count < self.total and seconds >= TOLD_FROM:
            begin = f"{self.title}: " if self.title else ""
            tqdm.write(f"{begin}about {in_words(seconds)} for {self.total} {self.unit}", file=sys.stderr)


def in_words(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"

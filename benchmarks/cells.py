"""Numbers and tables as docs/performance.md shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate


def table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    return tabulate(lines, header, tablefmt="github", disable_numparse=True)


def times(number: float) -> str:
    digits = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{digits}f}x"


def ratio(held: dict[str, float], name: str) -> str:
    return times(held[name]) if name in held else "-"


def seconds(number: float) -> str:
    return f"{number:.3g} s" if number >= 1 else f"{1000 * number:.3g} ms"

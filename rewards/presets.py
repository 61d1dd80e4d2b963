"""Named rubrics: the paper's text, the published code, and what this library recommends."""

from __future__ import annotations

from collections.abc import Callable

from .format import Format
from .ranking import Ranking
from .regression import Regression
from .rubric import Rubric
from .temporal import Temporal


def _paper() -> Rubric:
    """VQAThinker Eq. 4-10: alpha 0.8, sigma 0.5, ties pay 2 sqrt(eps), temporal bonus per video (no gradient)."""
    regression, ranking = Regression(alpha=0.8), Ranking(tie=0.0)
    return Rubric([Format(), regression, ranking, Temporal(regression, ranking, scope="group")])


def _official() -> Rubric:
    """The published code: first number, decimal penalty, ties at 0.5, out-of-range scored, batch-wide temporal gate."""
    regression = Regression(decimal_penalty=0.8, allow_out_of_range=True, rule="official")
    ranking = Ranking(allow_out_of_range=True, rule="official")
    temporal = Temporal(regression, ranking, scope="batch", tau_regression=0.9)
    return Rubric([Format(), regression, ranking, temporal])


def _recommended() -> Rubric:
    """Ours: no decimal penalty, each tag exactly once, and a temporal bonus that each response earns itself."""
    regression, ranking = Regression(), Ranking()
    return Rubric([Format(strict=True), regression, ranking, Temporal(regression, ranking, scope="response")])


PRESETS: dict[str, Callable[[], Rubric]] = {"paper": _paper, "official": _official, "recommended": _recommended}
"""Preset name -> function that makes a new rubric."""


def preset(name: str) -> Rubric:
    """A new rubric of four rewards: "format", "regression", "rank" and "temporal", weight 1 each (Eq. 10).

    Args:
        name: `"paper"`, `"official"` or `"recommended"`.

    Raises:
        ValueError: On another name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown: choose one of {list(PRESETS)}.")
    return PRESETS[name]()

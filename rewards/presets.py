"""Named rubrics: the paper's text, the published code, and what this library recommends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .choice import Choice
from .comparison import PairAgreement, PairOrder, PairWord
from .comparisons import Length, Linear, Threshold
from .contrast import Contrast
from .distortion import Distortion
from .format import Format
from .level import Level
from .pairwise import BradleyTerry, ProductHinge
from .ranking import Ranking
from .regression import Regression
from .reward import find_reward
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


def _strict_format() -> Format:
    return Format(strict=True)


def _temporal() -> Temporal:
    return Temporal(Regression(), Ranking(), scope="response")


def _contrast() -> Contrast:
    return Contrast(ladders=False)


def _order() -> Contrast:
    return Contrast(perturbed=False, name="order")


REWARDS: dict[str, Callable[[], Any]] = {
    "format": _strict_format,
    "regression": Regression,
    "rank": Ranking,
    "temporal": _temporal,
    "distortion": Distortion,
    "contrast": _contrast,
    "order": _order,
    "threshold": Threshold,
    "linear": Linear,
    "length": Length,
    "choice": Choice,
    "level": Level,
    "pair_word": PairWord,
    "pair_order": PairOrder,
    "pair_agreement": PairAgreement,
    "product_hinge": ProductHinge,
    "bradley_terry": BradleyTerry,
}
"""Reward name -> function that makes one, as the preset `recommended` has it. Of `Contrast` one for perturbed copies
and one for ladders, which can be weighed and logged apart."""


def named_rewards(entries: str | Sequence[str]) -> Rubric:
    """A rubric from text, as in a recipe's `--rewards format=1 rank=0.5 my_package.my_module:concise=2`.

    Args:
        entries: `NAME=WEIGHT` or `NAME` (weight 1) each, or all in one text with commas; NAME is one of `REWARDS`, or
            the place of one's own, `package.module:attribute`.

    Raises:
        ValueError: If a name is unknown, a weight is no finite number, or there is no entry.
    """
    texts = entries.split(",") if isinstance(entries, str) else [part for text in entries for part in text.split(",")]
    rewards, weights = [], []
    for text in filter(None, map(str.strip, texts)):
        name, _, weight = text.partition("=")
        try:
            weights.append(float(weight or 1))
        except ValueError:
            weights.append(math.nan)
        if not math.isfinite(weights[-1]):
            raise ValueError(f"rewards: {text!r} must be NAME=WEIGHT with a finite number, e.g. {name}=0.5.")
        rewards.append(find_reward(name.strip(), REWARDS))
    return Rubric(rewards, weights)

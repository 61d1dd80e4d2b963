"""Named MOS scales: how a data set's labels become the 1-5 scale of the prompt. Nothing is guessed."""

from __future__ import annotations

import math
from dataclasses import dataclass

NAMES = (
    "'linear:LO,HI' (e.g. 'linear:0,100'), 'div20' (MOS / 20, for 0-100), 'identity' (scores) or 'vmaf:0,100' (labels "
    "that are VMAF)"
)
SCORES = "scores, 1 to 5 (0 to 5 is accepted, as for MOS / 20)"

LABEL_RANGE = (0.0, 5.0)
"""What labels, and so answers, can be in score units: 1-5, and down to 0 for published labels made by MOS / 20."""


@dataclass(frozen=True)
class MosScale:
    """g = offset + factor * mos for labels in [low, high].

    Attributes:
        name: As written by the user.
        low: Smallest label that fits, native units.
        high: Largest label that fits, native units.
        factor: Score units per native unit.
        offset: Score at native 0.
    """

    name: str
    low: float
    high: float
    factor: float
    offset: float

    def __call__(self, mos: float) -> float:
        """Native label to score.

        Raises:
            ValueError: If the label does not fit the scale.
        """
        if not self.low <= mos <= self.high:  # also catches NaN
            raise ValueError(
                f"MOS {mos} does not fit the scale {self.name!r}, which takes {self.takes}. Name the scale of your "
                f"labels: {NAMES}."
            )
        return self.offset + self.factor * mos

    @property
    def takes(self) -> str:
        """The labels that fit, in words."""
        return SCORES if self.name == "identity" else f"{self.low:g} to {self.high:g}"


NATIVE = MosScale("native", -math.inf, math.inf, 1.0, 0.0)
"""Labels as they are, for evaluation: correlations need no scale. Rewards do, so `mos_scale` does not know it."""


def mos_scale(name: str) -> MosScale:
    """A scale by name.

    Args:
        name: One of four kinds. `"linear:LO,HI"`: 1 + 4 (mos - LO) / (HI - LO) (paper: "linearly rescaled to 1-5").
            `"div20"`: mos / 20 for 0-100 labels (published training labels; 21 LSVQ rows end up below 1).
            `"identity"`: labels that already are in score units, 0-5 (so that published label files, which hold
            MOS / 20, can be read as they are). `"vmaf:LO,HI"`: as linear, and says that the labels are VMAF, no MOS.

    Raises:
        ValueError: On another name, or LO >= HI.

    Example:
        >>> mos_scale("linear:0,100")(62.5), mos_scale("div20")(62.5)
        (3.5, 3.125)
    """
    if name == "div20":
        return MosScale(name, 0.0, 100.0, 1 / 20, 0.0)
    if name == "identity":
        return MosScale(name, *LABEL_RANGE, 1.0, 0.0)
    kind, _, limits = name.partition(":")
    try:
        low, high = map(float, limits.split(","))
        if kind not in ("linear", "vmaf") or not low < high:
            raise ValueError
    except ValueError:
        raise ValueError(f"mos scale {name!r} is unknown: must be {NAMES}, with LO < HI.") from None
    factor = 4 / (high - low)
    return MosScale(name, low, high, factor, 1 - factor * low)

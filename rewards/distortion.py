"""Distortion reward: does the reasoning name what is wrong, and how badly (Q-Insight's degradation perception)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .naming import faults_named
from .parsing import check_columns, text_of

DEGREES = ("barely visible", "slight", "moderate", "strong", "severe")
"""Words for a distortion's severity from 0 to 1, in five equal steps."""
KINDS = (
    "blur",
    "rescale",
    "overexposure",
    "underexposure",
    "noise",
    "compression",
    "stutter",
    "frame drop",
)
"""Names looked for unless the reward is given others; "_" and space count as the same."""


def degree(severity: float) -> str:
    """The word for a severity in [0, 1]."""
    return DEGREES[min(int(severity * len(DEGREES)), len(DEGREES) - 1)]


def reasoning_of(text: str) -> str:
    """What stands between `<think>` and `</think>`; nothing where it is never closed, all of a text without it."""
    _, opened, rest = text.partition("<think>")
    inside, closed, _ = rest.partition("</think>")
    return inside if closed else "" if opened else text


def named_distortions(text: str, kinds: Sequence[str] = KINDS) -> dict[str, str | None]:
    """What a text's reasoning names; what it denies ("no blur", "blur is not visible") it does not name.

    Args:
        text: A completion; its reasoning counts, see `reasoning_of`.
        kinds: Names to look for, with their other forms, see `rewards.naming`.

    Returns:
        Kind (as spelt in `kinds`) -> the degree word directly before its first mention, `None` where there is none.
    """
    return faults_named(reasoning_of(text), kinds, DEGREES)


def distortion_reward(text: str, truth: dict[str, float], kinds: Sequence[str] = KINDS) -> float:
    """Half for the kinds, half for their degrees, each as an F1 score.

    A kind is right if the clip has it; a degree is right if, beside that, its word is at most one of five levels away.
    Naming everything therefore does not pay.

    Args:
        text: A completion.
        truth: Kind -> severity in [0, 1]; not empty.
        kinds: Names that count as naming a distortion.

    Returns:
        Reward in [0, 1].
    """
    spelt = {kind.replace("_", " "): severity for kind, severity in truth.items()}
    named = named_distortions(text, sorted({kind.replace("_", " ") for kind in kinds} | spelt.keys()))
    right = named.keys() & spelt.keys()
    near = [k for k in right if named[k] and abs(DEGREES.index(named[k]) - DEGREES.index(degree(spelt[k]))) <= 1]
    return (len(right) + len(near)) / (len(named) + len(spelt))


class Distortion:
    """Distortion reward as a TRL / ms-swift reward function, for data whose distortions are labelled.

    Args:
        kinds: Names that count as naming a distortion.
        name: Metric key.

    Raises:
        ValueError: If `kinds` is empty.
    """

    floor = 0.0

    def __init__(self, kinds: Sequence[str] = KINDS, name: str = "distortion") -> None:
        if not kinds:
            raise ValueError("kinds is empty: give at least one distortion name to look for.")
        self.kinds = tuple(kinds)
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        kind: Sequence[str | None] | None = None,
        severity: Sequence[str | float | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward in [0, 1] per completion, `None` where the clip has no distortion label.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            kind: N distortion names, several joined by "+" ("blur+stutter").
            severity: N severities in [0, 1], joined alike ("0.31+0.52").
            columns: Not needed.

        Raises:
            ValueError: If a column is missing, has another length, or a row's kinds and severities do not match.
        """
        check_columns(completions, kind=kind, severity=severity)
        return [
            distortion_reward(text_of(text), truth, self.kinds) if (truth := parse_distortions(k, s)) else None
            for text, k, s in zip(completions, kind or (), severity or (), strict=True)
        ]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a distortion label."""
        return bool(row.get("kind"))


def parse_distortions(kind: str | None, severity: str | float | None) -> dict[str, float]:
    """A label row's distortions: ("blur+stutter", "0.31+0.52") -> {"blur": 0.31, "stutter": 0.52}; empty for none.

    Raises:
        ValueError: If there are not as many severities as kinds, or one is no number in [0, 1].
    """
    if not kind:
        return {}
    kinds, degrees = kind.split("+"), str(severity).split("+")
    try:
        values = [float(value) for value in degrees]
    except ValueError:
        values = []
    if len(values) != len(kinds) or len(set(kinds)) < len(kinds) or not all(0 <= value <= 1 for value in values):
        raise ValueError(
            f"kind={kind!r} with severity={severity!r}: give one severity from 0 to 1 per kind, both joined by '+', "
            "and each kind once. Rename the columns if they mean something else."
        )
    return dict(zip(kinds, values, strict=True))

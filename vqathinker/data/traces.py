"""Templated reasoning traces for the supervised warm start: they teach the answer's format."""

from __future__ import annotations

import numpy as np

LEVELS = ("excellent", "good", "fair", "poor", "bad")
"""Quality words from MOS 5 down to 1 (ITU-R BT.500)."""
DEGREES = ("barely visible", "slight", "moderate", "strong", "severe")
"""Words for a distortion's severity from 0 to 1."""

_OPENINGS = ("Looking at the frames and the motion", "Going through the video", "Judging the frames and their motion")
_CLOSINGS = ("Overall the quality is {level}.", "So the quality is {level}.", "This makes the quality {level}.")
_PLAIN = ("I weigh sharpness, noise, compression and smoothness.", "I check detail, artifacts and motion.")


def degree(severity: float) -> str:
    """The word for a severity in [0, 1]."""
    return DEGREES[min(int(severity * len(DEGREES)), len(DEGREES) - 1)]


def level(mos: float) -> str:
    """The quality word nearest to a MOS in [1, 5]."""
    return LEVELS[int(np.clip(round(5 - mos), 0, 4))]


def trace(mos: float, rng: np.random.Generator, kind: str | None = None, severity: float | None = None) -> str:
    """A reasoning trace and the answer, in the format the format reward asks for.

    Args:
        mos: Label in score units; the answer says it with two decimals.
        rng: Chooses among the templates.
        kind: Distortion to name, where the data says it.
        severity: Its severity in [0, 1].

    Returns:
        `<think>...</think><answer>3.42</answer>`.
    """
    opening, closing = rng.choice(_OPENINGS), rng.choice(_CLOSINGS).format(level=level(mos))
    if kind is None or severity is None:
        finding = f"{opening}. {rng.choice(_PLAIN)}"
    else:
        finding = f"{opening}, I see {degree(severity)} {kind.replace('_', ' ')}."
    return f"<think>{finding} {closing}</think><answer>{mos:.2f}</answer>"

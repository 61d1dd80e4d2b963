"""Templated reasoning traces for the supervised warm start: they teach the answer's format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vqathinker.rewards.distortion import degree
from vqathinker.rewards.level import LEVEL_WORDS

LEVELS = LEVEL_WORDS["itu"]
"""Quality words from MOS 5 down to 1 (ITU-R BT.500, Q-Align)."""

TEMPORAL = ("stutter", "frame_drop")
"""Kinds that a `when` belongs to."""

_OPENINGS = ("I see", "There is", "The clip shows")
_CLOSINGS = ("Overall {level}.", "The quality is {level}.", "This looks {level}.")
_PLAIN = ("I weigh sharpness, noise, compression and smoothness.", "I check detail, artifacts and motion.")


def level(mos: float) -> str:
    """The quality word nearest to a MOS in [1, 5]."""
    return LEVELS[int(np.clip(round(5 - mos), 0, 4))]


def verdict(mos: float, rng: np.random.Generator) -> str:
    """A sentence with the quality word."""
    return str(rng.choice(_CLOSINGS)).format(level=level(mos))


def trace(mos: float, rng: np.random.Generator, distortions: Mapping[str, float] | None = None, when: str = "") -> str:
    """A reasoning trace and the answer, in the format the format reward asks for.

    Where it is known what is wrong, the reasoning says that and no verdict: no reward ties its quality word to the
    score, and the tiny policy's contradicted the score in a fifth of its answers (docs/tuning.md).

    Args:
        mos: Label in score units; the answer says it with two decimals.
        rng: Chooses among the templates.
        distortions: Kind -> severity in [0, 1], where the data says it; the worst is named first. Without any, the
            reasoning ends in a verdict.
        when: Where a temporal distortion sits ("early", "midway", "late", "throughout"), named after it.

    Returns:
        `<think>...</think><answer>3.42</answer>`.
    """
    finding = findings(rng, distortions, when) if distortions else f"{plain(rng)} {verdict(mos, rng)}"
    return f"<think>{finding}</think><answer>{mos:.2f}</answer>"


def plain(rng: np.random.Generator) -> str:
    """What is looked at, where it is not known what is wrong."""
    return str(rng.choice(_PLAIN))


def findings(rng: np.random.Generator, distortions: Mapping[str, float], when: str = "") -> str:
    """A sentence that names distortions, the worst first; arguments as of `trace`."""
    worst_first = sorted(distortions, key=lambda kind: -distortions[kind])
    named = [f"{degree(distortions[kind])} {kind.replace('_', ' ')}" for kind in worst_first]
    if when:
        named[next((i for i, kind in enumerate(worst_first) if kind in TEMPORAL), 0)] += f" {when}"
    return f"{rng.choice(_OPENINGS)} {' and '.join(named)}."

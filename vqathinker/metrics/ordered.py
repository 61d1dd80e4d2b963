"""How near answers are to the right ones where options are steps of a scale: none, slight, strong, severe."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.metrics.open_answers import Mean, mean_over_clips
from vqathinker.rewards.severity import nearness


@dataclass(frozen=True)
class Ordered:
    """Mean nearness 1 - |d| / (L - 1) of answers that are d steps from the right one of L, in [0, 1] (as
    `rewards.Severity` pays), and what answers that see nothing reach.

    Attributes:
        severity: Of the answers; one that names no option has 0.
        constant: Of the best constant step, for each number of steps its own; it knows the right answers.
        random: Of guessing.
        no_video: Of the answers about a black clip; NaN if not asked.
    """

    severity: Mean
    constant: float
    random: float
    no_video: float


def summarize_ordered(
    chosen: Sequence[int | None],
    answers: Sequence[int],
    steps: Sequence[Sequence[int]],
    clips: Sequence[Hashable],
    no_video: Sequence[int | None] | None = None,
    seed: int = 0,
) -> Ordered:
    """Numbers of N questions with ordered options.

    Args:
        chosen: N indices of the options that the answers name, `None` where they name none.
        answers: N indices of the right options.
        steps: For each question the step of each option, 0 to L - 1, each once.
        clips: N names of what each is about.
        no_video: As `chosen`, of the answers about a black clip; `None` if not asked.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the lengths differ.
    """
    values = [_near(*question) for question in zip(chosen, answers, steps, strict=True)]
    guessed = [
        float(np.mean([nearness(i, right, own) for i in range(len(own))]))
        for right, own in zip(answers, steps, strict=True)
    ]
    blank = [_near(*question) for question in zip(no_video or (), answers, steps, strict=no_video is not None)]
    return Ordered(mean_over_clips(values, clips, seed), _constant(answers, steps), _mean(guessed), _mean(blank))


def _near(named: int | None, right: int, steps: Sequence[int]) -> float:
    return 0.0 if named is None else nearness(named, right, steps)


def _constant(answers: Sequence[int], steps: Sequence[Sequence[int]]) -> float:
    """Mean nearness of the best constant step; a scale of another length has its own."""
    right: dict[int, list[int]] = {}
    for answer, own in zip(answers, steps, strict=True):
        right.setdefault(len(own), []).append(own[answer])
    total = sum(
        max(sum(nearness(step, one, range(length)) for one in own) for step in range(length))
        for length, own in right.items()
    )
    return total / len(answers) if answers else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan

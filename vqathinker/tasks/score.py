"""How good is this clip? A number from 1 to 5."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from vqathinker.data import Sample, trace
from vqathinker.data.scales import LABEL_RANGE
from vqathinker.metrics.correlation import plcc, srcc
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.rewards import Rubric, parse_answer, preset
from vqathinker.tasks.task import Answer, Row, Said, Task

TAKEN = (
    *("answer", "options", "steps", "reference", "level", "words", "level_words", "level_mos"),
    *("answer_interval", "answer_box", "answer_count"),
)
"""Columns of other tasks' rows: label columns of these names would be paid for as their answers."""
logger = logging.getLogger(__name__)


class Score(Task):
    """The clip's quality as a number with two decimals (VQAThinker)."""

    name = "score"
    metrics = ("srcc", "plcc", "parse_rate")
    perturbs = True
    tells_stalls = True

    def messages(self, sample: Sample, processor: VQAThinkerProcessor) -> list[dict[str, Any]]:
        """A sample without a question of its own is asked the policy's."""
        return super().messages(replace(sample, question=sample.question or processor.question), processor)

    def columns(self, sample: Sample) -> dict[str, Any]:
        """MOS and label columns, but those whose names are other tasks'."""
        _warn_of(tuple(name for name in TAKEN if name in sample.target))
        return {name: value for name, value in sample.target.items() if name not in TAKEN}

    def rubric(self) -> Rubric:
        """The preset `"recommended"`."""
        return preset("recommended")

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """A templated trace that names the labelled distortions and ends in the MOS."""
        return trace(sample.target["mos"], rng, sample.distortions, sample.target.get("when") or "")

    def parse(self, completion: Said, row: Row) -> Answer:
        """The number in the first `<answer>` block (published test script), if it lies in 0-5: a slip like 34.2 must
        not sway a correlation."""
        answer = parse_answer(completion, which="first")
        low, high = LABEL_RANGE
        known = answer.score is not None and low <= answer.score <= high
        return Answer(answer.score if known else None, answer.status)

    def truth(self, row: Row) -> float:
        """The MOS."""
        return math.nan if row.get("mos") is None else float(row["mos"])

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """Correlations of the answers' numbers with MOS, and the share of answers that have one."""
        read = [
            (self.parse(a, row).value, self.truth(row)) for a, row in zip(answers, rows, strict=True) if a is not None
        ]
        known = [(value, mos) for value, mos in read if value is not None and not math.isnan(mos)]
        scores, labels = [value for value, _ in known], [mos for _, mos in known]
        parsed = sum(value is not None for value, _ in read)
        return {
            "srcc": srcc(scores, labels),
            "plcc": plcc(scores, labels),
            "parse_rate": parsed / len(read) if read else math.nan,
        }


@cache  # once, not for each row
def _warn_of(names: tuple[str, ...]) -> None:
    if names:
        logger.warning("label columns %s are left out of training and rewards: other tasks' rows use the names.", names)

"""A question that is answered in the policy's own words, and measured against a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.rewards import Format, KeyTerms, Rubric, key_term_f1
from vqathinker.rewards.terms import said_in
from vqathinker.tasks.choice import REASONS
from vqathinker.tasks.task import Answer, Row, Said, Task

ASKED_FOR = "Answer in one or two sentences."


class Open(Task):
    """An open question. What an answer is worth is the F1 of its key terms against the reference's."""

    name = "open"
    metrics = ("open_key_terms", "open_unanswered")
    num_clips = None

    def text(self, sample: Sample) -> str:
        """The question, and how long the answer is to be."""
        return f"{sample.question}\n{ASKED_FOR}"

    def columns(self, sample: Sample) -> dict[str, Any]:
        """The reference."""
        return {"reference": sample.target["reference"]}

    def rubric(self) -> Rubric:
        """Format, and the key terms."""
        return Rubric([Format(), KeyTerms()])

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """The reason that the question file gives (`reason`), and the reference."""
        reason = sample.target.get("reason") or str(rng.choice(REASONS))
        return f"<think>{reason}</think><answer>{sample.target['reference']}</answer>"

    def parse(self, completion: Said, row: Row) -> Answer:
        """F1 of the key terms in the last `<answer>` block; `"no_answer"` without a block that says something."""
        said = said_in(completion)
        return Answer(key_term_f1(said, row["reference"]), "ok") if said else Answer(None, "no_answer")

    def truth(self, row: Row) -> float:
        """The reference's own F1, 1."""
        return 1.0

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """Mean F1 of the key terms, 0 without an answer, and the share of answers that say nothing."""
        read = [(said_in(a), row["reference"]) for a, row in zip(answers, rows, strict=True) if a is not None]
        values = [value for said, right in read if (value := key_term_f1(said, right)) is not None]
        return {
            "open_key_terms": float(np.mean(values)) if values else math.nan,
            "open_unanswered": float(np.mean([not said for said, _ in read])) if read else math.nan,
        }

"""A question about a clip with options to choose from, yes/no among them. The answer names one, by text or letter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.messages import text_in, videos_in
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.rewards import Format, Rubric
from vqathinker.rewards.choice import Choice as ChoiceReward
from vqathinker.rewards.choice import choice_index, letter, parse_choice
from vqathinker.tasks.task import Answer, Row, Task

ASKED_FOR = "Answer with one option."
REASONS = ("I see it in the frames and in the motion.", "The clip shows it.", "I look at all frames and at the motion.")
"""What the warm start says where a question file gives no reason."""


class Choice(Task):
    """Multiple choice. In training the options change places from one generation batch to the next, and the letter of
    the right one with them: no letter is worth more than another."""

    name = "choice"
    metrics = ("choice_accuracy", "choice_unparsable")
    num_clips = None

    def text(self, sample: Sample) -> str:
        """The question, a line for each option, and what is to be answered."""
        options = (f"{letter(i)}. {option}" for i, option in enumerate(sample.target["options"]))
        return "\n".join([sample.question, *options, ASKED_FOR])

    def columns(self, sample: Sample) -> dict[str, Any]:
        """Question, options, the right option's letter, and each option's step on a scale where they have an order."""
        options = list(sample.target["options"])
        right = letter(choice_index(sample.target["answer"], options))
        steps = {"steps": list(sample.target["steps"])} if sample.target.get("steps") else {}
        return {"question": sample.question, "options": options, "answer": right, "system": sample.system} | steps

    def vary(self, row: Row, processor: VQAThinkerProcessor, rng: np.random.Generator) -> dict[str, Any]:
        """The same question with its options in another order. A prompt that lists them in a form of its own stays."""
        videos, options = tuple(videos_in(row["prompt"])), row["options"]
        shown = Sample(
            "", self.name, videos, row.get("question") or "", {"options": options}, {}, row.get("system") or ""
        )
        if text_in(row["prompt"]) != text_in(self.messages(shown, processor)):
            return dict(row)
        order = rng.permutation(len(options))
        right = choice_index(row["answer"], options)
        moved = [options[i] for i in order]
        asked = replace(shown, target={"options": moved})
        own = {"prompt": self.messages(asked, processor), "options": moved, "answer": letter(list(order).index(right))}
        if row.get("steps"):
            own["steps"] = [row["steps"][i] for i in order]
        return dict(row) | own

    def rubric(self) -> Rubric:
        """Format, and 1 for the right option."""
        return Rubric([Format(), ChoiceReward()])

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """The reason that the question file gives (`reason`), and the right option's text, which says more than its
        letter and is learnt sooner."""
        options = sample.target["options"]
        reason = sample.target.get("reason") or str(rng.choice(REASONS))
        return f"<think>{reason}</think><answer>{options[choice_index(sample.target['answer'], options)]}</answer>"

    def parse(self, completion: Any, row: Row) -> Answer:
        """The index of the option in the last `<answer>` block."""
        found = parse_choice(completion, row["options"])
        return Answer(found.index, found.status)

    def truth(self, row: Row) -> float:
        """The index of the right option."""
        return choice_index(row["answer"], row["options"])

    def measure(self, answers: Sequence[Any], rows: Sequence[Row]) -> dict[str, float]:
        """Share of right answers, those that name no option counting as wrong, and the share of the latter."""
        read = [
            (self.parse(a, row).value, self.truth(row)) for a, row in zip(answers, rows, strict=True) if a is not None
        ]
        if not read:
            return dict.fromkeys(self.metrics, math.nan)
        right, unparsable = (value == truth for value, truth in read), (value is None for value, _ in read)
        return {"choice_accuracy": sum(right) / len(read), "choice_unparsable": sum(unparsable) / len(read)}

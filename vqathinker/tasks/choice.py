"""A question about a clip with options to choose from, yes/no among them. The answer names one, by text or letter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.messages import text_in, videos_in
from vqathinker.metrics.choices import rotations
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.rewards import Format, Rubric
from vqathinker.rewards.choice import Choice as ChoiceReward
from vqathinker.rewards.choice import choice_index, letter, parse_choice
from vqathinker.rewards.severity import nearness
from vqathinker.tasks.task import Answer, Row, Task

ASKED_FOR = "Answer with one option."
REASONS = ("I see it in the frames and in the motion.", "The clip shows it.", "I look at all frames and at the motion.")
"""What the warm start says where a question file gives no reason."""


class Choice(Task):
    """Multiple choice. In training the options change places from one generation batch to the next, and the letter of
    the right one with them: no letter is worth more than another."""

    name = "choice"
    metrics = ("choice_accuracy", "choice_unparsable", "choice_consistency", "choice_severity")
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
        """What answers are worth, as `Task.measure`.

        Returns:
            `choice_accuracy`: share of right answers, those that name no option counting as wrong. `choice_unparsable`:
            share of the latter. `choice_consistency`: of the questions that were asked with their options in several
            orders (`rotated`), the share to which one option is named in all of them. `choice_severity`: where options
            are steps of a scale, how near the named one is, see `rewards.Severity`.
        """
        said = [(self.parse(a, row).value, row) for a, row in zip(answers, rows, strict=True) if a is not None]
        return {
            "choice_accuracy": _mean([value == self.truth(row) for value, row in said]),
            "choice_unparsable": _mean([value is None for value, _ in said]),
            "choice_consistency": _consistency([(None if value is None else int(value), row) for value, row in said]),
            "choice_severity": _mean([self._near(value, row) for value, row in said if row.get("steps")]),
        }

    def _near(self, value: float | None, row: Row) -> float:
        return 0.0 if value is None else nearness(int(value), int(self.truth(row)), row["steps"])


def rotated(samples: Sequence[Sample]) -> list[Sample]:
    """Each question with options in every rotation of them, right behind itself; other samples as they are."""
    found = []
    for sample in samples:
        found.append(sample)
        if sample.task != Choice.name:
            continue
        options = list(sample.target["options"])
        right = options[choice_index(sample.target["answer"], options)]
        for turn, moved in enumerate(rotations(options)[1:], start=1):
            target = dict(sample.target) | {"options": tuple(moved), "answer": letter(moved.index(right))}
            if sample.target.get("steps"):
                target["steps"] = tuple(rotations(sample.target["steps"])[turn])
            found.append(replace(sample, id=f"{sample.id} (options from {letter(turn)})", target=target))
    return found


def _consistency(said: Sequence[tuple[int | None, Row]]) -> float:
    """Share of questions, asked with their options in two orders or more, to which one option is named in all."""
    asked: dict[Any, dict[tuple[str, ...], str | None]] = {}
    for index, row in said:
        options = tuple(row["options"])
        clips = tuple(videos_in(row["prompt"])) if row.get("prompt") else ()
        key = (clips, row.get("question"), frozenset(options))
        asked.setdefault(key, {})[options] = None if index is None else options[index]
    several = [set(named.values()) for named in asked.values() if len(named) > 1]
    return _mean([len(named) == 1 and None not in named for named in several])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan

"""When and where is something in a clip, and how often? An interval in seconds, a box in percent, a whole number."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vqathinker.data import Sample
from vqathinker.rewards import Count as CountReward
from vqathinker.rewards import Format, Reward, Rubric, box_iou, interval_iou, parse_box, parse_count, parse_interval
from vqathinker.rewards import When as WhenReward
from vqathinker.rewards import Where as WhereReward
from vqathinker.rewards.answer_places import ParsedValues
from vqathinker.tasks.choice import REASONS
from vqathinker.tasks.task import Answer, Row, Said, Task

HIT = 0.5
"""An interval or box whose IoU is above counts as found (as in detection, PASCAL VOC)."""


class Placed(Task):
    """An answer in numbers, which a column of the row has too."""

    num_clips = 1
    asked_for: ClassVar[str]
    """Behind the question: the answer's form."""
    column: ClassVar[str]

    @abstractmethod
    def reward(self) -> Reward:
        """What pays for its answers."""

    @abstractmethod
    def read(self, completion: Said) -> ParsedValues:
        """The numbers in the last `<answer>` block."""

    @abstractmethod
    def written(self, right: Any) -> str:
        """A right answer as text."""

    def text(self, sample: Sample) -> str:
        """The question, and the answer's form."""
        return f"{sample.question} {self.asked_for}"

    def columns(self, sample: Sample) -> dict[str, Any]:
        """Question and right answer; nothing that is known of the clip, which would be paid for."""
        return {"question": sample.question, self.column: sample.target[self.column]}

    def rubric(self) -> Rubric:
        """Format, and how near the answer is to the right one."""
        return Rubric([Format(), self.reward()])

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """The reason that the question file gives (`reason`), and the right answer."""
        reason = sample.target.get("reason") or str(rng.choice(REASONS))
        return f"<think>{reason}</think><answer>{self.written(sample.target[self.column])}</answer>"

    def _found(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> list[tuple[tuple[float, ...], Any]]:
        """What each answer about a readable clip says, `()` if nothing that counts, and the right answer."""
        pairs = zip(answers, rows, strict=True)
        return [(self.read(said).values, row[self.column]) for said, row in pairs if said is not None]


class _Overlap(Placed):
    """Its value is the IoU with the right answer."""

    @abstractmethod
    def iou(self, found: Sequence[float], right: Sequence[float]) -> float:
        """Of what an answer names and the right answer."""

    def parse(self, completion: Said, row: Row) -> Answer:
        """The IoU of what the last `<answer>` block names with the right answer."""
        found = self.read(completion)
        return Answer(self.iou(found.values, row[self.column]) if found.values else None, found.status)

    def truth(self, row: Row) -> float:
        """1, the IoU of the right answer."""
        return 1.0

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """Mean IoU and the share of IoU above 0.5, answers without a value counting as 0, and the share of these."""
        found = self._found(answers, rows)
        ious = [self.iou(values, right) if values else 0.0 for values, right in found]
        numbers = (_mean(ious), _mean([iou > HIT for iou in ious]), _mean([not values for values, _ in found]))
        return dict(zip(self.metrics, numbers, strict=True))


class When(_Overlap):
    """When is it? Start and end in seconds. The prompt does not tell how long a clip is: the question should."""

    name = "when"
    metrics = ("when_iou", "when_hit", "when_unparsable")
    asked_for = "Answer with start and end in seconds, as 1.2-2.4."
    column = "answer_interval"

    def reward(self) -> Reward:
        """`rewards.When`."""
        return WhenReward()

    def read(self, completion: Said) -> ParsedValues:
        """See `rewards.parse_interval`."""
        return parse_interval(completion)

    def iou(self, found: Sequence[float], right: Sequence[float]) -> float:
        """See `rewards.interval_iou`."""
        return interval_iou(found, right)

    def written(self, right: Sequence[float]) -> str:
        """`1.2-2.4`."""
        return "-".join(f"{edge:g}" for edge in right)


class Where(_Overlap):
    """Where is it? A box in percent of width and height."""

    name = "where"
    metrics = ("where_iou", "where_hit", "where_unparsable")
    asked_for = "Answer with left, top, right and bottom in percent of width and height, as 10, 20, 60, 80."
    column = "answer_box"

    def reward(self) -> Reward:
        """`rewards.Where`."""
        return WhereReward()

    def read(self, completion: Said) -> ParsedValues:
        """See `rewards.parse_box`."""
        return parse_box(completion)

    def iou(self, found: Sequence[float], right: Sequence[float]) -> float:
        """See `rewards.box_iou`."""
        return box_iou(found, right)

    def written(self, right: Sequence[float]) -> str:
        """`10, 20, 60, 80`."""
        return ", ".join(f"{edge:g}" for edge in right)


class Count(Placed):
    """How often is it? A whole number."""

    name = "count"
    metrics = ("count_accuracy", "count_error", "count_unparsable")
    asked_for = "Answer with a whole number."
    column = "answer_count"

    def reward(self) -> Reward:
        """`rewards.Count`."""
        return CountReward()

    def read(self, completion: Said) -> ParsedValues:
        """See `rewards.parse_count`."""
        return parse_count(completion)

    def written(self, right: int) -> str:
        """`3`."""
        return str(right)

    def parse(self, completion: Said, row: Row) -> Answer:
        """The whole number in the last `<answer>` block."""
        found = self.read(completion)
        return Answer(found.values[0] if found.values else None, found.status)

    def truth(self, row: Row) -> float:
        """The right number."""
        return float(row[self.column])

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """Share of right numbers, answers without one counting as wrong; the mean error |n - m| of those with one; the
        share of those without."""
        found = self._found(answers, rows)
        right = [bool(values) and values[0] == truth for values, truth in found]
        errors = [abs(values[0] - truth) for values, truth in found if values]
        return dict(zip(self.metrics, (_mean(right), _mean(errors), _mean([not v for v, _ in found])), strict=True))


PLACED: dict[str, Placed] = {task.name: task for task in (When(), Where(), Count())}
"""Name -> task whose answers are numbers."""


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan

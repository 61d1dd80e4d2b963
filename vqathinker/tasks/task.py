"""What a task is: what is asked about a clip, how the answer is read, rewarded and measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vqathinker.data import Sample
from vqathinker.messages import user_prompt
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.policy.prompts import instructed
from vqathinker.rewards import Rubric
from vqathinker.rewards.parsing import answer_block
from vqathinker.wording import counted

Row = Mapping[str, Any]
"""A row of a data set: `prompt`, `task`, `sample_id`, and what `Task.columns` says."""

Said = str | Sequence[dict[str, Any]]
"""A completion: text or messages."""


@dataclass(frozen=True)
class Answer:
    """What an answer says.

    Attributes:
        value: A number (a score, or the index of an option); `None` if it says nothing that counts.
        status: `"ok"`, or why there is no value.
    """

    value: float | None
    status: str


class Task(ABC):
    """A kind of question. Subclass it, and put an instance into `TASKS`; trainer, warm start, validation, evaluation
    and commands know tasks by these methods only.

    Attributes:
        name: Its key in `TASKS`, and what a sample's `task` says.
        metrics: What `measure` returns, so that validation can go by it (`metric_for_best_model`). They are logged
            beside those of other tasks: give them names of their own.
        num_clips: Clips that each of its prompts shows; `None` for any number.
        perturbs: Whether perturbed copies of its clips are asked about too (`rewards.Temporal`, `rewards.Contrast`);
            only where a prompt shows one clip.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = ()
    num_clips: ClassVar[int | None] = 1
    perturbs: ClassVar[bool] = False

    def text(self, sample: Sample) -> str:
        """What is asked, without the instruction on the answer's format."""
        return sample.question

    def messages(self, sample: Sample, processor: VQAThinkerProcessor) -> list[dict[str, Any]]:
        """The sample's conversational prompt, to the letter.

        Raises:
            ValueError: If the sample has another number of clips than `num_clips`.
        """
        if self.num_clips not in (None, len(sample.clips)):
            raise ValueError(
                f"sample {sample.id!r} has {counted(len(sample.clips), 'clip')}, {list(sample.clips)}: task "
                f"{self.name!r} is about {self.num_clips}."
            )
        return user_prompt(sample.clips, instructed(self.text(sample), processor.prompt_style), sample.system)

    def columns(self, sample: Sample) -> dict[str, Any]:
        """What a data set's row holds of the sample beside its prompt: what rewards and metrics are told."""
        return dict(sample.target)

    def vary(self, row: Row, processor: VQAThinkerProcessor, rng: np.random.Generator) -> dict[str, Any]:
        """The row as it is asked in one generation batch: the same question in another form, or as it is."""
        return dict(row)

    @abstractmethod
    def rubric(self) -> Rubric:
        """How answers are rewarded by default."""

    @abstractmethod
    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """A whole right answer, `<think>...</think><answer>...</answer>`, which earns the full reward; the warm start
        learns it."""

    def decision(self, text: str) -> tuple[int, int]:
        """Where in a gold answer that stands which decides (a number, an option, a word): its first character and the
        one behind its last. The content of the last `<answer>` block; of a text without one, all of it."""
        return answer_block(text, "last") or (0, len(text))

    @abstractmethod
    def parse(self, completion: Said, row: Row) -> Answer:
        """What a completion (text or messages) says in answer to a row."""

    @abstractmethod
    def truth(self, row: Row) -> float:
        """The right value; NaN if it is not known."""

    @abstractmethod
    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """What answers are worth.

        Args:
            answers: R completions; `None` where the clip could not be read.
            rows: Their rows.

        Returns:
            `metrics` by name; NaN where undefined.
        """

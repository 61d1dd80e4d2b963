"""How good is this clip? One of five words, as VQA²'s scorers answer: "The quality of the video is good."."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.data.traces import findings, plain
from vqathinker.metrics.correlation import srcc
from vqathinker.rewards import Format, Rubric, level_of, level_words, parse_level
from vqathinker.rewards.level import Level as LevelReward
from vqathinker.tasks.task import Answer, Row, Said, Task

QUESTION = "How would you rate the quality of this video?"
"""VQA²'s (and Q-Align's)."""
STEM = "The quality of the video is"
"""What the word goes on from, as published."""


class Level(Task):
    """The clip's quality as one of five words. A sample's target has `mos`, in score units from 1 to 5, or the right
    word itself, `level`, or both (then the word counts); and `words`, a name of `rewards.LEVEL_WORDS`, default "itu".

    An answer's value is the word's level, 5 (best) to 1: the score that the read-out `levels` gives the word.
    """

    name = "level"
    metrics = ("level_accuracy", "level_srcc", "level_unparsable")
    tells_stalls = True

    def text(self, sample: Sample) -> str:
        """The question, by default VQA²'s, and the sentence to be completed with the words to choose from."""
        *others, last = words_of(sample)
        return f'{sample.question or QUESTION} Complete "{STEM} ..." with one word: {", ".join(others)} or {last}.'

    def columns(self, sample: Sample) -> dict[str, Any]:
        """The right level, the words, and the MOS under a name of its own: no reward for numbers is paid."""
        return {"level": level_in(sample), "level_words": list(words_of(sample)), "level_mos": sample.target.get("mos")}

    def rubric(self) -> Rubric:
        """Format, and how near the word is."""
        return Rubric([Format(), LevelReward()])

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """The reason that a file gives (`reason`), else the labelled distortions, and the sentence with the word.

        Raises:
            ValueError: If there is neither a word nor a MOS from 1 to 5.
        """
        known = sample.distortions
        found = findings(rng, known, sample.target.get("when") or "") if known else plain(rng)
        word = word_of(level_in(sample), words_of(sample))
        return f"<think>{sample.target.get('reason') or found}</think><answer>{STEM} {word}.</answer>"

    def decision(self, text: str) -> tuple[int, int]:
        """The word alone, which ends the sentence."""
        start, end = super().decision(text)
        word = re.search(r"(\w+)\W*$", text[start:end])
        return (start, end) if word is None else (start + word.start(1), start + word.end(1))

    def parse(self, completion: Said, row: Row) -> Answer:
        """The level of the one word in the last `<answer>` block, see `rewards.parse_level`."""
        found = parse_level(completion, row["level_words"])
        return Answer(found.level, found.status)

    def truth(self, row: Row) -> float:
        """The right level."""
        return row["level"]

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """What answers are worth, as `Task.measure`.

        Returns:
            `level_accuracy`: share of right words, answers that name none counting as wrong. `level_srcc`: SRCC of the
            named levels with MOS, or with the right levels where a row has no MOS. `level_unparsable`: share of answers
            that do not name one level.
        """
        read = [(self.parse(a, row).value, row) for a, row in zip(answers, rows, strict=True) if a is not None]
        if not read:
            return dict.fromkeys(self.metrics, math.nan)
        named = [(value, row) for value, row in read if value is not None]
        return {
            "level_accuracy": sum(value == row["level"] for value, row in named) / len(read),
            "level_srcc": srcc([value for value, _ in named], [label_of(row) for _, row in named]),
            "level_unparsable": 1 - len(named) / len(read),
        }


def label_of(row: Row) -> float:
    """What a row's level is correlated with: its MOS, or without one the right level."""
    return row["level"] if row.get("level_mos") is None else row["level_mos"]


def words_of(sample: Sample) -> tuple[str, ...]:
    """The five words that a sample is asked with, best first."""
    return level_words(sample.target.get("words") or "itu")


def level_in(sample: Sample) -> int:
    """The right level of a sample, 5 (best) to 1.

    Raises:
        ValueError: If its word is none of its words, it has neither word nor MOS, or a MOS outside 1 to 5.
    """
    word, words, mos = sample.target.get("level"), words_of(sample), sample.target.get("mos")
    if word is None and mos is None:
        raise ValueError(f"sample {sample.id!r} has neither 'level' nor 'mos': give the right word, or a MOS.")
    if word is None:
        try:
            return level_of(mos)  # type: ignore[arg-type]  # it is not `None`
        except ValueError as error:
            raise ValueError(f"sample {sample.id!r}: {error}") from None
    if word not in words:
        raise ValueError(f"sample {sample.id!r}: level {word!r} must be one of its words, {list(words)}.")
    return len(words) - words.index(word)


def word_of(level: int, words: Sequence[str]) -> str:
    """The word of a level, 5 (best) to 1; words best first."""
    return words[len(words) - level]

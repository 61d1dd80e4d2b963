"""A policy on open questions: F1 of key terms against a reference, what blind answers reach, and a judge's verdicts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vqathinker.data import Sample
from vqathinker.data.sample import named_clips
from vqathinker.evaluation.judge import Verdicts
from vqathinker.evaluation.questions import answers_without_video, greedy_answers
from vqathinker.metrics.open_answers import Mean, blind_f1, mean_over_clips
from vqathinker.rewards import key_term_f1
from vqathinker.scoring import QualityAnswer, QualityScorer


@dataclass(frozen=True)
class OpenAnswer:
    """One open question and what was answered.

    Attributes:
        id: The sample's.
        video: Path of its clip; of several "a.mp4 + b.mp4".
        tags: Its tags but "type", as "concern: Technical".
        question: As asked.
        reference: The right answer.
        said: What stands in the answer's `<answer>` block; "" without one.
        status: `"ok"`, or `"no_answer"`.
        answer: The whole greedy answer.
        f1: Of the key terms, see `rewards.key_term_f1`; NaN if the reference has none.
        no_video: The same of the answer without the clip; `None` if this was not asked.
        verdicts: Of a judge; `None` if it was not asked.
    """

    id: str
    video: str
    tags: tuple[str, ...]
    question: str
    reference: str
    said: str
    status: str
    answer: str
    f1: float
    no_video: float | None = None
    verdicts: Verdicts | None = None

    @property
    def judged(self) -> float:
        """The mean verdict over 2, in [0, 1]; NaN without a valid one."""
        return math.nan if self.verdicts is None else self.verdicts.score


@dataclass(frozen=True)
class OpenSummary:
    """Numbers of some open questions. NaN where undefined.

    Attributes:
        f1: Mean F1 of key terms in [0, 1]; an answer that says nothing has 0.
        constant: F1 of the best constant answer among the references.
        random: F1 of another question's reference, see `metrics.open_answers.blind_f1`.
        no_video: F1 of the same policy's answers to the same prompts about a black clip; NaN if not asked.
        judged: Mean verdict over 2 of the questions with a valid one, in [0, 1].
    """

    f1: Mean
    constant: float
    random: float
    no_video: float
    judged: Mean


@dataclass(frozen=True)
class OpenReport:
    """How well open questions are answered.

    Attributes:
        questions: Those about readable clips, in order.
        unreadable: Id of each question that was left out -> why its clip cannot be read.
        unanswered: Share of answers that say nothing.
        summaries: "" for all questions, and each tag -> its numbers.
    """

    questions: tuple[OpenAnswer, ...]
    unreadable: dict[str, str]
    unanswered: float
    summaries: dict[str, OpenSummary]

    @property
    def is_judged(self) -> bool:
        """Whether a judge was asked."""
        return any(question.verdicts is not None for question in self.questions)


def evaluate_open(
    scorer: QualityScorer, samples: Sequence[Sample], blank: bool = True, seed: int = 0, progress: bool = False
) -> OpenReport:
    """Ask a policy open questions, one greedy answer each; under `accelerate launch` the processes share the work, and
    all of them must call this.

    Args:
        scorer: Asks.
        samples: Of the task "open", see `read_questions`; ids differ.
        blank: Ask without the video too, about a black clip.
        seed: Of the bootstrap.
        progress: Show a progress bar.

    Returns:
        The same on every process.

    Raises:
        ValueError: If there are no samples, one has no reference, or two have one id.
    """
    _check(samples)
    order = {clips: number for number, clips in enumerate(dict.fromkeys(sample.clips for sample in samples))}
    asked = sorted(samples, key=lambda sample: order[sample.clips])
    answers = dict(zip((s.id for s in asked), greedy_answers(scorer, asked, "answering", progress), strict=True))
    readable = [sample for sample in samples if answers[sample.id].status != "unreadable"]
    without = answers_without_video(scorer, readable, progress) if blank else [None] * len(readable)
    questions = [_answered(sample, answers[sample.id], own) for sample, own in zip(readable, without, strict=True)]
    unreadable = {s.id: answers[s.id].error for s in samples if answers[s.id].status == "unreadable"}
    return summarize_open(questions, unreadable, seed)


def summarize_open(questions: Sequence[OpenAnswer], unreadable: Mapping[str, str], seed: int = 0) -> OpenReport:
    """The numbers of answered questions.

    Args:
        questions: About readable clips.
        unreadable: See `OpenReport`.
        seed: Of the bootstrap.
    """
    groups: dict[str, list[OpenAnswer]] = {"": list(questions)}
    for question in questions:
        for tag in question.tags:
            groups.setdefault(tag, []).append(question)
    silent = [question.status != "ok" for question in questions]
    return OpenReport(
        tuple(questions),
        dict(unreadable),
        sum(silent) / len(silent) if silent else math.nan,
        {name: _summary(own, seed) for name, own in groups.items()},
    )


def with_verdicts(report: OpenReport, verdicts: Sequence[Verdicts | None], seed: int = 0) -> OpenReport:
    """The same with what a judge said of each question, in their order."""
    judged = [replace(question, verdicts=own) for question, own in zip(report.questions, verdicts, strict=True)]
    return summarize_open(judged, report.unreadable, seed)


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise ValueError("samples is empty: there is nothing to ask.")
    for sample in samples:
        if sample.task != "open" or not sample.target.get("reference"):
            raise ValueError(
                f"sample {sample.id!r:.120} has the task {sample.task!r} and the target {list(sample.target)}: open "
                "questions need the task 'open' and a 'reference'. Leave it out."
            )
    [(name, count)] = Counter(sample.id for sample in samples).most_common(1)
    if count > 1:
        raise ValueError(f"{count} samples have the id {name!r:.120}: give each question its own id.")


def _answered(sample: Sample, answer: QualityAnswer, without: QualityAnswer | None) -> OpenAnswer:
    reference = sample.target["reference"]
    return OpenAnswer(
        id=sample.id,
        video=named_clips(sample.clips),
        tags=tuple(f"{key}: {value}" for key, value in sample.tags.items() if key != "type"),
        question=sample.question,
        reference=reference,
        said=answer.answer,
        status=answer.status,
        answer=answer.answers[0],
        f1=_f1(answer.answer, reference),
        no_video=None if without is None else _f1(without.answer, reference),
    )


def _f1(said: str, reference: str) -> float:
    value = key_term_f1(said, reference)
    return math.nan if value is None else value


def _summary(questions: Sequence[OpenAnswer], seed: int) -> OpenSummary:
    clips = [question.video for question in questions]
    constant, other = blind_f1([question.reference for question in questions])
    blind = [math.nan if question.no_video is None else question.no_video for question in questions]
    return OpenSummary(
        f1=mean_over_clips([question.f1 for question in questions], clips, seed),
        constant=constant,
        random=other,
        no_video=mean_over_clips(blind, clips, seed).value,
        judged=mean_over_clips([question.judged for question in questions], clips, seed),
    )

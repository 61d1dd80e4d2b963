"""A policy on questions with options: accuracy, and what constant answers, guessing and no video reach beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from accelerate.utils import gather_object
from tqdm.auto import tqdm

from vqathinker.data import Sample
from vqathinker.data.sample import named_clips
from vqathinker.metrics.choices import (
    ChoiceSummary,
    rotation_consistency,
    rotations,
    share_interval,
    summarize_choices,
)
from vqathinker.metrics.ordered import Ordered, summarize_ordered
from vqathinker.metrics.paired import PairedDifference, paired_difference
from vqathinker.policy import ClipInput
from vqathinker.rewards.answer_choice import folded
from vqathinker.rewards.choice import choice_index
from vqathinker.scoring import QualityAnswer, QualityScorer
from vqathinker.scoring.asking import ask_samples
from vqathinker.scoring.duration import Estimate
from vqathinker.scoring.scorer import process_state
from vqathinker.wording import counted

MAX_ROTATED = 6
"""Questions with more options are not asked in other orders: each order is one more answer."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """One question and what was answered.

    Attributes:
        id: The sample's.
        video: Path of its clip; of several "a.mp4 + b.mp4".
        type: Its tag "type"; without one "yesno" or "choice", by its options.
        tags: Its other tags, as "concern: Technical".
        question: As asked, without the options.
        options: In the order of their letters.
        right: Index of the right option.
        chosen: Index of the option that the greedy answer names; `None` if it names none.
        status: `"ok"`, or why it names none, see `rewards.ParsedChoice`.
        answer: The whole greedy answer.
        no_video: Index of the option that is named without the clip; `None` if none is, or this was not asked.
        rotated: For each rotation of the options (`metrics.choices.rotations`) the index in it that is named; empty if
            these were not asked.
        steps: For each option its step on the scale; empty where they have no order.
    """

    id: str
    video: str
    type: str
    tags: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    right: int
    chosen: int | None
    status: str
    answer: str
    no_video: int | None = None
    rotated: tuple[int | None, ...] = ()
    steps: tuple[int, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen."""
        return self.chosen == self.right


@dataclass(frozen=True)
class QuestionReport:
    """How well questions with options are answered. NaN where undefined.

    Attributes:
        questions: Those about readable clips, in order, with their answers.
        unreadable: Id of each question that was left out -> why its clip cannot be read.
        summary: Accuracy, majority and random, over all, by type and by tag; unparsable, yes/no. Its intervals take
            questions as independent.
        intervals: Ends of the 95 % intervals of `summary.accuracy.value` (under "") and of each type's: Wilson's, or,
            where clips have several questions, also the bootstrap's that draws whole clips, whichever reaches further.
        tag_intervals: Tag -> the same.
        no_video: The same policy's answers to the same prompts about a black clip; `None` if not asked.
        consistency: Share of questions to which one option is given in every rotation of the options, in [0, 1].
        consistency_by_type: Type -> the same, of types with such questions.
        num_rotated: Of how many questions: those with up to `MAX_ROTATED` options.
        ordered: How near the answers are where options are steps of a scale: type -> numbers, and "" for all of them;
            empty without such questions.
    """

    questions: tuple[AnsweredQuestion, ...]
    unreadable: dict[str, str]
    summary: ChoiceSummary
    intervals: dict[str, tuple[float, float]]
    tag_intervals: dict[str, tuple[float, float]]
    no_video: ChoiceSummary | None
    consistency: float
    consistency_by_type: dict[str, float]
    num_rotated: int
    ordered: dict[str, Ordered]

    @property
    def right(self) -> dict[str, bool]:
        """Id -> whether the question was answered rightly."""
        return {question.id: question.is_right for question in self.questions}


def evaluate_questions(
    scorer: QualityScorer,
    samples: Sequence[Sample],
    blank: bool = True,
    rotate: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> QuestionReport:
    """Ask a policy questions whose answers are known, one greedy answer each; under `accelerate launch` the processes
    share the work, and all of them must call this.

    Args:
        scorer: Asks; `QualityScorer(policy, processor)` will do. How many answers it samples for a score does not
            matter.
        samples: Of the task "choice" with `options` and `answer`, see `read_questions`; ids differ.
        blank: Ask without the video too: the same prompts, each once, about a black clip.
        rotate: Ask in every rotation of the options too, where there are at most `MAX_ROTATED`.
        seed: Of the bootstrap.
        progress: Show a progress bar.

    Returns:
        The same on every process. Questions about an unreadable clip are counted and left out.

    Raises:
        ValueError: If there are no samples, one is of another task, its answer is none of its options, or two have one
            id.
    """
    _check(samples)
    asked = _asked(samples, rotate)
    answers = iter(greedy_answers(scorer, [sample for _, sample in asked], "answering", progress))
    found: dict[int, list[QualityAnswer]] = {}
    for place, _ in asked:
        found.setdefault(place, []).append(next(answers))
    readable = [i for i in range(len(samples)) if found[i][0].status != "unreadable"]
    blanks = [_with_options(samples[i], samples[i].target["options"]) for i in readable]
    without = answers_without_video(scorer, blanks, progress) if blank else [None] * len(readable)
    questions = [_answered(samples[i], found[i], own) for i, own in zip(readable, without, strict=True)]
    unreadable = {samples[i].id: found[i][0].error for i in range(len(samples)) if i not in set(readable)}
    return summarize_questions(questions, unreadable, blank, seed)


def summarize_questions(
    questions: Sequence[AnsweredQuestion], unreadable: Mapping[str, str], blank: bool = True, seed: int = 0
) -> QuestionReport:
    """The numbers of answered questions.

    Args:
        questions: About readable clips.
        unreadable: See `QuestionReport`.
        blank: Whether they were asked without the video too.
        seed: Of the bootstrap.
    """
    rotated = [question for question in questions if question.rotated]
    types = dict.fromkeys(question.type for question in rotated)
    scales: dict[str, list[AnsweredQuestion]] = {}
    for question in questions:
        for name in (question.type, "") if question.steps else ():
            scales.setdefault(name, []).append(question)
    groups: dict[str, list[AnsweredQuestion]] = {"": list(questions)}
    tagged: dict[str, list[AnsweredQuestion]] = {}
    for question in questions:
        groups.setdefault(question.type, []).append(question)
        for tag in dict.fromkeys(question.tags):
            tagged.setdefault(tag, []).append(question)
    return QuestionReport(
        questions=tuple(questions),
        unreadable=dict(unreadable),
        summary=_summary(questions, [question.chosen for question in questions]),
        intervals={name: _interval(own, seed) for name, own in groups.items()},
        tag_intervals={name: _interval(own, seed) for name, own in tagged.items()},
        no_video=_summary(questions, [question.no_video for question in questions]) if blank else None,
        consistency=rotation_consistency([question.rotated for question in rotated]),
        consistency_by_type={
            name: rotation_consistency([question.rotated for question in rotated if question.type == name])
            for name in types
        },
        num_rotated=len(rotated),
        ordered={name: _ordered(own, blank, seed) for name, own in scales.items()},
    )


def compare_questions(before: QuestionReport, after: QuestionReport, seed: int = 0) -> PairedDifference:
    """What changed from one policy to another on the same questions; the interval draws whole clips.

    Raises:
        ValueError: If they were not asked the same questions.
    """
    first, second = before.right, after.right
    if other := sorted(first.keys() ^ second.keys()):
        raise ValueError(
            f"{counted(len(other), 'question is', 'questions are')} answered in one report only (first: {other[0]!r}): "
            "compare two policies on the same questions and clips."
        )
    clips = [question.video for question in before.questions]
    return paired_difference(list(first.values()), [second[name] for name in first], seed, sources=clips)


# ---------------------------------------------------------------- asking


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise ValueError("samples is empty: there is nothing to ask.")
    for sample in samples:
        if sample.task != "choice" or "answer" not in sample.target:
            raise ValueError(
                f"sample {sample.id!r:.120} has the task {sample.task!r} and the target {list(sample.target)}: only "
                "questions with 'options' and 'answer' can be right or wrong. Leave it out."
            )
        choice_index(sample.target["answer"], sample.target["options"])
    [(name, count)] = Counter(sample.id for sample in samples).most_common(1)
    if count > 1:
        raise ValueError(f"{count} samples have the id {name!r:.120}: give each question its own id.")


def _asked(samples: Sequence[Sample], rotate: bool) -> list[tuple[int, Sample]]:
    """Place in `samples`, and the sample with its options rotated; clip by clip, and as it is first."""
    order = {name: number for number, name in enumerate(dict.fromkeys(sample.clips for sample in samples))}
    asked = []
    for place in sorted(range(len(samples)), key=lambda i: order[samples[i].clips]):
        sample = samples[place]
        options = list(sample.target["options"])
        orders = rotations(options) if rotate and len(options) <= MAX_ROTATED else [options]
        asked += [(place, _with_options(sample, own)) for own in orders]
    return asked


def _with_options(sample: Sample, options: Sequence[str]) -> Sample:
    """The same question with its options in this order, without its answer: nobody who asks needs it."""
    target = {key: value for key, value in sample.target.items() if key != "answer"}
    return replace(sample, target=target | {"options": tuple(options)})


def greedy_answers(
    scorer: QualityScorer,
    samples: Sequence[Sample],
    title: str,
    progress: bool,
    read: Callable[[str], ClipInput] | None = None,
) -> list[QualityAnswer]:
    """Greedy answers in order, on every process; each asks about its own part, one run of neighbours.

    Args:
        scorer: Asks.
        samples: Of any tasks.
        title: Of the progress bar.
        progress: Whether to show it.
        read: From a path to a clip; default the processor's.
    """
    state = process_state()
    first, end = (len(samples) * (state.process_index + i) // state.num_processes for i in (0, 1))
    own: list[QualityAnswer] = []
    shown = None if progress and state.is_main_process else True
    estimate = Estimate(end - first, "answers", title, silent=bool(shown))
    with tqdm(total=end - first, desc=title, unit="answer", disable=shown) as bar:
        for batch in ask_samples(scorer, samples[first:end], greedy=True, read=read):
            own += batch
            bar.update(len(batch))
            estimate.update(len(batch))
    return gather_object(own)


def answers_without_video(scorer: QualityScorer, samples: Sequence[Sample], progress: bool) -> list[QualityAnswer]:
    """Answers to the same prompts about a black clip. Equal prompts are asked once: without the clip they are one.

    Args:
        scorer: Asks.
        samples: Of any tasks.
        progress: Whether to show a progress bar.
    """
    prompts = [replace(sample, clips=("",) * len(sample.clips)) for sample in samples]
    keys = [(p.task, p.clips, p.question, p.target.get("options"), p.system) for p in prompts]
    different = dict(zip(keys, prompts, strict=True))
    blank = scorer.processor.blank_clip()
    answers = greedy_answers(scorer, list(different.values()), "answering without video", progress, lambda _: blank)
    known = dict(zip(different, answers, strict=True))
    return [known[key] for key in keys]


def _answered(sample: Sample, answers: Sequence[QualityAnswer], without: QualityAnswer | None) -> AnsweredQuestion:
    options = tuple(sample.target["options"])
    yes_no = sorted(map(folded, options)) == [("no",), ("yes",)]
    return AnsweredQuestion(
        id=sample.id,
        video=named_clips(sample.clips),
        type=sample.tags.get("type") or ("yesno" if yes_no else "choice"),
        tags=tuple(f"{key}: {value}" for key, value in sample.tags.items() if key != "type"),
        question=sample.question,
        options=options,
        right=choice_index(sample.target["answer"], options),
        chosen=answers[0].index,
        status=answers[0].status,
        answer=answers[0].answers[0],
        no_video=None if without is None else without.index,
        rotated=tuple(answer.index for answer in answers) if len(answers) > 1 else (),
        steps=tuple(sample.target.get("steps") or ()),
    )


# ---------------------------------------------------------------- numbers


def _summary(questions: Sequence[AnsweredQuestion], chosen: Sequence[int | None]) -> ChoiceSummary:
    return summarize_choices(
        chosen,
        [question.right for question in questions],
        [question.options for question in questions],
        [question.type for question in questions],
        [question.tags for question in questions],
    )


def _interval(questions: Sequence[AnsweredQuestion], seed: int) -> tuple[float, float]:
    """Of the accuracy."""
    return share_interval(
        [question.is_right for question in questions], [question.video for question in questions], seed
    )


def _ordered(questions: Sequence[AnsweredQuestion], blank: bool, seed: int) -> Ordered:
    return summarize_ordered(
        [question.chosen for question in questions],
        [question.right for question in questions],
        [question.steps for question in questions],
        [question.video for question in questions],
        [question.no_video for question in questions] if blank else None,
        seed,
    )

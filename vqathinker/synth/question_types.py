"""Types of synthetic questions: wordings, options, and which clips have which answer.

What is there to see: with the embedded default's settings (24 frames, six key frames, runs of four neighbouring frames
around them) the policy sees frames 0 to 22, as pictures or in motion. Whether frame 4, 8, 12 or 19 moved away from the
one before it is not seen, as the two lie in different runs. So of a freeze at least one repeat is seen, and of three
jumps in a third at least one. A clip with more frames per key frame hides more: a freeze may then lie between two runs.
A lossy encoder comes last: decoded frames of a freeze are equal but for a few grey levels here and there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vqathinker.synth.distortions import DISTORTIONS, FRAMEWISE, SPATIAL, TEMPORAL
from vqathinker.synth.question_clips import (
    HIDE_MOTION,
    MAX_FREEZES,
    STEPS,
    ClipPlan,
    alike,
    draw_freezes,
    draw_halves,
    draw_step,
    draw_visible,
    draw_when,
)

T = TypeVar("T")
NAMES = {
    "blur": "Blur",
    "rescale": "Low resolution",
    "overexposure": "Overexposure",
    "underexposure": "Underexposure",
    "noise": "Noise",
    "compression": "Compression artifacts",
    "stutter": "Freezing",
    "frame_drop": "Skipped frames",
}
"""Kinds as questions and options name them."""
NONE = "None of these"
DEGREES = ("Barely visible", "Slight", "Clear", "Strong", "Severe")
"""One per fifth of the severities."""
THIRDS = {
    "early": "At the beginning",
    "midway": "In the middle",
    "late": "At the end",
    "throughout": "From beginning to end",
}
WHERE = {"frames": "In single frames", "motion": "In the motion", "none": "Nowhere, there is no fault"}
HALVES = {"first": "The first half", "second": "The second half", "alike": "Both are alike"}
EVENTS = {"stutter": "freeze", "frame_drop": "skip frames"}


class Balance:
    """Takes what was taken least so far; chance decides between equals."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.taken: Counter[tuple] = Counter()

    def load(self, topic: tuple, choice: str, weight: float = 1) -> float:
        """How often a choice of a topic was taken, over its weight."""
        return self.taken[*topic, choice] / weight

    def ranked(self, choices: Iterable[T], load: Callable[[T], float | tuple[float, ...]]) -> list[T]:
        """The choices from the smallest load on; takes none."""
        choices = list(choices)
        return sorted((choices[i] for i in self.rng.permutation(len(choices))), key=load)

    def rarest(self, topic: tuple, weights: Mapping[str, int]) -> str:
        """The choice of a topic that was taken least for its weight; does not take it."""
        return self.ranked(weights, lambda choice: self.load(topic, choice, weights[choice]))[0]

    def least(self, topic: tuple, choices: Sequence[str], count: int = 1) -> list[str]:
        """Take the `count` choices of a topic that were taken least."""
        found = self.ranked(choices, lambda choice: self.load(topic, choice))[:count]
        self.taken.update((*topic, choice) for choice in found)
        return found


@dataclass(frozen=True)
class Asked:
    """A question before its options are lettered: the right option, the others, and what the wording is filled with."""

    right: str
    others: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(frozen=True)
class QuestionType:
    """One type of questions.

    Attributes:
        wordings: For all splits.
        held_out: For the split "test" alone.
        answers: What may be right -> its weight; the questions of a split are shared out among them by weight.
        draw: (answer, number of frames, balance) -> a clip that has this answer.
        of: (clip, number of frames, balance) -> answers that a question about it can have; none where it is not asked.
        ask: (answer, clip, balance) -> the question.
    """

    wordings: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: Mapping[str, int]
    draw: Callable[[str, int, Balance], ClipPlan]
    of: Callable[[ClipPlan, int, Balance], Sequence[str]]
    ask: Callable[[str, ClipPlan, Balance], Asked]


def _fixed(options: Mapping[str, str]) -> Callable[[str, ClipPlan, Balance], Asked]:
    """Asks with the same options whatever the clip."""

    def ask(answer: str, plan: ClipPlan, balance: Balance) -> Asked:
        others = tuple(text for name, text in options.items() if name != answer)
        names = {"fault": NAMES.get(plan.kind, "").lower(), "event": EVENTS.get(plan.kind, "")}
        return Asked(options[answer], others, names)

    return ask


def _any_kind(balance: Balance, topic: str, kinds: Sequence[str] = tuple(DISTORTIONS)) -> str:
    return balance.least(("kind", topic), kinds)[0]


def _draw_fault(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    if answer == "clean":
        return ClipPlan()
    kind = answer if answer in NAMES else _any_kind(balance, "unlisted")
    return draw_visible(kind, num_frames, balance.rng)


def _faults(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    if not plan.kind:
        return ["clean"]
    return [plan.kind, "unlisted"] if plan.visible else []


def _ask_fault(answer: str, plan: ClipPlan, balance: Balance) -> Asked:
    """Three kinds and "none of these". Kinds are listed equally often beside a right answer."""
    wrong = [kind for kind in NAMES if kind not in alike(plan.kind)]
    if answer in NAMES:
        listed = balance.least(("listed",), wrong, 2)
        return Asked(NAMES[answer], (*(NAMES[kind] for kind in listed), NONE), {})
    return Asked(NONE, tuple(NAMES[kind] for kind in balance.least(("listed",), wrong, 3)), {})


def _draw_strength(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    return draw_step(_any_kind(balance, answer, tuple(SPATIAL)), int(answer), balance.rng)


def _strengths(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    if plan.kind not in SPATIAL or plan.halves:
        return []
    return [str(min(int(plan.severity * STEPS), STEPS - 1))]


def _draw_where(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    if answer == "none":
        return ClipPlan()
    kinds = tuple(SPATIAL if answer == "frames" else TEMPORAL)
    return draw_visible(_any_kind(balance, answer, kinds), num_frames, balance.rng)


def _where(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    if not plan.kind:
        return ["none"]
    return ["motion" if plan.kind in TEMPORAL else "frames"] if plan.visible else []


def _draw_third(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    return draw_when(_any_kind(balance, answer, tuple(TEMPORAL)), answer, num_frames, balance.rng)


def _third(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    return [plan.when(num_frames)] if plan.events and plan.when(num_frames) else []


def _draw_half(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    if answer != "alike":
        return draw_halves(list(HALVES).index(answer), balance.rng)
    kind = _any_kind(balance, "alike", ("", *FRAMEWISE))
    return draw_visible(kind, num_frames, balance.rng) if kind else ClipPlan()


def _half(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    if plan.halves:
        return ["first" if plan.halves[0] > plan.halves[1] else "second"]
    return ["alike"] if not plan.kind or plan.kind in FRAMEWISE else []  # the encoder is less even


def _draw_count(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    if int(answer):
        return draw_freezes(int(answer), num_frames, balance.rng)
    kind = _any_kind(balance, "no freeze", ("", *(kind for kind in NAMES if kind not in ("stutter", *HIDE_MOTION))))
    return draw_visible(kind, num_frames, balance.rng) if kind else ClipPlan()


def _count(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    return [] if plan.kind in HIDE_MOTION else [str(plan.freezes)]


def _draw_presence(answer: str, num_frames: int, balance: Balance) -> ClipPlan:
    if answer == "no" and balance.least(("no",), ("clean", "other"))[0] == "clean":
        return ClipPlan()
    return draw_visible(balance.rarest(("present", "yes"), dict.fromkeys(NAMES, 1)), num_frames, balance.rng)


def _presence(plan: ClipPlan, num_frames: int, balance: Balance) -> Sequence[str]:
    """Yes as long as the kind was not found oftener than others: freezes are in a quarter of all clips."""
    if not plan.visible:
        return [] if plan.kind else ["no"]
    found = {kind: balance.load(("present", "yes"), kind) for kind in NAMES}
    return ["yes", "no"] if found[plan.kind] <= min(found.values()) + 1 else ["no"]


def _ask_presence(answer: str, plan: ClipPlan, balance: Balance) -> Asked:
    """Asks in vain for the kind that was found oftenest, so that each kind is there in half of its questions."""
    taken = balance.taken
    kind = plan.kind
    if answer == "no":
        absent = [kind for kind in NAMES if kind not in alike(plan.kind)]
        kind = balance.ranked(absent, lambda kind: taken["present", "no", kind] - taken["present", "yes", kind])[0]
    taken["present", answer, kind] += 1
    right, wrong = ("Yes", "No") if answer == "yes" else ("No", "Yes")
    return Asked(right, (wrong,), {"fault": NAMES[kind].lower()})


TYPES: dict[str, QuestionType] = {
    "which_fault": QuestionType(
        (
            "Which fault does this clip have?",
            "What is wrong with this clip?",
            "Which of these faults can be seen in the clip?",
            "Name the fault of this clip.",
        ),
        ("Which of these spoils the quality of the clip?", "What would a viewer of this clip complain about?"),
        # One option of four is "none of these", so it is right in one case of four.
        dict.fromkeys(DISTORTIONS, 3) | {"clean": 4, "unlisted": 4},
        _draw_fault,
        _faults,
        _ask_fault,
    ),
    "how_strong": QuestionType(
        (
            "How strong is the {fault} in this clip?",
            "How visible is the {fault}?",
            "To what degree does the clip show {fault}?",
            "Rate the strength of the {fault} in this clip.",
        ),
        ("How much {fault} is there?", "How bad is the {fault} of this clip?"),
        {str(step): 1 for step in range(STEPS)},
        _draw_strength,
        _strengths,
        _fixed({str(step): text for step, text in enumerate(DEGREES)}),
    ),
    "where_seen": QuestionType(
        (
            "Where does the fault of this clip show?",
            "Does the fault lie in single frames or in the motion?",
            "In what can a fault be seen?",
            "Where would one look for the fault of this clip?",
        ),
        ("Would a still picture or the motion show the fault?", "Is something wrong with the pictures or the motion?"),
        dict.fromkeys(WHERE, 1),
        _draw_where,
        _where,
        _fixed(WHERE),
    ),
    "which_third": QuestionType(
        (
            "When does this clip {event}?",
            "In which part does the clip {event}?",
            "At what time does the clip {event}?",
            "Where in the clip does it {event}?",
        ),
        ("During which part can the clip be seen to {event}?", "Say when it happens that the clip seems to {event}."),
        dict.fromkeys(THIRDS, 1),
        _draw_third,
        _third,
        _fixed(THIRDS),
    ),
    "worse_half": QuestionType(
        (
            "Which half of this clip is worse?",
            "Which half has the lower quality?",
            "Is the first or the second half of the clip worse?",
            "In which half is the quality lower?",
        ),
        ("Which half would you rather not watch?", "In which half does the clip look worse?"),
        dict.fromkeys(HALVES, 1),
        _draw_half,
        _half,
        _fixed(HALVES),
    ),
    "freezes": QuestionType(
        (
            "How many times does this clip freeze?",
            "How often does the picture stand still?",
            "Count the freezes in this clip.",
            "How many freezes does the clip have?",
        ),
        ("How many times does the motion stop and go on?", "What is the number of pauses in the playback?"),
        {str(count): 1 for count in range(MAX_FREEZES + 1)},
        _draw_count,
        _count,
        _fixed({str(count): str(count) for count in range(MAX_FREEZES + 1)}),
    ),
    "yesno": QuestionType(
        (
            "Is there {fault} in this clip?",
            "Does this clip have {fault}?",
            "Can {fault} be seen in this clip?",
            "Does the clip show {fault}?",
        ),
        ("Does {fault} spoil this clip?", "Would you say that this clip suffers from {fault}?"),
        {"yes": 1, "no": 1},
        _draw_presence,
        _presence,
        _ask_presence,
    ),
}
"""Name, the tag "type" of its questions -> type."""

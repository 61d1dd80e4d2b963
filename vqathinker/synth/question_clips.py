"""Clips for questions: what is done to each is drawn first, so that the truth is known to the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqathinker.rewards.distortion import degree
from vqathinker.synth.distortions import (
    EVENT_SHARES,
    FRAMEWISE,
    SPATIAL,
    TEMPORAL,
    Distorted,
    distort,
    halves,
    hold,
    skip,
    source_length,
    thirds,
    when_of,
    within,
)

STEPS = 5
"""Equal parts of the severities in [0, 1]."""
VISIBLE_FROM = {kind: 0.6 if kind == "compression" else 0.4 for kind in SPATIAL}
"""Spatial kind -> severity from which it is plain to see beside what scenes look like anyway."""
VISIBLE_EVENTS = {"stutter": 4, "frame_drop": 3}
"""Temporal kind -> repeated frames, or jumps, from which it is plain to see."""
HIDE_MOTION = ("overexposure", "underexposure")
"""Kinds that can leave so little of a scene that it seems to stand still."""
ALIKE = (
    ("blur", "rescale"),
    ("blur", "compression"),
    ("rescale", "compression"),
    ("stutter", "frame_drop"),
    *((kind, "stutter") for kind in HIDE_MOTION),
)
"""Kinds that one may take for one another: soft pictures; jumps, which also follow a freeze; hidden motion. No question
puts one beside a clip with the other."""
MIN_FREEZE = 2
"""Frames that repeat in the shortest freeze."""
MAX_FREEZE = 5
MIN_MOVING = 3
"""Frames that move between two freezes, at least."""
MAX_FREEZES = 4


@dataclass(frozen=True)
class ClipPlan:
    """What is done to a clip.

    Attributes:
        kind: One of `DISTORTIONS`; "" for none.
        severity: In [0, 1]; of two halves the mean.
        halves: Severity of the first and of the second half, where they differ; else empty.
        events: Temporal kinds: frames that repeat the one before them, or come after a jump; ascending.
        span: First frame that is distorted, and the one behind the last, where that is a part of the clip; else empty.
        box: Left, top, right and bottom of what is distorted, in percent, where that is a part of the frames; else
            empty.
    """

    kind: str = ""
    severity: float = 0.0
    halves: tuple[float, float] | tuple[()] = ()
    events: tuple[int, ...] = ()
    span: tuple[int, int] | tuple[()] = ()
    box: tuple[float, ...] = ()

    @property
    def visible(self) -> bool:
        """Whether the distortion is plain to see."""
        if self.kind in TEMPORAL:
            return len(self.events) >= VISIBLE_EVENTS[self.kind]
        return bool(self.kind) and max(self.halves or (self.severity,)) >= VISIBLE_FROM[self.kind]

    @property
    def freezes(self) -> int:
        """Number of separate freezes."""
        return sum(t - 1 not in self.events for t in self.events) if self.kind == "stutter" else 0

    def share(self, num_frames: int) -> float:
        """Of the clip's pixels, all frames together, the share that is distorted."""
        if not self.span:
            return 1.0
        left, top, right, bottom = self.box
        return (self.span[1] - self.span[0]) / num_frames * (right - left) * (bottom - top) / 100**2

    def when(self, num_frames: int) -> str:
        """Third that all events lie in, "throughout" if each third has some; "" for two thirds or no event."""
        hit = [any(start <= t < end for t in self.events) for start, end in thirds(num_frames).values()]
        if sum(hit) == len(hit):
            return "throughout"
        return list(thirds(num_frames))[hit.index(True)] if sum(hit) == 1 else ""


def alike(kind: str) -> set[str]:
    """The kind and those that one may take for it; the empty set for no kind."""
    return {kind, *(other for pair in ALIKE if kind in pair for other in pair)} - {""}


def draw_visible(kind: str, num_frames: int, rng: np.random.Generator) -> ClipPlan:
    """A clip whose distortion of this kind is plain to see."""
    if kind == "stutter":
        return draw_freezes(int(rng.integers(2, MAX_FREEZES + 1)), num_frames, rng)
    if kind == "frame_drop":
        return draw_when(kind, str(rng.choice([*thirds(num_frames), "throughout"])), num_frames, rng)
    return draw_step(kind, int(rng.integers(round(VISIBLE_FROM[kind] * STEPS), STEPS)), rng)


def draw_step(kind: str, step: int, rng: np.random.Generator) -> ClipPlan:
    """A clip of a spatial kind with a severity in a fifth of the range, away from the others by 15 % of its width."""
    return ClipPlan(kind, float((step + rng.uniform(0.15, 0.85)) / STEPS))


def draw_halves(worse: int, rng: np.random.Generator) -> ClipPlan:
    """A clip whose first (0) or second (1) half is plainly worse: by 0.5 or more, or alone distorted."""
    kind = str(rng.choice(list(FRAMEWISE)))
    high = float(rng.uniform(0.6, 1))
    low = float(rng.uniform(0.05, high - 0.5)) if rng.random() < 0.5 else 0.0
    pair = (low, high) if worse else (high, low)
    return ClipPlan(kind, (low + high) / 2, halves=pair)


def draw_freezes(count: int, num_frames: int, rng: np.random.Generator, window: tuple[int, int] = (1, 0)) -> ClipPlan:
    """A clip with exactly `count` freezes of 2 to 5 repeated frames, three or more moving frames between any two.

    Args:
        count: From 1 to 4.
        num_frames: Frames of the clip N, 24 or more.
        rng: For their places and lengths.
        window: First frame, and the one behind the last, that may repeat; an end of 0 is N - 1. A freeze that ended
            the clip would not be seen to end.
    """
    start, end = window[0], min(window[1] or num_frames, num_frames - 1)
    free = end - start - MIN_MOVING * (count - 1)
    lengths = rng.integers(MIN_FREEZE, min(MAX_FREEZE, free // count) + 1, count)
    offsets = np.sort(rng.integers(0, free - lengths.sum() + 1, count))
    starts = start + offsets + np.cumsum(lengths) - lengths + MIN_MOVING * np.arange(count)
    events = tuple(int(first + t) for first, length in zip(starts, lengths, strict=True) for t in range(length))
    return _temporal("stutter", events, num_frames)


def draw_when(kind: str, when: str, num_frames: int, rng: np.random.Generator) -> ClipPlan:
    """A clip with a freeze or three jumps in one third; "throughout" with freezes, or eight jumps, in all three.

    Args:
        kind: "stutter" or "frame_drop".
        when: A name in `thirds` or "throughout".
        num_frames: Frames of the clip, 24 or more.
        rng: For the events' places.
    """
    if kind == "stutter" and when != "throughout":
        return draw_freezes(1, num_frames, rng, thirds(num_frames)[when])
    if kind == "stutter":
        plan = ClipPlan()
        while plan.when(num_frames) != "throughout":  # about every second draw
            plan = draw_freezes(int(rng.integers(3, MAX_FREEZES + 1)), num_frames, rng)
        return plan
    counts = {"early": 2, "midway": 3, "late": 3} if when == "throughout" else {when: 3}
    jumps = [
        int(t)
        for third, count in counts.items()
        for t in np.sort(rng.choice(np.arange(*thirds(num_frames)[third]), count, replace=False))
    ]
    return _temporal(kind, tuple(jumps), num_frames)


def make_frames(plan: ClipPlan, frames: np.ndarray, num_frames: int, rng: np.random.Generator) -> Distorted:
    """Do what the plan says.

    Args:
        plan: Of the clip.
        frames: (`frames_needed`, H, W, 3) uint8, pristine.
        num_frames: Frames of the clip.
        rng: For noise.

    Returns:
        `num_frames` frames, how to encode them, and where events lie.
    """
    if plan.events:
        done = hold(frames, plan.events) if plan.kind == "stutter" else skip(frames, num_frames, plan.events)
        return Distorted(done, when=when_of(plan.events, num_frames))
    if plan.halves:
        return Distorted(halves(frames, plan.kind, plan.halves, rng))
    if plan.span:
        return Distorted(within(frames, plan.kind, plan.severity, plan.span, plan.box, rng))
    return distort(frames, {plan.kind: plan.severity}, rng) if plan.kind else Distorted(frames)


def frames_needed(plan: ClipPlan, num_frames: int) -> int:
    """Pristine frames that `make_frames` needs for a clip of N frames."""
    return source_length({plan.kind: plan.severity}, num_frames)


def _temporal(kind: str, events: tuple[int, ...], num_frames: int) -> ClipPlan:
    """With the severity at which `distort` makes as many events."""
    share, more = EVENT_SHARES[kind]
    severity = (len(events) / num_frames - share) / more
    return ClipPlan(kind, min(max(severity, 0.0), 1.0), events=events)


def reason(clip: ClipPlan, num_frames: int) -> str:
    """What is to be seen in a clip, in the words of the warm start's traces."""
    name = clip.kind.replace("_", " ")
    if not clip.kind:
        return "I see no fault."
    if clip.halves:
        first, second = map(degree, clip.halves)
        return f"I see {first} {name} early and {second} {name} late."
    if clip.span:
        return f"I see {degree(clip.severity)} {name} in a part of the picture, for a while."
    when = clip.when(num_frames)
    count = f", {clip.freezes} freezes" if clip.freezes else ""
    return f"I see {degree(clip.severity)} {name}{' ' + when if when else ''}{count}."

"""Questions about when and where a fault is, how strong, and how often: clips whose answers are exact numbers.

A distortion of single frames lies inside a box and between two frames, and nowhere else, until the encoder, whose CRF
of 12 changes the rest far less. Boxes stand on eighths of the frame, so that their edges lie between pixels
and are plain percentages; they stay an eighth away from the frame's edges, as the demo's policy sees the central 64 of
96 pixels. What is asked tells how long the clip is: prompts do not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vqathinker.synth.distortions import FRAMEWISE
from vqathinker.synth.question_clips import MAX_FREEZES, STEPS, ClipPlan, draw_freezes, draw_step
from vqathinker.synth.question_types import DEGREES, NAMES, Balance

GRID = 8
"""Parts of a frame's side on whose borders boxes stand."""
SIDES = (3, 4)
"""Of a box, in these parts."""
SHARES = (1 / 4, 1 / 2)
"""Least and largest share of a clip's frames that is distorted."""
FROM_STEP = 3
"""Fifth of the severities from which a part of a clip is plainly worse than the rest."""
TURNS = ("placed", "placed", "freezes", "strength")
"""What is asked of each four clips in a row, so that a scene has all of it."""
WORDINGS = {
    "when_is": (
        (
            "The clip lasts {length} s. When is there {fault}?",
            "The clip lasts {length} s. From when to when does it show {fault}?",
        ),
        ("In this clip of {length} s, when can {fault} be seen?",),
    ),
    "where_is": (
        ("Where in the picture is the {fault}?", "In which part of the picture is there {fault}?"),
        ("Which part of the frame does the {fault} cover?",),
    ),
    "how_many": (
        ("How many times does this clip freeze?", "How often does the picture stand still?"),
        ("What is the number of pauses in the playback?",),
    ),
    "degree": (
        ("How strong is the {fault} in this clip?", "How visible is the {fault}?"),
        ("How much {fault} is there?",),
    ),
}
"""Type -> wordings for all splits, and those that are held out for the split "test"."""
TASKS = {"when_is": "when", "where_is": "where", "how_many": "count"}


def draw_placed(kind: str, num_frames: int, rng: np.random.Generator) -> ClipPlan:
    """A clip whose distortion lies in a box, for a quarter to a half of its frames.

    Args:
        kind: One of `FRAMEWISE`.
        num_frames: Frames of the clip N.
        rng: For box, span and severity.
    """
    length = int(rng.integers(round(SHARES[0] * num_frames), round(SHARES[1] * num_frames) + 1))
    start = int(rng.integers(0, num_frames - length + 1))
    sides = rng.choice(SIDES, 2)
    corner = [int(rng.integers(1, GRID - side)) for side in sides]
    edges = (*corner, *(int(at + side) for at, side in zip(corner, sides, strict=True)))
    plan = draw_step(kind, int(rng.integers(FROM_STEP, STEPS)), rng)
    return replace(plan, span=(start, start + length), box=tuple(100 * edge / GRID for edge in edges))


def place_rows(plan: ClipPlan, num_frames: int, fps: float) -> list[dict]:
    """What is asked of a clip: rows of a question file with `type`, `answer` and what else the task needs; the question
    itself is left to the wordings.

    Args:
        plan: Of the clip.
        num_frames: Its frames.
        fps: Frames per second.
    """
    if plan.span:
        times = [round(frame / fps, 2) for frame in plan.span]
        when = {"type": "when_is", "answer": f"{times[0]:g}-{times[1]:g}"}
        return [when, {"type": "where_is", "answer": ", ".join(f"{edge:g}" for edge in plan.box)}]
    if plan.kind in FRAMEWISE:
        step = min(int(plan.severity * STEPS), STEPS - 1)
        return [{"type": "degree", "answer": DEGREES[step], "options": list(DEGREES), "ordered": True}]
    return [{"type": "how_many", "answer": plan.freezes}]


def plan_places(balance: Balance, index: int, num_frames: int) -> ClipPlan:
    """The plan of a split's clip; kinds, numbers of freezes and degrees are equally frequent.

    Args:
        balance: What was taken so far.
        index: Number of the clip in its split.
        num_frames: Its frames.
    """
    turn = TURNS[index % len(TURNS)]
    if turn == "freezes":
        count = int(balance.least(("freezes",), [str(count) for count in range(MAX_FREEZES + 1)])[0])
        return draw_freezes(count, num_frames, balance.rng) if count else ClipPlan()
    kind = balance.least(("kind", turn), list(FRAMEWISE))[0]
    if turn == "placed":
        return draw_placed(kind, num_frames, balance.rng)
    return draw_step(kind, int(balance.least(("degree", kind), [str(step) for step in range(STEPS)])[0]), balance.rng)


def worded(row: dict, plan: ClipPlan, wording: str, num_frames: int, fps: float, balance: Balance) -> dict:
    """The row with its task and question, in one of the wordings.

    Args:
        row: Of `place_rows`.
        plan: Of the clip.
        wording: "train" or "held-out".
        num_frames: Its frames.
        fps: Frames per second.
        balance: For the wording that was taken least.
    """
    kind = row["type"]
    text = balance.least(("wording", kind, wording), WORDINGS[kind][wording == "held-out"])[0]
    names = {"fault": NAMES.get(plan.kind, "").lower(), "length": f"{num_frames / fps:g}"}
    task = {"task": TASKS[kind]} if kind in TASKS else {}
    return {**task, "question": text.format(**names), **row}

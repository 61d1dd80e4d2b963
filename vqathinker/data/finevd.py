"""FineVD's question files (FineVQ, CVPR 2025) as rows of our own form: three tasks, told apart by what they ask.

Presence (`yesno_test*.jsonl`): is there a fault of one of five dimensions? Dominating dimension (`abcd2_test.jsonl`):
which one hurts most? Fault names (`abcd_test_en.jsonl`): which of several faults is it?
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SET = "FineVD"
"""Tag `set` of its questions."""
DIMENSIONS = ("color", "noise", "artifact", "blur", "temporal")
"""Types of the questions on presence."""
DOMINATING, FAULT = "dominating dimension", "fault name"
"""Types of the other questions."""
FAULT_NAMES: dict[str, tuple[str, ...]] = {
    "color": (
        *(
            "color distortion",
            "color distortions",
            "colour distortion",
            "colour distortions",
            "color cast",
            "colour cast",
            "over dark",
            "over bright",
            "too dark",
            "too bright",
            "washed out",
        ),
        *("overexposure", "underexposure", "low contrast", "low saturation"),
        *("oversaturation", "oversaturated", "desaturation", "desaturated", "undersaturated"),
    ),
    "noise": (
        *("noise", "grain", "grainy", "graininess", "gaussian noise", "pulse noise", "stripe noise", "moire", "moiré"),
    ),
    "artifact": (
        *(
            "artifact",
            "artifacts",
            "artefact",
            "artefacts",
            "compression",
            "compression artifact",
            "compression artifacts",
            "ringing",
        ),
        *("blocky", "blockiness", "blocking", "banding", "pixelation", "pixelated", "ghosting"),
    ),
    "blur": ("blur", "motion blur", "gaussian blur", "compression blur", "exposure blur", "out of focus", "rescale"),
    "temporal": (
        *("stutter", "frame drop", "stall", "freeze", "freezes", "freezing", "lag", "lags", "lagging", "judder"),
        *("flicker", "flickers", "flickering", "camera shake", "shaky", "shaking", "shakiness", "jerky"),
    ),
}
"""Dimension -> what names a fault of it in a reasoning, with other forms (`rewards.naming.FORMS`): FineVD's names as
far as they are no plain words ("block"), and this library's kinds. Which dimension ours belong to is our reading: too
dark or too bright is a fault of color (FineVD's "over dark"), "rescale" one of blur (its "resolution")."""

_PRESENCE = re.compile(r"if there is no (\w+)[\w ]* in the video, please answer \[no\]", re.IGNORECASE)
_LIKE = re.compile(r"please answer \[(?:yes|no)\]|\{\s*A:\[", re.IGNORECASE)
_OPTIONS = re.compile(r"(.*?)\s*\{\s*(A:\[.*\])\s*\}.*", re.DOTALL)
_OPTION = re.compile(r"([A-Z]):\[(.*?)\](?:,\s*|\Z)")


def is_published(record: Any) -> bool:
    """Whether a row looks like FineVD's: `video`, and `conversations` whose first text asks for a word or one of the
    options in brackets, or whose second speaker is "ai"."""
    turns = record.get("conversations") if isinstance(record, dict) and "video" in record else None
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, dict) for turn in turns):
        return False
    asked = turns[0].get("value")
    return isinstance(asked, str) and (bool(_LIKE.search(asked)) or turns[1].get("from") == "ai")


def plain_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row `{"video", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}` as a plain one.

    Returns:
        `{"video", "question", "options", "answer", "type", "tags"}`; options in braces ("{A:[Noise], B:[Color]}") are
        cut from the question, and what stands behind them.

    Raises:
        ValueError: If the wording, a dimension or an option does not fit.
    """
    asked, answer = (turn.get("value") for turn in record["conversations"])
    presence = _PRESENCE.search(asked)
    if presence is None and not _type_of(asked):
        raise ValueError(
            f"question {asked!r:.120} looks like FineVD's, but its wording is not known: 'If there is no blur in the "
            "video, please answer [No]. ...', or 'distortion dimension' or 'distortion type' and options '{A:[...], "
            "B:[...]}'. "
            "Write the row in the plain form: video, question, options, answer."
        )
    if presence is None:
        question, options = _split(asked)
        kind, task = _type_of(asked), ""
    else:
        question, options, task = asked.strip(), ["Yes", "No"], "presence"
        kind = presence[1].lower()
        if kind not in DIMENSIONS:
            raise ValueError(f"question {asked!r:.120} is about {kind!r}: must be one of {list(DIMENSIONS)}.")
    tags = {"set": SET, "task": task or kind}
    video = record["video"]
    return {"video": video, "question": question, "options": options, "answer": answer, "type": kind, "tags": tags}


def _type_of(asked: str) -> str:
    """The type of a question with options in braces, "" of any other."""
    if not _OPTIONS.fullmatch(asked):
        return ""
    text = asked.lower()
    return DOMINATING if "distortion dimension" in text else FAULT if "distortion type" in text else ""


def _split(asked: str) -> tuple[str, list[str]]:
    """Question and options of "...{A:[Noise], B:[Color]}..."."""
    question, listed = _OPTIONS.fullmatch(asked).groups()  # type: ignore[union-attr]  # `_type_of` has looked
    found = _OPTION.findall(listed)
    letters = "".join(letter for letter, _ in found)
    if letters != "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(found)]:
        raise ValueError(f"options {listed!r:.200} must be lettered A, B, C ... in order, each as 'A:[text]'.")
    return question.strip(), [text.strip() for _, text in found]

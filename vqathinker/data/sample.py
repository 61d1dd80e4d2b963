"""What is asked of which clip, and what is known about the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vqathinker.data.labels import LabelRow, columns_of
from vqathinker.data.stalls import COLUMN, Stalls, parse_stalls
from vqathinker.rewards.distortion import parse_distortions


@dataclass(frozen=True)
class Sample:
    """One clip (or several) with one question. A clip may have a score sample and several question samples.

    Attributes:
        id: Names its group in training: one per clips and question.
        task: What kind of answer is asked for: "score" (a number), "choice" (a letter), "level" (a word), "open" (a
            text), "compare", "when", "where", "count".
        clips: Paths of the files.
        question: As asked, without the options and without the instruction on the answer's format; "" for the policy's
            own question (task "score").
        target: What is known. Score: `{"mos": 3.2}`, in score units. Choice: `{"options": ("Blur", "Noise"), "answer":
            "B"}`, the answer as letter, and `steps` where the options have an order. Open: `{"reference": "Noise in
            the sky."}`. When, where, count: `answer_interval` in seconds, `answer_box` in percent, `answer_count`.
            Beside them label columns such as `kind` and `severity`. A rung of a ladder has `ladder` and `rank`, with or
            without `mos`. `stalls`, as JSON, say when the clip's playback stood still.
        tags: What results are broken down by: "type" (which_fault, yesno, ...), "concern", "context", ...
        system: System message; "" for the chat template's own.
    """

    id: str
    task: str
    clips: tuple[str, ...]
    question: str = ""
    target: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    system: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.clips, str) or not self.clips:
            raise ValueError(f"sample {self.id!r}: clips={self.clips!r} must be a tuple of paths, e.g. ('clip.mp4',).")

    @property
    def distortions(self) -> dict[str, float]:
        """Labelled distortions, kind -> severity in [0, 1], of columns `kind` and `severity`; empty without both."""
        if "kind" not in self.target or "severity" not in self.target:
            return {}
        return parse_distortions(self.target["kind"], self.target["severity"])

    @property
    def stalls(self) -> Stalls | None:
        """When the clip's playback stood still, of column `stalls`; `None` where that is not known."""
        return parse_stalls(self.target.get(COLUMN))


def score_samples(rows: Sequence[LabelRow]) -> list[Sample]:
    """Label rows as samples of the task "score", in their order.

    Args:
        rows: What `read_labels` gives.

    Returns:
        One sample a row: its id is the row's `video_id`, its target the MOS and the row's further columns
        (`columns_of`). One of them that is named `mos` too gives way to the label.
    """
    return [Sample(row.video_id, "score", (row.video,), target={**columns_of(row), "mos": row.mos}) for row in rows]


def named_clips(names: Sequence[str]) -> str:
    """One name for the clips that a sample shows: `a.mp4`, `a.mp4 + b.mp4`."""
    return " + ".join(names)

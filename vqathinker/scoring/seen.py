"""What a policy sees of the clips that it scores, and whether it was trained so: lines for a command's user."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqathinker.policy import VQAThinkerProcessor, not_as_trained
from vqathinker.wording import counted


def seen_in(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Sentences that rows of `score_files` have on what of a crop is seen, each with its number of rows."""
    return Counter(note for row in rows for note in row.get("notes", "").split("; ") if note.startswith("sees "))


def seen_line(processor: VQAThinkerProcessor, seen: Mapping[str, int], clips: int) -> str:
    """What the policy sees, with the most common size of the clips' frames.

    Args:
        processor: The policy's.
        seen: From `seen_in`.
        clips: How many were scored.
    """
    size = f"{processor.image_size}x{processor.image_size}"
    if processor.fit == "stretch":
        side = f"{processor.low_patch_size}x{processor.low_patch_size}"
        patches = f", and up to {counted(processor.low_patches, 'patch', 'patches')} of {side}"
        return f"the policy sees whole frames, resized to {size}{patches if processor.cuts_patches else ''}"
    if not seen:
        return f"the policy sees the central {size} pixels of frames"
    sentence = max(seen, key=lambda text: seen[text])
    others = f", and parts of {counted(len(seen) - 1, 'other size')}" if len(seen) > 1 else ""
    return f"the policy {sentence} ({seen[sentence]} of {counted(clips, 'clip')}{others})"


def trained_line(processor: VQAThinkerProcessor) -> str:
    """What is otherwise than in training, and what it may do; "" for nothing, or for other frames only, as large
    policies are trained with few and tested with more."""
    if not processor.changes.keys() & {"image_size", "fit", "question"}:
        return ""
    changed = not_as_trained(processor)
    return (
        f"not what the policy was trained with: {changed}. Scores may be off, and small policies may answer without a "
        "number: undo the change, or train with it"
    )


def unanswered_line(processor: VQAThinkerProcessor, rows: Sequence[Mapping[str, Any]], batch_size: int) -> str:
    """What to do where not one of the first readable clips got a score and something is otherwise than in training;
    "" otherwise."""
    first = [row for row in rows if row["status"] != "unreadable"][:batch_size]
    changed = not_as_trained(processor)
    if not (changed and first and all(math.isnan(row["score"]) for row in first)):
        return ""
    return (
        f"none of the first {counted(len(first), 'clip')} got a score, and the policy was trained differently: "
        f"{changed}. Undo the change, or train with it"
    )

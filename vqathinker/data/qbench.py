"""Q-Bench-Video's question files (arXiv 2409.20063) as rows of our own form. The form is that of its test script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

JOINT = "_cat_"
"""Between the names of the two clips of a pair: `FIRST.mp4_cat_SECOND.mp4.mp4`."""
TAGS = {"context": "context", "quality_concern": "concern", "video_type": "source"}
"""Key of a row -> tag that results are broken down by."""


def is_published(record: Any) -> bool:
    """Whether a row is of the published form: its clip stands under `video_name`."""
    return isinstance(record, dict) and "video_name" in record


def plain_row(record: Mapping[str, Any], exists: Callable[[str], bool]) -> dict[str, Any] | None:
    """A row `{"video_name", "question", "answers", "correct_choice", "question_type", "context", ...}` as a plain one.

    Args:
        record: The row; keys that it does not need are passed over.
        exists: Whether there is a file of a name, see `clip_names`.

    Returns:
        `{"video", "question", "options", "answer", "type", "tags"}`; `None` for an open-ended question, whose answer
        another model has to judge.

    Raises:
        ValueError: If a name or a needed key does not fit.
    """
    kind = _text(record.get("question_type"))
    if "open" in kind:
        return None
    if missing := [key for key in ("question", "answers", "correct_choice") if record.get(key) is None]:
        raise ValueError(f"the row has no {missing}: only questions with a right answer can be evaluated.")
    tags = {tag: _text(record[key]) for key, tag in TAGS.items() if record.get(key)}
    return {
        "video": clip_names(record["video_name"], exists),
        "question": record["question"],
        "options": record["answers"],
        "answer": record["correct_choice"],
        "type": kind,
        "tags": tags,
    }


def clip_names(name: Any, exists: Callable[[str], bool]) -> list[str]:
    """The clips that a name stands for: itself, or both of a pair.

    The last suffix of a pair's name is its own: `a.mp4_cat_b.mp4.mp4` shows `a.mp4` and `b.mp4`. Where the parts have
    no suffix (`a_cat_b.mp4`), it is that of both. A name of which there is a file is one clip (`my_cat_video.mp4`).

    Args:
        name: As the row has it.
        exists: Whether there is a file of a name.

    Raises:
        ValueError: If it is no text, or names more than two clips.
    """
    if not isinstance(name, str):
        raise ValueError(f"video_name {name!r:.80} must be a string.")
    if JOINT not in name or exists(name):
        return [name]
    own = PurePosixPath(name).suffix
    parts = name.removesuffix(own).split(JOINT)
    if len(parts) != 2:
        raise ValueError(f"video_name {name!r} must join two clips by {JOINT!r}: {len(parts)} found.")
    return [part if PurePosixPath(part).suffix else part + own for part in parts]


def _text(value: Any) -> str:
    """A text, or a list of texts as one."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")

"""Q-Bench-Video's question files (arXiv 2409.20063) as rows of our own form: its JSON, and VLMEvalKit's two TSV files.

The forms are those that its test script and VLMEvalKit's reader take.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

SET = "Q-Bench-Video"
"""Tag `set` of its questions."""
JOINT = "_cat_"
"""Between the names of the two clips of a pair: `FIRST.mp4_cat_SECOND.mp4.mp4`."""
TAGS = {"context": "context", "quality_concern": "concern", "video_type": "source"}
"""Key of a row -> tag that results are broken down by."""
COLUMNS = ("video", "video_path", "question", "answer", "dimensions")
"""Of VLMEvalKit's TSV files, and `index`; one of the first two may be missing."""
CONCERNS = ("technical", "aesthetic", "temporal", "aigc")
CONTEXTS = ("global", "referring", "compare", "joint", "single", "pair")
"""How a dimension in a TSV file begins, in lower case -> which tag it is."""


def is_published(record: Any) -> bool:
    """Whether a row is of the published form: its clip stands under `video_name`."""
    return isinstance(record, dict) and "video_name" in record


def plain_row(record: Mapping[str, Any], exists: Callable[[str], bool]) -> dict[str, Any] | None:
    """A row `{"video_name", "question", "answers", "correct_choice", "question_type", "context", ...}` as a plain one.

    Args:
        record: The row; keys that it does not need are passed over.
        exists: Whether there is a file of a name, see `clip_names`.

    Returns:
        `{"video", "question", "options", "answer", "type", "tags"}`; of an open-ended question, without options, the
        answer is the reference. `None` for an open-ended question without one.

    Raises:
        ValueError: If a name or a needed key does not fit.
    """
    kind = _text(record.get("question_type"))
    tags = {"set": SET} | {tag: _text(record[key]) for key, tag in TAGS.items() if record.get(key)}
    row = {"video": clip_names(record["video_name"], exists), "question": record.get("question"), "tags": tags}
    if "open" in kind:
        reference = _reference(record)
        return row | {"answer": reference, "type": "open"} if reference else None
    if missing := [key for key in ("question", "answers", "correct_choice") if record.get(key) is None]:
        raise ValueError(f"the row has no {missing}: only questions with a right answer can be evaluated.")
    return row | {"options": record["answers"], "answer": record["correct_choice"], "type": kind}


def table_row(record: Mapping[str, str], exists: Callable[[str], bool]) -> dict[str, Any]:
    """A row of VLMEvalKit's TSV files (`qbenchvideo_single_MCQ.tsv`, `qbenchvideo_single_VQA.tsv`) as a plain one.

    Args:
        record: Column -> cell. `question` ends in lines of options, or has none: then it is an open one. `answer` is
            "B. text", or the reference. `dimensions` is a list whose first entry is "type, concern, ...".
        exists: Whether there is a file of a name: `video_path` counts where it is one, else `video`.

    Raises:
        ValueError: If the dimensions are no such list.
    """
    first = _first_dimension(record["dimensions"])
    kind, *others = [part.strip() for part in first.split(",") if part.strip()] or [""]
    names = [name for key in ("video_path", "video") if (name := (record.get(key) or "").strip())]
    video = next((name for name in names if exists(name)), (names or [""])[0])
    is_open = "open" in kind
    row = {"video": video, "question": record["question"], "answer": record["answer"]}
    return row | {"type": "open" if is_open else kind, "tags": {"set": SET} | _dimensions(others)}


def _first_dimension(text: str) -> str:
    """The text under `dimensions`: the first of a list written as in Python, or a plain text."""
    if not text.strip().startswith("["):
        return text
    try:
        [first, *_] = ast.literal_eval(text.strip())
        return str(first)
    except (ValueError, SyntaxError):
        raise ValueError(
            f"dimensions {text!r:.120} must be a list of texts like ['yes-or-no,Technical,Global']."
        ) from None


def _dimensions(parts: Iterable[str]) -> dict[str, str]:
    """Tags of the parts behind the type; several of one tag are joined, what is neither is a `dimension`."""
    found: dict[str, list[str]] = {}
    for part in parts:
        tag = "concern" if part.lower().startswith(CONCERNS) else "dimension"
        found.setdefault("context" if part.lower().startswith(CONTEXTS) else tag, []).append(part)
    return {tag: ", ".join(own) for tag, own in found.items()}


def _reference(record: Mapping[str, Any]) -> str:
    """The answer that an open-ended question is measured against: under `answers`, a text or a list of one, or under
    `correct_choice`; "" where there is none."""
    answers, chosen = record.get("answers"), record.get("correct_choice")
    if isinstance(answers, list) and isinstance(chosen, str) and len(answers) > 1:
        place = ord(chosen.strip()[:1] or "?") - ord("A")
        answers = answers[place] if 0 <= place < len(answers) else answers
    return _text(answers).strip() or _text(chosen).strip()


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

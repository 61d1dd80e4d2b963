"""Label file formats: how each of them names videos and labels. `read_labels` picks one of `READERS` by suffix."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RawRow = tuple[str, Any, Any, dict[str, str]]  # place in the file for messages, video, label, further columns

TEST_KEYS = (("image_id", "score"),)
LIST_KEYS = (("img_path", "gt_score"), ("image", "gt_score"), ("img_path", "mos"), ("video_path", "mos"))
"""Keys of video and label in a `.json` file: VQAThinker's test files; lists of Q-Align and VQA²."""

SHAPES = (
    '{"annotations": [{"image_id", "ann_type": "score", "score"}, ...]} (VQAThinker test), '
    '[{"img_path" or "image", "gt_score"}, ...] (Q-Align) or [{"img_path" or "video_path", "mos"}, ...] (VQA²)'
)


class LabelError(ValueError):
    """A label file, or a line of it, that cannot be used. The message names file, line, value, rule and fix."""


def _read_jsonl(path: Path, *columns: str) -> Iterator[RawRow]:
    """`{"image": ["a/b.mp4"], "conversations": [{"from": "human", ...}, {"from": "gpt", "value": 2.61}]}`"""
    for place, text in _lines(path):
        try:
            record = json.loads(text)
            labels = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
            video, label = record["image"], labels[0]
        except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise LabelError(
                f"{place}: {text[:80]!r} is no VQAThinker training row ({error!r}); it needs "
                '{"image": [...], "conversations": [..., {"from": "gpt", "value": MOS}]}.'
            ) from None
        yield place, _only(video), label, {}


def _read_json(path: Path, *columns: str) -> Iterator[RawRow]:
    """One of `SHAPES`, told apart by their keys. Annotations of another `ann_type` than "score" are passed over."""
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise LabelError(f"{path}: no JSON ({error}); a file with one object a line must be named .jsonl.") from None
    is_test = isinstance(content, dict) and "annotations" in content
    entries = content["annotations"] if is_test else content
    if not isinstance(entries, list):
        raise _unknown_shape(str(path), content)
    for number, entry in enumerate(entries, start=1):
        place = f"{path}: entry {number} of {len(entries)}"
        if not isinstance(entry, dict):
            raise _unknown_shape(place, entry)
        if is_test and entry.get("ann_type", "score") != "score":
            continue
        fitting = [keys for keys in (TEST_KEYS if is_test else LIST_KEYS) if entry.keys() >= set(keys)]
        if len(fitting) != 1:
            raise _unknown_shape(place, entry)
        [(video, label)] = fitting
        yield place, _only(entry[video]), entry[label], {}


def _unknown_shape(place: str, found: Any) -> LabelError:
    what = f"the keys {list(found)}" if isinstance(found, dict) else f"{type(found).__name__} {str(found)[:80]!r}"
    return LabelError(f"{place}: found {what}; exactly one of these shapes must fit: {SHAPES}.")


def _read_txt(path: Path, *columns: str) -> Iterator[RawRow]:
    """`path.mp4, duration_s, fps, mos`; duration and fps may be -1 and are not used. The path may hold commas."""
    for place, text in _lines(path):
        fields = [field.strip() for field in text.rsplit(",", 3)]
        if len(fields) != 4:
            raise LabelError(f"{place}: {text[:80]!r} must read 'path, duration_s, fps, mos' (4 fields).")
        yield place, fields[0], fields[3], {}


def _read_csv(path: Path, video_column: str, mos_column: str) -> Iterator[RawRow]:
    reader = csv.DictReader(io.StringIO(_text(path)))
    header = reader.fieldnames or []
    if not header:
        raise LabelError(f"label file {str(path)!r} is empty; the first line must be a header.")
    missing = [name for name in (video_column, mos_column) if name not in header]
    if missing:
        raise LabelError(
            f"{path}: no column {missing}; the header is {header}. Name the columns with video_column and mos_column."
        )
    for record in reader:
        place = f"{path}:{reader.line_num}"
        if None in record or None in record.values():
            raise LabelError(f"{place}: the row must have {len(header)} fields like the header.")
        extra = {key: value for key, value in record.items() if key not in (video_column, mos_column)}
        yield place, record[video_column], record[mos_column], extra


def _only(video: Any) -> Any:
    """The name out of a list of one; anything else as it is, for the name's own check to refuse."""
    return video[0] if isinstance(video, list) and len(video) == 1 else video


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    # Not splitlines(): it also splits at separators that a name may hold.
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if text.strip():
            yield f"{path}:{line}", text.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"label file {str(path)!r} is not UTF-8 ({error}); save it as UTF-8.") from None


READERS: dict[str, Callable[[Path, str, str], Iterator[RawRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_txt,
    ".csv": _read_csv,
}
"""Suffix -> reader of (path, video column, label column); only CSV files have columns."""

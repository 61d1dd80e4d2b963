"""Label file formats: how each of them names videos and labels. `read_labels` picks one of `READERS` by suffix."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vqathinker.clips import VIDEO_SUFFIXES


class RawRow(NamedTuple):
    """A row as a label file has it; `read_labels` checks the name, finds the file and brings the label to scale.

    Attributes:
        place: Where it stands, for messages: `file:line`.
        video: The video's name, relative to the video root.
        label: The MOS on the file's scale: a number or its text.
        extra: Further columns, as text: `kind`, `severity`, ...; `stalls` of a JSON file as it stands there.
    """

    place: str
    video: Any
    label: Any
    extra: Mapping[str, Any] = MappingProxyType({})


Reader = Callable[[Path, str, str], Iterable[RawRow]]
"""From a label file and the names of its columns of video and label, where it has columns, to its rows, in order. What
does not fit is a `LabelError`."""

TEST_KEYS = (("image_id", "score"),)
LIST_KEYS = (("img_path", "gt_score"), ("image", "gt_score"), ("img_path", "mos"), ("video_path", "mos"))
"""Keys of video and label in a `.json` file: VQAThinker's test files; lists of Q-Align and VQA²."""

SHAPES = (
    '{"annotations": [{"image_id", "ann_type": "score", "score"}, ...]} (VQAThinker test), '
    '[{"img_path" or "image", "gt_score"}, ...] (Q-Align) or [{"img_path" or "video_path", "mos"}, ...] (VQA²)'
)


class LabelError(ValueError):
    """A label file, or a line of it, that cannot be used. The message names file, line, value, rule and fix."""


# What Python's float() takes beside it, "1_000" and the digits of other scripts, is no way to write a label.
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf)", re.IGNORECASE)


def number_of(value: Any) -> float:
    """A number out of a file, as JSON or CSV give it.

    Args:
        value: A number, or its text: digits with a decimal point and an exponent, where it has them.

    Raises:
        ValueError: If it is anything else (a truth value, "3,75", "1_000", "0x1F"), or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r:.80} is not a number.")
    text = str(value).strip()
    if isinstance(value, str) and not (_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
        raise ValueError(f"{value!r:.80} is not a number: write digits with a decimal point, like 3.75.")
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is not finite: give a number, or leave the row out.")
    return number


def repeated(names: Sequence[str]) -> list[str]:
    """The names that occur more than once, spaces around them aside."""
    return [name for name, count in Counter(name.strip() for name in names).items() if count > 1]


def _read_jsonl(path: Path, *columns: str) -> Iterator[RawRow]:
    """`{"image": ["a/b.mp4"], "conversations": [{"from": "human", ...}, {"from": "gpt", "value": 2.61}]}`"""
    for place, text in lines_of(path):
        try:
            record = load_json(place, text)
            labels = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
            video, label = record["image"], labels[0]
        except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise LabelError(
                f'{place}: {text[:80]!r} is not a VQAThinker training row ({error!r}); it needs {{"image": [...], '
                '"conversations": [..., {"from": "gpt", "value": MOS}]}.'
            ) from None
        if len(labels) > 1:
            raise LabelError(
                f'{place}: the row has {len(labels)} values from "gpt", {labels!r:.80}; keep only the MOS.'
            )
        yield RawRow(place, only_name(video), label, _stalls(record))


def _read_json(path: Path, *columns: str) -> Iterator[RawRow]:
    """One of `SHAPES`, told apart by their keys. Annotations of another `ann_type` than "score" are passed over."""
    try:
        content = load_json(str(path), read_text(path))
    except json.JSONDecodeError as error:
        raise LabelError(
            f"{path}: not valid JSON ({error}); a file with one object per line must be named .jsonl."
        ) from None
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
        yield RawRow(place, only_name(entry[video]), entry[label], _stalls(entry))


def _stalls(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of JSON tells of its clip's stalls, as the column of a CSV does; the other keys are passed over."""
    return {"stalls": record["stalls"]} if record.get("stalls") is not None else {}


def _unknown_shape(place: str, found: Any) -> LabelError:
    what = f"the keys {list(found)}" if isinstance(found, dict) else f"{type(found).__name__} {str(found)[:80]!r}"
    return LabelError(f"{place}: found {what}; exactly one of these shapes must fit: {SHAPES}.")


def _read_txt(path: Path, *columns: str) -> Iterator[RawRow]:
    """`path.mp4, duration_s, fps, mos`; duration and fps may be -1 and are not used. The path may hold commas."""
    for place, text in lines_of(path):
        fields = [field.strip() for field in text.rsplit(",", 3)]
        rule = f"{place}: {text[:80]!r} must read 'path, duration_s, fps, mos' (4 fields)"
        if len(fields) != 4:
            raise LabelError(f"{rule}.")
        *before, last = (part.strip().lower() for part in fields[0].split(","))
        # A path may hold commas, but it does not go on behind a video's extension, nor with a number.
        if any(part.endswith(VIDEO_SUFFIXES) for part in before) or (before and _NUMBER.fullmatch(last)):
            raise LabelError(
                f"{rule}; the path would be {fields[0]!r}. Remove the extra fields, and write the MOS with a decimal "
                "point; if the path is right, add its extension."
            )
        for name, field in zip(("duration", "fps"), fields[1:3], strict=True):
            if not _NUMBER.fullmatch(field):
                raise LabelError(f"{rule}; the {name} would be {field!r}: write a number, -1 if it is unknown.")
        yield RawRow(place, fields[0], fields[3])


def _read_csv(path: Path, video_column: str, mos_column: str) -> Iterator[RawRow]:
    reader = csv.DictReader(io.StringIO(read_text(path)), skipinitialspace=True)
    header = reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    video_column, mos_column = video_column.strip(), mos_column.strip()
    if not header:
        raise LabelError(f"label file {str(path)!r} is empty; the first line must be a header.")
    if twice := repeated(header):
        raise LabelError(
            f"{path}: the header names {', '.join(map(repr, twice))} more than once: {', '.join(header)}. Column names "
            "must be unique; rename or remove the others."
        )
    from vqathinker.data.streaming import is_streaming, streaming_rows  # which makes rows of this module's kind

    if is_streaming(header):
        yield from streaming_rows(path, video_column, mos_column)
        return
    missing = [name for name in (video_column, mos_column) if name not in header]
    if missing:
        fix = (
            "Rename them, or name yours with --video-column and --mos-column (video_column, mos_column in Python and "
            "YAML)."
        )
        if len(header) == 1 and re.search(r"[;\t]", header[0]):
            fix = "Save it with commas between the columns, or use `vqathinker fit`, which reads any separator."
        raise LabelError(f"{path}: no column {' or '.join(missing)}; the columns are {', '.join(header)}. {fix}")
    records = [(reader.line_num, record) for record in reader]
    pairs = [((record[video_column] or "").strip(), (record[mos_column] or "").strip()) for _, record in records]
    if pairs and all(_NUMBER.fullmatch(video) and _is_text(label) for video, label in pairs):
        raise LabelError(
            f"{path}: the columns look swapped: {video_column!r} holds numbers ({pairs[0][0]!r}), {mos_column!r} holds "
            f"none ({pairs[0][1]!r}). Give each its right name."
        )
    for line, record in records:
        place = f"{path}:{line}"
        if None in record or None in record.values():
            raise LabelError(f"{place}: the row must have {len(header)} fields like the header.")
        cells = {key: value.strip() for key, value in record.items()}
        yield RawRow(place, cells.pop(video_column), cells.pop(mos_column), cells)


def _is_text(cell: str) -> bool:
    return bool(cell) and not (_NUMBER.fullmatch(cell) or _NOT_FINITE.fullmatch(cell))


def load_json(place: str, text: str) -> Any:
    """JSON whose objects name every key once: of several, `json` takes the last and says nothing."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            found = [(key, value) for key, value in pairs if key in twice]
            raise LabelError(
                f"{place}: an object names the keys {twice} more than once, {found!r:.200}. Each key may appear once; "
                "remove or rename the others."
            )
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (json.JSONDecodeError, LabelError):
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands of brackets
        raise LabelError(f"{place}: {text[:80]!r} cannot be read as JSON ({error}); correct it.") from None


def only_name(video: Any) -> Any:
    """The name out of a list of one; anything else as it is, for the name's own check to refuse."""
    return video[0] if isinstance(video, list) and len(video) == 1 else video


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that hold something: their place for messages (`file:line`) and their text, spaces around it cut."""
    # Not splitlines(): it also splits at separators that a name may hold.
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield f"{path}:{line}", text.strip()


def read_text(path: Path) -> str:
    """A file's text: UTF-8, with or without BOM.

    Raises:
        LabelError: If it is another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"file {str(path)!r} is not UTF-8 ({error}); save it as UTF-8.") from None


READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_txt,
    ".csv": _read_csv,
}
"""Suffix, in lower case with its dot -> reader. Put one of your own here for another format; test sets
(`labels.SUFFIX`) are found by it too."""

"""Reading label files: VQAThinker train JSONL, DOVER / FAST-VQA txt, and CSV with a header."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from rewards.distortion import parse_distortions
from vqathinker.data.scales import MosScale, mos_scale

logger = logging.getLogger(__name__)


class LabelError(ValueError):
    """A label file, or a line of it, that cannot be used. The message names file, line, value, rule and fix."""


@dataclass(frozen=True)
class LabelRow:
    """One labelled clip.

    Attributes:
        video: Path of the file, below the video root.
        video_id: Its path as written in the label file, with "/" separators; names its group in training.
        mos: Label in score units.
        extra: Further CSV columns, as text.
    """

    video: str
    video_id: str
    mos: float
    extra: dict[str, str] = field(default_factory=dict)


def distortions_of(row: LabelRow) -> dict[str, float]:
    """Labelled distortions of a clip, kind -> severity in [0, 1], from the CSV columns `kind` and `severity`.

    Several are joined by "+": `blur+stutter`, `0.31+0.52`. Empty without both columns, or without a kind.

    Raises:
        ValueError: If the two do not match.
    """
    if "kind" not in row.extra or "severity" not in row.extra:
        return {}
    return parse_distortions(row.extra["kind"], row.extra["severity"])


RawRow = tuple[int, str, Any, dict[str, str]]  # line number, video, label, further columns


def read_labels(
    path: str | Path,
    video_root: str | Path,
    scale: str | MosScale,
    video_column: str = "video",
    mos_column: str = "mos",
) -> list[LabelRow]:
    """Read a label file. The format follows from the suffix: `.jsonl`, `.txt` or `.csv`.

    Args:
        path: The label file; UTF-8 with or without BOM, LF or CRLF.
        video_root: Folder the video names are relative to. A name that leaves it is refused.
        scale: MOS scale or its name, see `mos_scale`.
        video_column: CSV column of the video name.
        mos_column: CSV column of the label.

    Returns:
        One row per video in file order. A video listed twice with one label is kept once, with a warning.

    Raises:
        LabelError: If the file is missing, empty, of unknown format, or a line does not fit; so with a CSV whose
            `kind` and `severity` columns are no distortion labels (see `distortions_of`).
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"label file {str(path)!r} does not exist.")
    if not Path(video_root).is_dir():
        raise LabelError(f"video root {str(video_root)!r} is no folder: give the one that the video names start from.")
    readers = {".jsonl": _read_jsonl, ".txt": _read_txt, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise LabelError(f"label file {str(path)!r}: suffix must be one of {list(readers)}; rename or convert it.")
    scale = mos_scale(scale) if isinstance(scale, str) else scale

    rows: dict[str, LabelRow] = {}
    repeated = 0
    for line, video, label, extra in readers[path.suffix.lower()](path, video_column, mos_column):
        try:
            video_id = _safe_name(video)
            row = LabelRow(str(Path(video_root) / video_id), video_id, scale(_number(label)), extra)
            distortions_of(row)
        except ValueError as error:
            raise LabelError(f"{path}:{line}: {error}") from None
        known = rows.setdefault(video_id, row)
        if known is not row:
            repeated += 1
            if known.mos != row.mos:
                raise LabelError(f"{path}:{line}: {video_id!r} is listed twice, with MOS {known.mos} and {row.mos}.")
    if not rows:
        raise LabelError(f"label file {str(path)!r} lists no video.")
    if repeated:
        logger.warning("%s: %d rows repeat a video with the same label and were dropped.", path, repeated)
    return list(rows.values())


def _read_jsonl(path: Path, *columns: str) -> Iterator[RawRow]:
    """`{"image": ["a/b.mp4"], "conversations": [{"from": "human", ...}, {"from": "gpt", "value": 2.61}]}`"""
    for line, text in _lines(path):
        try:
            record = json.loads(text)
            image = record["image"]
            labels = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
            video, label = (image if isinstance(image, str) else image[0]), labels[0]
        except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise LabelError(
                f"{path}:{line}: {text[:80]!r} is no VQAThinker training row ({error!r}); it needs "
                '{"image": [...], "conversations": [..., {"from": "gpt", "value": MOS}]}.'
            ) from None
        yield line, video, label, {}


def _read_txt(path: Path, *columns: str) -> Iterator[RawRow]:
    """`path.mp4, duration_s, fps, mos`; duration and fps may be -1 and are not used. The path may hold commas."""
    for line, text in _lines(path):
        fields = [field.strip() for field in text.rsplit(",", 3)]
        if len(fields) != 4:
            raise LabelError(f"{path}:{line}: {text[:80]!r} must read 'path, duration_s, fps, mos' (4 fields).")
        yield line, fields[0], fields[3], {}


def _read_csv(path: Path, video_column: str, mos_column: str) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        if not header:
            raise LabelError(f"label file {str(path)!r} is empty; the first line must be a header.")
        missing = [name for name in (video_column, mos_column) if name not in header]
        if missing:
            raise LabelError(
                f"{path}: no column {missing}; the header is {header}. Name the columns with "
                "video_column and mos_column."
            )
        for record in reader:
            if None in record or None in record.values():
                raise LabelError(f"{path}:{reader.line_num}: the row must have {len(header)} fields like the header.")
            extra = {key: value for key, value in record.items() if key not in (video_column, mos_column)}
            yield reader.line_num, record[video_column], record[mos_column], extra


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield line, text.strip()


def _number(label: Any) -> float:
    try:
        value = float(label)
    except (TypeError, ValueError):
        raise ValueError(f"label {label!r} is not a number.") from None
    if not math.isfinite(value):
        raise ValueError(f"label {label!r} is not finite.")
    return value


def _safe_name(video: Any) -> str:
    """The name with "/" separators, refused if it would leave the video root."""
    if not isinstance(video, str) or not video.strip():
        raise ValueError(f"video name {video!r} must be a non-empty text.")
    name = PurePosixPath(video.strip().replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(video).drive or ".." in name.parts:
        raise ValueError(f"video {video!r} leaves the video root: names must be relative and free of '..'.")
    return str(name)

"""Rows of question files: our own forms as they stand there, published ones (Q-Bench-Video, FineVD, VQA²) as plain."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vqathinker.data import finevd, qbench, vqa2
from vqathinker.data.files import VideoFiles, safe_name
from vqathinker.data.formats import LabelError, lines_of, load_json, read_text
from vqathinker.wording import counted

logger = logging.getLogger(__name__)


def records_of(path: Path, files: VideoFiles, left_out: dict[str, str]) -> Iterator[tuple[str, Any, bool]]:
    """The rows of a question file with their places for messages, published ones in the plain form.

    Args:
        path: With one of the suffixes in `READERS`.
        files: Of the videos.
        left_out: Place -> message of published rows that do not fit; theirs are put there.

    Returns:
        Rows as they stand there, not checked, without keys whose value is null, and whether each is of a published
        form. Open questions without a reference are left out, with a warning.

    Raises:
        LabelError: If the file does not fit.
    """
    without = 0
    for place, found in READERS[path.suffix.lower()](path):
        record = found if isinstance(found, _TableRow) else _without_null(found)
        try:
            known = _plain(record, lambda name: files.find(safe_name(name)).is_file())
        except ValueError as error:
            left_out[place] = str(error)
            continue
        without += known is None
        if known is not None:
            yield place, known, known is not record
    if without:
        open_rows = counted(without, "open question")
        logger.warning("%s: %s left out: an answer can only be measured against a reference.", path, open_rows)


def _plain(record: Any, exists: Callable[[str], bool]) -> Any:
    """A row of a published form as a plain one, any other as it is; `None` for what nothing can be measured against."""
    if qbench.is_published(record):
        return qbench.plain_row(record, exists)
    if finevd.is_published(record):
        return finevd.plain_row(record)
    if vqa2.is_published(record):
        return vqa2.plain_row(record)
    if isinstance(record, _TableRow):
        return qbench.table_row(record, exists)
    return record


def _without_null(value: Any) -> Any:
    """The same without keys whose value is null, at any depth: a table of rows fills missing keys with null."""
    if isinstance(value, dict):
        return {key: _without_null(entry) for key, entry in value.items() if entry is not None}
    return [_without_null(entry) for entry in value] if isinstance(value, list) else value


class _TableRow(dict[str, str]):
    """A row of a `.tsv` file."""


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for place, text in lines_of(path):
        yield place, _loaded(place, text, "write one object per line")


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    records = _loaded(str(path), read_text(path), "it must hold one list of rows")
    if not isinstance(records, list):
        raise LabelError(f"{path}: found {type(records).__name__}: a .json file must hold one list of rows.")
    for number, record in enumerate(records, start=1):
        yield f"{path}: row {number}", record


def _read_tsv(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of VLMEvalKit's form; cells in quotes may hold line ends."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    header = reader.fieldnames or []
    missing = [name for name in qbench.COLUMNS[2:] if name not in header]
    if missing or not set(header) & set(qbench.COLUMNS[:2]):
        raise LabelError(
            f"{path}: the columns are {list(header)}: a .tsv file must be VLMEvalKit's of Q-Bench-Video, with "
            f"{list(qbench.COLUMNS)}, tabs between them. Write other questions as .jsonl."
        )
    for number, record in enumerate(reader, start=1):
        if None in record or None in record.values():
            raise LabelError(f"{path}: row {number}: the row must have {len(header)} cells like the header.")
        yield f"{path}: row {number}", _TableRow(record)


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".tsv": _read_tsv,
}
"""Suffix -> reader of a file's rows as they stand there, with their places for messages."""


def _loaded(place: str, text: str, fix: str) -> Any:
    try:
        return load_json(place, text)
    except json.JSONDecodeError as error:
        raise LabelError(f"{place}: {text[:80]!r} is not valid JSON ({error}); {fix}.") from None

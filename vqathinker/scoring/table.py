"""Scoring many files: resumable tables, several processes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from tqdm.auto import tqdm

from vqathinker.places import check_table
from vqathinker.scoring.duration import Estimate
from vqathinker.scoring.scorer import QualityScore, QualityScorer, process_state
from vqathinker.writing import finite, write_whole

COLUMNS: tuple[str, ...] = ("video", "score", "std", "status", "num_parsed", "num_answers", "frames", "notes")
COLUMNS += ("reasoning", "error", "file", "made_with")
CALIBRATED = ("calibrated", "low", "high")
"""Further columns of a table whose scores are calibrated, behind the others; of the same name in memory."""
RENAMED = {"std": "spread", "file": "source_stat", "made_with": "settings"}
HEADER = tuple(RENAMED.get(name, name) for name in COLUMNS)
"""Of new tables. In memory the names are those of `COLUMNS`."""
HEADERS = (HEADER, tuple("spread" if name == "std" else name for name in COLUMNS), COLUMNS)
"""Of tables of before, too, which are gone on with as they are."""
DIGITS = 6
"""Decimals of scores and spreads: fewer would make equal, for a rank correlation, what read-outs tell apart."""
ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Of tables: file names may hold bytes that are no UTF-8."""
NUMBERS: dict[str, Callable[[str], Any]] = {"score": float, "std": float, "num_parsed": int, "num_answers": int}
NUMBERS |= dict.fromkeys(CALIBRATED, float)


def record(result: QualityScore, made_with: str, calibrated: bool = False) -> dict[str, Any]:
    """A result as a row of a table.

    Args:
        result: The result.
        made_with: Names the settings, see `ScoreTable`.
        calibrated: With `CALIBRATED`, nine digits of each: fewer would make values equal whose scores are not.
    """
    further = {name: float(f"{getattr(result, name):.9g}") for name in CALIBRATED} if calibrated else {}
    return {
        "video": result.video,
        "score": round(result.score, DIGITS),
        "std": round(result.spread, DIGITS),
        "status": result.status,
        "num_parsed": result.num_parsed,
        "num_answers": len(result.answers),
        "frames": " ".join(map(str, result.frames)),
        "notes": "; ".join(result.notes),
        "reasoning": " ".join(result.reasoning.split()),
        "error": " ".join((result.error or ("" if result.parsed else "".join(result.answers[:1]))).split()),
        "file": stamp(result.video),
        "made_with": made_with,
        **further,
    }


def stamp(video: str | Path) -> str:
    """Size and modification time of a file, "" if there is none: a clip that was replaced is another one."""
    try:
        found = os.stat(video)
    except (OSError, ValueError):
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


class ScoreTable:
    """Results in a file, one line each, written as they come; what the file holds already is not scored again.

    A last line that a killed run left torn is dropped, and so are rows of clips that were unreadable or have changed
    since: these are scored anew.

    Args:
        path: `.csv`, or `.json` / `.jsonl` for JSON lines.
        made_with: Names the settings that scores depend on. Rows made with others are never mixed in.
        write: Whether this process is the one that repairs and writes the file.
        calibrated: Whether it has the columns `CALIBRATED` too.

    Attributes:
        headers: That the file may have, the one of new files first.
        names: Of the columns in the file, in the order of `COLUMNS`, which are the keys of a row.
        rows: Video -> row.

    Raises:
        ValueError: On another suffix, a file that is no such table, or one made with other settings.
    """

    def __init__(self, path: str | Path, made_with: str, write: bool = True, calibrated: bool = False) -> None:
        self.path, self.made_with = Path(path), made_with
        self.headers = [(*names, *CALIBRATED) for names in HEADERS] if calibrated else [*HEADERS]
        check_table(path)
        self.is_csv = self.path.suffix.lower() == ".csv"
        data = self.path.read_bytes() if self.path.exists() else b""
        self.names = self._names(data)
        rows = self._parse(data[: data.rfind(b"\n") + 1].decode("utf-8", "surrogateescape"))
        other = sorted({row["made_with"] for row in rows} - {made_with})
        if other:
            raise ValueError(
                f"{str(path)!r} holds scores made with other settings (checkpoint, frames, read-out ...: {other[0]}, "
                f"now {made_with}): name another file, or delete it."
            )
        self.rows = {
            row["video"]: row for row in rows if row["status"] != "unreadable" and row["file"] == stamp(row["video"])
        }
        if write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._repair(data)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, those that are in already left out, and see them to the disk."""
        new = [dict(row) for row in rows if row["video"] not in self.rows]
        with self.path.open("a", **ENCODING) as file:
            file.write("".join(self._lines(new)))
            file.flush()
            os.fsync(file.fileno())
        self.rows |= {row["video"]: row for row in new}

    def _repair(self, data: bytes) -> None:
        clean = (",".join(self.names) + "\n" if self.is_csv else "") + "".join(self._lines(self.rows.values()))
        if clean.encode("utf-8", "surrogateescape") != data:
            write_whole(self.path, clean, **ENCODING)

    def _names(self, data: bytes) -> tuple[str, ...]:
        """Of the file's columns, in the order of `COLUMNS`."""
        line = data.partition(b"\n")[0]
        if not self.is_csv:
            if not data.startswith(b'{"video": '[: len(data)]):
                raise self._foreign("its header differs")
            keys = set(re.findall(r'"(\w+)": ', line.decode("utf-8", "replace")))  # in a text quotes are escaped
            return next((names for names in self.headers[::-1] if keys.issuperset(names)), self.headers[0])
        for names in self.headers:
            if data.startswith((",".join(names) + "\n").encode()[: len(data)]):
                return names
        raise self._foreign("its header differs")

    def _lines(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        return (table_line(row, self.names, self.is_csv) for row in rows)

    def _parse(self, text: str) -> list[dict[str, Any]]:
        places = list(zip(columns_of(self.names), self.names, strict=True))
        try:
            if not self.is_csv:
                rows = [json.loads(line) for line in text.split("\n")[:-1]]  # names may hold other line ends
                return [{name: _known(name, row[own]) for name, own in places} for row in rows]
            reader = csv.DictReader(io.StringIO(text, newline=""))
            rows = [{name: NUMBERS.get(name, str)(row[own]) for name, own in places} for row in reader]
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign(repr(error)) from None
        return rows

    def _foreign(self, why: str) -> ValueError:
        return ValueError(
            f"{str(self.path)!r} is not a score table with the columns {list(self.headers[0])} ({why}): name another "
            "file, or delete it."
        )


def table_line(row: Mapping[str, Any], names: Sequence[str] = HEADER, is_csv: bool = True) -> str:
    """A row as it stands in a file, with the end of the line.

    Args:
        row: With the keys of `COLUMNS`.
        names: Of the columns, in the order of `COLUMNS`.
        is_csv: Else a JSON object.
    """
    named = {own: row[name] for name, own in zip(columns_of(names), names, strict=True)}
    if not is_csv:  # NaN is no JSON
        return json.dumps(finite(named), ensure_ascii=False) + "\n"
    line = io.StringIO()
    csv.DictWriter(line, names, lineterminator="\n").writerow(named)
    return line.getvalue()


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """The keys of a row that a table's columns hold, in their order."""
    return (*COLUMNS, *names[len(COLUMNS) :])


def _known(name: str, value: Any) -> Any:
    return math.nan if value is None and NUMBERS.get(name) is float else value


def score_files(
    scorer: QualityScorer,
    videos: Sequence[str | Path],
    made_with: str,
    tables: Sequence[str | Path] = (),
    show: Callable[[Mapping[str, Any]], None] | None = None,
    progress: bool = True,
    title: str = "scoring",
    events: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Score files and keep the results; under `accelerate launch` the processes share the work.

    Args:
        scorer: Scores.
        videos: Paths.
        made_with: Names the settings, see `ScoreTable`.
        tables: Files that are gone on with, see `ScoreTable`.
        show: Called on the main process with each row: at once with those that the tables have, then with the new ones.
        progress: Show a progress bar, and after the first batch tell about how long all will take.
        title: What is scored, for both.
        events: Path -> when its playback stood still, see `QualityScorer.score_many`; `made_with` names them too
            (`told_settings`).

    Returns:
        A row per video, in order, on every process.
    """
    state = process_state()
    with state.main_process_first():
        calibrated = scorer.calibration is not None
        kept = [ScoreTable(path, made_with, state.is_main_process, calibrated) for path in tables]
    names = [str(video) for video in videos]
    known = {video: row for table in kept for video, row in table.rows.items()}
    todo = [name for name in dict.fromkeys(names) if not kept or any(name not in table.rows for table in kept)]
    if show and state.is_main_process:
        for name in dict.fromkeys(names):
            if name not in todo:
                show(known[name])
    state.wait_for_everyone()  # nobody writes before everybody has read
    own = todo[state.process_index :: state.num_processes]
    rounds = math.ceil(len(todo) / (scorer.batch_size * state.num_processes))
    estimate = Estimate(len(todo), "clips", title, silent=not progress or not state.is_main_process)
    batches = scorer.score_many(own, events)
    with tqdm(
        total=len(todo), desc=title, unit="clip", disable=None if progress and state.is_main_process else True
    ) as bar:
        for _ in range(rounds):
            rows = gather_object([record(result, made_with, calibrated) for result in next(batches, [])])
            known |= {row["video"]: row for row in rows}
            if state.is_main_process:
                for table in kept:
                    table.append(rows)
                if show:
                    for row in rows:
                        bar.clear()
                        show(row)
            bar.update(len(rows))
            estimate.update(len(rows))
    state.wait_for_everyone()  # what was scored is written
    return [known[name] for name in names]

"""Tables of ratings: from what each rater gave each clip to MOS in score units, and to a label file."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqathinker.clips import VIDEO_SUFFIXES
from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import LabelError
from vqathinker.data.labels import LabelRow, distortions_of
from vqathinker.data.scales import MosScale, mos_scale
from vqathinker.data.sources import SOURCE_COLUMNS
from vqathinker.data.tables import SPREADSHEETS, SUFFIXES, Table, read_table
from vqathinker.wording import counted

# Names of columns, in lower case.
VIDEO_COLUMNS = ("video", "clip", "file", "filename", "file_name", "name", "video_name", "path", "image")
MOS_COLUMNS = ("mos", "score", "rating", "mean", "label", "quality")
SD_COLUMNS = ("sd", "std", "mos_sd", "mos_std")
COUNT_COLUMNS = ("n", "count", "num_ratings")
PEOPLE = ("rater", "subject", "observer", "user", "participant", "annotator", "worker")
RATER_COLUMNS = (*PEOPLE, *(f"{name}_id" for name in PEOPLE))
OF_A_CLIP = (*SOURCE_COLUMNS, "kind", "severity", "stalls")
"""Columns that the split, the rubric and prompts read; a clip has one cell of them."""
NO_RATERS = (
    *(*OF_A_CLIP, *SD_COLUMNS, *COUNT_COLUMNS, *RATER_COLUMNS, *VIDEO_COLUMNS),
    *("id", "index", "no", "nr", "width", "height", "fps", "frame_rate", "frames", "num_frames", "duration", "length"),
    *("bitrate", "crf", "qp", "size", "var", "variance", "ci", "ci95", "median", "min", "max", "age", "time", "date"),
    *("timestamp", "session", "order", "level", "split", "fold", "seed"),
)
"""Columns that may hold numbers and are no raters."""
WRITTEN = ("video", "mos", "sd", "num_ratings")
"""Columns of the label file that `write_labels` makes, before the further ones."""
EXAMPLES = 3
EXAMPLE_SCALES = ((0, 1), (0, 5), (1, 10), (0, 10), (0, 100))
DECIMALS = 6
_RANGE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*(?:-|to|\.\.|[:;/\s])\s*(-?[0-9]+(?:\.[0-9]+)?)")
"""Two numbers, not separated as `--scale` wants them: "0-100"."""


@dataclass(frozen=True)
class RatedClip(LabelRow):
    """A clip with its ratings; `mos` is in score units.

    Attributes:
        mean: MOS on the raters' scale.
        sd: Standard deviation of its ratings (n - 1) on the raters' scale; NaN with one rating.
        mos_sd: The same in score units.
        num_ratings: How many ratings it has.
    """

    mean: float = math.nan
    sd: float = math.nan
    mos_sd: float = math.nan
    num_ratings: int = 1


@dataclass(frozen=True)
class Ratings:
    """What a table of ratings holds.

    Attributes:
        rows: The clips, in the order of their first row.
        matrix: Ratings on the raters' scale, (clips, raters); NaN where a rater did not rate a clip.
        raters: Names of the raters; of the MOS column alone in the form "mos".
        form: "wide" (a column for each rater), "long" (a row for each rating) or "mos" (one column of means, from
            which nothing tells how well the raters agree).
        scale: Of the raters, to score units.
        scale_stated: Whether the caller named it; else it was taken as 1-5, which all ratings fit.
        delimiter: ",", ";" or a tab.
        video_column: Column of the videos' names.
        not_rated: Cells without a rating.
    """

    rows: tuple[RatedClip, ...]
    matrix: np.ndarray
    raters: tuple[str, ...]
    form: str
    scale: MosScale
    scale_stated: bool
    delimiter: str
    video_column: str
    not_rated: int


class _Form(NamedTuple):
    """Where a table holds its ratings: columns of ratings and, in the long form, the one of raters and who counts."""

    kind: str
    columns: tuple[str, ...]
    rater_column: str = ""
    only: tuple[str, ...] = ()


class _Rating(NamedTuple):
    line: int
    clip: int
    rater: str
    value: float | None


def read_ratings(
    path: str | Path,
    video_root: str | Path,
    raters: Sequence[str] | None = None,
    scale: str | tuple[float, float] | None = None,
    video_column: str | None = None,
) -> Ratings:
    """Read a table of ratings: a column for each rater, a row for each rating, or one column of MOS.

    Which columns hold ratings follows from their names and cells: a column of `MOS_COLUMNS` beside no other unknown
    numbers is the MOS; with a column of `RATER_COLUMNS`, every row is one rating; else each column of numbers that is
    none of `NO_RATERS` is a rater. Columns that sum the ratings up (MOS, SD, counts) are not kept as further ones.

    Args:
        path: Text as `read_table` takes it. Empty cells, "NA", "n/a", "-" and "nan" are no ratings.
        video_root: Folder the video names are relative to, see `read_labels`.
        raters: Columns of the raters or, in the long form, the raters that count.
        scale: Lowest and highest rating that raters could give, "LO,HI" or two numbers; a higher one must be better.
            Without it, ratings that all lie in 1-5 are taken as such ones, and others are refused.
        video_column: Column of the videos' names; default the one of `VIDEO_COLUMNS`, else the only one whose cells
            all name files, or most of whose cells look like names of videos.

    Raises:
        LabelError: If the table does not fit: its columns, a cell, a file that is missing, a clip that is listed or
            rated twice, or that nobody rated.
        ValueError: If `scale` is none.
    """
    path, root = Path(path), Path(video_root)
    check_places(path, root, (*SUFFIXES, *SPREADSHEETS), "table of ratings")
    stated = None if scale is None else _stated(scale)
    table, files = read_table(path), VideoFiles(root)
    video = _video_column(table, files, video_column)
    clips, clip_of = _clips(table, video, files)
    form = _form(table, video, raters)
    given = list(_ratings(table, form, clips, clip_of))
    used = stated or _scale_of(table, [rating.value for rating in given if rating.value is not None])
    names = form.only or tuple(dict.fromkeys(rating.rater for rating in given))
    matrix = _matrix(table, form, given, clips, names, used)
    extras = _extras(table, {video, form.rater_column, *form.columns}, clips, clip_of)
    rows = _summed(table, form, clips, extras, matrix, used)
    not_rated = sum(rating.value is None for rating in given)
    return Ratings(rows, matrix, names, form.kind, used, stated is not None, table.delimiter, video, not_rated)


def write_labels(rows: Sequence[RatedClip], path: str | Path) -> None:
    """Write a label file in score units, which `read_labels` reads with the scale `identity`.

    Args:
        rows: The clips. SDs are written in score units, empty where there is none; numbers with six decimals.
        path: The CSV file; its folder is made.
    """
    extras = list(dict.fromkeys(name for row in rows for name in row.extra))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*WRITTEN, *extras))
        for row in rows:
            sd = "" if math.isnan(row.mos_sd) else round(row.mos_sd, DECIMALS)
            further = (row.extra.get(name, "") for name in extras)
            writer.writerow((row.video_id, round(row.mos, DECIMALS), sd, row.num_ratings, *further))


# ---------------------------------------------------------------- columns


def _video_column(table: Table, files: VideoFiles, stated: str | None) -> str:
    if names := [name for name in table.header if name.lower().endswith(VIDEO_SUFFIXES)]:
        raise LabelError(f"{table.path}: the first line names the video {names[0]!r}: put a header above it.")
    if stated is not None:
        if stated not in table.header:
            raise LabelError(
                f"{table.path}: no video column {stated!r}: --video-column must be one of {[*table.header]}."
            )
        return stated
    named = [name for name in table.header if name.lower() in VIDEO_COLUMNS]
    if len(named) == 1:
        return named[0]
    fitting = [name for name in named or table.header if all(_is_there(files, row[name]) for _, row in table.rows)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        if not files.hold_videos():
            raise _no_video(files.root)
        cells = {name: [_is_video(files, row[name]) for _, row in table.rows] for name in named or table.header}
        videos = [name for name, are in cells.items() if sum(are) > len(are) / 2]
        if len(videos) == 1:
            return videos[0]  # those that are missing are told one by one
    found = f"the cells of {' and '.join(fitting)} all do" if fitting else "no column's cells all do"
    raise LabelError(
        f"{table.path}: cannot tell which of the columns {', '.join(table.header)} names files in "
        f"{str(files.root)!r}: {found}. Name it with --video-column, and check the folder."
    )


def _is_there(files: VideoFiles, cell: str) -> bool:
    try:
        return os.path.isfile(files.find(safe_name(cell)))
    except ValueError:
        return False


def _is_video(files: VideoFiles, cell: str) -> bool:
    return cell.lower().endswith(VIDEO_SUFFIXES) or _is_there(files, cell)


def _no_video(root: Path) -> LabelError:
    return LabelError(f"{str(root)!r} holds no video: give the folder of the clips with --videos.")


def _form(table: Table, video: str, raters: Sequence[str] | None) -> _Form:
    others = [name for name in table.header if name != video]
    rater_columns = [name for name in others if name.lower() in RATER_COLUMNS]
    stated = tuple(dict.fromkeys(raters or ()))
    if stated and set(stated) <= set(others):
        return _wide(stated)
    if stated and not rater_columns:
        wrong = [name for name in stated if name not in others]
        raise LabelError(f"{table.path}: no columns {wrong} for --raters; the columns are {others}.")
    numeric = [name for name in others if name.lower() not in NO_RATERS and _holds_ratings(table, name)]
    means = [name for name in numeric if name.lower() in MOS_COLUMNS]
    if rater_columns:
        if len(columns := means or numeric) != 1 or len(rater_columns) != 1:
            raise LabelError(
                f"{table.path}: a row for each rating needs one rater column and one rating column; found raters "
                f"{rater_columns}, ratings {columns}. Name the rating column 'score' and remove the others."
            )
        return _Form("long", tuple(columns), rater_columns[0], stated)
    if not numeric:
        raise LabelError(
            f"{table.path}: none of the columns {others} holds ratings (numbers): name the rating columns with "
            "--raters."
        )
    if means and len(numeric) > 1:
        rest = [name for name in numeric if name not in means] or means[1:]
        raise LabelError(
            f"{table.path}: {means[0]!r} looks like the MOS, and {rest} hold numbers too. Say which are the ratings: "
            f"--raters {means[0]} or --raters {','.join(rest)}."
        )
    return _wide(tuple(numeric))


def _wide(columns: tuple[str, ...]) -> _Form:
    only_mos = len(columns) == 1 and columns[0].lower() in MOS_COLUMNS
    return _Form("mos" if only_mos else "wide", columns, only=columns)


def _holds_ratings(table: Table, column: str) -> bool:
    """Whether all cells are numbers or none; a column of numbers with another cell is taken for a mistake."""
    numbers, wrong = 0, list[tuple[int, str]]()
    for line, row in table.rows:
        try:
            numbers += table.number(row[column]) is not None
        except ValueError as error:
            wrong.append((line, str(error)))
    if wrong and numbers > len(wrong):
        line, reason = wrong[0]
        raise LabelError(
            f"{table.place(line)}: column {column!r} holds numbers, but {reason} Correct it, or name the rating "
            "columns with --raters."
        )
    return numbers > 0 and not wrong


# ---------------------------------------------------------------- rows


def _clips(table: Table, video: str, files: VideoFiles) -> tuple[list[LabelRow], list[int]]:
    """The clips in the order of their first row, labels still NaN, and the clip of each row."""
    clips: dict[str, LabelRow] = {}
    rows: list[str] = []
    missing: dict[str, int] = {}
    for line, record in table.rows:
        try:
            name = safe_name(record[video])
            file = str(files.find(name))
        except ValueError as error:
            raise LabelError(f"{table.place(line)}: {error}") from None
        if file not in clips and not os.path.isfile(file):
            missing[name] = line
        clips.setdefault(file, LabelRow(file, name, math.nan))
        rows.append(file)
    if missing:
        raise _missing(table, video, missing, len(clips), files.root)
    places = {file: place for place, file in enumerate(clips)}
    return list(clips.values()), [places[file] for file in rows]


def _missing(table: Table, video: str, missing: dict[str, int], total: int, root: Path) -> LabelError:
    line, name = next((line, name) for name, line in missing.items())
    if all(table.is_number(row[video]) for _, row in table.rows):
        return LabelError(
            f"{table.place(line)}: the column {video!r} should name videos but holds numbers ({name!r}), which are not "
            f"files in {str(root)!r}: the columns look swapped. Name the right one of {', '.join(table.header)} with "
            "--video-column."
        )
    if not VideoFiles(root).hold_videos():
        return _no_video(root)
    shown = _shown(f"{name!r} (line {line})" for name, line in missing.items())
    fix = (
        ("name the folder that the video names are relative to")
        if len(missing) == total
        else "add the files, or remove their rows"
    )
    return LabelError(f"{table.path}: {len(missing)} of {total} videos are not in {str(root)!r}: {shown}; {fix}.")


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:EXAMPLES]) + (", ..." if len(listed) > EXAMPLES else "")


def _ratings(table: Table, form: _Form, clips: list[LabelRow], clip_of: list[int]) -> Iterator[_Rating]:
    """Every cell for a rating, of the raters that count."""
    seen: set[str] = set()
    for (line, record), clip in zip(table.rows, clip_of, strict=True):
        for column in form.columns:
            rater = record[form.rater_column] if form.rater_column else column
            if not rater:
                raise LabelError(f"{table.place(line)}: the column {form.rater_column!r} is empty: name the rater.")
            seen.add(rater)
            if form.only and rater not in form.only:
                continue
            try:
                yield _Rating(line, clip, rater, table.number(record[column]))
            except ValueError as error:
                raise LabelError(f"{table.place(line)}: column {column!r}: {error}") from None
    if unknown := [name for name in form.only if name not in seen]:
        raise LabelError(f"{table.path}: no raters {unknown} for --raters; the raters are {_shown(sorted(seen))}.")


def _matrix(
    table: Table, form: _Form, given: list[_Rating], clips: list[LabelRow], raters: Sequence[str], scale: MosScale
) -> np.ndarray:
    """(clips, raters), NaN where there is no rating."""
    matrix = np.full((len(clips), len(raters)), np.nan)
    place_of = {rater: place for place, rater in enumerate(raters)}
    first: dict[tuple[int, str], int] = {}
    for line, clip, rater, value in given:
        before = first.setdefault((clip, rater), line)
        if before != line:
            video = clips[clip].video_id
            what = f"rater {rater!r} rates {video!r} twice" if form.rater_column else f"video {video!r} is listed twice"
            raise LabelError(f"{table.place(line)}: {what}, on lines {before} and {line}: keep one of them.")
        if value is None:
            continue
        if not scale.low <= value <= scale.high:
            raise LabelError(
                f"{table.place(line)}: rating {value:g} of {rater!r} is outside the raters' scale {scale.low:g} to "
                f"{scale.high:g}: correct it, or give the scale that they used with --scale LO,HI."
            )
        matrix[clip, place_of[rater]] = value
    if without := [clips[place].video_id for place in np.flatnonzero(np.isnan(matrix).all(axis=1))]:
        told = counted(len(without), "clip has", "clips have")
        raise LabelError(f"{table.path}: {told} no rating: {_shown(without)}; leave their rows out.")
    return matrix


def _extras(table: Table, taken: set[str], clips: list[LabelRow], clip_of: list[int]) -> list[dict[str, str]]:
    """Further columns of each clip. In the long form, those whose cells are the same in all of its rows."""
    extras: list[dict[str, str]] = [{} for _ in clips]
    for column in table.header:
        name = column.lower()
        if column in taken or name in (*WRITTEN, *MOS_COLUMNS, *SD_COLUMNS, *COUNT_COLUMNS):
            continue
        cells: list[dict[str, int]] = [{} for _ in clips]
        for (line, record), clip in zip(table.rows, clip_of, strict=True):
            cells[clip].setdefault(record[column], line)
        several = [(row, own) for row, own in zip(clips, cells, strict=True) if len(own) > 1]
        if several and name in OF_A_CLIP:
            row, own = several[0]
            raise LabelError(
                f"{table.path}: the rows of {row.video_id!r} differ in {column!r}: {[*own]}; a clip has one value. "
                "Correct the others."
            )
        if not several and any(cell for own in cells for cell in own):
            for extra, own in zip(extras, cells, strict=True):
                extra[name if name in OF_A_CLIP else column] = next(iter(own))
    return extras


def _summed(
    table: Table, form: _Form, clips: list[LabelRow], extras: list[dict[str, str]], matrix: np.ndarray, scale: MosScale
) -> tuple[RatedClip, ...]:
    """Mean, SD and number of each clip's ratings; of a table of MOS, the latter two as it states them."""
    rows = []
    for place, (clip, extra) in enumerate(zip(clips, extras, strict=True)):
        values = matrix[place][~np.isnan(matrix[place])]
        # The mean of equal numbers may be off by the last bit, beyond the scale's end.
        mean = float(np.clip(values.mean(), scale.low, scale.high))
        sd, count = float(values.std(ddof=1)) if len(values) > 1 else math.nan, len(values)
        if form.kind == "mos":
            sd = _said(table, place, SD_COLUMNS, math.nan)
            count = int(_said(table, place, COUNT_COLUMNS, 1))
        row = RatedClip(
            clip.video, clip.video_id, scale(mean), extra, mean=mean, sd=sd, mos_sd=sd * scale.factor, num_ratings=count
        )
        try:
            distortions_of(row)
        except ValueError as error:
            raise LabelError(f"{table.path}, {row.video_id!r}: {error}") from None
        rows.append(row)
    return tuple(rows)


def _said(table: Table, row: int, columns: Sequence[str], default: float) -> float:
    """What a table of MOS, one row a clip, says in the first of these columns; the default where it says nothing."""
    line, record = table.rows[row]
    for column in table.header:
        if column.lower() in columns:
            try:
                value = table.number(record[column])
            except ValueError as error:
                raise LabelError(f"{table.place(line)}: column {column!r}: {error}") from None
            if value is not None and value < 0:
                raise LabelError(f"{table.place(line)}: column {column!r}: {value:g} is below 0; correct it.")
            return default if value is None else value
    return default


# ---------------------------------------------------------------- scale


def _stated(scale: str | tuple[float, float]) -> MosScale:
    text = scale if isinstance(scale, str) else ",".join(map(repr, scale))
    ends = _RANGE.fullmatch(text.strip())
    try:
        found = mos_scale(f"linear:{text}")
    except ValueError:
        found = None
    if found is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        fix = "e.g. 1,10; if lower ratings are better, invert them in the table."
        if ends and float(ends[1]) < float(ends[2]):
            fix = f"write {ends[1]},{ends[2]}."
        raise ValueError(
            f"--scale {text!r} must be the lowest and the highest rating that raters could give, LO,HI with LO < HI: "
            f"{fix}"
        )
    return found


def _scale_of(table: Table, values: list[float]) -> MosScale:
    """1-5 if all ratings fit it; nothing else is guessed."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    if low >= 1 and high <= 5:
        return mos_scale("linear:1,5")
    example = next((f"{a},{b}" for a, b in EXAMPLE_SCALES if a <= low and high <= b), "LO,HI")
    raise LabelError(
        f"{table.path}: ratings from {low:g} to {high:g}: give the scale that the raters used, e.g. --scale {example}."
    )

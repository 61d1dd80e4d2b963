"""Tables of streaming sets: Waterloo SQoE-I to -IV as published with KSQI, and LIVE-NFLX-II. Their stalls become the
column `stalls`, their contents the column `source`.

Waterloo: `data.csv` with the columns `streaming_log` (`0001.csv`), `mos` (0-100), `content`, and beside it the folder
`streaming_logs`, whose files have a row for each segment: `rebuffering_duration`, the seconds that playback waits for
it, those of the first one being the start-up delay; and `chunk_duration`, the seconds it plays
(github.com/zduanmu/ksqi).

LIVE-NFLX-II: one .mat file for each clip, of which `live_nflx_table` makes a table with its fields as columns:
`distorted_mp4_video`, `retrospective_zscored_mos`, `content_name`, `frame_rate` and `is_rebuffered_bool`, a 0 or 1 for
each frame (the set's README).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from vqathinker.data.files import safe_name
from vqathinker.data.formats import LabelError, RawRow, number_of
from vqathinker.data.stalls import COLUMN, Stalls
from vqathinker.data.tables import read_table

LOG = "streaming_log"
FRAMES = "is_rebuffered_bool"
CONTENT = {LOG: "content", FRAMES: "content_name"}
"""Column that tells a table's kind -> column of the clip's source."""
LIVE_COLUMNS = ("distorted_mp4_video", "retrospective_zscored_mos", "content_name", "frame_rate", FRAMES)


def is_streaming(header: Sequence[str]) -> bool:
    """Whether a table's header is that of a streaming set whose stalls are not in a column of ours."""
    return (LOG in header or FRAMES in header) and COLUMN not in header


def streaming_rows(path: Path, video_column: str, mos_column: str) -> Iterator[RawRow]:
    """The rows of such a table, with the further columns `stalls` and, where its content is told, `source`.

    A Waterloo clip without a column for the video is named like its log, without the suffix: `0001.csv` stands for
    `0001.mp4`, or what other video file of this name there is.

    Args:
        path: The table.
        video_column: Column of the video name; where there is none, `streaming_log` or LIVE-NFLX-II's own.
        mos_column: Column of the label; where there is none, LIVE-NFLX-II's own.

    Raises:
        LabelError: If a column is missing, or a log or row does not fit.
    """
    table = read_table(path)
    kind = LOG if LOG in table.header else FRAMES
    video = video_column if video_column in table.header else LOG if kind == LOG else LIVE_COLUMNS[0]
    label = mos_column if kind == LOG or mos_column in table.header else LIVE_COLUMNS[1]
    needed = [video, label, kind, *(["frame_rate"] if kind == FRAMES else [])]
    if missing := [name for name in needed if name not in table.header]:
        raise LabelError(f"{path}: no column {' or '.join(missing)}; the columns are {', '.join(table.header)}.")
    for line, cells in table.rows:
        try:
            stalls = (
                stalls_of_log(_log(path, cells[LOG]))
                if kind == LOG
                else stalls_of_frames(cells[FRAMES], _number("frame_rate", cells["frame_rate"]))
            )
        except LabelError:
            raise
        except ValueError as error:
            raise LabelError(f"{table.place(line)}: {error}") from None
        name = str(PurePosixPath(cells[LOG]).with_suffix("")) if video == LOG else cells[video]
        source = {"source": cells[CONTENT[kind]]} if cells.get(CONTENT[kind]) else {}
        further = {key: cell for key, cell in cells.items() if key not in (video, label, FRAMES)}
        yield RawRow(table.place(line), name, cells[label], source | further | {COLUMN: stalls.to_json()})


def stalls_of_log(path: Path) -> Stalls:
    """Stalls of a Waterloo streaming log, in seconds of the clip with its start-up delay and stalls in it.

    Raises:
        LabelError: If it cannot be read, or lacks a column.
    """
    table = read_table(path)
    if missing := [name for name in ("rebuffering_duration", "chunk_duration") if name not in table.header]:
        raise LabelError(f"{path}: no column {' or '.join(missing)}; the columns are {', '.join(table.header)}.")
    now, startup, stalls = 0.0, 0.0, list[tuple[float, float]]()
    for number, (line, cells) in enumerate(table.rows):
        try:
            waits = _number("rebuffering_duration", cells["rebuffering_duration"])
            plays = _number("chunk_duration", cells["chunk_duration"])
        except ValueError as error:
            raise LabelError(f"{table.place(line)}: {error}") from None
        if number == 0:
            startup = waits
        elif waits:
            stalls.append((now, waits))
        now += waits + plays
    return Stalls(tuple(stalls), startup, now)


def stalls_of_frames(digits: str, fps: float) -> Stalls:
    """Stalls of a 0 or 1 for each frame, 1 where it is a stall's; those at the beginning are the start-up delay.

    Args:
        digits: E.g. `0 0 1 1`, `[0, 0, 1, 1]` or `0011`.
        fps: Frames per second.

    Raises:
        ValueError: If something else than digits, spaces, commas and brackets is there, or no digit.
    """
    bare = digits.translate(str.maketrans("", "", " ,;[]\n\t"))
    if not bare or set(bare) - {"0", "1"}:
        raise ValueError(f"{FRAMES} {digits!r:.60} must hold a 0 or 1 for each frame.")
    frame, startup, stalls = 0, 0.0, list[tuple[float, float]]()
    for digit, run in groupby(bare):
        count = len(list(run))
        if digit == "1" and frame == 0:
            startup = count / fps
        elif digit == "1":
            stalls.append((frame / fps, count / fps))
        frame += count
    return Stalls(tuple(stalls), startup, frame / fps, fps)


def live_nflx_table(folder: str | Path, out: str | Path) -> int:
    """Write LIVE-NFLX-II's .mat files (of DatasetInformation.zip) as one table, which `read_labels` reads with a
    scale for its z-scores: `linear:-2.5,2.5`.

    Args:
        folder: Holds them.
        out: The table, `.csv`.

    Returns:
        Number of clips.

    Raises:
        LabelError: If there are none, or one cannot be read or lacks a field.
    """
    files = sorted(Path(folder).glob("*.mat"))
    if not files:
        raise LabelError(f"{folder} holds no .mat file: name the folder with one for each clip.")
    rows = [_live_row(file, _fields_of(file)) for file in files]
    with Path(out).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LIVE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _fields_of(file: Path) -> Mapping[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(file, squeeze_me=True)
    except (MatReadError, NotImplementedError, ValueError, TypeError) as error:  # of these, version 7.3 is the second
        raise LabelError(
            f"{file} cannot be read ({error}): it must be a .mat file of a version before 7.3. Download it again, or "
            "save it so in MATLAB (save -v7)."
        ) from None


def _live_row(file: Path, fields: Mapping[str, Any]) -> dict[str, str]:
    if missing := [name for name in LIVE_COLUMNS if name not in fields]:
        raise LabelError(f"{file}: no field {', '.join(missing)}; is it of LIVE-NFLX-II?")
    row = {name: str(fields[name]) for name in LIVE_COLUMNS}
    return row | {FRAMES: "".join(str(int(value)) for value in fields[FRAMES].ravel())}


def _log(table: Path, name: str) -> Path:
    """A streaming log, in the folder `streaming_logs` beside the table or beside the table itself."""
    places = [table.parent / "streaming_logs" / safe_name(name), table.parent / safe_name(name)]
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"the streaming log {name!r} is missing: looked for {places[0]} and {places[1]}.")


def _number(name: str, cell: str | None) -> float:
    try:
        value = number_of(cell)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    if value < 0 or (value == 0 and name != "rebuffering_duration"):
        raise ValueError(f"{name} {value:g} must be {'at least' if name == 'rebuffering_duration' else 'above'} 0.")
    return value

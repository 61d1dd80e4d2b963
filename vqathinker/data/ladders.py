"""Ladder tables: encodes of which only an order is known, one per row, as `vqathinker synth --ladder` writes them."""

from __future__ import annotations

from pathlib import Path

from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import LabelError
from vqathinker.data.labels import rung_of
from vqathinker.data.sample import Sample
from vqathinker.data.tables import read_table

COLUMNS = ("video", "ladder", "rank")
"""What a ladder table must have."""


def read_ladders(path: str | Path) -> list[Sample]:
    """Read a ladder table: rungs that are asked for a score and have an order, but no label.

    Args:
        path: A `.csv` file with the columns `video` (relative to the file), `ladder` (what can be ordered: one source,
            codec and resolution) and `rank` (a number, higher is worse: the CRF). Further columns are not read, but for
            `source`: labels such as `mos` and `vmaf` count only in a label file, see `read_labels`.

    Returns:
        One sample per row in file order, of the task "score", named `LADDER: VIDEO`; its target is `ladder`, `rank`
        and, where the table has one, `source`.

    Raises:
        LabelError: If the file is missing, empty or lacks a column, a row does not fit, or a video is there twice.
    """
    path = Path(path)
    check_places(path, path.parent, [".csv"], "ladder table")
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.header]:
        raise LabelError(
            f"{path}: no column {' or '.join(missing)}; the columns are {', '.join(table.header)}. A ladder table "
            f"needs {', '.join(COLUMNS)}, as `vqathinker synth --ladder` writes them."
        )
    files, samples, places = VideoFiles(path.parent), list[Sample](), dict[str, str]()
    for line, cells in table.rows:
        place = table.place(line)
        try:
            name = safe_name(cells["video"])
            video, rung = str(files.find(name)), rung_of(cells)
            if rung is None:
                raise ValueError("the row has neither ladder nor rank: give both, or remove it.")
        except ValueError as error:
            raise LabelError(f"{place}: {error}") from None
        if video in places:
            raise LabelError(f"{place}: {name!r} is listed at {places[video]} too: keep one of them.")
        places[video] = place
        ladder, rank = rung
        target = {"ladder": ladder, "rank": rank} | ({"source": cells["source"]} if "source" in table.header else {})
        samples.append(Sample(f"{ladder}: {name}", "score", (video,), target=target))
    return samples

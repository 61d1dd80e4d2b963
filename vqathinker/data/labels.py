"""Reading label files into rows: names checked and found on disk, labels brought to scale."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import READERS, LabelError, number_of
from vqathinker.data.scales import MosScale, mos_scale
from vqathinker.data.stalls import COLUMN, Stalls, stalls_at
from vqathinker.rewards.distortion import parse_distortions
from vqathinker.wording import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelRow:
    """One labelled clip.

    Attributes:
        video: Path of the file, below the video root.
        video_id: Its name as written in the label file, with "/" separators; names its group in training.
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


def stalls_of(row: LabelRow) -> Stalls | None:
    """When playback of a clip stood still, from the CSV column `stalls`; `None` where it does not tell.

    Raises:
        ValueError: If the cell, or the file beside the clip that it refers to, is no list of stalls.
    """
    return stalls_at(row.extra.get(COLUMN), row.video)


def rung_of(cells: Mapping[str, str]) -> tuple[str, float] | None:
    """Ladder and rank of a row, of the CSV columns `ladder` and `rank`; `None` where the row is no rung.

    Args:
        cells: The row's cells by column. A column `rank` without a column `ladder` is somebody's own.

    Raises:
        ValueError: If there is one of the two only, or the rank is no finite number.
    """
    if "ladder" not in cells:
        return None
    ladder, rank = cells["ladder"].strip(), cells.get("rank", "").strip()
    if not (ladder or rank):
        return None
    if not (ladder and rank):
        raise ValueError(
            f"the row has ladder {ladder!r} and rank {rank!r}: a rung needs both, the rank as a number that is higher "
            "for a worse clip (its CRF); a row that is no rung leaves both empty."
        )
    try:
        return ladder, number_of(rank)
    except ValueError as error:
        raise ValueError(f"rank {error}") from None


def columns_of(row: LabelRow) -> dict[str, Any]:
    """A label row's further columns as rewards get them: as text, but for `rank`, a number; `ladder` and `rank` are
    `None` where the row is no rung.

    Raises:
        ValueError: As `rung_of`.
    """
    if "ladder" not in row.extra:
        return dict(row.extra)
    ladder, rank = rung_of(row.extra) or (None, None)
    return {**row.extra, "ladder": ladder, "rank": rank}


def read_labels(
    path: str | Path,
    video_root: str | Path,
    scale: str | MosScale,
    video_column: str = "video",
    mos_column: str = "mos",
) -> list[LabelRow]:
    """Read a label file. The format follows from the suffix, that of a `.json` file from its keys.

    `.jsonl` (VQAThinker training), `.json` (VQAThinker test, Q-Align, VQA²), `.txt` (DOVER, FAST-VQA) or `.csv`; and
    what somebody's own reader in `READERS` reads.

    Args:
        path: The label file; UTF-8 with or without BOM, LF or CRLF.
        video_root: Folder the video names are relative to. A name that leaves it is refused. One without an extension
            stands for the one video file that has it, and a composed accent for a decomposed one or the reverse.
        scale: MOS scale or its name, see `mos_scale`; `NATIVE` for labels as they are.
        video_column: CSV column of the video name.
        mos_column: CSV column of the label.

    Returns:
        One row per video in file order; a video that is not there keeps its name. One listed twice with one label is
        kept once, with a warning.

    Raises:
        LabelError: If the file is missing, empty, of unknown format, or a line does not fit; so with a CSV whose
            `kind` and `severity` columns are no distortion labels (see `distortions_of`), whose `ladder` and `rank`
            name no rungs (see `rung_of`); and where `stalls` are none (see `stalls_of`).
    """
    path = Path(path)
    check_places(path, Path(video_root), list(READERS), "label file")
    scale = mos_scale(scale) if isinstance(scale, str) else scale

    files = VideoFiles(Path(video_root))
    rows: dict[str, LabelRow] = {}
    repeated = 0
    for place, video, label, extra in READERS[path.suffix.lower()](path, video_column, mos_column):
        try:
            video_id = safe_name(video)
            row = LabelRow(str(files.find(video_id)), video_id, scale(_number(label)), dict(extra))
            distortions_of(row)
            rung_of(row.extra)
            if (stalls := stalls_of(row)) is not None:
                row.extra[COLUMN] = stalls.to_json()
        except ValueError as error:
            raise LabelError(f"{place}: {error}") from None
        known = rows.setdefault(row.video, row)
        if known is not row:
            repeated += 1
            if known.mos != row.mos:
                raise LabelError(
                    f"{place}: {video_id!r} is listed twice, with MOS {known.mos} and {row.mos}. Keep one of them."
                )
            if stalls_of(known) != stalls:
                raise LabelError(
                    f"{place}: {video_id!r} is listed twice, with other stalls. Keep one of them; rows of a question "
                    "file with an 'id' each can tell a clip's stalls in two wordings."
                )
            rungs = [rung_of(listed.extra) for listed in (known, row)]
            if rungs[0] != rungs[1]:
                raise LabelError(
                    f"{place}: {video_id!r} is listed twice, with ladder and rank {rungs[0]} and {rungs[1]}: a clip is "
                    "one rung of one ladder. Keep one of them."
                )
    if not rows:
        raise LabelError(f"label file {str(path)!r} lists no videos.")
    if repeated:
        rows_repeat = counted(repeated, "row repeats", "rows repeat")
        logger.warning("%s: %s a video with the same label: dropped.", path, rows_repeat)
    return list(rows.values())


def _number(label: Any) -> float:
    try:
        return number_of(label)
    except ValueError as error:
        raise ValueError(f"label {error}") from None

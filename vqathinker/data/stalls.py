"""Stalls of a streamed clip: when playback stood still, for how long, and how a prompt tells it in words (VQA²)."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vqathinker.clips import ClipError
from vqathinker.data.files import VideoFiles, safe_name
from vqathinker.data.formats import LabelError, load_json, number_of
from vqathinker.data.tables import read_table
from vqathinker.wording import counted, did_you_mean

logger = logging.getLogger(__name__)

COLUMN = "stalls"
"""Column of label tables, and key of question files."""
SIDECAR = "sidecar"
"""What stands in the column for a clip whose stalls are in a file beside it, see `sidecar_of`."""
KEYS = ("stalls", "startup", "duration", "fps", "wording")
WORDINGS = ("summary", "frames")
"""`summary`: counts and seconds in a sentence. `frames`: a digit for each frame, 1 where playback stands still."""
LENGTHS_DIFFER = 0.5
"""Seconds between the length that is told of a clip and that of its file from which on a warning says so."""
TOLERANCE = 0.05
"""Seconds by which a stall may reach beyond the clip's end, as times are rounded."""
SLACK = 1e-3
"""Seconds by which a stall may begin before the one before it is over, as `Stalls.to_json` rounds both."""
FORMS = (
    "[[start, duration], ...] in seconds of the clip, [] for playback without a stall, or an object "
    '{"stalls": [[4.0, 2.0]], "startup": 1.0, "duration": 20.0, "fps": 24, "wording": "summary"} of which every key '
    "may be left out"
)


@dataclass(frozen=True)
class Stalls:
    """When playback of a clip stood still. Times are seconds of the clip as its file shows it, stalls included.

    Attributes:
        stalls: Start and duration of each, ascending, none overlapping another.
        startup: Start-up delay: seconds at the clip's beginning before playback sets in.
        duration: Seconds of the whole clip; `None`: the file tells it.
        fps: Frames per second; `None`: the file tells it.
        wording: How a prompt tells them, one of `WORDINGS`.

    Raises:
        ValueError: If a time is negative or not finite, a stall has no duration, begins before the one before it (or
            the start-up) is over or ends after the clip, or the wording is unknown.

    Example:
        >>> Stalls(((4.0, 2.0), (9.0, 3.5)), startup=1.0, duration=20.0).text()
        'Stalling: 2 stalls of 2.0 s and 3.5 s, 28 % of 20.0 s; start-up 1.0 s; 7.5 s played after the last stall.'
    """

    stalls: tuple[tuple[float, float], ...] = ()
    startup: float = 0.0
    duration: float | None = None
    fps: float | None = None
    wording: str = WORDINGS[0]

    def __post_init__(self) -> None:
        for name, value in (("startup", self.startup), ("duration", self.duration), ("fps", self.fps)):
            least_in = value is None or (math.isfinite(value) and (value > 0 or (value == 0 and name == "startup")))
            if not least_in:
                raise ValueError(
                    f"{name} {value:g} must be a finite number {'of at least' if name == 'startup' else 'above'} 0."
                )
        if self.wording not in WORDINGS:
            raise ValueError(f"wording {self.wording!r} is unknown: must be one of {WORDINGS}.")
        over, before = self.startup, "the start-up delay"
        for start, duration in self.stalls:
            own = f"the stall at {start:g} s for {duration:g} s"
            if not (math.isfinite(start) and math.isfinite(duration) and duration > 0):
                raise ValueError(f"{own} must have finite times and a duration above 0, in seconds.")
            if start < over - SLACK:
                raise ValueError(
                    f"{own} begins before {before} is over, at {over:g} s: sort stalls by their start, join those that "
                    "overlap, and count seconds of the clip with its stalls and start-up delay in it."
                )
            over, before = start + duration, own
        if self.duration is not None and over > self.duration + TOLERANCE:
            raise ValueError(
                f"{before} ends at {over:g} s, behind the clip's end at {self.duration:g} s: times are seconds of the "
                "clip with its stalls in it. Correct the times, or name the clip that they belong to."
            )

    @property
    def total(self) -> float:
        """Seconds of all stalls together, without the start-up delay."""
        return math.fsum(duration for _, duration in self.stalls)

    def of_clip(self, duration: float, fps: float) -> Stalls:
        """The same, with the length and rate of the clip where they were left open.

        Raises:
            ValueError: If a stall ends after the clip.
        """
        return replace(
            self,
            duration=duration if self.duration is None else self.duration,
            fps=fps if self.fps is None else self.fps,
        )

    def digits(self) -> str:
        """A digit for each frame: 1 where playback stands still at the frame's middle, in a stall or before the start.

        Raises:
            ValueError: If length or rate are not known.
        """
        if self.duration is None or self.fps is None:
            raise ValueError(
                f"wording 'frames' needs the clip's duration and fps, which are {self.duration} and {self.fps}: the "
                'file does not tell them. Give both ("duration", "fps"), or use the wording "summary".'
            )
        still = ((0.0, self.startup), *self.stalls)
        middles = ((frame + 0.5) / self.fps for frame in range(max(1, round(self.duration * self.fps))))
        return "".join("01"[any(start <= t < start + long for start, long in still)] for t in middles)

    def text(self) -> str:
        """What a prompt says before its question. The published wordings are not known to the letter; what they tell is
        (VQA²: docs/streaming.md).

        Of a clip whose length is not known, the summary leaves out what depends on it.
        """
        if self.wording == "frames":
            return f"Stalling by frame, 1 where playback stands still: {self.digits()}."
        seconds = [f"{duration:.1f} s" for _, duration in self.stalls]
        listed = " and ".join([", ".join(seconds[:-1]), seconds[-1]] if len(seconds) > 1 else seconds)
        said = f"{counted(len(seconds), 'stall')} of {listed}" if seconds else "no stall"
        if self.duration is not None:
            share = f", {100 * self.total / self.duration:.0f} % of" if seconds else " in"
            said += f"{share} {self.duration:.1f} s"
        parts = [said, f"start-up {self.startup:.1f} s"]
        if seconds and self.duration is not None:
            after = max(0.0, self.duration - sum(self.stalls[-1]))
            parts.append(f"{after:.1f} s played after the last stall")
        return f"Stalling: {'; '.join(parts)}."

    def to_json(self) -> str:
        """As it stands in a table's column: a list where that says all, else an object."""
        events = [[round(start, 4), round(duration, 4)] for start, duration in self.stalls]
        further = {"startup": round(self.startup, 4), "duration": self.duration, "fps": self.fps}
        known: dict[str, Any] = {key: value for key, value in further.items() if value}
        if self.wording != WORDINGS[0]:
            known["wording"] = self.wording
        return json.dumps({COLUMN: events} | known if known else events)


def parse_stalls(value: Any) -> Stalls | None:
    """Stalls as tables and JSON files hold them.

    Args:
        value: `Stalls`, one of `FORMS`, or its text as JSON; `None` or "" where nothing is known, which is not `[]`, no
            stall.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = load_json(COLUMN, value)
        except json.JSONDecodeError as error:
            raise ValueError(f"stalls {value!r:.80} is not valid JSON ({error}): write {FORMS}.") from None
    if value is None or isinstance(value, Stalls):
        return value
    given = dict(value) if isinstance(value, Mapping) else {COLUMN: value}
    for key in given:
        if key not in KEYS:
            raise ValueError(f"stalls: key {key!r} is unknown: {did_you_mean(str(key), KEYS, f'known are {KEYS}.')}")
    events = [] if given.get(COLUMN) is None else given[COLUMN]
    pairs = isinstance(events, list | tuple) and all(isinstance(e, list | tuple) and len(e) == 2 for e in events)
    if not pairs or not isinstance(given.get("wording", ""), str):
        raise ValueError(f"stalls {value!r:.120} must be {FORMS}.")
    try:
        times = tuple((number_of(start), number_of(duration)) for start, duration in events)
        known: dict[str, Any] = {key: number_of(given[key]) for key in KEYS[1:4] if given.get(key) is not None}
    except ValueError as error:
        raise ValueError(f"stalls {value!r:.120}: {error}") from None
    return Stalls(times, **known, wording=given.get("wording") or WORDINGS[0])


def sidecar_of(video: str | Path) -> Path:
    """The file beside a clip that holds its stalls: `clip.mp4` -> `clip.stalls.json`."""
    return Path(video).with_suffix(".stalls.json")


def read_sidecar(path: str | Path) -> Stalls:
    """A JSON file with the stalls of one clip.

    Raises:
        LabelError: If it cannot be read, or holds something else.
    """
    try:
        found = parse_stalls(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LabelError(f"{path} cannot be read ({error.strerror}): write the clip's stalls there.") from None
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from None
    if found is None:
        raise LabelError(f"{path} is empty: write {FORMS}.")
    return found


def stalls_at(cell: Any, video: str | Path) -> Stalls | None:
    """What a table's cell says of a clip: its stalls, or that they stand in the file beside it.

    Args:
        cell: As `parse_stalls`, or `SIDECAR`.
        video: The clip's file.

    Raises:
        ValueError: As `parse_stalls` and `read_sidecar`.
    """
    if isinstance(cell, str) and cell.strip() == SIDECAR:
        return read_sidecar(sidecar_of(video))
    return parse_stalls(cell)


def complete(stalls: Stalls, video: str | Path | None) -> Stalls:
    """The same, with the clip's length and rate from its file, where they are needed and were left open. A length that
    was told and is not the file's is kept, and a warning says so.

    Args:
        stalls: A clip's stalls.
        video: Its file; `None`, or one that cannot be read, tells nothing.

    Raises:
        ValueError: If a stall ends after the clip.
    """
    if not video:
        return stalls
    from vqathinker.clips import open_clip  # needs PyAV

    try:
        clip = open_clip(video)
        if not clip.fps > 0:
            return stalls
        seconds = clip.num_frames / clip.fps
        if stalls.duration is not None and abs(stalls.duration - seconds) > LENGTHS_DIFFER:
            _warn_of_length(str(video), stalls.duration, seconds)
        told = stalls.duration is not None and (stalls.fps is not None or stalls.wording == WORDINGS[0])
        return stalls if told else stalls.of_clip(seconds, clip.fps)
    except ClipError:
        return stalls
    except ValueError as error:
        raise ValueError(f"{video}: {error}") from None


@cache  # once for each clip, not for each prompt
def _warn_of_length(video: str, told: float, seconds: float) -> None:
    logger.warning(
        "%s: its stalls are told with a duration of %g s, but the file has %.1f s. Correct one of them, or leave the "
        "duration out.",
        *(video, told, seconds),
    )


def stall_text(stalls: Stalls | None, video: str | Path | None = None) -> str:
    """What a prompt says of a clip's stalls; "" where nothing is known.

    Args:
        stalls: Its stalls.
        video: Its file, see `complete`. One that cannot be read is left out by training and scoring, with its prompt.

    Raises:
        ValueError: If a stall ends after the clip, or the wording needs what is not known.
    """
    if stalls is None:
        return ""
    known = complete(stalls, video)
    if video and None in (known.duration, known.fps) and known.wording == "frames":
        known = replace(known, wording=WORDINGS[0])
    return known.text()


def read_events(source: str | Path, videos: Sequence[str]) -> dict[str, Stalls]:
    """The stalls of clips, of those that are told.

    Args:
        source: `SIDECAR`: the files beside the clips (`sidecar_of`). Else a table with the columns `video`, relative to
            its folder, and `stalls`; or the `.json` file of one clip.
        videos: The clips' paths.

    Returns:
        Path -> stalls, complete.

    Raises:
        LabelError: If the file cannot be read or does not fit, or none of the clips is told of.
        ValueError: If a stall ends after its clip.
    """
    path, found = Path(source), dict[str, Stalls]()
    if str(source) == SIDECAR:
        found = {video: read_sidecar(sidecar_of(video)) for video in videos if sidecar_of(video).is_file()}
        missing = f"none of {counted(len(videos), 'clip')} has a file {sidecar_of('clip.mp4')} beside it"
    elif path.suffix.lower() == ".json":
        if len(videos) != 1:
            raise LabelError(
                f"{path} holds the stalls of one clip, but there are {len(videos)}: give a table with the columns "
                f"'video' and 'stalls', or {SIDECAR!r} for a file beside each clip."
            )
        found = {videos[0]: read_sidecar(path)}
    else:
        told = _told(path)
        found = {video: told[key] for video in videos if (key := Path(video).resolve()) in told}
        missing = f"{path} names none of {counted(len(videos), 'clip')}; names are relative to its folder"
    if not found:
        raise LabelError(f"{missing}. Correct that, or leave the events out.")
    return {video: complete(stalls, video) for video, stalls in found.items()}


def _told(path: Path) -> dict[Path, Stalls]:
    """File -> stalls, of the rows of a table that tell them."""
    if not path.is_file():
        raise LabelError(f"events {str(path)!r}: no such file. Name a table, a clip's .json file, or {SIDECAR!r}.")
    table, files, told = read_table(path), VideoFiles(path.parent), dict[Path, Stalls]()
    if missing := [name for name in ("video", COLUMN) if name not in table.header]:
        raise LabelError(f"{path}: no column {' or '.join(missing)}; the columns are {', '.join(table.header)}.")
    for line, cells in table.rows:
        try:
            file = files.find(safe_name(cells["video"]))
            stalls = stalls_at(cells[COLUMN], file)
            if stalls is not None and told.setdefault(file.resolve(), stalls) != stalls:
                raise ValueError(f"{cells['video']!r} is listed twice, with other stalls. Keep one of them.")
        except ValueError as error:
            raise LabelError(f"{table.place(line)}: {error}") from None
    return told

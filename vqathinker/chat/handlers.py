"""What the page does with clips and questions: plain functions, without a page."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from vqathinker.clips import ClipError, open_clip
from vqathinker.evaluation.plots import plot_timeline
from vqathinker.evaluation.report import key_frames
from vqathinker.policy import ClipInput
from vqathinker.scoring import QualityAnswer, QualityComparison, QualityScore, QualityScorer, fingerprint, settings_of
from vqathinker.scoring.comparing import compare_clips
from vqathinker.scoring.conversation import Turn, ask_again, turn_of
from vqathinker.scoring.table import HEADER, record, table_line
from vqathinker.scoring.timeline import Timeline, score_timeline
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.clips import Clip

KEPT = 4
"""Decoded clips that are kept for the next question."""
REFUSED = "refused"
"""Status of a file of a batch that is larger or longer than the page takes."""


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Attributes:
        megabytes: Size of a file, in units of a million bytes.
        seconds: Length of a clip.
        files: Of a batch.
        pixels: Width times height of a frame.
        frames: Of a clip.
        windows: Of a score over time.

    Raises:
        ValueError: If one is not above 0.
    """

    megabytes: float = 200
    seconds: float = 120
    files: int = 100
    pixels: int = 4096 * 2304
    frames: int = 15_000
    windows: int = 240

    def __post_init__(self) -> None:
        given = asdict(self)
        if not min(given.values()) > 0:
            raise ValueError(f"{', '.join(f'{name}={value}' for name, value in given.items())}: must be above 0.")


@dataclass(frozen=True)
class Looked:
    """A clip as the policy sees it.

    Attributes:
        frames: Key frames with what is seen of them framed, and for each its time.
        text: Size, length, what is done to its frames and what is seen of them.
    """

    frames: list[tuple[Image.Image, str]]
    text: str


class Handlers:
    """What the page can do. The policy is loaded once, and one call of it runs at a time.

    Every wrong input is a `ValueError` (or `OSError`) whose text is a sentence for the page.

    Args:
        scorer: Scores, asks and compares.
        limits: What is taken.
        examples: Clips to pick from.
    """

    def __init__(
        self, scorer: QualityScorer, limits: Limits | None = None, examples: Sequence[str | Path] = ()
    ) -> None:
        self.scorer, self.limits = scorer, limits or Limits()
        root = os.path.commonpath([Path(path).parent for path in examples]) if examples else ""
        self.examples = {os.path.relpath(path, root): str(path) for path in examples}
        self._lock = threading.Lock()
        self._clips: OrderedDict[tuple[str, int], ClipInput] = OrderedDict()

    def look(self, video: str | None) -> Looked:
        """The key frames of a clip, before anything is asked."""
        clip = self._open(video)
        shown = self._load(clip)
        indices = shown.indices.numpy()
        frames, seen = key_frames(clip, indices, self.scorer.processor.seen)
        named = [f"{clip.times[number]:.2f} s" for number in indices.tolist()]
        length = f"{counted(clip.num_frames, 'frame')}, {clip.duration:.1f} s"
        notes = f"; {', '.join(clip.notes)}" if clip.notes else ""
        part = "; the yellow line is around what it sees" if seen is not None and seen.share < 1 else ""
        numbers = ", ".join(map(str, indices.tolist()))
        told = f"{Path(clip.path).name}: {length}{notes}. Key frames {numbers}."
        told += f" The policy {seen.text}{part}." if seen is not None else ""
        return Looked(list(zip(frames, named, strict=True)), told)

    def score(self, video: str | None) -> tuple[QualityScore, list[Turn]]:
        """How good is it? Also the conversation that this begins; none where the read-out gives no answer."""
        clip = self._load(self._open(video))
        with self._lock:
            [result] = self.scorer.score_clips([clip])
        turns = [Turn(self.scorer.processor.question, result.answers[0])] if result.answers else []
        return result, turns

    def ask(
        self, video: str | None, question: str, options: str, turns: Sequence[Turn], alone: bool = False
    ) -> tuple[QualityAnswer, list[Turn]]:
        """An answer to a question, and the conversation with both.

        Args:
            video: The clip.
            question: Without its options.
            options: To choose from, separated by semicolons; "" for an answer in the policy's own words.
            turns: What was said of the clip before.
            alone: Whether the policy is shown the question without it.
        """
        clip = self._load(self._open(video))
        given = [option.strip() for option in options.split(";")] if options.strip() else None
        with self._lock:
            answer = ask_again(self.scorer, clip, () if alone else turns, question, given)
        return answer, [*turns, turn_of(answer)]

    def compare(self, first: str | None, second: str | None) -> QualityComparison:
        """Which of two clips is better?"""
        if not first or not second:
            raise ValueError("there is one clip too few: choose two to compare.")
        clips = {"first": self._load(self._open(first)), "second": self._load(self._open(second))}
        with self._lock:
            [found] = compare_clips(self.scorer, [("first", "second")], clips)
        return replace(found, first=Path(first).name, second=Path(second).name)

    def timeline(
        self, video: str | None, window: float | None, step: float | None, folder: Path
    ) -> tuple[Timeline, Path]:
        """Score over time, and a plot of it in the folder."""
        clip = self._open(video)
        if window is None or step is None:
            raise ValueError("window and step are numbers of seconds: fill in both.")
        if step > 0 and (clip.duration - window) / step + 1 > self.limits.windows:
            raise ValueError(
                f"windows every {step:g} s of {clip.duration:.1f} s are more than the {self.limits.windows} that the "
                "page takes: give a longer step, or use `vqathinker timeline`."
            )
        with self._lock:
            found = score_timeline(self.scorer, clip.path, window, step)
            path = Path(tempfile.mkdtemp(dir=folder)) / f"{Path(clip.path).stem}.png"
            plot_timeline(found, path)  # in the lock, as pyplot keeps track of figures for all threads
        return found, path

    def batch(self, videos: Sequence[str] | None, folder: Path) -> Iterator[tuple[list[dict[str, Any]], Path | None]]:
        """Scores of many files: rows as `vqathinker score --csv` writes them, more of them each time; at last also the
        table, in the folder. A file that cannot be scored has a row that says why."""
        if not videos:
            raise ValueError("there is no file to score: choose some.")
        if len(videos) > self.limits.files:
            raise ValueError(
                f"{len(videos)} files are more than the {self.limits.files} that the page takes at once: choose "
                "fewer, or use `vqathinker score`."
            )
        made_with, rows = fingerprint(settings_of(self.scorer)), list[dict[str, Any]]()
        step = self.scorer.batch_size
        for start in range(0, len(videos), step):
            results = self._score_files(videos[start : start + step])
            rows += [record(one, made_with) | {"video": Path(one.video).name} for one in results]
            yield rows, None
        path = Path(tempfile.mkdtemp(dir=folder)) / "scores.csv"
        path.write_text(",".join(HEADER) + "\n" + "".join(map(table_line, rows)), "utf-8", "surrogateescape")
        yield rows, path

    def _score_files(self, videos: Sequence[str]) -> list[QualityScore]:
        refused = {}
        for video in videos:
            try:
                self._open(video)
            except (ValueError, OSError) as error:
                status = "unreadable" if isinstance(error, ClipError) else REFUSED
                refused[video] = QualityScore(video, math.nan, math.nan, status, error=sentence(error))
        with self._lock:
            taken = [video for video in videos if video not in refused]
            known = {one.video: one for batch in self.scorer.score_many(taken) for one in batch}
        return [refused.get(video) or known[video] for video in videos]

    def _open(self, video: str | None) -> Clip:
        """A clip that is neither larger nor longer than the page takes, with neither more nor larger frames."""
        if not video:
            raise ValueError("there is no clip that can be read: drop one on the page, or pick an example.")
        name, size = Path(video).name, os.path.getsize(video) / 1e6
        if size > self.limits.megabytes:
            raise ValueError(
                f"the clip {name} has {size:.1f} MB, and the page takes up to {self.limits.megabytes:g} MB: cut it, "
                "or start the page with a higher --max-mb."
            )
        clip = open_clip(video)
        if clip.duration > self.limits.seconds:
            raise ValueError(
                f"the clip {name} lasts {clip.duration:.1f} s, and the page takes up to {self.limits.seconds:g} s: cut "
                "it, or start the page with a higher --max-seconds."
            )
        if clip.num_frames > self.limits.frames:
            raise ValueError(
                f"the clip {name} has {clip.num_frames} frames, and the page takes up to {self.limits.frames}: cut it."
            )
        width, height = clip.coded_size
        if width * height > self.limits.pixels:
            raise ValueError(
                f"the clip {name} has frames of {width}x{height}, and the page takes up to "
                f"{self.limits.pixels} pixels: use `vqathinker score`."
            )
        return clip

    def _load(self, clip: Clip) -> ClipInput:
        """A clip as the policy takes it; the last ones are kept."""
        with self._lock:
            key = (clip.path, os.stat(clip.path).st_mtime_ns)
            if key not in self._clips:
                self._clips[key] = self.scorer.load(clip.path)
            self._clips.move_to_end(key)
            while len(self._clips) > KEPT:
                self._clips.popitem(last=False)
            return self._clips[key]


def sentence(error: Exception) -> str:
    """What an error says, to be read on a page: with a file's name, without its folder."""
    told = str(error)
    if isinstance(error, ClipError):
        reason = error.reason.replace(os.path.dirname(os.path.abspath(error.path)) + os.sep, "")
        told = f"the clip {Path(error.path).name} cannot be read: {reason}"
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        told = f"the file {os.path.basename(os.fsdecode(error.filename))}: {error.strerror}"
    told = told.strip() or type(error).__name__
    return told[0].upper() + told[1:] + ("" if told.endswith((".", "!", "?")) else ".")

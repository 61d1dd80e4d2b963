"""Score over time: windows that slide over a clip, each judged as a clip of its own, with the faults it names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from vqathinker.clips import ClipError
from vqathinker.policy.spans import load_spans
from vqathinker.rewards.distortion import named_distortions
from vqathinker.scoring.scorer import QualityScore, QualityScorer, unreadable
from vqathinker.writing import finite

if TYPE_CHECKING:
    from vqathinker.clips import Clip

WINDOW, STEP = 2.0, 1.0
"""Seconds that a window lasts, and from the beginning of one to that of the next (VQA² asks about each second)."""
SLACK = 1e-6
"""Seconds within which times are equal: they are products of floats."""
TOO_FEW = "too_few_frames"
"""Status of a window with fewer frames than the policy looks at, some of which it would be shown twice."""


@dataclass(frozen=True)
class ScoredWindow:
    """A part of a clip and what the policy says of it.

    Attributes:
        start: Seconds from the clip's first frame.
        end: Seconds; the window holds the frames whose times t have start <= t < end.
        first: Number of its first frame.
        stop: Number of the frame behind its last.
        result: As of a clip that has these frames only, its `frames` counted from the beginning of the file; the status
            is `"too_few_frames"` where there are fewer of them than the policy looks at.
    """

    start: float
    end: float
    first: int
    stop: int
    result: QualityScore

    @property
    def faults(self) -> dict[str, str]:
        """Faults that the reasoning of at least half of the answers names -> their most frequent word for the degree,
        "" without one."""
        named = [named_distortions(text) for text in self.result.answers]
        counts = Counter(kind for own in named for kind in own)
        return {
            kind: Counter(own[kind] or "" for own in named if kind in own).most_common(1)[0][0]
            for kind, count in counts.items()
            if 2 * count >= len(named)
        }

    @property
    def error(self) -> str:
        """Why there is no score: of an answer without a number its text; "" where there is one."""
        return "" if self.result.parsed else self.result.error or " ".join("".join(self.result.answers[:1]).split())


@dataclass(frozen=True)
class Timeline:
    """A clip's score over time.

    Attributes:
        video: Path.
        window: Seconds that a window lasts.
        step: Seconds between their beginnings.
        duration: Of the clip, in seconds; NaN if it cannot be read.
        windows: In order. The last one ends with the clip, so that every frame is in one. A clip that is shorter than
            a window is one window.
        error: Why the clip cannot be opened, else "".
    """

    video: str
    window: float
    step: float
    duration: float
    windows: tuple[ScoredWindow, ...] = ()
    error: str = ""

    @property
    def scores(self) -> list[float]:
        """Of the windows, NaN for one without."""
        return [window.result.score for window in self.windows]

    @property
    def status(self) -> str:
        """`"ok"` if any window has a score; else why the first one has none."""
        if self.error:
            return "unreadable"
        return "ok" if any(window.result.parsed for window in self.windows) else self.windows[0].result.status


def score_timeline(
    scorer: QualityScorer, video: str | Path, window: float = WINDOW, step: float = STEP, progress: bool = False
) -> Timeline:
    """Judge a clip window by window. The file is decoded once; a window's score is that of a clip with its frames only.

    Args:
        scorer: Scores; `levels` and `head` give no reasoning, hence no faults.
        video: The file.
        window: Seconds that a window lasts, > 0.
        step: Seconds from one to the next, in (0, window], and at least one frame.
        progress: Show a progress bar.

    Returns:
        Its windows; none and `error` if the file cannot be opened.

    Raises:
        ValueError: If window or step is out of range.
    """
    _check(window, step)
    from vqathinker.clips import open_clip

    try:
        clip = open_clip(video)
    except ClipError as error:
        return Timeline(str(video), window, step, math.nan, error=error.reason)
    frame = clip.duration / clip.num_frames
    if step < frame - SLACK and clip.num_frames > 1:
        raise ValueError(
            f"step={step:g} is shorter than a frame of {Path(video).name!r:.200} ({frame:.4f} s): windows would "
            "repeat. Give a longer step."
        )
    empty = [_window(clip, *bounds) for bounds in window_bounds(clip.duration, window, step)]
    results = tqdm(_judged(scorer, clip, empty), total=len(empty), desc="scoring", unit="window", disable=not progress)
    windows = [replace(one, result=result) for one, result in zip(empty, results, strict=True)]
    return Timeline(str(video), window, step, clip.duration, tuple(windows))


def window_bounds(duration: float, window: float, step: float) -> list[tuple[float, float]]:
    """Starts and ends, in seconds: every `step` one, as long as they end inside; then one that ends with the clip.

    Args:
        duration: Of the clip, in seconds.
        window: Seconds that a window lasts; a shorter clip is one window.
        step: Seconds between their beginnings.
    """
    if duration <= window + SLACK:
        return [(0.0, duration)]
    count = math.floor((duration - window + SLACK) / step) + 1
    bounds = [(i * step, i * step + window) for i in range(count)]
    return bounds if bounds[-1][1] > duration - SLACK else [*bounds, (duration - window, duration)]


def timeline_record(found: Timeline) -> dict[str, Any]:
    """A timeline as JSON has it; `null` for a number that there is not."""
    windows = [
        {
            "start": round(one.start, 6),
            "end": round(one.end, 6),
            "first_frame": one.first,
            "stop_frame": one.stop,
            "score": one.result.score,
            "spread": one.result.spread,
            "status": one.result.status,
            "faults": one.faults,
            "reasoning": one.result.reasoning,
            "key_frames": list(one.result.frames),
            "notes": list(one.result.notes),
            "error": one.error,
        }
        for one in found.windows
    ]
    whole = {"video": found.video, "window": found.window, "step": found.step, "duration": found.duration}
    return finite(whole | {"status": found.status, "error": found.error, "windows": windows})


def _judged(scorer: QualityScorer, clip: Clip, windows: Sequence[ScoredWindow]) -> Iterator[QualityScore]:
    """What the policy says of each window, a batch at a time."""
    fewest = scorer.processor.num_frames
    parts = load_spans(scorer.processor, clip, [(w.first, w.stop) for w in windows if w.stop - w.first >= fewest])
    rest = iter(windows)
    while chunk := list(islice(rest, scorer.batch_size)):
        loaded = {place: next(parts) for place, one in enumerate(chunk) if one.stop - one.first >= fewest}
        seen = [part for part, _ in loaded.values() if part is not None]
        scores = iter(scorer.score_clips(seen) if seen else ())
        for place, one in enumerate(chunk):
            if place not in loaded:
                yield _too_few(one, fewest)
            else:
                part, reason = loaded[place]
                yield next(scores) if part is not None else unreadable("", reason)


def _too_few(window: ScoredWindow, fewest: int) -> QualityScore:
    why = f"{window.stop - window.first} of the {fewest} frames that the policy looks at: use longer windows"
    return QualityScore("", math.nan, math.nan, TOO_FEW, error=why)


def _window(clip: Clip, start: float, end: float) -> ScoredWindow:
    first, stop = np.searchsorted(clip.times, [start - SLACK, end - SLACK]).tolist()
    return ScoredWindow(start, end, first, stop, unreadable("", ""))


def _check(window: float, step: float) -> None:
    if not (0 < step <= window < math.inf):
        raise ValueError(
            f"window={window:g}, step={step:g}: need 0 < step <= window, in seconds; with a longer step some frames "
            "would be in no window."
        )

"""What the files of a data set are like: every clip is opened and its key frames are decoded."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm.auto import tqdm

from vqathinker.clips import ClipError, open_clip, uniform_indices
from vqathinker.clips.errors import first_line

KEY_FRAMES = 6
"""Of a clip in training, as published."""


@dataclass(frozen=True)
class Probe:
    """One file.

    Attributes:
        num_frames: Its frames; 0 if it cannot be read.
        notes: What is done to its frames, see `Clip.notes`.
        error: Why it cannot be read; "" if it can.
        missing: Whether it is not there.
        digest: Of its key frames' pixels: clips of one digest show the same. "" if it cannot be read.
        size: Width and height of its frames as they are shown; (0, 0) if it cannot be read.
        seconds: Its length; NaN if it is not known.
    """

    num_frames: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""
    missing: bool = False
    digest: str = ""
    size: tuple[int, int] = (0, 0)
    seconds: float = math.nan


def probe_clip(video: str, key_frames: int = KEY_FRAMES) -> Probe:
    """Open a file and decode the frames that training would.

    Args:
        video: Path.
        key_frames: How many, >= 1.
    """
    if not os.path.exists(video):
        return Probe(error="no such file", missing=True)
    try:
        clip = open_clip(video)
        seen = hashlib.sha256(str(clip.num_frames).encode())
        # One by one, as a clip's key frames together may take more memory than there is.
        sizes = set()
        for picture in clip.pictures(sorted(set(uniform_indices(clip.num_frames, key_frames).tolist()))):
            sizes.add(picture.shape[1::-1])
            seen.update(str(picture.shape).encode())
            seen.update(picture.tobytes())
        if len(sizes) > 1:
            raise ClipError(video, f"the frame size changes: {sorted(sizes)}")
    except ClipError as error:
        return Probe(error=error.reason)
    except Exception as error:  # one odd file must not end the check of thousands
        return Probe(error=f"{type(error).__name__}: {first_line(error)}")
    seconds = clip.num_frames / clip.fps if clip.fps > 0 else math.nan
    return Probe(clip.num_frames, clip.notes, digest=seen.hexdigest(), size=sizes.pop(), seconds=seconds)


def probe_clips(
    videos: Iterable[str], key_frames: int = KEY_FRAMES, threads: int = 2, progress: bool = False
) -> dict[str, Probe]:
    """`probe_clip` of each file, several at a time.

    Args:
        videos: Paths; each is read once.
        key_frames: How many frames to decode, >= 1.
        threads: Files read at a time.
        progress: Show a progress line.

    Returns:
        Path -> what it is like, in order.
    """
    once = list(dict.fromkeys(videos))
    pool = ThreadPoolExecutor(threads)
    try:
        made = pool.map(lambda video: probe_clip(video, key_frames), once)
        seen = list(tqdm(made, total=len(once), desc="checking", unit="clip", disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)  # else whoever stops it waits for thousands of clips
    return dict(zip(once, seen, strict=True))

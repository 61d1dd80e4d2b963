"""The user's own clips as sources of a synthetic set: which can be used, and how clips are cut from each."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.clips import Clip, ClipError
from vqathinker.clips.frame_index import open_stream
from vqathinker.synth.sources import source_scenes
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.synth.build import SynthSpec

logger = logging.getLogger(__name__)

SOURCE = "source"
"""A size or a frame rate that is the source's."""
SHORT = ("skip", "take")
"""What becomes of a source that is shorter than a clip: left out, or its frames are all of the clip."""
SECONDS = 2.0
"""Length of clips at their source's rate where no number of frames is given."""
LEAST = 2
"""Frames of a clip."""
UNCOMPRESSED = (
    *("rawvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "png", "qtrle", "v210", "v410", "r210", "magicyuv"),
    *("prores", "dnxhd"),
)
"""Codecs without loss, and those of studios with next to none."""


@dataclass(frozen=True)
class Source:
    """A file that clips are cut from.

    Attributes:
        path: The file.
        frames: Its frames.
        num_frames: Frames of a clip cut from it, at most `frames`.
        fps: Frames per second that the clip is written with.
    """

    path: Path
    frames: int
    num_frames: int
    fps: float


def frame_size(size: int | str) -> tuple[int, int] | None:
    """(width, height) in pixels of a size: a side, "WxH", or "source", which gives `None`.

    Raises:
        ValueError: If it is none of these, or a side is odd or below 32.
    """
    if size == SOURCE:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(size))
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(width, height) < 32 or width % 2 or height % 2:
        raise ValueError(f"size={size!r}: write a side, WxH (480x270) or 'source'; sides must be even and 32 or more.")
    return width, height


def own_sources(spec: SynthSpec, skips: bool = True) -> dict[str, list[Source]]:
    """The sources of each split. What is left out, and what is compressed already, is told in a warning each.

    Args:
        spec: With a `source`.
        skips: Whether clips are made that skip frames; sources too short for it are told of too.

    Raises:
        ClipError: If a file cannot be opened, its frame rate is needed and unknown, or there are fewer scenes than
            splits.
    """
    known: dict[Path, Source] = {}
    short, codecs = list[str](), Counter[str]()

    def takes(path: Path, clip: Clip) -> bool:
        source = _source(path, clip, spec)
        if source.num_frames > source.frames:
            if spec.short == "skip" or source.frames < LEAST:
                short.append(f"{path.name} ({source.frames} of {source.num_frames})")
                return False
            source = Source(path, source.frames, source.frames, source.fps)
        known[path] = source
        codecs[codec_of(path)] += 1
        return True

    try:
        shared = source_scenes(str(spec.source), spec.splits, takes)
    finally:  # what was left out may be why the others do not suffice
        too_short = [source for source in known.values() if skips and source.frames < 3 * source.num_frames]
        _tell(short, codecs, too_short)
    return {split: [known[path] for path in files] for split, files in shared.items()}


def _source(path: Path, clip: Clip, spec: SynthSpec) -> Source:
    fps = rate_of(clip) if spec.fps == SOURCE else float(spec.fps)
    return Source(path, clip.num_frames, spec.num_frames or math.ceil(SECONDS * fps - 1e-6), fps)


def rate_of(clip: Clip) -> float:
    """Frames per second of a clip: what its container states, or the average where frames come unevenly.

    Raises:
        ClipError: If neither is known.
    """
    average, stated = clip.fps, clip.rate
    if stated > 0 and not abs(stated - average) > 0.01 * stated:
        return stated
    if not average > 0:
        raise ClipError(clip.path, "its frame rate is unknown: give fps as a number")
    return average


def codec_of(path: Path) -> str:
    """What a file is encoded with, by FFmpeg's name."""
    container, stream = open_stream(str(path))
    with container:
        return stream.codec_context.codec.canonical_name


def _tell(short: Sequence[str], codecs: Counter[str], no_skips: Sequence[Source]) -> None:
    if short:
        logger.warning(
            "%d of %s left out because they have fewer frames than a clip: %s.",
            len(short),
            _are(len(short) + codecs.total()),
            ", ".join(short),
        )
    if no_skips:
        logger.warning(
            "%d of %s shorter than three clips, which frame_drop needs: they get the other kinds only.",
            len(no_skips),
            _are(codecs.total()),
        )
    tell_compressed(codecs)


def tell_compressed(codecs: Counter[str]) -> None:
    """Warn of sources that are compressed already.

    Args:
        codecs: `codec_of` -> number of sources.
    """
    lossy = {codec: count for codec, count in sorted(codecs.items()) if codec not in UNCOMPRESSED}
    if lossy:
        logger.warning(
            "%d of %s already compressed (%s): distortions are added to that, and labels do not include it. Use "
            "pristine sources if you can.",
            sum(lossy.values()),
            _are(codecs.total()),
            ", ".join(f"{codec} {count}" for codec, count in lossy.items()),
        )


def _are(sources: int) -> str:
    return counted(sources, "source is", "sources are")

"""Encoding one video many times: all rungs of its ladders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vqathinker.clips.decode import Clip, open_clip
from vqathinker.clips.encode import VideoWriter
from vqathinker.clips.errors import ClipError

UNKNOWN_RATE = 25
"""Frames per second of an encode whose source does not say."""
AT_ONCE = 8
"""Encoders that are open together: of 1080p each takes 0.1 to 0.3 GB."""


@dataclass(frozen=True)
class Rung:
    """One encode of a source.

    Attributes:
        path: The file to write.
        encoder: FFmpeg's name, as in `ENCODER_OPTIONS`.
        crf: Constant rate factor on the encoder's scale, a whole number; higher is worse.
        size: Stored width and height, even; `None` for the source's.
    """

    path: Path
    encoder: str = "libx264"
    crf: int = 23
    size: tuple[int, int] | None = None


def encode_rungs(source: str | Path, rungs: Sequence[Rung]) -> int:
    """Encode a video, as it is, once for each rung: own rate, colours, orientation and pixel aspect, without sound.

    It is decoded once for every `AT_ONCE` rungs. Each file appears under its name when it is whole, see `VideoWriter`.

    Args:
        source: The video.
        rungs: What to make of it.

    Returns:
        Frames of the source, and of every rung.

    Raises:
        ClipError: If the source cannot be decoded, or its frame size changes.
        ValueError: If two rungs are one file, or this FFmpeg lacks an encoder.
    """
    check_different(rungs)
    clip = open_clip(source)
    for first in range(0, len(rungs), AT_ONCE):
        _one_pass(clip, rungs[first : first + AT_ONCE])
    return clip.num_frames


def check_different(rungs: Sequence[Rung]) -> None:
    """Raise ValueError if two rungs would be written to one file."""
    if twice := sorted({str(path) for path, count in Counter(rung.path for rung in rungs).items() if count > 1}):
        raise ValueError(f"{twice[:3]}: several rungs would be one file. Give each its own size, codec or CRF.")


def _one_pass(clip: Clip, rungs: Sequence[Rung]) -> None:
    rate, size = clip.rate if clip.rate > 0 else UNKNOWN_RATE, None
    with ExitStack() as stack:
        writers = []
        for rung in rungs:
            writer = VideoWriter(
                rung.path, rate, rung.crf, rung.encoder, pixel_aspect=clip.coded_aspect, size=rung.size
            )
            writers.append(stack.enter_context(writer))
        for frame in clip.for_encoder():
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise ClipError(clip.path, f"the frame size changes: {[size, (frame.width, frame.height)]}")
            for writer in writers:
                writer.write(frame)


def encoded_size(clip: Clip) -> tuple[int, int]:
    """Width and height of a clip's encodes at its own size: as stored, less an odd last column or row.

    Args:
        clip: An open clip.

    Raises:
        ClipError: If its first frame cannot be decoded.
    """
    first = next(clip.for_encoder())
    return first.width // 2 * 2, first.height // 2 * 2


def scaled_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Width and height with a shorter side of `height`, both even; 0 leaves the size as it is.

    Args:
        size: Width and height.
        height: Shorter side, in pixels.
    """
    factor = height / min(size) if height else 1
    width, height = (2 * round(side * factor / 2) for side in size)
    return width, height

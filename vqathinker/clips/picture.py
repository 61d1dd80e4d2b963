"""From a decoded frame to the RGB picture that a player shows: upright, with square pixels, in BT.709 colours."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

from vqathinker.clips.hdr import TRANSFERS, to_bt709

# A frame's side data is not to be had where PyAV 18.1 does not know the type of some of it, as of EXIF. No part of this
# library looks at the type that unknown ones are taken for. To be removed with a PyAV that knows `Type.EXIF`.
SideData._missing_ = classmethod(lambda cls, value: cls.S12M_TIMECODE)  # type: ignore[method-assign, assignment]  # see above


def to_rgb(frame: av.VideoFrame, pixel_aspect: Fraction, convert: VideoReformatter) -> np.ndarray:
    """The picture of a frame.

    Args:
        frame: An `av.VideoFrame`, not interlaced.
        convert: Used for all frames of a clip, as to set one up takes longer than to use it.
        pixel_aspect: Width of a pixel over its height. The shorter side is enlarged, so that no detail is lost.

    Returns:
        (H, W, 3) uint8.
    """
    size = _square_size(frame.width, frame.height, pixel_aspect)
    transfer = TRANSFERS.get(frame.color_trc)
    rgb = convert.reformat(
        frame, *size, format="rgb48le" if transfer else "rgb24", interpolation="BICUBIC" if pixel_aspect != 1 else None
    ).to_ndarray()
    if transfer:
        rgb = to_bt709(rgb, transfer, frame.color_primaries)
    return _upright(rgb, display_matrix(frame))


def notes_on(frame: av.VideoFrame, pixel_aspect: Fraction) -> list[str]:
    """What `to_rgb` does to a frame, in words; nothing for an ordinary one."""
    notes = []
    if transfer := TRANSFERS.get(frame.color_trc):
        notes.append(f"{transfer} to BT.709")
    if pixel_aspect != 1:
        notes.append(f"pixels of {pixel_aspect.numerator}:{pixel_aspect.denominator} made square")
    turned, mirrored, exact = _orientation(display_matrix(frame))
    notes += [f"turned by {turned} degrees"] if turned else []
    return notes + (["mirrored"] if mirrored else []) + ([] if exact else ["the rest of its turn left out"])


def deinterlace(before: av.VideoFrame | None, frame: av.VideoFrame, after: av.VideoFrame | None) -> av.VideoFrame:
    """A frame without its combing, by FFmpeg's bwdif; frames that are not marked as interlaced stay as they are.

    Args:
        before: The frame before it, or `None` at the beginning.
        frame: The frame.
        after: The frame behind it, or `None` at the end.
    """
    if not frame.interlaced_frame:
        return frame
    given = [one for one in (before, frame, after) if one is not None]
    return _filtered(given, "bwdif", "mode=send_frame:deint=interlaced")[given.index(frame)]


def crop(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame of even width and height, as encoders need it: without its last column or row where these are odd."""
    width, height = frame.width // 2 * 2, frame.height // 2 * 2
    if (width, height) == (frame.width, frame.height):
        return frame
    return _filtered([frame], "crop", f"{width}:{height}:0:0")[0]


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers a, b, u, c, d, v, x, y, w: a point (x, y) is shown at (a x + c y, b x + d y), in 1/65536."""
    side_data: Any = frame.side_data  # PyAV's stub knows motion vectors only
    for data in side_data:
        if data.type == SideData.DISPLAYMATRIX:
            return tuple(np.frombuffer(bytes(data), np.int32)[:9].tolist())
    return None


def _filtered(frames: Sequence[av.VideoFrame], name: str, arguments: str) -> list[av.VideoFrame]:
    """Consecutive frames through one of FFmpeg's filters that gives as many."""
    first = frames[0]
    graph = av.filter.Graph()
    shape = f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base=1/1"
    source = graph.add("buffer", f"{shape}:colorspace={int(first.colorspace)}:range={int(first.color_range)}")
    change, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    times = [(frame.pts, frame.time_base) for frame in frames]
    for place, frame in enumerate(frames):
        frame.pts = place
        source.push(frame)
    source.push(None)
    changed: list[Any] = [sink.pull() for _ in frames]  # like what went in: `av.VideoFrame`
    for (pts, time_base), frame, new in zip(times, frames, changed, strict=True):
        frame.pts = new.pts = pts
        frame.time_base = new.time_base = time_base
    return changed


def visible_aspect(frame: av.VideoFrame, pixel_aspect: Fraction) -> Fraction:
    """1 where square pixels would make no difference to a picture of this size, as with 4095:4096."""
    same = _square_size(frame.width, frame.height, pixel_aspect) == (frame.width, frame.height)
    return Fraction(1) if same else pixel_aspect


def _square_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def _upright(rgb: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Turned and mirrored by a display matrix, to the nearest quarter turn."""
    if matrix is None:
        return rgb
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _orientation(matrix: tuple[int, ...] | None) -> tuple[int, bool, bool]:
    """Clockwise turn in degrees, whether the picture is mirrored left to right before it, and whether that is all."""
    if matrix is None:
        return 0, False, True
    corners = _upright(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), matrix)
    a, b, _, c, d = matrix[:5]
    mirrored = a * d - b * c < 0
    upright = np.arange(4).reshape(2, 2, 1)[:, :: -1 if mirrored else 1]
    turns = next(k for k in range(4) if np.array_equal(np.rot90(upright, -k), corners))
    small, large = sorted((abs(a) + abs(d), abs(b) + abs(c)))
    return 90 * turns, mirrored, small <= 0.01 * large

"""Frames of any size to the square the vision tower takes, without torchvision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VIEWS = {"resize": "stretch", "center_crop": "center_crop"}
"""What options call a view -> the `fit` that processors keep and checkpoints hold."""
FITS = tuple(VIEWS.values())


@dataclass(frozen=True)
class Seen:
    """What of a frame is seen.

    Attributes:
        box: Left, top, right and bottom of it, in the frame's pixels.
        share: Of the frame's pixels, in (0, 1].
        text: In words: "sees the central 64x64 of 480x270, 3 %".
        altered: Whether a crop left something out or was enlarged, which a score's row says.
    """

    box: tuple[int, int, int, int]
    share: float
    text: str
    altered: bool


def seen_of(width: int, height: int, size: int, fit: str = "stretch") -> Seen:
    """What `fit_frames` leaves of frames.

    Args:
        width: Of the frames, in pixels.
        height: Of the frames, in pixels.
        size: Side S of the square, in pixels.
        fit: See `fit_frames`.
    """
    frame, square = f"{width}x{height}", f"{size}x{size}"
    if fit_name(fit) == "stretch":
        resized = "" if (width, height) == (size, size) else f", resized to {square}"
        return Seen((0, 0, width, height), 1.0, f"sees all of {frame}{resized}", False)
    side = min(size, width, height)
    left, top = (width - side) // 2, (height - side) // 2
    share = side**2 / (width * height)
    part = f"all of {frame}" if share == 1 else f"the central {side}x{side} of {frame}, {_percent(share)}"
    enlarged = f", enlarged to {square}" if side < size else ""
    return Seen((left, top, left + side, top + side), share, f"sees {part}{enlarged}", share < 1 or side < size)


def _percent(share: float) -> str:
    """Below 100 %: "67 %", "0.4 %"."""
    percent = 100 * share
    return f"{min(99, round(percent))} %" if percent >= 1 else f"{percent:.1g} %"


def fit_name(name: str) -> str:
    """The `fit` of that name, or of the view of that name.

    Raises:
        ValueError: If it is neither.
    """
    fit = VIEWS.get(name, name)
    if fit not in FITS:
        raise ValueError(f"view={name!r}: must be one of {tuple(VIEWS)}.")
    return fit


def fit_frames(frames: np.ndarray, size: int, fit: str = "stretch") -> np.ndarray:
    """Bring frames to `size` x `size`.

    Args:
        frames: (N, H, W, 3) uint8 RGB, any aspect.
        size: Side S in pixels.
        fit: `"stretch"` (as a view, `"resize"`): bicubic resize of the whole frame to the square (published
            code). `"center_crop"`: the central S x S pixels as they are, because shrinking destroys the evidence of
            fine distortions; a frame smaller than S is enlarged to it first.

    Returns:
        (N, 3, S, S) uint8.

    Raises:
        ValueError: If `frames` is not (N, H, W, 3) uint8 or `fit` is unknown.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames has shape {frames.shape} and dtype {frames.dtype}: need (N, H, W, 3) uint8 RGB.")
    height, width = frames.shape[1:3]
    if fit_name(fit) == "center_crop":
        if min(height, width) < size:
            scale = size / min(height, width)
            frames = resize(frames, max(size, round(width * scale)), max(size, round(height * scale)))
            height, width = frames.shape[1:3]
        top, left = (height - size) // 2, (width - size) // 2
        frames = frames[:, top : top + size, left : left + size]
    elif (height, width) != (size, size):
        frames = resize(frames, size, size)
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


def resize(frames: np.ndarray, width: int, height: int, how: str = "BICUBIC") -> np.ndarray:
    """Frames (N, H, W, 3) uint8 of another size.

    Args:
        frames: RGB.
        width: In pixels.
        height: In pixels.
        how: Name of Pillow's filter, which is widened where it shrinks.
    """
    from PIL import Image  # not needed before, see the package

    shape, kernel = (width, height), Image.Resampling[how]
    return np.stack([np.asarray(Image.fromarray(frame).resize(shape, kernel)) for frame in frames])

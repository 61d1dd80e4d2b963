"""Frames of any size to the square the vision tower takes, without torchvision."""

from __future__ import annotations

import numpy as np

FITS = ("stretch", "center_crop")


def fit_frames(frames: np.ndarray, size: int, fit: str = "stretch") -> np.ndarray:
    """Bring frames to `size` x `size`.

    Args:
        frames: (N, H, W, 3) uint8 RGB, any aspect.
        size: Side S in pixels.
        fit: `"stretch"`: bicubic resize of the whole frame to the square (published code). `"center_crop"`: the central
            S x S pixels as they are, because shrinking destroys the evidence of fine distortions; a frame smaller than
            S is enlarged to it first.

    Returns:
        (N, 3, S, S) uint8.

    Raises:
        ValueError: If `frames` is not (N, H, W, 3) uint8 or `fit` is unknown.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames has shape {frames.shape} and dtype {frames.dtype}: need (N, H, W, 3) uint8 RGB.")
    if fit not in FITS:
        raise ValueError(f"fit={fit!r}: must be one of {FITS}.")
    height, width = frames.shape[1:3]
    if fit == "center_crop":
        if min(height, width) < size:
            scale = size / min(height, width)
            frames = _resize(frames, max(size, round(width * scale)), max(size, round(height * scale)))
            height, width = frames.shape[1:3]
        top, left = (height - size) // 2, (width - size) // 2
        frames = frames[:, top : top + size, left : left + size]
    elif (height, width) != (size, size):
        frames = _resize(frames, size, size)
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


def _resize(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image  # not needed before, see the package

    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in frames])

"""Patches of frames as they are, or nearly: shrinking a whole frame to a small square hides what compression does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.clips.resize import resize

PATCH_BOX = (540, 1080)
"""Short and long side, in pixels, of the box that frames are fitted into (CP-LLM, section 3.1: 540x1080)."""


@dataclass(frozen=True)
class Patches:
    """Where a frame is cut.

    Attributes:
        width: Of the fitted frame, in pixels.
        height: Of it.
        corners: Left and top of each patch in it, row by row; negative where the frame is smaller than a patch.
    """

    width: int
    height: int
    corners: tuple[tuple[int, int], ...]


def place_patches(width: int, height: int, size: int, count: int, box: Sequence[int] = PATCH_BOX) -> Patches:
    """Patches of a frame, apart from one another and evenly spread.

    The frame is fitted into the box, which lies for a landscape frame and stands for a portrait one, its aspect kept;
    it is never enlarged. Of the grids of at most `count` patches that fit into it the one with most patches is taken,
    and of these the one whose cells are nearest to squares; each patch lies in the middle of its cell. So a frame of
    16:9 and 540 lines holds 2 rows of 4 patches of 224 pixels, as in the paper, and a small one fewer than `count`.

    Args:
        width: Of the frame, in pixels.
        height: Of the frame.
        size: Side p of a patch.
        count: Most patches K.
        box: Short and long side of the box.
    """
    short, long = min(box), max(box)
    most = (long, short) if width >= height else (short, long)
    scale = min(1.0, most[0] / width, most[1] / height)
    width, height = (max(1, round(side * scale)) for side in (width, height))
    across, down = max(1, width // size), max(1, height // size)
    grids = [(rows, min(across, count // rows)) for rows in range(1, min(down, count) + 1)]
    rows, columns = max(grids, key=lambda g: (g[0] * g[1], -abs(math.log(width / g[1] * g[0] / height))))
    lefts = [_middle(column, columns, width, size) for column in range(columns)]
    tops = [_middle(row, rows, height, size) for row in range(rows)]
    return Patches(width, height, tuple((left, top) for top in tops for left in lefts))


def _middle(cell: int, cells: int, side: int, size: int) -> int:
    """Where a patch in the middle of a cell begins."""
    return ((2 * cell + 1) * side - cells * size) // (2 * cells)


def cut_patches(frames: np.ndarray, size: int, count: int, box: Sequence[int] = PATCH_BOX) -> np.ndarray:
    """Patches of N frames.

    Frames are shrunk, if at all, by a bilinear filter as wide as its step, so that nothing is aliased. A frame smaller
    than a patch stands in its middle; its border pixels are repeated outwards, as black would draw an edge.

    Args:
        frames: (N, H, W, 3) uint8 RGB.
        size: Side p of a patch.
        count: Most patches K of a frame.
        box: See `place_patches`.

    Returns:
        (N, K', 3, p, p) uint8, K' <= K of each frame.
    """
    height, width = frames.shape[1:3]
    place = place_patches(width, height, size, count, box)
    if (place.width, place.height) != (width, height):
        frames = resize(frames, place.width, place.height, "BILINEAR")
    left, top = (max(0, -start) for start in place.corners[0])
    right, bottom = max(0, size - place.width - left), max(0, size - place.height - top)
    frames = np.pad(frames, [(0, 0), (top, bottom), (left, right), (0, 0)], mode="edge")
    cut = [frames[:, y + top : y + top + size, x + left : x + left + size] for x, y in place.corners]
    return np.ascontiguousarray(np.stack(cut, axis=1).transpose(0, 1, 4, 2, 3))

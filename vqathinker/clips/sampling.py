"""Which frames of a clip the policy sees."""

from __future__ import annotations

import numpy as np

SAMPLINGS = ("number", "time")
"""Key frames evenly spaced by frame number (`uniform_indices`) or in time (`timed_indices`)."""


def uniform_indices(num_frames: int, count: int) -> np.ndarray:
    """Uniformly spaced key frames by the published rule: L = (num_frames - 1) / count, index_i = int(L/2 + round(L i)).

    Args:
        num_frames: Frames in the clip, >= 1; fewer than `count` repeats frames.
        count: Frames to sample N >= 1 (paper: 6 in training, 12 in inference).

    Returns:
        (N,) int64, ascending, in [0, num_frames).

    Raises:
        ValueError: If either is < 1.
    """
    if num_frames < 1 or count < 1:
        raise ValueError(f"num_frames={num_frames}, count={count}: both must be at least 1.")
    segment = (num_frames - 1) / count
    return np.array([int(segment / 2 + np.round(segment * i)) for i in range(count)], dtype=np.int64)


def timed_indices(times: np.ndarray, rate: float, count: int) -> np.ndarray:
    """Key frames evenly spaced in time: the published rule on a grid of constant rate, and the frame shown there.

    Where frames come at a constant rate these are the frames of `uniform_indices`.

    Args:
        times: (N,) seconds of the frames, ascending, N >= 1.
        rate: Frames per second of the grid; NaN for the average.
        count: Frames to sample, >= 1.

    Returns:
        (count,) int64, ascending, in [0, N).
    """
    span = times[-1] - times[0]
    slots = round(span * rate) + 1 if rate > 0 else len(times)
    step = span / max(slots - 1, 1)
    moments = times[0] + step * uniform_indices(slots, count)
    # Half a slot's grace, as containers round times.
    return np.maximum(np.searchsorted(times, moments + step / 2, side="right") - 1, 0)


def run_indices(key_frames: np.ndarray, num_frames: int, length: int) -> np.ndarray:
    """The run of `length` neighbouring frames around each key frame (dense motion input, VQA²).

    Args:
        key_frames: (T,) indices in [0, num_frames).
        num_frames: Frames in the clip.
        length: Frames per run r >= 1; r = 1 gives the key frames themselves.

    Returns:
        (T, r) int64; runs at the ends are shifted inside, and clamped where the clip is shorter than r.
    """
    start = np.clip(np.asarray(key_frames) - (length - 1) // 2, 0, max(num_frames - length, 0))
    return np.minimum(start[:, None] + np.arange(length), num_frames - 1)

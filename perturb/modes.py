"""The six perturbation modes, each a pure function of the number of frames and a random generator.

Every mode returns a `FrameMap` that changes the clip whenever the mode can change a clip of that length; where it
cannot (T = 1 for most) the identity is returned and `FrameMap.is_identity` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .frame_map import BLANK, FrameMap

MAX_AFFECTED_FRAMES = 3
"""Largest number of frames that `duplicate` and `drop` touch (published code)."""


def _shuffle(indices: Sequence[int], rng: np.random.Generator) -> list[int]:
    """A random permutation of `indices` that differs from it (when it has two or more entries)."""
    if len(indices) < 2:
        return list(indices)
    while True:
        shuffled = rng.permutation(indices).tolist()
        if shuffled != list(indices):
            return shuffled


def _count(num_frames: int, count: int | None, rng: np.random.Generator) -> int:
    """`count`, or a draw from 1..min(3, T-1); checked to leave at least one frame."""
    limit = num_frames - 1
    if count is None:
        return int(rng.integers(1, min(MAX_AFFECTED_FRAMES, limit) + 1))
    if not 1 <= count <= limit:
        raise ValueError(f"count={count} with T={num_frames}: count must lie in [1, T-1] = [1, {limit}].")
    return count


def global_shuffle(num_frames: int, rng: np.random.Generator) -> FrameMap:
    """Random permutation of all T frames, never the identity for T >= 2.

    Args:
        num_frames: T >= 1.
        rng: Source of randomness; the same state gives the same map.

    Returns:
        Map of length T.
    """
    return FrameMap("global_shuffle", num_frames, tuple(_shuffle(range(num_frames), rng)))


def local_shuffle(
    num_frames: int, rng: np.random.Generator, window: int = 4, shuffle_remainder: bool = False
) -> FrameMap:
    """Shuffle inside consecutive windows of `window` frames.

    Args:
        num_frames: T >= 1.
        rng: Source of randomness.
        window: Window length w >= 2 (paper: 4).
        shuffle_remainder: `False` (paper): only the floor(T/w) full windows are shuffled, so T < w stays as it is.
            `True` (published code): the T mod w frames behind them are shuffled too.

    Returns:
        Map of length T; each frame stays inside its window.

    Raises:
        ValueError: If `window` < 2.
    """
    if window < 2:
        raise ValueError(f"window={window}: a window needs at least 2 frames to be shuffled.")
    full = num_frames // window * window
    end = num_frames if shuffle_remainder else full
    identity = list(range(num_frames))
    starts = range(0, end, window)
    source = identity
    while starts and source == identity:
        source = [i for start in starts for i in rng.permutation(range(start, min(start + window, end))).tolist()]
        source += identity[end:]
        if end < 2:
            break
    return FrameMap("local_shuffle", num_frames, tuple(source))


def reverse(num_frames: int, rng: np.random.Generator) -> FrameMap:
    """Play the clip backwards. Args and result as in `global_shuffle`; `rng` is not used."""
    del rng
    return FrameMap("reverse", num_frames, tuple(range(num_frames))[::-1])


def jitter(num_frames: int, rng: np.random.Generator) -> FrameMap:
    """`f'_t = f_{t+d}` with d drawn from {-1, 0, 1} for each t and t+d clamped to [0, T-1]; not all d are zero.

    Args:
        num_frames: T >= 1.
        rng: Source of randomness.

    Returns:
        Map of length T.
    """
    positions = np.arange(num_frames)
    while True:
        source = np.clip(positions + rng.integers(-1, 2, num_frames), 0, num_frames - 1)
        if num_frames == 1 or (source != positions).any():
            return FrameMap("jitter", num_frames, tuple(source.tolist()))


def duplicate(num_frames: int, rng: np.random.Generator, count: int | None = None) -> FrameMap:
    """Insert `count` copies of one frame k at position p and drop `count` others, so that the length stays T.

    The dropped frames are drawn from the frames outside the inserted run (paper; the formula's trailing cut is one such
    draw).

    Args:
        num_frames: T >= 1.
        rng: Source of randomness.
        count: Number of copies n in [1, T-1]; `None` draws it from 1..min(3, T-1) (published code).

    Returns:
        Map of length T; its frames outside the run keep their order.

    Raises:
        ValueError: If `count` lies outside [1, T-1].
    """
    identity = tuple(range(num_frames))
    if num_frames == 1:
        return FrameMap("duplicate", 1, identity)
    count = _count(num_frames, count, rng)
    while True:
        k = int(rng.integers(num_frames))
        p = int(rng.integers(num_frames + 1))
        dropped = set(rng.choice(num_frames, size=count, replace=False).tolist())
        before = [i for i in range(p) if i not in dropped]
        after = [i for i in range(p, num_frames) if i not in dropped]
        source = tuple(before + [k] * count + after)
        if source != identity:
            return FrameMap("duplicate", num_frames, source)


def drop(num_frames: int, rng: np.random.Generator, count: int | None = None, blank: bool = False) -> FrameMap:
    """Lose `count` distinct frames, at least one remaining.

    Args:
        num_frames: T >= 1.
        rng: Source of randomness.
        count: Number of lost frames n in [1, T-1]; `None` draws it from 1..min(3, T-1).
        blank: `False` (paper): lost frames are removed and the clip gets shorter. `True` (published code): they are
            blanked and the length stays T.

    Returns:
        Map of length T - count (`blank=False`) or T (`blank=True`).

    Raises:
        ValueError: If `count` lies outside [1, T-1].
    """
    if num_frames == 1:
        return FrameMap("drop", 1, (0,))
    lost = set(rng.choice(num_frames, size=_count(num_frames, count, rng), replace=False).tolist())
    source = (BLANK if i in lost else i for i in range(num_frames))
    return FrameMap("drop", num_frames, tuple(i for i in source if blank or i != BLANK))


MODES: dict[str, Callable[[int, np.random.Generator], FrameMap]] = {
    mode.__name__: mode for mode in (global_shuffle, local_shuffle, reverse, jitter, duplicate, drop)
}
"""Mode name -> function of (num_frames, rng)."""


def draw(
    num_frames: int,
    rng: np.random.Generator,
    modes: Sequence[str] = tuple(MODES),
    variant: str = "paper",
) -> FrameMap:
    """Draw one mode at random and one map from it, never the identity when one of the modes can avoid it.

    Args:
        num_frames: T >= 1.
        rng: Source of randomness; one seed always gives one map.
        modes: Names from `MODES` to choose from, each equally likely.
        variant: `"paper"` or `"official"` (published code: `local_shuffle` shuffles the remainder too and `drop` blanks
            the lost frames).

    Returns:
        The map; `is_identity` is true only when no mode in `modes` can change a clip of T frames.

    Raises:
        ValueError: If `modes` is empty or holds an unknown name, or `variant` is unknown.
    """
    unknown = [name for name in modes if name not in MODES]
    if unknown or not modes:
        raise ValueError(f"modes={list(modes)}: give at least one of {list(MODES)}.")
    if variant not in ("paper", "official"):
        raise ValueError(f"variant={variant!r}: must be 'paper' or 'official'.")
    options = {} if variant == "paper" else {"local_shuffle": {"shuffle_remainder": True}, "drop": {"blank": True}}
    for name in rng.permutation(list(modes)).tolist():
        frame_map = MODES[name](num_frames, rng, **options.get(name, {}))
        if not frame_map.is_identity:
            return frame_map
    return frame_map

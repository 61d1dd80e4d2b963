"""A decoded clip, what its perturbed copies show of it, and how long it is to its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vqathinker.clips import uniform_indices
from vqathinker.perturb import BLANK, FrameMap

ALPHA = 4
"""Frame rate of SlowFast's fast pathway over that of its slow one. The frames of a whole clip are cut to a multiple of
it (VQA²)."""
CLIP_FRAMES = 300
"""Frames of a clip where a number has to be assumed: ten seconds at 30 frames a second."""


LISTS = ("notes", "motion_counts")
"""Fields of a `ClipInput` that are no tensors."""


@dataclass(frozen=True)
class ClipLength:
    """How long a clip is, as far as its number of tokens depends on that.

    Attributes:
        frames: Key frames T.
        motion: T numbers: the motion frames that belong to each key frame, where the motion encoder sees the whole
            clip; else empty.
    """

    frames: int
    motion: tuple[int, ...] = ()

    def moved(self, frame_map: FrameMap) -> ClipLength:
        """That of a perturbed copy, see `ClipInput.moved`."""
        return ClipLength(len(frame_map.source), _moved(self.motion, frame_map)[1] if self.motion else ())


@dataclass(frozen=True)
class ClipInput:
    """A decoded clip, ready to be encoded.

    Attributes:
        frames: (T, 3, S, S) uint8 key frames.
        motion_frames: (T, r, 3, s, s) uint8 frames for the motion encoder: the run around each key frame. Or
            (N, 3, s, s): those of the whole clip, where the encoder gives a token for each.
        indices: (T,) which frames of the source the key frames are; -1 for none.
        notes: What was done to the file's frames, see `vqathinker.clips.Clip`, and what a crop of them sees.
        patches: (T, K', 3, p, p) uint8 patches of the key frames, as many as fit into one, see
            `vqathinker.clips.place_patches`; `None` without a low-level stream.
        motion_counts: Of the whole clip's motion frames, those that belong to each key frame, see `ClipLength`.
    """

    frames: torch.Tensor
    motion_frames: torch.Tensor
    indices: torch.Tensor
    notes: tuple[str, ...] = ()
    patches: torch.Tensor | None = None
    motion_counts: tuple[int, ...] = ()

    @property
    def length(self) -> ClipLength:
        """What its prompt has to know of it."""
        return ClipLength(len(self.frames), self.motion_counts)

    def moved(self, frame_map: FrameMap) -> ClipInput:
        """A perturbed copy: key frames re-indexed, each with its run or, of a whole clip's motion frames, with those up
        to the next key frame. Blank ones are black; such a copy has no more motion frames than the clip.

        Args:
            frame_map: Map over the T key frames.
        """
        if self.motion_counts:
            index, counts = _moved(self.motion_counts, frame_map)
            motion = self.motion_frames[index]
            motion[index == BLANK] = 0
        else:
            motion, counts = frame_map.apply(self.motion_frames), ()
        return replace(
            self,
            frames=frame_map.apply(self.frames),
            motion_frames=motion,
            indices=frame_map.apply(self.indices, BLANK),
            patches=None if self.patches is None else frame_map.apply(self.patches),
            motion_counts=counts,
        )


def clip_of(arrays: dict[str, np.ndarray]) -> ClipInput:
    """A clip of its fields as arrays, as the frame cache keeps them."""
    fields: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items() if name not in LISTS}
    fields |= {name: tuple(arrays[name].tolist()) for name in LISTS if name in arrays}
    return ClipInput(**fields)


def whole_clip(keys: np.ndarray, num_frames: int, most: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The motion frames of a whole clip, and to which key frame they belong: to the last one before or at them, or the
    first one.

    Args:
        keys: (T,) key frames, ascending.
        num_frames: Frames of the clip, at least 1.
        most: Most motion frames, from the first frame on.

    Returns:
        (N,) their indices, and T counts, whose sum is N.
    """
    shown = min(num_frames, most)
    edges = np.minimum([0, *keys[1:], shown], shown)
    return _in_fours(np.arange(shown), np.diff(edges).tolist())


def clip_length(num_frames: int, clip_frames: int, most: int) -> ClipLength:
    """That of a clip of `clip_frames` frames with T = `num_frames` key frames, evenly spaced by frame number.

    Args:
        num_frames: T.
        clip_frames: Frames of the clip.
        most: Most motion frames of a whole clip; 0: the motion encoder sees runs.
    """
    if not most:
        return ClipLength(num_frames)
    return ClipLength(num_frames, whole_clip(uniform_indices(clip_frames, num_frames), clip_frames, most)[1])


def _moved(motion: Sequence[int], frame_map: FrameMap) -> tuple[np.ndarray, tuple[int, ...]]:
    """Which of a clip's motion frames a perturbed copy shows, `BLANK` for black ones, and the counts of its key
    frames. A blank position is as long as what it replaces."""
    starts = np.cumsum([0, *motion])
    parts, counts = [], []
    for place, source in enumerate(frame_map.source):
        count = motion[place if source == BLANK else source]
        parts.append(np.full(count, BLANK) if source == BLANK else np.arange(starts[source], starts[source] + count))
        counts.append(count)
    index = np.concatenate(parts)[: starts[-1]]
    if not len(index):  # of a clip with fewer frames than key frames, only repeated ones are left
        source = frame_map.source[-1]
        index, counts[-1] = np.array([source if source == BLANK else min(starts[source], starts[-1] - 1)]), 1
    return _in_fours(index, counts)


def _in_fours(index: np.ndarray, counts: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Frames cut at the end to a multiple of `ALPHA`; of fewer than that the last one is repeated."""
    short = max(0, ALPHA - len(index))
    kept = len(index) + short - (len(index) + short) % ALPHA
    ends = np.cumsum(counts)
    ends[-1] += short
    ends = np.minimum(ends, kept)
    return np.append(index, [index[-1]] * short).astype(np.int64)[:kept], tuple(np.diff([0, *ends]).tolist())

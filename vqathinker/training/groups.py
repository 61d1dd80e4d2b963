"""The clips behind a batch of answers: K consecutive rows belong to one clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.utils import split_tensor_dict


@dataclass(frozen=True)
class ClipBatch:
    """Pixels of C clips.

    Attributes:
        frames: (C, T, 3, S, S) uint8.
        motion_features: (C, m, F) from the frozen motion encoder.
    """

    frames: torch.Tensor
    motion_features: torch.Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def split(self, num_chunks: int) -> list[ClipBatch]:
        """Equal parts, in order."""
        size = len(self) // num_chunks
        pairs = zip(self.frames.split(size), self.motion_features.split(size), strict=True)
        return [ClipBatch(*pair) for pair in pairs]


def split_groups(batch: dict[str, Any], num_chunks: int) -> list[dict[str, Any]]:
    """Cut a scored generation batch into micro-batches of whole groups.

    Args:
        batch: TRL's dict of tensors with R rows, and `clips`, their `ClipBatch`.
        num_chunks: Micro-batches.

    Returns:
        Dicts of R / num_chunks rows each, with their part of `clips`. Rows keep their order, so groups stay whole.
    """
    rows = {key: value for key, value in batch.items() if key != "clips"}
    chunks = zip(split_tensor_dict(rows, num_chunks), batch["clips"].split(num_chunks), strict=True)
    return [chunk | {"clips": clips} for chunk, clips in chunks]


def group_slices(num_rows: int, num_clips: int, max_rows: int) -> Iterator[tuple[slice, slice]]:
    """(rows, clips) slices of at most `max_rows` rows, groups whole (at least one group a slice)."""
    per_clip = num_rows // num_clips
    step = max(1, max_rows // per_clip)
    for start in range(0, num_clips, step):
        end = min(start + step, num_clips)
        yield slice(start * per_clip, end * per_clip), slice(start, end)

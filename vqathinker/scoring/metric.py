"""The policy as a metric object, with pyiqa's habits: `create_metric`, `lower_better`, `score_range`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vqathinker.scoring.readouts import READOUTS
from vqathinker.scoring.scorer import QualityScorer, Video

NAMES = {"vqathinker" if readout == "answer" else f"vqathinker-{readout}": readout for readout in READOUTS}


class VideoQualityMetric:
    """Clips in, scores out.

    Args:
        name: One of `list_models()`.
        scorer: What scores.

    Attributes:
        metric_name: The name.
        metric_mode: `"NR"`: no reference is needed.
        lower_better: `False`.
        score_range: `"1, 5"`, as pyiqa writes it.
    """

    metric_mode = "NR"
    lower_better = False
    score_range = "1, 5"

    def __init__(self, name: str, scorer: QualityScorer) -> None:
        self.metric_name, self.scorer = name, scorer

    def __call__(self, videos: Video | Sequence[Video]) -> torch.Tensor:
        """Judge one clip or a list of clips.

        Args:
            videos: Paths, or frames (N, H, W, 3) uint8.

        Returns:
            (number of clips,) float32; NaN where an answer gives no number.

        Raises:
            ClipError: If a file cannot be read.
        """
        # Another sequence is refused as a clip.
        clips: list[Video] = list(videos) if isinstance(videos, list | tuple) else [videos]  # type: ignore[list-item]
        step, scores = self.scorer.batch_size, []
        for start in range(0, len(clips), step):
            read = [self.scorer.load(clip) for clip in clips[start : start + step]]
            scores += [result.score for result in self.scorer.score_clips(read)]
        return torch.tensor(scores, dtype=torch.float32)


def list_models() -> list[str]:
    """Names for `create_metric`, one per read-out."""
    return list(NAMES)


def create_metric(name: str, model: str | Path, **settings: Any) -> VideoQualityMetric:
    """A metric by name.

    Args:
        name: One of `list_models()`.
        model: Checkpoint folder or hub id.
        settings: `device`, `samples` and whatever else `QualityScorer.from_pretrained` takes.

    Raises:
        ValueError: On another name.

    Example:
        >>> metric = create_metric("vqathinker", model="runs/demo/grpo")  # doctest: +SKIP
        >>> metric("clip.mp4"), metric.lower_better  # doctest: +SKIP
        (tensor([3.4200]), False)
    """
    if name not in NAMES:
        raise ValueError(f"metric {name!r} is unknown: must be one of {list_models()}.")
    return VideoQualityMetric(name, QualityScorer.from_pretrained(model, readout=NAMES[name], **settings))

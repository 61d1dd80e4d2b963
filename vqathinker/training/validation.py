"""What the policy is worth on held-out clips during training: greedy answers, scored once over the whole set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from vqathinker.clips import ClipError
from vqathinker.data import LabelRow
from vqathinker.evaluation.summary import summarize
from vqathinker.scoring.predict import Prediction

METRICS = ("srcc", "plcc", "parse_rate")
"""What a validation logs, as `eval_srcc`, ..."""


def validate(
    rows: Sequence[Mapping[str, Any]], judge: Callable[[list[str]], list[Prediction]], round_size: int
) -> tuple[list[Prediction], dict[str, float]]:
    """Let the policy judge held-out clips, which are shared out among the processes. Collective.

    Args:
        rows: C rows with `video`, `video_id` and `mos`.
        judge: Greedy answers to some clips, in order. It is called equally often in every process, as it may be
            collective; with no clips where a process has none left.
        round_size: Clips at most in one call.

    Returns:
        C predictions in the order of `rows`, and `METRICS` (NaN where undefined) with `skipped_clips`, the number of
        unreadable ones. They depend neither on the number of processes nor on the order of clips.

    Raises:
        ValueError: If a row has no MOS.
        ClipError: If no clip can be read.
    """
    labels = [LabelRow(row["video"], row["video_id"], row.get("mos")) for row in rows]
    if missing := [row.video_id for row in labels if row.mos is None]:
        raise ValueError(
            f"{len(missing)} of {len(labels)} validation clips have no MOS, {missing[0]!r} the first: correlations "
            "need one for each. Label them, or leave them out."
        )
    state = PartialState()
    own = range(len(labels))[state.process_index :: state.num_processes]
    longest = math.ceil(len(labels) / state.num_processes)  # of the processes' shares
    found: list[Prediction] = []
    for start in range(0, longest, round_size):
        found += judge([labels[i].video for i in own[start : start + round_size]])
    by_place = dict(gather_object(list(zip(own, found, strict=True))))
    predictions = [by_place[i] for i in range(len(labels))]
    summary = summarize(predictions, labels)
    if summary.num_unreadable == summary.num_clips:
        raise ClipError(
            labels[0].video,
            f"nor can the other {summary.num_clips - 1} validation clips be read; they must lie where the labels say "
            "(recipe: in the same video_root as train_labels), or leave validation out (recipe: --val_labels=)",
        )
    metrics = {name: getattr(summary, name) for name in METRICS}
    return predictions, metrics | {"skipped_clips": float(summary.num_unreadable)}

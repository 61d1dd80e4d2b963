"""What the policy is worth on held-out clips during training: greedy answers, scored once over the whole set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from vqathinker.clips import ClipError
from vqathinker.data import LabelRow
from vqathinker.evaluation.summary import summarize
from vqathinker.messages import videos_in
from vqathinker.scoring.predict import Prediction
from vqathinker.training.checkpoints import CheckpointTrainer
from vqathinker.training.checks import check_rows, evaluation_sets

VLLM_ROUND = 64
"""Clips in each process that vLLM answers to at once."""

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
    labels = [LabelRow(videos_in(row["prompt"])[0], row["video_id"], row.get("mos")) for row in rows]
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


class ValidationTrainer(CheckpointTrainer):
    """What a `VQAGRPOTrainer` does with held-out clips."""

    _judge: Callable[[list[str]], list[Prediction]]
    """Greedy answers to some clips. Collective with vLLM and under ZeRO-3."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score held-out clips by one greedy answer each, over the whole set at once.

        Args:
            eval_dataset: As `train_dataset`, or several by name; default the trainer's.
            ignore_keys: Not needed.
            metric_key_prefix: Of the metrics' names.

        Returns:
            `eval_srcc`, `eval_plcc`, `eval_parse_rate` (NaN where undefined; left out of the log then) and
            `eval_skipped_clips`, the number of unreadable ones. They do not depend on batch size or process count.

        Raises:
            ValueError: If there is no such set, its `prompt` is not the policy's question, a `video_id` names two
                clips, or one has no MOS.
            ClipError: If no clip can be read.
        """
        for rows in evaluation_sets(eval_dataset):
            check_rows(rows, self.processing_class)
        training = self.model.training
        self.model.eval()
        try:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self.model.train(training)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """What `evaluate` and `predict` of `Trainer` call; its predictions are the scores (C,), NaN without one."""
        rows = list(dataloader.dataset)
        predictions, metrics = validate(rows, self._judge, VLLM_ROUND if self.use_vllm else len(rows))
        scores = [prediction.scores[0] if prediction.answers else math.nan for prediction in predictions]
        return EvalLoopOutput(
            predictions=np.array(scores),
            label_ids=np.array([row["mos"] for row in rows]),
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(rows),
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL's; of a validation its values alone, without the completions of the last step, which are shown."""
        if self.model.training:
            super().log(logs, start_time)
        else:
            known = {name: value for name, value in logs.items() if not math.isnan(value)}  # JSON has no NaN
            Trainer.log(self, known, start_time)

"""What the policy is worth on held-out clips during training: greedy answers, scored once over the whole set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from vqathinker.clips import ClipError
from vqathinker.scoring.predict import Prediction
from vqathinker.tasks import TASKS, by_task, task_of
from vqathinker.training.checkpoints import CheckpointTrainer
from vqathinker.training.checks import check_rows, evaluation_sets
from vqathinker.training.groups import group_of

if TYPE_CHECKING:
    from datasets import Dataset

VLLM_ROUND = 64
"""Rows in each process that vLLM answers at once."""


def known_metrics() -> tuple[str, ...]:
    """What a validation may log, as `eval_srcc`, ...: the metrics of the tasks that its rows are of.

    Raises:
        ValueError: If two tasks have a metric of one name: in a validation of both one would hide the other.
    """
    owners: dict[str, str] = {}
    for name, task in TASKS.items():
        for metric in task.metrics:
            if (owner := owners.setdefault(metric, name)) != name:
                raise ValueError(
                    f"the tasks {owner!r} and {name!r} both have the metric {metric!r}, but are logged together: give "
                    "one of them another name, in `metrics` and in what `measure` returns."
                )
    return tuple(owners)


def validate(
    rows: Sequence[Mapping[str, Any]],
    judge: Callable[[list[Mapping[str, Any]]], list[Prediction]],
    round_size: int,
) -> tuple[list[Prediction], dict[str, float]]:
    """Let the policy answer held-out rows, which are shared out among the processes. Collective.

    Args:
        rows: R rows of a data set, see `vqathinker.tasks.sample_dataset`.
        judge: Greedy answers to some rows, in order. It is called equally often in every process, as it may be
            collective; with no rows where a process has none left.
        round_size: Rows at most in one call.

    Returns:
        R predictions in the order of `rows`, and the metrics of their tasks (NaN where undefined) with `skipped_clips`,
        the number of rows whose clip cannot be read. They depend neither on the number of processes nor on the order of
        rows.

    Raises:
        ValueError: If a clip that is to be scored has no MOS.
        ClipError: If no clip can be read.
    """
    places = by_task(rows)
    scored = places.get(TASKS["score"], [])
    if missing := [group_of(rows[i]) for i in scored if rows[i].get("mos") is None]:
        raise ValueError(
            f"{len(missing)} of {len(scored)} validation clips have no MOS (first: {missing[0]!r}): correlations need "
            "one for each. Label them, or leave them out."
        )
    state = PartialState()
    own = range(len(rows))[state.process_index :: state.num_processes]
    longest = math.ceil(len(rows) / state.num_processes)  # of the processes' shares
    found: list[Prediction] = []
    for start in range(0, longest, round_size):
        found += judge([rows[i] for i in own[start : start + round_size]])
    by_place = dict(gather_object(list(zip(own, found, strict=True))))
    predictions = [by_place[i] for i in range(len(rows))]
    unreadable = sum(prediction.error is not None for prediction in predictions)
    if unreadable == len(rows):
        raise ClipError(
            predictions[0].video,
            f"nor can the other {len(rows) - 1} validation clips be read; they must lie where the labels say (recipe: "
            "in the same video_root as train_labels), or leave validation out (recipe: --val-labels=)",
        )
    metrics: dict[str, float] = {}
    for task, chosen in places.items():
        answers = [predictions[i].answers[0] if predictions[i].answers else None for i in chosen]
        found_metrics = task.measure(answers, [rows[i] for i in chosen])
        if found_metrics.keys() != set(task.metrics):
            raise ValueError(
                f"task {task.name!r} measures {sorted(found_metrics)}, but declares metrics={task.metrics}: they must "
                "be the same, because a run may select by them."
            )
        metrics |= found_metrics
    return predictions, metrics | {"skipped_clips": float(unreadable)}


class ValidationTrainer(CheckpointTrainer):
    """What a `VQAGRPOTrainer` does with held-out clips."""

    _judge: Callable[[list[Mapping[str, Any]]], list[Prediction]]
    """Greedy answers to some rows. Collective with vLLM and under ZeRO-3."""

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Answer held-out rows greedily, and measure each task's answers over the whole set at once.

        Args:
            eval_dataset: As `train_dataset`, or several by name; default the trainer's.
            ignore_keys: Not needed.
            metric_key_prefix: Of the metrics' names.

        Returns:
            For clips to be scored `eval_srcc`, `eval_plcc`, `eval_parse_rate`, for questions `eval_choice_accuracy` and
            `eval_choice_unparsable`, for comparisons what `tasks.Compare` measures (NaN where undefined; left out of
            the log then); and `eval_skipped_clips`, the number of rows with an unreadable clip. They do not depend on
            batch size or process count.

        Raises:
            ValueError: If there is no such set, a prompt cannot be asked, a `video_id` names two clips, or one has no
                MOS.
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
        """What `evaluate` and `predict` of `Trainer` call; its predictions are the scores, or
        indices of options, (R,); NaN without one."""
        rows = list(dataloader.dataset)
        predictions, metrics = validate(rows, self._judge, VLLM_ROUND if self.use_vllm else len(rows))
        said = zip(rows, predictions, strict=True)
        values = [task_of(row).parse(p.answers[0], row).value if p.answers else None for row, p in said]
        return EvalLoopOutput(
            predictions=np.array([math.nan if value is None else value for value in values], dtype=float),
            label_ids=np.array([task_of(row).truth(row) for row in rows], dtype=float),
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

"""Held-out correlation during training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback
from trl.models import unwrap_model_for_generation

from vqathinker.clips import ClipError
from vqathinker.data import LabelRow
from vqathinker.evaluation.summary import summarize
from vqathinker.scoring.predict import predict


class ValidationCallback(TrainerCallback):
    """Scores held-out clips greedily every N steps and logs `val/srcc`, `val/plcc` and `val/parse_rate`.

    Args:
        trainer: The `VQAGRPOTrainer` it belongs to; the clips are shared out among its processes.
        rows: Held-out labels.
        every: Steps between two validations, N >= 1.
    """

    def __init__(self, trainer: Any, rows: Sequence[LabelRow], every: int) -> None:
        if every < 1 or not rows:
            raise ValueError(
                f"val_steps={every}, {len(rows)} clips in val_labels: both must be at least 1. Leave val_labels empty "
                "(--val_labels=) for no validation."
            )
        self.trainer, self.rows, self.every = trainer, list(rows), every

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the untrained policy, the curve's first point."""
        self._validate(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score every N steps."""
        if state.global_step % self.every == 0:
            self._validate(control)

    def _validate(self, control: Any) -> None:
        accelerator = self.trainer.accelerator
        own = self.rows[accelerator.process_index :: accelerator.num_processes]
        with unwrap_model_for_generation(self.trainer.model_wrapped, accelerator) as policy:
            predictions = predict(
                policy,
                self.trainer.processing_class,
                [row.video for row in own],
                sampling=self.trainer.sampling,
            )
        pairs = gather_object(list(zip(predictions, own, strict=True)))
        summary = summarize([prediction for prediction, _ in pairs], [row for _, row in pairs])
        if summary.num_unreadable == summary.num_clips:
            raise ClipError(
                self.rows[0].video,
                f"nor can the other {summary.num_clips - 1} validation clips be read; val_labels must lie in the same "
                "video_root as train_labels, or be empty (--val_labels=) for no validation",
            )
        values = {"srcc": summary.srcc, "plcc": summary.plcc, "parse_rate": summary.parse_rate}
        known = {f"val/{name}": value for name, value in values.items() if not math.isnan(value)}
        due = control.should_log
        Trainer.log(self.trainer, known)  # GRPOTrainer's would send what it has gathered of this step along
        control.should_log = due  # logging takes it back, but the step's own metrics are still to come

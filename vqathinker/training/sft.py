"""The supervised warm start: next-token prediction of templated traces, with transformers' own `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from vqathinker.clips import ClipError
from vqathinker.data import ClipLoader, LabelRow, distortions_of
from vqathinker.data.traces import trace
from vqathinker.policy import ClipInput, MotionCache, VQAThinkerProcessor


def sft_dataset(rows: Sequence[LabelRow], seed: int, reasoning: bool = True) -> Dataset:
    """Clips with the trace to learn. Distortions that a CSV's `kind`, `severity` and `when` columns tell are named.

    Args:
        rows: Label rows.
        seed: Of the choice among templates.
        reasoning: False: answers without it (VQAThinker, Table 4).

    Returns:
        Columns `video` and `completion`.
    """
    rng = np.random.default_rng(seed)
    traces = [trace(row.mos, rng, distortions_of(row), row.extra.get("when", "")) for row in rows]
    if not reasoning:
        traces = [text[text.index("<answer>") :] for text in traces]
    return Dataset.from_dict({"video": [row.video for row in rows], "completion": traces})


class SFTCollator:
    """Rows of `sft_dataset` to model inputs; only the trace is scored.

    Args:
        processor: The policy's processor.
        loader: Decodes the clips; unreadable ones are left out of the batch (or raise, if it is strict).
        policy: Computes the motion features, once per clip.
    """

    def __init__(self, processor: VQAThinkerProcessor, loader: ClipLoader[ClipInput], policy: PreTrainedModel) -> None:
        self.processor, self.loader = processor, loader
        self.motion = MotionCache(policy)
        self._last: list[tuple[dict[str, Any], ClipInput]] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask`, `labels` (B, L), `frames` (B, T, 3, S, S), `motion_features` (B, m, F).

        Raises:
            ClipError: If no clip has been readable so far.
        """
        self.loader.prefetch(row["video"] for row in rows)
        pairs = [(row, clip) for row in rows if (clip := self.loader.get(row["video"])) is not None]
        # A batch without a readable clip repeats the last readable one: every process must take part in the step.
        pairs = pairs or self._last
        if not pairs:
            raise ClipError(rows[0]["video"], "and no other clip could be read before it; look at skipped.jsonl")
        self._last = pairs[-1:]
        tokenizer = self.processor.tokenizer
        prompt = list(self.processor.prompt_ids())
        answers = [
            tokenizer(row["completion"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            for row, _ in pairs
        ]
        width = len(prompt) + max(map(len, answers))
        padding = [[tokenizer.pad_token_id] * (width - len(prompt) - len(answer)) for answer in answers]
        ids = torch.tensor([prompt + answer + pad for answer, pad in zip(answers, padding, strict=True)])
        lengths = torch.tensor([len(prompt) + len(answer) for answer in answers])
        mask = torch.arange(width) < lengths[:, None]
        labels = ids.masked_fill(~mask, -100)
        labels[:, : len(prompt)] = -100
        return {
            "input_ids": ids,
            "attention_mask": mask.long(),
            "labels": labels,
            "frames": torch.stack([clip.frames for _, clip in pairs]),
            "motion_features": self.motion.get(
                [row["video"] for row, _ in pairs], [clip.motion_frames for _, clip in pairs]
            ).cpu(),
        }

"""The supervised warm start: next-token prediction of templated traces, with transformers' own `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainingArguments

from vqathinker.data import ClipLoader, LabelRow, distortions_of
from vqathinker.data.traces import trace
from vqathinker.policy import ClipInput, MotionCache, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.training.options import SFT_REFUSED, refuse_options
from vqathinker.training.processes import join_processes_on_cpu


@dataclass
class VQASFTConfig(TrainingArguments):
    """`TrainingArguments` for clips; several processes without GPUs are one run.

    Raises:
        ValueError: If an option of `SFT_REFUSED` is set.
    """

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Stays off: the model's inputs are made from columns it does not know."}
    )

    def __post_init__(self) -> None:
        join_processes_on_cpu(self)
        super().__post_init__()
        refuse_options(self, SFT_REFUSED)


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

    Unreadable clips are left out. A batch without a readable one is a blank clip with nothing to learn: every process
    takes part in every step, and what it learns does not depend on how rows were shared out.

    Args:
        processor: The policy's processor.
        loader: Decodes the clips.
        policy: Its motion encoder computes the motion features, once per clip. It is copied: under ZeRO-3 processes can
            call the policy's own only together, but which clips a process knows already is its own affair. There the
            copying is collective.
    """

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        loader: ClipLoader[ClipInput],
        policy: VQAThinkerForConditionalGeneration,
    ) -> None:
        self.processor, self.loader = processor, loader
        self.motion = MotionCache(policy, policy.copy_motion_encoder())

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask`, `labels` (B, L), `frames` (B, T, 3, S, S), `motion_features` (B, m, F) of B
            readable clips, or of the blank one.

        Raises:
            ClipError: As the loader's `get`.
        """
        self.loader.prefetch(row["video"] for row in rows)
        pairs = [(row, clip) for row in rows if (clip := self.loader.get(row["video"])) is not None]
        names: list[str | None] = [row["video"] for row, _ in pairs]
        if not pairs:
            pairs, names = [(rows[0], self.processor.blank_clip())], [None]
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
        labels[[name is None for name in names]] = -100
        return {
            "input_ids": ids,
            "attention_mask": mask.long(),
            "labels": labels,
            "frames": torch.stack([clip.frames for _, clip in pairs]),
            "motion_features": self.motion.get(names, [clip.motion_frames for _, clip in pairs]).cpu(),
        }

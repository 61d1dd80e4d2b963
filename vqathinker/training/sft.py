"""The supervised warm start: next-token prediction of templated traces, with transformers' own `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainingArguments

from vqathinker.data import ClipLoader, Sample
from vqathinker.policy import (
    ClipInput,
    FeatureCache,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
    copied_trunk,
)
from vqathinker.tasks import find_task
from vqathinker.training.options import SFT_REFUSED, refuse_options
from vqathinker.training.processes import check_one_device, join_processes_on_cpu
from vqathinker.training.reporting import check_reporting
from vqathinker.training.shown import show_clips


@dataclass
class VQASFTConfig(TrainingArguments):
    """`TrainingArguments` for clips; several processes without GPUs are one run.

    Raises:
        ValueError: If an option of `SFT_REFUSED` is set.
        ImportError: If a package that `report_to` needs is missing.
    """

    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Must stay off: the model's inputs are made from columns that it does not know."},
    )

    def __post_init__(self) -> None:
        join_processes_on_cpu(self)
        super().__post_init__()
        refuse_options(self, SFT_REFUSED)
        check_one_device(self)
        check_reporting(self.report_to)


def sft_dataset(
    samples: Sequence[Sample], processor: VQAThinkerProcessor, seed: int, reasoning: bool = True
) -> Dataset:
    """Clips with the answer to learn: each task's own gold answer. Scores come with a trace that names the distortions
    that a CSV's `kind`, `severity` and `when` columns tell.

    Args:
        samples: Of any tasks, see `vqathinker.data.score_samples` and `vqathinker.tasks.mixture`.
        processor: The policy's.
        seed: Of the choice among templates.
        reasoning: False: answers without it (VQAThinker, Table 4).

    Returns:
        Columns `prompt` (conversational) and `completion`.
    """
    rng = np.random.default_rng(seed)
    completions = [find_task(sample.task).gold(sample, rng) for sample in samples]
    if not reasoning:
        completions = [text[text.index("<answer>") :] for text in completions]
    prompts = [find_task(sample.task).messages(sample, processor) for sample in samples]
    return Dataset.from_dict({"prompt": prompts, "completion": completions})


class SFTCollator:
    """Rows of `sft_dataset` to model inputs; only the trace is scored.

    Prompts with an unreadable clip are left out. A batch without a readable one is a blank clip with nothing to learn:
    every process takes part in every step, and what it learns does not depend on how rows were shared out.

    Args:
        processor: The policy's processor.
        loader: Decodes the clips.
        policy: What of it is frozen computes features, once per clip where they are remembered. That is copied: under
            ZeRO-3 processes can call the policy's own only together, but which clips a process knows already is its own
            affair. There the copying is collective.
    """

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        loader: ClipLoader[ClipInput],
        policy: VQAThinkerForConditionalGeneration,
    ) -> None:
        self.processor, self.loader = processor, loader
        self.streams = policy.streams
        self.kept = [stream for stream in self.streams if stream.remembered and stream.frozen(policy.model)]
        self.features = FeatureCache(policy, {stream.name: copied_trunk(policy.model, stream) for stream in self.kept})

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            `input_ids`, `attention_mask`, `labels` (B, L), `visual_index` (P,), and of the C clips of B prompts, or of
            the blank one, what the streams look at (`frames`) or their features (`motion_features`), C tensors each.

        Raises:
            ClipError: As the loader's `get`.
        """
        self.loader(rows)
        shown = show_clips(rows, self.loader, self.processor)
        found = [place for place, readable in enumerate(shown.readable) if readable] or [0]
        shown = shown.take(found)
        nothing = [not readable for readable in shown.readable]
        completions = [rows[place]["completion"] for place in found]
        batch = self._tokens([prompt.ids for prompt in shown.prompts], completions, nothing)
        for stream in self.streams:
            raw = [getattr(clip, stream.takes) for clip in shown.clips]
            if stream in self.kept:
                features = self.features.features(stream, shown.names, raw)
                batch[stream.features_name] = [value.cpu() for value in features]
            else:
                batch[stream.takes] = raw
        return batch | {"visual_index": self.processor.index_of(shown.prompts)}

    def _tokens(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[str], nothing: Sequence[bool]
    ) -> dict[str, Any]:
        """Prompts with their completions, padded right; only completions are scored, and those to `nothing` are not."""
        tokenizer = self.processor.tokenizer
        answers = [
            tokenizer(completion + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            for completion in completions
        ]
        rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
        places = torch.arange(width)
        mask = places < torch.tensor([len(row) for row in rows])[:, None]
        scored = mask & (places >= torch.tensor([len(prompt) for prompt in prompts])[:, None])
        scored &= ~torch.tensor(nothing)[:, None]
        return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.masked_fill(~scored, -100)}

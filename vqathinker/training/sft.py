"""The supervised warm start: next-token prediction of templated traces, with transformers' own `Trainer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments

from vqathinker.data import ClipLoader, Sample
from vqathinker.policy import (
    ClipInput,
    FeatureCache,
    Prompt,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
    copied_trunk,
)
from vqathinker.tasks import find_task
from vqathinker.training.checkpoints import WholeCheckpointTrainer
from vqathinker.training.groups import clip_places
from vqathinker.training.head_loss import (
    HeadArguments,
    HeadLoss,
    check_head_arguments,
    check_head_learns,
    check_labels,
    labels_of,
    warn_of_pairs,
)
from vqathinker.training.level_loss import (
    AnswerArguments,
    answer_loss,
    check_answer_arguments,
    level_distributions,
    level_wordings,
    take_targets,
    weighs,
    weighted_batch,
)
from vqathinker.training.options import SFT_REFUSED, refuse_options
from vqathinker.training.processes import check_one_device, join_processes_on_cpu
from vqathinker.training.reporting import check_reporting
from vqathinker.training.shown import show_clips


@dataclass
class VQASFTConfig(HeadArguments, AnswerArguments, TrainingArguments):
    """`TrainingArguments` for clips, and those of a score head and of the answers' loss; several processes without GPUs
    are one run.

    Args:
        head_only: Train the score head alone, see `SFTTrainer`.

    Raises:
        ValueError: If an option of `SFT_REFUSED` is set, or one of the score head's or the answers' is out of range.
        ImportError: If a package that `report_to` needs is missing.
    """

    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Must stay off: the model's inputs are made from columns that it does not know."},
    )
    head_only: bool = field(
        default=False,
        metadata={
            "help": "Fit the score head alone: all else is frozen, and nothing is computed that it does not read "
            "(visual: no language model; hidden: prompts only)."
        },
    )

    def __post_init__(self) -> None:
        join_processes_on_cpu(self)
        super().__post_init__()
        refuse_options(self, SFT_REFUSED)
        check_head_arguments(self)
        check_answer_arguments(self)
        if self.head_only and not self.head_weight:
            raise ValueError("head_only=True with head_weight=0: nothing would be trained. Set head_weight: 1.")
        check_one_device(self)
        check_reporting(self.report_to)


def sft_dataset(
    samples: Sequence[Sample],
    processor: VQAThinkerProcessor,
    seed: int,
    reasoning: bool = True,
    level_targets: str = "word",
) -> Dataset:
    """Clips with the answer to learn: each task's own gold answer. Scores come with a trace that names the distortions
    that a CSV's `kind`, `severity` and `when` columns tell.

    Args:
        samples: Of any tasks, see `vqathinker.data.score_samples` and `vqathinker.tasks.mixture`.
        processor: The policy's.
        seed: Of the choice among templates.
        reasoning: False: answers without it (VQAThinker, Table 4).
        level_targets: How level words are learnt, see `level_loss.LEVEL_TARGETS`.

    Returns:
        Columns `prompt` (conversational), `completion`, `mos` (`None` of other tasks), `decision` (start and end of
        what decides in the completion), `levels` (see `level_loss.level_wordings`; `None` where a word is not learnt as
        a distribution).

    Raises:
        ValueError: If level words are to be learnt as distributions, and no sample allows it.
    """
    rng = np.random.default_rng(seed)
    tasks = [find_task(sample.task) for sample in samples]
    completions = [task.gold(sample, rng) for task, sample in zip(tasks, samples, strict=True)]
    if not reasoning:
        completions = [text[text.index("<answer>") :] for text in completions]
    prompts = [task.messages(sample, processor) for task, sample in zip(tasks, samples, strict=True)]
    mos = [sample.target.get("mos") if sample.task == "score" else None for sample in samples]
    decisions = [task.decision(text) for task, text in zip(tasks, completions, strict=True)]
    shares = level_distributions(samples, level_targets)
    levels = [
        own and level_wordings(sample, text, word, own)
        for sample, text, word, own in zip(samples, completions, decisions, shares, strict=True)
    ]
    return Dataset.from_dict(
        {"prompt": prompts, "completion": completions, "mos": mos, "decision": decisions, "levels": levels}
    )


class SFTCollator:
    """Rows of `sft_dataset` to model inputs; only the trace is scored.

    Prompts with an unreadable clip are left out. A batch without a readable one is a blank clip with nothing to learn:
    every process takes part in every step, and what it learns does not depend on how rows were shared out.

    Args:
        processor: The policy's processor.
        loader: Decodes the clips.
        policy: What of it is frozen computes features, once per clip where they are remembered. That is copied: under
            ZeRO-3 processes can call the policy's own only together, but which clips a process knows already is its own
            affair. There the copying is collective. What is unfrozen later is copied no longer.
        head: What the policy's score head is to be trained on: `"beside"` answers, `"alone"`, or nothing, "".
        answers: What of an answer is learnt how much; default all tokens alike.
    """

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        loader: ClipLoader[ClipInput],
        policy: VQAThinkerForConditionalGeneration,
        head: str = "",
        answers: AnswerArguments | None = None,
    ) -> None:
        self.processor, self.loader = processor, loader
        self.head = policy.config.score_head if head else ""
        self.alone = head == "alone"
        self.decision_weight = answers.decision_weight if answers is not None and weighs(answers) else None
        self.streams = policy.streams
        self.kept = [stream for stream in self.streams if stream.remembered and stream.frozen(policy.model)]
        self.features = FeatureCache(policy, {stream.name: copied_trunk(policy.model, stream) for stream in self.kept})

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            `input_ids`, `attention_mask`, `labels` (B, L), `visual_index` (P,), and of the C clips of B prompts, or of
            the blank one, what the streams look at (`frames`) or their features (`motion_features`), C tensors each.
            With a head to train also `mos` (B,), NaN = none, and `score_at` (B,), see the policy's `forward`. With the
            head alone there are no `labels`, and rows are prompts; of a visual head there are only clips. Where not all
            tokens count alike there are the targets of `level_loss.weighted_batch` in place of `labels`.

        Raises:
            ClipError: As the loader's `get`.
        """
        self.loader(rows)
        shown = show_clips(rows, self.loader, self.processor)
        found = [place for place, readable in enumerate(shown.readable) if readable] or [0]
        shown, rows = shown.take(found), [rows[place] for place in found]
        nothing = [not readable for readable in shown.readable]
        batch = self._text([prompt.ids for prompt in shown.prompts], rows, nothing)
        if self.head:
            batch |= self._head_inputs(shown.prompts, batch["input_ids"].shape[1], rows, nothing)
        self.kept = [stream for stream in self.kept if stream.frozen(self.features.policy.model)]  # as it is now
        for stream in self.streams:
            raw = [getattr(clip, stream.takes) for clip in shown.clips]
            if stream in self.kept:
                features = self.features.features(stream, shown.names, raw)
                batch[stream.features_name] = [value.cpu() for value in features]
            else:
                batch[stream.takes] = raw
        if self.alone and self.head == "visual":
            return {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}
        return batch | {"visual_index": self.processor.index_of(shown.prompts)}

    def _text(
        self, prompts: Sequence[Sequence[int]], rows: Sequence[dict[str, Any]], nothing: Sequence[bool]
    ) -> dict[str, Any]:
        """Prompts, with their answers where these are learnt."""
        if self.alone:
            return self._prompts(prompts)
        if self.decision_weight is not None:
            return weighted_batch(self.processor.tokenizer, prompts, rows, nothing, self.decision_weight)
        return self._tokens(prompts, [row["completion"] for row in rows], nothing)

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

    def _prompts(self, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Prompts, padded right."""
        rows = [torch.tensor(prompt) for prompt in prompts]
        pad = self.processor.tokenizer.pad_token_id
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}

    def _head_inputs(
        self, prompts: Sequence[Prompt], width: int, rows: Sequence[dict[str, Any]], nothing: Sequence[bool]
    ) -> dict[str, torch.Tensor]:
        """Labels, and where the head reads: each prompt's first clip, or its last token in rows of `width`."""
        mos = torch.tensor(labels_of(rows)).masked_fill(torch.tensor(nothing), torch.nan)
        if self.head == "visual":
            return {"mos": mos, "score_at": torch.tensor([place.start for place in clip_places(prompts)])}
        ends = torch.tensor([len(prompt.ids) - 1 for prompt in prompts])
        return {"mos": mos, "score_at": torch.arange(len(rows)) * width + ends}


class SFTTrainer(WholeCheckpointTrainer):
    """transformers' `Trainer` for batches of `SFTCollator`. With `head_weight` the loss of the policy's score head is
    added to that of the answers (CP-LLM trains both at once); with `head_only` it is the only one.

    Args:
        args: `VQASFTConfig`.
        kwargs: As transformers'.
    """

    def __init__(self, model: Any, args: VQASFTConfig, **kwargs: Any) -> None:
        super().__init__(model, args, **kwargs)
        check_head_learns(self.model, args)
        if self.accelerator.is_main_process:
            warn_of_pairs(args, args.train_batch_size * args.world_size)
        if args.head_weight and self.train_dataset is not None:
            check_labels(args, self.train_dataset["mos"])
        self.head_loss = HeadLoss(args, self.accelerator)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """As transformers', or `answer_loss` where a batch has its targets; and the head's loss where it has `mos`."""
        inputs = dict(inputs)
        mos, targets = inputs.pop("mos", None), take_targets(inputs)
        loss: Any
        if targets:
            outputs = model(**inputs)
            loss = answer_loss(outputs.logits, targets, num_items_in_batch)
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # whose gradients are averaged
        elif mos is None or "labels" in inputs:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        else:
            loss, outputs = 0, model(**inputs, logits_to_keep=1)
        if mos is None:
            return (loss, outputs) if return_outputs else loss
        # transformers divides by the accumulated micro-batches only a loss that is no mean over all their tokens
        divided = num_items_in_batch is None or not self.model_accepts_loss_kwargs
        head = self.head_loss(outputs.scores, mos) / (1 if divided else self.current_gradient_accumulation_steps)
        return (loss + head, outputs) if return_outputs else loss + head

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """As transformers'; where not all tokens count alike with the sum of their weights, of all processes, in place
        of their number."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not (batches and "target_weights" in batches[0] and self.model_accepts_loss_kwargs):
            return batches, count
        total = torch.stack([batch["target_weights"].sum() for batch in batches]).sum().to(device)
        return batches, self.accelerator.reduce(total) if self.args.average_tokens_across_devices else total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As transformers', with what the head's loss consists of."""
        super().log(logs | (self.head_loss.logged() if "loss" in logs else {}), *args, **kwargs)

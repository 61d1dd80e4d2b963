"""`VQAGRPOTrainer`: TRL's GRPO loop with clips in and rewards over the global batch."""

from __future__ import annotations

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy as shallow_copy
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object, set_seed
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel
from trl.models import unwrap_model_for_generation

from vqathinker import perturb
from vqathinker._compat import float32_adapters, vllm_generation, without_false_alarm
from vqathinker.data import ClipLoader
from vqathinker.messages import videos_in
from vqathinker.policy import (
    ClipInput,
    FeatureCache,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
    base_policy,
    has_adapters,
)
from vqathinker.rewards import Rubric
from vqathinker.rollout import Completion, RolloutEngine, Sampling, make_engine
from vqathinker.rollout.vllm_engine import VLLMEngine
from vqathinker.scoring.predict import Prediction, predict
from vqathinker.tasks import task_of
from vqathinker.training.adapters import prepare_policy, settle
from vqathinker.training.advantages import own_scale
from vqathinker.training.checks import (
    check_batch,
    check_columns,
    check_ladders,
    check_models,
    check_reference,
    check_rows,
    evaluation_sets,
    packs_rows,
    vllm_model_length,
    weighted_rubric,
)
from vqathinker.training.config import VQAGRPOConfig
from vqathinker.training.console import add_console
from vqathinker.training.copies import perturbed_copies, wants_copy
from vqathinker.training.groups import (
    AnsweredCopy,
    ClipBatch,
    Tree,
    alternate,
    copy_row,
    group_of,
    head_places,
    rows_about,
    split_groups,
    take_groups,
)
from vqathinker.training.head_loss import (
    HeadLoss,
    check_head_learns,
    check_labels,
    labels_of,
    prepare_head,
    scores_said,
    warn_of_pairs,
)
from vqathinker.training.micro_batches import loss_in_parts, loss_mask, merge, parts_of
from vqathinker.training.options import check_trainer
from vqathinker.training.order import EpochCallback, EpochSampler
from vqathinker.training.precision import check_precision
from vqathinker.training.processes import gathered_for_encoding
from vqathinker.training.scores import kind_of, score_global_batch
from vqathinker.training.shown import ShownClips, show_clips
from vqathinker.training.validation import ValidationTrainer

GIVE_UP_AFTER = 16
"""Unreadable clips (all of a smaller set), without a readable one, after which a run stops: the set is elsewhere."""

LOGGED = ("video_id", "mos", "perturbed", "perturbation")
"""Columns of the table of completions beside TRL's and those that rewards add by `log_extra`."""


class VQAGRPOTrainer(ValidationTrainer):
    """GRPO for video quality assessment (VQAThinker Eq. 2-3) on TRL's trainer.

    TRL keeps the loop, the loss, the metrics, the checkpoints and the multi-process set-up. This class adds: clips are
    decoded and encoded once per batch; each clip gets one perturbed counterpart, whose answers are sampled in the same
    call; rewards see the whole global batch; the K answers to a clip stay together, so the clip is encoded once for
    them in the loss too. If a reward has `trains_copies`, the answers to the perturbed copies are trained on as those
    to clips of their own, and what a step holds is then twice what the configuration says.

    A row per logging step is printed and all metrics are written to a file, see `vqathinker.training.console`.

    Args:
        model: The policy, or the path of one; or a `PeftModel` whose adapter goes on, its first state the reference.
        rubric: A `rewards.Rubric` with its weights; or the name of a preset or a list of reward functions, which
            `reward_weights` of the configuration weigh, if given.
        args: Configuration.
        train_dataset: Column `prompt`, and `sample_id` or `video_id`, see `vqathinker.tasks.sample_dataset` and
            `vqathinker.data.clip_dataset`.
        processing_class: The policy's processor.
        kwargs: TRL's further arguments (`eval_dataset`, `callbacks`, `optimizers`, ...). `peft_config`, a `LoraConfig`,
            trains an adapter: without `target_modules` on the language model's linear layers, without
            `modules_to_save` with the motion projector, and a score head that is trained, whole. The reference is then
            the policy with its adapter off.

    Raises:
        ValueError: If the batch holds a single clip although a reward compares clips, `beta` needs a reference that
            cannot be loaded, a `video_id` names two clips, `reward_weights` of the configuration are not one per
            reward or contradict a `Rubric`, trained weights have 16 bits and no master weights (`check_precision`), or
            an adapter or quantized weights are of a kind that is not supported (`vqathinker.training.adapters`).
        ImportError: If PEFT or bitsandbytes is needed and missing.

    Metrics beside TRL's are `quality/...`: `parse_rate`, `out_of_range_rate`, `temporal_win_rate`, `srcc`, `plcc` (mean
    answer per clip against MOS, this batch), `skipped_clips` (unreadable so far in this batch), and what warns of a
    collapse, beside TRL's `entropy`: `group_reward_std` (standard deviation of the total reward among the answers to
    one clip, mean over clips; TRL's `reward_std` is that of the whole batch), `zero_gradient_groups` (share of clips
    whose answers all earn the same; TRL's `frac_reward_zero_std` is 0 with `scale_rewards="batch"`), `score_spread`
    (standard deviation of the clips' mean answers over that of their MOS), `identical_answers` (share of answers whose
    score another answer to the same clip gives too) and `common_score` (share of all answers that give the most
    frequent score). In batches with rungs of ladders `ladder_order` is the share of pairs of one ladder whose mean
    answers are in order, a tie as half of one. With `multi_objective_aggregation="normalize_then_sum"` answers that a
    reward cannot score are given its `floor`, and `floored_rewards` counts these rewards in the batch. What rewards log
    by `log_metric` is there too. The names of before, `vqa/...`, are logged for one more version. `head/mse` and
    `head/rank_...` are the terms of the loss of a score head that is trained.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "vqathinker"]
    _last_loaded_step: int  # TRL's, as what follows
    _logs: dict[str, Any]
    _buffered_inputs: list[dict[str, Any]] | None

    def __init__(
        self,
        model: PreTrainedModel | str,
        rubric: Rubric | str | Sequence[Callable[..., Any]],
        args: VQAGRPOConfig,
        train_dataset: Dataset,
        processing_class: VQAThinkerProcessor,
        **kwargs: Any,
    ) -> None:
        check_trainer(model, args, kwargs)
        self.rubric = weighted_rubric(rubric, args.reward_weights)
        args = shallow_copy(args)  # the caller's may be given to a trainer with another rubric too
        longest = check_rows(train_dataset, processing_class)
        model = prepare_policy(model, args, kwargs)
        check_columns(self.rubric, train_dataset)
        check_batch(self.rubric, args, train_dataset)
        self._rungs = check_ladders(self.rubric, args, train_dataset)
        check_reference(model, args, has_adapters(model) or bool(kwargs.get("peft_config")))
        for rows in evaluation_sets(kwargs.get("eval_dataset")):
            longest = max(longest, check_rows(rows, processing_class))
        args.reward_weights = list(self.rubric.weights)
        if args.use_vllm:
            args.vllm_max_model_length = vllm_model_length(args, longest)
        with vllm_generation(VLLMEngine), without_false_alarm(), float32_adapters(model):
            super().__init__(
                model=model,
                reward_funcs=list(self.rubric.rewards),
                args=args,
                train_dataset=train_dataset,
                processing_class=processing_class,
                **kwargs,
            )
        if args.use_vllm:
            if not isinstance(self.vllm_generation, VLLMEngine):
                raise TypeError(
                    f"TRL made a {type(self.vllm_generation).__name__} for rollouts, which cannot read clips, instead "
                    "of a VLLMEngine: this version of TRL is not supported, see constraints.txt."
                )
            set_seed(args.seed, device_specific=True)  # vLLM seeds every generator of the process with its own
        settle(self.model, self.args)
        check_precision(self.model, args)  # only now: TRL has loaded what was given as a path
        policy, reference = (m and base_policy(self.accelerator.unwrap_model(m)) for m in (self.model, self.ref_model))
        check_models(policy, reference, args.max_completion_length, longest, args.sync_ref_model)
        prepare_head(policy, args)
        check_head_learns(self.model, args)
        if self.accelerator.is_main_process:
            warn_of_pairs(args, args.per_device_train_batch_size // args.num_generations * args.world_size)
        check_labels(args, train_dataset["mos"] if "mos" in train_dataset.column_names else [])
        self.head_loss = HeadLoss(args, self.accelerator)
        self._packs = packs_rows(policy, reference, args.shared_prefix)
        self.add_callback(EpochCallback())
        add_console(self)
        clips = len({video for prompt in train_dataset["prompt"] for video in videos_in(prompt)})
        told = clips if self.accelerator.is_main_process else None
        processing_class.use_cache(args.frame_cache, args.frame_cache_gib, told)
        self.loader: ClipLoader[ClipInput] = ClipLoader(
            processing_class.load_clip,
            args.decode_threads,
            args.strict_clips,
            f"{args.output_dir}/skipped.jsonl",
            give_up_after=min(GIVE_UP_AFTER, clips),
        )
        self.data_collator = self.loader
        self.needs_perturbed = any(getattr(reward, "needs_perturbed", False) for reward in self.rubric.rewards)
        self.trains_copies = any(getattr(reward, "trains_copies", False) for reward in self.rubric.rewards)
        self._scales_by_batch = (
            self.scale_rewards == "batch" or self.multi_objective_aggregation == "normalize_then_sum"
        )
        self.sampling = Sampling(args.max_completion_length, args.temperature, args.top_p, args.top_k)
        policy.generation_config.max_new_tokens = args.max_completion_length  # for whoever loads the checkpoint
        self._features = FeatureCache(policy)
        self._clips = ClipBatch([], [], [])  # the clips behind the rows that TRL is scoring
        self._readable: list[bool] = []
        self._perturbed: list[str | None] = []
        self._copies: dict[int, AnsweredCopy] = {}
        self._perturbations: list[perturb.FrameMap | None] = []

    def _get_train_sampler(self, dataset: Dataset | None = None) -> EpochSampler:
        sampler = EpochSampler.like(super()._get_train_sampler(dataset))
        if self.args.data_seed is not None:  # TRL's takes the seed of everything else
            sampler.seed = self.args.data_seed
        if self._rungs is not None:
            sampler.arrange = self._rungs.arrange
        return sampler

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers', but where the reference moves with the policy (`sync_ref_model`) nothing is resumed."""
        if resume_from_checkpoint and self.args.sync_ref_model:
            raise ValueError(
                f"resume_from_checkpoint={resume_from_checkpoint!r} with sync_ref_model=True: a checkpoint does not "
                "hold the reference, which would start again from the initial policy. Start a new run."
            )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    # ------------------------------------------------------------------ rollouts

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        num_generations = self.num_generations
        rows = [self._varied(row) for row in inputs[::num_generations]]
        inputs = [row for row in rows for _ in range(num_generations)]
        # A prompt with an unreadable clip has empty answers, its rewards are missing and its tokens masked: it teaches
        # nothing.
        shown = show_clips(rows, self.loader, self.processing_class)
        self._readable = [readable for readable in shown.readable for _ in range(num_generations)]
        self._sync_engine()
        with self._whole_policy() as policy, torch.no_grad():
            streams = [stream.name for stream in policy.streams]
            seen = self._features.inputs(shown.names, shown.clips)
            self._clips = ClipBatch(shown.prompts, seen, streams, shown.names, policy.config.image_token_id)
            self._rollouts = self._roll_out(policy, rows, shown)
        if self._trains_copies_now():
            inputs = self._add_copies(inputs)
        if self.trains_copies:
            self._clear_logs(len(inputs) * self.accelerator.num_processes)
        output = super()._generate_and_score_completions(inputs)
        if self._scales_by_batch:
            self._scale_by_kind(output)
        output["clips"] = self._clips
        if self.args.head_weight:  # unreadable clips and copies teach the head nothing
            labels = torch.tensor(labels_of(inputs), device=output["advantages"].device)
            readable = torch.tensor(self._readable, device=labels.device)
            output["head_mos"] = labels.masked_fill(~readable, torch.nan)
        return output

    def _sync_engine(self) -> None:
        """Give vLLM the policy's weights, if they changed or it has slept since. Collective."""
        if self.use_vllm and (self.state.global_step != self._last_loaded_step or self.vllm_generation.asleep):
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step

    @contextmanager
    def _whole_policy(self) -> Iterator[VQAThinkerForConditionalGeneration]:
        """The policy with all its weights, which answers questions; under ZeRO-3 with vLLM, which has the language
        model's own, without the layers and head of its own. No collective in here: processes may do different amounts
        of work."""
        kwargs = self.args.gradient_checkpointing_kwargs  # with which checkpointing goes on afterwards
        unwrapped = unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, not self.use_vllm, gradient_checkpointing_kwargs=kwargs
        )
        with unwrapped as model, self.accelerator.autocast():
            policy = base_policy(model)
            gathered = gathered_for_encoding(self.model_wrapped, policy, self.accelerator)
            with gathered if self.use_vllm else nullcontext():
                yield policy

    def _roll_out(
        self,
        policy: VQAThinkerForConditionalGeneration,
        rows: list[dict[str, Any]],
        shown: ShownClips,
    ) -> list[Completion]:
        """K answers per prompt; those to the perturbed copies are kept as text."""
        batch, num_generations, processor = self._clips, self.num_generations, self.processing_class
        originals = [i for i, readable in enumerate(shown.readable) if readable]
        maps = {i: self._frame_map(rows[i], shown.clips[batch.places[i].start]) for i in originals}
        perturbed = {i: frame_map for i, frame_map in maps.items() if frame_map is not None}
        self._perturbations = [perturbed.get(i) for i in range(len(rows)) for _ in range(num_generations)]
        features = batch.encode(policy)
        moved = {batch.places[i].start: frame_map for i, frame_map in perturbed.items()}  # of prompts about one clip
        copies, inputs = perturbed_copies(policy, batch, shown.clips, features, moved, processor.blank_clip())
        about = [
            processor.render(rows[i]["prompt"], [shown.clips[batch.places[i].start].length.moved(frame_map)])
            for i, frame_map in perturbed.items()
        ]
        asked = [(batch.prompts[i], features[batch.places[i]]) for i in originals]
        asked += [(prompt, [copy]) for prompt, copy in zip(about, copies, strict=True)]
        prompts = [policy.prompt_embeds(prompt, clips) for prompt, clips in asked]
        completions = self._engine(policy).generate(prompts, num_generations, self.sampling)
        empty = Completion([self._tokenizer.eos_token_id], [0.0])
        answers = [empty] * (len(rows) * num_generations)
        texts: list[str | None] = [None] * len(answers)
        for place, group in zip(originals, completions, strict=False):
            answers[place * num_generations : (place + 1) * num_generations] = group
        to_copies = completions[len(originals) :]
        for place, group in zip(perturbed, to_copies, strict=True):
            texts[place * num_generations : (place + 1) * num_generations] = self._tokenizer.batch_decode(
                [c.token_ids for c in group], skip_special_tokens=True
            )
        self._perturbed = texts
        if self._trains_copies_now():
            own = zip(perturbed, about, inputs, to_copies, strict=True)
            self._copies = {place: AnsweredCopy(prompt, clip, answers) for place, prompt, clip, answers in own}
        return answers

    def _perturbs_now(self) -> bool:
        """In each n-th generation batch. They are counted from the step, which a resumed run knows; where an epoch ends
        in a shorter accumulation, the count shifts by what was missing."""
        if not self.needs_perturbed:
            return False
        accumulated = self.args.gradient_accumulation_steps
        micro_steps = self.state.global_step * accumulated + self._step % accumulated
        batch = micro_steps // (self.args.steps_per_generation * self.num_iterations)
        return batch % self.args.perturb_every == 0

    def _trains_copies_now(self) -> bool:
        return self.trains_copies and self._perturbs_now()

    def _add_copies(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Behind each clip's answers those to its copy, as of a clip of its own. A missing one keeps its place."""
        copies, size = self._copies, self.num_generations
        answers = [Completion([self._tokenizer.eos_token_id], [0.0])] * len(inputs)
        for place, copy in copies.items():
            answers[place * size : (place + 1) * size] = copy.answers
        self._clips = self._clips.with_copies(copies)
        self._rollouts = alternate(self._rollouts, answers, size)
        there = [row // size in copies for row in range(len(inputs))]
        self._readable = alternate(self._readable, there, size)
        self._perturbed = alternate(self._perturbed, [None] * len(inputs), size)
        self._perturbations = alternate(self._perturbations, self._perturbations, size)
        originals = [{**row, "copy_of": None} for row in inputs]
        return alternate(originals, [copy_row(row) for row in inputs], size)

    def _clear_logs(self, rows: int) -> None:
        """TRL's table of completions holds those of this generation batch, and no others."""
        columns = {"rewards", "extra"}
        self._logs = {
            name: defaultdict(lambda: deque(maxlen=rows)) if name in columns else deque(maxlen=rows)
            for name in self._logs
        }

    def _scale_by_kind(self, output: dict[str, Any]) -> None:
        """Advantages over the standard deviation of their task's originals or copies, not of all: see `own_scale`."""
        rewards, kinds = self._scored
        if len(set(kinds.tolist())) < 2:
            return
        weights, aggregation = self.reward_weights.to(rewards.device), self.multi_objective_aggregation
        factors = own_scale(rewards, weights, kinds, self.num_generations, aggregation)
        own = len(output["advantages"])
        output["advantages"] *= factors[own * self.accelerator.process_index :][:own]
        logged = self._logs["advantages"]
        before = [logged.pop() for _ in factors][::-1]
        logged.extend((torch.tensor(before) * factors.cpu()).tolist())

    def _engine(self, policy: VQAThinkerForConditionalGeneration) -> RolloutEngine:
        if self.use_vllm:
            return self.vllm_generation
        return make_engine(policy, self.processing_class)

    def _frame_map(self, row: dict[str, Any], clip: ClipInput) -> perturb.FrameMap | None:
        """The clip's perturbation in this batch: a function of seed, step and clip, whatever the process count."""
        if not (self._perturbs_now() and task_of(row).perturbs and wants_copy(row, self.rubric.rewards)):
            return None
        seed = self._seed_of(row)
        frame_map = perturb.draw(
            len(clip.frames),
            np.random.default_rng(seed),
            self.args.perturbation_modes,
            self.args.perturbation_variant,
        )
        return None if frame_map.is_identity else frame_map  # an identity would test nothing

    def _varied(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as its task asks it in this batch, likewise."""
        return task_of(row).vary(row, self.processing_class, np.random.default_rng([*self._seed_of(row), 1]))

    def _seed_of(self, row: dict[str, Any]) -> list[int]:
        micro_step = self._step % self.args.gradient_accumulation_steps
        return [self.args.seed, self.state.global_step, micro_step, zlib.crc32(group_of(row).encode())]

    # ------------------------------------------------------------------ what TRL calls, in this order

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        answers = len(prompts) // len(self._clips)
        return [list(prompt.ids) for prompt in self._clips.prompts for _ in range(answers)], None, {}

    def _generate_single_turn(
        self, prompt_ids: list, images: Any, multimodal_fields: dict, num_generations: int, **kwargs: Any
    ) -> tuple[list[list[int]], list[list[float] | None] | None]:
        logprobs = [answer.logprobs for answer in self._rollouts] if self.use_vllm else None
        return [answer.token_ids for answer in self._rollouts], logprobs

    def _generate(self, prompts: list) -> tuple:
        """As TRL's, with the tokens of unreadable clips masked out of the loss, and with answers as they were given,
        whatever the tokenizer's template would take out of them."""
        prompt_ids, completion_ids, tool_mask, _, *rest = super()._generate(prompts)
        texts = self._tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        if not all(self._readable):
            tool_mask = [[int(ok)] * len(ids) for ok, ids in zip(self._readable, completion_ids, strict=True)]
        return prompt_ids, completion_ids, tool_mask, completions, *rest

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """(R, logits_to_keep) log-probabilities and entropies of R rows that look at the current clips."""
        clips, logps, entropies, rows = self._clips, [], [], []
        parts = [clips.trees]
        if batch_size is not None:
            parts = self._parts(attention_mask[:, -logits_to_keep:], batch_size)
        for part in parts:
            packed, seen = rows_about(clips, part, input_ids, attention_mask, logits_to_keep, self._packs)
            if self.args.head_weight and torch.is_grad_enabled():  # in the loss
                places = head_places(base_policy(self.model).config.score_head, packed, part, clips.prompts)
                seen["score_at"] = torch.tensor(places, device=input_ids.device)
            with self.accelerator.autocast():
                outputs = model(**packed.inputs, **seen, shift_labels=packed.targets, fused_lm_head=True)
            rows += packed.rows
            logps.append(packed.unpack(outputs.log_probs))
            if compute_entropy:
                entropies.append(packed.unpack(outputs.entropy))
        order = torch.tensor(rows, device=input_ids.device).argsort()
        return torch.cat(logps)[order], torch.cat(entropies)[order] if compute_entropy else None, None

    def _parts(self, completion_mask: torch.Tensor, max_rows: int) -> list[list[Tree]]:
        """The current clips in passes of at most `max_tokens_per_batch` tokens, or else of so many rows. Collective."""
        clips, answers = self._clips, len(completion_mask) // len(self._clips)
        limit, lengths = self.args.max_tokens_per_batch, completion_mask.sum(1).tolist()
        if limit is None:
            return parts_of(clips.trees, lambda tree: answers * len(tree.groups), max_rows, self.accelerator)
        if self._packs:
            return parts_of(clips.trees, lambda tree: clips.tokens(tree, lengths), limit, self.accelerator)
        width = max(len(prompt.ids) for prompt in clips.prompts) + completion_mask.shape[1]
        return parts_of(clips.trees, lambda tree: answers * len(tree.groups) * width, limit, self.accelerator)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list, completions: list, completion_ids_list: list
    ) -> torch.Tensor:
        """(global rows, rewards), NaN = not scorable: the rubric sees every process's answers at once."""
        local = [
            {**row, "completion": completion, "completion_ids": ids, "perturbed": perturbed, "readable": readable}
            for row, completion, ids, perturbed, readable in zip(
                inputs, completions, completion_ids_list, self._perturbed, self._readable, strict=True
            )
        ]
        # Rewards that are normalized one by one: there a missing one would count as the mean of its group.
        floor = self.multi_objective_aggregation == "normalize_then_sum"
        rows = gather_object(local)
        table = score_global_batch(self.rubric, rows, floor, self._log_column, trainer_state=self.state)
        rewards = table.rewards.to(self.accelerator.device)
        kinds = [kind_of(row, ladders=self._rungs is not None) for row in rows]
        number = {kind: i for i, kind in enumerate(sorted(set(kinds)))}
        self._scored = rewards, torch.tensor([number[kind] for kind in kinds], device=rewards.device)
        for name, value in table.metrics.items():
            for prefix in ("quality", "vqa"):  # the latter until the next version
                self._metrics["train"][f"{prefix}/{name}"].append(value)
        self._log_completion_extra("video_id", [group_of(row) for row in local])
        for column in LOGGED[1:-1]:  # beside each answer in TRL's table of completions
            self._log_completion_extra(column, [row.get(column) for row in local])
        shown = [" ".join(map(str, (m.mode, *m.source))) if m else None for m in self._perturbations]
        self._log_completion_extra(LOGGED[-1], shown)
        return rewards

    def _log_column(self, column: str, values: list[Any]) -> None:
        """A reward's further column, of all processes' answers, in TRL's table of completions."""
        if column in LOGGED:
            raise ValueError(
                f"log_extra({column!r}, ...): the table of completions already has this column: rename yours."
            )
        own = len(values) // self.accelerator.num_processes
        self._log_completion_extra(column, values[own * self.accelerator.process_index :][:own])

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Any]:
        """As TRL's, without shuffling single answers: the K answers to a clip stay together."""
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_groups(self._generate_and_score_completions(generation_batch), steps)
        return self._buffered_inputs[self._step % steps]

    # ------------------------------------------------------------------ validation

    def _judge(self, rows: list[Mapping[str, Any]]) -> list[Prediction]:
        """Greedy answers to some rows, with the engine of the rollouts. Collective with vLLM and under ZeRO-3."""
        self._sync_engine()
        size = len(rows) if self.use_vllm else self.args.per_device_eval_batch_size
        with self._whole_policy() as policy:
            engine = self._engine(policy)
            if self.use_vllm and not rows:  # the other processes of a tensor-parallel engine wait for this one
                engine.generate([], 1, self.sampling)
                return []
            prompts = [row["prompt"] for row in rows]
            videos = [videos[0] if len(videos) == 1 else videos for videos in map(videos_in, prompts)]
            return predict(
                policy,
                self.processing_class,
                videos,
                sampling=self.sampling,
                batch_size=size,
                engine=engine,
                questions=prompts,
            )

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """As TRL's. With `max_tokens_per_batch` in parts, of which the last one's gradients are left to the caller."""
        whole = super()._compute_loss

        def compute(batch: dict[str, Any]) -> torch.Tensor:
            self._clips = batch["clips"]
            return self._with_head(model, batch, whole) if self.args.head_weight else whole(model, batch)

        if self.args.max_tokens_per_batch is None:
            return compute(inputs)
        self._clips, mask = inputs["clips"], inputs["completion_mask"]
        groups = [sorted(group for tree in part for group in tree.groups) for part in self._parts(mask, len(mask))]
        if len(groups) == 1:
            return compute(inputs)
        parts, metrics = [take_groups(inputs, part) for part in groups], self._metrics["train"]
        logged = {name: len(values) for name, values in metrics.items()}
        loss = loss_in_parts(compute, parts, self.loss_type, self.accelerator, model)
        tokens = self.accelerator.reduce(torch.stack([loss_mask(part).sum() for part in parts]).float()).tolist()
        answers = [float(len(part["completion_ids"])) for part in parts]
        merge(metrics, logged, tokens, answers if self.importance_sampling_level == "sequence" else tokens)
        return loss

    def _with_head(self, model: nn.Module, batch: dict[str, Any], whole: Callable[..., torch.Tensor]) -> torch.Tensor:
        """TRL's loss of a micro-batch, and the score head's, from the same pass."""
        with scores_said(base_policy(self.accelerator.unwrap_model(model))) as said:
            loss = whole(model, batch)
        [scores] = said
        answers = len(batch["completion_ids"]) // len(batch["clips"])
        head = self.head_loss(scores, batch["head_mos"][::answers])
        for name, value in self.head_loss.logged().items():
            self._metrics["train"][name].append(value)
        return loss + head / self.current_gradient_accumulation_steps

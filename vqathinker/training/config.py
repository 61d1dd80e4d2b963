"""`VQAGRPOConfig`: TRL's GRPO configuration with the paper's defaults and what clips need."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import SaveStrategy, SchedulerType
from trl import GRPOConfig

from vqathinker.perturb import MODES
from vqathinker.rollout.vllm_engine import check_vllm
from vqathinker.training.head_loss import HeadArguments, check_head_arguments
from vqathinker.training.options import check_options, check_parts
from vqathinker.training.processes import check_one_device, join_processes_on_cpu
from vqathinker.training.reporting import check_reporting
from vqathinker.training.stopping import generation_period
from vqathinker.training.validation import known_metrics


def check_groups(batch: int, answers: int) -> None:
    """Raise `ValueError` if a batch of so many answers cannot keep together the K `answers` to each clip."""
    if batch % answers:
        fitting = max(1, batch // answers) * answers
        raise ValueError(
            f"per_device_train_batch_size={batch} counts answers and must be a multiple of num_generations={answers}, "
            "so that the answers to one clip stay together. Use "
            f"per_device_train_batch_size={fitting}, or another num_generations."
        )


@dataclass
class VQAGRPOConfig(HeadArguments, GRPOConfig):
    """`GRPOConfig` with VQAThinker's hyper-parameters as defaults.

    What each option means here, and which are refused: `docs/options.md`.

    Args:
        perturbation_modes: Temporal perturbations to draw from; names of `perturb.MODES`.
        perturbation_variant: `"paper"` or `"official"`, see `perturb.draw`.
        perturb_every: Where a reward needs perturbed copies (`rewards.Temporal`, `rewards.Contrast`): each n-th
            generation batch has them, n >= 1. The others lack these rewards, and take about half as long.
        ladder_rungs: Where a reward compares rungs of ladders (`rewards.Contrast`): so many of one ladder come into one
            generation batch, n >= 2.
        strict_clips: Stop at the first unreadable clip instead of skipping and listing it in `skipped.jsonl`.
        decode_threads: Clips decoded at a time.
        frame_cache: Folder for a lossless cache of decoded frames; `None` or `""` = none.
        frame_cache_gib: Cap on what that folder holds, in GiB, > 0. LSVQ takes 118.
        max_tokens_per_batch: Most tokens of one pass in the loss, > 0, `None` = whole micro-batches. The answers to a
            clip stay together, whatever they cost.
        shared_prefix: `"auto"`, `"always"` or `"never"`: do the answers to a clip share its prompt in the loss?
        head_weight, head_rank, head_rank_weight: See `vqathinker.training.head_loss`.

    Raises:
        ValueError: If a setting breaks a rule; the message names value, rule and fix.
        ImportError: If a package that `report_to` or `use_vllm` needs is missing.
    """

    if TYPE_CHECKING:  # fields of TRL's
        num_generations_eval: int | None = None
        metric_for_best_model: str | None = None
        lr_scheduler_kwargs: dict[str, Any] | str | None = None

    num_generations: int = field(default=4, metadata={"help": "Answers per clip, K (paper: 4)."})
    beta: float = field(default=0.04, metadata={"help": "Weight of the KL penalty (paper: 0.04)."})
    temperature: float = field(default=0.9, metadata={"help": "Sampling temperature (paper: 0.9)."})
    top_k: int = field(default=50, metadata={"help": "Tokens to sample from (top-k), 0 = all (paper: 50)."})
    max_completion_length: int = field(default=2048, metadata={"help": "Longest answer in tokens (paper: 2048)."})
    loss_type: str = field(default="grpo", metadata={"help": "TRL's loss; 'grpo' is the paper's, Eq. 3."})
    use_bias_correction_kl: bool = field(
        default=False,
        metadata={
            "help": "Multiply the KL penalty by the ratio of the policy to the one that answered (TRL's default). The "
            "gradient then differs from the paper's, Eq. 3."
        },
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "One weight per reward, in the rubric's order; default the rubric's own."}
    )
    vllm_importance_sampling_mode: str = field(
        default="token_truncate",
        metadata={
            "help": "TRL's modes of correcting for the sampler. The sampler's log-probabilities are over top_k, the "
            "trainer's over the whole vocabulary: for a long answer ('sequence_...') the ratio would vanish."
        },
    )
    log_multimodal: bool = field(default=False, metadata={"help": "Must stay false: clips cannot be logged."})
    perturbation_modes: list[str] = field(
        default_factory=lambda: list(MODES), metadata={"help": f"Temporal perturbations: {', '.join(MODES)}."}
    )
    perturbation_variant: str = field(default="paper", metadata={"help": "'paper' or 'official'."})
    perturb_every: int = field(
        default=1,
        metadata={"help": "Make perturbed copies, for rewards that need them, in every n-th generation batch."},
    )
    ladder_rungs: int = field(
        default=2,
        metadata={"help": "Rungs of a ladder that share a generation batch, for rewards that compare them."},
    )
    strict_clips: bool = field(default=False, metadata={"help": "Stop at the first unreadable clip."})
    decode_threads: int = field(default=2, metadata={"help": "Clips decoded in parallel."})
    frame_cache: str | None = field(default=None, metadata={"help": "Folder of the lossless frame cache; '' for none."})
    frame_cache_gib: float = field(default=64, metadata={"help": "Cap on the frame cache, in GiB (LSVQ needs 118)."})
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens of one pass in the loss, > 0: a micro-batch with more is computed in parts, long and "
            "short groups together. The update stays the same. Unset: whole micro-batches."
        },
    )
    shared_prefix: str = field(
        default="auto",
        metadata={
            "help": "'always': the answers to a clip share its prompt in one packed row. 'never': one row per answer. "
            "'auto': packed rows, unless the policy's attention is another one than 'sdpa' and cannot read them."
        },
    )

    def __post_init__(self) -> None:
        join_processes_on_cpu(self)
        self._set_validation()
        check_groups(self.per_device_train_batch_size, self.num_generations)  # TRL's speaks of their product with steps
        super().__post_init__()
        check_options(self)
        check_one_device(self)
        check_reporting(self.report_to)
        if not self.ds3_gather_for_generation:
            raise ValueError(
                "ds3_gather_for_generation=False: processes sample different numbers of prompts, which ZeRO-3 can only "
                "do with gathered weights. Leave it True."
            )
        if self.use_vllm:
            check_vllm()
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}: answers are sampled, so it must be above 0.")
        self._check_save_steps()
        unknown = [mode for mode in self.perturbation_modes if mode not in MODES]
        if unknown or not self.perturbation_modes:
            raise ValueError(f"perturbation_modes={self.perturbation_modes}: give at least one of {list(MODES)}.")
        if self.perturbation_variant not in ("paper", "official"):
            raise ValueError(f"perturbation_variant={self.perturbation_variant!r}: must be 'paper' or 'official'.")
        if self.perturb_every < 1:
            raise ValueError(f"perturb_every={self.perturb_every}: must be at least 1 (every generation batch).")
        if self.ladder_rungs < 2:
            raise ValueError(f"ladder_rungs={self.ladder_rungs}: must be at least 2, so that there is an order.")
        if self.decode_threads < 1:
            raise ValueError(f"decode_threads={self.decode_threads}: must be at least 1.")
        if self.shared_prefix not in ("auto", "always", "never"):
            raise ValueError(f"shared_prefix={self.shared_prefix!r}: must be 'auto', 'always' or 'never'.")
        check_head_arguments(self)
        check_parts(self)
        self.frame_cache = (self.frame_cache or "").strip() or None
        if self.frame_cache_gib <= 0:
            raise ValueError(
                f"frame_cache_gib={self.frame_cache_gib}: must be above 0; for no cache leave frame_cache empty."
            )

    def _set_validation(self) -> None:
        """Validation takes one greedy answer for each clip; what is best is told by a metric that it has."""
        if self.num_generations_eval not in (None, 1):
            raise ValueError(
                f"num_generations_eval={self.num_generations_eval}: validation uses one greedy answer per clip. Leave "
                "it unset."
            )
        self.num_generations_eval = 1
        plateau = self.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU
        if self.load_best_model_at_end or plateau or self.save_strategy == SaveStrategy.BEST:
            self.metric_for_best_model = self.metric_for_best_model or "srcc"
        metric, known = self.metric_for_best_model, known_metrics()
        if metric is not None and not metric.endswith(known):
            raise ValueError(
                f"metric_for_best_model={metric!r}: validation reports {', '.join(known)}; for several named sets "
                "NAME_srcc. Choose one of them."
            )
        if plateau and self.greater_is_better is not False:
            own = self.lr_scheduler_kwargs  # from YAML a dict, from the command line JSON
            self.lr_scheduler_kwargs = {"mode": "max"} | (json.loads(own) if isinstance(own, str) else own or {})

    def _check_save_steps(self) -> None:
        """Answers are no part of a checkpoint: it must fall where new ones come, or a resumed run would differ."""
        name = "save_steps" if self.save_strategy == "steps" else "eval_steps"  # "best" saves after an evaluation
        steps = getattr(self, name)
        period = generation_period(self)
        by_steps = self.save_strategy == "steps" or (self.save_strategy == "best" and self.eval_strategy == "steps")
        if by_steps and period > 1 and steps % period:  # a share of all steps, below 1, may fall anywhere
            raise ValueError(
                f"{name}={steps}: one generation batch is trained on for {period} steps "
                f"(steps_per_generation={self.steps_per_generation} x num_iterations={self.num_iterations} / "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}), and a checkpoint between two of "
                f"them could not be resumed exactly. Use a multiple of {period}."
            )

"""Which options of TRL and transformers a run refuses, as they would do nothing, or harm, in it.

None is ignored: `docs/options.md` says of every option what it means here, and `tests/training/test_options.py` fails
for one of a new version that nobody has decided on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig
from transformers.training_args import OptimizerNames
from transformers.utils import strtobool

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

    from vqathinker.training.config import VQAGRPOConfig

_SAMPLING = "answers are sampled with temperature, top_p and top_k only: prompts are embeddings, without tokens"
_ENGINE = "answers come from the library's own engines, which keep a prompt once for all its answers"
_SERVER = "vLLM runs in the training process, because answers start from the policy's embeddings; there is no server"
_NO_TOOLS = "an answer is one turn, without tools"
_NO_WORKERS = "clips are decoded ahead by threads, not by workers of the data loader. Set decode_threads"
_METRICS = "validation reports eval_srcc, eval_plcc and eval_parse_rate only"
_ORDER = "the library orders the clips itself, to keep the answers to a clip together"
_AFTERWARDS = "policies are judged after training, with `vqathinker eval`"
_LAYERS = "the kernels are looked up by the model's type, and there are none for this library's"

REFUSED: Mapping[str, str] = {
    # how answers are drawn
    "min_p": _SAMPLING,
    "repetition_penalty": _SAMPLING,
    "generation_kwargs": _SAMPLING,
    "vllm_structured_outputs_regex": _SAMPLING,
    "cache_implementation": _ENGINE,
    "use_transformers_paged": f"{_ENGINE}. Set use_vllm=True for speed",  # sets the next one
    "use_transformers_continuous_batching": f"{_ENGINE}. Set use_vllm=True for speed",
    "transformers_continuous_batching_config": _ENGINE,
    "chat_template_kwargs": "the template is the processor's",
    "max_tool_calling_iterations": _NO_TOOLS,
    "vllm_model_impl": "vLLM's other implementation changes the transformers classes that the policy is made of, "
    "whose next forward then fails. Use 'vllm'",
    "vllm_mode": f"{_SERVER}. Use 'colocate'",
    "vllm_server_base_url": _SERVER,
    "vllm_server_host": _SERVER,
    "vllm_server_port": _SERVER,
    "vllm_server_timeout": _SERVER,
    "vllm_group_port": _SERVER,
    # the policy
    "trust_remote_code": "policy and processor are classes of this library, and no code of a checkpoint runs",
    "router_aux_loss_coef": "policies with experts are not supported, so there is no load to balance",
    "use_liger_kernel": _LAYERS,
    "liger_kernel_config": _LAYERS,
    "use_cache": "the loss takes whole rows, and rollouts keep their own cache",
    "neftune_noise_alpha": "the noise would enter the prompts of rollouts and the ratios of the loss. Use it in the "
    "supervised warm start",
    "fp16_full_eval": "it would turn the trained weights into float16. fp16=True computes in float16",
    "bf16_full_eval": "it would turn the trained weights into bfloat16. bf16=True computes in bfloat16",
    "fsdp": "rollouts encode clips with parts of the policy, which FSDP cannot gather one by one. Use "
    "recipes/accelerate/ddp.yaml, zero2.yaml or zero3.yaml",
    "fsdp_config": "FSDP is not supported. Use recipes/accelerate/ddp.yaml, zero2.yaml or zero3.yaml",
    "parallelism_config": "policies are distributed by DDP or DeepSpeed ZeRO only. Use recipes/accelerate/ddp.yaml, "
    "zero2.yaml or zero3.yaml",
    # clips and batches
    "remove_unused_columns": "the columns video, video_id, mos and those of the rewards are needed",
    "pad_to_multiple_of": "the answers to a clip are packed into one row, without padding. Set it to null",
    "train_sampling_strategy": f"{_ORDER}. For the order of the label file set shuffle_dataset=False",
    "length_column_name": _ORDER,
    "dataloader_num_workers": _NO_WORKERS,
    "dataloader_persistent_workers": _NO_WORKERS,
    "dataloader_multiprocessing_context": _NO_WORKERS,
    "dataloader_in_order": _NO_WORKERS,
    # loss and evaluation
    "label_smoothing_factor": "the loss is GRPO's, in which no label is smoothed",
    "average_tokens_across_devices": "loss_type decides how tokens are averaged",
    "label_names": _METRICS,
    "prediction_loss_only": _METRICS,
    "include_for_metrics": _METRICS,
    "batch_eval_metrics": _METRICS,
    "eval_do_concat_batches": _METRICS,
    "eval_use_gather_object": _METRICS,
    "eval_accumulation_steps": _METRICS,
    "do_predict": _AFTERWARDS,
    # logs and checkpoints
    "log_multimodal": "clips cannot be logged; the table of completions names them by video_id",
    "log_unique_prompts": "clips with the same question have the same prompt, so the table would keep only one of "
    "their rows",
    "include_num_input_tokens_seen": "TRL counts tokens anyway, as num_tokens",
    "enable_jit_checkpoint": "it saves between two generation batches, where no run can resume exactly. Set save_steps",
}
"""Option -> why it is not taken, and what to do instead, where something is to be done."""

SFT_REFUSED: Mapping[str, str] = {
    "label_smoothing_factor": "transformers would smooth the labels of the token before",
    "use_liger_kernel": _LAYERS,
    "liger_kernel_config": _LAYERS,
    "dataloader_num_workers": _NO_WORKERS,
    "remove_unused_columns": "the model's inputs are made from columns that it does not know, video and completion",
    "do_eval": _AFTERWARDS,
    "do_predict": _AFTERWARDS,
}
"""The same for the supervised warm start, which takes transformers' `TrainingArguments`."""

TRAINER_REFUSED = ("tools", "rollout_func", "environment_factory", "reward_processing_classes")
"""Arguments of TRL's trainer that belong to answers of several turns and to reward models."""

_QUANTIZING = ("quantization_config", "load_in_4bit", "load_in_8bit")
"""Arguments of `from_pretrained` that quantize weights."""

_SHARED_OUT = {"split_batches": False, "dispatch_batches": False, "even_batches": True, "use_seedable_sampler": True}
"""What `accelerator_config` must say, or leave out: the sampler hands each process whole groups."""


def refuse_options(args: TrainingArguments, refused: Mapping[str, str] = REFUSED) -> None:
    """Raise `ValueError` if an option that is not taken has another value than its default.

    Args:
        args: A dataclass of options.
        refused: Name -> why.
    """
    defaults = {option.name: option.default for option in fields(args)}
    for name, why in refused.items():
        if name not in defaults:  # in this version of transformers
            continue
        value = getattr(args, name)
        if value != defaults[name] and value not in (None, "", [], {}):
            raise ValueError(f"{name}={value!r}: {why}. Leave it out.")


def check_options(args: VQAGRPOConfig) -> None:
    """Raise `ValueError` if an option of a GRPO run is not taken, or not with this value.

    Args:
        args: `VQAGRPOConfig`.
    """
    refuse_options(args)
    if strtobool(os.environ.get("ACCELERATE_USE_FSDP", "false")):
        raise ValueError(f"launched with FSDP: {REFUSED['fsdp']}.")
    if args.do_eval and args.eval_strategy == "no":
        raise ValueError("do_eval=True with eval_strategy='no': validation follows eval_strategy; set that.")
    if args.max_completion_length is None:
        raise ValueError("max_completion_length=None: answers need a limit. Set it, in tokens.")
    if quantizing := {name: value for name, value in (args.model_init_kwargs or {}).items() if name in _QUANTIZING}:
        raise ValueError(
            f"model_init_kwargs={quantizing}: the reference would be loaded with it too. Give the trainer "
            "quantization_config with peft_config (recipes: load_in_4bit with use_peft)."
        )
    sharing = args.accelerator_config.to_dict()
    accumulated = (sharing["gradient_accumulation_kwargs"] or {}).get("num_steps", 1)
    if accumulated != 1 or any(bool(sharing[key]) != value for key, value in _SHARED_OUT.items()):
        raise ValueError(
            f"accelerator_config={sharing}: the sampler gives each process whole groups of answers, and a generation "
            f"batch covers gradient_accumulation_steps. Leave {[*_SHARED_OUT]} and num_steps out."
        )
    lost = {"every_n_layers", "offload"} & set(args.gradient_checkpointing_kwargs or {})
    if lost:
        raise ValueError(
            f"gradient_checkpointing_kwargs={args.gradient_checkpointing_kwargs}: checkpointing is off during "
            f"rollouts, and TRL turns it on again without {sorted(lost)}. Leave them out."
        )


def check_parts(args: VQAGRPOConfig) -> None:
    """Raise `ValueError` if the micro-batches of a GRPO run cannot be computed in parts as they are to be.

    Args:
        args: `VQAGRPOConfig`.
    """
    limit = args.max_tokens_per_batch
    if limit is None:
        return
    if limit < 1:
        raise ValueError(f"max_tokens_per_batch={limit}: must be at least 1, or unset for whole micro-batches.")
    whole = {
        "top_entropy_quantile": args.top_entropy_quantile < 1,
        "entropy_coef": bool(args.entropy_coef),
        "use_adaptive_entropy": args.use_adaptive_entropy,
        "head_weight": bool(args.head_weight),
    }
    if needing := [name for name, needed in whole.items() if needed]:
        raise ValueError(
            f"max_tokens_per_batch={limit} with {needing[0]}={getattr(args, needing[0])}: the latter is taken "
            "over a whole micro-batch, its tokens or pairs of its clips, which is then computed in parts. Leave one of "
            "the two out; to save memory, lower per_device_train_batch_size."
        )
    optimizer = args.optim.value
    if optimizer in (OptimizerNames.LOMO, OptimizerNames.ADALOMO) or optimizer.endswith("layerwise"):
        raise ValueError(
            f"max_tokens_per_batch={limit} with optim={optimizer}: this optimizer takes a step in every backward pass. "
            "Leave one of the two out."
        )


def check_trainer(model: PreTrainedModel | str, args: VQAGRPOConfig, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` if the trainer is given an argument of TRL's that it does not take, or not with this policy.

    Args:
        model: The policy, or the path of one.
        args: `VQAGRPOConfig`.
        arguments: Of TRL's trainer.
    """
    given = [name for name in TRAINER_REFUSED if arguments.get(name) is not None]
    if given:
        raise ValueError(f"{given}: {_NO_TOOLS}, drawn by the library's own engines, and rewards are functions.")
    if args.cast_lm_head_to_fp32:
        config = AutoConfig.from_pretrained(model) if isinstance(model, str) else model.config
        if config.tie_word_embeddings:
            raise ValueError(
                "cast_lm_head_to_fp32=True: the policy's last layer shares its weights with the embeddings "
                "(tie_word_embeddings), which stay as they are. Leave it out."
            )

"""Training adapters (LoRA) instead of all weights, on a base of 32, 16 or 4 bits: which, and what is refused.

By default each linear layer of the language model gets a LoRA, and what starts without trained weights is trained
whole: the projectors of motion and low-level tokens and, where a run trains it, a score head. The encoders and the
vision tower's projector stay as they are. The reference of the KL penalty is the policy with its adapter off, so no
second model is loaded.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, set_seed
from transformers.utils import is_bitsandbytes_available

from vqathinker.policy import (
    VQAThinkerConfig,
    VQAThinkerForConditionalGeneration,
    base_policy,
    check_mergeable,
    has_adapters,
    import_peft,
)
from vqathinker.policy.adapters import NAME
from vqathinker.training.head_loss import prepare_head
from vqathinker.training.precision import dtype_over_master_weights
from vqathinker.wording import install

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import TrainingArguments

    from vqathinker.training.config import VQAGRPOConfig

Layers = str | Collection[str]
"""PEFT's `target_modules` or `exclude_modules`."""
LANGUAGE_MODEL = "model.language_model."
SCORE_HEAD = "model.score_head."
NEW_PROJECTORS = ("motion_projector", "low_projector")
"""Those that `vqathinker init` starts without trained weights."""
SAVED_WHOLE = (*NEW_PROJECTORS, "multi_modal_projector", "low_encoder", "score_head")
"""Parts that may be trained whole beside the adapter."""
VARIANTS = (
    *("lora_bias", "target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens"),
    *("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config"),
)
"""Options of `LoraConfig` under which an adapter is more, or other, than products added to weights."""
NOT_QUANTIZED = tuple(
    f"model.{part}"
    for part in (
        *("vision_tower", "multi_modal_projector", "motion_encoder", "motion_projector"),
        *("low_encoder", "low_projector", "score_head"),
    )
)


@dataclass(kw_only=True)
class AdapterArguments:
    """Adapters and quantized weights, by the names of TRL's `ModelConfig`.

    What else `ModelConfig` has is left out: `model` and `dtype` stand in its place, or a run would not honour it.
    """

    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter instead of all weights."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(
        default=32, metadata={"help": "The adapter's product is multiplied by lora_alpha / lora_r."}
    )
    lora_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Dropout, for the supervised warm start only; in GRPO, rollouts and loss must use one policy."
        },
    )
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of language-model layers (q_proj v_proj ...), default all linear ones; or one regular "
            "expression over whole names, or 'all-linear', which reach the vision tower too."
        },
    )
    lora_modules_to_save: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Parts to train whole, among {', '.join(SAVED_WHOLE)}; default those of "
            f"{', '.join(NEW_PROJECTORS)} that the policy has, unless frozen, and score_head, where it is trained."
        },
    )
    use_rslora: bool = field(
        default=False, metadata={"help": "Divide lora_alpha by the square root of lora_r instead."}
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Load the language model's linear layers in 4 bits; needs use_peft."}
    )
    bnb_4bit_quant_type: str = field(default="nf4", metadata={"help": "4-bit type: 'nf4' or 'fp4'."})
    use_bnb_nested_quant: bool = field(default=False, metadata={"help": "Quantize the quantization constants too."})

    def __post_init__(self) -> None:
        given = [option.name for option in fields(AdapterArguments) if getattr(self, option.name) != option.default]
        of_4bit = [name for name in given if "bnb" in name]
        if of_4bit and not self.load_in_4bit:
            raise ValueError(f"{of_4bit} without load_in_4bit: nothing is quantized. Set load_in_4bit: true.")
        if given and not self.use_peft:
            raise ValueError(f"{given} without use_peft: no adapter is trained. Set use_peft: true, or leave it out.")
        if self.lora_r < 1 or self.lora_alpha <= 0 or not 0 <= self.lora_dropout < 1:
            raise ValueError(
                f"lora_r={self.lora_r}, lora_alpha={self.lora_alpha}, lora_dropout={self.lora_dropout}: must be at "
                "least 1, above 0, and in [0, 1)."
            )
        if self.bnb_4bit_quant_type not in ("nf4", "fp4"):
            raise ValueError(f"bnb_4bit_quant_type={self.bnb_4bit_quant_type!r}: must be 'nf4' or 'fp4'.")


def get_quantization_config(options: AdapterArguments, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How `from_pretrained` loads the language model in 4 bits; the rest of the policy keeps `dtype`.

    Args:
        options: The user's.
        dtype: In which products are computed.

    Raises:
        ImportError: If bitsandbytes is not installed.
    """
    if not options.load_in_4bit:
        return None
    if not is_bitsandbytes_available():
        raise ImportError(f"load_in_4bit=True needs bitsandbytes: {install('quantized')}.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_type=options.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=options.use_bnb_nested_quant,
        llm_int8_skip_modules=[*NOT_QUANTIZED, "lm_head"],
    )


def get_peft_config(
    options: AdapterArguments, policy: PreTrainedModel, frozen: Sequence[str] = ()
) -> LoraConfig | None:
    """The `peft.LoraConfig` for a policy, `None` without `use_peft`.

    Args:
        options: The user's.
        policy: Whose layers are named.
        frozen: Parts that must stay as they are, see `policy.freeze`.

    Raises:
        ImportError: If PEFT is not installed.
        ValueError: If a layer or part is not there, or is frozen and trained.
    """
    if not options.use_peft:
        return None
    peft = import_peft("use_peft=True")
    target, excluded, saved = completed_names(options, policy, frozen)
    config = peft.LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=target,
        exclude_modules=excluded,
        modules_to_save=saved,
        use_rslora=options.use_rslora,
    )
    check_lora(config, policy)
    if trained := sorted(set(frozen) & {*saved, *adapted_parts(target, policy, excluded)}):
        raise ValueError(f"freeze={trained}, but the adapter trains it: leave it out of one of the two.")
    return config


def adapted_names(target: Layers, policy: PreTrainedModel, excluded: Layers | None = None) -> list[str]:
    """Names of the layers that PEFT's `target_modules` means, without those that `exclude_modules` does."""

    def means(pattern: Layers | None, name: str, module: nn.Module) -> bool:
        if pattern == "all-linear":
            return isinstance(module, nn.Linear) and module is not policy.get_output_embeddings()
        if isinstance(pattern, str):
            return re.fullmatch(pattern, name) is not None
        return any(name == key or name.endswith(f".{key}") for key in pattern or ())

    named = policy.named_modules()
    return [name for name, module in named if means(target, name, module) and not means(excluded, name, module)]


def adapted_parts(target: Layers, policy: PreTrainedModel, excluded: Layers | None = None) -> set[str]:
    """Parts of the policy in which layers get a LoRA: "language_model", "vision_tower", ..., "embed_tokens"."""
    names = adapted_names(target, policy, excluded)
    embeds = {"embed_tokens"} if any(name.endswith("embed_tokens") for name in names) else set()
    return {name.removeprefix("model.").partition(".")[0] for name in names} | embeds


def completed_names(
    options: AdapterArguments, policy: PreTrainedModel, frozen: Sequence[str] = ()
) -> tuple[str, Layers | None, list[str]]:
    """PEFT's `target_modules` and `exclude_modules`, and the parts that are trained whole: by default the new
    projectors and a score head, unless they are adapted or frozen."""
    target, saved = target_modules(policy, options.lora_target_modules), options.lora_modules_to_save
    excluded = without_head(target, policy)
    return target, excluded, whole_parts(target, policy, frozen, excluded) if saved is None else saved


def without_head(target: Layers, policy: PreTrainedModel, excluded: Layers | None = None) -> Layers | None:
    """PEFT's `exclude_modules` with a score head's layers, where `target_modules` reaches them: a head is trained whole
    or not at all, as a new one's weights are in no base to which an adapter's products could be added."""
    reached = [name for name in adapted_names(target, policy, excluded) if name.startswith(SCORE_HEAD)]
    if not reached:
        return excluded
    if isinstance(excluded, str):
        return rf"{excluded}|{re.escape(SCORE_HEAD)}.*"
    return [*(excluded or ()), *reached]


def whole_parts(
    target: Layers,
    policy: PreTrainedModel,
    frozen: Sequence[str] = (),
    excluded: Layers | None = None,
) -> list[str]:
    """What starts without trained weights, the new projectors and a score head, unless they are adapted or frozen."""
    found = [part for part in NEW_PROJECTORS if hasattr(policy.model, part)]
    if policy.config.score_head and any(p.requires_grad for p in policy.model.score_head.parameters()):
        found.append("score_head")
    left = {*frozen, *adapted_parts(target, policy, excluded)}
    return [part for part in found if part not in left]


def target_modules(policy: nn.Module, names: Sequence[str] | None = None) -> str:
    """Which layers get a LoRA, as PEFT's regular expression over whole names.

    Args:
        policy: The policy.
        names: Of layers of its language model, default all linear ones; or one expression, or "all-linear".

    Raises:
        ValueError: If the language model has no such layer.
    """
    if names and len(names) == 1 and not re.fullmatch(r"\w+", names[0]):
        return names[0]
    linear = [name for name, module in policy.named_modules() if isinstance(module, nn.Linear)]
    known = sorted({name.rpartition(".")[2] for name in linear if name.startswith(LANGUAGE_MODEL)})
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(f"lora_target_modules={unknown}: the language model's linear layers are {known}.")
    return rf"{re.escape(LANGUAGE_MODEL)}.*\.({'|'.join(names or known)})"


def check_lora(config: LoraConfig, policy: PreTrainedModel) -> None:
    """Raise `ValueError` if an adapter is one that training, rollouts or checkpoints would not honour.

    Args:
        config: PEFT's configuration.
        policy: The policy.
    """
    if str(getattr(config, "peft_type", "")).rpartition(".")[2] != "LORA":
        raise ValueError(
            f"peft_config={type(config).__name__}: only LoRA adapters are supported. Others put tokens before the "
            "prompt, which rollouts do not see, or cannot be added to the weights. Use peft.LoraConfig."
        )
    if config.bias != "none":
        raise ValueError(
            f"bias={config.bias!r}: with the adapter off, biases would stay trained, and the reference would move. Set "
            "bias='none'."
        )
    if config.init_lora_weights not in (True, "gaussian"):
        raise ValueError(
            f"init_lora_weights={config.init_lora_weights!r}: with the adapter off, the policy must be the initial "
            "one, so B must start at zero. Set True or 'gaussian'."
        )
    if variants := {name: value for name in VARIANTS if (value := getattr(config, name, None))}:
        raise ValueError(f"{variants}: an adapter may only add products to the weights of layers. Leave it out.")
    parts = adapted_parts(config.target_modules, policy, config.exclude_modules)
    saved = config.modules_to_save or []
    never = {"lm_head", "embed_tokens", "score_head", *(part for stream in policy.streams for part in stream.fixed)}
    if not parts or (fixed := parts & never):
        raise ValueError(
            f"target_modules={config.target_modules!r} names {sorted(fixed) if parts else 'no layer'}: SlowFast, token "
            "embedding and heads cannot be adapted. Leave target_modules out for the language model's linear layers."
        )
    if both := sorted(parts & set(saved)):
        raise ValueError(f"modules_to_save={both} is in target_modules too: it is trained whole or adapted, not both.")
    unknown = [part for part in saved if part not in SAVED_WHOLE or not hasattr(policy.model, part)]
    if unknown:
        there = [part for part in SAVED_WHOLE if hasattr(policy.model, part)]
        raise ValueError(f"modules_to_save={unknown}: only these parts can be trained whole: {there}.")
    if packed := [part for part in saved if _is_packed(getattr(policy.model, part))]:
        raise ValueError(
            f"modules_to_save={packed}: it was loaded in 4 bits, which cannot be trained. Load the policy with "
            f"llm_int8_skip_modules={[*NOT_QUANTIZED, 'lm_head']} (the recipes' load_in_4bit does)."
        )


def _is_packed(part: nn.Module) -> bool:
    return not all(parameter.is_floating_point() for parameter in part.parameters())


def check_run(policy: PreTrainedModel, config: LoraConfig | None, args: TrainingArguments) -> None:
    """Raise `ValueError` if adapters or quantized weights do not go with the settings of a run.

    Args:
        policy: The policy itself; may be quantized.
        config: PEFT's configuration of the adapter that will be trained, or `None`.
        args: `TrainingArguments`, of GRPO or the warm start.
    """
    quantized = getattr(policy, "is_quantized", False)
    if quantized and not getattr(policy, "is_loaded_in_4bit", False):
        method = getattr(policy, "quantization_method", "unknown")
        raise ValueError(f"the policy is quantized ({method}, not 4 bits of bitsandbytes): load it with load_in_4bit.")
    if quantized and config is None:
        raise ValueError(
            "the policy's weights are quantized and cannot be trained: train an adapter on them (recipes: use_peft; "
            "trainer: peft_config), or load the policy without quantization."
        )
    if quantized and getattr(args, "deepspeed_plugin", None) is not None:
        raise ValueError(
            "4-bit weights under DeepSpeed, which can only shard and cast plain numbers: launch with "
            "recipes/accelerate/ddp.yaml, or load the policy in 16 bits."
        )
    if config is None:
        return
    if not policy.config._name_or_path:
        raise ValueError(
            "an adapter names its base by path, but this policy was built in memory: save it, and pass "
            "from_pretrained(...) or its path."
        )
    if getattr(args, "head_only", False):
        raise ValueError(
            "head_only=True with an adapter (use_peft), which would be trained too: leave one of them out. A head "
            "alone needs no adapter."
        )
    check_base(policy)
    if getattr(args, "sync_ref_model", False):
        raise ValueError(
            "sync_ref_model=True with an adapter: the reference is the policy with its adapter off, and cannot be "
            "updated. Leave it out, or train all weights."
        )
    if getattr(args, "use_vllm", False):
        check_mergeable(policy, {NAME: config})
    if hasattr(args, "num_generations") and config.lora_dropout:
        raise ValueError(
            f"lora_dropout={config.lora_dropout}: each pass of the loss would use a different policy than the one that "
            "answered. Set it to 0 (the supervised warm start may have it)."
        )
    kwargs = args.gradient_checkpointing_kwargs or {}
    zero3 = getattr(getattr(args, "deepspeed_plugin", None), "zero_stage", 0) == 3
    vision = "vision_tower" in adapted_parts(config.target_modules, policy, config.exclude_modules)
    if vision and args.gradient_checkpointing and (zero3 or kwargs.get("use_reentrant")):
        raise ValueError(
            "an adapter in the vision tower gets no gradient through reentrant checkpointing (which ZeRO-3 needs with "
            "adapters): set use_reentrant to false, gradient_checkpointing to false, or adapt the language model only."
        )


def check_base(policy: PreTrainedModel) -> None:
    """Raise `ValueError` if the policy that an adapter would name as its base has another low-level stream."""
    base = policy.config._name_or_path
    if Path(base).is_dir() and (there := VQAThinkerConfig.from_pretrained(base).low_tokens) != policy.config.low_tokens:
        raise ValueError(
            f"the policy has low_tokens={policy.config.low_tokens}, but {base!r}, which its adapter would name as its "
            f"base, {there}: the adapter could not be loaded. Save the policy, and load it from there."
        )


def prepare_policy(
    model: PreTrainedModel | PeftModel | str, args: VQAGRPOConfig, options: dict[str, Any]
) -> PreTrainedModel | PeftModel | str:
    """What TRL's trainer is to be given of adapters and quantized weights, checked.

    Args:
        model: The policy, a `PeftModel` of it, or its path.
        args: `VQAGRPOConfig`; where the policy is loaded here, its `model_init_kwargs` are used up.
        options: TRL's arguments. `quantization_config` is used up; a `peft_config` without `target_modules` or
            `modules_to_save` gets this module's.

    Returns:
        The policy; or the path, where there is neither adapter nor quantization.

    Raises:
        ImportError: If PEFT or bitsandbytes is missing.
        ValueError: If something is asked for that a run would not honour.
    """
    config, quantization = options.get("peft_config"), options.pop("quantization_config", None)
    if quantization is not None and not isinstance(model, str):
        raise ValueError("quantization_config with a loaded policy: pass it to from_pretrained, or pass a path.")
    if isinstance(model, str):
        settings = {"dtype": "float32", "attn_implementation": "sdpa"} | (args.model_init_kwargs or {})
        stored = hasattr(VQAThinkerConfig.from_pretrained(model), "quantization_config")
        if config is None and quantization is None and not stored:
            return model
        settings |= {} if quantization is None else {"quantization_config": quantization}
        model, args.model_init_kwargs = VQAThinkerForConditionalGeneration.from_pretrained(model, **settings), None
    policy = base_policy(model)
    prepare_head(policy, args)
    if config is not None:
        import_peft("peft_config")
        if has_adapters(model):
            raise ValueError(
                "peft_config with a policy that already has an adapter: leave it out, or merge the adapter first."
            )
        options["peft_config"] = config = completed(config, policy)
    elif has_adapters(model):
        config = own_adapter(model)
    if config is not None:
        check_lora(config, policy)
    check_run(policy, config, args)
    return model


def own_adapter(model: PeftModel) -> LoraConfig:
    """The configuration of a `PeftModel`'s adapter.

    Raises:
        ValueError: If it has others than one of the name that TRL knows, or PEFT has not wrapped the policy.
    """
    names = list(model.peft_config)
    if base_policy(model) is model or names != [NAME]:
        raise ValueError(
            f"the policy has the adapters {names}: only one is trained, {NAME!r}, of a PeftModel. Pass the policy "
            "alone with peft_config, or merge its adapters (`merge_and_unload`)."
        )
    return model.peft_config[NAME]


def completed(config: LoraConfig, policy: PreTrainedModel) -> LoraConfig:
    """A `LoraConfig` with this library's layers and parts where it names none."""
    config = copy.copy(config)
    if str(getattr(config, "peft_type", "")).rpartition(".")[2] == "LORA":
        if config.target_modules is None:
            config.target_modules = target_modules(policy)
        config.exclude_modules = without_head(config.target_modules, policy, config.exclude_modules)
        if config.modules_to_save is None:
            config.modules_to_save = whole_parts(config.target_modules, policy, excluded=config.exclude_modules)
    return config


def with_adapter(
    policy: PreTrainedModel, config: LoraConfig | None, args: TrainingArguments
) -> PreTrainedModel | PeftModel:
    """A policy with an adapter to train, for trainers that take no `peft_config`.

    Args:
        policy: The policy; what is not adapted stays as it is.
        config: See `get_peft_config`; `None` gives the policy back.
        args: `TrainingArguments`.

    Raises:
        ValueError: See `check_run`.
    """
    check_run(policy, config, args)
    if config is None:
        return policy
    set_seed(args.seed)  # of A, which starts at random; the trainer sets it again
    model = import_peft("use_peft=True").get_peft_model(policy, config)
    settle(model, args)
    return model


def settle(model: PreTrainedModel | PeftModel, args: TrainingArguments) -> None:
    """Make a `PeftModel` ready to be trained: float32, a base that is found from everywhere, gradients; in place.

    Args:
        model: Anything else is left as it is.
        args: `TrainingArguments`.
    """
    if not has_adapters(model):
        return
    policy = base_policy(model)
    if (base := Path(policy.name_or_path)).is_dir():
        model.peft_config[NAME].base_model_name_or_path = str(base.resolve())
    if dtype_over_master_weights(args) is None:  # parts that are trained whole have the base's type
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    policy.disable_input_require_grads()  # TRL's, which takes the vision tower for a language model too
    if args.gradient_checkpointing and (args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
        policy.model.language_model.enable_input_require_grads()
    for layer in policy.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):  # bitsandbytes' fast layout on CPUs has no gradient
            layer.support_avx512bf16_for_cpu = False

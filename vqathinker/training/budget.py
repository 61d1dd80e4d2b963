"""What a run needs of every GPU, in bytes, from its config and the policy's own sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, PreTrainedConfig

from vqathinker.clips import FrameCache, clip_bytes
from vqathinker.policy import VQAThinkerConfig, VQAThinkerForConditionalGeneration, encoding_parameters
from vqathinker.policy.clip_input import CLIP_FRAMES
from vqathinker.policy.streams import visual_tokens
from vqathinker.rollout.factory import BATCH_SIZE
from vqathinker.training.adapters import LANGUAGE_MODEL, AdapterArguments, adapted_names, completed_names
from vqathinker.training.encoders import encoders_of, trained_encoders
from vqathinker.training.precision import DTYPES

GIB = 2**30
HALVES = ("bfloat16", "float16")
TEXT_TOKENS = 160
"""Tokens of the published prompt beside the visual ones, rounded up."""
PUBLISHED = {
    "1B": (896, 4864, 24, 14, 2),
    "2B": (1536, 8960, 28, 12, 2),
    "8B": (3584, 18944, 28, 28, 4),
}
"""InternVL3's language models (Qwen2.5, no tied embeddings): width, MLP width, layers, heads, key-value heads."""
VOCABULARY = 151_674
LSVQ_CLIPS = 28_056
"""Clips that LSVQ trains on."""
PACKED, NESTED = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight of 4 bits with its block's constant (64 weights, float32), plain and with these quantized too."""
TILE = (4096, 32_768)
"""Positions and words of which TRL's head has logits at one time (`trl.kernels.chunked_logprob`)."""
BUCKET = 500_000_000
"""Numbers in the buffer in which DeepSpeed's ZeRO-1 and -2 collect gradients to exchange them (its default)."""


@dataclass(frozen=True)
class Machine:
    """What a run has.

    Args:
        gpus: Number of processes, one per GPU.
        zero: DeepSpeed ZeRO stage, 0 = plain data parallelism.
        memory: Of each GPU, in GiB.
        tflops: Dense bf16 peak of each GPU, in TFLOP/s.
        bandwidth: Memory bandwidth of each GPU, in TB/s.
        utilization: Share of the peak that training reaches, in (0, 1].
    """

    gpus: int = 8
    zero: int = 2
    memory: float = 80
    tflops: float = 312
    bandwidth: float = 2.0
    utilization: float = 0.35

    def __post_init__(self) -> None:
        for name in ("gpus", "memory", "tflops", "bandwidth", "utilization"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0.")


@dataclass(frozen=True)
class Shape:
    """Sizes of one micro-batch on one GPU.

    Attributes:
        clips: C prompts, each with K answers; perturbed copies count where they are trained on.
        answers: K.
        prompt: Tokens of a prompt, visual ones included.
        completion: Longest answer in tokens.
        frames: Key frames T of a clip.
        shown: Clips of a prompt.
        frozen_vision: Whether clips are encoded for the rollouts only, as vision tower and projector are frozen.
        frozen_low: Whether their patches are, as the low-level encoder is frozen.
        rank: Of the language model's LoRA, 0 = all weights are trained.
        packs: Whether the answers to a clip share its prompt in one row.
        limit: Most tokens of a pass in the loss (`max_tokens_per_batch`).
        clip_frames: Frames of a clip, which count where the motion encoder sees all of them.
    """

    clips: int
    answers: int
    prompt: int
    completion: int
    frames: int
    shown: int = 1
    frozen_vision: bool = False
    frozen_low: bool = False
    rank: int = 0
    packs: bool = True
    limit: int | None = None
    clip_frames: int = CLIP_FRAMES

    @property
    def packed(self) -> int:
        """Tokens of the clips' longest answers, see `vqathinker.training.groups.PackedGroups`, or of single rows."""
        if not self.packs:
            return self.clips * self.answers * (self.prompt + self.completion)
        return self.clips * (self.prompt - 1 + self.answers * (self.completion + 1))

    @property
    def prompt_frames(self) -> int:
        """Key frames of a prompt."""
        return self.shown * self.frames

    @property
    def one_pass(self) -> Shape:
        """What is in memory at a time: as many clips as stay within the limit, at least one."""
        fit = self.clips if self.limit is None else self.limit * self.clips // self.packed
        return replace(self, clips=max(1, min(self.clips, fit)))


def published_config(size: str) -> VQAThinkerConfig:
    """The policy on InternVL3-1B, -2B or -8B."""
    width, mlp, layers, heads, kv_heads = PUBLISHED[size]
    text = {
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": False,
    }
    return VQAThinkerConfig(text_config=text, tie_word_embeddings=False)


def read_settings(file: str | Path) -> dict[str, Any]:
    """A GRPO recipe's config with `VQAGRPOConfig`'s defaults for what it leaves out.

    Raises:
        ValueError: If the file is none.
    """
    from vqathinker.training.config import VQAGRPOConfig  # all else here works without TRL

    defaults = {field.name: field.default for field in fields(VQAGRPOConfig)}
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(settings, dict) or not {"num_generations", "preset"} & set(settings):
        raise ValueError(f"{file}: not a config of recipes/grpo_lsvq.py, which sets num_generations or preset.")
    settings = defaults | settings
    if settings["bf16"] is None:  # as TRL reads it
        settings["bf16"] = not settings["fp16"]
    return settings


def weight_bytes(settings: Mapping[str, Any], zero: int) -> int:
    """Bytes of a weight on the GPU: 2 where DeepSpeed computes in 16 bits, whatever was loaded, else those of `dtype`.

    Args:
        settings: From `read_settings`.
        zero: DeepSpeed ZeRO stage, 0 = plain data parallelism.

    Raises:
        ValueError: If the run would be refused, as it trains weights of 16 bits without master weights.
    """
    adapter = adapter_of(settings) is not None  # beside which the loaded weights are not trained
    if zero and (settings["bf16"] or settings.get("fp16")):
        return 2
    dtype = settings.get("dtype", "auto")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be one of {DTYPES}.")
    if adapter and (dtype in HALVES or (dtype == "auto" and (settings["bf16"] or settings.get("fp16")))):
        return 2
    if dtype in HALVES:
        raise ValueError(
            f"dtype={dtype!r} with zero={zero}, bf16={settings['bf16']}: trained weights must be float32, or have the "
            "float32 master weights of ZeRO with bf16 or fp16. Set dtype to auto."
        )
    return 4


def adapter_of(settings: Mapping[str, Any]) -> AdapterArguments | None:
    """The adapter that a config trains.

    Raises:
        ValueError: See `AdapterArguments`.
    """
    options = AdapterArguments(**{f.name: settings[f.name] for f in fields(AdapterArguments) if f.name in settings})
    return options if options.use_peft else None


def frozen_parts(settings: Mapping[str, Any], config: VQAThinkerConfig) -> tuple[str, ...]:
    """Parts that a run keeps as they are: those of `freeze`, and a score head that it does not train."""
    untrained = config.score_head and not settings.get("head_weight")
    return (*(settings.get("freeze") or ()), *(["score_head"] if untrained else []))


def parameter_counts(
    config: VQAThinkerConfig, frozen: tuple[str, ...] = (), adapter: AdapterArguments | None = None
) -> dict[str, int]:
    """Parameters: `all`, `trained` (without SlowFast and `frozen` parts), those of them that autocast casts (`cast`:
    matrices but the token embedding), `language` (with its head), `encoding` (all but the language model's layers and
    head) and `vision`; `packed`, those loaded in 4 bits, and `layer`, the largest layer of these. With an adapter
    `trained` are its own, beside `all`."""
    with torch.device("meta"):
        policy = VQAThinkerForConditionalGeneration(config)
    policy.tie_weights()
    policy.freeze(frozen)
    sizes = {name: (parameter.numel(), parameter.requires_grad) for name, parameter in policy.named_parameters()}
    embedding = policy.get_input_embeddings().weight
    untied = embedding is not policy.lm_head.weight
    matrices = [p for p in policy.parameters() if p.ndim > 1 and p.requires_grad and not (untied and p is embedding)]
    language = ("model.language_model.", "lm_head.")
    counts = {
        "all": sum(size for size, _ in sizes.values()),
        "trained": sum(size for size, trained in sizes.values() if trained),
        "cast": sum(matrix.numel() for matrix in matrices),
        "language": sum(size for name, (size, _) in sizes.items() if name.startswith(language)),
        "encoding": sum(parameter.numel() for parameter in encoding_parameters(policy)),
        "vision": sum(size for name, (size, _) in sizes.items() if name.startswith("model.vision_tower.")),
    }
    linear = {name: module for name, module in policy.named_modules() if isinstance(module, torch.nn.Linear)}
    packed = [layer.weight.numel() for name, layer in linear.items() if name.startswith(LANGUAGE_MODEL)]
    packed = packed if adapter and adapter.load_in_4bit else []
    counts |= {"packed": sum(packed), "layer": max(packed, default=0)}
    if adapter:
        target, excluded, saved = completed_names(adapter, policy, frozen)
        chosen = [linear[name] for name in adapted_names(target, policy, excluded) if name in linear]
        products = sum(adapter.lora_r * (layer.in_features + layer.out_features) for layer in chosen)
        whole = [p for part in saved for p in getattr(policy.model, part).parameters()]
        counts["trained"] = products + sum(p.numel() for p in whole)
        counts["cast"] = products + sum(p.numel() for p in whole if p.ndim > 1)
    return counts


def shape_of(
    settings: Mapping[str, Any],
    config: VQAThinkerConfig,
    frames: int = 6,
    prompt: int | None = None,
    clip_frames: int = CLIP_FRAMES,
) -> Shape:
    """The micro-batch of a recipe's config.

    Args:
        settings: From `read_settings`.
        config: The policy's.
        frames: Key frames per clip (paper: 6).
        prompt: Prompt tokens, where the processor is known; else visual tokens and `TEXT_TOKENS`.
        clip_frames: Frames of a clip, which count with motion tokens per frame.
    """
    answers, adapter = settings["num_generations"], adapter_of(settings)
    shown = 2 if settings.get("pairs") else 1  # clips of the longest prompt: all of a micro-batch may be pairs
    frozen = {"vision_tower", "multi_modal_projector"} <= set(settings.get("freeze") or ())
    visual = visual_tokens(config, frames, clip_frames=clip_frames)
    return Shape(
        clips=settings["per_device_train_batch_size"] // answers * (2 if settings.get("contrast_weight") else 1),
        answers=answers,
        prompt=shown * (prompt or visual + TEXT_TOKENS),
        completion=settings["max_completion_length"],
        frames=frames,
        shown=shown,
        frozen_vision=frozen or (adapter is not None and not _reaches(adapter, "multi_modal_projector")),
        frozen_low="low_encoder" in _kept(settings, adapter),
        rank=adapter.lora_r if adapter else 0,
        packs=settings.get("shared_prefix", "auto") != "never",
        limit=settings.get("max_tokens_per_batch"),
        clip_frames=clip_frames,
    )


def motion_frames(config: VQAThinkerConfig, shape: Shape) -> int:
    """What the motion encoder sees of a clip: the runs around its key frames, or all of its frames."""
    seen = min(shape.clip_frames, config.motion_max_frames)
    return seen or shape.frames * config.motion_run_length


def _reaches(adapter: AdapterArguments, part: str) -> bool:
    """Whether an adapter changes what a part gives: it is trained whole, or an expression may name its layers."""
    names, saved = adapter.lora_target_modules or [], adapter.lora_modules_to_save or []
    return part in saved or (len(names) == 1 and not names[0].isidentifier())


def _kept(settings: Mapping[str, Any], adapter: AdapterArguments | None) -> set[str]:
    """Whole parts that are not trained: with an adapter the low-level encoder too, unless the adapter reaches it."""
    left = {"low_encoder"} if adapter and not _reaches(adapter, "low_encoder") else set()
    return set(settings.get("freeze") or ()) | left


def activation_bytes(config: VQAThinkerConfig, shape: Shape, width: int, checkpointing: bool) -> int:
    """Tensors that one forward keeps for its backward, which needs some more: `backward_bytes`.

    Outside the layers there are the angles of the positions, and what the head reads. With gradient checkpointing a
    layer keeps its input, and one at a time is recomputed.

    Args:
        config: The policy's.
        shape: The micro-batch.
        width: Bytes per number.
        checkpointing: Whether gradient checkpointing is on.
    """
    text, shape = config.get_text_config(), shape.one_pass
    encoders, frames = trained_encoders(config, shape), shape.clips * shape.prompt_frames
    language, *others = layer_bytes(config, shape, width)
    scored = shape.clips * shape.answers * shape.completion
    outside = (2 * shape.packed + scored) * text.hidden_size + 2 * shape.packed * head_size(text)
    outside += sum(encoder.outside_numbers(frames) for encoder in encoders)
    if not checkpointing:
        layers = sum(encoder.layers * size for encoder, size in zip(encoders, others, strict=True))
        return text.num_hidden_layers * language + layers + width * outside
    inputs = text.num_hidden_layers * shape.packed * text.hidden_size
    inputs += sum(encoder.layers * encoder.tokens(frames) * encoder.width for encoder in encoders)
    return width * (inputs + outside) + max(language, *others, 0)


def layer_bytes(config: VQAThinkerConfig, shape: Shape, width: int) -> list[int]:
    """What a layer of the language model, and one of each encoder that is trained, keep for their backward.

    A layer of the language model keeps six tensors of the model's width, four of the MLP's, queries, keys, values and
    output of attention, and its log-sum-exps; Qwen3's also queries and keys before their norms. With an adapter there
    is also what lies between A and B and, if the layer computes in 16 bits, each input in A's own copy. Encoders: see
    `vqathinker.training.encoders`.
    """
    text = config.get_text_config()
    heads, pairs = (n * head_size(text) for n in (text.num_attention_heads, text.num_key_value_heads))
    kept = 6 * text.hidden_size + 2 * (heads + pairs) + text.num_attention_heads + 4 * text.intermediate_size
    if text.model_type == "qwen3":
        kept += 2 * (heads + pairs)
    if shape.rank:
        copies = 5 * text.hidden_size + heads + text.intermediate_size if width < 4 else 0
        kept += 7 * shape.rank + copies
    frames = shape.clips * shape.prompt_frames
    return [width * shape.packed * kept, *(width * e.layer_numbers(frames) for e in trained_encoders(config, shape))]


def backward_bytes(config: VQAThinkerConfig, shape: Shape, width: int, checkpointing: bool) -> int:
    """What a backward takes at its peak, beyond `activation_bytes` and the gradients that weights keep.

    Either in a layer, for the gradients of two of its MLP's tensors; or in the head, when with checkpointing no layer
    is recomputed. TRL's head has a tile of logits, and gradients in float32, in 16 bits once more as such, of the
    answers' states and, unless an adapter is trained, of its weights.

    Args:
        config, shape, width, checkpointing: As in `activation_bytes`.
    """
    text, shape = config.get_text_config(), shape.one_pass
    scored = shape.clips * shape.answers * shape.completion
    found = text.hidden_size * (scored + (0 if shape.rank else text.vocab_size))
    head = width * min(scored, TILE[0]) * TILE[1] + (4 if width == 4 else 4 + width) * found
    recomputed = max(layer_bytes(config, shape, width)) if checkpointing else 0
    return max(2 * width * shape.packed * text.intermediate_size, head - recomputed)


def frame_cache(settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, clips: int) -> str | None:
    """What the frame cache takes for `clips` clips, in one line; `None` where there is none."""
    if not (settings["frame_cache"] or "").strip():
        return None
    motion = (motion_frames(config, shape), config.motion_config.image_size)
    patches = (config.low_patches, config.low_config.image_size) if config.low_tokens else ()
    size = clip_bytes(shape.frames, config.vision_config.image_size[0], *motion, *patches)
    return FrameCache(settings["frame_cache"], int(settings["frame_cache_gib"] * GIB)).forecast(clips, size)


def head_size(text: PreTrainedConfig) -> int:
    """Width of an attention head, which a language model may choose freely."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def cache_bytes_per_token(config: VQAThinkerConfig, width: int) -> int:
    """Keys and values of one token in all layers."""
    text = config.get_text_config()
    return 2 * width * text.num_hidden_layers * head_size(text) * text.num_key_value_heads


def memory(settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, machine: Machine) -> dict[str, int]:
    """Bytes on each GPU, by what holds them; `total` is their peak.

    ZeRO-1 shares out the optimizer, ZeRO-2 also the gradients, ZeRO-3 also the weights. Under ZeRO the weights have 16
    bits with bf16 or fp16, and the optimizer holds fp32 weights and two moments (12 bytes a parameter). Without ZeRO
    weights and two moments are fp32; with bf16 or fp16 autocast keeps a copy of each matrix in 16 bits while it runs,
    and several GPUs exchange gradients in buffers as large as these.

    With an adapter the loaded weights stay as they are, in 16 bits or, those of the language model's layers, in 4, and
    serve as the reference too; gradients and optimizer are the adapter's.

    Args:
        settings: From `read_settings`.
        config: The policy's.
        shape: The micro-batch.
        machine: What the run has.

    Raises:
        ValueError: See `weight_bytes`; or if weights of 4 bits go with vLLM or DeepSpeed, which a run refuses.
    """
    if settings.get("load_in_4bit") and (settings["use_vllm"] or machine.zero):
        raise ValueError(
            f"load_in_4bit with use_vllm={settings['use_vllm']} and zero={machine.zero}: a run refuses either. Set "
            "use_vllm: false and --zero 0."
        )
    width, adapter = weight_bytes(settings, machine.zero), adapter_of(settings)
    trained = 4 if adapter and not machine.zero else width  # an adapter is float32 beside whatever was loaded
    count = parameter_counts(config, frozen_parts(settings, config), adapter)
    shared = [machine.gpus if machine.zero >= stage else 1 for stage in (1, 2, 3)]
    computed = 2 if settings["bf16"] or settings.get("fp16") else 4
    loaded = width * (count["all"] - count["packed"]) + int(_packed_bytes(settings) * count["packed"])
    parts = {
        "weights": loaded // shared[2],
        "adapter": trained * count["trained"] // shared[2] if adapter else 0,
        "reference": loaded // shared[2] if settings["beta"] and not adapter else 0,
        "gradients": trained * count["trained"] // shared[1],
        "optimizer": (12 if machine.zero else 8) * count["trained"] // shared[0],
        "exchange buffer": trained * _exchanged(count["trained"], machine),
        "autocast copies": computed * count["cast"] if computed < trained else 0,
        "layer unpacked": computed * count["layer"],
    }
    parts = {name: size for name, size in parts.items() if size or name not in ("adapter", "layer unpacked")}
    static = sum(parts.values())
    parts["activations"] = activation_bytes(config, shape, computed, settings["gradient_checkpointing"])
    parts["backward"] = backward_bytes(config, shape, computed, settings["gradient_checkpointing"])
    training = static + parts["activations"] + parts["backward"]
    if machine.zero == 3:  # rollouts encode clips, and without vLLM generate, with whole weights on every GPU
        parts["gathered weights"] = width * count["encoding" if settings["use_vllm"] else "all"]
        static += parts["gathered weights"]
    encoding = encoding_bytes(settings, config, shape, computed)
    if not settings["use_vllm"]:
        parts["rollout cache"], passes = sampling_bytes(settings, config, shape, computed)
        parts["rollout passes"] = max(passes, encoding - parts["rollout cache"])
        return parts | {"total": max(training, static + parts["rollout cache"] + parts["rollout passes"])}
    parts["vLLM weights"] = computed * count["language"] // settings["vllm_tensor_parallel_size"]
    reserved = int(settings["vllm_gpu_memory_utilization"] * machine.memory * GIB)
    parts["vLLM cache"] = max(0, reserved - parts["vLLM weights"])
    parts["rollout passes"] = encoding
    rollouts = static + encoding + reserved
    return parts | {"total": max(rollouts, training + (0 if settings["vllm_enable_sleep_mode"] else reserved))}


def _packed_bytes(settings: Mapping[str, Any]) -> float:
    return NESTED if settings.get("use_bnb_nested_quant") else PACKED


def _exchanged(trained: int, machine: Machine) -> int:
    """Numbers in the buffers in which the GPUs exchange gradients."""
    if not machine.zero:
        return trained if machine.gpus > 1 else 0
    return min(BUCKET, trained) if machine.zero < 3 else 0


def encoding_bytes(settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, width: int) -> int:
    """What an encoder takes at its peak for all clips of a generation batch; one runs after the other.

    Args:
        settings: From `read_settings`.
        config: The policy's.
        shape: The micro-batch.
        width: Bytes per number.
    """
    frames = _generated(settings, shape) // 2 * shape.prompt_frames
    return max(encoder.pass_bytes(frames, width) for encoder in encoders_of(config))


def sampling_bytes(settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, width: int) -> tuple[int, int]:
    """What sampling with transformers takes: keys and values of a batch, the prompts' once for all their answers; and
    what its passes take beside that, the prompts' pass before the answers have keys, or those of single tokens, with
    logits of each answer, and a layer's cache twice where it grows.

    Args:
        settings, config, shape, width: As in `encoding_bytes`.
    """
    text = config.get_text_config()
    prompts = min(_generated(settings, shape), max(1, BATCH_SIZE // shape.answers))
    of_prompts = prompts * shape.prompt * cache_bytes_per_token(config, width)
    cache = of_prompts + prompts * shape.answers * shape.completion * cache_bytes_per_token(config, width)
    embeds = prompts * shape.prompt * width * text.hidden_size
    first = of_prompts + 4 * embeds + prompts * shape.prompt * width * 3 * text.intermediate_size
    others = cache + cache // text.num_hidden_layers + 4 * 4 * prompts * shape.answers * text.vocab_size
    return cache, max(first, others) - cache


def _generated(settings: Mapping[str, Any], shape: Shape) -> int:
    """Clips of a generation batch that are answered, with their perturbed copies."""
    return clips_answered(settings, shape) * (
        settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    )


def clips_answered(settings: Mapping[str, Any], shape: Shape) -> int:
    """Clips of a micro-batch that are answered, with their perturbed copies."""
    return shape.clips if settings.get("contrast_weight") else 2 * shape.clips


def load_config(model: str, image_size: int | None = None) -> VQAThinkerConfig:
    """The configuration of a policy folder, or of one of the published sizes.

    Args:
        model: Folder, or name of the size.
        image_size: Side of the key frames in pixels, where it is another than the vision tower's.

    Raises:
        ValueError: If it is neither.
    """
    if image_size is not None:
        config = load_config(model)
        config.vision_config.image_size = [image_size] * 2
        return config
    if model in PUBLISHED:
        return published_config(model)
    if not Path(model, "config.json").exists():
        raise ValueError(
            f"model {model!r} is not a policy folder: make one with `vqathinker init`, or choose from {[*PUBLISHED]}."
        )
    return AutoConfig.from_pretrained(model)

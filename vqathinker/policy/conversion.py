"""InternVLChat checkpoints, the layout of InternVL's remote code and of the published VQAThinker weights, as policies.

No code of the checkpoint runs: its configuration is read as JSON, its weights as tensors.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen3Config,
    ViTModel,
)

from vqathinker.policy.adapters import is_adapter
from vqathinker.policy.configuration import MotionConfig, VQAThinkerConfig
from vqathinker.policy.low_level import first_encoder
from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.motion import load_motion
from vqathinker.policy.processing import VQAThinkerProcessor
from vqathinker.policy.streams import STREAMS
from vqathinker.policy.weight_files import read_weights

SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，"  # noqa: RUF001
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
"""Of InternVL's conversation template `internvl2_5`: InternVL2.5, InternVL3 and VQAThinker saw it in every prompt."""
CHAT_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\n" + SYSTEM_MESSAGE + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for block in message.content %}{{ block.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
}
END_TOKEN = "<|im_end|>"
PUBLISHED_MOTION: dict[str, Any] = {"slow_sampling": "linspace", "normalization": "imagenet", "pooling": "windows"}
EMBEDDING = "model.language_model.embed_tokens.weight"

SUPPORTED: dict[str, tuple[tuple[str, Any, tuple[Any, ...]], ...]] = {
    "": (
        ("ps_version", "v1", ("v2",)),
        ("select_layer", -1, (-1,)),
        ("template", None, ("internvl2_5",)),
        ("system_message", None, (None, SYSTEM_MESSAGE)),
        ("pad2square", False, (False,)),
        ("use_backbone_lora", 0, (0,)),
        ("use_llm_lora", 0, (0,)),
    ),
    "vision_config": (
        ("model_type", "intern_vit_6b", ("intern_vit_6b",)),
        ("norm_type", "rms_norm", ("layer_norm",)),
        ("qk_normalization", True, (False,)),
        ("use_moe", False, (False,)),
    ),
    "llm_config": (
        ("model_type", None, ("qwen2", "qwen3")),
        ("architectures", None, (["Qwen2ForCausalLM"], ["Qwen3ForCausalLM"])),
    ),
}
"""Settings that change what the weights mean, by section of config.json: their name, InternVL's default for where they
are absent, and the values that can be converted."""
VISION = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "qkv_bias": "attention_bias",
    "attention_dropout": "attention_dropout",
    "dropout": "projection_dropout",
}
"""InternViT's settings and what transformers calls them. Left out: those of initialisation, and `drop_path_rate`, which
acts in training only and which transformers' InternViT does not have."""
NAMES = (
    ("model.vision_tower.", "vision_model."),
    ("model.multi_modal_projector.layer_norm.", "mlp1.0."),
    ("model.multi_modal_projector.linear_1.", "mlp1.1."),
    ("model.multi_modal_projector.linear_2.", "mlp1.3."),
    ("model.motion_projector.layer_norm.", "motion_mlp.0."),
    ("model.motion_projector.linear_1.", "motion_mlp.1."),
    ("model.motion_projector.linear_2.", "motion_mlp.3."),
    ("model.motion_encoder.blocks.", "slowfast_model.feature_extraction."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    (".embeddings.cls_token", ".embeddings.class_embedding"),
    (".embeddings.position_embeddings", ".embeddings.position_embedding"),
    (".embeddings.patch_embeddings.projection.", ".embeddings.patch_embedding."),
    (".encoder.layer.", ".encoder.layers."),
    (".attention.projection_layer.", ".attn.proj."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".lambda_", ".ls"),
)
"""Parts of the policy's weight names and what InternVLChat calls them."""
QKV = (".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj.")
"""InternViT keeps the three in one matrix, in this order."""


def convert_internvlchat(
    path: str | Path,
    out: str | Path,
    *,
    slowfast: str | Path | None = None,
    motion_config: dict[str, Any] | None = None,
    motion_tokens: int = 1,
    num_frames: int = 12,
    image_size: int = 560,
    prompt_style: str = "test",
    low_tokens: int = 0,
    low_level: str | Path | None = None,
) -> None:
    """Write an InternVLChat checkpoint as a policy and its processor, for `load_policy`.

    From the published VQAThinker and with the default arguments, the policy computes what the published test code
    does. Weights keep their dtype and go from file to file through memory maps, never all of them into memory.

    Args:
        path: Folder with `config.json`, the weights (safetensors or `pytorch_model.bin`, in one file or with an index)
            and the tokenizer: the published VQAThinker, or InternVL2.5, 3 or 3.5 with a Qwen2 or Qwen3 language model.
        out: Folder of the policy.
        slowfast: For a checkpoint without motion branch: pytorchvideo weights or `"random"`, as in
            `VQAThinkerForConditionalGeneration.from_internvl`.
        motion_config: Settings of `MotionConfig` to change. Without them a checkpoint's own motion branch is R50 on the
            key frames, sampled, normalised and pooled as in the published code, and a new one is `MotionConfig()`.
        motion_tokens: 1 for a checkpoint with motion branch; without, any number, 0 to have none.
        num_frames: Key frames per clip (published test: 12, training: 6).
        image_size: Side of the key frames in pixels (published test: 560, training: 448).
        prompt_style: See `prompts`.
        low_tokens: Of a new low-level stream, see `VQAThinkerConfig`; 0 to have none.
        low_level: ViT checkpoint that its encoder starts from; default ViT-B/16 with random weights.

    Raises:
        FileNotFoundError: If the folder has no configuration or no weights.
        ValueError: If it is no InternVLChat checkpoint, has a setting that the policy cannot express, a missing,
            unknown or misshapen weight or a tokenizer without InternVL's tokens, or if the motion arguments do not fit.
    """
    path, out = Path(path), Path(out)
    if out.resolve() == path.resolve():
        raise ValueError(f"out={str(out)!r} is the checkpoint itself, which must stay as it is: name another folder.")
    known = _read_config(path)
    tokenizer = _load_tokenizer(path, known["llm_config"]["vocab_size"])
    weights = read_weights(path)
    has_motion = any(name.startswith(("motion_mlp.", "slowfast_model.")) for name in weights)
    _check_motion(path, has_motion, slowfast, motion_tokens, motion_config or {})
    defaults = PUBLISHED_MOTION | {"image_size": image_size} if has_motion else {}
    motion = MotionConfig(**(defaults | (motion_config or {})))
    low_config, encoder = first_encoder(low_tokens, low_level)
    low = {"low_tokens": low_tokens, "low_config": low_config}
    config = _policy_config(known, tokenizer, motion_config=motion, motion_tokens=motion_tokens, **low)
    processor = VQAThinkerProcessor.for_config(
        tokenizer,
        config,
        chat_template=CHAT_TEMPLATE,
        num_frames=num_frames,
        image_size=image_size,
        prompt_style=prompt_style,
    )
    with torch.device("meta"):  # names and shapes only
        policy = VQAThinkerForConditionalGeneration(config)
    state = _policy_state(path, weights, policy, slowfast, encoder)
    policy.to(state[EMBEDDING].dtype)  # the saved configuration says so, and loading follows it
    policy.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(END_TOKEN)
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    policy.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)


def _read_config(path: Path) -> dict[str, Any]:
    """`config.json`, with nothing in it that the policy cannot express."""
    file = path / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {str(path)!r}: it has no config.json. Download the whole folder.")
    known = json.loads(file.read_text(encoding="utf-8"))
    if known.get("model_type") != "internvl_chat":
        raise ValueError(
            f"{str(file)!r} has model_type {known.get('model_type')!r}: must be 'internvl_chat'. Make policies from "
            "HF-format InternVL3 checkpoints ('internvl', the '-hf' ones) with `vqathinker init`."
        )
    sections = {section: known.get(section, {}) if section else known for section in SUPPORTED}
    required = [("vision_config", name) for name in VISION] + [("llm_config", "vocab_size")]
    absent = [f"{section}.{name}" for section, name in required if name not in sections[section]]
    if absent:
        raise ValueError(f"{str(file)!r} lacks {absent}: use the config.json that the weights were saved with.")
    for section, settings in SUPPORTED.items():
        for name, default, allowed in settings:
            if sections[section].get(name, default) not in allowed:
                raise ValueError(
                    f"{str(file)!r} has {f'{section}.{name}'.lstrip('.')} = {sections[section].get(name, default)!r}: "
                    f"must be {' or '.join(map(repr, allowed))}. Convert InternVL2.5, 3 or 3.5 checkpoints with the "
                    "300M vision tower and a Qwen2 or Qwen3 language model, LoRA weights merged."
                )
    return known


def _load_tokenizer(path: Path, vocab_size: int) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, with the names by which the processor asks for the image tokens."""
    # An empty configuration, so that the folder's is not looked at: it asks for remote code.
    options = {"config": PreTrainedConfig(), "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"no readable tokenizer in {str(path)!r}: add the tokenizer files that the weights came with."
        ) from error
    absent = [token for token in (*IMAGE_TOKENS.values(), END_TOKEN) if token not in tokenizer.get_vocab()]
    if absent or len(tokenizer) > vocab_size:
        raise ValueError(
            f"the tokenizer in {str(path)!r} has {len(tokenizer)} tokens and lacks {absent}: it must have InternVL's "
            f"tokens, and no more than the {vocab_size} of the embedding. Use the tokenizer files that the weights "
            "came with."
        )
    return AutoTokenizer.from_pretrained(path, **options, **IMAGE_TOKENS)


def _check_motion(
    path: Path, has_motion: bool, slowfast: str | Path | None, motion_tokens: int, settings: dict[str, Any]
) -> None:
    """The arguments on motion must fit what the checkpoint brings."""
    if has_motion and settings.get("pathway") == "fast":
        raise ValueError(
            f"pathway='fast', one motion token per frame: {str(path)!r} has a motion branch whose projector reads both "
            "pathways and gives one token for the clip. Leave it out (--motion-tokens per_frame), or convert a "
            "checkpoint without a motion branch."
        )
    if has_motion and (slowfast is not None or motion_tokens != 1):
        raise ValueError(
            f"{slowfast=}, {motion_tokens=}: {str(path)!r} has a motion branch, with its own SlowFast weights and one "
            "motion token. Leave both arguments out."
        )
    if not has_motion and (slowfast is None) != (motion_tokens == 0):
        raise ValueError(
            f"{slowfast=}, {motion_tokens=}: {str(path)!r} has no motion branch. Give slowfast weights and at least "
            "one motion token to add one, or motion_tokens=0 alone to have none."
        )


def _policy_config(
    known: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    **branches: Any,
) -> VQAThinkerConfig:
    """InternVLChat's settings in the policy's terms, with those of the further streams."""
    vision, text = known["vision_config"], known["llm_config"]
    family = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}[text["model_type"]]
    fields = {field.name for field in dataclasses.fields(family)} - {"architectures", "dtype", "use_cache"}
    ratio = known.get("downsample_ratio", 0.5)
    return VQAThinkerConfig(
        vision_config={own: vision[name] for name, own in VISION.items()},
        text_config={name: value for name, value in text.items() if name in fields or name.startswith("rope_")}
        | {"model_type": text["model_type"], "eos_token_id": tokenizer.convert_tokens_to_ids(END_TOKEN)},
        **branches,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["context_image_token"]),
        image_seq_length=round(vision["image_size"] // vision["patch_size"] * ratio) ** 2,
        downsample_ratio=ratio,
        tie_word_embeddings=text.get("tie_word_embeddings", False),
    )


def _policy_state(
    path: Path,
    weights: dict[str, torch.Tensor],
    policy: VQAThinkerForConditionalGeneration,
    slowfast: str | Path | None,
    encoder: ViTModel | None,
) -> dict[str, torch.Tensor]:
    """The policy's weights: views of the checkpoint's, a new motion branch where `slowfast` is given, and a new
    low-level stream where there is one."""
    branch = {} if slowfast is None else _new_motion_branch(policy, slowfast)
    branch |= _new_low_level(policy.config, encoder)
    wanted = {name: tensor.shape for name, tensor in policy.state_dict().items() if name not in branch}
    if policy.config.tie_word_embeddings:  # the head is the embedding, whether or not the file repeats it
        del wanted["lm_head.weight"]
        weights.pop("language_model.lm_head.weight", None)
    origins = {name: _origin(name) for name in wanted}
    shapes = {
        source: wanted[name] if third is None else (3 * wanted[name][0], *wanted[name][1:])
        for name, (source, third) in origins.items()
    }
    _check_weights(path, weights, shapes)
    state = {
        name: weights[source] if third is None else weights[source].chunk(3)[third]
        for name, (source, third) in origins.items()
    }
    dtype = state[EMBEDDING].dtype
    return state | {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in branch.items()}


def _new_motion_branch(policy: VQAThinkerForConditionalGeneration, slowfast: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a motion branch as `VQAThinkerForConditionalGeneration.from_internvl` starts one."""
    branch = STREAMS["motion"].build(policy.config)
    policy._init_weights(branch["motion_projector"])
    if str(slowfast) != "random":
        load_motion(branch, slowfast)
    return {f"model.{name}": tensor for name, tensor in nn.ModuleDict(branch).state_dict().items()}


def _new_low_level(config: VQAThinkerConfig, encoder: ViTModel | None) -> dict[str, torch.Tensor]:
    """Weights of a low-level stream as `VQAThinkerForConditionalGeneration.from_internvl` starts one, if any."""
    if not config.low_tokens:
        return {}
    parts = STREAMS["low"].build(config)
    if encoder is not None:
        parts["low_encoder"] = encoder
    return {f"model.{name}": tensor for name, tensor in nn.ModuleDict(parts).state_dict().items()}


def add_low_level(
    path: str | Path,
    out: str | Path,
    low_tokens: int,
    low_level: str | Path | None = None,
    low_config: dict[str, Any] | None = None,
    low_patches: int = 8,
) -> None:
    """Write a policy once more, with a new low-level stream, and its processor.

    Args:
        path: Folder of a policy without one.
        out: Folder of the new policy.
        low_tokens: See `VQAThinkerConfig`, at least 1.
        low_level: ViT checkpoint that the encoder starts from; default random weights.
        low_config: See `VQAThinkerConfig`, for random weights.
        low_patches: See `VQAThinkerConfig`.

    Raises:
        ValueError: If the policy has such a stream or is an adapter, `out` is its folder, or the arguments do not fit.
    """
    if low_tokens < 1 or Path(out).resolve() == Path(path).resolve():
        raise ValueError(f"low_tokens={low_tokens}, out={str(out)!r}: give at least 1 token, and another folder.")
    if is_adapter(path) or AutoConfig.from_pretrained(path).low_tokens:
        raise ValueError(
            f"{str(path)!r} is an adapter or has a low-level stream: name a whole policy without one (`vqathinker "
            "merge` makes one of an adapter)."
        )
    settings, encoder = first_encoder(low_tokens, low_level, low_config)
    low = {"low_tokens": low_tokens, "low_patches": low_patches, "low_config": settings}
    policy = VQAThinkerForConditionalGeneration.from_pretrained(path, dtype="auto", **low)
    if encoder is not None:
        policy.model.low_encoder.load_state_dict(encoder.state_dict())
    saved = AutoProcessor.from_pretrained(path)
    known = saved.to_dict() | low | {"low_patch_size": policy.config.low_config.image_size}
    del known["low_config"]
    processor = VQAThinkerProcessor.from_args_and_dict([saved.tokenizer], known, chat_template=saved.chat_template)
    policy.save_pretrained(out)
    processor.save_pretrained(out)


def _origin(name: str) -> tuple[str, int | None]:
    """What InternVLChat calls a weight of the policy, and which third of it that is, if not all."""
    for own, theirs in NAMES:
        name = name.replace(own, theirs)
    for third, own in enumerate(QKV):
        if own in name:
            return name.replace(own, ".attn.qkv."), third
    return name, None


def _check_weights(path: Path, weights: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """The checkpoint must have the weights that the policy is made of, all of them and no others."""
    missing, unknown = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing:
        raise ValueError(
            f"{str(path)!r} lacks {len(missing)} of {len(shapes)} weights, {missing[:3]} among them: it must hold "
            "every weight that its config.json asks for. Download the whole folder, and set motion_config if SlowFast "
            "is not an R50."
        )
    if unknown:
        raise ValueError(
            f"{str(path)!r} has {len(unknown)} weights that the policy has no place for, {unknown[:3]} among them: "
            "none may be left over. Convert InternVLChat checkpoints with their own config.json, adapters merged."
        )
    wrong = [
        f"{name} {tuple(weights[name].shape)}, not {tuple(shape)}"
        for name, shape in shapes.items()
        if weights[name].shape != shape
    ]
    if wrong:
        raise ValueError(
            f"{str(path)!r} has {len(wrong)} of {len(shapes)} weights whose shape differs from its config.json, "
            f"{wrong[:3]} among them. Use the config.json that the weights were saved with, and set motion_config if "
            "SlowFast is not an R50."
        )

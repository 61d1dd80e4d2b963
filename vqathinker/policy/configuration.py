"""Configuration of the policy: InternVL's own plus the motion branch and the low-level stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import InternVLConfig, PreTrainedConfig, ViTConfig

from vqathinker.policy.score_head import check_form

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LANGUAGE_MODELS = ("llama", "qwen2", "qwen3")
"""Those of which tests say that the loss, transformers' rollouts and vLLM's compute the same."""
ROPE_TYPES = ("default", "dynamic", "linear", "llama3", "yarn")
"""Rotary embeddings likewise; `"dynamic"` up to the length at which it starts to scale."""


def check_language_model(text: PreTrainedConfig) -> None:
    """Refuse a language model that training and rollouts would not compute alike.

    Args:
        text: Its configuration.

    Raises:
        ValueError: If it is none of `LANGUAGE_MODELS`, or has layers without full attention, a rotary embedding that is
            none of `ROPE_TYPES`, or dropout.
    """
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    dropout = getattr(text, "attention_dropout", 0.0)
    rules = (
        (
            "model_type",
            {text.model_type},
            LANGUAGE_MODELS,
            "others have parts that the loss leaves out: the router's auxiliary loss of a mixture of experts, "
            "windows, scaled embeddings or logits. Use a checkpoint with a dense language model, e.g. InternVL3 or "
            "InternVL3.5 of 1B to 38B",
        ),
        (
            "layer_types",
            layers,
            ("full_attention",),
            "the loss packs the answers to a clip into one row, which does not support sliding windows. Use a "
            "checkpoint without use_sliding_window",
        ),
        (
            "rope_type",
            {rope},
            ROPE_TYPES,
            "with others a token's position depends on what else is computed. Use a checkpoint without",
        ),
        (
            "attention_dropout",
            {dropout},
            (0,),
            "rollouts have none, so the loss would be that of another policy. Set it to 0 in config.json",
        ),
    )
    for name, found, allowed, reason in rules:
        if wrong := found - set(allowed):
            raise ValueError(
                f"text_config has {name}={', '.join(map(repr, sorted(wrong)))}: must be "
                f"{' or '.join(map(repr, allowed))}; {reason}."
            )


@strict
class MotionConfig(PreTrainedConfig):
    """SlowFast, built by pytorchvideo's `create_slowfast`. The defaults are `slowfast_r50` (Kinetics-400).

    Args:
        model_depth: ResNet depth: 18, 50 or 101.
        stem_dim_outs: Channels of the slow and the fast stem.
        channel_reduction_ratio: Slow channels / fast channels.
        image_size: Side of the square frames the encoder takes, in pixels.
        slow_sampling: Which frames the slow path sees: `"chunk"`, the first frame of each chunk (paper), or
            `"linspace"`, evenly from first to last (published code). There are ceil(T/4) of them, as the lateral
            connections' stride of 4 demands: 2 of 6 frames, 3 of 12. The published code takes T//3 in training and T//4
            in its test: the same at its 6 and its 12 frames, and where it is not, its lateral connections do not fit.
        normalization: Pixel mean and std: `"kinetics"`, SlowFast's own, `"imagenet"` (published code, which shows
            the encoder the key frames of the vision tower), or `"siglip"`: both 0.5 (VQA²'s code, for the same reason).
        pooling: How a pathway becomes one vector: `"mean"`, or `"windows"` (published code): repeated in time, averaged
            by the sliding windows of pytorchvideo's head, and their mean taken, which weighs the middle more.
        pathway: `"both"`, or `"fast"` (VQA²): the fast pathway alone sees all frames of the clip and gives one token
            for each, the mean over its pixels. As connections run from the fast pathway to the slow one only, the slow
            one is left out.
        max_frames: Of the fast pathway alone: most frames of a clip, from the first on, and rows of the learned
            positions that are added to the features (VQA²: 2000); a multiple of 4.
    """

    model_type = "vqathinker_motion"
    base_config_key = "motion_config"

    model_depth: int = 50
    stem_dim_outs: list[int] | tuple[int, ...] = (64, 8)
    channel_reduction_ratio: int = 8
    image_size: int = 224
    slow_sampling: str = "chunk"
    normalization: str = "kinetics"
    pooling: str = "mean"
    pathway: str = "both"
    max_frames: int = 2000

    def __post_init__(self, **kwargs: Any) -> None:
        if self.model_depth not in (18, 50, 101):
            raise ValueError(f"model_depth={self.model_depth}: pytorchvideo's SlowFast has depths 18, 50 and 101.")
        if self.slow_sampling not in ("chunk", "linspace"):
            raise ValueError(f"slow_sampling={self.slow_sampling!r}: must be 'chunk' or 'linspace'.")
        if self.normalization not in ("kinetics", "imagenet", "siglip"):
            raise ValueError(f"normalization={self.normalization!r}: must be 'kinetics', 'imagenet' or 'siglip'.")
        if self.pooling not in ("mean", "windows"):
            raise ValueError(f"pooling={self.pooling!r}: must be 'mean' or 'windows'.")
        if self.pooling == "windows" and self.image_size <= 192:  # 32 pixels a cell, 7 x 7 cells a window
            raise ValueError(f"image_size={self.image_size}: pooling='windows' needs frames of at least 193 pixels.")
        self._check_pathway()
        super().__post_init__(**kwargs)

    def _check_pathway(self) -> None:
        """Raise `ValueError` if a setting does not go with the pathway."""
        if self.pathway not in ("both", "fast"):
            raise ValueError(f"pathway={self.pathway!r}: must be 'both' or 'fast'.")
        if self.max_frames < 4 or self.max_frames % 4:
            raise ValueError(f"max_frames={self.max_frames}: must be a multiple of 4, at least 4.")
        absent = {"max_frames": 2000} if self.pathway == "both" else {"slow_sampling": "chunk", "pooling": "mean"}
        if given := {name: own for name, default in absent.items() if (own := getattr(self, name)) != default}:
            raise ValueError(f"pathway={self.pathway!r} with {given}: it has no use for these, so leave them out.")

    @property
    def feature_size(self) -> int:
        """Channels of the concatenated pathways, slow first: 32 x (stem widths), 2048 + 256 = 2304 for R50; of the fast
        pathway alone 256."""
        return 32 * (self.stem_dim_outs[1] if self.pathway == "fast" else sum(self.stem_dim_outs))


def with_low_level(streams: Sequence[str], low_tokens: int) -> list[str]:
    """Names of streams, with the low-level one behind the first where there are tokens of it (CP-LLM's order)."""
    if low_tokens and "low" not in streams:
        return [*streams[:1], "low", *streams[1:]]
    return list(streams)


def token_grid(low_tokens: int) -> tuple[int, int]:
    """Rows and columns of areas of a patch, one for each of l tokens: the pair nearest to a square, rows <= columns."""
    rows = next(rows for rows in range(math.isqrt(low_tokens), 0, -1) if low_tokens % rows == 0)
    return rows, low_tokens // rows


@strict
class VQAThinkerConfig(InternVLConfig):
    """`InternVLConfig` plus the motion branch and the low-level stream.

    Args:
        motion_config: `MotionConfig` or its dict.
        motion_tokens: Motion tokens m per clip (published code: 1); 0 leaves the motion branch out. With
            `motion_config.pathway="fast"` 1 is one for each frame of the clip.
        motion_run_length: Frames per key frame that the motion encoder sees: 1 is `sampled` motion input (paper), more
            is `dense` (VQA²): a run of neighbouring frames around each key frame.
        low_tokens: Low-level tokens l per key frame; 0 leaves the low-level stream out, see
            `vqathinker.policy.low_level`.
        low_patches: Most patches K per key frame that the low-level encoder sees (CP-LLM: 8).
        low_config: `ViTConfig` of the low-level encoder, or its dict; `image_size` is the side of a patch, `image_mean`
            and `image_std` are those of its pixels, default 0.5. Default: ViT-B/16 on patches of 224.
        streams: Names of the visual streams, see `vqathinker.policy.streams`; with `motion_tokens=0` there is no
            motion stream. The low-level one is named where it has tokens.
        score_head: What a head for scores reads, `"visual"` or `"hidden"`, see `vqathinker.policy.score_head`; "" is
            no head.

    Raises:
        ValueError: If a value is out of range, or for a language model that is not supported (`check_language_model`).
    """

    model_type = "vqathinker"
    auto_map: ClassVar[dict[str, str]] = {}  # no remote code; TRL reads it for classes transformers does not ship
    sub_configs: ClassVar[dict] = {
        **InternVLConfig.sub_configs,
        "motion_config": MotionConfig,
        "low_config": ViTConfig,
    }

    if TYPE_CHECKING:
        motion_config: MotionConfig  # what `__post_init__` makes of it
        low_config: ViTConfig
    else:
        motion_config: dict | PreTrainedConfig | None = None
        low_config: dict | PreTrainedConfig | None = None
    motion_tokens: int = 1
    motion_run_length: int = 1
    low_tokens: int = 0
    low_patches: int = 8
    streams: list[str] | tuple[str, ...] = ("spatial", "motion")
    score_head: str = ""

    def __post_init__(self, **kwargs: Any) -> None:
        if self.motion_config is None:
            self.motion_config = MotionConfig()
        elif isinstance(self.motion_config, dict):
            self.motion_config = MotionConfig(**self.motion_config)
        if self.motion_tokens < 0 or self.motion_run_length < 1:
            raise ValueError(
                f"motion_tokens={self.motion_tokens}, motion_run_length={self.motion_run_length}: tokens must be >= 0 "
                "(0 = no motion branch) and the run at least 1 frame."
            )
        if self.motion_config.pathway == "fast" and (self.motion_tokens > 1 or self.motion_run_length > 1):
            raise ValueError(
                f"motion_tokens={self.motion_tokens}, motion_run_length={self.motion_run_length} with "
                "motion_config.pathway='fast', which gives one token for each frame of the whole clip: both must be 1 "
                "(motion_tokens=0 leaves the motion branch out)."
            )
        if isinstance(self.low_config, dict) or (self.low_config is None and self.low_tokens):
            self.low_config = ViTConfig(**(self.low_config or {}))
        self._check_low_level()
        if self.low_tokens:
            self.streams = with_low_level(self.streams, self.low_tokens)
        check_form(self.score_head)
        super().__post_init__(**kwargs)
        check_language_model(self.text_config)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers', which sets further values one by one: those of the low-level stream go together."""
        low = {name: kwargs.pop(name) for name in ("low_tokens", "low_patches", "low_config") if name in kwargs}
        return super().from_dict(config_dict | low, **kwargs)

    def _check_low_level(self) -> None:
        if self.low_tokens < 0 or self.low_patches < 1:
            raise ValueError(
                f"low_tokens={self.low_tokens}, low_patches={self.low_patches}: tokens must be >= 0 (0 = no low-level "
                "stream) and the patches of a frame at least 1."
            )
        if not self.low_tokens:
            return
        size, step = self.low_config.image_size, self.low_config.patch_size
        if not (isinstance(size, int) and isinstance(step, int)) or size % step:
            raise ValueError(
                f"low_config has image_size={size!r} and patch_size={step!r}: must be whole numbers, the first a "
                "multiple of the second."
            )
        names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if dropout := {name: value for name in names if (value := getattr(self.low_config, name))}:
            raise ValueError(
                f"low_config has {dropout}: rollouts and loss would see different tokens. Set them to 0 (in the ViT "
                "checkpoint's config.json)."
            )
        rows, columns = token_grid(self.low_tokens)
        if columns > size // step:
            raise ValueError(
                f"low_tokens={self.low_tokens}: its {rows} x {columns} areas of a patch must be no more than the "
                f"encoder's {size // step} x {size // step} tokens (image_size={size}, patch_size={step}). Take a "
                f"number such as {(size // step) ** 2} or {max(1, size // step // 2) ** 2}."
            )

    @property
    def motion_input(self) -> str:
        """`"sampled"`, `"dense"`, or `"whole"` clips."""
        if self.motion_config.pathway == "fast":
            return "whole"
        return "sampled" if self.motion_run_length == 1 else "dense"

    @property
    def motion_max_frames(self) -> int:
        """Most motion frames of a clip, with one token for each; 0: there are m tokens for the clip."""
        return self.motion_config.max_frames if self.motion_config.pathway == "fast" and self.motion_tokens else 0

"""The low-level stream (CP-LLM, arXiv 2505.16025, section 3.1): what patches of a frame show at its own resolution.

A key frame is fitted into a box and cut into K patches (`vqathinker.clips.cut_patches`), which a ViT sees one by one.
Its tokens are averaged over the patches, place by place, then over areas of a patch until l are left, taken to the
language model's width D and normalised. Both means come before the linear layer, which does not change the result and
lets a frozen encoder's features be kept at l x D_q numbers a frame.

The l tokens stand right behind the frame's own, without words of their own. The normalisation starts with a gain of
zero: tokens of a new stream are zero vectors. They still stand in the prompt and move what follows, so a policy with a
new stream is near the one without, not equal to it (see docs/architecture.md for how near).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedConfig, ViTConfig, ViTModel
from transformers.utils import cached_file

from vqathinker.policy.complete import load_complete
from vqathinker.policy.configuration import token_grid
from vqathinker.policy.streams import STREAMS, Sizes, VisualStream

if TYPE_CHECKING:
    from vqathinker.policy.configuration import VQAThinkerConfig
    from vqathinker.policy.inner_model import VQAThinkerModel

LEFT_OUT = r"^(classifier|decoder|pooler|vit\.pooler)\.|mask_token$"
"""Weights of ViT checkpoints that are no part of the encoder: heads for other uses."""
WEIGHTS = r"\blow_(encoder|projector)\."
"""Names of the stream's own weights in a policy."""


def area_weights(side: int, low_tokens: int) -> torch.Tensor:
    """(l, side * side) weights of a mean over each of l areas of a patch's tokens, as adaptive average pooling has
    them; as a product its gradient on GPUs is the same each time."""
    places = torch.eye(side**2).unflatten(1, (side, side))
    return F.adaptive_avg_pool2d(places, token_grid(low_tokens)).flatten(1).T.contiguous()


class ZeroGainNorm(nn.LayerNorm):
    """LayerNorm whose gain starts at 0, from where it has a gradient."""

    def reset_parameters(self) -> None:
        """Gain and bias 0."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class LowLevelProjector(nn.Module):
    """Linear and LayerNorm: from the encoder's width to the language model's.

    Args:
        in_features: D_q.
        out_features: D.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.layer_norm = ZeroGainNorm(out_features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(..., D_q) -> (..., D)."""
        return self.layer_norm(self.linear(features))


class LowLevel(VisualStream):
    """A ViT on patches of each key frame: l tokens for each."""

    name, label, takes, per_frame = "low", "", "patches", True
    trunk, head = ("low_encoder",), ("low_projector",)

    def build(self, config: VQAThinkerConfig) -> dict[str, nn.Module]:
        """The ViT, with random weights until some are loaded, and the projector."""
        width = config.low_config.hidden_size
        return {
            "low_encoder": ViTModel(config.low_config, add_pooling_layer=False),
            "low_projector": LowLevelProjector(width, config.text_config.hidden_size),
        }

    def shown(self, sizes: Sizes) -> bool:
        """Not without low-level tokens."""
        return sizes.low_tokens > 0

    def tokens(self, sizes: Sizes) -> int:
        """l."""
        return sizes.low_tokens

    def features(self, model: VQAThinkerModel | SimpleNamespace, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(T, K', 3, p, p) to (T, l, D_q); all patches run together.

        Clips may differ in K', the patches that fit into their frames: each frame's mean is over its own.
        """
        config, count = model.config.low_config, model.config.low_tokens
        pixels = _normalized(torch.cat([clip.flatten(0, 1) for clip in clips]), config)
        hidden = model.low_encoder(pixel_values=pixels).last_hidden_state[:, 1:]  # without the class token
        areas = area_weights(config.image_size // config.patch_size, count).to(hidden)
        parts = hidden.split([len(clip) * clip.shape[1] for clip in clips])
        return [areas @ own.unflatten(0, clip.shape[:2]).mean(1) for clip, own in zip(clips, parts, strict=True)]

    def project(self, model: VQAThinkerModel | SimpleNamespace, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(T, l, D_q) to (T, l, D)."""
        projector = model.low_projector
        return [projector(own.to(projector.linear.weight.dtype)) for own in features]


STREAMS[LowLevel.name] = LowLevel()


def _normalized(patches: torch.Tensor, config: ViTConfig) -> torch.Tensor:
    """(N, 3, p, p) uint8 to float32 of the encoder's mean and standard deviation."""
    mean, std = (
        torch.tensor(getattr(config, name, [0.5] * 3), device=patches.device).view(3, 1, 1)
        for name in ("image_mean", "image_std")
    )
    return (patches.float() / 255 - mean) / std


def new_weights(path: str | Path, options: Mapping[str, Any]) -> str:
    """Which weights a policy may have beyond its checkpoint's, as a regular expression; "" for none.

    Args:
        path: Checkpoint folder or hub id.
        options: Of `from_pretrained`: `low_tokens` above 0 adds the stream to a checkpoint that has none.
    """
    if not options.get("low_tokens"):
        return ""
    known, _ = PreTrainedConfig.get_config_dict(path)
    return "" if known.get("low_tokens") else WEIGHTS


def load_encoder(path: str | Path) -> ViTModel:
    """The encoder of a ViT checkpoint, e.g. `google/vit-base-patch16-224-in21k` or `facebook/dino-vitb16`.

    Args:
        path: Folder or hub id, with safetensors and, where its pixels are not normalised to a mean and standard
            deviation of 0.5, `preprocessor_config.json`.

    Returns:
        The encoder, in float32 or whatever it was saved in; `image_mean` and `image_std` are in its configuration.

    Raises:
        ValueError: If it is another kind of model, or has no safetensors.
        IncompleteCheckpoint: If weights are missing, left over, but for heads, or of another shape.
    """
    config = AutoConfig.from_pretrained(path)
    if config.model_type != "vit":
        raise ValueError(
            f"{str(path)!r} has model_type {config.model_type!r}: the low-level encoder must be a ViT of transformers "
            "(model_type 'vit'), e.g. google/vit-base-patch16-224-in21k."
        )
    options: dict[str, Any] = {"add_pooling_layer": False, "use_safetensors": True}
    try:
        encoder, _ = load_complete(ViTModel.from_pretrained, path, left_out=LEFT_OUT, **options)
    except OSError as error:
        raise ValueError(
            f"{str(path)!r} has no readable safetensors ({str(error).splitlines()[0]}): the low-level encoder is read "
            "from these only, as other files may run code. Save it once more with save_pretrained."
        ) from error
    settings = cached_file(path, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    known = json.loads(Path(settings).read_text(encoding="utf-8")) if settings else {}
    for name in ("image_mean", "image_std"):
        setattr(encoder.config, name, known.get(name, [0.5] * 3))
    return encoder


def first_encoder(low_tokens: int, path: str | Path | None, low_config: Any = None) -> tuple[Any, ViTModel | None]:
    """What a new stream starts from: its `VQAThinkerConfig.low_config`, and the encoder of a ViT checkpoint.

    Args:
        low_tokens: Of the new policy.
        path: See `load_encoder`; `None`: random weights.
        low_config: Sizes of an encoder with random weights.

    Raises:
        ValueError: If there is nothing to start, or sizes come beside a checkpoint; and see `load_encoder`.
    """
    if path is None:
        return low_config, None
    if not low_tokens or low_config is not None:
        raise ValueError(
            f"low_level={str(path)!r} with low_tokens={low_tokens} and low_config={low_config}: a ViT checkpoint needs "
            "low_tokens of at least 1, and brings its own sizes."
        )
    encoder = load_encoder(path)
    known = encoder.config.to_dict()
    for name in ("architectures", "dtype", "transformers_version", "_name_or_path", "id2label", "label2id"):
        known.pop(name, None)
    return known, encoder

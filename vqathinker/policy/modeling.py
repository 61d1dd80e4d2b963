"""`VQAThinkerForConditionalGeneration`: HF InternVL whose language model also reads motion tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, InternVLForConditionalGeneration, InternVLModel
from transformers import initialization as init
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.models.internvl.modeling_internvl import (
    InternVLCausalLMOutputWithPast,
    InternVLModelOutputWithPast,
    InternVLMultiModalProjector,
    InternVLPreTrainedModel,
)

from vqathinker.policy.complete import load_complete
from vqathinker.policy.configuration import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MotionConfig,
    VQAThinkerConfig,
    check_language_model,
)
from vqathinker.policy.features import ClipFeatures
from vqathinker.policy.motion import MotionEncoder, MotionProjector


class VQAThinkerPreTrainedModel(InternVLPreTrainedModel):
    """Weight initialisation of the motion projector; the rest is InternVL's."""

    config_class = VQAThinkerConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MotionProjector):  # published code
            for linear in (module.linear_1, module.linear_2):
                init.uniform_(linear.weight, 0.0, 0.01)
                init.zeros_(linear.bias)


class VQAThinkerModel(VQAThinkerPreTrainedModel, InternVLModel):
    """Vision tower, projector, language model, and the motion branch."""

    def __init__(self, config: VQAThinkerConfig) -> None:
        # Not InternVLModel.__init__: it would initialise weights before the motion branch exists.
        InternVLPreTrainedModel.__init__(self, config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = InternVLMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        if config.motion_tokens:
            self.motion_encoder = MotionEncoder(config.motion_config)
            self.motion_projector = MotionProjector(config.motion_config.feature_size, config.text_config.hidden_size)
        else:
            self._keys_to_ignore_on_load_unexpected = [r"\bmotion_(encoder|projector)\."]  # of a policy that has one
        self.post_init()

    def motion_features(self, motion_frames: torch.Tensor, encoder: MotionEncoder | None = None) -> torch.Tensor:
        """Frozen SlowFast features; see `VQAThinkerForConditionalGeneration.motion_features`."""
        if not self.config.motion_tokens:
            return torch.zeros(
                len(motion_frames), 0, self.config.motion_config.feature_size, device=motion_frames.device
            )
        encoder = self.motion_encoder if encoder is None else encoder
        return encoder(motion_frames.flatten(1, 2), self.config.motion_tokens)

    def project_motion(self, motion_features: torch.Tensor) -> torch.Tensor:
        """(C, m, F) motion features to (C, m, D) motion tokens."""
        if not self.config.motion_tokens:
            return motion_features.new_zeros(*motion_features.shape[:2], self.config.text_config.hidden_size)
        return self.motion_projector(motion_features.to(self.motion_projector.linear_1.weight.dtype))

    def frame_features(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) uint8 frames to (N, n, D) tokens."""
        mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1)
        pixels = (frames.float() / 255 - mean) / std
        return self.get_image_features(
            pixels,
            vision_feature_layer=self.config.vision_feature_layer,
            vision_feature_select_strategy=self.config.vision_feature_select_strategy,
        ).pooler_output

    def visual_embeds(
        self,
        frames: torch.Tensor | None,
        motion_frames: torch.Tensor | None,
        motion_features: torch.Tensor | None,
        spatial_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(C, T n + m, D) tokens of C clips of equal length, in placeholder order."""
        if spatial_features is None:
            spatial_features = self.frame_features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if motion_features is None:
            if motion_frames is None:
                raise ValueError("frames came without motion_frames or motion_features: pass one of them.")
            motion_features = self.motion_features(motion_frames)
        motion = self.project_motion(motion_features)
        return torch.cat([spatial_features.flatten(1, 2), motion], dim=1)

    def insert(self, inputs_embeds: torch.Tensor, input_ids: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Put visual tokens at the placeholders.

        Args:
            inputs_embeds: (..., D) text embeddings.
            input_ids: (...) ids.
            tokens: (P, D) tokens in placeholder order.

        Raises:
            ValueError: If there are not exactly P placeholders.
        """
        mask = input_ids == self.config.image_token_id
        if int(mask.sum()) != len(tokens):
            raise ValueError(
                f"the prompt has {int(mask.sum())} placeholders but the clips give {len(tokens)} visual tokens: "
                "processor and model disagree on frames, image size or motion tokens."
            )
        return inputs_embeds.masked_scatter(mask.unsqueeze(-1), tokens.to(inputs_embeds))

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.FloatTensor | None = None,
        frames: torch.Tensor | None = None,
        motion_frames: torch.Tensor | None = None,
        motion_features: torch.Tensor | None = None,
        spatial_features: torch.Tensor | None = None,
        visual_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> InternVLModelOutputWithPast:
        """See `VQAThinkerForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if frames is not None or spatial_features is not None:
            visual_embeds = self.visual_embeds(frames, motion_frames, motion_features, spatial_features)
        if visual_embeds is not None:
            inputs_embeds = self.insert(inputs_embeds, input_ids, visual_embeds.flatten(0, 1))
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return InternVLModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class VQAThinkerForConditionalGeneration(VQAThinkerPreTrainedModel, InternVLForConditionalGeneration):
    """The policy (VQAThinker Fig. 2, Eq. 1): InternVL + frozen SlowFast + motion projector + LM head.

    Args:
        config: `VQAThinkerConfig`.

    Example:
        >>> policy = VQAThinkerForConditionalGeneration.from_pretrained("runs/demo/grpo")  # doctest: +SKIP
        >>> policy.generate(**processor(["clip.mp4"]), max_new_tokens=64)  # doctest: +SKIP
    """

    def __init__(self, config: VQAThinkerConfig) -> None:
        InternVLPreTrainedModel.__init__(self, config)
        self.model = VQAThinkerModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.FloatTensor | None = None,
        frames: torch.Tensor | None = None,
        motion_frames: torch.Tensor | None = None,
        motion_features: torch.Tensor | None = None,
        spatial_features: torch.Tensor | None = None,
        visual_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """One pass over B sequences, each with a clip of its own.

        Args:
            input_ids: (B, L) ids with one `<IMG_CONTEXT>` per visual token.
            attention_mask: (B, L), 0 = padding, or (B, 1, L, L), true = visible.
            inputs_embeds: (B, L, D) instead of `input_ids`, visual tokens already inserted.
            frames: (B, T, 3, S, S) uint8 key frames; encoded here, with gradients.
            motion_frames: (B, T, r, 3, s, s) uint8 frames for the motion encoder.
            motion_features: (B, m, F) its output, if known, instead of `motion_frames`.
            spatial_features: (B, T, n, D) the frames' tokens, if known, instead of `frames`.
            visual_embeds: (B, T n + m, D) tokens, if known, instead of all of the above.
            labels: (B, L) ids to predict, -100 = not scored.
            logits_to_keep: How many last positions get logits; 0 = all.
            kwargs: Among them `num_items_in_batch`, how many scored ids the loss is a mean over; default those in
                `labels`.

        Returns:
            Output with `loss` (if `labels`), `logits` (B, L, V) and `past_key_values`.

        Raises:
            ValueError: If the placeholders do not match the visual tokens.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            frames=frames,
            motion_frames=motion_frames,
            motion_features=motion_features,
            spatial_features=spatial_features,
            visual_embeds=visual_embeds,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            if kwargs.get("num_items_in_batch") is not None:  # 0 where no clip of a step could be read
                kwargs["num_items_in_batch"] = torch.as_tensor(kwargs["num_items_in_batch"]).clamp(min=1)
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return InternVLCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @torch.no_grad()
    def motion_features(self, motion_frames: torch.Tensor, encoder: MotionEncoder | None = None) -> torch.Tensor:
        """Frozen SlowFast features: they never change, so cache them.

        Args:
            motion_frames: (C, T, r, 3, s, s) uint8.
            encoder: Computes them in place of the policy's own.

        Returns:
            (C, m, F).
        """
        return self.model.motion_features(motion_frames, encoder)

    def copy_motion_encoder(self) -> MotionEncoder | None:
        """The frozen motion encoder once more, whole where ZeRO-3 shares the policy's weights out (collective there).

        Returns:
            `None` for a policy without a motion branch.
        """
        if not self.config.motion_tokens:
            return None
        encoder = self.model.motion_encoder
        if not is_deepspeed_zero3_enabled():
            return copy.deepcopy(encoder)
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(encoder.parameters())):
            return copy.deepcopy(encoder)

    def motion_features_of(self, clips: Sequence[torch.Tensor], encoder: MotionEncoder | None = None) -> torch.Tensor:
        """`motion_features` for C clips (T_i, r, 3, s, s) whose lengths may differ; equal lengths run together."""
        lengths: dict[int, list[int]] = {}
        for place, clip in enumerate(clips):
            lengths.setdefault(len(clip), []).append(place)
        found: dict[int, torch.Tensor] = {}
        for places in lengths.values():
            features = self.motion_features(torch.stack([clips[i] for i in places]), encoder)
            found.update(zip(places, features, strict=True))
        return torch.stack([found[place] for place in range(len(clips))])

    def encode(
        self,
        frames: Sequence[torch.Tensor],
        motion_frames: Sequence[torch.Tensor] | None = None,
        motion_features: torch.Tensor | None = None,
    ) -> list[ClipFeatures]:
        """Encode clips once; generation and forward accept the result.

        Args:
            frames: C tensors (T_i, 3, S, S) uint8; the T_i may differ.
            motion_frames: C tensors (T_i, r, 3, s, s) uint8.
            motion_features: (C, m, F) instead of `motion_frames`.

        Returns:
            C `ClipFeatures`, with gradients unless under `torch.no_grad`.
        """
        spatial = self.model.frame_features(torch.cat(list(frames))).split([len(clip) for clip in frames])
        if motion_features is None:
            if motion_frames is None:
                raise ValueError("encode needs motion_frames or motion_features.")
            motion_features = self.motion_features_of(motion_frames)
        motion = self.model.project_motion(motion_features)
        return [ClipFeatures(s, m) for s, m in zip(spatial, motion, strict=True)]

    def freeze(self, parts: Sequence[str]) -> None:
        """Keep parts of the policy as they are.

        Args:
            parts: Among `"vision_tower"`, `"multi_modal_projector"`, `"motion_projector"` and `"language_model"`.

        Raises:
            ValueError: On another name.
        """
        known = ("vision_tower", "multi_modal_projector", "motion_projector", "language_model")
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(f"freeze={unknown}: must be among {list(known)}.")
        if "motion_projector" in parts and not self.config.motion_tokens:
            raise ValueError("freeze=['motion_projector']: this policy has no motion branch (motion_tokens=0).")
        for part in parts:
            getattr(self.model, part).requires_grad_(False)

    @property
    def vision_is_frozen(self) -> bool:
        """Whether nothing that encodes frames is trained: then a frame's tokens stay what they are."""
        parts = (self.model.vision_tower, self.model.multi_modal_projector)
        return not any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def blank_features(self, image_size: int) -> torch.Tensor:
        """(n, D) features of a black frame of side `image_size`."""
        black = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=self.device)
        return self.model.frame_features(black)[0]

    def prompt_embeds(self, input_ids: torch.Tensor, features: ClipFeatures) -> torch.Tensor:
        """Embeddings of one prompt with its clip's tokens inserted.

        Args:
            input_ids: (L,) ids.
            features: The clip.

        Returns:
            (L, D).
        """
        input_ids = input_ids.to(self.device)
        return self.model.insert(self.get_input_embeddings()(input_ids), input_ids, features.tokens)

    @torch.no_grad()
    def generate(self, input_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """As in transformers; also takes `frames` + `motion_frames` (from the processor) or `visual_embeds`.

        Returns:
            New tokens only, (B, <= max_new_tokens), when visual inputs are given.
        """
        visual = {name: kwargs.pop(name, None) for name in ("frames", "motion_frames", "motion_features")}
        embeds = kwargs.pop("visual_embeds", None)
        if visual["frames"] is not None:
            embeds = self.model.visual_embeds(**visual)
        if embeds is not None:
            text = self.get_input_embeddings()(input_ids)
            kwargs["inputs_embeds"] = self.model.insert(text, input_ids, embeds.flatten(0, 1))
            input_ids = None
        return super().generate(input_ids, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a checkpoint that is not this policy weight by weight is refused, not filled up at
        random. With `motion_tokens=0` the weights of a motion branch are left out.

        Raises:
            IncompleteCheckpoint: A ValueError, if weights are missing, left over or of another shape, or a file of them
                cannot be read.
        """
        with_report = kwargs.pop("output_loading_info", False)
        policy, report = load_complete(super().from_pretrained, pretrained_model_name_or_path, *args, **kwargs)
        if policy.config.motion_tokens:  # loading makes new, trainable parameters
            policy.model.motion_encoder.requires_grad_(False)
        return (policy, report) if with_report else policy

    @classmethod
    def from_internvl(
        cls,
        path: str | Path,
        slowfast: str | Path,
        motion_config: MotionConfig | dict | None = None,
        motion_tokens: int = 1,
        motion_run_length: int = 1,
        **kwargs: Any,
    ) -> VQAThinkerForConditionalGeneration:
        """Start a policy from an HF-format InternVL3 or InternVL3.5 checkpoint, e.g. `OpenGVLab/InternVL3-8B-hf`.

        Args:
            path: Checkpoint folder or hub id.
            slowfast: pytorchvideo SlowFast checkpoint (`SLOWFAST_8x8_R50.pyth`), or `"random"` to say explicitly that
                the motion encoder starts, and stays, without trained weights.
            motion_config: SlowFast architecture; default R50.
            motion_tokens: See `VQAThinkerConfig`.
            motion_run_length: See `VQAThinkerConfig`.
            kwargs: For `from_pretrained`: `dtype`, `attn_implementation`, ...

        Raises:
            ValueError: If the checkpoint is no InternVL one, has a language model that is not supported
                (`check_language_model`), lacks weights or has others, or SlowFast's do not fit.
        """
        config = AutoConfig.from_pretrained(path)
        if config.model_type != "internvl":
            raise ValueError(
                f"{str(path)!r} has model_type {config.model_type!r}: from_internvl takes HF-format InternVL "
                "checkpoints (the '-hf' ones)."
            )
        check_language_model(config.text_config)  # before its weights are read
        source, _ = load_complete(InternVLForConditionalGeneration.from_pretrained, path, **kwargs)
        known = source.config.to_dict()
        for key in ("model_type", "architectures", "transformers_version", "dtype"):
            known.pop(key, None)
        config = VQAThinkerConfig(
            **known, motion_config=motion_config, motion_tokens=motion_tokens, motion_run_length=motion_run_length
        )
        config.text_config, config.vision_config = source.config.text_config, source.config.vision_config
        with torch.device("meta"):  # its own weights are never used: InternVL's modules take their place
            policy = cls(config)
        for part in ("vision_tower", "multi_modal_projector", "language_model"):
            setattr(policy.model, part, getattr(source.model, part))
        policy.lm_head, policy.generation_config = source.lm_head, source.generation_config
        if motion_tokens:
            encoder = MotionEncoder(config.motion_config)
            if str(slowfast) != "random":
                encoder.load_pytorchvideo(slowfast)
            projector = MotionProjector(config.motion_config.feature_size, config.text_config.hidden_size)
            policy._init_weights(projector)
            policy.model.motion_encoder = encoder.to(device=source.device, dtype=source.dtype)
            policy.model.motion_projector = projector.to(device=source.device, dtype=source.dtype)
        return policy

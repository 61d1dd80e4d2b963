"""The policy's inner model: vision tower, projector, language model, and what further visual streams bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, Cache, InternVLModel
from transformers import initialization as init
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector, InternVLPreTrainedModel

from vqathinker.policy.configuration import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VQAThinkerConfig,
)
from vqathinker.policy.low_level import WEIGHTS as LOW_LEVEL_WEIGHTS
from vqathinker.policy.low_level import ZeroGainNorm
from vqathinker.policy.motion import FrameProjector, MotionProjector
from vqathinker.policy.packed_attention import read_packed_rows
from vqathinker.policy.score_head import (
    ModelOutput,
    ScoreHead,
    clip_scores,
    what_head_reads,
)
from vqathinker.policy.streams import VisualStream, streams_of


class VQAThinkerPreTrainedModel(InternVLPreTrainedModel):
    """Weight initialisation of the streams' projectors; the rest is InternVL's."""

    config_class = VQAThinkerConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MotionProjector):  # published code
            for linear in (module.linear_1, module.linear_2):
                init.uniform_(linear.weight, 0.0, 0.01)
                init.zeros_(linear.bias)
        if isinstance(module, FrameProjector):  # where it is not made with the whole policy
            for part in (module.positions, module.linear_1, module.linear_2):
                super()._init_weights(part)
        if isinstance(module, ZeroGainNorm):
            init.zeros_(module.weight)
            init.zeros_(module.bias)


def take_visual(streams: Sequence[VisualStream], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Out of a call's arguments what the streams look at."""
    names = {name for stream in streams for name in (stream.takes, stream.features_name)}
    found = {name: kwargs.pop(name) for name in sorted(names & kwargs.keys())}
    return {name: value for name, value in found.items() if value is not None}


def mismatch(placeholders: int, tokens: int) -> str:
    """What is said where a prompt and its clips do not fit."""
    return (
        f"the prompt has {placeholders} placeholders but the clips give {tokens} visual tokens: processor and model "
        "disagree on frames, image size, motion tokens or low-level tokens."
    )


class VQAThinkerModel(VQAThinkerPreTrainedModel, InternVLModel):
    """Vision tower, projector, language model, and what further visual streams bring."""

    def __init__(self, config: VQAThinkerConfig) -> None:
        # Not InternVLModel.__init__: it would initialise weights before the motion branch exists.
        InternVLPreTrainedModel.__init__(self, config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = InternVLMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.streams = streams_of(config)
        for stream in self.streams:
            self._add(stream.build(config), stream)
        self.fix_streams()
        absent = {r"\bmotion_(encoder|projector)\.": config.motion_tokens, LOW_LEVEL_WEIGHTS: config.low_tokens}
        if unused := [pattern for pattern, tokens in absent.items() if not tokens]:
            self._keys_to_ignore_on_load_unexpected = unused  # of a policy that has one
        if config.score_head:
            self.score_head = ScoreHead(config.text_config.hidden_size)
        self.post_init()

    def _add(self, modules: Mapping[str, nn.Module], stream: VisualStream) -> None:
        """What a stream builds.

        Raises:
            ValueError: If a name is taken, or stands neither in the stream's trunk nor in its head.
        """
        if taken := [name for name in modules if hasattr(self, name)]:
            raise ValueError(
                f"the stream {stream.name!r} builds {taken}, which the policy already has: give them other names."
            )
        if loose := [name for name in modules if name not in (*stream.trunk, *stream.head)]:
            raise ValueError(
                f"the stream {stream.name!r} builds {loose}, which are neither in its trunk nor in its head, so it is "
                "unknown how long its features stay valid: name them in one of the two."
            )
        for name, module in modules.items():
            self.add_module(name, module)

    def fix_streams(self) -> None:
        """What a stream declares `fixed` is not trained before `unfreeze`; parameters made anew must be told again."""
        for stream in self.streams:
            for part in stream.fixed:
                getattr(self, part).requires_grad_(False)

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

    def visual_tokens(self, visual: Mapping[str, Any]) -> dict[str, list[torch.Tensor]]:
        """What the streams show of C clips.

        Args:
            visual: See `VQAThinkerForConditionalGeneration.encode`.

        Returns:
            Stream -> C tensors of tokens, (T_i, n, D) or (m, D).

        Raises:
            ValueError: If a stream has nothing to look at, or nobody takes an entry.
        """
        tokens = {}
        for stream in self.streams:
            if (known := visual.get(stream.features_name)) is None:
                if (clips := visual.get(stream.takes)) is None:
                    raise ValueError(
                        f"{sorted(visual)} came without input for the stream {stream.name!r}: pass {stream.takes} or "
                        f"{stream.features_name} too."
                    )
                known = stream.features(self, list(clips))
            tokens[stream.name] = stream.project(self, list(known))
        return tokens

    def ordered(
        self,
        visual: Mapping[str, Any],
        index: torch.Tensor | None,
        tokens: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """(P, D) the tokens of C clips in the order of the placeholders.

        Args:
            visual: See `visual_tokens`.
            index: (P,) see `vqathinker.policy.prompts.token_index`.
            tokens: What `visual_tokens` makes of them, where it is known.

        Raises:
            ValueError: If it is missing, or the clips give another number of tokens.
        """
        if index is None:
            raise ValueError(
                f"{sorted(visual)} came without visual_index, which gives the order of their tokens in the prompt: "
                "pass what the processor returns, or token_index(prompts, ...)."
            )
        tokens = self.visual_tokens(visual) if tokens is None else tokens
        table = torch.cat([clip.flatten(0, -2) for stream in self.streams for clip in tokens[stream.name]])
        shown = int(index.max()) + 1 if len(index) else 0  # rows may show a clip several times
        if len(table) != shown:
            raise ValueError(mismatch(shown, len(table)))
        return table[index.to(table.device)]

    def insert(self, inputs_embeds: torch.Tensor, input_ids: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
        """Put visual tokens at the placeholders.

        Args:
            inputs_embeds: (..., D) text embeddings.
            input_ids: (...) ids.
            tokens: (P, D) tokens in placeholder order.

        Raises:
            ValueError: If there are not exactly P placeholders.
        """
        if input_ids is None:
            raise ValueError(
                "visual inputs came with inputs_embeds, which already contain them: pass input_ids instead."
            )
        mask = input_ids == self.config.image_token_id
        if int(mask.sum()) != len(tokens):
            raise ValueError(mismatch(int(mask.sum()), len(tokens)))
        return inputs_embeds.masked_scatter(mask.unsqueeze(-1), tokens.to(inputs_embeds))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        visual_index: torch.Tensor | None = None,
        visual_embeds: torch.Tensor | None = None,
        keep: torch.Tensor | None = None,
        score_at: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """See `VQAThinkerForConditionalGeneration.forward`."""
        visual = take_visual(self.streams, kwargs)
        reads = what_head_reads(self.config.score_head, score_at, visual)
        tokens = self.visual_tokens(visual) if reads == "visual" else None
        scores = None if tokens is None else clip_scores(self.score_head, self.streams, tokens)[score_at]
        if scores is not None and input_ids is None and inputs_embeds is None:
            return ModelOutput(scores=scores)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if visual:
            visual_embeds = self.ordered(visual, visual_index, tokens)
        if visual_embeds is not None:
            inputs_embeds = self.insert(inputs_embeds, input_ids, visual_embeds.flatten(0, -2))
        if kwargs.get("packed") is not None:
            attention_mask = read_packed_rows(self.language_model)
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if reads == "hidden":
            scores = self.score_head(hidden.flatten(0, 1)[score_at])
        return ModelOutput(
            last_hidden_state=hidden if keep is None else hidden[:, keep],
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            scores=scores,
        )

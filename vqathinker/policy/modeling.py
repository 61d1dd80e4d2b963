"""`VQAThinkerForConditionalGeneration`: HF InternVL whose language model also reads motion tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, Cache, InternVLForConditionalGeneration
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.models.internvl.modeling_internvl import InternVLPreTrainedModel

from vqathinker.policy.adapters import adapter_asked_for, load_adapted
from vqathinker.policy.complete import load_complete
from vqathinker.policy.configuration import (
    MotionConfig,
    VQAThinkerConfig,
    check_language_model,
)
from vqathinker.policy.features import ClipFeatures, tokens_in
from vqathinker.policy.inner_model import VQAThinkerModel, VQAThinkerPreTrainedModel, take_visual
from vqathinker.policy.low_level import first_encoder, new_weights
from vqathinker.policy.motion import load_motion
from vqathinker.policy.prompts import Prompt
from vqathinker.policy.readable import follow_umask
from vqathinker.policy.score_head import (
    PolicyOutput,
    ScoreHead,
    check_form,
)
from vqathinker.policy.streams import VisualStream

if TYPE_CHECKING:
    from vqathinker.policy.clip_input import ClipInput


class VQAThinkerForConditionalGeneration(VQAThinkerPreTrainedModel, InternVLForConditionalGeneration):
    """The policy (VQAThinker Fig. 2, Eq. 1): InternVL + SlowFast (frozen by default) + motion projector + LM head.

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
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        visual_index: torch.Tensor | None = None,
        visual_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        score_at: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> PolicyOutput:
        """One pass over B sequences, which look at C clips.

        Args:
            input_ids: (B, L) ids with one `<IMG_CONTEXT>` per visual token.
            attention_mask: (B, L), 0 = padding, or (B, 1, L, L), true = visible; none with `packed`.
            inputs_embeds: (B, L, D) instead of `input_ids`, visual tokens already inserted.
            visual_index: (P,) which visual token stands at which placeholder, see `token_index`; the processor and
                `token_index` make it. Needed with what the streams look at.
            visual_embeds: (P, D) or (B, P / B, D) tokens in the order of the placeholders, instead of all that.
            labels: (B, L) ids to predict, -100 = not scored.
            logits_to_keep: How many last positions get logits; 0 = all.
            score_at: (N,) what the head gives scores of: of a `hidden` head the last tokens of N prompts, numbered
                through all B rows; of a `visual` head N of the C clips. A visual head alone needs neither `input_ids`
                nor `inputs_embeds`: the language model is then left out, and there are no logits.
            kwargs: What the streams look at, see `encode`; it is encoded here, with gradients. And
                `num_items_in_batch`, how many scored ids the loss is a mean over; default those in `labels`; `packed`,
                the `PackedLayout` of rows that hold several answers to a prompt; `keep`, (N,) the tokens that get
                logits, in place of all: what follows is over these.

        Returns:
            Output with `loss` (if `labels`), `logits` (B, L, V), `past_key_values` and `scores` (N,) (if `score_at`).

        Raises:
            ValueError: If the placeholders do not match the visual tokens, or `score_at` needs a head or clips that are
                not there.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            visual_index=visual_index,
            visual_embeds=visual_embeds,
            score_at=score_at,
            **kwargs,
        )
        if outputs.last_hidden_state is None:
            return PolicyOutput(scores=outputs.scores)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            if kwargs.get("num_items_in_batch") is not None:  # 0 where no clip of a step could be read
                kwargs["num_items_in_batch"] = torch.as_tensor(kwargs["num_items_in_batch"]).clamp(min=1)
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return PolicyOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            scores=outputs.scores,
        )

    @property
    def streams(self) -> tuple[VisualStream, ...]:
        """How it looks at clips."""
        return self.model.streams

    def encode(self, **visual: Sequence[torch.Tensor] | torch.Tensor) -> list[ClipFeatures]:
        """Encode clips once; generation and forward accept the result.

        Args:
            visual: For every stream either what it looks at (`frames`: (T_i, 3, S, S) uint8 of C clips, whose T_i may
                differ; `motion_frames`: (T_i, r, 3, s, s) uint8) or its features, if known (`spatial_features`:
                (T_i, n, D); `motion_features`: (m, F)): C tensors, or one with C first.

        Returns:
            C `ClipFeatures`, with gradients unless under `torch.no_grad`.

        Raises:
            ValueError: If a stream has nothing to look at, or nobody takes an argument.
        """
        known = {name for stream in self.streams for name in (stream.takes, stream.features_name)}
        if unknown := sorted(visual.keys() - known):
            raise ValueError(f"encode got {unknown}, which no stream accepts: pass some of {sorted(known)}.")
        tokens = self.model.visual_tokens(visual)
        return [ClipFeatures(dict(zip(tokens, clip, strict=True))) for clip in zip(*tokens.values(), strict=True)]

    def freeze(self, parts: Sequence[str]) -> None:
        """Keep parts of the policy as they are.

        Args:
            parts: Among `"language_model"` (with its head), `"score_head"` where it has one, and the modules of its
                streams: `"vision_tower"`, `"multi_modal_projector"`, `"motion_projector"`, `"low_encoder"`,
                `"low_projector"`. What a stream declares `fixed` (the motion encoder) is kept anyway, see `unfreeze`.

        Raises:
            ValueError: On another name.
        """
        own = [part for s in self.streams for part in (*s.trunk, *s.head) if part not in s.fixed]
        known = [*dict.fromkeys(own), "language_model", *(["score_head"] if self.config.score_head else [])]
        if unknown := [part for part in parts if part not in known]:
            why = "" if self.config.motion_tokens else " This policy has no motion branch (motion_tokens=0)."
            if not self.config.low_tokens and any(part.startswith("low_") for part in unknown):
                why += " It has no low-level stream (low_tokens=0)."
            raise ValueError(f"freeze={unknown}: must be among {known}.{why}")
        for part in parts:
            getattr(self.model, part).requires_grad_(False)
        if "language_model" in parts:
            self.lm_head.requires_grad_(False)

    def unfreeze(self, parts: Sequence[str]) -> None:
        """Train parts that its streams declare `fixed`, as VQA²'s first stage trains the motion encoder. Streams whose
        trunk is trained have no features to remember: collator and trainer take their frames in every pass.

        Args:
            parts: Among `"motion_encoder"` and what streams of one's own declare.

        Raises:
            ValueError: On another name, or under ZeRO-3.
        """
        known = [part for stream in self.streams for part in stream.fixed]
        if unknown := [part for part in parts if part not in known]:
            raise ValueError(f"unfreeze={unknown}: must be among {known}; all other parts are trained unless frozen.")
        if parts and is_deepspeed_zero3_enabled():
            # a pass over a trunk is collective there, and a stream makes one for every length that its clips have
            raise ValueError(
                f"unfreeze={list(parts)} under ZeRO-3: processes whose clips differ in length would wait for one "
                "another forever. Use recipes/accelerate/zero2.yaml or ddp.yaml."
            )
        for part in parts:
            getattr(self.model, part).requires_grad_(True)

    def set_score_head(self, form: str) -> None:
        """Give the policy a new head for scores, with random weights, or take its head away; in place.

        Args:
            form: `"visual"`, `"hidden"`, or `""` for none.

        Raises:
            ValueError: If there is no such head.
        """
        check_form(form)
        if self.config.score_head:
            del self.model.score_head
        self.config.score_head = form
        if form:
            head = ScoreHead(self.config.text_config.hidden_size).apply(self._init_weights)
            self.model.score_head = head.to(self.device, self.dtype).train(self.training)

    def blanks(self, blank: ClipInput) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Features and tokens of a black frame, by stream, of those that show single frames.

        Args:
            blank: A black clip, see `VQAThinkerProcessor.blank_clip`.

        Returns:
            Stream -> (n, F), and stream -> (n, D).
        """
        features, tokens = {}, {}
        for stream in self.streams:
            if stream.per_frame:
                found = stream.features(self.model, [getattr(blank, stream.takes)[:1].to(self.device)])
                features[stream.name], tokens[stream.name] = found[0][0], stream.project(self.model, found)[0][0]
        return features, tokens

    def prompt_embeds(self, prompt: Prompt, clips: Sequence[ClipFeatures]) -> torch.Tensor:
        """Embeddings of one prompt with its clips' tokens in their slots.

        Args:
            prompt: L tokens, see `VQAThinkerProcessor.render`.
            clips: As many as it shows.

        Returns:
            (L, D).

        Raises:
            ValueError: If the clips do not fit its slots.
        """
        ids = torch.tensor(prompt.ids, device=self.device)
        return self.model.insert(self.get_input_embeddings()(ids), ids, tokens_in(prompt, clips))

    @torch.no_grad()
    def generate(self, input_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """As in transformers; also takes what the processor makes of clips, or `visual_embeds`.

        Returns:
            New tokens only, (B, <= max_new_tokens), when visual inputs are given.
        """
        visual, index = take_visual(self.streams, kwargs), kwargs.pop("visual_index", None)
        embeds = kwargs.pop("visual_embeds", None)
        if visual:
            embeds = self.model.ordered(visual, index)
        if embeds is not None:
            text = self.get_input_embeddings()(input_ids)
            kwargs["inputs_embeds"] = self.model.insert(text, input_ids, embeds.flatten(0, -2))
            input_ids = None
        return super().generate(input_ids, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a checkpoint that is not this policy weight by weight is refused, not filled up at
        random. With `motion_tokens=0` the weights of a motion branch are left out, with `low_tokens=0` those of a
        low-level stream; one that the checkpoint does not have starts anew with `low_tokens` above 0. `score_head` of
        another form than the checkpoint's gives the policy a new head, see `set_score_head`. An adapter's folder gives
        its base with its changes, see `vqathinker.policy.adapters`.

        Raises:
            IncompleteCheckpoint: A ValueError, if weights are missing, left over or of another shape, or a file of them
                cannot be read.
        """
        with_report, head = kwargs.pop("output_loading_info", False), kwargs.pop("score_head", None)
        if adapter := adapter_asked_for(pretrained_model_name_or_path, kwargs):
            policy, report = load_adapted(cls, adapter, **kwargs)
        else:
            new = new_weights(pretrained_model_name_or_path, kwargs)
            policy, report = load_complete(
                super().from_pretrained, pretrained_model_name_or_path, *args, new=new, **kwargs
            )
            policy.model.fix_streams()  # loading makes new, trainable parameters
        if head not in (None, policy.config.score_head):
            policy.set_score_head(head)
        return (policy, report) if with_report else policy

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> Any:
        """As transformers', and who may read the weights is up to the umask, as with all other files."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        follow_umask(save_directory)
        return saved

    @classmethod
    def from_internvl(
        cls,
        path: str | Path,
        slowfast: str | Path,
        motion_config: MotionConfig | dict | None = None,
        motion_tokens: int = 1,
        motion_run_length: int = 1,
        streams: Sequence[str] = ("spatial", "motion"),
        low_tokens: int = 0,
        low_patches: int = 8,
        low_level: str | Path | None = None,
        low_config: dict | None = None,
        **kwargs: Any,
    ) -> VQAThinkerForConditionalGeneration:
        """Start a policy from an HF-format InternVL3 or InternVL3.5 checkpoint, e.g. `OpenGVLab/InternVL3-8B-hf`.

        Args:
            path: Checkpoint folder or hub id.
            slowfast: pytorchvideo SlowFast checkpoint (`SLOWFAST_8x8_R50.pyth`), the folder of a VQA² checkpoint (see
                `load_motion`), or `"random"` to say explicitly that the motion encoder starts, and stays, without
                trained weights.
            motion_config: SlowFast architecture; default R50.
            motion_tokens: See `VQAThinkerConfig`.
            motion_run_length: See `VQAThinkerConfig`.
            streams: See `VQAThinkerConfig`. Modules that are not InternVL's start as `VisualStream.build` makes them.
            low_tokens: See `VQAThinkerConfig`.
            low_patches: See `VQAThinkerConfig`.
            low_level: ViT checkpoint that the low-level encoder starts from, see `low_level.load_encoder`; default
                random weights.
            low_config: See `VQAThinkerConfig`, for random weights.
            kwargs: For `from_pretrained`: `dtype`, `attn_implementation`, ...

        Raises:
            ValueError: If the checkpoint is no InternVL one, has a language model that is not supported
                (`check_language_model`), lacks weights or has others, or SlowFast's or the ViT's do not fit.
        """
        config = AutoConfig.from_pretrained(path)
        if config.model_type != "internvl":
            raise ValueError(
                f"{str(path)!r} has model_type {config.model_type!r}: from_internvl needs HF-format InternVL "
                "checkpoints (the '-hf' ones)."
            )
        check_language_model(config.text_config)  # before its weights are read
        low_config, encoder = first_encoder(low_tokens, low_level, low_config)
        source, _ = load_complete(InternVLForConditionalGeneration.from_pretrained, path, **kwargs)
        known = source.config.to_dict()
        for key in ("model_type", "architectures", "transformers_version", "dtype"):
            known.pop(key, None)
        config = VQAThinkerConfig(
            **known,
            motion_config=motion_config,
            motion_tokens=motion_tokens,
            motion_run_length=motion_run_length,
            streams=list(streams),
            low_tokens=low_tokens,
            low_patches=low_patches,
            low_config=low_config,
        )
        config.text_config, config.vision_config = source.config.text_config, source.config.vision_config
        with torch.device("meta"):  # its own weights are never used: InternVL's modules take their place
            policy = cls(config)
        for part in ("vision_tower", "multi_modal_projector", "language_model"):
            setattr(policy.model, part, getattr(source.model, part))
        policy.lm_head, policy.generation_config = source.lm_head, source.generation_config
        for stream in policy.streams:
            modules = stream.build(config)
            for module in modules.values():
                policy._init_weights(module)
            if stream.name == "motion" and str(slowfast) != "random":
                load_motion(modules, slowfast)
            for name, module in modules.items():
                if name == "low_encoder" and encoder is not None:
                    module.load_state_dict(encoder.state_dict())
                policy.model.add_module(name, module.to(device=source.device, dtype=source.dtype))
        policy.model.fix_streams()
        return policy

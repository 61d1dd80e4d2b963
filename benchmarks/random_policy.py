"""A policy with random weights and a batch for it, where torch, transformers and accelerate are all there is."""

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqathinker.policy import MotionConfig, Prompt, Slot, VQAThinkerConfig, token_index
from vqathinker.training import budget
from vqathinker.training.groups import PackedGroups, pack_groups

FRAMES, TEXT, CHUNK = 6, 40, 256
"""Key frames, tokens of text before and again after them, and tokens that the language model's head takes at a time."""
SMALL_MOTION = MotionConfig(model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=64)


def make_config(size: str, motion_tokens: int = 0) -> VQAThinkerConfig:
    """InternVL3's sizes, or a tiny policy of the same kind."""
    if size == "tiny":
        width = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        config = VQAThinkerConfig(
            vision_config=width | {"image_size": 56, "patch_size": 14},
            text_config=width | {"model_type": "qwen2", "vocab_size": 640, "num_key_value_heads": 2},
            motion_config=SMALL_MOTION,
            image_token_id=5,
        )
    else:
        config = budget.published_config(size)
    config.motion_tokens = motion_tokens
    return config


class Batch:
    """Random clips and answers, on torch's current device.

    Args:
        config: The policy's.
        clips, answers: C, and K to each.
        length: Of the longest answer.
        shortest: Answers have from this many tokens on, at random.

    Attributes:
        ids, mask: (C K, L) rows `[prompt | answer]`.
        visual: The policy's arguments for the C clips.
        advantages: (C K, 1) how good an answer is.
    """

    def __init__(self, config: VQAThinkerConfig, clips: int, answers: int, length: int, shortest: int) -> None:
        self.clips, self.answers, self.length, self.streams = clips, answers, length, config.streams
        side, rows = config.vision_config.image_size[0], clips * answers
        per_frame = int((side / config.vision_config.patch_size[0] * config.downsample_ratio) ** 2)
        counts: tuple[int, ...] = (per_frame,) * FRAMES
        slots = tuple(Slot("spatial", 0, frame) for frame in range(FRAMES))
        if config.motion_tokens:
            counts, slots = (*counts, config.motion_tokens), (*slots, Slot("motion"))
        visual = torch.full((clips, sum(counts)), config.image_token_id)
        texts = [torch.randint(10, 600, (clips, TEXT)) for _ in range(2)]
        prompts = torch.cat([texts[0], visual, texts[1]], dim=1)
        self.prompt = prompts.shape[1]
        self.prompts = [Prompt(tuple(ids.tolist()), slots, counts) for ids in prompts]
        self.ids = torch.cat([prompts.repeat_interleave(answers, 0), torch.randint(10, 600, (rows, length))], dim=1)
        self.mask = torch.ones_like(self.ids)
        self.mask[:, -length:] = torch.arange(length) < torch.randint(shortest, length + 1, (rows, 1))
        self.visual = {
            "frames": torch.randint(0, 256, (clips, FRAMES, 3, side, side), dtype=torch.uint8),
            "visual_index": token_index(self.prompts, self.streams),
        }
        if config.motion_tokens:
            size = config.motion_config.feature_size
            self.visual["motion_features"] = torch.randn(clips, config.motion_tokens, size)
        self.advantages = torch.randn(rows, 1)

    @property
    def known(self) -> torch.Tensor:
        """(C K, longest answer) where answers have tokens."""
        return self.mask[:, -self.length :].bool()

    def packed(self) -> PackedGroups:
        return pack_groups(self.ids, self.mask, self.clips, self.length)

    def repeated(self) -> dict[str, torch.Tensor]:
        """`visual` for one row per answer."""
        visual = {name: values.repeat_interleave(self.answers, 0) for name, values in self.visual.items()}
        prompts = [prompt for prompt in self.prompts for _ in range(self.answers)]
        return visual | {"visual_index": token_index(prompts, self.streams)}


def packed_logps(policy: Any, batch: Batch, form: str | None = None) -> torch.Tensor:
    """(C K, longest answer) log-probabilities of packed rows; `form`: see `PackedLayout`."""
    packed = batch.packed()
    inputs = packed.inputs | {"packed": replace(packed.inputs["packed"], form=form)}
    return packed.unpack(log_probs(policy, inputs, batch.visual, packed.targets))


def row_logps(policy: Any, batch: Batch) -> torch.Tensor:
    """The same, one row per answer, each with a clip of its own."""
    last = torch.arange(batch.prompt - 1, batch.ids.shape[1] - 1)
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "keep": last}
    return log_probs(policy, inputs, batch.repeated(), batch.ids[:, -batch.length :]).where(batch.known, 0)


def log_probs(
    policy: Any, inputs: dict[str, Any], visual: dict[str, torch.Tensor], targets: torch.Tensor
) -> torch.Tensor:
    """(B, N) log-probabilities of the targets, the head's logits never all in memory, as in TRL."""

    def head(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(policy.lm_head(hidden).float(), labels, reduction="none")

    hidden = policy.model(**inputs, **visual, use_cache=False).last_hidden_state
    parts = zip(hidden.flatten(0, 1).split(CHUNK), targets.flatten().split(CHUNK), strict=True)
    found = torch.cat([checkpoint(head, *part, use_reentrant=False) for part in parts])
    return found.unflatten(0, targets.shape)

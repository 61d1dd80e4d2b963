"""How long an optimizer step takes: its operations and the bytes that it reads, over what a machine does in a second.

`python -m benchmarks.time_model` compares it with steps that were measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqathinker.policy import MotionConfig, VQAThinkerConfig
from vqathinker.policy.motion import MotionEncoder
from vqathinker.rollout.factory import BATCH_SIZE
from vqathinker.training.budget import (
    Machine,
    Shape,
    adapter_of,
    cache_bytes_per_token,
    clips_answered,
    frozen_parts,
    head_size,
    motion_frames,
    parameter_counts,
)
from vqathinker.training.encoders import encoders_of, trained_encoders

OPTIMIZER_BYTES = 28
"""That AdamW reads and writes of a weight: the weight, its gradient and two moments in float32."""


@dataclass(frozen=True)
class Step:
    """What one process does in an optimizer step.

    Attributes:
        shape: A micro-batch in the loss.
        prompts: That are answered, perturbed copies included.
        copies: How many of them show a perturbed copy.
        micro_steps: Micro-batches in the loss.
        width: Bytes of a number.
        checkpointing: Whether the forward is computed once more in the backward.
        forwards: Passes over the answers without gradients: the reference's, and one to compare with vLLM's.
        vllm: Whether vLLM samples, whose answers each read their own keys; else transformers, whose answers to a
            prompt read its keys once, in batches of `BATCH_SIZE` answers.
        updated: Weights that this process's optimizer changes.
    """

    shape: Shape
    prompts: float
    copies: float = 0
    micro_steps: float = 1
    width: int = 4
    checkpointing: bool = False
    forwards: int = 1
    vllm: bool = False
    updated: float = 0


@dataclass(frozen=True)
class Work:
    """Of one part of a step.

    Attributes:
        flops: Floating-point operations: 2 a multiplication with addition.
        bytes: Read from memory where there is too little arithmetic to hide it.
    """

    flops: float
    bytes: float = 0

    def seconds(self, flops: float, bandwidth: float) -> float:
        """At so many operations and bytes a second."""
        return self.flops / flops + self.bytes / bandwidth


def seconds_per_step(
    settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, machine: Machine
) -> dict[str, float]:
    """Seconds of each part of an optimizer step if every answer has its full length, see `step_work`.

    Operations go at `utilization` of the chip's peak, reading at 70 % of its bandwidth.

    Args:
        settings: From `vqathinker.training.budget.read_settings`.
        config: The policy's.
        shape: The micro-batch.
        machine: What the run has.
    """
    parts = step_work(config, step_of(settings, config, shape, machine))
    seconds = {
        name: work.seconds(machine.utilization * machine.tflops * 1e12, 0.7 * machine.bandwidth * 1e12)
        for name, work in parts.items()
    }
    return seconds | {"rollouts": seconds["rollouts"] / settings["num_iterations"]}


def step_of(settings: Mapping[str, Any], config: VQAThinkerConfig, shape: Shape, machine: Machine) -> Step:
    """A step of a recipe's config."""
    micro_steps = settings["gradient_accumulation_steps"]
    share = (1 + 1 / settings["perturb_every"]) / 2  # copies are half of a generation batch that has them
    answered = clips_answered(settings, shape) * micro_steps
    trained = parameter_counts(config, frozen_parts(settings, config), adapter_of(settings))["trained"]
    return Step(
        shape,
        prompts=answered * share,
        copies=answered * (share - 0.5),
        micro_steps=micro_steps * (share if settings.get("contrast_weight") else 1),
        width=2 if settings["bf16"] or settings.get("fp16") else 4,
        checkpointing=settings["gradient_checkpointing"],
        forwards=bool(settings["beta"]) + bool(settings["use_vllm"]),
        vllm=settings["use_vllm"],
        updated=trained / (machine.gpus if machine.zero else 1),
    )


def step_work(config: VQAThinkerConfig, step: Step) -> dict[str, Work]:
    """`rollouts` (clips encoded, prompts passed, tokens drawn one after another), `reference` (all that is computed of
    the answers without gradients) and `update` (loss, gradients, optimizer).

    A backward takes twice its forward's operations, once where an adapter is trained, as weights have no gradients; of
    the head once more, which computes its logits again. Single tokens read the language model's weights and the keys.
    """
    shape = step.shape
    language, head = _loss_flops(config, step)
    patches, tower = frame_flops(config, shape)
    frames = shape.clips * shape.prompt_frames
    again, backward = int(step.checkpointing), 1 if shape.rank else 2
    update = (1 + again + backward) * language + (2 + backward) * head
    update += frames * ((2 + again) * patches + (3 + again) * tower)
    return {
        "rollouts": _rollouts(config, step),
        "reference": Work(step.forwards * step.micro_steps * (frames * (patches + tower) + language + head)),
        "update": Work(step.micro_steps * update, OPTIMIZER_BYTES * step.updated),
    }


def _rollouts(config: VQAThinkerConfig, step: Step) -> Work:
    shape = step.shape
    prompt, tokens, answers = shape.prompt - 1, shape.completion, shape.answers
    layers, head = language_flops(config, 1, 0)
    of_pairs, _ = language_flops(config, 0, 1)
    own = tokens * (tokens + 1) / 2
    # Keys that one answer's queries meet: with transformers those of the prompt's other answers too, to be masked.
    met = tokens * prompt + (own if step.vllm else answers * own)
    read = answers * met if step.vllm else met
    flops = (step.prompts - step.copies) * shape.prompt_frames * sum(frame_flops(config))  # frozen parts too
    if config.motion_tokens:
        flops += step.prompts * shape.shown * motion_flops(config, motion_frames(config, shape))
    flops += step.prompts * (layers * prompt + of_pairs * prompt**2 / 2)
    flops += step.prompts * answers * (tokens * (layers + head) + of_pairs * met)
    batches = 1 if step.vllm else math.ceil(step.prompts * answers / BATCH_SIZE)
    weights = (layers + head) / 2 * step.width
    return Work(flops, batches * tokens * weights + step.prompts * read * cache_bytes_per_token(config, step.width))


def _loss_flops(config: VQAThinkerConfig, step: Step) -> tuple[float, float]:
    """Of one forward of a micro-batch: the language model's layers, and its head."""
    shape = step.shape
    prompt, answer = shape.prompt - 1, shape.completion + 1
    pairs = shape.clips * (prompt**2 / 2 + shape.answers * answer * (prompt + answer / 2))
    if not shape.packs:
        pairs = shape.clips * shape.answers * (shape.prompt + shape.completion) ** 2 / 2
    layers, head = language_flops(config, shape.packed, 0)
    of_pairs, _ = language_flops(config, 0, 1)
    return layers + of_pairs * pairs, head * shape.clips * shape.answers * shape.completion


def language_flops(config: VQAThinkerConfig, tokens: int, pairs: int) -> tuple[int, int]:
    """Of the layers for that many tokens and query-key pairs, and of the head for one position."""
    text = config.get_text_config()
    width, size = text.hidden_size, head_size(text)
    heads, shared = text.num_attention_heads * size, text.num_key_value_heads * size
    weights = width * (2 * heads + 2 * shared) + 3 * width * text.intermediate_size
    layers = text.num_hidden_layers * (2 * weights * tokens + 4 * heads * pairs)
    return layers, 2 * width * text.vocab_size


def frame_flops(config: VQAThinkerConfig, shape: Shape | None = None) -> tuple[int, int]:
    """Of a frame's patch embeddings, and of all that follows up to its tokens; with a shape, of what is trained."""
    encoders = encoders_of(config) if shape is None else trained_encoders(config, shape)
    embeddings, layers = (sum(encoder.flops[part] for encoder in encoders) for part in (0, 1))
    vision, out = config.vision_config, config.get_text_config().hidden_size
    kept = round((vision.image_size[0] // vision.patch_size[0]) ** 2 * config.downsample_ratio**2)
    wide = round(vision.hidden_size / config.downsample_ratio**2)
    projector = 0 if shape and shape.frozen_vision else 2 * kept * (wide * out + out**2)
    return embeddings, layers + projector


def motion_flops(config: VQAThinkerConfig, frames: int) -> int:
    """Of SlowFast on that many frames of a clip, as torch counts its convolutions."""
    return _slowfast_flops(config.motion_config.to_json_string(), frames, config.motion_tokens)


@lru_cache
def _slowfast_flops(settings: str, frames: int, tokens: int) -> int:
    config = MotionConfig(**{k: v for k, v in json.loads(settings).items() if k in MotionConfig().to_dict()})
    with torch.device("meta"):
        encoder = MotionEncoder(config)
        clip = torch.empty(1, frames, 3, config.image_size, config.image_size, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(clip, tokens)
    return counter.get_total_flops()

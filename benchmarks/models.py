"""One policy with random weights, in the forms that the three ways of `benchmarks.arms` take, and clips for it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BaseVideoProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from vqathinker.clips import write_video
from vqathinker.data import LabelRow
from vqathinker.policy import MotionConfig, VQAThinkerConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD
from vqathinker.synth.tiny import CHAT_TEMPLATE, tiny_tokenizer

IMAGE_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{ block.text }}", "{% if block.type == 'image' %}<IMG_CONTEXT>{% else %}{{ block.text }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """Sizes of a policy.

    Attributes:
        image: Side of a frame in pixels; patches have 14, and a frame gives (image / 28)² tokens.
        vision: Width and layers of the vision tower.
        text: Width and layers of the language model, whose heads have 64 channels or, below 128, 8.
        mlp: Width of the language model's MLP.
        vocabulary: Tokens.
        video: Side and number of frames of a video file.
    """

    image: int
    vision: tuple[int, int]
    text: tuple[int, int]
    mlp: int
    vocabulary: int
    video: tuple[int, int]


LARGE = Size(448, (128, 3), (512, 6), 1536, 8192, (640, 120))
"""28 million parameters, 256 tokens a frame as in the paper."""
TOY = Size(56, (32, 1), (32, 2), 64, 640, (64, 24))
"""Four tokens a frame: all that the benchmarks do, in seconds."""
THIN = Size(448, (32, 1), (32, 1), 64, 640, (64, 24))
"""As many tokens a frame with next to no arithmetic: for counting."""


@lru_cache
def tokenizer_of_all() -> PreTrainedTokenizerFast:
    """The tokenizer, made once."""
    return tiny_tokenizer()


def config_of(size: Size, motion: bool, video_side: int = 64) -> VQAThinkerConfig:
    """The policy's configuration.

    Args:
        size: Its sizes.
        motion: With SlowFast and one motion token (the method), or InternVL alone (what stock TRL can train).
        video_side: Side of SlowFast's frames in pixels.
    """
    tokenizer = tokenizer_of_all()
    width, layers = size.text
    heads = max(4, width // 64)
    text = {
        "model_type": "qwen2",
        "vocab_size": size.vocabulary,
        "hidden_size": width,
        "intermediate_size": size.mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 4,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": size.vision[0],
        "num_hidden_layers": size.vision[1],
        "num_attention_heads": max(2, size.vision[0] // 64),
        "intermediate_size": 4 * size.vision[0],
        "image_size": size.image,
        "patch_size": 14,
    }
    return VQAThinkerConfig(
        vision_config=vision,
        text_config=text,
        motion_config=MotionConfig(
            model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=video_side
        ),
        motion_tokens=int(motion),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(size.image // 28) ** 2,
        tie_word_embeddings=False,
    )


def make_policy(folder: Path, size: Size, motion: bool) -> None:
    """Write the policy and its processor.

    Its head gives the end of an answer the logit 0, which is never among the 50 largest: all answers get their full
    length, in every way of sampling them.
    """
    torch.manual_seed(0)
    config = config_of(size, motion, video_side=112 if size is LARGE else 64)
    policy = VQAThinkerForConditionalGeneration(config)
    tokenizer = tokenizer_of_all()
    with torch.no_grad():
        policy.lm_head.weight[[tokenizer.eos_token_id, tokenizer.pad_token_id]] = 0
    policy.generation_config.eos_token_id = tokenizer.eos_token_id
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    policy.save_pretrained(folder)
    VQAThinkerProcessor.for_config(tokenizer, config).save_pretrained(folder)


class NoVideoProcessor(BaseVideoProcessor):
    """Stands where InternVL's processor wants a video processor, which needs torchvision. It is never called."""

    def __init__(self) -> None:
        pass


def make_stock(folder: Path, policy: VQAThinkerForConditionalGeneration) -> InternVLProcessor:
    """Write the same weights as transformers' own InternVL, and give its processor.

    Args:
        folder: Where.
        policy: Without a motion branch.
    """
    own = policy.config.to_dict()
    named = {name: own[name] for name in ("vision_config", "text_config", "image_token_id", "image_seq_length")}
    model = InternVLForConditionalGeneration(InternVLConfig(**named, tie_word_embeddings=False))
    model.load_state_dict(policy.state_dict())
    model.generation_config.eos_token_id = policy.generation_config.eos_token_id
    model.save_pretrained(folder)
    tokenizer = copy.deepcopy(tokenizer_of_all())
    tokenizer.video_token = "<video>"
    side = policy.config.vision_config.image_size[0]
    images = GotOcr2ImageProcessorPil(
        size={"height": side, "width": side}, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD)
    )
    return InternVLProcessor(
        images, tokenizer, NoVideoProcessor(), image_seq_length=own["image_seq_length"], chat_template=IMAGE_TEMPLATE
    )


def make_clips(folder: Path, size: Size, number: int) -> list[LabelRow]:
    """Write MP4 files: a moving gradient under noise."""
    side, frames = size.video
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: side * 9 // 16 // 2 * 2, :side]
    noise = rng.integers(0, 32, (8, *rows.shape, 3), dtype=np.uint8)
    found = []
    for clip in range(number):
        path = folder / f"{clip}.mp4"
        pictures = (
            np.stack([(columns + 3 * t) % 224, (rows + 2 * t) % 224, (rows + columns + clip * 40) % 224], -1)
            for t in range(frames)
        )
        write_video(path, [p.astype(np.uint8) + noise[t % 8] for t, p in enumerate(pictures)], fps=30, crf=26)
        found.append(LabelRow(str(path), path.name, 1.0 + clip % 5))
    return found


def rows_of(paths: Sequence[str]) -> list[LabelRow]:
    """Label rows of clips that are never decoded, for trainers that are given their batches by hand."""
    return [LabelRow(path, path, 3.0) for path in paths]

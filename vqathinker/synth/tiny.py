"""A tiny policy of the real classes, with its own small tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vqathinker.data.traces import trace, verdict
from vqathinker.policy import (
    MotionConfig,
    VQAThinkerConfig,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
)
from vqathinker.policy.prompts import QUESTION, STYLES, Line, instructed, joined, motion_last, written
from vqathinker.policy.streams import find_streams
from vqathinker.synth.distortions import DISTORTIONS, OOD_DISTORTIONS, TEMPORAL

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
STREAMS = ("spatial", "motion")
"""What the vocabulary is learnt for, whatever further streams there are."""
TINY_QUESTION = "How good is the quality of this video, from 1 (very poor) to 5 (excellent), with two decimal places?"
"""Shorter than the published question: half of the tiny policy's compute would go into reading it."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for block in message.content %}{{ block.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, learnt from the prompts and the traces, in the format of InternVL's.

    Args:
        vocab_size: Number of tokens.
    """
    rng = np.random.default_rng(0)
    corpus = []
    for style in STYLES:
        for question in (QUESTION, TINY_QUESTION):
            lines: list[Line] = [*motion_last(12, find_streams(STREAMS), style), [instructed(question, style)]]
            corpus.append(written(joined(lines, style), lambda slot: "m" if slot.stream == "motion" else ""))
    for mos in np.linspace(1, 5, 60):
        for kind in (*DISTORTIONS, *OOD_DISTORTIONS):
            when = str(rng.choice(["early", "midway", "late", "throughout"])) if kind in TEMPORAL else ""
            text = trace(mos, rng, {kind: float((5 - mos) / 4)}, when)
            corpus.append(text.replace("</think>", f" {verdict(mos, rng)}</think>"))  # both forms of traces
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
        },
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def tiny_motion(pathway: str = "both") -> MotionConfig:
    """The tiny policy's motion branch; see `MotionConfig`."""
    sizes = {"model_depth": 18, "stem_dim_outs": (16, 4), "channel_reduction_ratio": 4, "image_size": 48}
    return MotionConfig(**sizes, pathway=pathway, **({"max_frames": 64} if pathway == "fast" else {}))


def tiny_policy(
    seed: int = 0,
    motion_tokens: int = 6,
    motion_run_length: int = 4,
    streams: Sequence[str] = STREAMS,
    pathway: str = "both",
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """A policy of 2.4 million parameters with random weights, and its processor.

    64 x 64 native crops, 4 tokens a frame, Qwen2 of width 128, SlowFast of depth 18 on 48 x 48 crops of runs of
    neighbouring frames. The initial scales are larger than transformers' defaults, with which so small a network hardly
    starts to learn.

    Args:
        seed: Of the weights.
        motion_tokens: See `VQAThinkerConfig`.
        motion_run_length: See `VQAThinkerConfig`.
        streams: See `VQAThinkerConfig`.
        pathway: See `MotionConfig`; `"fast"` gives one motion token for each of at most 64 frames, whatever the two
            numbers above say.
    """
    if pathway == "fast":
        motion_tokens = motion_run_length = 1
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = VQAThinkerConfig(
        vision_config={
            "hidden_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "image_size": 64,
            "patch_size": 8,
            "initializer_range": 0.08,
            "layer_scale_init_value": 1.0,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            "initializer_range": 0.05,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        motion_config=tiny_motion(pathway),
        motion_tokens=motion_tokens,
        motion_run_length=motion_run_length,
        streams=list(streams),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.25,
        tie_word_embeddings=True,
    )
    policy = VQAThinkerForConditionalGeneration(config)
    policy.generation_config.eos_token_id = tokenizer.eos_token_id
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    return policy, VQAThinkerProcessor.for_config(tokenizer, config, fit="center_crop", question=TINY_QUESTION)

"""The one place where an engine is made for a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator

from vqathinker.policy import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.engine import RolloutEngine, eos_token_ids
from vqathinker.rollout.transformers_engine import TransformersEngine

BATCH_SIZE = 256
"""Sequences generated at a time."""
QUESTION_TOKENS = 512
"""What vLLM reserves for questions that are longer than the processor's own."""


def make_engine(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    name: str = "transformers",
    batch_size: int = BATCH_SIZE,
    longest_answer: int = 0,
    vllm_memory: float = 0.5,
    longest_prompt: int = 0,
) -> RolloutEngine:
    """An engine that answers with this policy, and never with the visual placeholder.

    In training with vLLM TRL makes the engine, from its own options.

    Args:
        policy: The policy.
        processor: Its processor.
        name: One of `ENGINES`.
        batch_size: Sequences at a time.
        longest_answer: In tokens; vLLM reserves memory for it.
        vllm_memory: Share of the device's memory (on a CPU: of the machine's) that vLLM may take.
        longest_prompt: In tokens, where one is longer than the processor's own question; vLLM reserves memory for it.

    Raises:
        ValueError: On another name, or if the memory does not suffice.
        ImportError: If vLLM is missing or outside the supported range.
    """
    if name not in ENGINES:
        raise ValueError(
            f"engine={name!r}: must be one of {list(ENGINES)}; put your own engine into vqathinker.rollout.ENGINES "
            "first."
        )
    return ENGINES[name](
        policy,
        processor,
        batch_size=batch_size,
        longest_answer=longest_answer,
        vllm_memory=vllm_memory,
        longest_prompt=longest_prompt,
    )


def _transformers(
    policy: VQAThinkerForConditionalGeneration, processor: VQAThinkerProcessor, batch_size: int, **_: Any
) -> RolloutEngine:
    tokenizer = processor.tokenizer
    stops, placeholder = eos_token_ids(policy, tokenizer), [policy.config.image_token_id]
    return TransformersEngine(policy, stops, placeholder, batch_size)


def _vllm(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    batch_size: int,
    longest_answer: int,
    vllm_memory: float,
    longest_prompt: int,
) -> RolloutEngine:
    from vqathinker.rollout.vllm_engine import VLLMEngine, check_vllm

    prompt = max(len(processor.prompt_ids()), longest_prompt)
    check_vllm("engine 'vllm'", "leave the engine out")
    try:
        engine = VLLMEngine(
            policy,
            Accelerator(cpu=policy.device.type == "cpu"),
            processor,
            gpu_memory_utilization=vllm_memory,
            max_model_length=_model_length(policy, prompt + longest_answer),
            max_num_seqs=batch_size,
        )
    except ValueError as error:  # speaks of the trainer's settings
        raise ValueError(f"{error} (When scoring, the settings are vllm_memory, max_new_tokens.)") from error
    engine.sync_weights()
    return engine


def _model_length(policy: VQAThinkerForConditionalGeneration, needed: int) -> int:
    """Tokens of a prompt and its answer: what is known to be needed and, as far as the policy has positions, 512 tokens
    more for longer questions."""
    return max(needed, min(needed + QUESTION_TOKENS, policy.config.get_text_config().max_position_embeddings))


ENGINES: dict[str, Callable[..., RolloutEngine]] = {"transformers": _transformers, "vllm": _vllm}
"""Name -> what makes the engine, called with policy and processor, and with `batch_size`, `longest_answer`,
`vllm_memory` and `longest_prompt` by keyword. Put one of your own here; it takes what it needs, and `**settings`."""

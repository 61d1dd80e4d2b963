"""Patches of what belongs to TRL and transformers, each with its reason and when it can go.

`tests/contract/` checks that what is patched and overridden is still there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@contextmanager
def vllm_generation(engine: type) -> Iterator[None]:
    """A `GRPOTrainer` made in here has its rollouts with vLLM drawn by `engine`, to which it passes its options.

    TRL (1.16) names the class `VLLMGeneration` in the trainer's `__init__`, without an argument for another one. Can go
    when it takes one.
    """
    from trl.trainer import grpo_trainer

    before = grpo_trainer.VLLMGeneration
    grpo_trainer.VLLMGeneration = engine
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = before


@contextmanager
def without_false_alarm() -> Iterator[None]:
    """Without TRL's warning that `model_init_kwargs` are ignored, which is true of a policy that it is given only.

    It loads the reference with them, and the recipe has loaded the policy with them. Can go when TRL (1.16) tells the
    two apart.
    """
    from trl.trainer import grpo_trainer

    logger = logging.getLogger(grpo_trainer.__name__)

    def keep(record: logging.LogRecord) -> bool:
        return "`model_init_kwargs` will be ignored" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@contextmanager
def float32_adapters(model: PreTrainedModel | PeftModel | str) -> Iterator[None]:
    """A `GRPOTrainer` made in here leaves the trained weights beside a base of 4 bits in float32.

    TRL (1.16) turns them into bfloat16 (huggingface/peft#2889), which rounds an optimizer's small steps away, and the
    first step of a part that is trained whole too: it would differ from the reference. Can go when TRL leaves it to
    PEFT's `autocast_adapter_dtype`.
    """
    policy: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    packed = getattr(policy, "is_loaded_in_4bit", False)
    if packed:
        policy.is_loaded_in_4bit = False  # which only TRL's cast asks for while a trainer is made
    try:
        yield
    finally:
        if packed:
            policy.is_loaded_in_4bit = True


def hash_prompts_once(llm: Any) -> None:
    """Have a `vllm.LLM` in this process hash an embedded prompt once, whatever number of answers is asked for.

    A request for K answers becomes K with the same tensor, and vLLM (0.31) keeps the digests that its prefix cache
    needs with each of them (`vllm.v1.core.kv_cache_utils._gen_prompt_embeds_extra_hash_keys`): SHA-256 of the whole
    prompt, K times before the device gets anything to do. Here they stay with the tensor. A vLLM that keeps them
    elsewhere goes on as it is. Can go when vLLM hashes what children share once.
    """
    core: Any = getattr(llm.llm_engine.engine_core, "engine_core", None)
    hasher = getattr(core, "request_block_hasher", None)
    if hasher is None:
        return

    def shared(request: Any) -> Any:
        if request.prompt_embeds is not None:
            request._prompt_embeds_per_block_hashes = vars(request.prompt_embeds).setdefault("_block_hashes", {})
        return hasher(request)

    core.request_block_hasher = shared

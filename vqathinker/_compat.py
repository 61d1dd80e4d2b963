"""Patches of what belongs to TRL and transformers, each with its reason and when it can go.

`tests/contract/` checks that what is patched and overridden is still there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from trl.trainer import grpo_trainer


@contextmanager
def vllm_generation(engine: type) -> Iterator[None]:
    """A `GRPOTrainer` made in here has its rollouts with vLLM drawn by `engine`, to which it passes its options.

    TRL (1.16) names the class `VLLMGeneration` in the trainer's `__init__`, without an argument for another one. Can go
    when it takes one.
    """
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
    logger = logging.getLogger(grpo_trainer.__name__)

    def keep(record: logging.LogRecord) -> bool:
        return "`model_init_kwargs` will be ignored" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)

"""Patches of what belongs to TRL and transformers, each with its reason and when it can go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_false_alarm() -> Iterator[None]:
    """Without TRL's warning that `model_init_kwargs` are ignored, which is true of a policy that it is given only.

    It loads the reference with them, and the recipe has loaded the policy with them. Can go when TRL (1.16) tells the
    two apart.
    """
    logger = logging.getLogger("trl.trainer.grpo_trainer")

    def keep(record: logging.LogRecord) -> bool:
        return "`model_init_kwargs` will be ignored" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)

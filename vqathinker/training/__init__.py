"""GRPO on clips: TRL's trainer with clips in and rewards over the global batch, and the supervised warm start."""

from importlib import import_module
from typing import Any

# Looked up on first use: `groups`, `budget` and `precision` are imported without TRL, where it is missing too.
_HOMES = {
    "SFTCollator": "sft",
    "VQAGRPOConfig": "config",
    "VQAGRPOTrainer": "trainer",
    "VQASFTConfig": "sft",
    "WholeCheckpointTrainer": "checkpoints",
    "check_precision": "precision",
    "load_dtype": "precision",
    "sft_dataset": "sft",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

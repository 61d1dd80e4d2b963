"""GRPO on clips: TRL's trainer with clips in and rewards over the global batch, and the supervised warm start."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqathinker.chatter import hold_back_imports

if TYPE_CHECKING:
    from vqathinker.training.checkpoints import WholeCheckpointTrainer as WholeCheckpointTrainer
    from vqathinker.training.config import VQAGRPOConfig as VQAGRPOConfig
    from vqathinker.training.precision import check_precision as check_precision
    from vqathinker.training.precision import load_dtype as load_dtype
    from vqathinker.training.sft import SFTCollator as SFTCollator
    from vqathinker.training.sft import SFTTrainer as SFTTrainer
    from vqathinker.training.sft import VQASFTConfig as VQASFTConfig
    from vqathinker.training.sft import sft_dataset as sft_dataset
    from vqathinker.training.trainer import VQAGRPOTrainer as VQAGRPOTrainer

hold_back_imports()  # before TRL imports vLLM

# Looked up on first use: `groups`, `budget` and `precision` are imported without TRL, where it is missing too.
_HOMES = {
    "SFTCollator": "sft",
    "SFTTrainer": "sft",
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

"""GRPO on clips: TRL's trainer with clips in and rewards over the global batch, and the supervised warm start."""

from vqathinker.training.callbacks import ValidationCallback
from vqathinker.training.config import VQAGRPOConfig
from vqathinker.training.precision import check_precision, load_dtype
from vqathinker.training.sft import SFTCollator, sft_dataset
from vqathinker.training.trainer import VQAGRPOTrainer

__all__ = [
    "SFTCollator",
    "VQAGRPOConfig",
    "VQAGRPOTrainer",
    "ValidationCallback",
    "check_precision",
    "load_dtype",
    "sft_dataset",
]

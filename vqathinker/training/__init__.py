"""GRPO on clips: TRL's trainer with clips in and rewards over the global batch, and the supervised warm start."""

from vqathinker.training.callbacks import ValidationCallback
from vqathinker.training.config import VQAGRPOConfig
from vqathinker.training.sft import SFTCollator, sft_dataset
from vqathinker.training.trainer import VQAGRPOTrainer

__all__ = ["SFTCollator", "VQAGRPOConfig", "VQAGRPOTrainer", "ValidationCallback", "sft_dataset"]

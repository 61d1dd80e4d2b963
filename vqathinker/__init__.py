"""vqathinker: GRPO reinforcement learning that teaches a multimodal LLM to judge video quality, from scores alone."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqathinker import _names  # noqa: F401, finds vqathinker.rewards and vqathinker.perturb
from vqathinker.wording import install

if TYPE_CHECKING:
    from vqathinker.policy import VQAThinkerConfig as VQAThinkerConfig
    from vqathinker.policy import VQAThinkerForConditionalGeneration as VQAThinkerForConditionalGeneration
    from vqathinker.policy import VQAThinkerProcessor as VQAThinkerProcessor
    from vqathinker.scoring import QualityAnswer as QualityAnswer
    from vqathinker.scoring import QualityComparison as QualityComparison
    from vqathinker.scoring import QualityScore as QualityScore
    from vqathinker.scoring import QualityScorer as QualityScorer
    from vqathinker.training import VQAGRPOConfig as VQAGRPOConfig
    from vqathinker.training import VQAGRPOTrainer as VQAGRPOTrainer

__version__ = "0.1.0"

# Looked up on first use, so that `import vqathinker` and the command line start without loading torch.
_HOMES = {
    "QualityAnswer": "vqathinker.scoring",
    "QualityComparison": "vqathinker.scoring",
    "QualityScore": "vqathinker.scoring",
    "QualityScorer": "vqathinker.scoring",
    "VQAGRPOConfig": "vqathinker.training",
    "VQAGRPOTrainer": "vqathinker.training",
    "VQAThinkerConfig": "vqathinker.policy",
    "VQAThinkerForConditionalGeneration": "vqathinker.policy",
    "VQAThinkerProcessor": "vqathinker.policy",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            return getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as error:
            raise missing_extra(error, "train" if "training" in _HOMES[name] else "score") from error
    raise AttributeError(f"module 'vqathinker' has no attribute {name!r}")


def missing_extra(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The same error, which says how to get what is missing."""
    python = "" if sys.version_info >= (3, 11) else f", with Python 3.11 or later (this is {sys.version.split()[0]})"
    return ModuleNotFoundError(f"{error}: install the extra `{extra}`, {install(extra)}{python}")

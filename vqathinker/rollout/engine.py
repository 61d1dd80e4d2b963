"""What every rollout engine does: embedded prompts in, completions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_new_tokens: Longest completion.
        temperature: > 0 samples, 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        top_k: Number of candidates, 0 = all.
    """

    max_new_tokens: int
    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 50

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(
                f"{self}: need max_new_tokens >= 1, temperature >= 0 (0 = greedy), top_p in (0, 1], top_k >= 0."
            )


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        token_ids: Its tokens, up to and including the end-of-sequence token.
        logprobs: The sampler's log-probability of each token, `None` where the engine does not report them.
    """

    token_ids: list[int]
    logprobs: list[float] | None = None


class RolloutEngine(Protocol):
    """Samples answers to embedded prompts, so that sampler and trainer see the same visual input."""

    def generate(
        self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """`n` completions for each prompt.

        Args:
            prompts: P prompt embeddings (L_i, D), any lengths.
            n: Completions per prompt.
            sampling: How.
            seeds: P seeds: then what is drawn for a prompt does not depend on the other prompts. Default: drawn from
                torch's global generator.

        Returns:
            P lists of n completions.
        """
        ...


def eos_token_ids(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those that the policy's generation config declares."""
    declared = policy.generation_config.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    return list(dict.fromkeys([tokenizer.eos_token_id, *ids]))

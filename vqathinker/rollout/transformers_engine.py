"""Rollouts with transformers' own `generate`: no extra dependency, exact, slow for large models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel

from vqathinker.rollout.engine import Completion, Sampling


class TransformersEngine:
    """`RolloutEngine` over the policy itself; weights need no sync.

    Args:
        policy: Any causal LM that generates from `inputs_embeds`.
        eos_token_ids: Tokens that end a completion.
        pad_token_id: Filler behind them.
        suppress_tokens: Tokens that must not be sampled (the visual placeholder).
        batch_size: Sequences generated at a time.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        eos_token_ids: Sequence[int],
        pad_token_id: int,
        suppress_tokens: Sequence[int] = (),
        batch_size: int = 256,
    ) -> None:
        self.policy, self.batch_size = policy, batch_size
        self.eos_token_ids, self.pad_token_id = list(eos_token_ids), pad_token_id
        self.suppress_tokens = list(suppress_tokens) or None

    @torch.no_grad()
    def generate(self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling) -> list[list[Completion]]:
        """See `RolloutEngine.generate`. Draws from torch's global generator."""
        if not prompts:
            return []
        step = max(1, self.batch_size // n)
        chunks = [prompts[start : start + step] for start in range(0, len(prompts), step)]
        return [completions for chunk in chunks for completions in self._generate(chunk, n, sampling)]

    def _generate(self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling) -> list[list[Completion]]:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        embeds = pad_sequence(list(prompts), batch_first=True, padding_side="left")
        positions = torch.arange(embeds.shape[1])
        mask = (positions >= embeds.shape[1] - lengths[:, None]).long().to(embeds.device)
        sampled = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=n,
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
            suppress_tokens=self.suppress_tokens,
            **(sampled if sampling.temperature else {"do_sample": False}),
        )
        was_training = self.policy.training
        self.policy.eval()
        try:
            tokens = self.policy.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config)
        finally:
            self.policy.train(was_training)
        rows = [Completion(self._cut(row)) for row in tokens.tolist()]
        return [rows[i : i + n] for i in range(0, len(rows), n)]

    def _cut(self, tokens: list[int]) -> list[int]:
        """Tokens up to and including the first end-of-sequence token."""
        end = next((i for i, token in enumerate(tokens) if token in self.eos_token_ids), len(tokens) - 1)
        return tokens[: end + 1]

"""Rollouts with transformers' own `generate`: no extra dependency, exact, slow for large models.

The n answers to a prompt share its prefill: the prompt passes the language model once, and one cache serves them all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout.engine import Completion, Sampling
from vqathinker.rollout.shared_prompt import attention_to_shared_prompts, share_prompts


class TransformersEngine:
    """`RolloutEngine` over the policy itself; weights need no sync.

    Args:
        policy: The policy.
        eos_token_ids: Tokens that end a completion.
        pad_token_id: Filler behind them.
        suppress_tokens: Tokens that must not be sampled (the visual placeholder).
        batch_size: Sequences generated at a time.
    """

    def __init__(
        self,
        policy: VQAThinkerForConditionalGeneration,
        eos_token_ids: Sequence[int],
        pad_token_id: int,
        suppress_tokens: Sequence[int] = (),
        batch_size: int = 256,
    ) -> None:
        self.policy, self.batch_size = policy, batch_size
        self.eos_token_ids, self.pad_token_id = list(eos_token_ids), pad_token_id
        self.suppress_tokens = list(suppress_tokens) or None

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`.

        With `seeds` the answers to a prompt depend on the prompt, its seed and `batch_size` alone, to the last bit: it
        is prefilled by itself and decoded in a batch that is always full, as kernels round differently for other
        shapes.
        """
        if not prompts:
            return []
        step = max(1, self.batch_size // n)
        if seeds is None:
            chunks = [prompts[start : start + step] for start in range(0, len(prompts), step)]
            return [completions for chunk in chunks for completions in self._generate(chunk, n, sampling)]
        lengths: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            lengths.setdefault(len(prompt), []).append(place)
        found: dict[int, list[Completion]] = {}
        for places in lengths.values():
            for start in range(0, len(places), step):
                chosen = places[start : start + step]
                full = chosen + chosen[-1:] * (step - len(chosen))
                drawn = self._generate([prompts[i] for i in full], n, sampling, [seeds[i] for i in full])
                found.update(zip(full, drawn, strict=True))
        return [found[place] for place in range(len(prompts))]

    def _generate(
        self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
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
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
            suppress_tokens=self.suppress_tokens,
            repetition_penalty=1.0,  # else the checkpoint's own generation config decides
            **(sampled if sampling.temperature and seeds is None else {"do_sample": False}),
        )
        if seeds is None:
            cache = self._prefill(embeds[:, :-1], mask[:, :-1])
        else:
            own = {id(prompt): i for i, prompt in enumerate(prompts)}  # those that only fill the batch come once
            parts = {key: self._prefill(embeds[i : i + 1, :-1], mask[i : i + 1, :-1]) for key, i in own.items()}
            cache = _joined([parts[id(prompt)] for prompt in prompts])
        share_prompts(cache, n, sampling.max_new_tokens)
        was_training = self.policy.training
        self.policy.eval()
        try:
            with attention_to_shared_prompts(self.policy.model.language_model):
                tokens = self.policy.generate(
                    inputs_embeds=embeds.repeat_interleave(n, dim=0),
                    attention_mask=mask.repeat_interleave(n, dim=0),
                    past_key_values=cache,
                    generation_config=config,
                    logits_processor=None if seeds is None else seeded_draw(sampling, seeds, n, embeds.device),
                    synced_gpus=False,  # processes may have different numbers of prompts
                )
        finally:
            self.policy.train(was_training)
        rows = [Completion(self._cut(row)) for row in tokens.tolist()]
        return [rows[i : i + n] for i in range(0, len(rows), n)]

    def _prefill(self, embeds: torch.Tensor, mask: torch.Tensor) -> DynamicCache:
        """The cache of all prompt positions but the last, which `generate` runs itself.

        Args:
            embeds: (P, L - 1, D).
            mask: (P, L - 1), 0 = padding.
        """
        cache = DynamicCache(config=self.policy.config.get_text_config())
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.policy.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return cache

    def _cut(self, tokens: list[int]) -> list[int]:
        """Tokens up to and including the first end-of-sequence token."""
        end = next((i for i, token in enumerate(tokens) if token in self.eos_token_ids), len(tokens) - 1)
        return tokens[: end + 1]


def _joined(parts: Sequence[DynamicCache]) -> DynamicCache:
    """One cache for the rows of all; theirs are let go, layer by layer."""
    whole = DynamicCache()
    for number, layer in enumerate(list(parts[0].layers)):
        layers = [part.layers[number] for part in parts]
        layer.keys, layer.values = (torch.cat([getattr(each, name) for each in layers]) for name in ("keys", "values"))
        whole.layers.append(layer)
        for part in parts:
            part.layers[number] = None
    return whole


class SeededDraw(LogitsProcessor):
    """Gumbel noise from a generator of each row's own: the greedy choice among the noisy logits is a sample.

    Args:
        seeds: One per row.
        device: Of the logits.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(R, V) log-probabilities up to a constant per row to noisy ones."""
        rows = zip(scores, self.generators, strict=True)
        noise = torch.stack([torch.empty_like(row).exponential_(generator=generator) for row, generator in rows])
        return scores - noise.log()


def seeded_draw(sampling: Sampling, seeds: Sequence[int], n: int, device: torch.device) -> LogitsProcessorList | None:
    """What makes greedy decoding draw `n` answers a prompt from seeds of their own; `None` for greedy answers."""
    if not sampling.temperature:
        return None
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    own = [random.Random(f"{seed}/{answer}").getrandbits(63) for seed in seeds for answer in range(n)]
    return LogitsProcessorList([*steps, SeededDraw(own, device)])

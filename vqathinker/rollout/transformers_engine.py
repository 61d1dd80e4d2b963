"""Rollouts with the policy's own forward pass: no extra dependency, exact, slow for large models.

The n answers to a prompt share its prefill: the prompt passes the language model once, and one cache serves them all.
Answers that have ended leave the batch.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence

import torch
from transformers import DynamicCache, TopPLogitsWarper

from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout.engine import Completion, Sampling
from vqathinker.rollout.shared_prompt import SharedPrompts, attention_to_shared_prompts

PADDED = 64
"""Where answers must not depend on what else is asked, prompts are padded to a multiple of so many tokens, which those
of other lengths then share a batch with."""


class TransformersEngine:
    """`RolloutEngine` over the policy itself; weights need no sync.

    Args:
        policy: The policy.
        eos_token_ids: Tokens that end a completion.
        suppress_tokens: Tokens that must not be sampled (the visual placeholder).
        batch_size: Sequences generated at a time.
    """

    def __init__(
        self,
        policy: VQAThinkerForConditionalGeneration,
        eos_token_ids: Sequence[int],
        suppress_tokens: Sequence[int] = (),
        batch_size: int = 256,
    ) -> None:
        self.policy, self.batch_size = policy, batch_size
        self.eos_token_ids, self.suppress_tokens = list(eos_token_ids), list(suppress_tokens)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`.

        With `seeds` the answers to a prompt depend on the prompt, its seed and `batch_size` alone, to the last bit: it
        is prefilled by itself, padded to a multiple of `PADDED` and decoded in a batch that is always full, as kernels
        round differently for other shapes. Without, answers leave the batch when they end.
        """
        if not prompts:
            return []
        step = max(1, self.batch_size // n)
        if seeds is None:
            chunks = [prompts[start : start + step] for start in range(0, len(prompts), step)]
            return [completions for chunk in chunks for completions in self._generate(chunk, n, sampling)]
        widths: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            widths.setdefault(math.ceil(len(prompt) / PADDED) * PADDED, []).append(place)
        found: dict[int, list[Completion]] = {}
        for width, places in widths.items():
            for start in range(0, len(places), step):
                chosen = places[start : start + step]
                full = chosen + chosen[-1:] * (step - len(chosen))
                drawn = self._generate([prompts[i] for i in full], n, sampling, [seeds[i] for i in full], width)
                found.update(zip(full, drawn, strict=True))
        return [found[place] for place in range(len(prompts))]

    def _generate(
        self,
        prompts: Sequence[torch.Tensor],
        n: int,
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        width: int = 0,
    ) -> list[list[Completion]]:
        was_training = self.policy.training
        self.policy.eval()
        try:
            caches = self._prefill(prompts, alone=seeds is not None)
            shared = SharedPrompts(caches, n, sampling.max_new_tokens, width)
            with attention_to_shared_prompts(self.policy.model.language_model):
                tokens = self._decode(prompts, n, shared, sampling, seeds)
        finally:
            self.policy.train(was_training)
        answers = [Completion(self._cut(row)) for row in tokens]
        return [answers[i : i + n] for i in range(0, len(answers), n)]

    def _prefill(self, prompts: Sequence[torch.Tensor], alone: bool) -> list[tuple[list[int], DynamicCache]]:
        """Caches of all prompt positions but the last, and the places of the prompts that each is of.

        Args:
            prompts: (L_i, D) each.
            alone: A cache for each. Else prompts about one clip share the passes over what they begin with, and the
                others of one length a cache.
        """
        if alone:
            alike: dict[int, list[int]] = {}
            for place, prompt in enumerate(prompts):
                alike.setdefault(id(prompt), []).append(place)
            return [(places, self._read(prompts[places[0]][None, :-1])) for places in alike.values()]
        parts: list[tuple[list[int], DynamicCache]] = []
        lengths: dict[int, list[int]] = {}
        for places, shared in beginnings(prompts):
            if len(places) == 1:
                lengths.setdefault(len(prompts[places[0]]), []).extend(places)
                continue
            first = self._read(prompts[places[0]][None, :shared])
            for place in places:
                parts.append(([place], self._read(prompts[place][None, shared:-1], copy.deepcopy(first))))
        for places in lengths.values():
            parts.append((places, self._read(torch.stack([prompts[place][:-1] for place in places]))))
        return parts

    def _read(self, embeds: torch.Tensor, cache: DynamicCache | None = None) -> DynamicCache:
        """The cache, default an empty one, after (B, L, D) further embeddings."""
        cache = DynamicCache(config=self.policy.config.get_text_config()) if cache is None else cache
        if embeds.shape[1]:
            self.policy.model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return cache

    def _decode(
        self,
        prompts: Sequence[torch.Tensor],
        n: int,
        shared: SharedPrompts,
        sampling: Sampling,
        seeds: Sequence[int] | None,
    ) -> list[list[int]]:
        """Tokens of the n answers to each prompt, and anything behind their end."""
        device = prompts[0].device
        draw = Draw(sampling, self.suppress_tokens, len(prompts) * n, device, seeds)
        rows, ends = torch.arange(len(prompts) * n, device=device), torch.tensor(self.eos_token_ids, device=device)
        embeds = torch.stack([prompt[-1] for prompt in prompts]).repeat_interleave(n, dim=0)
        positions = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device).repeat_interleave(n)
        ended, tokens = torch.zeros_like(rows, dtype=torch.bool), rows.new_zeros(len(rows), sampling.max_new_tokens)
        for step in range(sampling.max_new_tokens):
            output = self.policy(
                inputs_embeds=embeds[:, None],
                position_ids=positions[:, None],
                shared=shared,
                use_cache=False,  # `shared` is the cache
                logits_to_keep=1,
            )
            chosen = draw(output.logits[:, -1].float(), rows)
            tokens[rows, step] = chosen
            ended |= torch.isin(chosen, ends)
            done = int(ended.sum())
            if done == len(rows):
                break
            if done and seeds is None:
                going = ~ended
                shared.leave(going)
                rows, positions, chosen, ended = (each[going] for each in (rows, positions, chosen, ended))
            embeds, positions = self.policy.get_input_embeddings()(chosen), positions + 1
        return tokens.tolist()

    def _cut(self, tokens: list[int]) -> list[int]:
        """Tokens up to and including the first end-of-sequence token."""
        end = next((i for i, token in enumerate(tokens) if token in self.eos_token_ids), len(tokens) - 1)
        return tokens[: end + 1]


def beginnings(prompts: Sequence[torch.Tensor]) -> list[tuple[list[int], int]]:
    """Prompts that have at least half of their embeddings in common, from the first one on: questions about one clip.

    Args:
        prompts: (L_i, D) each.

    Returns:
        Their places and how many embeddings they share, without the last one of any.
    """
    found: list[tuple[list[int], int]] = []
    for place, prompt in enumerate(prompts):
        for number, (places, shared) in enumerate(found):
            other = prompts[places[0]]
            most = min(len(prompt) - 1, shared)
            if 2 * most < max(len(prompt), len(other)) or not torch.equal(prompt[: most // 2], other[: most // 2]):
                continue
            same = int((prompt[:most] == other[:most]).all(1).cumprod(0).sum())
            if 2 * same >= max(len(prompt), len(other)):
                found[number] = ([*places, place], same)
                break
        else:
            found.append(([place], len(prompt) - 1))
    return found


class Draw:
    """Chooses the next token of each answer: the likeliest, or the likeliest after Gumbel noise, which is a sample.

    Args:
        sampling: How.
        suppress: Tokens that are never chosen.
        answers: A.
        device: Of the logits.
        seeds: One per prompt: each answer then has a generator of its own. Default: the noise for all A answers comes
            from torch's global generator at each step, so it does not depend on which of them have ended.
    """

    def __init__(
        self,
        sampling: Sampling,
        suppress: Sequence[int],
        answers: int,
        device: torch.device,
        seeds: Sequence[int] | None = None,
    ) -> None:
        self.sampling, self.answers, self.generators = sampling, answers, None
        self.suppress = torch.tensor(suppress, dtype=torch.long, device=device)
        if seeds is not None:
            own = [random.Random(f"{seed}/{i}").getrandbits(63) for seed in seeds for i in range(answers // len(seeds))]
            self.generators = [torch.Generator(device).manual_seed(seed) for seed in own]

    def __call__(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(R,) tokens.

        Args:
            logits: (R, V) float32; written to.
            rows: (R,) which of the A answers they are of.
        """
        logits.index_fill_(1, self.suppress, -torch.inf)
        how = self.sampling
        if not how.temperature:
            return logits.argmax(-1)
        noise, tokens = self._noise(logits, rows), None
        if how.top_k:
            logits, tokens = logits.topk(min(how.top_k, logits.shape[1]))
            noise = noise.gather(1, tokens)
        scores = logits / how.temperature
        if how.top_p < 1:
            scores = TopPLogitsWarper(how.top_p)(rows, scores)
        best = (scores - noise.log()).argmax(-1, keepdim=True)
        return (best if tokens is None else tokens.gather(1, best))[:, 0]

    def _noise(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(R, V) of the exponential distribution: minus its logarithm is Gumbel's."""
        if self.generators is not None:
            own = zip(scores, self.generators, strict=True)
            return torch.stack([torch.empty_like(row).exponential_(generator=generator) for row, generator in own])
        noise = scores.new_empty(self.answers, scores.shape[1]).exponential_()
        return noise if len(rows) == self.answers else noise[rows]

"""Answers of a policy for many clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from vqathinker.data import ClipLoader
from vqathinker.data.scales import LABEL_RANGE
from vqathinker.policy import ClipInput, FeatureCache, Prompt, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rewards import ParsedAnswer, parse_answer
from vqathinker.rollout import RolloutEngine, Sampling, make_engine

PAPER_SAMPLING = Sampling(max_new_tokens=2048, temperature=0.9, top_p=1.0, top_k=50)
"""VQAThinker, "Implementation Details"."""


@dataclass(frozen=True)
class Prediction:
    """What the policy says of one clip.

    Attributes:
        video: Path.
        answers: Texts: the greedy one first if it was asked for, then the samples.
        greedy: Whether `answers[0]` is greedy.
        error: Why the clip could not be read, else `None`; then there are no answers.
    """

    video: str
    answers: tuple[str, ...]
    greedy: bool
    error: str | None = None

    @property
    def parsed(self) -> list[ParsedAnswer]:
        """The answers as the first `<answer>` block says (published test script)."""
        return [parse_answer(text, which="first") for text in self.answers]

    @property
    def scores(self) -> list[float]:
        """The answers' numbers, NaN for one without or outside 0-5: a slip like 34.2 must not sway a mean."""
        low, high = LABEL_RANGE
        numbers = [math.nan if answer.score is None else answer.score for answer in self.parsed]
        return [number if low <= number <= high else math.nan for number in numbers]


def predict(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    videos: Sequence[str],
    samples: int = 0,
    greedy: bool = True,
    sampling: Sampling = PAPER_SAMPLING,
    batch_size: int = 16,
    progress: bool = False,
    engine: RolloutEngine | None = None,
) -> list[Prediction]:
    """Let the policy judge clips. Each is decoded and encoded once, however many answers are drawn.

    Args:
        policy: The policy; left in the mode it came in.
        processor: Its processor.
        videos: Paths. An unreadable one gets a `Prediction` with `error`.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        sampling: How samples are drawn, and the longest answer.
        batch_size: Clips at a time.
        progress: Show a progress bar.
        engine: That answers; default the policy itself.

    Returns:
        One prediction per video, in order.
    """
    loader: ClipLoader[ClipInput] = ClipLoader(processor.load_clip, threads=2)
    batches = loader.batches(videos, batch_size)
    total = math.ceil(len(videos) / batch_size)
    predictions: list[Prediction] = []
    for names, clips in tqdm(batches, total=total, desc="scoring", unit="batch", disable=not progress):
        known = answer_clips(policy, processor, clips, samples, greedy, sampling, engine)
        predictions += [known.get(name) or Prediction(name, (), greedy, loader.skipped[name]) for name in names]
    return predictions


@torch.no_grad()
def embed_prompts(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: Sequence[ClipInput],
    prompts: Sequence[Prompt] | None = None,
) -> list[torch.Tensor]:
    """The whole prompts about C clips, which are encoded in one batch.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: C >= 1 clips.
        prompts: One about each; default the processor's question.

    Returns:
        C embeddings (L_i, D).
    """
    cache = FeatureCache(policy)
    visual = cache.inputs([None] * len(clips), clips)
    features = policy.encode(**{name: [clip[name] for clip in visual] for name in visual[0]})
    prompts = prompts or [processor.render(frames=[len(clip.frames)]) for clip in clips]
    return [policy.prompt_embeds(prompt, [own]) for prompt, own in zip(prompts, features, strict=True)]


@torch.no_grad()
def answer_clips(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: dict[Any, ClipInput],
    samples: int,
    greedy: bool,
    sampling: Sampling = PAPER_SAMPLING,
    engine: RolloutEngine | None = None,
) -> dict[Any, Prediction]:
    """Answers to one batch of decoded clips; arguments as in `predict`.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: Name -> clip.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        sampling: How samples are drawn, and the longest answer.
        engine: That answers; default the policy itself.

    Returns:
        Name -> prediction.
    """
    tokenizer = processor.tokenizer
    # Without a readable clip the engine is asked too: other processes may wait for this one.
    prompts = embed_prompts(policy, processor, list(clips.values())) if clips else []
    engine = engine or make_engine(policy, processor)
    answers: dict[Any, list[str]] = {name: [] for name in clips}
    for count, how in ((int(greedy), replace(sampling, temperature=0.0)), (samples, sampling)):
        if count:
            drawn = engine.generate(prompts, count, how)
            for name, group in zip(clips, drawn, strict=True):
                answers[name] += tokenizer.batch_decode([c.token_ids for c in group], skip_special_tokens=True)
    return {name: Prediction(str(name), tuple(texts), greedy) for name, texts in answers.items()}


def mean_score(scores: Sequence[float]) -> float:
    """Mean of the scores that are known; NaN where none is."""
    known = [score for score in scores if not math.isnan(score)]
    return float(np.mean(known)) if known else math.nan

"""Answers of a policy for many clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from vqathinker.data import ClipLoader
from vqathinker.messages import Messages
from vqathinker.policy import (
    ClipFeatures,
    ClipInput,
    FeatureCache,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
)
from vqathinker.rewards import ParsedAnswer, parse_answer
from vqathinker.rollout import RolloutEngine, Sampling, make_engine
from vqathinker.tasks import TASKS

K = TypeVar("K")
Shown = ClipInput | Sequence[ClipInput]
"""What a prompt shows: a clip, or several."""
PAPER_SAMPLING = Sampling(max_new_tokens=2048, temperature=0.9, top_p=1.0, top_k=50)
"""VQAThinker, "Implementation Details"."""


@dataclass(frozen=True)
class Prediction:
    """What the policy says of one clip, or in answer to a question about several.

    Attributes:
        video: Path; of several clips joined by " + ".
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
        values = [TASKS["score"].parse(text, {}).value for text in self.answers]
        return [math.nan if value is None else value for value in values]


def predict(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    videos: Sequence[str | Sequence[str]],
    samples: int = 0,
    greedy: bool = True,
    sampling: Sampling = PAPER_SAMPLING,
    batch_size: int = 16,
    progress: bool = False,
    engine: RolloutEngine | None = None,
    questions: Sequence[Messages] | None = None,
) -> list[Prediction]:
    """Let the policy judge clips. Each is decoded and encoded once, however many answers are drawn.

    Args:
        policy: The policy; left in the mode it came in.
        processor: Its processor.
        videos: Paths; several where a question is about several clips. An unreadable one gets a `Prediction` with
            `error`.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        sampling: How samples are drawn, and the longest answer.
        batch_size: Clips at a time.
        progress: Show a progress bar.
        engine: That answers; default the policy itself.
        questions: A conversational prompt for each of `videos`, of which one may then come several times; default the
            processor's question.

    Returns:
        One prediction for each of `videos`, in order.
    """
    loader: ClipLoader[ClipInput] = ClipLoader(processor.load_clip, threads=2)
    batches = loader.batches([(one,) if isinstance(one, str) else tuple(one) for one in videos], batch_size)
    total = math.ceil(len(videos) / batch_size)
    predictions: list[Prediction] = []
    for chunk, clips in tqdm(batches, total=total, desc="scoring", unit="batch", disable=not progress):
        start = len(predictions)
        shown = {
            start + i: [clips[name] for name in names] for i, names in enumerate(chunk) if clips.keys() >= {*names}
        }
        asked = None if questions is None else {i: questions[i] for i in shown}
        known = answer_clips(policy, processor, shown, samples, greedy, sampling, engine, asked)
        predictions += [
            replace(known[start + i], video=" + ".join(names))
            if start + i in known
            else Prediction(" + ".join(names), (), greedy, reason_unreadable(names, loader.skipped))
            for i, names in enumerate(chunk)
        ]
    return predictions


def reason_unreadable(names: Sequence[str], skipped: Mapping[str, str]) -> str:
    """Why a prompt's clip cannot be read; of several clips the first such, with its name."""
    lost = next(name for name in names if name in skipped)
    return skipped[lost] if len(names) == 1 else f"{lost}: {skipped[lost]}"


@torch.no_grad()
def encode_clips(policy: VQAThinkerForConditionalGeneration, clips: Sequence[ClipInput]) -> list[ClipFeatures]:
    """What C >= 1 clips are to the language model, encoded in one batch."""
    visual = FeatureCache(policy).inputs([None] * len(clips), clips)
    return policy.encode(**{name: [clip[name] for clip in visual] for name in visual[0]})


@torch.no_grad()
def embed_prompts(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: Sequence[Shown],
    questions: Sequence[Messages] | None = None,
) -> list[torch.Tensor]:
    """Whole prompts, whose clips are encoded in one batch.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: R >= 1 clips; several where a question is about several.
        questions: A conversational prompt about each; default the processor's question.

    Returns:
        R embeddings (L_i, D).
    """
    shown = [[one] if isinstance(one, ClipInput) else list(one) for one in clips]
    features = iter(encode_clips(policy, [clip for own in shown for clip in own]))
    asked = [None] * len(shown) if questions is None else questions
    prompts = [
        processor.render(question, [clip.length for clip in own]) for question, own in zip(asked, shown, strict=True)
    ]
    return [
        policy.prompt_embeds(prompt, list(islice(features, len(own))))
        for prompt, own in zip(prompts, shown, strict=True)
    ]


@torch.no_grad()
def answer_clips(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: Mapping[K, Shown],
    samples: int,
    greedy: bool,
    sampling: Sampling = PAPER_SAMPLING,
    engine: RolloutEngine | None = None,
    questions: Mapping[K, Messages] | None = None,
) -> dict[K, Prediction]:
    """Answers to one batch of decoded clips; arguments as in `predict`.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: Name -> clip, or several where a question is about several.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        sampling: How samples are drawn, and the longest answer.
        engine: That answers; default the policy itself.
        questions: Name -> conversational prompt; default the processor's question.

    Returns:
        Name -> prediction.
    """
    tokenizer = processor.tokenizer
    # Without a readable clip the engine is asked too: other processes may wait for this one.
    asked = None if questions is None else [questions[name] for name in clips]
    prompts = embed_prompts(policy, processor, list(clips.values()), asked) if clips else []
    engine = engine or make_engine(policy, processor)
    answers: dict[K, list[str]] = {name: [] for name in clips}
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

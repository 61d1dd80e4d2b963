"""Answers of a policy for many clips, and their summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from rewards import ParsedAnswer, parse_answer
from vqathinker.data import ClipLoader, LabelRow
from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.policy import ClipInput, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Sampling, TransformersEngine


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


@dataclass(frozen=True)
class Summary:
    """Correlations of one set of predictions with MOS. NaN where undefined.

    Attributes:
        srcc: Spearman correlation of the greedy answers.
        plcc: Pearson correlation of the greedy answers.
        srcc_sample: Of one sampled answer per clip.
        srcc_mean4: Of the mean of up to four sampled answers per clip.
        parse_rate: Share of sampled answers that parse (of the greedy ones if nothing was sampled).
        num_clips: Clips asked for.
        num_unreadable: Of these, not readable.
    """

    srcc: float
    plcc: float
    srcc_sample: float
    srcc_mean4: float
    parse_rate: float
    num_clips: int
    num_unreadable: int


def predict(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    videos: Sequence[str],
    samples: int = 0,
    greedy: bool = True,
    max_new_tokens: int = 2048,
    temperature: float = 0.9,
    batch_size: int = 16,
    progress: bool = False,
) -> list[Prediction]:
    """Let the policy judge clips. Each is decoded and encoded once, however many answers are drawn.

    Args:
        policy: The policy; left in the mode it came in.
        processor: Its processor.
        videos: Paths. An unreadable one gets a `Prediction` with `error`.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        max_new_tokens: Longest answer.
        temperature: Of the samples.
        batch_size: Clips at a time.
        progress: Show a progress bar.

    Returns:
        One prediction per video, in order.
    """
    loader: ClipLoader[ClipInput] = ClipLoader(processor.load_clip, threads=2)
    chunks = [videos[i : i + batch_size] for i in range(0, len(videos), batch_size)]
    predictions: list[Prediction] = []
    for number, chunk in enumerate(tqdm(chunks, desc="scoring", unit="batch", disable=not progress)):
        for ahead in chunks[number : number + 2]:
            loader.prefetch(ahead)
        clips = {video: clip for video in chunk if (clip := loader.get(video)) is not None}
        known = answer_clips(policy, processor, clips, samples, greedy, max_new_tokens, temperature)
        predictions += [known.get(video) or Prediction(video, (), greedy, loader.skipped[video]) for video in chunk]
    return predictions


@torch.no_grad()
def answer_clips(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: dict[str, ClipInput],
    samples: int,
    greedy: bool,
    max_new_tokens: int,
    temperature: float = 0.9,
) -> dict[str, Prediction]:
    """Answers to one batch of decoded clips; arguments as in `predict`.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: Name -> clip.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        max_new_tokens: Longest answer.
        temperature: Of the samples.

    Returns:
        Name -> prediction.
    """
    if not clips:
        return {}
    tokenizer, device = processor.tokenizer, policy.device
    motion = policy.motion_features_of([clip.motion_frames.to(device) for clip in clips.values()])
    features = policy.encode([clip.frames.to(device) for clip in clips.values()], motion_features=motion)
    prompts = [policy.prompt_embeds(torch.tensor(processor.prompt_ids(f.num_frames)), f) for f in features]
    engine = TransformersEngine(
        policy, _eos_ids(policy, tokenizer), tokenizer.pad_token_id, [policy.config.image_token_id]
    )
    answers: dict[str, list[str]] = {name: [] for name in clips}
    for count, heat in ((int(greedy), 0.0), (samples, temperature)):
        if count:
            drawn = engine.generate(prompts, count, Sampling(max_new_tokens, heat))
            for name, group in zip(clips, drawn, strict=True):
                answers[name] += tokenizer.batch_decode([c.token_ids for c in group], skip_special_tokens=True)
    return {name: Prediction(name, tuple(texts), greedy) for name, texts in answers.items()}


def summarize(predictions: Sequence[Prediction], rows: Sequence[LabelRow]) -> Summary:
    """Correlations with the labels; clips without a parsable answer are left out of them and show in `parse_rate`.

    Args:
        predictions: From `predict`, in the order of `rows`.
        rows: Their labels.
    """
    greedy = [_score(p.parsed[:1]) if p.greedy else math.nan for p in predictions]
    sampled = [p.parsed[int(p.greedy) :] for p in predictions]
    counted = [a for answers in sampled for a in answers] or [a for p in predictions for a in p.parsed]
    mos = [row.mos for row in rows]
    return Summary(
        srcc=_pairwise(srcc, greedy, mos),
        plcc=_pairwise(plcc, greedy, mos),
        srcc_sample=_pairwise(srcc, [_score(a[:1]) for a in sampled], mos),
        srcc_mean4=_pairwise(srcc, [_score(a[:4]) for a in sampled], mos),
        parse_rate=float(np.mean([a.score is not None for a in counted])) if counted else math.nan,
        num_clips=len(predictions),
        num_unreadable=sum(p.error is not None for p in predictions),
    )


def _score(answers: Sequence[ParsedAnswer]) -> float:
    known = [answer.score for answer in answers if answer.score is not None]
    return float(np.mean(known)) if known else math.nan


def _pairwise(measure, scores: Sequence[float], mos: Sequence[float]) -> float:
    pairs = [(s, g) for s, g in zip(scores, mos, strict=True) if not math.isnan(s)]
    return measure([s for s, _ in pairs], [g for _, g in pairs])


def _eos_ids(policy: VQAThinkerForConditionalGeneration, tokenizer) -> list[int]:
    declared = policy.generation_config.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    return list(dict.fromkeys([tokenizer.eos_token_id, *ids]))

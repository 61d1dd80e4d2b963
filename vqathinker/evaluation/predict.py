"""Answers of a policy for many clips, and their summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from rewards import ParsedAnswer, parse_answer
from rewards.distortion import KINDS, named_distortions
from vqathinker.data import ClipLoader, LabelRow, distortions_of
from vqathinker.data.scales import LABEL_RANGE
from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.policy import ClipInput, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Sampling, TransformersEngine, eos_token_ids

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


@dataclass(frozen=True)
class Summary:
    """Correlations of one set of predictions with MOS. NaN where undefined.

    Attributes:
        srcc: Spearman correlation of the greedy answers.
        plcc: Pearson correlation of the greedy answers.
        srcc_sample: Of one sampled answer per clip; the mean over the samples.
        srcc_mean4: Of the mean of up to four sampled answers per clip.
        parse_rate: Share of sampled answers (of the greedy ones if nothing was sampled) that give a number in 0-5.
        spread: Standard deviation of the greedy scores over that of MOS; near 0 where a policy has collapsed.
        common_score: Largest share of clips that got one and the same greedy score.
        naming: Of the clips with one labelled distortion, the share whose greedy reasoning names it and no other.
        num_clips: Clips asked for.
        num_unreadable: Of these, not readable.
    """

    srcc: float
    plcc: float
    srcc_sample: float
    srcc_mean4: float
    parse_rate: float
    spread: float
    common_score: float
    naming: float
    num_clips: int
    num_unreadable: int


def predict(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    videos: Sequence[str],
    samples: int = 0,
    greedy: bool = True,
    sampling: Sampling = PAPER_SAMPLING,
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
        sampling: How samples are drawn, and the longest answer.
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
        known = answer_clips(policy, processor, clips, samples, greedy, sampling)
        predictions += [known.get(video) or Prediction(video, (), greedy, loader.skipped[video]) for video in chunk]
    return predictions


@torch.no_grad()
def answer_clips(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clips: dict[Any, ClipInput],
    samples: int,
    greedy: bool,
    sampling: Sampling = PAPER_SAMPLING,
) -> dict[Any, Prediction]:
    """Answers to one batch of decoded clips; arguments as in `predict`.

    Args:
        policy: The policy.
        processor: Its processor.
        clips: Name -> clip.
        samples: Sampled answers per clip.
        greedy: Also a greedy answer.
        sampling: How samples are drawn, and the longest answer.

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
        policy, eos_token_ids(policy, tokenizer), tokenizer.pad_token_id, [policy.config.image_token_id]
    )
    answers: dict[Any, list[str]] = {name: [] for name in clips}
    for count, how in ((int(greedy), replace(sampling, temperature=0.0)), (samples, sampling)):
        if count:
            drawn = engine.generate(prompts, count, how)
            for name, group in zip(clips, drawn, strict=True):
                answers[name] += tokenizer.batch_decode([c.token_ids for c in group], skip_special_tokens=True)
    return {name: Prediction(str(name), tuple(texts), greedy) for name, texts in answers.items()}


def summarize(predictions: Sequence[Prediction], rows: Sequence[LabelRow]) -> Summary:
    """Correlations with the labels; clips without a parsable answer are left out of them and show in `parse_rate`.

    Args:
        predictions: From `predict`, in the order of `rows`.
        rows: Their labels.
    """
    greedy = [p.scores[0] if p.greedy and p.answers else math.nan for p in predictions]
    sampled = [p.scores[int(p.greedy) :] for p in predictions]
    counted = [s for scores in sampled for s in scores] or [s for p in predictions for s in p.scores]
    mos = [row.mos for row in rows]
    scored = [(s, g) for s, g in zip(greedy, mos, strict=True) if not math.isnan(s)]
    return Summary(
        srcc=_pairwise(srcc, greedy, mos),
        plcc=_pairwise(plcc, greedy, mos),
        srcc_sample=_mean_over_samples(sampled, mos),
        srcc_mean4=_pairwise(srcc, [mean_score(a[:4]) for a in sampled], mos),
        parse_rate=float(1 - np.isnan(counted).mean()) if counted else math.nan,
        spread=_spread(scored),
        common_score=max(Counter(s for s, _ in scored).values()) / len(scored) if scored else math.nan,
        naming=naming_accuracy(predictions, rows),
        num_clips=len(predictions),
        num_unreadable=sum(p.error is not None for p in predictions),
    )


def naming_accuracy(predictions: Sequence[Prediction], rows: Sequence[LabelRow]) -> float:
    """Share of the clips with one labelled distortion whose first answer names it and no other; NaN without labels.

    Args:
        predictions: From `predict`, in the order of `rows`.
        rows: Labels; `kind` and `severity` columns say what is wrong, see `rewards.Distortion`.
    """
    truths = [distortions_of(row) for row in rows]
    kinds = {kind.replace("_", " ") for kind in [*KINDS, *(kind for truth in truths for kind in truth)]}
    right = []
    for prediction, truth in zip(predictions, truths, strict=True):
        if len(truth) == 1 and prediction.answers:
            named = set(named_distortions(prediction.answers[0], sorted(kinds)))
            right.append(named == {kind.replace("_", " ") for kind in truth})
    return float(np.mean(right)) if right else math.nan


def _mean_over_samples(sampled: Sequence[Sequence[float]], mos: Sequence[float]) -> float:
    drawn = max(map(len, sampled), default=0)
    columns = [[scores[i] if i < len(scores) else math.nan for scores in sampled] for i in range(drawn)]
    known = [value for column in columns if not math.isnan(value := _pairwise(srcc, column, mos))]
    return float(np.mean(known)) if known else math.nan


def _spread(scored: Sequence[tuple[float, float]]) -> float:
    scores, mos = np.array(scored).reshape(-1, 2).T
    return float(scores.std() / mos.std()) if len(mos) and mos.std() else math.nan


def mean_score(scores: Sequence[float]) -> float:
    """Mean of the scores that are known; NaN where none is."""
    known = [score for score in scores if not math.isnan(score)]
    return float(np.mean(known)) if known else math.nan


def _pairwise(measure, scores: Sequence[float], mos: Sequence[float]) -> float:
    pairs = [(s, g) for s, g in zip(scores, mos, strict=True) if not math.isnan(s)]
    return measure([s for s, _ in pairs], [g for _, g in pairs])

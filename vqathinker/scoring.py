"""`QualityScorer`: what is the quality of my video?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vqathinker.evaluation.predict import answer_clips
from vqathinker.policy import VQAThinkerForConditionalGeneration, VQAThinkerProcessor, load_policy
from vqathinker.rollout import Sampling


@dataclass(frozen=True)
class QualityScore:
    """The policy's judgement of one clip.

    Attributes:
        score: In [1, 5], higher is better; NaN if the answer has no number in an `<answer>` block. Never a guess.
        status: `"ok"`, `"out_of_range"`, `"no_answer"` or `"no_number"`, see `rewards.ParsedAnswer`.
        reasoning: Text of the `<think>` block, "" without one.
        answer: The whole answer.
    """

    score: float
    status: str
    reasoning: str
    answer: str


class QualityScorer:
    """Scores clips with a trained policy, greedily, so that one clip always gets one score.

    Args:
        policy: The policy.
        processor: Its processor.
        max_new_tokens: Longest answer.

    Example:
        >>> scorer = QualityScorer.from_pretrained("runs/demo/grpo")  # doctest: +SKIP
        >>> scorer.score("clip.mp4").score  # doctest: +SKIP
        3.42
    """

    def __init__(
        self,
        policy: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        max_new_tokens: int = 2048,
    ) -> None:
        self.policy, self.processor, self.max_new_tokens = policy.eval(), processor, max_new_tokens

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str | None = None, max_new_tokens: int = 2048) -> QualityScorer:
        """Load a checkpoint folder or hub id.

        Args:
            path: With policy and processor.
            device: Default CUDA where there is one, else CPU.
            max_new_tokens: Longest answer.
        """
        return cls(*load_policy(path, device), max_new_tokens)

    def score(self, video: str | Path | np.ndarray | torch.Tensor) -> QualityScore:
        """Judge one clip.

        Args:
            video: A path, or frames (N, H, W, 3) uint8 RGB.

        Raises:
            ClipError: If a file cannot be read.
        """
        in_memory = not isinstance(video, str | Path)
        clip = self.processor.from_array(video) if in_memory else self.processor.load_clip(video)
        sampling = Sampling(self.max_new_tokens)
        [prediction] = answer_clips(self.policy, self.processor, {"clip": clip}, 0, True, sampling).values()
        parsed = prediction.parsed[0]
        text = prediction.answers[0]
        reasoning = text.partition("<think>")[2].partition("</think>")[0].strip()
        return QualityScore(math.nan if parsed.score is None else parsed.score, parsed.status, reasoning, text)

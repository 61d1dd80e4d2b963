"""The score head: a clip's quality as a number, read from the policy without generating text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.models.internvl.modeling_internvl import (
    InternVLCausalLMOutputWithPast,
    InternVLModelOutputWithPast,
)

if TYPE_CHECKING:
    from vqathinker.policy.streams import VisualStream

FORMS = ("", "visual", "hidden")
"""What a head reads, see `ScoreHead`; "" is no head."""
CENTRE = 3.0
"""What a new head says of any clip, but for its small random weights: the middle of the scale 1-5."""


def check_form(form: str) -> None:
    """Raise `ValueError` if there is no such head."""
    if form not in FORMS:
        raise ValueError(
            f"score_head={form!r}: must be 'visual' (pooled visual tokens, no language model), 'hidden' (the language "
            "model's state at the prompt's last token) or '' (no head)."
        )


class ScoreHead(nn.Module):
    """An MLP of two layers with ReLU between (CP-LLM, arXiv 2505.16025) to scores: 1 (very poor) to 5 (excellent), not
    bounded.

    Of a `visual` head (CP-LLM's) the states are the means of each key frame's visual tokens, and a clip's score is the
    mean over its frames; the paper does not say how it pools. Of a `hidden` head they are the language model's at the
    last token of a prompt. The layer norm before the layers is ours: the scale of either differs between policies.

    Args:
        width: Of the states, the language model's.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, width)
        self.linear_2 = nn.Linear(width, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., D) states to (...) scores, in float32."""
        states = self.layer_norm(states.to(self.layer_norm.weight.dtype))
        return CENTRE + self.linear_2(self.linear_1(states).relu())[..., 0].float()


def clip_scores(
    head: nn.Module, streams: Sequence[VisualStream], tokens: Mapping[str, Sequence[torch.Tensor]]
) -> torch.Tensor:
    """(C,) what a visual head says of clips: the mean over its key frames, of each the mean of its tokens is read.

    Args:
        head: A `ScoreHead`.
        streams: The policy's. What a stream shows of the whole clip (motion) is not read.
        tokens: Stream -> C clips' tokens, (T_i, n, D) of streams that show single frames.
    """
    clips = zip(*(tokens[stream.name] for stream in streams if stream.per_frame), strict=True)
    frames = [torch.cat(clip, dim=1).mean(dim=1) for clip in clips]
    scores = head(torch.cat(frames)).split([len(clip) for clip in frames])
    return torch.stack([clip.mean() for clip in scores])


def what_head_reads(form: str, score_at: torch.Tensor | None, visual: Mapping[str, Any]) -> str:
    """What is read in a pass: "visual", "hidden", or nothing, "", where no scores are asked for.

    Args:
        form: The policy's `score_head`.
        score_at: See `VQAThinkerForConditionalGeneration.forward`.
        visual: What its streams look at.

    Raises:
        ValueError: If scores are asked for and there is no head, or it has no clips to look at.
    """
    if score_at is None:
        return ""
    if not form:
        raise ValueError(
            "score_at asks for scores of a head, but this policy has none: add one with "
            "from_pretrained(..., score_head='hidden') and train it."
        )
    if form == "visual" and not visual:
        raise ValueError("score_at with a visual head, but no clips: pass what the streams look at, see `encode`.")
    return form


@dataclass
class ModelOutput(InternVLModelOutputWithPast):
    """What the inner model gives.

    Attributes:
        scores: (N,) the head's, where asked for.
    """

    scores: torch.Tensor | None = None


@dataclass
class PolicyOutput(InternVLCausalLMOutputWithPast):
    """What the policy gives; `scores` as in `ModelOutput`."""

    scores: torch.Tensor | None = None

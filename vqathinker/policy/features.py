"""What a clip is to the language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import nn

from vqathinker.perturb import FrameMap
from vqathinker.policy.prompts import Prompt, Slot
from vqathinker.policy.streams import VisualStream

if TYPE_CHECKING:
    from vqathinker.policy.clip_input import ClipInput
    from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration


@dataclass(frozen=True)
class ClipFeatures:
    """Encoded clip, in the language model's width D.

    Attributes:
        tokens: Stream -> (T, n, D), n tokens for each of T key frames, or (m, D), the clip's m tokens.
    """

    tokens: dict[str, torch.Tensor]

    def __getitem__(self, stream: str) -> torch.Tensor:
        return self.tokens[stream]

    @property
    def num_frames(self) -> int:
        """T. The first stream shows single frames."""
        return len(next(iter(self.tokens.values())))

    def tokens_at(self, slot: Slot, start: int, count: int) -> torch.Tensor:
        """(count, D) tokens of a slot, which begin at `start` among those of its stream, see `Prompt.starts`.

        Raises:
            ValueError: If there are not as many.
        """
        rows = self.tokens[slot.stream].flatten(0, -2)
        if start + count > len(rows) or (slot.frame is None and count < len(rows)):
            raise ValueError(
                f"{slot} needs {count} tokens from {start} on, but the clip has {len(rows)}: processor and policy "
                "disagree on frames, image size, motion tokens or low-level tokens."
            )
        return rows[start : start + count]

    def perturbed(
        self, frame_map: FrameMap, blanks: Mapping[str, torch.Tensor], whole: Mapping[str, torch.Tensor]
    ) -> ClipFeatures:
        """Features of the perturbed clip: those of single frames re-indexed, only those of the whole clip are new.

        Args:
            frame_map: Map over the T key frames.
            blanks: Stream -> (n, D) tokens of a black frame, shown at blank positions.
            whole: Stream -> (m, D) tokens of the whole perturbed clip.
        """
        return ClipFeatures(
            {
                name: whole[name] if name in whole else frame_map.apply(tokens, blanks.get(name))
                for name, tokens in self.tokens.items()
            }
        )


def tokens_in(prompt: Prompt, clips: Sequence[ClipFeatures]) -> torch.Tensor:
    """(P, D) the clips' tokens in the order of a prompt's placeholders.

    Raises:
        ValueError: If the clips do not fit its slots.
    """
    filled = zip(prompt.slots, prompt.starts, prompt.counts, strict=True)
    return torch.cat([clips[slot.clip].tokens_at(slot, start, count) for slot, start, count in filled])


class FeatureCache:
    """Features of unperturbed clips, each computed once for as long as what computes them is frozen.

    Args:
        policy: Has the streams; what is returned is on its device. What is remembered lies on the CPU.
        trunks: Stream -> modules that compute its features in place of the policy's, see `copied_trunk`.
    """

    def __init__(
        self, policy: VQAThinkerForConditionalGeneration, trunks: Mapping[str, SimpleNamespace] | None = None
    ) -> None:
        self.policy, self.trunks = policy, dict(trunks or {})
        self._known: dict[str, dict[str | None, torch.Tensor]] = {}

    @torch.no_grad()
    def inputs(self, names: Sequence[str | None], clips: Sequence[ClipInput]) -> list[dict[str, torch.Tensor]]:
        """What the policy takes of C clips: features of streams that are frozen, and what the others look at.

        Args:
            names: C names; `None` for a clip that must not be remembered.
            clips: C `ClipInput`.

        Returns:
            C dicts of arguments, see `VQAThinkerForConditionalGeneration.encode`.
        """
        found: list[dict[str, torch.Tensor]] = [{} for _ in clips]
        for stream in self.policy.streams:
            raw = [getattr(clip, stream.takes) for clip in clips]
            frozen = stream.frozen(self.policy.model)
            if not frozen:
                self._known.pop(stream.name, None)
            name = stream.features_name if frozen else stream.takes
            values = self.features(stream, names, raw) if frozen else [one.to(self.policy.device) for one in raw]
            for own, value in zip(found, values, strict=True):
                own[name] = value
        return found

    def features(
        self, stream: VisualStream, names: Sequence[str | None], clips: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """C clips' features of one stream; arguments as `inputs`, but the clips are what the stream takes."""
        device = self.policy.device
        known = self._known.setdefault(stream.name, {}) if stream.remembered else {}
        first = [place if name is None else names.index(name) for place, name in enumerate(names)]
        new = [place for place in sorted(set(first)) if names[place] not in known]
        fresh: dict[int, torch.Tensor] = {}
        if new:
            trunk = self.trunks.get(stream.name, self.policy.model)
            if stream.name in self.trunks:
                for part in stream.trunk:
                    getattr(trunk, part).to(device)
            computed = stream.features(trunk, [clips[place].to(device) for place in new])
            fresh = dict(zip(new, computed, strict=True))
            if stream.remembered:
                known.update({names[i]: value.cpu() for i, value in fresh.items() if names[i] is not None})
        return [fresh[i] if i in fresh else known[name].to(device) for i, name in zip(first, names, strict=True)]


def encoding_parameters(policy: VQAThinkerForConditionalGeneration) -> list[nn.Parameter]:
    """What makes embedded prompts of clips: all but the language model's layers and head, frozen parts too."""
    layers = {id(p) for part in (policy.model.language_model, policy.lm_head) for p in part.parameters()}
    layers -= {id(p) for p in policy.get_input_embeddings().parameters()}
    return [parameter for parameter in policy.parameters() if id(parameter) not in layers]

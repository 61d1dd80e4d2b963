"""What a clip is to the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vqathinker.perturb import FrameMap


@dataclass(frozen=True)
class ClipFeatures:
    """Encoded clip, in the language model's width D.

    Attributes:
        spatial: (T, n, D), n tokens for each of T key frames.
        motion: (m, D), the clip's motion tokens.
    """

    spatial: torch.Tensor
    motion: torch.Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return self.spatial.shape[0]

    @property
    def tokens(self) -> torch.Tensor:
        """(T n + m, D) in the order of the prompt's placeholders: frames, then motion."""
        return torch.cat([self.spatial.flatten(0, 1), self.motion])

    def perturbed(self, frame_map: FrameMap, blank: torch.Tensor, motion: torch.Tensor) -> ClipFeatures:
        """Features of the perturbed clip: spatial ones re-indexed, only motion is new.

        Args:
            frame_map: Map over the T key frames.
            blank: (n, D) features of a black frame, shown at blank positions.
            motion: (m, D) motion tokens of the perturbed clip.
        """
        return ClipFeatures(frame_map.apply(self.spatial, blank), motion)


class MotionCache:
    """Motion features of unperturbed clips, each computed once: the encoder is frozen.

    Args:
        policy: Has `motion_features_of`; features are returned on its device and kept on the CPU.
        encoder: Motion encoder that computes them in place of the policy's; moved to its device.
    """

    def __init__(self, policy: Any, encoder: nn.Module | None = None) -> None:
        self.policy, self.encoder = policy, encoder
        self._known: dict[str, torch.Tensor] = {}

    def get(self, names: Sequence[str | None], motion_frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features of C clips.

        Args:
            names: C names; `None` for a clip that must not be remembered.
            motion_frames: C tensors (T, r, 3, s, s) uint8.

        Returns:
            (C, m, F).
        """
        device = self.policy.device
        new = [place for place, name in enumerate(names) if name not in self._known]
        fresh: dict[int, torch.Tensor] = {}
        if new:
            encoder = None if self.encoder is None else self.encoder.to(device)
            computed = self.policy.motion_features_of([motion_frames[place].to(device) for place in new], encoder)
            fresh = dict(zip(new, computed.cpu(), strict=True))
            self._known.update({names[place]: value for place, value in fresh.items() if names[place] is not None})
        values = [fresh[place] if place in fresh else self._known[name] for place, name in enumerate(names)]
        return torch.stack(values).to(device)

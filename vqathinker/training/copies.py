"""Perturbed copies of a batch's clips, out of what is known of the originals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vqathinker.perturb import FrameMap
from vqathinker.policy import ClipFeatures, ClipInput, VisualStream, VQAThinkerForConditionalGeneration
from vqathinker.training.groups import ClipBatch

Arguments = dict[str, torch.Tensor]
"""What the policy takes of one clip, see `VQAThinkerForConditionalGeneration.encode`."""


def perturbed_copies(
    policy: VQAThinkerForConditionalGeneration,
    batch: ClipBatch,
    clips: Sequence[ClipInput],
    features: Sequence[ClipFeatures],
    maps: Mapping[int, FrameMap],
    blank: ClipInput,
) -> tuple[list[ClipFeatures], list[Arguments]]:
    """Copies of some clips: what shows single frames is re-indexed, only what shows the whole clip is computed anew.

    Args:
        policy: The policy.
        batch: What it sees of C clips; those that are copied are the only ones of their prompts.
        clips: The C decoded clips.
        features: Their C features.
        maps: Place of a clip -> what becomes of its key frames.
        blank: A black clip, of which blank positions show a frame.

    Returns:
        The copies' features, and the policy's arguments for them in the loss, in the order of `maps`.
    """
    if not maps:
        return [], []
    blank_features: Arguments = {}
    blank_tokens: Arguments = {}
    if any(frame_map.blanks for frame_map in maps.values()):
        blank_features, blank_tokens = policy.blanks(blank)
    inputs: list[Arguments] = [{} for _ in maps]
    whole: list[Arguments] = [{} for _ in maps]
    for stream in policy.streams:
        name = stream.features_name
        if stream.per_frame and name in batch.clips[0]:
            values = [m.apply(batch.clips[i][name], blank_features.get(stream.name)) for i, m in maps.items()]
        elif stream.per_frame:
            name, values = stream.takes, _shown(policy, stream, clips, maps)
        else:
            raw = _shown(policy, stream, clips, maps)
            values = stream.features(policy.model, raw)
            for own, tokens in zip(whole, stream.project(policy.model, values), strict=True):
                own[stream.name] = tokens
            name, values = (name, values) if stream.frozen(policy.model) else (stream.takes, raw)
        for own, value in zip(inputs, values, strict=True):
            own[name] = value
    copies = zip(maps.items(), whole, strict=True)
    return [features[i].perturbed(frame_map, blank_tokens, own) for (i, frame_map), own in copies], inputs


def _shown(
    policy: VQAThinkerForConditionalGeneration,
    stream: VisualStream,
    clips: Sequence[ClipInput],
    maps: Mapping[int, FrameMap],
) -> list[torch.Tensor]:
    """What the stream looks at of each copy."""
    return [frame_map.apply(getattr(clips[i], stream.takes)).to(policy.device) for i, frame_map in maps.items()]

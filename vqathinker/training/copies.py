"""Perturbed copies of a batch's clips, out of what is known of the originals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from vqathinker.perturb import FrameMap
from vqathinker.policy import ClipFeatures, ClipInput, VisualStream, VQAThinkerForConditionalGeneration
from vqathinker.training.groups import ClipBatch

Arguments = dict[str, torch.Tensor]
"""What the policy takes of one clip, see `VQAThinkerForConditionalGeneration.encode`."""


def wants_copy(row: Mapping[str, Any], rewards: Sequence[Callable[..., Any]]) -> bool:
    """Whether a reward looks at answers to a perturbed copy of a row's clip. Those that compare what labels pay do not
    where the row is a rung of a ladder without a label: its copy would cost as many answers for nothing."""
    if row.get("ladder") is None or row.get("mos") is not None:
        return True
    asked = {**row, "perturbed_completions": ""}
    return any(
        getattr(reward, "trains_copies", False) or not hasattr(reward, "applies") or reward.applies(asked)
        for reward in rewards
        if getattr(reward, "needs_perturbed", False)
    )


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
    shown = {i: clips[i].moved(frame_map) for i, frame_map in maps.items()}
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
            name, values = stream.takes, _taken(policy, stream, shown.values())
        else:
            raw = _taken(policy, stream, shown.values())
            values = stream.features(policy.model, raw)
            for own, tokens in zip(whole, stream.project(policy.model, values), strict=True):
                own[stream.name] = tokens
            name, values = (name, values) if stream.frozen(policy.model) else (stream.takes, raw)
        for own, value in zip(inputs, values, strict=True):
            own[name] = value
    copies = zip(maps.items(), whole, strict=True)
    return [features[i].perturbed(frame_map, blank_tokens, own) for (i, frame_map), own in copies], inputs


def _taken(
    policy: VQAThinkerForConditionalGeneration, stream: VisualStream, copies: Iterable[ClipInput]
) -> list[torch.Tensor]:
    """What the stream looks at of each copy."""
    return [getattr(copy, stream.takes).to(policy.device) for copy in copies]

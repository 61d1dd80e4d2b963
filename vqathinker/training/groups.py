"""The clips behind a batch of answers: K consecutive rows belong to one clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn import functional as F

from vqathinker.policy import Prompt, token_index
from vqathinker.policy.packed_attention import PackedLayout
from vqathinker.rollout import Completion

T = TypeVar("T")
GROUP_COLUMNS = ("sample_id", "video_id")
"""Where a row names its group: a clip about which several things are asked has several."""


@dataclass(frozen=True)
class ClipBatch:
    """What the policy sees of the clips behind C prompts, one clip each; their lengths may differ.

    Attributes:
        prompts: C prompts.
        clips: C dicts of the policy's arguments, see `VQAThinkerForConditionalGeneration.encode`.
        streams: Names of the policy's visual streams.
    """

    prompts: list[Prompt]
    clips: list[dict[str, torch.Tensor]]
    streams: list[str]

    def __len__(self) -> int:
        return len(self.prompts)

    def inputs(self, part: slice = slice(None)) -> dict[str, Any]:
        """The policy's arguments for some of the clips."""
        visual = {name: [clip[name] for clip in self.clips[part]] for name in self.clips[0]}
        return visual | {"visual_index": token_index(self.prompts[part], self.streams)}

    def split(self, num_chunks: int) -> list[ClipBatch]:
        """Equal parts, in order."""
        size = len(self) // num_chunks
        starts = range(0, len(self), size)
        return [ClipBatch(self.prompts[i : i + size], self.clips[i : i + size], self.streams) for i in starts]


@dataclass(frozen=True)
class AnsweredCopy:
    """A perturbed copy whose answers are trained on.

    Attributes:
        prompt: About it, which may show fewer frames.
        clip: The policy's arguments, as in `ClipBatch`.
        answers: K completions.
    """

    prompt: Prompt
    clip: dict[str, torch.Tensor]
    answers: list[Completion]


def copy_row(row: dict[str, Any]) -> dict[str, Any]:
    """The data set row of a clip's copy: a video of its own without any label, which names its original."""
    name = group_of(row)
    kept = {"prompt": row["prompt"], "task": row.get("task"), "copy_of": name}
    return dict.fromkeys(row) | kept | {key: f"{name} (copy)" for key in GROUP_COLUMNS if key in row}


def group_of(row: Mapping[str, Any]) -> str:
    """Name of the group that a data set row's answers make up."""
    return next(row[key] for key in GROUP_COLUMNS if row.get(key) is not None)


def alternate(first: Sequence[T], second: Sequence[T], size: int) -> list[T]:
    """Groups of `size` entries, one of each list in turn."""
    starts = range(0, len(first), size)
    return [entry for start in starts for part in (first, second) for entry in part[start : start + size]]


def split_groups(batch: dict[str, Any], num_chunks: int) -> list[dict[str, Any]]:
    """Cut a scored generation batch into micro-batches of whole groups.

    Args:
        batch: TRL's dict of tensors with R rows, and `clips`, their `ClipBatch`.
        num_chunks: Micro-batches.

    Returns:
        Dicts of R / num_chunks rows each, with their part of `clips`. Rows keep their order, so groups stay whole.
    """
    from trl.trainer.utils import split_tensor_dict  # all else here works without TRL

    rows = {key: value for key, value in batch.items() if key != "clips"}
    chunks = zip(split_tensor_dict(rows, num_chunks), batch["clips"].split(num_chunks), strict=True)
    return [chunk | {"clips": clips} for chunk, clips in chunks]


def group_slices(num_rows: int, num_clips: int, max_rows: int) -> Iterator[tuple[slice, slice]]:
    """(rows, clips) slices of at most `max_rows` rows, groups whole (at least one group a slice)."""
    per_clip = num_rows // num_clips
    step = max(1, max_rows // per_clip)
    for start in range(0, num_clips, step):
        end = min(start + step, num_clips)
        yield slice(start * per_clip, end * per_clip), slice(start, end)


@dataclass(frozen=True)
class PackedGroups:
    """One row per clip, `[prompt | p c1 | p c2 | ... | p cK]`, so that the prompt is computed once for the K answers.

    `p` is the prompt's last token: each answer has its own copy, from which its first token is predicted. An answer
    sees the prompt and itself only, and its positions go on from the prompt's. Answers follow one another without
    padding: short ones do not cost what the longest does.

    Attributes:
        inputs: `input_ids` (C, S), `position_ids` (C, S), `labels` (C, S) with -100 where nothing is scored, and
            `packed`, the rows' `PackedLayout`.
        places: (C, W) where the last W of the S tokens lie among K x (1 + longest answer).
        shape: (K, longest answer).
    """

    inputs: dict[str, Any]
    places: torch.Tensor
    shape: tuple[int, int]

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """(C, S - 1) values of next-token predictions to (C K, longest answer), 0 where there is no token."""
        (answers, length), width = self.shape, self.places.shape[1]
        known = self.inputs["labels"][:, -width:] != -100
        scored = F.pad(values, (1, 0))[:, -width:].where(known, 0)
        slots = values.new_zeros(len(values), answers * (length + 1)).scatter(1, self.places, scored)
        return slots.unflatten(1, (answers, length + 1))[..., 1:].flatten(0, 1)


def pack_groups(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, num_clips: int, completion_length: int
) -> PackedGroups:
    """Pack TRL's rows `[prompt | completion]`, K consecutive ones per clip.

    Args:
        input_ids: (C K, L) ids; the prompts of one clip are equal.
        attention_mask: (C K, L), 0 = padding, left of prompts and right of completions.
        num_clips: C.
        completion_length: Last columns that belong to the completions.
    """
    answers = len(input_ids) // num_clips
    shared = input_ids.shape[1] - completion_length - 1  # all of the prompt but its last token
    segment = completion_length + 1
    known = attention_mask.bool()

    def tails(rows: torch.Tensor) -> torch.Tensor:
        return rows[:, shared:].reshape(num_clips, answers * segment)

    # What is known first, in its order; then as much padding as the row with most tokens leaves the others.
    places = tails(known).int().sort(dim=1, descending=True, stable=True).indices
    places = places[:, : int(tails(known).sum(1).max())]

    def pack(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[::answers, :shared], tails(rows).gather(1, places)], dim=1)

    labels = input_ids.masked_fill(~known, -100)
    labels[:, : shared + 1] = -100
    inputs = {
        "input_ids": pack(input_ids),
        "position_ids": pack((known.cumsum(1) - 1).clamp(min=0)),
        "labels": pack(labels),
        "packed": _layout(known[::answers, :shared], known[:, shared:], places, num_clips),
    }
    return PackedGroups(inputs, places, (answers, completion_length))


def _layout(prompts: torch.Tensor, tails: torch.Tensor, places: torch.Tensor, num_clips: int) -> PackedLayout:
    """Of prompts (C, P) and answers with the prompt's last token before them (C K, 1 + longest), by known tokens."""
    segment = tails.shape[1]
    longest = int(tails.sum(1).max())
    slot = torch.arange(places.shape[1], device=places.device).expand_as(places)
    found = torch.zeros(num_clips, tails.numel() // num_clips, dtype=torch.long, device=places.device)
    slots = found.scatter(1, places, slot).unflatten(1, (-1, segment))[..., :longest]
    back = places // segment * longest + (places % segment).clamp(max=longest - 1)
    return PackedLayout(prompts, slots, back)

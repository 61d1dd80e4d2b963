"""The clips behind a batch of answers: K consecutive rows belong to one prompt, about one clip or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, takewhile
from typing import Any, TypeVar

import torch

from vqathinker.policy import ClipFeatures, Prompt, VQAThinkerForConditionalGeneration, token_index
from vqathinker.policy.packed_attention import PackedLayout, Segment
from vqathinker.rollout import Completion

T = TypeVar("T")
GROUP_COLUMNS = ("sample_id", "video_id")
"""Where a row names its group: a clip about which several things are asked has several."""


@dataclass(frozen=True)
class Tree:
    """Groups about one clip, or the same ones, whose prompts begin alike.

    Attributes:
        groups: Their numbers in the batch, in order.
        shared: Tokens that their prompts share; of a single group all but the prompt's last token.
    """

    groups: tuple[int, ...]
    shared: int


@dataclass(frozen=True)
class ClipBatch:
    """What the policy sees of the clips behind G prompts; their lengths may differ.

    Attributes:
        prompts: G prompts, each about one clip or several.
        clips: C dicts of the policy's arguments, see `VQAThinkerForConditionalGeneration.encode`, prompt by prompt.
        streams: Names of the policy's visual streams.
        names: C names: prompts about clips of one name see the same; `None` for a clip of its own. Default: all.
        placeholder: Id of the visual placeholder; needed with names.
    """

    prompts: list[Prompt]
    clips: list[dict[str, torch.Tensor]]
    streams: list[str]
    names: list[str | None] | None = None
    placeholder: int | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def places(self) -> list[slice]:
        """Where each prompt's clips are."""
        return clip_places(self.prompts)

    @cached_property
    def trees(self) -> list[Tree]:
        """One for each clip; prompts that differ before their clips' last token have a tree of their own."""
        found: list[Tree] = []
        known = self.names or [None] * len(self.clips)
        names = [known[own] for own in self.places]
        for group, prompt in enumerate(self.prompts):
            alone = Tree((group,), len(prompt.ids) - 1)
            for place, tree in enumerate(found):
                first = self.prompts[tree.groups[0]]
                if None in names[group] or names[group] != names[tree.groups[0]]:
                    continue
                equal = takewhile(lambda pair: pair[0] == pair[1], zip(prompt.ids, first.ids, strict=False))
                shared = min(tree.shared, alone.shared, sum(1 for _ in equal))
                if self.placeholder not in prompt.ids[shared:]:
                    found[place] = Tree((*tree.groups, group), shared)
                    break
            else:
                found.append(alone)
        return found

    def inputs(self, trees: Sequence[Tree] | None = None) -> dict[str, Any]:
        """The policy's arguments for packed rows of some of the clips; default: all."""
        firsts = [tree.groups[0] for tree in (self.trees if trees is None else trees)]
        return self._visual(firsts) | {"visual_index": token_index([self.prompts[i] for i in firsts], self.streams)}

    def repeated(self, groups: Sequence[int], answers: int) -> dict[str, Any]:
        """The policy's arguments for one row per answer of some groups; each group's clips are encoded once."""
        prompts = [self.prompts[i] for i in groups]
        own = token_index(prompts, self.streams).split([sum(prompt.counts) for prompt in prompts])
        return self._visual(groups) | {"visual_index": torch.cat([index for index in own for _ in range(answers)])}

    def _visual(self, groups: Sequence[int]) -> dict[str, Any]:
        """What the policy takes of some groups' clips."""
        clips = [clip for i in groups for clip in self.clips[self.places[i]]]
        return {name: [clip[name] for clip in clips] for name in self.clips[0]}

    def tokens(self, tree: Tree, lengths: Sequence[int]) -> int:
        """Of a packed tree, whose K answers to each group have such `lengths` (G K)."""
        answers = len(lengths) // len(self)
        prompts = sum(len(self.prompts[i].ids) - 1 - tree.shared for i in tree.groups)
        return tree.shared + prompts + sum(1 + lengths[row] for row in rows_of([tree], answers))

    def encode(self, policy: VQAThinkerForConditionalGeneration) -> list[ClipFeatures]:
        """What the language model sees of each of the C clips; those of one name are encoded once."""
        names = self.names or [None] * len(self.clips)
        first = [i if name is None else names.index(name) for i, name in enumerate(names)]
        own = sorted(set(first))
        found = policy.encode(**{name: [self.clips[i][name] for i in own] for name in self.clips[0]})
        return [found[own.index(i)] for i in first]

    def take(self, groups: Sequence[int]) -> ClipBatch:
        """Some of the groups."""
        names = [name for i in groups for name in self.names[self.places[i]]] if self.names else None
        clips = [clip for i in groups for clip in self.clips[self.places[i]]]
        return replace(self, prompts=[self.prompts[i] for i in groups], clips=clips, names=names)

    def with_copies(self, copies: Mapping[int, AnsweredCopy]) -> ClipBatch:
        """Behind each group that of its perturbed copy; where there is none, the group once more keeps its place."""
        known, prompts = self.names or [None] * len(self.clips), []
        clips: list[dict[str, torch.Tensor]] = []
        names: list[str | None] = []
        for group, (prompt, own) in enumerate(zip(self.prompts, self.places, strict=True)):
            copy = copies.get(group)
            behind = self.clips[own] if copy is None else [copy.clip]
            prompts += [prompt, prompt if copy is None else copy.prompt]
            clips += [*self.clips[own], *behind]
            names += [*known[own], *[None] * len(behind)]
        return replace(self, prompts=prompts, clips=clips, names=names)


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


def clip_places(prompts: Sequence[Prompt]) -> list[slice]:
    """Where each prompt's clips are in a list of the clips of all, prompt by prompt."""
    ends = accumulate(prompt.num_clips for prompt in prompts)
    return [slice(end - prompt.num_clips, end) for end, prompt in zip(ends, prompts, strict=True)]


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


def rows_of(trees: Sequence[Tree], answers: int) -> list[int]:
    """The rows of some trees' groups, K consecutive ones per group, in order."""
    groups = sorted(group for tree in trees for group in tree.groups)
    return [group * answers + answer for group in groups for answer in range(answers)]


def take_groups(batch: dict[str, Any], groups: Sequence[int]) -> dict[str, Any]:
    """Some groups of a scored batch.

    Args:
        batch: TRL's dict of tensors with R rows, or of the whole batch, and `clips`, the rows' `ClipBatch`.
        groups: Which, in order.

    Returns:
        Their rows and clips; what is of the whole batch is handed on.
    """
    size, clips = len(batch["completion_ids"]), batch["clips"]
    answers = size // len(clips)
    rows = [group * answers + answer for group in groups for answer in range(answers)]
    found = {
        key: value[rows] if isinstance(value, torch.Tensor) and value.dim() and len(value) == size else value
        for key, value in batch.items()
    }
    return found | {"clips": clips.take(groups)}


def split_groups(batch: dict[str, Any], num_chunks: int) -> list[dict[str, Any]]:
    """Cut a scored generation batch into micro-batches of whole groups, in order."""
    size = len(batch["clips"]) // num_chunks
    return [take_groups(batch, range(chunk * size, (chunk + 1) * size)) for chunk in range(num_chunks)]


@dataclass(frozen=True)
class PackedGroups:
    """One row `[prompt | p c1 | p c2 | ... | p cK | prompt of the next group | ...]` without any padding, so that a
    prompt is computed once for its K answers.

    `p` is the prompt's last token: each answer has its own copy, from which its first token is predicted. An answer
    sees its prompt and itself only, and its positions go on from the prompt's. Prompts about one clip share what they
    begin with.

    Attributes:
        inputs: `input_ids` (1, S), `position_ids` (1, S), `packed`, the row's `PackedLayout`, and `keep` (N,), the
            tokens that the answers' tokens are predicted from.
        targets: (1, N) these tokens; -100 in place of none at all.
        rows: The R answers' numbers in the batch, in order.
        known: (R, longest) where the answers have tokens.
        starts: Where each answer's copy of the prompt's last token stands in the row.
    """

    inputs: dict[str, Any]
    targets: torch.Tensor
    rows: list[int]
    known: torch.Tensor
    starts: list[int]

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """(1, N) values of the predictions to (R, longest), 0 where there is no token."""
        return values.new_zeros(self.known.shape).masked_scatter(self.known, values[0])


def pack_groups(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_groups: int,
    completion_length: int,
    trees: Sequence[Tree] | None = None,
) -> PackedGroups:
    """Pack TRL's rows `[prompt | completion]`, K consecutive ones per group.

    Args:
        input_ids: (G K, L) ids; the prompts of one group are equal.
        attention_mask: (G K, L), 0 = padding, left of prompts and right of completions.
        num_groups: G.
        completion_length: Last columns that belong to the completions.
        trees: What is packed, see `ClipBatch.trees`; default: every group, about a clip of its own.
    """
    limit, answers = input_ids.shape[1] - completion_length, len(input_ids) // num_groups
    known = attention_mask.bool()
    before, after = known[:, :limit].sum(1).tolist(), known[:, limit:].sum(1).tolist()
    row = _Row(input_ids.shape[1], limit)
    for tree in trees or [Tree((i,), before[i * answers] - 1) for i in range(num_groups)]:
        first = tree.groups[0] * answers
        with row.segment(first, -before[first], tree.shared, 0):
            for group in tree.groups:
                first = group * answers
                last = before[first] - 1
                with row.segment(first, tree.shared - before[first], last - tree.shared, tree.shared):
                    for answer in range(first, first + answers):
                        row.answer(answer, 1 + after[answer], last)
    device, rows = input_ids.device, sorted(row.starts)
    known = torch.arange(completion_length) < torch.tensor([after[i] for i in rows])[:, None]
    keep = (torch.tensor([row.starts[i] for i in rows])[:, None] + torch.arange(completion_length))[known]
    ids = input_ids.flatten()[torch.cat(row.takes).to(device)][None]
    targets = ids[:, (keep + 1).to(device)]
    if not len(keep):  # a pass must have something to go back through
        keep, targets = torch.zeros(1, dtype=torch.long), ids.new_full((1, 1), -100)
    inputs = {
        "input_ids": ids,
        "position_ids": torch.cat(row.positions).to(device)[None],
        "packed": PackedLayout(tuple(sorted(row.segments, key=lambda segment: segment.start))),
        "keep": keep.to(device),
    }
    return PackedGroups(inputs, targets, rows, known.to(device), [row.starts[i] for i in rows])


@dataclass(frozen=True)
class SingleRows:
    """One row per answer, as TRL has them, for models that do not read packed ones.

    Attributes:
        inputs: `input_ids`, `attention_mask` and `position_ids`, all (R, S), and `keep` (longest,).
        targets: (R, longest) the answers' tokens, -100 where there are none.
        rows: The R answers' numbers in the batch, in order.
        starts: Where the last token of each one's prompt stands, numbered through the rows.
    """

    inputs: dict[str, Any]
    targets: torch.Tensor
    rows: list[int]
    starts: list[int]

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """(R, longest) values of the predictions, 0 where there is no token."""
        return values.where(self.targets != -100, 0)


def single_rows(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int, rows: Sequence[int]
) -> SingleRows:
    """TRL's rows; arguments as `pack_groups`, and the rows that are taken."""
    ids, known = input_ids[rows], attention_mask[rows].bool()
    inputs = {
        "input_ids": ids,
        "attention_mask": known.long(),
        "position_ids": (known.cumsum(1) - 1).clamp(min=0),
        "keep": torch.arange(ids.shape[1] - completion_length - 1, ids.shape[1] - 1, device=ids.device),
    }
    targets = ids.masked_fill(~known, -100)[:, -completion_length:]
    starts = [(row + 1) * ids.shape[1] - completion_length - 1 for row in range(len(ids))]
    return SingleRows(inputs, targets, list(rows), starts)


def rows_about(
    clips: ClipBatch,
    trees: Sequence[Tree],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_length: int,
    packs: bool,
) -> tuple[PackedGroups | SingleRows, dict[str, Any]]:
    """TRL's rows about some of the clips as the policy reads them, packed or not, and what it sees beside them.

    Arguments as in `pack_groups`; `clips` are those behind all rows.
    """
    if packs:
        return pack_groups(input_ids, attention_mask, len(clips), completion_length, trees), clips.inputs(trees)
    answers = len(input_ids) // len(clips)
    rows = rows_of(trees, answers)
    seen = clips.repeated([row // answers for row in rows[::answers]], answers)
    return single_rows(input_ids, attention_mask, completion_length, rows), seen


def head_places(
    form: str, rows: PackedGroups | SingleRows, trees: Sequence[Tree], prompts: Sequence[Prompt]
) -> list[int]:
    """What a score head reads of each group, in order, see `score_at` of the policy's `forward`. A visual head reads
    the first clip of a prompt about several.

    Args:
        form: The head's.
        rows: Of all these trees.
        trees: As they were given to `rows_about`.
        prompts: Of all groups, by number.
    """
    groups = sorted(group for tree in trees for group in tree.groups)
    if form == "hidden":  # the first answer's copy of the prompt's last token, which sees the prompt only
        return rows.starts[:: len(rows.rows) // len(groups)]
    if isinstance(rows, SingleRows):  # each group has its own clips
        return [place.start for place in clip_places([prompts[group] for group in groups])]
    places = clip_places([prompts[tree.groups[0]] for tree in trees])  # a tree's clips are there once
    first = {group: place.start for tree, place in zip(trees, places, strict=True) for group in tree.groups}
    return [first[group] for group in groups]


class _Row:
    """A packed row while it is put together: which ids it takes, and where.

    Args:
        width: Columns of the rows that it takes from.
        limit: Columns of their prompts.
    """

    def __init__(self, width: int, limit: int) -> None:
        self.width, self.limit, self.length = width, limit, 0
        self.takes: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []
        self.segments: list[Segment] = []
        self.starts: dict[int, int] = {}

    @contextmanager
    def segment(self, row: int, column: int, count: int, position: int) -> Iterator[None]:
        """Take `count` ids of a row, from so many columns behind (or before) its prompt's end; what is taken inside of
        the `with` goes on from them."""
        start = self.length
        first = row * self.width + self.limit + column
        self.takes.append(torch.arange(first, first + count))
        self.positions.append(torch.arange(position, position + count))
        self.length += count
        yield
        if count:
            self.segments.append(Segment(start, start + count, self.length))

    def answer(self, row: int, count: int, position: int) -> None:
        """Take the prompt's last id and a row's completion."""
        self.starts[row] = self.length
        with self.segment(row, -1, count, position):
            pass

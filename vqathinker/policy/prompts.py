"""The prompt: which text and which visual tokens the language model reads, and in which order.

A prompt is a list of parts, texts and slots. It is the only statement of their order. The published styles are kept to
the letter: trained weights expect them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from vqathinker.policy.clip_input import ClipLength
from vqathinker.policy.streams import Sizes, VisualStream

QUESTION = (
    "You are doing the video quality assessment task. Here is the question: What is your overall rating on the "
    "quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
    "representing very poor quality and 5 representing excellent quality."
)
INSTRUCTION = (
    "First output the thinking process in <think> </think> tags and then output the final answer in "
    "<answer> </answer> tags."
)
INTRODUCTION = "Now you will receive a video:"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
"""How the clips of a prompt that shows several are called, in what introduces them and in questions about them."""
STYLES = ("train", "test")
"""`"train"`: line breaks between the parts. `"test"`: none (published test script)."""


@dataclass(frozen=True)
class Slot:
    """Where visual tokens go.

    Attributes:
        stream: Name of the visual stream that gives them.
        clip: Which clip of the prompt, from 0.
        frame: Which of its key frames, from 0; `None` for all of the clip's tokens.
    """

    stream: str
    clip: int = 0
    frame: int | None = None


Part = str | Slot
Line = list[Part]


def introduced(clip: int, clips: int) -> str:
    """What stands before a clip.

    Args:
        clip: Its number in the prompt, from 0.
        clips: How many the prompt shows; a single one is introduced as published.
    """
    if clips == 1:
        return INTRODUCTION
    name = f"the {ORDINALS[clip]} video" if clip < len(ORDINALS) else f"video {clip + 1}"
    return f"Now you will receive {name}:"


def motion_last(
    num_frames: int, streams: Sequence[VisualStream], style: str, clip: int = 0, clips: int = 1
) -> list[Line]:
    """Frame by frame what shows single frames, then what shows the whole clip (published).

    Args:
        num_frames: Key frames T.
        streams: The policy's.
        style: One of `STYLES`.
        clip: Number of the clip in the prompt.
        clips: How many the prompt shows.
    """
    space = " " if style == "test" else ""
    lines = _frame_lines(num_frames, [stream for stream in streams if stream.per_frame], space, clip)
    whole = [stream for stream in streams if not stream.per_frame]
    ends: list[Line] = [[f"{s.label}:{space}", Slot(s.name, clip)] for s in whole]
    return [[introduced(clip, clips)], *lines, *ends]


def interleaved(
    num_frames: int, streams: Sequence[VisualStream], style: str, clip: int = 0, clips: int = 1
) -> list[Line]:
    """Frame by frame all that belongs to it: the tokens of the whole clip are dealt out to the frames in order, those
    of single motion frames to the key frame before them.

    Arguments as in `motion_last`.
    """
    space = " " if style == "test" else ""
    return [[introduced(clip, clips)], *_frame_lines(num_frames, streams, space, clip)]


LAYOUTS: dict[str, Callable[..., list[Line]]] = {"motion_last": motion_last, "interleaved": interleaved}
"""Name -> order of a clip's tokens."""


def _frame_lines(num_frames: int, streams: Sequence[VisualStream], space: str, clip: int) -> list[Line]:
    """Each frame's slots; a stream without a label goes on with the line of the one before."""
    lines: list[Line] = []
    for frame in range(num_frames):
        for stream in streams:
            if stream.label:
                lines.append([f"{stream.label}{frame + 1}:{space}"])
            lines[-1].append(Slot(stream.name, clip, frame))
    return lines


def instructed(question: str, style: str = "train") -> str:
    """A question with the instruction on the answer's format."""
    return f"{question}{' ' if style == 'train' else ''}{INSTRUCTION}"


def joined(lines: Sequence[Line], style: str) -> list[Part]:
    """Lines to parts, with what the style puts between them."""
    parts: list[Part] = []
    for number, line in enumerate(lines):
        parts += ["\n"] if number and style == "train" else []
        parts += line
    return parts


def written(parts: Sequence[Part], shown: Callable[[Slot], str]) -> str:
    """Parts as one text.

    Args:
        parts: Texts and slots.
        shown: What is written for a slot.
    """
    return "".join(part if isinstance(part, str) else shown(part) for part in parts)


@dataclass(frozen=True)
class Prompt:
    """A tokenised prompt.

    Attributes:
        ids: L token ids, with one placeholder for each visual token.
        slots: What fills the placeholders, in order.
        counts: Visual tokens of each slot.
    """

    ids: tuple[int, ...]
    slots: tuple[Slot, ...]
    counts: tuple[int, ...]

    @property
    def num_clips(self) -> int:
        """How many clips it shows."""
        return 1 + max(slot.clip for slot in self.slots)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each slot's tokens begin among those of its stream and clip, which go frame by frame."""
        ends: dict[tuple[str, int], int] = {}
        starts = [0] * len(self.slots)
        for place in sorted(range(len(self.slots)), key=lambda place: self.slots[place].frame or 0):
            key = (self.slots[place].stream, self.slots[place].clip)
            starts[place] = ends.get(key, 0)
            ends[key] = starts[place] + self.counts[place]
        return tuple(starts)


def token_index(prompts: Sequence[Prompt], streams: Sequence[str]) -> torch.Tensor:
    """Which visual token stands at which placeholder of a batch.

    Args:
        prompts: B prompts.
        streams: Names of the policy's streams, in its order.

    Returns:
        (P,) int64: for the P placeholders, prompt by prompt, the row of a table that holds the tokens stream by stream,
        then prompt by prompt, clip by clip and frame by frame.
    """
    sizes: dict[tuple[int, int, int], int] = {}  # every token is shown once
    for row, prompt in enumerate(prompts):
        for slot, count in zip(prompt.slots, prompt.counts, strict=True):
            key = (streams.index(slot.stream), row, slot.clip)
            sizes[key] = sizes.get(key, 0) + count
    starts, total = {}, 0
    for key in sorted(sizes):
        starts[key] = total
        total += sizes[key]
    index = []
    for row, prompt in enumerate(prompts):
        for slot, own, count in zip(prompt.slots, prompt.starts, prompt.counts, strict=True):
            start = starts[streams.index(slot.stream), row, slot.clip] + own
            index.append(torch.arange(start, start + count))
    return torch.cat(index)


def slot_tokens(slot: Slot, stream: VisualStream, sizes: Sizes, length: ClipLength) -> int:
    """Tokens of a slot.

    Args:
        slot: Of a prompt.
        stream: Gives them.
        sizes: The policy's or its processor's.
        length: Of the slot's clip.

    Raises:
        ValueError: If a whole clip's tokens cannot be dealt out evenly to its frames.
    """
    if slot.frame is None:
        return stream.clip_tokens(sizes, length)
    return stream.frame_tokens(sizes, length)[slot.frame]

"""Parts of a file as clips of their own: what windows over a long clip show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vqathinker.clips import ClipError, fit_frames, timed_indices, uniform_indices
from vqathinker.policy.clip_input import ClipInput, clip_of
from vqathinker.policy.processing import VQAThinkerProcessor

if TYPE_CHECKING:
    from vqathinker.clips import Clip

Span = tuple[int, int]
"""First frame of a part, and the one behind its last."""


def load_spans(
    processor: VQAThinkerProcessor, clip: Clip, spans: Sequence[Span]
) -> Iterator[tuple[ClipInput | None, str]]:
    """Parts of an open file, one after another. Each is seen as a file of just its frames would be: its key frames are
    spread over it, and nothing outside it is shown.

    The file is read once, and no more pictures are held than the parts that overlap need, those for the motion encoder
    alone at its size.

    Args:
        processor: Samples and resizes.
        clip: The file.
        spans: Parts of at least one frame each, whose first and last frames never go back.

    Yields:
        A part, whose `indices` count from the beginning of the file, and ""; or `None` and why it cannot be read.
        Behind a frame that does not decode no part can be read.

    Raises:
        ValueError: If a part has no frames or lies outside the file, or they are in another order.
    """
    _check(clip, spans)
    keys = [_keys(processor, clip, span) for span in spans]
    shown = [
        first + np.unique(np.concatenate([own, processor._motion(own, stop - first)[0].ravel()]))
        for own, (first, stop) in zip(keys, spans, strict=True)
    ]
    wanted = sorted({number for own in shown for number in own.tolist()})
    pictures = zip(wanted, clip.pictures(wanted), strict=True)
    whole = {first + key for own, (first, _) in zip(keys, spans, strict=True) for key in own.tolist()}
    held: dict[int, np.ndarray] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    broken = ""
    for span, own, needed in zip(spans, keys, shown, strict=True):
        held = {number: picture for number, picture in held.items() if number >= span[0]}
        try:
            while not broken and needed[-1] not in held:
                number, picture = next(pictures)
                shapes[number] = picture.shape[1::-1]
                held[number] = picture if number in whole else _for_motion(processor, picture)
        except ClipError as error:
            broken = error.reason
        sizes = sorted({shapes[number] for number in needed.tolist()}) if not broken else []
        if len(sizes) > 1 or broken:
            yield None, broken or f"the frame size changes: {sizes}"
        else:
            yield _part(processor, clip, span, own, held), ""


def _for_motion(processor: VQAThinkerProcessor, picture: np.ndarray) -> np.ndarray:
    """(s, s, 3) what the motion encoder sees of a frame; to fit it once more changes nothing."""
    return fit_frames(picture[None], processor.motion_image_size, processor.fit)[0].transpose(1, 2, 0)


def _part(
    processor: VQAThinkerProcessor, clip: Clip, span: Span, keys: np.ndarray, held: Mapping[int, np.ndarray]
) -> ClipInput:
    first, stop = span

    def fetch(places: Sequence[int]) -> Iterator[np.ndarray]:
        return (held[first + place] for place in places)

    part = clip_of(processor._arrays(keys, stop - first, fetch, clip))
    return replace(part, indices=part.indices + first)


def _keys(processor: VQAThinkerProcessor, clip: Clip, span: Span) -> np.ndarray:
    """(T,) key frames of a part, counted from its first."""
    first, stop = span
    if processor.sampling == "time":
        return timed_indices(clip.times[first:stop], clip.rate, processor.num_frames)
    return uniform_indices(stop - first, processor.num_frames)


def _check(clip: Clip, spans: Sequence[Span]) -> None:
    ordered = all(one <= other for ends in zip(*spans, strict=True) for one, other in pairwise(ends))
    if not ordered or not all(0 <= first < stop <= clip.num_frames for first, stop in spans):
        raise ValueError(
            f"spans={list(spans)!r:.120}: each must hold frames of the {clip.num_frames} of {clip.path!r}, and neither "
            "their first nor their last frames may go back."
        )

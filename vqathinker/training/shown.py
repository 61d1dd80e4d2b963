"""The decoded clips that the prompts of a batch show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqathinker.data import ClipLoader
from vqathinker.messages import videos_in
from vqathinker.policy import ClipInput, Prompt, VQAThinkerProcessor
from vqathinker.training.groups import clip_places


@dataclass(frozen=True)
class ShownClips:
    """What is known of the clips before the policy looks at them.

    Attributes:
        prompts: R prompts about so many key frames as their clips have.
        readable: R times whether all of a prompt's clips could be read.
        names: C paths, prompt by prompt as they show them; `None` for an unreadable clip.
        clips: C clips; a blank one in the place of an unreadable one.
    """

    prompts: list[Prompt]
    readable: list[bool]
    names: list[str | None]
    clips: list[ClipInput]

    def take(self, rows: Sequence[int]) -> ShownClips:
        """What some of the rows show."""
        places = clip_places(self.prompts)
        return ShownClips(
            [self.prompts[i] for i in rows],
            [self.readable[i] for i in rows],
            [name for i in rows for name in self.names[places[i]]],
            [clip for i in rows for clip in self.clips[places[i]]],
        )


def show_clips(
    rows: Sequence[Mapping[str, Any]], loader: ClipLoader[ClipInput], processor: VQAThinkerProcessor
) -> ShownClips:
    """Decode the clips of some rows of a data set.

    An unreadable clip keeps its place, so that every process sees the same shapes.

    Args:
        rows: R rows, see `vqathinker.tasks.sample_dataset`.
        loader: Decodes.
        processor: The policy's.

    Raises:
        ClipError: As the loader's `get`.
    """
    shown = ShownClips([], [], [], [])
    for row in rows:
        videos = videos_in(row["prompt"])
        loaded = [loader.get(video) for video in videos]
        clips = [processor.blank_clip() if clip is None else clip for clip in loaded]
        shown.prompts.append(processor.render(row["prompt"], [clip.length for clip in clips]))
        shown.readable.append(all(clip is not None for clip in loaded))
        shown.names.extend(None if clip is None else video for video, clip in zip(videos, loaded, strict=True))
        shown.clips.extend(clips)
    return shown

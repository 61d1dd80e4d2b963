"""`VQAThinkerProcessor`: from video files to what the policy takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from vqathinker.clips import (
    PATCH_BOX,
    SAMPLINGS,
    FrameCache,
    Seen,
    clip_bytes,
    cut_patches,
    fit_frames,
    fit_name,
    place_patches,
    run_indices,
    seen_of,
    timed_indices,
    uniform_indices,
)
from vqathinker.messages import blocks_of, user_prompt
from vqathinker.policy.clip_input import CLIP_FRAMES, ClipInput, ClipLength, clip_length, clip_of, whole_clip
from vqathinker.policy.configuration import VQAThinkerConfig, with_low_level
from vqathinker.policy.prompts import LAYOUTS, QUESTION, STYLES, Prompt, instructed, token_index
from vqathinker.policy.rendering import render_prompt
from vqathinker.policy.streams import find_streams, streams_of
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.clips import Clip

logger = logging.getLogger(__name__)
MAX_PROMPTS = 4096
"""Tokenised prompts that are remembered."""


class VQAThinkerProcessor(ProcessorMixin):
    """Samples, resizes and tokenises.

    Args:
        tokenizer: With the special tokens `start_image_token`, `end_image_token` and `context_image_token`, as InternVL
            tokenizers have them, and a chat template (its own or `chat_template`).
        num_frames: Key frames per clip T (paper: 6 in training, 12 in inference).
        image_size: Side of the key frames S in pixels (paper: 448 in training, 560 in inference).
        patch_size: Of the vision tower.
        downsample_ratio: Of the pixel shuffle.
        motion_tokens: Motion tokens m per clip.
        motion_image_size: Side of the motion encoder's frames s in pixels.
        motion_run_length: Frames per key frame for the motion encoder r.
        motion_max_frames: Most frames of a clip for a motion encoder that gives a token for each of them, from the
            first frame on; 0: it sees runs.
        low_tokens: Low-level tokens per key frame; without any no patches are cut.
        low_patches: Most patches K of a key frame.
        low_patch_size: Their side p in pixels.
        low_box: Short and long side of the box that frames are fitted into before, in pixels (CP-LLM: 540, 1080).
        fit: How frames become squares, see `fit_frames`, or the view of that name.
        sampling: `"number"`: key frames evenly spaced by frame number (published). `"time"`: evenly spaced in time,
            which differs for files of variable frame rate; frames in memory count as of constant rate.
        prompt_style: `"train"` or `"test"`, see `prompts`.
        question: The question about a clip that comes with none: how good is it?
        streams: Names of the policy's visual streams, see `vqathinker.policy.STREAMS`; `"motion"` and `"low"` count
            where there are such tokens.
        layout: Order of a clip's tokens, one of `prompts.LAYOUTS`: `"motion_last"` (published) or `"interleaved"`.
        chat_template: Jinja template; default the tokenizer's.

    Attributes:
        changes: Name of a setting that is another than the checkpoint's -> (the checkpoint's, now), see
            `load_processor`. Not saved: what is trained with these settings is a checkpoint of its own.

    Raises:
        ValueError: If `image_size` is not a multiple of `patch_size / downsample_ratio`, a name is unknown, or a number
            of the low-level stream is out of range.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        num_frames: int = 6,
        image_size: int = 448,
        patch_size: int = 14,
        downsample_ratio: float = 0.5,
        motion_tokens: int = 1,
        motion_image_size: int = 224,
        motion_run_length: int = 1,
        fit: str = "stretch",
        sampling: str = "number",
        prompt_style: str = "train",
        question: str = QUESTION,
        chat_template: str | None = None,
        streams: Sequence[str] = ("spatial", "motion"),
        layout: str = "motion_last",
        low_tokens: int = 0,
        low_patches: int = 8,
        low_patch_size: int = 224,
        low_box: Sequence[int] = PATCH_BOX,
        motion_max_frames: int = 0,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames}: a clip needs at least 1 key frame.")
        if image_size < 1 or image_size % round(patch_size / downsample_ratio):
            raise ValueError(
                f"image_size={image_size}: must be a multiple of patch_size / downsample_ratio = "
                f"{round(patch_size / downsample_ratio)}."
            )
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling={sampling!r}: must be one of {SAMPLINGS}.")
        if prompt_style not in STYLES:
            raise ValueError(f"prompt_style={prompt_style!r}: must be one of {STYLES}.")
        if layout not in LAYOUTS:
            raise ValueError(f"layout={layout!r}: must be one of {tuple(LAYOUTS)}.")
        if low_tokens < 0 or min(low_patches, low_patch_size, *low_box) < 1 or len(low_box) != 2:
            raise ValueError(
                f"low_tokens={low_tokens}, low_patches={low_patches}, low_patch_size={low_patch_size}, low_box="
                f"{list(low_box)}: tokens must be >= 0, the others at least 1, and the box has a short and a long side."
            )
        streams = with_low_level(streams, low_tokens)
        find_streams(streams)
        self.num_frames, self.image_size, self.fit = num_frames, image_size, fit_name(fit)
        self.patch_size, self.downsample_ratio = patch_size, downsample_ratio
        self.motion_tokens, self.motion_image_size = motion_tokens, motion_image_size
        self.motion_run_length, self.sampling = motion_run_length, sampling
        self.motion_max_frames = motion_max_frames
        self.prompt_style, self.question = prompt_style, question
        self.streams, self.layout = streams, layout
        self.low_tokens, self.low_patches = low_tokens, low_patches
        self.low_patch_size, self.low_box = low_patch_size, list(low_box)
        self.changes: dict[str, tuple[Any, Any]] = {}
        tokenizer.padding_side = "left"
        self._cache: FrameCache | None = None
        self._prompts: dict[tuple, Prompt] = {}

    @classmethod
    def for_config(
        cls, tokenizer: PreTrainedTokenizerBase, config: VQAThinkerConfig, **kwargs: Any
    ) -> VQAThinkerProcessor:
        """A processor whose sizes follow a policy's configuration.

        Args:
            tokenizer: See the class.
            config: The policy's configuration.
            kwargs: Further arguments of the class, which win.
        """
        sizes = {
            "image_size": config.vision_config.image_size[0],
            "patch_size": config.vision_config.patch_size[0],
            "downsample_ratio": config.downsample_ratio,
            "motion_tokens": config.motion_tokens,
            "motion_image_size": config.motion_config.image_size,
            "motion_run_length": config.motion_run_length,
            "motion_max_frames": config.motion_max_frames,
            "streams": list(config.streams),
        }
        if config.low_tokens:
            size = config.low_config.image_size
            sizes |= {"low_tokens": config.low_tokens, "low_patches": config.low_patches, "low_patch_size": size}
        return cls(tokenizer, **(sizes | kwargs))

    @classmethod
    def from_internvl(cls, path: str | Path, config: VQAThinkerConfig) -> VQAThinkerProcessor:
        """The processor for a policy made from an HF-format InternVL3 checkpoint: its tokenizer and chat template.

        Args:
            path: Checkpoint folder or hub id.
            config: The policy's configuration.
        """
        tokenizer = AutoTokenizer.from_pretrained(path)
        return cls.for_config(tokenizer, config, chat_template=tokenizer.chat_template)

    @property
    def clip_bytes(self) -> int:
        """Bytes of a decoded clip, which is what the frame cache keeps of it; of whole clips those of `CLIP_FRAMES`."""
        patches = (self.low_patches, self.low_patch_size) if self.cuts_patches else ()
        motion = min(self.motion_max_frames, CLIP_FRAMES) or self.num_frames * self.motion_run_length
        return clip_bytes(self.num_frames, self.image_size, motion, self.motion_image_size, *patches)

    @property
    def cuts_patches(self) -> bool:
        """Whether any stream looks at patches."""
        return any(stream.takes == "patches" for stream in streams_of(self))

    def seen(self, width: int, height: int) -> Seen:
        """What the policy sees of frames of that many pixels, by the stream of squares that sees most; then patches."""
        sizes = {"frames": self.image_size, "motion_frames": self.motion_image_size}
        size = max(sizes.get(stream.takes, 0) for stream in streams_of(self))
        seen = seen_of(width, height, size, self.fit)
        if not self.cuts_patches:
            return seen
        place = place_patches(width, height, self.low_patch_size, self.low_patches, self.low_box)
        side, fitted = f"{self.low_patch_size}x{self.low_patch_size}", f"{place.width}x{place.height}"
        shrunk = "" if (place.width, place.height) == (width, height) else f" at {fitted}"
        return replace(
            seen, text=f"{seen.text}, and {counted(len(place.corners), 'patch', 'patches')} of {side}{shrunk}"
        )

    def use_cache(self, folder: str | Path | None, max_gib: float | None = None, clips: int | None = None) -> None:
        """Keep decoded frames, losslessly, see `FrameCache`.

        Args:
            folder: Where; `None` or `""` turns it off.
            max_gib: Cap in GiB, > 0; default: what the disk has.
            clips: How many clips are to come: what they take is then told in one logged line.

        Raises:
            ValueError: If the cap is not above 0.
        """
        if max_gib is not None and max_gib <= 0:
            raise ValueError(f"frame_cache_gib={max_gib}: must be above 0; for no cache leave frame_cache empty.")
        cap = None if max_gib is None else int(max_gib * 2**30)
        self._cache = FrameCache(folder, cap) if folder is not None and str(folder).strip() else None
        if self._cache is not None and clips is not None:
            # As a warning, since lower levels are not shown by default and this must be seen.
            logger.warning("%s", self._cache.forecast(clips, self.clip_bytes))

    def load_clip(self, video: str | Path) -> ClipInput:
        """Decode a file.

        Raises:
            ClipError: If it cannot be read.
        """
        from vqathinker.clips import READING, open_clip  # need PyAV, which the policy does without

        def make() -> dict[str, np.ndarray]:
            clip = open_clip(video)
            return self._arrays(self._keys(clip, clip.num_frames), clip.num_frames, clip.same_size, clip)

        sizes = (self.num_frames, self.image_size, self.motion_image_size, self.motion_run_length, self.fit)
        whole = (f"whole {self.motion_max_frames}",) if self.motion_max_frames else ()
        cut = (f"patches {self.low_patches} {self.low_patch_size} {self.low_box}",) if self.cuts_patches else ()
        settings = "|".join(map(str, [READING, *sizes, self.sampling, *whole, *cut]))
        return clip_of(make() if self._cache is None else self._cache.get(video, settings, make))

    def load_copies(self, video: str | Path, orders: Mapping[str, Callable[[int], np.ndarray]]) -> dict[str, ClipInput]:
        """Decode a file once, for several clips made of its frames.

        Args:
            video: The file.
            orders: Name -> function from the file's number of frames to the indices of those that the clip shows.

        Returns:
            Name -> clip.

        Raises:
            ClipError: If it cannot be read.
        """
        from vqathinker.clips import open_clip

        clip = open_clip(video)
        shown = {name: order(clip.num_frames) for name, order in orders.items()}
        keys = {name: self._keys(clip, len(index)) for name, index in shown.items()}
        seen = {name: (keys[name], self._motion(keys[name], len(index))[0].ravel()) for name, index in shown.items()}
        needed = np.unique(np.concatenate([shown[name][np.concatenate(own)] for name, own in seen.items()]))
        frames = clip.frames(needed)

        def copy(name: str, index: np.ndarray) -> ClipInput:
            def fetch(places: Sequence[int]) -> Iterator[np.ndarray]:
                return (frames[np.searchsorted(needed, index[place])] for place in places)

            return clip_of(self._arrays(keys[name], len(index), fetch, clip))

        return {name: copy(name, index) for name, index in shown.items()}

    def from_array(self, frames: np.ndarray | torch.Tensor) -> ClipInput:
        """A clip already in memory: (N, H, W, 3) uint8, all its frames in order.

        Raises:
            ValueError: If it is anything else.
        """
        frames = np.asarray(frames.cpu() if isinstance(frames, torch.Tensor) else frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise ValueError(
                f"the clip has shape {frames.shape} and dtype {frames.dtype}: give N >= 1 RGB frames (N, H, W, 3) "
                "uint8, or a path."
            )
        keys = uniform_indices(len(frames), self.num_frames)
        return clip_of(self._arrays(keys, len(frames), lambda places: (frames[place] for place in places)))

    def blank_clip(self) -> ClipInput:
        """A black clip of the right shape, to hold the place of one that cannot be read; it is T frames long."""
        size, side = self.image_size, self.low_patch_size
        runs, counts = self._motion(np.arange(self.num_frames), self.num_frames)
        return ClipInput(
            torch.zeros(self.num_frames, 3, size, size, dtype=torch.uint8),
            torch.zeros(*runs.shape, 3, *[self.motion_image_size] * 2, dtype=torch.uint8),
            torch.full((self.num_frames,), -1),
            # one is enough: the mean over several black ones is the same
            patches=torch.zeros(self.num_frames, 1, 3, side, side, dtype=torch.uint8) if self.cuts_patches else None,
            motion_counts=counts,
        )

    def _keys(self, clip: Clip, num_frames: int) -> np.ndarray:
        """(T,) key frames of what shows `num_frames` frames at the times of the file's first ones."""
        if self.sampling == "time" and num_frames <= clip.num_frames:
            return timed_indices(clip.times[:num_frames], clip.rate, self.num_frames)
        return uniform_indices(num_frames, self.num_frames)

    def _motion(self, keys: np.ndarray, num_frames: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """What the motion encoder sees: (T, r) the run around each key frame, which holds it; or (N,) frames of the
        whole clip, and how many belong to each key frame."""
        if self.motion_max_frames:
            return whole_clip(keys, num_frames, self.motion_max_frames)
        return run_indices(keys, num_frames, self.motion_run_length), ()

    def _arrays(
        self,
        keys: np.ndarray,
        num_frames: int,
        fetch: Callable[[Sequence[int]], Iterable[np.ndarray]],
        clip: Clip | None = None,
    ) -> dict[str, np.ndarray]:
        """What is kept of a clip; `fetch` gives its frames at ascending, different indices, one by one."""
        runs, counts = self._motion(keys, num_frames)
        needed, inverse = np.unique(np.concatenate([keys, runs.ravel()]), return_inverse=True)
        first, shown, small = np.isin(needed, keys), [], []
        for picture, is_key in zip(fetch(needed.tolist()), first, strict=True):  # one pass over the file for both
            small.append(fit_frames(picture[None], self.motion_image_size, self.fit))
            if is_key:  # only of these all pixels are kept
                shown.append(picture)
        raw = np.stack(shown)[np.cumsum(first)[inverse[: len(keys)]] - 1]
        cut = {}
        if self.cuts_patches:
            cut["patches"] = cut_patches(raw, self.low_patch_size, self.low_patches, self.low_box)
        if counts:
            cut["motion_counts"] = np.array(counts)
        return {
            "frames": fit_frames(raw, self.image_size, self.fit),
            "motion_frames": np.concatenate(small)[inverse[len(keys) :]].reshape(*runs.shape, *small[0].shape[1:]),
            "indices": keys,
            "notes": np.array(self._notes(raw, num_frames, clip), dtype=str),
            **cut,
        }

    def _notes(self, raw: np.ndarray, num_frames: int, clip: Clip | None) -> tuple[str, ...]:
        """What was done to a clip's frames, and what of them is not seen."""
        seen = self.seen(raw.shape[2], raw.shape[1])
        notes = (() if clip is None else clip.notes) + ((seen.text,) if seen.altered else ())
        if self.motion_max_frames and num_frames > self.motion_max_frames:
            notes += (f"sees motion in the first {self.motion_max_frames} of {num_frames} frames",)
        return notes

    def messages(self, video: str | None = None, question: str | None = None, system: str = "") -> list[dict[str, Any]]:
        """A conversational prompt about one clip, as data sets hold it.

        Args:
            video: The clip's path; `None` for one that is in memory.
            question: Default the processor's own.
            system: A system message; "" for the chat template's own.
        """
        text = instructed(self.question if question is None else question, self.prompt_style)
        return user_prompt([video], text, system)

    def render(
        self, messages: Sequence[Mapping[str, Any]] | None = None, frames: Sequence[int | ClipLength] | None = None
    ) -> Prompt:
        """A conversational prompt to token ids and slots.

        Args:
            messages: With as many video blocks as there are clips, see `messages`; default the processor's question.
            frames: Length of each clip, see `ClipInput.length`; where the motion encoder does not see whole clips, the
                number of its key frames will do. Default the processor's number of them, of the longest clip.

        Raises:
            ValueError: If a block is neither text nor video, there are not as many clips as video blocks, a length is
                unknown, or a text holds the placeholder of visual tokens.
        """
        messages = self.messages() if messages is None else messages
        blocks = [(message["role"], blocks_of(message)) for message in messages]
        videos = sum(block["type"] == "video" for _, content in blocks for block in content)
        lengths = (self.longest(),) * videos if frames is None else tuple(self._length(own) for own in frames)
        if len(lengths) != videos:
            raise ValueError(
                f"the prompt shows {counted(videos, 'clip')}, but {len(lengths)} came with it: give one per video "
                "block."
            )
        texts = tuple((role, *(block.get("text") for block in content)) for role, content in blocks)
        tokens = (self.motion_tokens, self.motion_max_frames, self.low_tokens)
        settings = (self.image_size, *tokens, self.prompt_style, self.layout, *self.streams)
        key = (texts, lengths, *settings)
        if key not in self._prompts:
            if len(self._prompts) >= MAX_PROMPTS:
                self._prompts.clear()
            self._prompts[key] = render_prompt(self, blocks, lengths)
        return self._prompts[key]

    def longest(self, num_frames: int | None = None) -> ClipLength:
        """Length of the longest clip, with `num_frames` key frames (default: the processor's number of them)."""
        return clip_length(num_frames or self.num_frames, self.motion_max_frames, self.motion_max_frames)

    def _length(self, length: int | ClipLength) -> ClipLength:
        own = ClipLength(length) if isinstance(length, int) else length
        if len(own.motion) != (own.frames if self.motion_max_frames else 0):
            raise ValueError(
                f"a clip of length {length} with motion_max_frames={self.motion_max_frames}: with one motion token for "
                "each frame it must be known how many belong to each key frame, else none are. Give the clip's length "
                "(`ClipInput.length`)."
            )
        return own

    def prompt_ids(self, num_frames: int | None = None) -> tuple[int, ...]:
        """Token ids of the processor's own question about the longest clip of `num_frames` key frames (default: its
        own)."""
        return self.render(frames=[self.longest(num_frames)]).ids

    def index_of(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """`visual_index` of a batch, see `VQAThinkerForConditionalGeneration.forward`."""
        return token_index(prompts, self.streams)

    def __call__(self, videos: Sequence[str | Path | np.ndarray | torch.Tensor], **kwargs: Any) -> BatchFeature:
        """Prompts and pixels for a batch of clips.

        Args:
            videos: Paths, or arrays (N, H, W, 3) uint8.

        Returns:
            `input_ids` and `attention_mask` (B, L), padded left, `visual_index` (P,), and what the streams look at:
            `frames` (B, T, 3, S, S), `motion_frames` (B, T, r, 3, s, s) or (B, N, 3, s, s), `patches`
            (B, T, K', 3, p, p), a list of B tensors where clips have different numbers of them.

        Raises:
            ClipError: If a file cannot be read.
        """
        clips = [self.load_clip(v) if isinstance(v, str | Path) else self.from_array(v) for v in videos]
        prompts = [self.render(frames=[clip.length]) for clip in clips]
        ids = [torch.tensor(prompt.ids) for prompt in prompts]
        left: dict[str, Any] = {"batch_first": True, "padding_side": "left"}
        taken = dict.fromkeys(stream.takes for stream in streams_of(self))
        return BatchFeature(
            {
                "input_ids": pad_sequence(ids, padding_value=self.tokenizer.pad_token_id, **left),
                "attention_mask": pad_sequence([torch.ones_like(own) for own in ids], **left),
                "visual_index": self.index_of(prompts),
                **{name: _stacked([getattr(clip, name) for clip in clips]) for name in taken},
            }
        )


def _stacked(clips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return torch.stack(clips) if len({clip.shape for clip in clips}) == 1 else clips

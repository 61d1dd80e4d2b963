"""Visual streams: what the language model sees of a clip, and which parts of the policy make it.

A stream takes one array of a decoded clip to features by its trunk, and these to tokens by its head. Caches, freezing,
placeholders, blank frames and budgets go over all streams of a policy; none of them knows a stream by name.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled

from vqathinker.policy.clip_input import ClipLength, clip_length
from vqathinker.policy.motion import FrameProjector, MotionEncoder, MotionProjector

if TYPE_CHECKING:
    from vqathinker.policy.configuration import VQAThinkerConfig
    from vqathinker.policy.inner_model import VQAThinkerModel
    from vqathinker.policy.processing import VQAThinkerProcessor


class Sizes(Protocol):
    """What of a processor decides how many tokens a clip gives; see `VQAThinkerProcessor`."""

    image_size: int
    patch_size: int
    downsample_ratio: float
    motion_tokens: int
    motion_max_frames: int
    low_tokens: int


class VisualStream(ABC):
    """One way to look at a clip. Subclass it, and put an instance into `STREAMS`.

    Attributes:
        name: Its key in `ClipFeatures`, `Slot.stream` and `VQAThinkerConfig.streams`.
        label: What the prompt writes before its tokens; "" of a stream whose tokens for a frame stand right behind
            those of the stream before.
        takes: The field of `ClipInput` that it looks at, (T, ...) uint8; `motion_frames` may be (N, ...).
        per_frame: Whether it gives tokens for each key frame, which a perturbed copy shows in another order; else it
            gives some for the whole clip, which are computed anew for a copy.
        trunk: Modules of the policy that make its features. While none of them is trained, features can be kept.
        head: Modules that make tokens of them.
        fixed: Those of its modules that a run trains only where it says so (`unfreeze`).
        remembered: Keep the features of every clip for a whole run, on the CPU; else for a generation batch.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    takes: ClassVar[str]
    per_frame: ClassVar[bool]
    trunk: ClassVar[tuple[str, ...]] = ()
    head: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()
    remembered: ClassVar[bool] = False

    @property
    def features_name(self) -> str:
        """The policy's argument for its features."""
        return f"{self.name}_features"

    def build(self, config: VQAThinkerConfig) -> dict[str, nn.Module]:
        """Its modules that InternVL does not have, by name: attributes of the policy's inner model."""
        return {}

    def shown(self, sizes: Sizes) -> bool:
        """Whether it gives any tokens.

        Args:
            sizes: The policy's configuration or its processor.
        """
        return True

    @abstractmethod
    def tokens(self, sizes: Sizes) -> int:
        """Tokens per frame, or per clip where it is not `per_frame`."""

    def clip_tokens(self, sizes: Sizes, length: ClipLength) -> int:
        """Tokens of a whole clip of a length."""
        return self.tokens(sizes) * (length.frames if self.per_frame else 1)

    def frame_tokens(self, sizes: Sizes, length: ClipLength) -> Sequence[int]:
        """Tokens that stand with each of the T key frames of a clip, in a layout that deals them out.

        Raises:
            ValueError: If the tokens of the whole clip are no multiple of T.
        """
        count, frames = self.tokens(sizes), length.frames
        if self.per_frame:
            return [count] * frames
        if count % frames:
            raise ValueError(
                f"layout='interleaved' with {count} tokens of the stream {self.name!r} and {frames} key frames: the "
                f"tokens must be a multiple of the frames, e.g. motion_tokens={frames}."
            )
        return [count // frames] * frames

    @abstractmethod
    def features(self, model: VQAThinkerModel | SimpleNamespace, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the trunk makes of C clips.

        Args:
            model: The policy's inner model, or what has its trunk's modules and `config`.
            clips: C tensors (T_i, ...) uint8; the T_i may differ.

        Returns:
            C tensors, (T_i, n, F) or, for the whole clip, (m, F).
        """

    def project(self, model: VQAThinkerModel | SimpleNamespace, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the head makes of C clips' features.

        Args:
            model: As in `features`.
            features: C tensors, see `features`.

        Returns:
            C tensors of tokens of the language model's width D, (T_i, n, D) or (m, D).
        """
        return list(features)

    def frozen(self, model: nn.Module) -> bool:
        """Whether nothing of its trunk is trained."""
        parts = [getattr(model, part) for part in self.trunk]
        return not any(parameter.requires_grad for part in parts for parameter in part.parameters())


class KeyFrames(VisualStream):
    """InternViT and InternVL's projector: n tokens for each key frame."""

    name, label, takes, per_frame = "spatial", "Frame", "frames", True
    trunk = ("vision_tower", "multi_modal_projector")

    def tokens(self, sizes: Sizes) -> int:
        """n of one frame: 256 at 448 px, 400 at 560 px."""
        return round(sizes.image_size // sizes.patch_size * sizes.downsample_ratio) ** 2

    def features(self, model: VQAThinkerModel | SimpleNamespace, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """As `VisualStream.features`; all frames run together."""
        return list(model.frame_features(torch.cat(list(clips))).split([len(clip) for clip in clips]))


class Motion(VisualStream):
    """SlowFast and its projector: m tokens for the whole clip; or its fast pathway alone and one token for each of the
    clip's frames, see `MotionConfig.pathway`."""

    name, label, takes, per_frame = "motion", "Motion Feature", "motion_frames", False
    trunk, head = ("motion_encoder",), ("motion_projector",)
    fixed, remembered = ("motion_encoder",), True

    def build(self, config: VQAThinkerConfig) -> dict[str, nn.Module]:
        """SlowFast, with random weights until some are loaded, and the projector."""
        widths, most = (config.motion_config.feature_size, config.text_config.hidden_size), config.motion_max_frames
        return {
            "motion_encoder": MotionEncoder(config.motion_config),
            "motion_projector": FrameProjector(*widths, most) if most else MotionProjector(*widths),
        }

    def shown(self, sizes: Sizes) -> bool:
        """Not without motion tokens."""
        return sizes.motion_tokens > 0

    def tokens(self, sizes: Sizes) -> int:
        """m; of a token for each frame, those of the longest clip."""
        return sizes.motion_max_frames or sizes.motion_tokens

    def clip_tokens(self, sizes: Sizes, length: ClipLength) -> int:
        """m, or one for each motion frame."""
        return sum(length.motion) if sizes.motion_max_frames else sizes.motion_tokens

    def frame_tokens(self, sizes: Sizes, length: ClipLength) -> Sequence[int]:
        """The m tokens dealt out evenly, or those of the frames from each key frame to the next one."""
        return length.motion if sizes.motion_max_frames else super().frame_tokens(sizes, length)

    def features(self, model: VQAThinkerModel | SimpleNamespace, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """As `VisualStream.features`; clips of equal length run together, of whole clips no more frames at a time than
        the longest one may have."""
        most = model.config.motion_max_frames
        lengths: dict[int, list[int]] = {}
        for place, clip in enumerate(clips):
            lengths.setdefault(len(clip), []).append(place)
        found: dict[int, torch.Tensor] = {}
        for length, places in lengths.items():
            step = max(1, most // length) if most else len(places)
            for part in (places[i : i + step] for i in range(0, len(places), step)):
                frames = torch.stack([clips[i] for i in part])
                frames = frames if most else frames.flatten(1, 2)  # the runs one after another
                found.update(zip(part, model.motion_encoder(frames, model.config.motion_tokens), strict=True))
        return [found[place] for place in range(len(clips))]

    def project(self, model: VQAThinkerModel | SimpleNamespace, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(m, F) to (m, D); one call for all clips, as under ZeRO-3 each is a collective."""
        projector = model.motion_projector
        dtype = projector.linear_1.weight.dtype
        if not model.config.motion_max_frames:
            return list(projector(torch.stack(list(features)).to(dtype)))
        lengths = [len(own) for own in features]
        places = torch.cat([torch.arange(length, device=features[0].device) for length in lengths])
        return list(projector(torch.cat(list(features)).to(dtype), places).split(lengths))


STREAMS: dict[str, VisualStream] = {stream.name: stream for stream in (KeyFrames(), Motion())}
"""Name -> stream. A policy has those that `VQAThinkerConfig.streams` names, in that order."""


def find_streams(names: Sequence[str]) -> tuple[VisualStream, ...]:
    """The streams of these names.

    Raises:
        ValueError: If a name is unknown or repeated, stands for a stream of another name, or the first stream does not
            look at single frames.
    """
    unknown = [name for name in names if name not in STREAMS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(
            f"streams={list(names)}: must be different names from {list(STREAMS)}; put your own stream into "
            "vqathinker.policy.STREAMS before loading the policy."
        )
    for name in names:
        if isinstance(STREAMS[name], type) or STREAMS[name].name != name:
            raise ValueError(
                f"STREAMS[{name!r}] is {STREAMS[name]!r}: it must be an instance of a VisualStream whose name is "
                f"{name!r}. Write STREAMS[stream.name] = stream."
            )
    streams = tuple(STREAMS[name] for name in names)
    if not streams or not streams[0].per_frame or not streams[0].label:
        raise ValueError(
            f"streams={list(names)}: the first one must look at single frames and have a label, as 'spatial' does."
        )
    if unnamed := [stream.name for stream in streams if not (stream.label or stream.per_frame)]:
        raise ValueError(f"streams={list(names)}: {unnamed} look at whole clips, so they need a label.")
    return streams


def streams_of(sizes: VQAThinkerConfig | VQAThinkerProcessor) -> tuple[VisualStream, ...]:
    """The streams that a policy's configuration, or its processor, names, without those that give no tokens."""
    return tuple(stream for stream in find_streams(sizes.streams) if stream.shown(sizes))


def visual_tokens(
    config: VQAThinkerConfig, num_frames: int, image_size: int | None = None, clip_frames: int | None = None
) -> int:
    """Tokens that a policy's streams give of a clip.

    Args:
        config: The policy's.
        num_frames: Key frames T.
        image_size: Their side in pixels; default the vision tower's.
        clip_frames: Frames of the clip, which count with motion tokens per frame; default those of the longest one.
    """
    most = config.motion_max_frames
    sizes = SimpleNamespace(
        image_size=image_size or config.vision_config.image_size[0],
        patch_size=config.vision_config.patch_size[0],
        downsample_ratio=config.downsample_ratio,
        motion_tokens=config.motion_tokens,
        motion_max_frames=most,
        low_tokens=config.low_tokens,
    )
    length = clip_length(num_frames, clip_frames or most, most)
    return sum(stream.clip_tokens(sizes, length) for stream in streams_of(config))


def copied_trunk(model: nn.Module, stream: VisualStream) -> SimpleNamespace:
    """A stream's trunk once more, whole where ZeRO-3 shares the policy's weights out (collective there).

    Returns:
        What `VisualStream.features` takes in place of the model.
    """
    modules = {name: getattr(model, name) for name in stream.trunk}
    if not is_deepspeed_zero3_enabled():
        return SimpleNamespace(config=model.config, **copy.deepcopy(modules))
    import deepspeed

    with deepspeed.zero.GatheredParameters([p for module in modules.values() for p in module.parameters()]):
        return SimpleNamespace(config=model.config, **copy.deepcopy(modules))

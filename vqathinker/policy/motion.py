"""The motion branch: SlowFast and the projector into the language model's width."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD, MotionConfig

KINETICS_MEAN, KINETICS_STD = 0.45, 0.225
NUM_STAGES = 5
"""pytorchvideo blocks 0-4: stem and four residual stages. Block 5 onwards is the classifier's head."""
POOL_WINDOWS = ((8, 7, 7), (32, 7, 7))
"""Frames, rows and columns of the windows that pytorchvideo's head averages with stride 1, slow path first."""


def _create_slowfast() -> Callable[..., Any]:
    """pytorchvideo's builder. It imports torchvision for a detection head that SlowFast never uses; where torchvision
    is missing, a stand-in takes its place during that one import."""
    if importlib.util.find_spec("torchvision") is not None or "pytorchvideo.models.slowfast" in sys.modules:
        from pytorchvideo.models.slowfast import create_slowfast

        return create_slowfast
    stub, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    vars(ops)["RoIAlign"], vars(stub)["ops"] = nn.Identity, ops
    sys.modules.update({"torchvision": stub, "torchvision.ops": ops})
    try:
        from pytorchvideo.models.slowfast import create_slowfast
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]
    return create_slowfast


def slow_indices(num_frames: int, rule: str) -> torch.Tensor:
    """Which of T frames the slow path sees: ceil(T/4) of them, see `MotionConfig.slow_sampling`."""
    count = (num_frames + 3) // 4
    if rule == "linspace":
        return torch.linspace(0, num_frames - 1, count).long()
    return torch.arange(count) * num_frames // count


class MotionEncoder(nn.Module):
    """SlowFast without its head. Not trained unless its weights are told to be, see the policy's `unfreeze`.

    Args:
        config: Architecture; weights are random until `load_pytorchvideo` or a checkpoint fills them.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        slowfast = _create_slowfast()(
            model_depth=config.model_depth,
            stem_dim_outs=tuple(config.stem_dim_outs),
            slowfast_channel_reduction_ratio=(config.channel_reduction_ratio,),
            head=None,
        )
        self.blocks = nn.ModuleList(list(slowfast.blocks)[:NUM_STAGES])
        self.requires_grad_(False)
        self.eval()
        for module in self.modules():
            # pytorchvideo's own initialisation stays
            module._is_hf_initialized = True  # type: ignore[assignment]  # a mark that transformers looks for

    def train(self, mode: bool = True) -> MotionEncoder:
        """Stays in eval mode, where it is trained too: a micro-batch has a few clips, whose mean and variance are no
        estimate of a set's, and differ from process to process and from what scoring one clip would use. Batch norm
        keeps its running statistics; its scales and shifts are weights like others."""
        return super().train(False)

    def forward(self, frames: torch.Tensor, tokens: int) -> torch.Tensor:
        """Motion features; with gradients only where its weights are trained.

        Args:
            frames: (C, N, 3, s, s) uint8, N consecutive input frames of C clips.
            tokens: Time segments m that each pathway is averaged over.

        Returns:
            (C, m, F), slow channels first.
        """
        video = self._normalize(frames).transpose(1, 2)  # (C, 3, N, s, s)
        slow = video[:, :, slow_indices(video.shape[2], self.config.slow_sampling).to(video.device)]
        pathways = [slow, video]
        for block in self.blocks:
            pathways = block(pathways)
        if self.config.pooling == "windows":
            pathways = self._windows(pathways)
        pooled = [F.adaptive_avg_pool3d(pathway, (tokens, 1, 1)).flatten(2) for pathway in pathways]
        return torch.cat(pooled, dim=1).transpose(1, 2)

    def _normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """(..., 3, s, s) uint8 to the encoder's dtype."""
        dtype = next(self.parameters()).dtype
        if self.config.normalization == "kinetics":
            return (frames.to(dtype) / 255 - KINETICS_MEAN) / KINETICS_STD
        mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1)
        return ((frames.float() / 255 - mean) / std).to(dtype)

    def _windows(self, pathways: list[torch.Tensor]) -> list[torch.Tensor]:
        """Window averages (C, c, t', h', w') of both pathways (C, c, t, h, w)."""
        # The fewest repeats, but at least 4, that fill the windows: 6 at 6 frames and 4 at 12, as published. Repeating
        # comes after the blocks, so the lateral connections see the frames once.
        repeats = max(4, -(-POOL_WINDOWS[1][0] // pathways[1].shape[2]))
        return [  # in float32, as GPUs do inside: CPUs cannot in bfloat16
            F.avg_pool3d(pathway.float().repeat_interleave(repeats, dim=2), window, stride=1).to(pathway.dtype)
            for pathway, window in zip(pathways, POOL_WINDOWS, strict=True)
        ]

    def load_pytorchvideo(self, path: str | Path) -> None:
        """Load a pytorchvideo SlowFast checkpoint (`SLOWFAST_8x8_R50.pyth`), without its head.

        Args:
            path: File with a state dict, bare or under `"model_state"`; read with `weights_only=True`.

        Raises:
            ValueError: If a weight is missing, unknown or of another shape, or the file holds no weights.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            raise ValueError(
                f"{str(path)!r} is not a weight file ({str(error).splitlines()[0]}): download it again."
            ) from error
        state = state.get("model_state", state)
        own = self.state_dict()
        state = {k: v for k, v in state.items() if k.startswith("blocks.") and int(k.split(".")[1]) < NUM_STAGES}
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
        if missing or unknown or shapes:
            raise ValueError(
                f"{str(path)!r} does not fit model_depth={self.config.model_depth}, "
                f"stem_dim_outs={self.config.stem_dim_outs}: of {len(own)} weights {len(missing)} are missing "
                f"({missing[:3]}) and {len(shapes)} have another shape ({shapes[:3]}), and {len(unknown)} are unknown "
                f"({unknown[:3]}). Set motion_config to match the file."
            )
        self.load_state_dict(state)


class MotionProjector(nn.Module):
    """LayerNorm, Linear, GELU, Linear: from F motion channels to the language model's width D.

    Args:
        in_features: F.
        out_features: D.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(in_features)
        self.linear_1 = nn.Linear(in_features, out_features)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(out_features, out_features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(..., F) -> (..., D)."""
        return self.linear_2(self.act(self.linear_1(self.layer_norm(features))))

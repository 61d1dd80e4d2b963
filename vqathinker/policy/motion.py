"""The motion branch: SlowFast and the projector into the language model's width."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD, MotionConfig
from vqathinker.policy.weight_files import read_weights

PLAIN = {"kinetics": (0.45, 0.225), "siglip": (0.5, 0.5)}
"""Normalisation -> mean and standard deviation of all three colours."""
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
        if config.pathway == "fast":  # what is left keeps its names
            for block in list(slowfast.blocks)[:NUM_STAGES]:
                block.multipathway_blocks[0] = block.multipathway_fusion = None
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
            (C, m, F), slow channels first; of the fast pathway alone (C, N, F).
        """
        video = self._normalize(frames).transpose(1, 2)  # (C, 3, N, s, s)
        if self.config.pathway == "fast":
            for block in self.blocks:
                _, video = block([None, video])
            return video.mean((3, 4)).transpose(1, 2)
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
        if self.config.normalization in PLAIN:
            center, spread = PLAIN[self.config.normalization]
            return (frames.to(dtype) / 255 - center) / spread
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
        self.load_blocks(state.get("model_state", state), path)

    def load_blocks(self, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
        """Load weights by pytorchvideo's names; those of the head, and of the slow pathway where there is none, are
        left out.

        Args:
            state: Name -> weight; other names are left out too.
            path: Where they are from, for messages.

        Raises:
            ValueError: As `load_pytorchvideo`.
        """
        own = self.state_dict()
        state = {k: v for k, v in state.items() if k.startswith("blocks.") and int(k.split(".")[1]) < NUM_STAGES}
        if self.config.pathway == "fast":
            state = {k: v for k, v in state.items() if ".multipathway_blocks.1." in k}
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


class FrameProjector(nn.Module):
    """Learned positions, Linear, GELU, Linear (VQA²): from F motion channels of each frame to D.

    Args:
        in_features: F.
        out_features: D.
        max_frames: Rows of the positions.
    """

    def __init__(self, in_features: int, out_features: int, max_frames: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(max_frames, in_features)
        self.linear_1 = nn.Linear(in_features, out_features)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(out_features, out_features)

    def forward(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """(N, F) features of frames and (N,) their numbers in their clips -> (N, D)."""
        return self.linear_2(self.act(self.linear_1(features + self.positions(places))))


VQA2_MOTION: dict[str, Any] = {"pathway": "fast", "image_size": 384, "normalization": "siglip"}
"""VQA²'s settings of `MotionConfig`; its code shows the encoder the frames of the vision tower."""
VQA2_BLOCKS = "model.slowfast.feature_extraction."
"""What VQA²'s code calls the encoder's `blocks.`."""
VQA2_PROJECTOR = {
    "positions.weight": "model.slowfast.position_embedding.weight",
    "linear_1.weight": "model.slowfast_projector.0.weight",
    "linear_1.bias": "model.slowfast_projector.0.bias",
    "linear_2.weight": "model.slowfast_projector.2.weight",
    "linear_2.bias": "model.slowfast_projector.2.bias",
}
"""`FrameProjector`'s weights and what VQA²'s code calls them; its MLP has no norm."""


def load_motion(branch: Mapping[str, nn.Module], path: str | Path) -> None:
    """Load a motion branch's first weights.

    Args:
        branch: `motion_encoder`, and `motion_projector`, which stays as it is unless there are weights for it.
        path: pytorchvideo's file (`SLOWFAST_8x8_R50.pyth`), or the folder of a VQA² checkpoint, which has weights of
            encoder, positions and projector; nothing else of it is used.

    Raises:
        ValueError: If they do not fit.
    """
    encoder, projector = branch["motion_encoder"], branch["motion_projector"]
    assert isinstance(encoder, MotionEncoder)
    if not Path(path).is_dir():
        return encoder.load_pytorchvideo(path)
    if not isinstance(projector, FrameProjector):
        raise ValueError(
            f"{str(path)!r} is a folder, as of VQA² checkpoints, whose motion branch has one token for each frame: set "
            "motion_config.pathway to 'fast' (`--motion-tokens per_frame`), or name pytorchvideo's file."
        )
    weights = read_weights(Path(path))
    if absent := [name for name in VQA2_PROJECTOR.values() if name not in weights]:
        raise ValueError(f"{str(path)!r} lacks {absent}: name the folder of a VQA² checkpoint, or pytorchvideo's file.")
    encoder.load_blocks({name.replace(VQA2_BLOCKS, "blocks."): own for name, own in weights.items()}, path)
    state = {own: weights[name] for own, name in VQA2_PROJECTOR.items()}
    wrong = {
        name: (tuple(state[name].shape), tuple(own.shape))
        for name, own in projector.state_dict().items()
        if own.shape != state[name].shape
    }
    if wrong:
        raise ValueError(
            f"{str(path)!r} has weights of another shape than the policy's (theirs, ours): {wrong}. VQA²'s fit "
            "language models of width 3584 (InternVL3-8B) and max_frames=2000; for others name pytorchvideo's file."
        )
    projector.load_state_dict(state)

"""A trained checkpoint, ready to judge clips."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor

from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import VQAThinkerProcessor


def load_policy(
    path: str | Path, device: str | None = None, num_frames: int | None = None, image_size: int | None = None
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Policy in eval mode and its processor.

    Args:
        path: Checkpoint folder or hub id; weights keep their dtype.
        device: Default CUDA where there is one, else CPU.
        num_frames: Key frames per clip; default the checkpoint's.
        image_size: Side of the key frames in pixels; default the checkpoint's.

    Raises:
        FileNotFoundError: If the path is a local one (not `namespace/name`) and does not exist.
    """
    if not Path(path).is_dir() and (Path(path).is_absolute() or len(Path(path).parts) != 2):
        raise FileNotFoundError(f"no checkpoint folder at {str(path)!r}: train one (`make demo`), or give a hub id.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(path, dtype="auto").to(device).eval()
    sizes = {"num_frames": num_frames, "image_size": image_size}
    return policy, AutoProcessor.from_pretrained(path, **{k: v for k, v in sizes.items() if v is not None})

"""A trained checkpoint, ready to judge clips."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor

from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import VQAThinkerProcessor


def check_checkpoint(path: str | Path) -> None:
    """Raise FileNotFoundError for a folder that is not there, before the hub is asked for it.

    Args:
        path: Checkpoint folder, or hub id `namespace/name`, whose namespace is no folder here.
    """
    path = Path(path)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) != 2 or Path(path.parts[0]).is_dir()):
        raise FileNotFoundError(f"no checkpoint folder at {str(path)!r}: give one (`make demo` makes one) or a hub id.")


def load_policy(
    path: str | Path,
    device: str | None = None,
    num_frames: int | None = None,
    image_size: int | None = None,
    frame_sampling: str | None = None,
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Policy in eval mode and its processor.

    Args:
        path: Checkpoint folder or hub id; weights keep their dtype. Or an adapter's folder, see
            `vqathinker.policy.adapters`.
        device: Default CUDA where there is one, else CPU.
        num_frames: Key frames per clip; default the checkpoint's.
        image_size: Side of the key frames in pixels; default the checkpoint's.
        frame_sampling: `"number"` or `"time"`, see `VQAThinkerProcessor`; default the checkpoint's.

    Raises:
        FileNotFoundError: See `check_checkpoint`.
        IncompleteCheckpoint: If a weight is missing, left over or of another shape.
    """
    check_checkpoint(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(path, dtype="auto").to(device).eval()
    looks = {"num_frames": num_frames, "image_size": image_size, "sampling": frame_sampling}
    return policy, AutoProcessor.from_pretrained(path, **{k: v for k, v in looks.items() if v is not None})

"""A trained checkpoint, ready to judge clips, and what it is shown and asked otherwise than in training."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor

from vqathinker.clips import VIEWS, fit_name
from vqathinker.places import check_checkpoint
from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import VQAThinkerProcessor


def load_policy(
    path: str | Path,
    device: str | None = None,
    num_frames: int | None = None,
    image_size: int | None = None,
    frame_sampling: str | None = None,
    view: str | None = None,
    question: str | None = None,
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Policy in eval mode and its processor.

    Args:
        path: Checkpoint folder or hub id; weights keep their dtype. Or an adapter's folder, see
            `vqathinker.policy.adapters`.
        device: Default CUDA where there is one, else CPU.
        num_frames: See `load_processor`, as the others below.
        image_size: In pixels.
        frame_sampling: `"number"` or `"time"`.
        view: `"resize"` or `"center_crop"`.
        question: For scores.

    Raises:
        FileNotFoundError: See `check_checkpoint`.
        IncompleteCheckpoint: If a weight is missing, left over or of another shape.
        ValueError: See `load_processor`.
    """
    check_checkpoint(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(path, dtype="auto").to(device).eval()
    return policy, load_processor(path, num_frames, image_size, frame_sampling, view, question)


def load_processor(
    path: str | Path,
    num_frames: int | None = None,
    image_size: int | None = None,
    frame_sampling: str | None = None,
    view: str | None = None,
    question: str | None = None,
) -> VQAThinkerProcessor:
    """The processor of a checkpoint, to train or to score with; what is `None` is the checkpoint's.

    Args:
        path: Checkpoint folder or hub id.
        num_frames: Key frames per clip T.
        image_size: Side of the key frames in pixels; the vision tower's positions are interpolated for it.
        frame_sampling: `"number"` or `"time"`, see `VQAThinkerProcessor`.
        view: `"resize"`: whole frames, resized; `"center_crop"`: their central pixels, see `fit_frames`.
        question: What is asked where a score is wanted, not blank.

    Returns:
        The processor; `changes` holds what is another than the checkpoint's.

    Raises:
        ValueError: If a value is none of these.
    """
    saved = AutoProcessor.from_pretrained(path)
    if question is not None and not question.strip():
        raise ValueError(f"question={question!r}: write the question, or leave it out for the checkpoint's.")
    looks = {"num_frames": num_frames, "image_size": image_size, "sampling": frame_sampling, "question": question}
    looks |= {"fit": None if view is None else fit_name(view)}
    known = {name: getattr(saved, name) for name in looks}
    changes = {name: (known[name], new) for name, new in looks.items() if new not in (None, known[name])}
    if not changes:
        return saved
    new = {name: value for name, (_, value) in changes.items()}
    processor = type(saved).from_args_and_dict(
        [saved.tokenizer], saved.to_dict() | new, chat_template=saved.chat_template
    )
    processor.changes = changes
    return processor


def not_as_trained(processor: VQAThinkerProcessor) -> str:
    """What of `changes` may cost a policy its answers, in words: "image_size 448, trained with 64"; "" for nothing."""
    views = {fit: view for view, fit in VIEWS.items()}
    changes = processor.changes
    told = []
    if "num_frames" in changes:
        told.append("frames {1}, trained with {0}".format(*changes["num_frames"]))
    if "image_size" in changes:
        told.append("image_size {1}, trained with {0}".format(*changes["image_size"]))
    if "fit" in changes:
        told.append("view {1}, trained with {0}".format(*(views[fit] for fit in changes["fit"])))
    if "question" in changes:
        told.append("another question than in training")
    return "; ".join(told)

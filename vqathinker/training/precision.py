"""In which precision weights are loaded, and that those which are trained can take an optimizer's small steps.

Adam's updates are about the learning rate, 1e-6 in the paper. Between two neighbouring bfloat16 numbers at 0.02 lie
1e-4: in weights of 16 bits nearly all updates are rounded away. Trained ones must be float32, or have float32 masters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import TrainingArguments

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""Choices of the recipes' `dtype`."""
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_over_master_weights(args: TrainingArguments) -> torch.dtype | None:
    """The 16-bit type in which DeepSpeed computes while it updates float32 master weights, whatever it was given.

    Args:
        args: `TrainingArguments`.

    Returns:
        `None` where there are no master weights: the optimizer updates the policy's own weights.
    """
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is None:
        return None
    for name, dtype in HALVES.items():
        section = plugin.deepspeed_config.get(name, {})
        # DeepSpeed can keep its master weights in 16 bits too, which are none then.
        enabled, halved = (str(section.get(key)).lower() for key in ("enabled", f"{name}_master_weights_and_grads"))
        if enabled == "true" and halved != "true":
            return dtype
    return None


def load_dtype(choice: str, args: TrainingArguments, adapter: bool = False) -> torch.dtype:
    """In which type a recipe loads the policy.

    Args:
        choice: Among `DTYPES`; `"auto"`: float32, or the 16-bit type of a DeepSpeed run, which keeps master weights, or
            that in which a run with an adapter computes.
        args: `TrainingArguments`.
        adapter: Whether an adapter is trained, beside which the loaded weights stay as they are.

    Raises:
        ValueError: On another choice.
    """
    if choice not in DTYPES:
        raise ValueError(f"dtype={choice!r}: must be one of {DTYPES}.")
    if choice == "auto":
        computed = next((dtype for name, dtype in HALVES.items() if adapter and getattr(args, name)), torch.float32)
        return dtype_over_master_weights(args) or computed
    return getattr(torch, choice)


def check_precision(model: nn.Module, args: TrainingArguments) -> None:
    """Refuse a run whose optimizer would update weights of 16 bits. Frozen weights, an adapter's base among them, may
    have any type.

    Args:
        model: What is trained.
        args: `TrainingArguments`.

    Raises:
        ValueError: If trained weights have 16 bits and no float32 master weights.
    """
    trained = [p for p in model.parameters() if p.requires_grad and p.is_floating_point()]
    short = [p for p in trained if p.element_size() < 4]
    if not short or dtype_over_master_weights(args) is not None:
        return
    types = ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in short}))
    count, total = (sum(p.numel() for p in some) for some in (short, trained))
    raise ValueError(
        f"{count:,} of {total:,} trained parameters are {types}, which rounds an optimizer's small updates away: they "
        "must be float32, or have the float32 master weights of DeepSpeed ZeRO with bf16 or fp16 "
        "enabled. Load the policy with dtype=torch.float32 (recipes: `dtype: auto`); `bf16: true` computes in bfloat16 "
        "all the same."
    )

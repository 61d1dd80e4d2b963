"""Several processes on a machine without an accelerator are one run, as they are on one with GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import nn
from transformers import TrainingArguments
from transformers.utils import strtobool
from trl.distributed import DistributedBackend
from trl.models.utils import add_hooks, remove_hooks

from vqathinker.policy import VQAThinkerForConditionalGeneration, encoding_parameters


def join_processes_on_cpu(args: TrainingArguments) -> None:
    """To be called before `TrainingArguments.__post_init__`, which sets the processes up.

    Accelerate looks for GPUs only; unless told, it takes each of several CPU processes for the only one. It also calls
    the device "cpu:0", under which torch cannot load a checkpoint's optimizer.

    Args:
        args: Its `use_cpu` is set; under DeepSpeed, which that would turn off, its `ddp_backend` instead. Its
            `dataloader_pin_memory` is turned off, as each loader would warn that there is nothing to pin memory for.
    """
    if torch.accelerator.is_available():
        return
    args.dataloader_pin_memory = False
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would look for a GPU
    if "LOCAL_RANK" not in os.environ:
        return
    os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    if strtobool(os.environ.get("ACCELERATE_USE_DEEPSPEED", "false")):
        args.ddp_backend = args.ddp_backend or "gloo"
    else:
        args.use_cpu = True


def check_one_device(args: TrainingArguments) -> None:
    """Refuse several GPUs in one process: `torch.nn.DataParallel` would cut a batch without its clips.

    Args:
        args: After its own `__post_init__`.

    Raises:
        ValueError: If transformers would use it.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs in one process: a batch cannot be split between them. Start one process per GPU, "
            f"`accelerate launch --num_processes {args.n_gpu} ...` with a file from recipes/accelerate, or use one GPU "
            "only (CUDA_VISIBLE_DEVICES=0)."
        )


@contextmanager
def gathered_for_encoding(
    model: nn.Module, policy: VQAThinkerForConditionalGeneration, accelerator: Accelerator
) -> Iterator[None]:
    """In here each process can encode clips and prompts without the others, under ZeRO-3 too (collective there).

    There these weights are put together, and DeepSpeed's hooks, with which every use of a weight is a collective, are
    off, as in TRL's `unwrap_model_for_generation`, which gathers the whole policy. The language model must not run.

    Args:
        model: What accelerate made of the policy.
        policy: The policy.
        accelerator: That made it.
    """
    if not DistributedBackend(accelerator).is_zero3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(encoding_parameters(policy)):
        remove_hooks(model)
        try:
            yield
        finally:
            add_hooks(model)

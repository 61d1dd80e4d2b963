"""Settings that fit a set of one's own: batch, answers to a clip, steps, learning rate, adapter, precision.

They are written as options of the recipes, so that a command with them does the same.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.utils import broadcast_object_list
from transformers import HfArgumentParser
from transformers.utils import is_bitsandbytes_available
from trl import GRPOConfig

from vqathinker.policy import load_processor
from vqathinker.scoring.scorer import process_state
from vqathinker.training import budget
from vqathinker.training.config import check_groups
from vqathinker.training.samples import DataArguments
from vqathinker.wording import counted

CONFIG, SFT_CONFIG = "own.yaml", "own_sft.yaml"
CLIPS_PER_STEP, ROUNDS = 6, 4
"""Clips whose answers make one step; steps that share a generation batch, which ranking compares. As in the demo."""
WARM_START_BATCH, WARM_START_STEPS = 16, 90
TRACES = 160
"""Of a warm start at least: what the answer's form takes. Of fewer clips each has several, in other words."""
ROWS = 20
"""Of the log in a run of GRPO."""
SHORT = 64
"""Tokens: answers up to this length are cheap, so a clip gets more of them."""
LONGEST = 512
"""Tokens of an answer, where the policy does not say how long its own are."""
SMALL = 100e6
"""Parameters: a policy with fewer, such as the shipped one, takes larger steps and more of them."""
SHARE = 0.8
"""Of the free memory that a run may plan with; `budget` is an estimate."""
ADAPTERS: tuple[dict[str, Any], ...] = ({}, {"use_peft": True}, {"use_peft": True, "load_in_4bit": True})
"""What is trained, from all weights to a LoRA over 4 bits: the first that fits the memory."""


@dataclass(frozen=True)
class Pace:
    """How a policy of a kind is trained.

    Attributes:
        learning_rate: Of GRPO: measured with the demo; of `lsvq_lora.yaml`; the paper's.
        passes: Over the clips, at most.
        sft_rate: Of the warm start.
    """

    learning_rate: float
    passes: int
    sft_rate: float


BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "generation_batch_size"}
"""Options of which one decides what the others must be; where one is given, none is fitted."""

PACES = {"small": Pace(2e-4, 30, 1e-3), "adapter": Pace(1e-5, 3, 1e-4), "whole": Pace(1e-6, 3, 1e-5)}


def own_config(name: str) -> Path:
    """The file of a config that travels with the package."""
    return Path(str(resources.files("vqathinker.recipes") / "configs" / name))


def with_own_config(argv: Sequence[str], arguments: type[DataArguments], config: type) -> list[str] | None:
    """A recipe's options with the config for sets of one's own, and with what fits them; says which.

    Args:
        argv: Options that name no config.
        arguments: Of the recipe, a subclass of `DataArguments`.
        config: The trainer's configuration, which tells the recipe.

    Returns:
        `None` if the options name neither labels nor questions nor ladders.
    """
    given = given_options(argv, arguments, config)
    if not {"train_labels", "questions", "ladders"} & set(given):
        return None
    supervised = not issubclass(config, GRPOConfig)
    name = SFT_CONFIG if supervised else CONFIG
    options = ["--config", str(own_config(name))]
    if not {"model", *(["video_root"] if {"train_labels", "questions"} & set(given) else [])} <= set(given):
        return [*options, *argv]  # the parser says what is missing
    data = arguments(**{field.name: given[field.name] for field in fields(arguments) if field.name in given})
    clips, state = len(data.training(0)), process_state()
    fitted: list[str] = []
    if state.is_main_process:  # processes may find different amounts of free memory
        fit = fitted_warm_start if supervised else fitted_settings
        fitted = as_arguments(fit(given["model"], clips // state.num_processes, given))
        print(f"No --config given: recipes/configs/{name}, fitted to {counted(clips, 'clip')}: {shlex.join(fitted)}")
    [fitted] = broadcast_object_list([fitted])
    return [*options, *fitted, *argv]


def fitted_settings(model: str, clips: int, given: Mapping[str, Any], free: float | None = None) -> dict[str, Any]:
    """Options of `grpo_lsvq` beside `own.yaml` for a set of one's own.

    Args:
        model: Policy folder.
        clips: Labelled clips (or questions) N to train on; of several processes, a process's share.
        given: Options that are decided already; the others are fitted to them.
        free: Memory in GiB; default what the accelerator, or else the machine, has free.

    Returns:
        Name -> value of the others.

    Raises:
        ValueError: If there are fewer than two clips, or no setting fits the memory.
    """
    if clips < 2:
        raise ValueError(f"{clips} clip to train on: rewards compare clips, give at least 2.")
    config = budget.load_config(model, given.get("image_size"))
    processor = load_processor(model, given.get("frames"), given.get("image_size"), question=given.get("question"))
    free = free_memory() if free is None else free
    longest = given.get("max_completion_length") or _longest_answer(model)
    fixed = {"num_generations": 8 if longest <= SHORT else 4, "max_completion_length": longest}
    fixed |= {"bf16": torch.cuda.is_available(), **given}
    needed, prompt = math.inf, len(processor.prompt_ids())
    for adapter in _adapters(given):
        for batch in _batches(clips, fixed["num_generations"], given):
            check_groups(batch["per_device_train_batch_size"], fixed["num_generations"])
            chosen = {**fixed, **adapter, **batch}
            settings = budget.read_settings(own_config(CONFIG)) | chosen
            shape = budget.shape_of(settings, config, processor.num_frames, prompt)
            needed = budget.memory(settings, config, shape, budget.Machine(1, 0, free))["total"] / budget.GIB
            if needed <= SHARE * free:
                pace = PACES[_kind(config, settings)]
                chosen |= {"learning_rate": pace.learning_rate, **_rhythm(clips, settings, pace)}
                chosen = _of_stated_length(chosen, given, ROWS)
                decided = {*given, *(["steps_per_generation"] if "generation_batch_size" in given else [])}
                return {name: value for name, value in chosen.items() if name not in decided}
    raise ValueError(
        f"{model} needs {needed:.1f} GiB for the smallest batch and adapter, but {free:.1f} GiB are free: use a "
        "machine with more memory, fewer frames, or a smaller policy."
    )


def fitted_warm_start(model: str, clips: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `sft_lsvq` beside `own_sft.yaml`; arguments as in `fitted_settings`."""
    pace = PACES[_kind(budget.load_config(model), given)]
    batch = given.get("per_device_train_batch_size") or WARM_START_BATCH
    steps = min(WARM_START_STEPS, math.ceil(pace.passes * max(clips, TRACES) / batch))
    chosen = {"per_device_train_batch_size": batch, "max_steps": steps, "learning_rate": pace.sft_rate}
    if clips < TRACES:
        chosen |= {"labels_weight": math.ceil(TRACES / clips)}
    chosen |= {"bf16": torch.cuda.is_available(), "logging_steps": math.ceil(steps / 10), "save_steps": steps}
    chosen = _of_stated_length(chosen, given, rows=10)
    return {name: value for name, value in chosen.items() if name not in given}


def free_memory() -> float:
    """GiB that the accelerator has free; without one, the machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / budget.GIB
    return psutil.virtual_memory().available / budget.GIB


def given_options(argv: Sequence[str], *classes: type) -> dict[str, Any]:
    """Options that a command line states, by the names of the classes' fields; others are passed over."""
    parser = HfArgumentParser(classes, add_help=False)
    for action in parser._actions:
        action.default, action.required = argparse.SUPPRESS, False
    return vars(parser.parse_known_args(list(argv))[0])


def as_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as a command line has them."""
    given = []
    for name, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else f"{value}"
        given += [f"--{name.replace('_', '-')}", text]
    return given


def _longest_answer(model: str) -> int:
    """What a policy was trained for; trainers save it as `max_new_tokens`."""
    file = Path(model, "generation_config.json")
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return known.get("max_new_tokens") or LONGEST


def _adapters(given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    if {"use_peft", "load_in_4bit"} & set(given):
        return ({},)
    packs = torch.cuda.is_available() and is_bitsandbytes_available()
    return ADAPTERS if packs else ADAPTERS[:-1]


def _batches(clips: int, answers: int, given: Mapping[str, Any]) -> list[dict[str, int]]:
    """Splits of a step into micro-batches, the largest first; a step takes no more clips than there are."""
    if BATCH & set(given):
        return [_stated_batch(given)]
    step = min(CLIPS_PER_STEP, clips)
    rounds = min(ROUNDS, clips // step)
    return [
        {
            "per_device_train_batch_size": part * answers,
            "gradient_accumulation_steps": step // part,
            "steps_per_generation": step // part * rounds,
        }
        for part in range(step, 0, -1)
        if step % part == 0
    ]


def _stated_batch(given: Mapping[str, Any]) -> dict[str, int]:
    size, micro = given.get("per_device_train_batch_size", 8), given.get("gradient_accumulation_steps", 1)
    shared = given.get("steps_per_generation") or given.get("generation_batch_size", 0) // size or micro
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": micro, "steps_per_generation": shared}


def _kind(config: Any, settings: Mapping[str, Any]) -> str:
    if budget.parameter_counts(config)["all"] < SMALL:
        return "small"
    return "adapter" if settings.get("use_peft") else "whole"


def _rhythm(clips: int, settings: Mapping[str, Any], pace: Pace) -> dict[str, int]:
    """Steps, and how often they are logged and saved, which is where a generation batch ends."""
    shared, micro = settings["steps_per_generation"], settings["gradient_accumulation_steps"]
    rounds = math.lcm(shared * settings["num_iterations"], micro) // micro
    each = settings["per_device_train_batch_size"] // settings["num_generations"] * shared
    batches = math.ceil(pace.passes * clips / each)
    every = max(1, batches // 4) * rounds
    return {"max_steps": batches * rounds, "logging_steps": math.ceil(batches * rounds / ROWS), "save_steps": every}


def _of_stated_length(chosen: dict[str, Any], given: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """What was chosen, but for what the length of the run decides where that is stated; the log has so many rows."""
    if not {"max_steps", "num_train_epochs"} & set(given):
        return chosen
    left = {name: value for name, value in chosen.items() if name not in ("max_steps", "save_steps")}
    return left | ({"logging_steps": math.ceil(given["max_steps"] / rows)} if given.get("max_steps", 0) > 0 else {})

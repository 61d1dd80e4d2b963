"""The embedded default's files: a synthetic set and the shipped base policy."""

from __future__ import annotations

import filecmp
import shutil
from importlib import resources
from pathlib import Path

from accelerate import PartialState

from vqathinker.synth.build import SynthSpec, is_made, make_set

SPEC = SynthSpec(splits={"sft": 240, "train": 1600, "val": 96, "test": 400}, ood=64)
"""`sft`: the few clips whose distortions are explained to the warm start. `train`: those that GRPO learns from."""
BASE = resources.files("vqathinker.synth") / "base"
"""Tiny policy whose vision tower and motion encoder are pretrained; made by `recipes/pretrain_tiny.py`."""


def prepare_default(folder: str | Path, spec: SynthSpec = SPEC) -> None:
    """Put the set (`folder/data`, see `make_set`) and the shipped base policy (`folder/base`) in place.

    What is there already, and is just so, is kept.

    Args:
        folder: Of the embedded default, e.g. `runs/demo`.
        spec: The synthetic set.
    """
    folder = Path(folder)
    with PartialState().main_process_first():
        if not is_made(folder / "data", spec):
            make_set(folder / "data", spec)
        with resources.as_file(BASE) as base:
            shipped = [file.name for file in base.iterdir()]
            if filecmp.cmpfiles(base, folder / "base", shipped, shallow=False)[0] != shipped:
                shutil.copytree(base, folder / "base", dirs_exist_ok=True)

"""The embedded default's files: a synthetic set and the shipped base policy."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from accelerate import PartialState

from vqathinker.synth.build import SynthSpec, is_made, make_set

SPEC = SynthSpec(splits={"train": 400, "val": 64, "test": 200}, ood=48)
BASE = resources.files("vqathinker.synth") / "base"
"""Tiny policy whose vision tower and motion encoder are pretrained; made by `recipes/pretrain_tiny.py`."""


def prepare_default(folder: str | Path, spec: SynthSpec = SPEC) -> None:
    """Put the set (`folder/data`, see `make_set`) and the base policy (`folder/base`) in place where they are not yet.

    Args:
        folder: Of the embedded default, e.g. `runs/demo`.
        spec: The synthetic set.
    """
    folder = Path(folder)
    with PartialState().main_process_first():
        if not is_made(folder / "data", spec):
            make_set(folder / "data", spec)
        if not (folder / "base" / "config.json").exists():
            with resources.as_file(BASE) as base:
                shutil.copytree(base, folder / "base", dirs_exist_ok=True)

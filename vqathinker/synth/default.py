"""The embedded default's files: a synthetic set and the shipped base policy."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

from vqathinker.scoring.scorer import process_state
from vqathinker.synth.build import SynthSpec, is_made, make_set

SPEC = SynthSpec(splits={"sft": 160, "train": 1600, "val": 96, "test": 400}, ood=64)
"""`sft`: the few clips whose distortions are explained to the warm start. `train`: those that GRPO learns from."""
BASE = resources.files("vqathinker.synth") / "base"
"""Tiny policy whose vision tower and motion encoder are pretrained; made by `recipes/pretrain_tiny.py`."""


def prepare_default(folder: str | Path, spec: SynthSpec = SPEC) -> None:
    """Put everything in place: the set (`folder/data`, see `make_set`), clips of its held-out scenes that are half as
    long again (`folder/longer`: a third of the frames can be lost and as many are left) and the shipped base policy
    (`folder/base`).

    What is there already, and is just so, is kept.

    Args:
        folder: Of the embedded default, e.g. `runs/demo`.
        spec: The synthetic set; has a split `test`, and no `source`.

    Raises:
        ValueError: If `spec` has a source, from whose training scenes the longer clips would be cut too.
    """
    if spec.source:
        raise ValueError(
            f"source={spec.source!r}: the embedded default has drawn scenes only; for your own clips use `vqathinker "
            "synth`."
        )
    folder = Path(folder)
    held_out = {"test": spec.splits["test"]}
    longer = replace(spec, splits=held_out, ood=0, num_frames=spec.num_frames * 3 // 2)
    with process_state().main_process_first():
        for name, wanted in {"data": spec, "longer": longer}.items():
            if not is_made(folder / name, wanted):
                make_set(folder / name, wanted)
    copy_base(folder / "base")


def copy_base(folder: str | Path) -> None:
    """Put the shipped base policy into a folder, unless it is there already, and just so.

    Args:
        folder: Of the policy.
    """
    with process_state().main_process_first(), resources.as_file(BASE) as base:
        shipped = [file.name for file in base.iterdir()]
        if filecmp.cmpfiles(base, folder, shipped, shallow=False)[0] != shipped:
            shutil.copytree(base, folder, dirs_exist_ok=True)

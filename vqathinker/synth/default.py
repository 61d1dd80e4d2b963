"""The embedded default's files: a synthetic set and a tiny base policy, made once and found again."""

from __future__ import annotations

from pathlib import Path

from accelerate import PartialState

from vqathinker.synth.build import SynthSpec, is_made, make_set
from vqathinker.synth.tiny import tiny_policy

SPEC = SynthSpec(splits={"train": 400, "val": 64, "test": 200}, ood=48)


def prepare_default(folder: str | Path, spec: SynthSpec = SPEC, seed: int = 0) -> None:
    """Make `folder/data` (see `make_set`) and `folder/base` (tiny policy and processor) where they do not exist yet.

    Args:
        folder: Of the embedded default, e.g. `runs/demo`.
        spec: The synthetic set.
        seed: Of the policy's weights.
    """
    folder = Path(folder)
    with PartialState().main_process_first():
        if not is_made(folder / "data", spec):
            make_set(folder / "data", spec)
        if not (folder / "base" / "config.json").exists():
            policy, processor = tiny_policy(seed)
            processor.save_pretrained(folder / "base")
            policy.save_pretrained(folder / "base")

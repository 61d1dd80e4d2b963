"""InternVL3-1B's size on a CPU: make a policy, score a clip, and take one GRPO step with SGD; time and peak memory.

python -m benchmarks.real_size          # minutes, some 14 GiB of memory and 8 of disk; writes runs/real_size.json
python -m benchmarks.real_size --toy    # seconds: says nothing of the real size

The weights are random, the files and commands are a user's. Every command runs by itself: its peak is the most memory
that its process had, libraries included. Beside the step's stands what `vqathinker budget` foretells, without the
moments that SGD does not keep.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import InternVLConfig, InternVLForConditionalGeneration

from benchmarks import measure
from benchmarks.models import LARGE, TOY, make_clips, tokenizer_of_all
from benchmarks.random_policy import make_config
from vqathinker.training import budget

CLIPS, TOKENS = 2, 32
"""Clips of the step, and tokens of an answer."""
SETTINGS = {
    "preset": "recommended",
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "gradient_accumulation_steps": CLIPS,
    "max_steps": 1,
    "max_completion_length": TOKENS,
    "optim": "sgd",
    "learning_rate": 1e-6,
    "beta": 0.04,
    "loss_type": "grpo",
    "bf16": False,
    "gradient_checkpointing": True,
    "mos_scale": "identity",
    "frame_cache": "",
    "log_completions": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
}
"""Of the GRPO step, as a recipe's YAML file."""
COMMAND = "import sys; from vqathinker.cli import main; sys.exit(main(sys.argv[1:]))"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="toy size")
    parser.add_argument("--out", type=Path, default=Path("runs/real_size.json"))
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name), options.toy)
    measure.save({"quick": options.toy, "real_size": found}, options.out)
    show(found)


def measured(folder: Path, toy: bool) -> dict[str, Any]:
    """Seconds and peak bytes of each command, and what was foretold of the last."""
    internvl, policy, labels = folder / "internvl", folder / "policy", folder / "labels.csv"
    make_checkpoint(internvl, toy)
    clips = make_clips(folder, TOY if toy else LARGE, CLIPS)
    with labels.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "mos"), *((row.video_id, row.mos) for row in clips)])
    settings = SETTINGS | {"model": str(policy), "train_labels": str(labels), "video_root": str(folder)}
    config = folder / "step.yaml"
    config.write_text(yaml.safe_dump(settings | {"output_dir": str(folder / "run")}), encoding="utf-8")

    length = ["--max-new-tokens", str(TOKENS)]
    commands = {
        "init": ["init", "--internvl", str(internvl), "--slowfast", "random", "--out", str(policy)],
        "score": ["score", clips[0].video, "--model", str(policy), *length],
        "GRPO step": ["train", "grpo_lsvq", "--config", str(config)],
    }
    phases = {name: run(command, folder) for name, command in commands.items()}
    phases["GRPO step"]["budget_bytes"] = foretold(config, policy)
    return {"size": "toy" if toy else "1B", "phases": phases}


def make_checkpoint(folder: Path, toy: bool) -> None:
    """InternVL with random weights in bfloat16, as transformers saves it."""
    torch.manual_seed(0)
    own, tokenizer = make_config("tiny" if toy else "1B").to_dict(), tokenizer_of_all()
    config = InternVLConfig(
        vision_config=own["vision_config"],
        text_config=own["text_config"] | {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command of `vqathinker`; `score` may end with 1, as an answer at random holds no number.

    Raises:
        ChildProcessError: If it fails, with the end of what it said.
    """
    start = time.perf_counter()
    with (folder / "log.txt").open("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen([sys.executable, "-c", COMMAND, *command], stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read()
        if not 0 <= child.returncode <= (command[0] == "score") or "Traceback" in said:
            raise ChildProcessError(f"vqathinker {command[0]} ended with {child.returncode}: {said[-3000:]}")
    return {"seconds": time.perf_counter() - start, "peak_bytes": used.ru_maxrss * 1024}


def foretold(config: Path, policy: Path) -> int:
    """What `vqathinker budget` says of the step, less the two moments of its optimizer."""
    settings, sizes = budget.read_settings(config), budget.load_config(str(policy))
    parts = budget.memory(settings, sizes, budget.shape_of(settings, sizes), budget.Machine(gpus=1, zero=0))
    return parts["total"] - parts["optimizer"]


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    table = [
        [name, phase["seconds"], phase["peak_bytes"] / budget.GIB, phase.get("budget_bytes", 0) / budget.GIB or ""]
        for name, phase in found["phases"].items()
    ]
    measure.show(f"InternVL3, {found['size']}", ["command", "seconds", "peak (GiB)", "budget (GiB)"], table)


if __name__ == "__main__":
    measure.quiet()
    main()

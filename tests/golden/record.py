"""The digits of a small run of the recipes: prompt token ids, the first GRPO steps, scores.

python tests/golden/record.py tests/golden/digits.json
"""

import json
import platform
import sys
import tempfile
from pathlib import Path

import torch

REPO = Path(__file__).parents[2]
GRPO_STEPS = 8


def record(folder: Path) -> dict:
    """Runs the recipes in `folder`."""
    torch.set_num_threads(2)  # sums are taken in parts, one a thread
    sys.path.insert(0, str(REPO / "recipes"))
    import grpo_lsvq
    import sft_lsvq

    from vqathinker import QualityScorer
    from vqathinker.synth import SynthSpec, make_set
    from vqathinker.synth.default import BASE

    clips = folder / "clips"
    make_set(clips, SynthSpec(splits={"train": 24, "val": 4}), progress=False)
    configs = REPO / "recipes/configs"
    own = ["--train_labels", clips / "train.csv", "--video_root", clips, "--frame_cache", "", "--logging_steps", "1"]
    sft = ["--model", BASE, "--output_dir", folder / "sft", "--max_steps", "40", "--warmup_steps", "4"]
    sft_lsvq.main([str(part) for part in ("--config", configs / "demo_sft.yaml", *own, *sft)])
    grpo = ["--model", folder / "sft", "--val_labels", clips / "val.csv", "--output_dir", folder / "grpo"]
    grpo += ["--max_steps", GRPO_STEPS, "--eval_steps", "4", "--per_device_train_batch_size", "32"]
    grpo += ["--num_generations", "4", "--steps_per_generation", "2", "--perturb_every", "2", "--warmup_steps", "2"]
    grpo_lsvq.main([str(part) for part in ("--config", configs / "demo.yaml", *own, *grpo)])
    history = json.loads((folder / "grpo/trainer_state.json").read_text(encoding="utf-8"))["log_history"]

    scorer = QualityScorer.from_pretrained(folder / "grpo", device="cpu")
    videos = sorted((clips / "videos/val").glob("*.mp4"))
    results = [result for batch in scorer.score_many(videos) for result in batch]
    processor, prompts = scorer.processor, {}
    for style in ("train", "test"):
        processor.prompt_style = style
        prompts |= {f"{style}, {frames} frames": list(processor.prompt_ids(frames)) for frames in (1, 6, 12)}
    return {
        "torch": torch.__version__,
        "cpu": f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()} {cpu_name()}",
        "prompts": prompts,
        "steps": [{k: v for k, v in entry.items() if not timed(k)} for entry in history if "train_loss" not in entry],
        "scores": [[result.score, result.status, list(result.answers)] for result in results],
    }


def cpu_name() -> str:
    """The processor's model, where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def timed(name: str) -> bool:
    """Whether a logged value is a time, which no two runs share."""
    return any(part in name for part in ("time", "runtime", "per_second", "total_flos"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        digits = record(Path(work))
    Path(sys.argv[1]).write_text(json.dumps(digits, indent=1) + "\n", encoding="utf-8")

"""Whether training in bfloat16 works on this machine, and in how much memory: a policy with random weights.

python -m benchmarks.cuda_smoke --size 1B                   # about 18 GiB; prints a table, writes runs/cuda_smoke.json
python -m benchmarks.cuda_smoke --size tiny --device cpu    # without a GPU, and so without the memory

Needs torch, transformers and accelerate only. The motion branch is left out where pytorchvideo cannot be imported: for
it add the wheels of pytorchvideo, fvcore, iopath, parameterized and networkx, and what they need.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers

from benchmarks.random_policy import FRAMES, SMALL_MOTION, Batch, make_config, packed_logps, row_logps
from vqathinker.policy import STREAMS, VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.policy.motion import MotionEncoder
from vqathinker.training import budget

LEARNING_RATE, STEPS, MICRO_STEPS = 1e-6, 3, 2
EXACT, ROUNDING, TRAINED = 1e-4, 2.0, 0.95
"""Largest difference in float32; mean one in bfloat16, over bfloat16's own error; share of weights that change."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="tiny", choices=["tiny", *budget.PUBLISHED], help="tiny, or InternVL3's")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--clips", type=int, default=2, help="in a micro-batch")
    parser.add_argument("--answers", type=int, default=4, help="to each clip")
    parser.add_argument("--completion", type=int, help="longest answer in tokens; default 24 for tiny, else 512")
    parser.add_argument("--out", type=Path, default=Path("runs/cuda_smoke.json"))
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is available: use --device cpu.")
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=options.device == "cpu")
    missing = no_motion()
    config = make_config(options.size, motion_tokens=0 if missing else 1)
    with torch.device(accelerator.device):
        policy = VQAThinkerForConditionalGeneration(config)
        length = options.completion or default_length(options.size)
        batch = Batch(config, options.clips, options.answers, length, length // 2)
    policy.gradient_checkpointing_enable({"use_reentrant": False})
    policy.train()

    checks = [*compare(policy, batch, accelerator), train(policy, batch, accelerator)]
    if config.motion_tokens:
        checks.append(motion(policy, accelerator))
    memory = foretell(config, batch)
    memory["measured"] = torch.cuda.max_memory_allocated() / budget.GIB if options.device == "cuda" else None
    report(options, checks, memory, missing)
    return 0 if all(check["passed"] for check in checks) else 1


def no_motion() -> str | None:
    """Why the motion encoder cannot be built here; `None` where it can."""
    try:
        MotionEncoder(SMALL_MOTION)
    except ImportError as error:
        return str(error)
    return None


def default_length(size: str) -> int:
    return 24 if size == "tiny" else 512


@torch.no_grad()
def compare(policy: Any, batch: Batch, accelerator: Any) -> list[dict[str, Any]]:
    """One row per clip against one row per answer, in float32 and under autocast."""
    exact = packed_logps(policy, batch), row_logps(policy, batch)
    with accelerator.autocast():
        mixed = packed_logps(policy, batch), row_logps(policy, batch)
    known = batch.known
    largest = (exact[0] - exact[1])[known].abs().max().item()
    apart, rounding = ((a - b)[known].abs().mean().item() for a, b in (mixed, (mixed[1], exact[1])))
    return [
        check("packed rows against one per answer, float32: largest difference", largest, EXACT),
        check("the same in bfloat16: mean difference over bfloat16's own error", apart / rounding, ROUNDING),
    ]


def train(policy: Any, batch: Batch, accelerator: Any) -> dict[str, Any]:
    """Optimizer steps at the paper's learning rate: the share of weights with a gradient that they change."""
    trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().cpu().clone() for name, weight in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    moved: dict[str, torch.Tensor] = {}
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        for _ in range(MICRO_STEPS):
            with accelerator.autocast():
                logps = packed_logps(policy, batch)
            loss = -(batch.advantages * logps).sum() / batch.known.sum()
            accelerator.backward(loss / MICRO_STEPS)
        moved = moved or {name: (weight.grad != 0).cpu() for name, weight in trained.items() if weight.grad is not None}
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    changed = sum(((trained[name].detach().cpu() != before[name]) & mask).sum().item() for name, mask in moved.items())
    share = changed / sum(mask.sum().item() for mask in moved.values())
    name = f"share of the weights with a gradient that {STEPS} steps of {LEARNING_RATE:g} change"
    return check(name, share, TRAINED, at_least=True)


@torch.no_grad()
def motion(policy: Any, accelerator: Any) -> dict[str, Any]:
    """SlowFast under autocast against float32."""
    side = policy.config.motion_config.image_size
    frames = torch.randint(0, 256, (2, FRAMES, 1, 3, side, side), dtype=torch.uint8, device=accelerator.device)
    stream = STREAMS["motion"]
    exact = torch.stack(stream.features(policy.model, frames))
    with accelerator.autocast():
        mixed = torch.stack(stream.features(policy.model, frames))
    return check("motion features in bfloat16: relative error", ((mixed - exact).norm() / exact.norm()).item(), 0.05)


def check(name: str, value: float, limit: float, at_least: bool = False) -> dict[str, Any]:
    passed = value >= limit if at_least else value <= limit  # NaN fails
    return {"name": name, "value": value, "limit": f"{'>=' if at_least else '<='} {limit:g}", "passed": passed}


def foretell(config: VQAThinkerConfig, batch: Batch) -> dict[str, float | None]:
    """What `vqathinker budget` says of these steps in GiB: no reference, no rollouts."""
    settings = {"bf16": True, "beta": 0.0, "gradient_checkpointing": True, "use_vllm": False}
    settings |= {"steps_per_generation": None, "gradient_accumulation_steps": MICRO_STEPS}
    shape = budget.Shape(batch.clips, batch.answers, batch.prompt, batch.length, FRAMES)
    parts = budget.memory(settings, config, shape, budget.Machine(gpus=1, zero=0))
    kept = {
        name: size / budget.GIB
        for name, size in parts.items()
        if name not in ("rollout cache", "rollout passes", "total") and size
    }
    return kept | {"budget": sum(kept.values())}


def report(options: Any, checks: list[dict[str, Any]], memory: dict[str, float | None], missing: str | None) -> None:
    cuda = options.device == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})"
    versions = {module.__name__: module.__version__ for module in (torch, transformers, accelerate)}
    versions = {"python": platform.python_version(), "cuda": torch.version.cuda if cuda else None} | versions
    print(f"{options.size} policy on {device}; " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if missing:
        print(f"without the motion branch ({missing}): add the wheels of pytorchvideo, fvcore, iopath, parameterized")
        print("and networkx, and what they need, for it")
    for row in checks:
        print(f"{'ok' if row['passed'] else 'FAILED':6}  {row['name']:70} {row['value']:10.3g} {row['limit']:>8}")
    print("peak memory, GiB")
    for name, size in memory.items():
        print(f"        {name:70} " + (f"{size:10.3f}" if size is not None else "not measured on a CPU"))
    result = {
        "command": " ".join(["python -m benchmarks.cuda_smoke", *sys.argv[1:]]),
        "device": device,
        "versions": versions,
        "size": options.size,
        "motion": not missing,
        "checks": checks,
        "memory_gib": memory,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

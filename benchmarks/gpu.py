"""Updates, sampling and steps of InternVL3's sizes with random weights in bfloat16, on one GPU.

python -m benchmarks.gpu              # at most six minutes; prints tables, writes runs/gpu.json
python -m benchmarks.gpu --dry-run    # the same at toy size on a CPU: says nothing of speed

Needs torch, transformers and accelerate only. *Ours* has packed rows in the loss and reads a prompt once when it
samples; the *stock way* has one row per answer, its clip's pixels repeated. What else they do is the same, with
transformers' sampling and gradient checkpointing. Without the motion branch, which is frozen.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from benchmarks import measure, work
from benchmarks.random_policy import FRAMES, Batch, make_config, packed_logps, row_logps
from vqathinker.policy import VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.training import budget

SIZES, ANSWERS, LENGTH, ROUNDS, STEPS = ("1B", "2B", "8B"), 4, 200, 5, 2
LIMIT = 360
"""Seconds for all sizes: one that would pass it is left out."""
FILL = 0.7
"""Share of the memory that weights and what belongs to them may take; activations need the rest."""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations a second, by chip."""
STOP, PAD = 2, 3
"""Tokens that end an answer and fill it up."""
TEMPERATURE, TOP_K, BETA, LEARNING_RATE = 0.9, 50, 0.04, 1e-6
WAYS = {"ours": packed_logps, "stock way": row_logps}
FORMS = ("flex", "dense")
"""Of packed attention, beside the one that is chosen."""
FORMULA = {"ours": "ours", "stock way": "stock TRL"}
"""Way -> its name in `benchmarks.work`."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="toy size, on the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"))
    options = parser.parse_args(argv)
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA device is available: use --dry-run.")
    device = torch.device("cpu" if options.dry_run else "cuda")
    cuda = device.type == "cuda"
    environment = measure.environment(("torch", "transformers", "accelerate"))
    environment |= {"device": torch.cuda.get_device_name() if cuda else "CPU", "cuda": torch.version.cuda}
    torch.backends.cudnn.allow_tf32 = False
    rows: list[dict[str, Any]] = []
    for row in measured_sizes(("tiny",) if options.dry_run else SIZES, device):
        rows.append(row)
        show(row)
        measure.save({"environment": environment, "quick": options.dry_run, "gpu": {"rows": rows}}, options.out)


def measured_sizes(sizes: Sequence[str], device: torch.device) -> Iterator[dict[str, Any]]:
    """A row per size, the smallest first; of one for which there is too little time the reason."""
    start, each = time.perf_counter(), 0.0
    for size in sizes:
        parameters = budget.parameter_counts(make_config(size))["all"]
        left = LIMIT - (time.perf_counter() - start)
        if each * parameters > left:
            yield {"size": size, "left_out": f"{each * parameters:.0f} s foretold, {left:.0f} s left"}
            continue
        row = measured(size, device, parameters, left)
        each = row["elapsed"] / parameters
        yield row


def measured(size: str, device: torch.device, parameters: int, left: float) -> dict[str, Any]:
    """All numbers of one size; `elapsed` is without the steps, which are taken if they fit into memory and time."""
    start = time.perf_counter()
    gc.collect()
    bytes_each = float("inf")  # memory for each parameter
    if device.type == "cuda":
        torch.cuda.empty_cache()
        bytes_each = FILL * torch.cuda.get_device_properties(0).total_memory / parameters
    torch.manual_seed(0)
    toy, config = size == "tiny", make_config(size)
    length, rounds = (8, 1) if toy else (LENGTH, ROUNDS)
    with torch.device(device):
        policy = VQAThinkerForConditionalGeneration(config).bfloat16()
        batch = Batch(config, 1, ANSWERS, length, shortest=length)
    policy.lm_head.weight.data[[STOP, PAD]] = 0  # never among the 50 likeliest: all answers get their full length
    policy.gradient_checkpointing_enable({"use_reentrant": False})
    shape = work.Shape(1, batch.answers, FRAMES, batch.length)
    row: dict[str, Any] = {"size": size, "parameters": parameters, "shape": asdict(shape) | {"prompt": batch.prompt}}
    if bytes_each > 12:  # float32 weights, and gradients twice
        row["gradient_errors"] = gradient_errors(policy, batch)
    row |= updates(policy, batch, shape, config, device, rounds)
    row["rollout"] = rollouts(policy, batch, device)
    row["elapsed"] = time.perf_counter() - start
    one = sum(row["rollout"]["arms"][way]["median"] + 3 * row["update"]["arms"][way]["median"] for way in WAYS)
    # Weights, gradients, the reference's weights and two moments.
    if bytes_each > 10 and row["elapsed"] + STEPS * one < left:
        row["step"] = steps(policy, batch, device, 1 if toy else STEPS)
    if toy or 2 * row["elapsed"] < left:  # last: compiling takes as long for every size
        row["forms"] = {form: other_form(policy, batch, form, device, rounds) for form in FORMS}
    return row


def gradient_errors(policy: Any, batch: Batch) -> dict[str, float]:
    """How far each way's gradients in bfloat16, and ours in float32, are from the stock way's in float32, relative to
    their size; the last answer is a third shorter. Leaves policy and batch as they were."""
    whole = batch.mask.clone()
    batch.mask[-1, -(batch.length // 3) :] = 0
    exact = gradients(policy.float(), batch, row_logps)
    found = {"ours, float32": relative(gradients(policy, batch, packed_logps), exact)}
    policy.bfloat16()
    found |= {way: relative(gradients(policy, batch, logps), exact) for way, logps in WAYS.items()}
    batch.mask[:] = whole
    return found


def gradients(policy: Any, batch: Batch, logps: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    """Of one update, kept apart."""
    policy.zero_grad()
    update(policy, batch, logps)
    found = [weight.grad for weight in policy.parameters() if weight.grad is not None]
    policy.zero_grad()
    return found


def relative(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """Norm of all differences over the norm of all that is wanted."""
    apart = sum((a.float() - b).norm() ** 2 for a, b in zip(found, wanted, strict=True))
    return float((torch.as_tensor(apart) / sum(b.norm() ** 2 for b in wanted)) ** 0.5)


def update(
    policy: Any, batch: Batch, logps: Callable[..., torch.Tensor], reference: torch.Tensor | None = None
) -> None:
    """GRPO's loss and its gradients."""
    found = logps(policy.train(), batch)
    apart = torch.zeros_like(found) if reference is None else reference - found
    losses = BETA * (apart.exp() - apart - 1) - (found - found.detach()).exp() * batch.advantages
    (losses * batch.known).sum().div(batch.known.sum()).backward()


def updates(
    policy: Any, batch: Batch, shape: work.Shape, config: VQAThinkerConfig, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Time, and peak memory beyond weights and gradients."""
    ways = {way: waiting(partial(update, policy, batch, logps), device) for way, logps in WAYS.items()}
    found = measure.in_turns(ways, rounds)
    peaks = {way: peak(run, device) for way, run in ways.items()}
    policy.zero_grad(set_to_none=False)
    median = {way: found["arms"][way]["median"] for way in WAYS}
    found["tokens_per_second"] = {way: batch.known.sum().item() / median[way] for way in WAYS}
    found["peak_share"] = peak_shares(median, shape, batch.prompt, config, device)
    trained = [weight for weight in policy.parameters() if weight.grad is not None]
    held = 2 * sum(weight.numel() for weight in (*policy.parameters(), *trained))
    needed = budget.Shape(batch.clips, batch.answers, batch.prompt, batch.length, FRAMES)
    return {
        "update": found,
        "activation_bytes": peaks,
        "activation_ratio": peaks["ours"] / peaks["stock way"],
        "memory": {
            "measured": held + peaks["ours"],
            "budget": held
            + budget.activation_bytes(config, needed, 2, True)
            + budget.backward_bytes(config, needed, 2, True),
        },
    }


def other_form(policy: Any, batch: Batch, form: str, device: torch.device, rounds: int) -> dict[str, Any]:
    """An update with another form of packed attention; `left_out` says why one cannot run here."""
    run = waiting(partial(update, policy, batch, partial(packed_logps, form=form)), device)
    try:
        found = measure.in_turns({measure.OURS: run}, rounds)["arms"][measure.OURS]
        return {"median": found["median"], "activation_bytes": peak(run, device)}
    except Exception as error:  # compilers fail in many ways, and the other numbers count without this one
        return {"left_out": f"{type(error).__name__}: {str(error)[:200]}"}
    finally:
        policy.zero_grad()


def peak_shares(
    median: dict[str, float], shape: work.Shape, prompt: int, config: VQAThinkerConfig, device: torch.device
) -> dict[str, float]:
    """Operations of an update, without what checkpointing repeats, over what the chip could do in its time."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    most = next((flops for chip, flops in PEAKS.items() if chip in name), None)
    if most is None:
        return {}
    flops = {way: work.flops(FORMULA[way], shape, prompt, False, config, compact=True)["update"] for way in WAYS}
    return {way: flops[way] / median[way] / most for way in WAYS}


def rollouts(policy: Any, batch: Batch, device: torch.device) -> dict[str, Any]:
    """Sampling the answers, encoding included."""
    ways = {way: waiting(partial(sample, policy, batch), device) for way, sample in SAMPLE.items()}
    found = measure.in_turns(ways, 1)
    count = batch.known.sum().item()
    return found | {"tokens_per_second": {way: count / found["arms"][way]["median"] for way in WAYS}}


@torch.no_grad()
def shared(policy: Any, batch: Batch) -> torch.Tensor:
    """(C K, L) answers, each prompt read once."""
    policy.eval()
    encoded = policy.encode(frames=batch.visual["frames"])
    prompts = [policy.prompt_embeds(p, [clip]) for p, clip in zip(batch.prompts, encoded, strict=True)]
    engine = TransformersEngine(policy, [STOP], [policy.config.image_token_id])
    groups = engine.generate(prompts, batch.answers, Sampling(batch.length, TEMPERATURE, top_k=TOP_K))
    return torch.tensor([answer.token_ids for group in groups for answer in group])


@torch.no_grad()
def repeated(policy: Any, batch: Batch) -> torch.Tensor:
    """The same by transformers' `generate`, a prompt per answer."""
    settings = GenerationConfig(
        max_new_tokens=batch.length,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=TOP_K,
        eos_token_id=STOP,
        pad_token_id=PAD,
        suppress_tokens=[policy.config.image_token_id],
    )
    prompts = batch.ids[:, : batch.prompt]
    mask = torch.ones_like(prompts)
    return policy.eval().generate(prompts, attention_mask=mask, generation_config=settings, **batch.repeated())


SAMPLE = {"ours": shared, "stock way": repeated}


def steps(policy: Any, batch: Batch, device: torch.device, rounds: int) -> dict[str, Any]:
    """Sample, reference, update, optimizer."""
    policy.zero_grad()  # a copy would have gradients too
    reference = copy.deepcopy(policy).eval().requires_grad_(False)
    weights = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(way: str) -> None:
        batch.ids[:, -batch.length :] = SAMPLE[way](policy, batch)
        with torch.no_grad():
            known = WAYS[way](reference, batch)
        update(policy, batch, WAYS[way], known)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return measure.in_turns({way: waiting(partial(step, way), device) for way in WAYS}, rounds, warm_up=False)


def waiting(way: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """It, until the GPU is done."""

    def run() -> None:
        way()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def peak(way: Callable[[], object], device: torch.device) -> int:
    """Most bytes at one time, beyond those from before."""
    if device.type == "cpu":
        return measure.peak_bytes(way)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way()
    return torch.cuda.max_memory_allocated() - before


def show(row: dict[str, Any]) -> None:
    """Print what was found."""
    if "left_out" in row:
        print(f"\n{row['size']}: left out, {row['left_out']}", flush=True)
        return
    shape = row["shape"]
    print(f"\n{row['size']}: K={shape['answers']}, P={shape['prompt']}, L={shape['tokens']}, {row['elapsed']:.0f} s")
    for part in ("update", "rollout", "step"):
        if part in row:
            seconds = ", ".join(f"{way} {arm['median']:.3g} s" for way, arm in row[part]["arms"].items())
            print(f"  {part:9} {row[part]['ratios']['stock way']:.2f}x ({seconds})")
    for part in ("update", "rollout"):
        print(f"  tokens a second, {part}: {rounded(row[part]['tokens_per_second'])}")
    for form, found in row.get("forms", {}).items():
        print(f"  update with {form} attention: {found.get('left_out') or format(found['median'], '.3g') + ' s'}")
    print(f"  share of the chip's peak: {rounded(row['update']['peak_share']) or 'unknown'}")
    print(f"  activations, GiB: {rounded(row['activation_bytes'], budget.GIB)}: {row['activation_ratio']:.2f}x")
    print(f"  memory of our update, GiB: {rounded(row['memory'], budget.GIB)}")
    print(f"  gradients' distance from float32: {rounded(row.get('gradient_errors', {})) or 'too large'}", flush=True)


def rounded(held: dict[str, float], unit: int = 1) -> str:
    return ", ".join(f"{name} {number / unit:.3g}" for name, number in held.items())


if __name__ == "__main__":
    measure.quiet()
    main()

"""Sampling with vLLM and with transformers, from embedded prompts: tokens per second.

python -m benchmarks.engines            # three minutes on two cores; prints a table, writes runs/engines.json
python -m benchmarks.engines --quick    # toy size: says nothing of speed

Ours is one request to vLLM for the K answers to a prompt. Beside it one request per answer, as TRL makes them, to the
same engine, and this library's transformers engine. Encoding the clips, the same for all, is left out; vLLM's prefix
cache is empty before each, as it is after new weights came.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoProcessor

from benchmarks import measure
from benchmarks.models import LARGE, TOY, make_policy
from benchmarks.report import ENGINE_WAYS, label
from benchmarks.work import Shape
from vqathinker.policy import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Completion, RolloutEngine, Sampling, make_engine
from vqathinker.scoring.predict import embed_prompts

if TYPE_CHECKING:
    from vqathinker.rollout.vllm_engine import VLLMEngine

HEADLINE = {Shape(clips=2, answers=8, tokens=48): 5, Shape(clips=2, answers=4, tokens=200): 3}
"""Shape -> rounds."""
QUICK = {Shape(clips=2, answers=3, frames=4, tokens=8): 1}
QUICK_SIZE = replace(TOY, text=(128, 2))
"""vLLM's attention on CPUs has no kernel for the toy's narrow heads."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy size")
    parser.add_argument("--out", type=Path, default=Path("runs/engines.json"))
    options = parser.parse_args(argv)
    rows = measured(options.quick)
    show(rows)
    environment = measure.environment()
    environment["packages"]["vllm"] = importlib.import_module("vllm").__version__  # whatever its build is called
    measure.save({"environment": environment, "quick": options.quick, "engines": {"rows": rows}}, options.out)


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per shape."""
    size, shapes = (QUICK_SIZE, QUICK) if quick else (LARGE, HEADLINE)
    with tempfile.TemporaryDirectory() as folder:
        make_policy(Path(folder), size, motion=False)
        policy = VQAThinkerForConditionalGeneration.from_pretrained(folder).eval()
        processor = AutoProcessor.from_pretrained(folder)
    processor.num_frames = next(iter(shapes)).frames
    longest = max(shape.tokens for shape in shapes)
    vllm: Any = make_engine(policy, processor, "vllm", batch_size=32, longest_answer=longest, vllm_memory=0.2)
    plain = make_engine(policy, processor)
    return [compared(policy, processor, vllm, plain, shape, rounds) for shape, rounds in shapes.items()]


def compared(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    vllm: VLLMEngine,
    plain: RolloutEngine,
    shape: Shape,
    rounds: int,
) -> dict[str, Any]:
    """Times, tokens per second and the prompts' tokens that each way computes, for clips of the processor's frames.

    Raises:
        ValueError: If an answer ends early, so that the ways have different work.
    """
    generator, blank = torch.Generator().manual_seed(0), processor.blank_clip()
    pictures = [torch.randint(0, 256, blank.frames.shape, generator=generator) for _ in range(shape.clips)]
    clips = [replace(blank, frames=frames.to(torch.uint8)) for frames in pictures]
    prompts = embed_prompts(policy, processor, clips)
    repeated = [prompt for prompt in prompts for _ in range(shape.answers)]
    sampling = Sampling(shape.tokens)

    def fresh(prompts: list[torch.Tensor], n: int) -> list[list[Completion]]:
        vllm.llm.reset_prefix_cache()
        return vllm.generate(prompts, n, sampling)

    calls: list[Callable[[], list[list[Completion]]]] = [
        partial(fresh, prompts, shape.answers),
        partial(fresh, repeated, 1),
        partial(plain.generate, prompts, shape.answers, sampling),
    ]
    ways = dict(zip(ENGINE_WAYS, calls, strict=True))
    computed = {}
    for name, way in ways.items():
        before = found_in_cache(vllm)
        answers = [answer for group in way() for answer in group]
        if [len(answer.token_ids) for answer in answers] != [shape.tokens] * shape.clips * shape.answers:
            raise ValueError(f"{name}: an answer has fewer than {shape.tokens} tokens: all must have as many.")
        asked, hit = (now - then for now, then in zip(found_in_cache(vllm), before, strict=True))
        computed[name] = (asked - hit) or sum(len(prompt) for prompt in prompts)
    found = measure.in_turns(ways, rounds, warm_up=False)
    tokens = shape.clips * shape.answers * shape.tokens
    found["tokens_per_second"] = {name: tokens / arm["median"] for name, arm in found["arms"].items()}
    return {"shape": asdict(shape) | {"prompt": len(prompts[0])}, "computed": computed, "sampling": found}


def found_in_cache(vllm: VLLMEngine) -> tuple[int, int]:
    """Tokens of prompts that vLLM's prefix cache was asked for so far, and those that it had."""
    known = {metric.name: getattr(metric, "value", 0) for metric in vllm.llm.get_metrics()}
    return known["vllm:prefix_cache_queries"], known["vllm:prefix_cache_hits"]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = [[label(row), *row["sampling"]["tokens_per_second"].values(), *row["computed"].values()] for row in rows]
    header = [f"{name} ({unit})" for unit in ("tokens/s", "prompt tokens") for name in ENGINE_WAYS]
    measure.show("Engines", ["shape", *header], table)


if __name__ == "__main__":
    measure.quiet()
    main()

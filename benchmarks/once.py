"""Time ratios on this machine, the two ways interleaved in one run.

python -m benchmarks.once      # prints a table and writes runs/once.json
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from transformers import GenerationConfig

from vqathinker import perturb
from vqathinker.policy import STREAMS, ClipFeatures
from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.synth import tiny_policy
from vqathinker.training.groups import pack_groups

CLIPS, ANSWERS, TOKENS, ROUNDS = 8, 8, 32, 5


def main() -> None:
    policy, processor = tiny_policy()
    policy.eval()
    rng = np.random.default_rng(0)
    clips = [processor.from_array(rng.integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)) for _ in range(CLIPS)]
    frames = torch.stack([clip.frames for clip in clips])
    with torch.no_grad():
        features = policy.encode(frames=frames, motion_frames=[clip.motion_frames for clip in clips])
    maps = [perturb.draw(6, rng, variant="official") for _ in clips]
    prompt = torch.tensor(processor.prompt_ids()).expand(CLIPS * ANSWERS, -1)
    ids = torch.cat([prompt, torch.randint(10, 200, (CLIPS * ANSWERS, TOKENS))], dim=1)
    motion = torch.randn(CLIPS, policy.config.motion_tokens, policy.config.motion_config.feature_size)
    index = processor.index_of([processor.render()] * CLIPS)
    visual = {"frames": frames, "motion_features": motion, "visual_index": index}
    pairs = {
        "perturbed copies: re-index features / encode again": perturbed(policy, processor, clips, features, maps),
        "K answers in the loss: clip and prompt once / K times": grouped(policy, processor, ids, visual),
        "answers of 8 to 32 tokens in the loss: one after another / all as the longest": ragged(policy, ids, visual),
        "frozen vision in the loss: tokens kept from the rollouts / encoded again": kept(policy, ids, visual, features),
        "K answers sampled: prompt read and kept once / K times": sampled(policy, processor, features),
    }
    table = [[name, *compare(*ways)] for name, ways in pairs.items()]
    print(tabulate(table, ["what", "first (ms)", "second (ms)", "ratio"], floatfmt=".2f"))
    Path("runs").mkdir(exist_ok=True)
    Path("runs/once.json").write_text(json.dumps({row[0]: row[1:] for row in table}, indent=1), encoding="utf-8")


def compare(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float, float]:
    """Median milliseconds of each and the median of their ratios, run in turns after one warm-up."""
    first(), second()
    times = [(clock(first), clock(second)) for _ in range(ROUNDS)]
    ratios = [b / a for a, b in times]
    return *(1000 * statistics.median(column) for column in zip(*times, strict=True)), statistics.median(ratios)


def clock(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        way()
    return time.perf_counter() - start


def perturbed(policy, processor, clips, features, maps):
    runs = [frame_map.apply(clip.motion_frames) for clip, frame_map in zip(clips, maps, strict=True)]

    stream = STREAMS["motion"]

    def reindex() -> list[ClipFeatures]:
        _, blanks = policy.blanks(processor.blank_clip())
        motion = stream.project(policy.model, stream.features(policy.model, runs))
        copies = zip(features, maps, motion, strict=True)
        return [known.perturbed(m, blanks, {"motion": tokens}) for known, m, tokens in copies]

    def again() -> list[ClipFeatures]:
        shown = [frame_map.apply(clip.frames) for clip, frame_map in zip(clips, maps, strict=True)]
        return policy.encode(frames=shown, motion_frames=runs)

    return reindex, again


def grouped(policy, processor, ids, visual):
    mask = torch.ones_like(ids)
    repeated = {name: values.repeat_interleave(ANSWERS, 0) for name, values in visual.items()}
    repeated["visual_index"] = processor.index_of([processor.render()] * CLIPS * ANSWERS)
    packed = pack_groups(ids, mask, CLIPS, TOKENS)
    return lambda: policy(**packed.inputs, **visual), lambda: policy(ids, mask, **repeated)


def ragged(policy, ids, visual):
    short, full = torch.ones_like(ids), torch.ones_like(ids)
    short[:, -TOKENS:] = torch.arange(TOKENS) < torch.randint(8, TOKENS + 1, (len(ids), 1))
    rows = [pack_groups(ids, mask, CLIPS, TOKENS).inputs for mask in (short, full)]
    return lambda: policy(**rows[0], **visual), lambda: policy(**rows[1], **visual)


def kept(policy, ids, visual, features):
    rows = pack_groups(ids, torch.ones_like(ids), CLIPS, TOKENS).inputs
    encoded = visual | {"frames": None, "spatial_features": [clip["spatial"] for clip in features]}
    return lambda: policy(**rows, **encoded), lambda: policy(**rows, **visual)


def sampled(policy, processor, features):
    tokenizer = processor.tokenizer
    engine = TransformersEngine(policy, [tokenizer.eos_token_id])
    prompts = [policy.prompt_embeds(processor.render(), [f]).detach() for f in features]
    embeds = torch.stack(prompts).repeat_interleave(ANSWERS, 0)
    config = GenerationConfig(
        max_new_tokens=TOKENS, do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )

    def repeated() -> object:
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        return policy.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config)

    return lambda: engine.generate(prompts, ANSWERS, Sampling(TOKENS)), repeated


if __name__ == "__main__":
    main()

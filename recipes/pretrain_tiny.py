"""Makes the tiny base policy that ships with the package, as VQA²'s first stage does for a real one.

    python recipes/pretrain_tiny.py --out vqathinker/synth/base

Stage 1a: vision tower and projector learn kind and severity of spatial distortions from single frames.
Stage 1b: motion encoder and projector learn stutter, dropped and shuffled frames. Both are frozen afterwards.
The language model stays random: it learns in the warm start. None of the demo's clips or unseen kinds is used.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import perturb
from vqathinker.clips import open_clip, run_indices, uniform_indices
from vqathinker.data import LabelRow, read_labels
from vqathinker.synth import SynthSpec, make_set, tiny_policy

SPATIAL = ("none", "blur", "noise", "rescale", "compression")
TEMPORAL = ("none", "stutter", "frame_drop", "shuffle")
TOKEN_STD = 0.3  # of visual tokens where they enter the language model


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new base")
    parser.add_argument("--clips", type=int, default=4000, help="training clips; a tenth as many for validation")
    parser.add_argument("--vision_steps", type=int, default=4000)
    parser.add_argument("--motion_steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=20_000, help="far from any seed of the demo")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    torch.manual_seed(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        splits = {"pretrain": options.clips, "pretrain_val": max(8, options.clips // 10)}
        make_set(folder, SynthSpec(splits=splits, seed=options.seed))
        train, val = (Clips(read_labels(f"{folder}/{name}.csv", folder, "identity")) for name in splits)

    policy, processor = tiny_policy(options.seed)
    report = {"vision": train_vision(policy, train, val, options.vision_steps, np.random.default_rng(options.seed))}
    report["motion"] = train_motion(policy, train, val, options.motion_steps, np.random.default_rng(options.seed + 1))
    report |= {"seed": options.seed, "clips": options.clips, "seconds": round(time.perf_counter() - start)}
    policy.save_pretrained(options.out)
    processor.save_pretrained(options.out)
    (options.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


class Clips:
    """Decoded clips in memory: frames (N, 24, 96, 96, 3) uint8, kinds and severities (N,)."""

    def __init__(self, rows: list[LabelRow]) -> None:
        self.frames = np.stack([open_clip(row.video).frames(range(24)) for row in tqdm(rows, desc="decoding")])
        self.kinds = np.array([row.extra["kind"] for row in rows])
        self.severities = np.array([float(row.extra["severity"]) for row in rows], dtype=np.float32)

    def targets(self, names: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and severity as far as `names` go: other kinds count as "none" with severity 0."""
        classes = np.array([names.index(kind) if kind in names else 0 for kind in self.kinds])
        return torch.from_numpy(classes), torch.from_numpy(np.where(classes > 0, self.severities, 0))


def train_vision(policy, train: Clips, val: Clips, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Random frames, random 64-pixel crops on the codec's 8-pixel grid, flips."""
    model, width = policy.model, policy.config.text_config.hidden_size
    head = nn.Linear(width, len(SPATIAL) + 1)
    parts = nn.ModuleList([model.vision_tower, model.multi_modal_projector, head])
    classes, severities = train.targets(SPATIAL)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index = rng.integers(len(train.frames), size=128)
        y, x = 8 * rng.integers(0, 5, 2)
        frames = train.frames[index, rng.integers(24, size=128), y : y + 64, x : x + 64]
        frames = frames[:, :, ::-1] if rng.random() < 0.5 else frames
        pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        return head(model.frame_features(pixels).mean(1)), classes[index], severities[index]

    fit(parts, batch, steps, 1.5e-3, "vision")
    with torch.no_grad():
        crops = torch.from_numpy(val.frames[:, ::8, 16:80, 16:80].transpose(0, 1, 4, 2, 3).copy())
        tokens = torch.stack([model.frame_features(clip) for clip in crops])  # (N, 3, n, D)
        scale_tokens(model.multi_modal_projector.linear_2, tokens)
        return judge(head(tokens.mean((1, 2))), *val.targets(SPATIAL))


def train_motion(policy, train: Clips, val: Clips, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Every clip as it is, or with its runs of frames re-ordered as the temporal reward's perturbations do."""
    model, width, tokens = policy.model, policy.config.text_config.hidden_size, policy.config.motion_tokens
    head = nn.Linear(width, len(TEMPORAL) + 1)
    encoder, projector = model.motion_encoder, model.motion_projector
    encoder.requires_grad_(True)
    nn.ModuleList(encoder.blocks).train()
    for linear in (projector.linear_1, projector.linear_2):  # the published initialisation hardly starts at this size
        nn.init.xavier_uniform_(linear.weight)
    runs = run_indices(uniform_indices(24, 6), 24, policy.config.motion_run_length)

    def look(clips: Clips, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        classes, severities = clips.targets(TEMPORAL)
        frames, kinds, degrees = [], classes[index].clone(), severities[index].clone()
        y, x = 8 * rng.integers(0, 5, 2)
        for place, clip in enumerate(index):
            shown = clips.frames[clip][runs][..., y : y + 64, x : x + 64, :]  # (6, r, 64, 64, 3)
            if kinds[place] == 0 and rng.random() < 0.4:
                mode = rng.choice(["global_shuffle", "local_shuffle", "duplicate"])
                shown = perturb.draw(6, rng, [str(mode)], "official").apply(shown)
                kinds[place], degrees[place] = TEMPORAL.index("shuffle"), 1.0
            frames.append(shown.reshape(-1, 64, 64, 3).transpose(0, 3, 1, 2))
        pixels = torch.from_numpy(np.stack(frames))
        return projector(encoder.features(pixels, tokens)), kinds, degrees

    # Temporal kinds are a third of the clips; draw them as often as the others.
    temporal = np.isin(train.kinds, TEMPORAL)
    chance = np.where(temporal, 0.55 / temporal.sum(), 0.45 / (~temporal).sum())

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found, kinds, degrees = look(train, rng.choice(len(train.frames), 32, p=chance))
        return head(found.mean(1)), kinds, degrees

    fit(nn.ModuleList([encoder.blocks, projector, head]), batch, steps, 2e-3, "motion")
    encoder.requires_grad_(False)
    encoder.eval()
    with torch.no_grad():
        parts = [look(val, part) for part in np.array_split(np.arange(len(val.frames)), max(1, len(val.frames) // 32))]
        found, kinds, degrees = (torch.cat(column) for column in zip(*parts, strict=True))
        scale_tokens(projector.linear_2, found)
        return judge(head(found.mean(1)), kinds, degrees)


def fit(parts: nn.Module, batch, steps: int, rate: float, name: str) -> None:
    """AdamW on cross-entropy of the kind + 8 x squared error of the severity."""
    parameters = list(parts.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    for step in (bar := tqdm(range(steps), desc=name)):
        output, classes, severities = batch(step)
        loss = F.cross_entropy(output[:, :-1], classes) + 8 * F.mse_loss(output[:, -1], severities)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def scale_tokens(linear: nn.Linear, tokens: torch.Tensor) -> None:
    """Rescale a projector's last layer so that its tokens enter the language model with one spread."""
    factor = TOKEN_STD / tokens.std()
    linear.weight.data.mul_(factor)
    linear.bias.data.mul_(factor)


def judge(output: torch.Tensor, classes: torch.Tensor, severities: torch.Tensor) -> dict[str, float]:
    """Accuracy of the kind, and SRCC of the severity among the clips that have one of the kinds."""
    some = classes > 0
    return {
        "accuracy": round((output[:, :-1].argmax(1) == classes).float().mean().item(), 4),
        "severity_srcc": round(float(spearmanr(output[some, -1], severities[some]).statistic), 4),
    }


if __name__ == "__main__":
    main()

"""Makes the tiny base policy that ships with the package, as VQA²'s first stage does for a real one.

    python recipes/pretrain_tiny.py --out vqathinker/synth/base

Stage 1a: vision tower and projector learn kind and severity of spatial distortions from single frames.
Stage 1b: motion encoder and projector learn stutter, dropped and shuffled frames. Both are frozen afterwards.
Stage 1c: the language model learns to tell from their tokens what is wrong with a clip, shuffled ones among them, and
how many points of the five-point scale that costs (as a DMOS). It never sees a score.
None of the demo's clips or unseen kinds is used.
"""

import json
import math
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from vqathinker import perturb
from vqathinker.arguments import Parser
from vqathinker.clips import open_clip, run_indices, uniform_indices
from vqathinker.data import LabelRow, read_labels
from vqathinker.evaluation import srcc
from vqathinker.policy import ClipInput, load_policy, tokens_in
from vqathinker.rewards.distortion import degree, parse_distortions
from vqathinker.rollout import Sampling
from vqathinker.scoring import predict
from vqathinker.synth import SPATIAL, TEMPORAL, SynthSpec, make_set, tiny_policy

SHUFFLE = "shuffle"  # what the temporal reward's perturbations do; no distortion of the data
SHUFFLES = ("global_shuffle", "local_shuffle", "duplicate")
MOTION_KINDS = (*TEMPORAL, SHUFFLE)
PLACES = ("early", "midway", "late", "throughout")
DESCRIBE = "What is wrong with this video?"
TOKEN_STD = 0.3  # of visual tokens where they enter the language model
CROP, MOTION_CROP, FRAMES = 64, 48, 24


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the new base to")
    parser.add_argument("--clips", type=int, default=8000, help="training clips; a tenth as many for validation")
    parser.add_argument("--vision-steps", type=int, default=4000, help="steps of the vision tower")
    parser.add_argument("--motion-steps", type=int, default=3000, help="steps of the motion branch")
    parser.add_argument("--language-steps", type=int, default=2500, help="steps of the language model")
    parser.add_argument("--seed", type=int, default=20_000, help="random seed, far from any that the demo uses")
    parser.add_argument("--encoders", type=Path, help="base to take the stages 1a and 1b from; only 1c is run")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    torch.manual_seed(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        splits = {"pretrain": options.clips, "pretrain_val": max(8, options.clips // 10)}
        make_set(folder, SynthSpec(splits=splits, seed=options.seed))
        train, val = (Clips(read_labels(f"{folder}/{name}.csv", folder, "identity")) for name in splits)
        policy, processor = tiny_policy(options.seed)
        rngs = [np.random.default_rng(options.seed + stage) for stage in range(3)]
        if options.encoders:
            report = keep_encoders(policy, options.encoders)
        else:
            report = {
                "vision_steps": options.vision_steps,
                "motion_steps": options.motion_steps,
                "vision": train_vision(policy, train, val, options.vision_steps, rngs[0]),
                "motion": train_motion(policy, train, val, options.motion_steps, rngs[1]),
            }
        report["language"] = train_language(policy, processor, train, val, options.language_steps, rngs[2])
    report |= {name: getattr(options, name) for name in ("language_steps", "clips", "seed")}
    report["seconds"] = round(time.perf_counter() - start)
    policy.save_pretrained(options.out)
    processor.save_pretrained(options.out)
    (options.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


def keep_encoders(policy, base: Path) -> dict:
    """Takes over all but the language model of another base; what its report says of them."""
    weights = load_policy(base)[0].state_dict()
    own = ("model.language_model.", "lm_head.")
    policy.load_state_dict({name: weights[name] for name in weights if not name.startswith(own)}, strict=False)
    report = json.loads((base / "pretraining.json").read_text(encoding="utf-8"))
    return {name: report[name] for name in ("vision_steps", "motion_steps", "vision", "motion")}


class Clips:
    """Decoded clips in memory: frames (N, 24, 96, 96, 3) uint8 and what is wrong with them."""

    def __init__(self, rows: list[LabelRow]) -> None:
        self.frames = np.stack([open_clip(row.video).frames(range(FRAMES)) for row in tqdm(rows, desc="decoding")])
        self.videos = [row.video for row in rows]
        self.distortions = [parse_distortions(row.extra["kind"], row.extra["severity"]) for row in rows]
        self.when = [row.extra["when"] for row in rows]
        self.places = torch.tensor([PLACES.index(when) if when else -100 for when in self.when])

    def targets(self, kinds: Sequence[str]) -> torch.Tensor:
        """(N, kinds) severities, 0 where a clip has not got the kind."""
        return torch.tensor([[degrees.get(kind, 0.0) for kind in kinds] for degrees in self.distortions])

    def crop(self, clip: int, frames: int | slice, size: int, rng: np.random.Generator) -> np.ndarray:
        """(..., size, size, 3) frames of a clip at a random place of the codec's 8-pixel grid, half of them flipped."""
        y, x = 8 * rng.integers(0, (self.frames.shape[2] - size) // 8 + 1, 2)
        view = self.frames[clip, frames, y : y + size, x : x + size]
        return view[..., ::-1, :] if rng.random() < 0.5 else view


def train_vision(policy, train: Clips, val: Clips, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """One random frame of each of 128 clips a step."""
    model, width = policy.model, policy.config.text_config.hidden_size
    head = nn.Linear(width, 2 * len(SPATIAL) + 1)
    severities = train.targets(list(SPATIAL))

    def batch() -> torch.Tensor:
        index = rng.integers(len(train.frames), size=128)
        frames = np.stack([train.crop(clip, int(rng.integers(FRAMES)), CROP, rng) for clip in index])
        return finding_loss(head(model.frame_features(to_pixels(frames)).mean(1)), severities[index])

    fit(nn.ModuleList([model.vision_tower, model.multi_modal_projector, head]), batch, steps, 1.5e-3, "vision")
    with torch.no_grad():
        crops = torch.from_numpy(val.frames[:, ::8, 16:80, 16:80].transpose(0, 1, 4, 2, 3).copy())
        tokens = torch.stack([model.frame_features(clip) for clip in crops])  # (N, 3, n, D)
        scale_tokens(model.multi_modal_projector.linear_2, tokens)
        return judge(head(tokens.mean((1, 2))), val.targets(list(SPATIAL)))


def train_motion(policy, train: Clips, val: Clips, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Every clip as it is, or re-ordered as the temporal reward's perturbations do."""
    model, width, tokens = policy.model, policy.config.text_config.hidden_size, policy.config.motion_tokens
    head, place_head = nn.Linear(width, 2 * len(MOTION_KINDS) + 1), nn.Linear(tokens * width, len(PLACES))
    encoder, projector = model.motion_encoder, model.motion_projector
    encoder.requires_grad_(True)
    nn.ModuleList(encoder.blocks).train()
    start_motion(policy)
    runs = run_indices(uniform_indices(FRAMES, 6), FRAMES, policy.config.motion_run_length)

    def look(clips: Clips, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        severities = clips.targets(MOTION_KINDS)[index]
        views = []
        for place, clip in enumerate(index):
            view = clips.crop(clip, slice(None), MOTION_CROP, rng)
            if not severities[place].any() and rng.random() < 0.4:
                severities[place, MOTION_KINDS.index(SHUFFLE)] = 1.0
                if rng.random() < 0.5:
                    view = view[rng.permutation(FRAMES)][runs]
                else:
                    view = perturb.draw(len(runs), rng, SHUFFLES, "official").apply(view[runs])
            else:
                view = view[runs]
            views.append(view.reshape(-1, MOTION_CROP, MOTION_CROP, 3))
        return projector(encoder(to_pixels(np.stack(views)), tokens)), severities

    # Less than half of the clips have a temporal kind.
    temporal = train.targets(list(TEMPORAL)).any(1).numpy()
    chance = np.where(temporal, 0.6 / temporal.sum(), 0.4 / (~temporal).sum())

    def batch() -> torch.Tensor:
        index = rng.choice(len(train.frames), 32, p=chance)
        found, severities = look(train, index)
        places = F.cross_entropy(place_head(found.flatten(1)), train.places[index])
        return finding_loss(head(found.mean(1)), severities) + 0.3 * places

    fit(nn.ModuleList([encoder.blocks, projector, head, place_head]), batch, steps, 2e-3, "motion")
    encoder.requires_grad_(False)
    encoder.eval()
    with torch.no_grad():
        parts = [look(val, part) for part in np.array_split(np.arange(len(val.frames)), max(1, len(val.frames) // 32))]
        found, severities = (torch.cat(column) for column in zip(*parts, strict=True))
        known = val.places >= 0
        right = place_head(found[known].flatten(1)).argmax(1) == val.places[known]
        scale_tokens(projector.linear_2, found)
        return judge(head(found.mean(1)), severities) | {"place_accuracy": round(right.float().mean().item(), 4)}


def start_motion(policy) -> None:
    """Initial weights from which so small a network learns motion: with the published ones it hardly starts."""
    stems = [m for m in policy.model.motion_encoder.blocks[0].modules() if isinstance(m, nn.Conv3d)]
    weight = next(stem for stem in stems if stem.in_channels == 3 and stem.kernel_size[0] > 1).weight.data  # fast path
    now = weight.shape[2] // 2
    difference = torch.zeros_like(weight)  # between each frame and the one before
    difference[:, :, now], difference[:, :, now - 1] = 3 * weight[:, :, now], -3 * weight[:, :, now]
    weight.copy_(difference)
    for linear in (policy.model.motion_projector.linear_1, policy.model.motion_projector.linear_2):
        nn.init.xavier_uniform_(linear.weight)


def train_language(
    policy, processor, train: Clips, val: Clips, steps: int, rng: np.random.Generator
) -> dict[str, float]:
    """Descriptions such as "strong blur 71 and slight stutter early 25, overall 3.13" of 32 clips a step."""
    tokenizer, question = processor.tokenizer, processor.question
    processor.question = DESCRIBE
    prompt = torch.tensor(processor.prompt_ids())

    # Every clip as it is and flipped; one look in six at a shuffled clip.
    still = [i for i in range(len(train.frames)) if not train.when[i]]
    views = [
        clip_tokens(policy, processor, train.frames),
        clip_tokens(policy, processor, train.frames[..., ::-1, :]),
        clip_tokens(policy, processor, train.frames[still], rng),
    ]
    plain = [describe(*clip) for clip in zip(train.distortions, train.when, strict=True)]
    texts = [plain, plain, [describe(train.distortions[i] | {SHUFFLE: 1.0}, "") for i in still]]
    chance = np.concatenate([np.full(len(v), p / len(v)) for v, p in zip(texts, (5 / 12, 5 / 12, 1 / 6), strict=True)])
    features, texts = torch.cat(views), np.array([text + tokenizer.eos_token for view in texts for text in view])

    def batch() -> torch.Tensor:
        index = rng.choice(len(features), 32, p=chance)
        answers = tokenizer(texts[index].tolist(), add_special_tokens=False, padding_side="right", padding=True)
        ids, known = torch.tensor(answers["input_ids"]), torch.tensor(answers["attention_mask"])
        labels = ids.masked_fill(known == 0, -100)
        head = prompt.expand(len(index), -1)
        return policy(
            input_ids=torch.cat([head, ids], 1),
            attention_mask=torch.cat([torch.ones_like(head), known], 1),
            labels=torch.cat([torch.full_like(head, -100), labels], 1),
            visual_embeds=features[index],
        ).loss

    fit(nn.ModuleList([policy.model.language_model, policy.lm_head]), batch, steps, 1e-3, "language")
    told = predict(policy, processor, val.videos, sampling=Sampling(max_new_tokens=40))
    processor.question = question
    found = [re.search(r"overall (\d\.\d\d)$", prediction.answers[0]) for prediction in told]
    known = [i for i, match in enumerate(found) if match]
    overall, truth = [float(found[i].group(1)) for i in known], [together(val.distortions[i]) for i in known]
    return {"parsed": round(len(known) / len(told), 4), "severity_srcc": round(srcc(overall, truth), 4)}


def together(distortions: dict[str, float]) -> float:
    """Severity of all distortions of a clip."""
    return 1 - math.prod(1 - severity for severity in distortions.values())


def describe(distortions: dict[str, float], when: str) -> str:
    """What is wrong with a clip, how badly in a word and in percent, and when, the worst first; and what all costs.

    In points below an undistorted clip's five, as a DMOS: from percent, whose digits do not change where the score's
    do, a short warm start learns the score's whole number only (docs/tuning.md).
    """
    parts = []
    for kind in sorted(distortions, key=lambda kind: -distortions[kind]):
        place = f" {when}" if kind in TEMPORAL else ""
        parts.append(f"{degree(distortions[kind])} {kind.replace('_', ' ')}{place} {100 * distortions[kind]:.0f}")
    return f"{' and '.join(parts)}, overall {4 * together(distortions):.2f}"


def shuffled(processor, clip: np.ndarray, rng: np.random.Generator) -> ClipInput:
    """A clip with all its frames in another order, or its key frames with their runs as the temporal reward does it."""
    if rng.random() < 0.5:
        return processor.from_array(clip[rng.permutation(len(clip))])
    look = processor.from_array(clip)
    change = perturb.draw(len(look.frames), rng, SHUFFLES, "official").apply
    return ClipInput(change(look.frames), change(look.motion_frames), change(look.indices))


@torch.no_grad()
def clip_tokens(policy, processor, clips: np.ndarray, shuffle: np.random.Generator | None = None) -> torch.Tensor:
    """(N, T n + m, D) visual tokens of clips (N, F, H, W, 3), as the processor would show them to the policy."""
    found = []
    for start in tqdm(range(0, len(clips), 64), desc="encoding"):
        part = clips[start : start + 64]
        looks = [shuffled(processor, clip, shuffle) if shuffle else processor.from_array(clip) for clip in part]
        features = policy.encode(
            frames=[look.frames for look in looks], motion_frames=[look.motion_frames for look in looks]
        )
        found += [tokens_in(processor.render(), [feature]) for feature in features]
    return torch.stack(found)


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """(..., H, W, 3) to (..., 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def finding_loss(output: torch.Tensor, severities: torch.Tensor) -> torch.Tensor:
    """Which kinds (binary cross-entropy), how severe each is and all together (squared error).

    Args:
        output: (B, 2 k + 1): a logit per kind, a severity per kind, the severity of all together.
        severities: (B, k), 0 = absent.
    """
    kinds = severities.shape[1]
    present, degrees = output[:, :kinds], output[:, kinds:]
    overall = 1 - (1 - severities).prod(1, keepdim=True)
    naming = F.binary_cross_entropy_with_logits(present, (severities > 0).float()) * kinds
    return naming + 8 * F.mse_loss(degrees, torch.cat([severities, overall], 1), reduction="none").sum(1).mean()


def fit(parts: nn.Module, batch, steps: int, rate: float, name: str) -> None:
    """AdamW with warm-up and cosine decay on the loss that each call of `batch` gives."""
    parameters = list(parts.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 20), steps)
    for step in (bar := tqdm(range(steps), desc=name)):
        loss = batch()
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


def judge(output: torch.Tensor, severities: torch.Tensor) -> dict[str, float]:
    """Accuracy of the kind among clips with at most one, and SRCC of the severity among those with at least one."""
    kinds = severities.shape[1]
    count = (severities > 0).sum(1)
    named = torch.where(output[:, :kinds].amax(1) > 0, output[:, :kinds].argmax(1), kinds)
    truth = torch.where(count > 0, severities.argmax(1), kinds)
    overall = 1 - (1 - severities).prod(1)
    return {
        "accuracy": round((named == truth)[count <= 1].float().mean().item(), 4),
        "severity_srcc": round(srcc(output[count > 0, -1].tolist(), overall[count > 0].tolist()), 4),
    }


if __name__ == "__main__":
    main()

"""Is the low-level stream worth its tokens? On ladders of clips that are larger than what the vision tower sees.

    python recipes/low_level.py            # five arms, 3 seeds: hours
    python recipes/low_level.py --quick    # a minute; the numbers mean nothing

CP-LLM never left its low-level encoder out. Here all parts of each arm are trained, by a warm start on ladders labelled
by VMAF, and it scores held-out ladders. Arms differ in what the language model sees of clips of 256 pixels, whose
frames the vision tower sees shrunk to 64:

    nothing      6 frames                                                        24 visual tokens
    more_frames  30 frames                                                      120
    tiles        6 frames, each once more in 2 x 2 tiles of 64 (InternVL's way)   120
    low          6 frames, each with 16 low-level tokens of 8 patches of 64      120
    low_tower    the same, but the encoder starts from the vision tower's weights

A result stands in runs/low_level/ARM/SEED/result.json and is kept until ladders, base or settings change. The table of
all is printed and written to runs/low_level/low_level.json.
"""

import hashlib
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from tabulate import tabulate
from transformers import AutoProcessor

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import read_labels
from vqathinker.evaluation import srcc
from vqathinker.evaluation.flip_rate import flip_rates, read_manifest
from vqathinker.policy import STREAMS, VisualStream, VQAThinkerForConditionalGeneration
from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD
from vqathinker.policy.streams import streams_of
from vqathinker.scoring import QualityScorer
from vqathinker.synth.default import copy_base
from vqathinker.synth.ladders import LadderSpec, make_ladders

sys.path.insert(0, str(Path(__file__).parent))
import sft_lsvq
from runner import integers, mean_and_deviation, one_by_one

FOLDER = Path("runs/low_level")
SPEC = LadderSpec({"train": 60, "val": 4, "test": 20}, num_frames=30, size=256)
QUICK = {"splits": {"train": 2, "val": 1, "test": 1}, "crfs": (30, 33, 36, 45)}
SIDE, TILES, FRAMES, MANY = 64, 4, 6, 30  # what the vision tower sees; tiles of a frame; key frames
LOW_TOKENS = TILES * 4  # as many as tiles have
VIT = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_act": "gelu",
    "initializer_range": 0.08,
    "layer_norm_eps": 1e-6,
    "qkv_bias": False,
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
}
"""As large as the tiny policy's vision tower."""
ARMS = ("nothing", "more_frames", "tiles", "low", "low_tower")
DIFFERENCES = (3, 6, 9, 12)
TRAINING = {
    "mos_scale": "identity",
    "reasoning": False,  # ladders do not say what is wrong with a clip
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 30,
    "weight_decay": 0.01,
    "logging_steps": 20,
    "dtype": "float32",
    "save_strategy": "no",
    "report_to": "none",
}


class Tiles(VisualStream):
    """A frame shrunk to 2 x 2 tiles of the vision tower's size, each of which the tower sees by itself."""

    name, label, takes, per_frame = "tiles", "", "patches", True
    trunk = ("vision_tower", "multi_modal_projector")

    def tokens(self, sizes):
        return TILES * STREAMS["spatial"].tokens(sizes)

    def features(self, model, clips):
        tokens = model.frame_features(torch.cat([clip.flatten(0, 1) for clip in clips]))
        parts = tokens.split([clip.shape[0] * clip.shape[1] for clip in clips])
        return [part.unflatten(0, clip.shape[:2]).flatten(1, 2) for part, clip in zip(parts, clips, strict=True)]


STREAMS["tiles"] = Tiles()


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="comma-separated training seeds")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated arms: {', '.join(ARMS)}")
    parser.add_argument("--steps", type=int, default=600, help="steps of the warm start")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    arms, seeds = options.arms.split(","), options.seeds
    if unknown := sorted(set(arms) - set(ARMS)):
        parser.error(f"--arms {unknown}: choose from {ARMS}.")
    folder, spec, training, readout = FOLDER, SPEC, TRAINING | {"max_steps": options.steps}, "expected"
    if options.quick:  # too short to learn to answer, so that there is no score but from level words
        folder, spec, seeds, readout = FOLDER / "quick", replace(SPEC, **QUICK), seeds[:1], "levels"
        training |= {"max_steps": 2, "per_device_train_batch_size": 4}
    set_verbose(False)

    # Ladders and base policy
    make_ladders(folder / "ladders", spec)
    copy_base(folder / "base")

    # Warm start and held-out ladders, arm by arm
    def run(arm: str, seed: int, out: Path) -> dict:
        start_arm(folder / "base", out / "start", arm, seed)
        train(folder, out, training | {"seed": seed})
        return judge(out, folder / "ladders" / "test.csv", readout)

    results = one_by_one(folder, arms, seeds, lambda seed: fingerprint(folder, training | {"seed": seed}), run)

    # Table
    (folder / "low_level.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(render(results))


def fingerprint(folder: Path, settings: dict) -> str:
    """Changes with ladders, base, training and the arms' sizes."""
    files = (folder / "ladders" / "ladder.json", folder / "base" / "model.safetensors")
    own = json.dumps([settings, VIT, LOW_TOKENS, TILES, FRAMES, MANY])
    return hashlib.sha256(b"".join([*(file.read_bytes() for file in files), own.encode()])).hexdigest()[:12]


def start_arm(base: Path, out: Path, arm: str, seed: int) -> None:
    """The policy that an arm trains: the base without motion, whole frames, and what the arm adds."""
    torch.manual_seed(seed)
    low = {"low_tokens": LOW_TOKENS, "low_config": VIT} if arm.startswith("low") else {}
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, motion_tokens=0, **low)
    looks = {"num_frames": MANY if arm == "more_frames" else FRAMES, "fit": "stretch", "motion_tokens": 0}
    if low:
        looks |= {"low_tokens": LOW_TOKENS, "low_patch_size": SIDE}
    if arm == "low_tower":
        weights = tower_as_vit(policy.model.vision_tower) | policy.model.low_encoder.layernorm.state_dict(
            prefix="layernorm."
        )
        policy.model.low_encoder.load_state_dict(weights)
    if arm == "tiles":
        policy.config.streams = ["spatial", "tiles"]
        looks |= {"low_patches": TILES, "low_patch_size": SIDE, "low_box": [2 * SIDE, 2 * SIDE]}
        looks |= {"streams": policy.config.streams}
    saved = AutoProcessor.from_pretrained(base)
    processor = type(saved).from_args_and_dict(
        [saved.tokenizer], saved.to_dict() | looks, chat_template=saved.chat_template
    )
    policy.save_pretrained(out)
    processor.save_pretrained(out)


def tower_as_vit(tower) -> dict[str, torch.Tensor]:
    """InternViT's weights by ViT's names, its two scales multiplied into the layers before them. ViT's last norm, which
    InternViT has not got, starts as it is."""
    names = {"encoder.layer.": "layers.", "projection_layer": "o_proj"}
    scaled = {"attention.projection_layer": "lambda_1", "mlp.fc2": "lambda_2"}
    weights, found = tower.state_dict(), {}
    for name, value in weights.items():
        for part, scale in scaled.items():
            if part in name:
                scales = weights[f"{name.split(part)[0]}{scale}"]
                value = value * (scales[:, None] if value.ndim == 2 else scales)
        for own, theirs in names.items():
            name = name.replace(own, theirs)
        if "lambda" not in name:
            found[name] = value
    return found


def train(folder: Path, out: Path, settings: dict) -> None:
    """The recipe of the warm start, with a config of the arm's own."""
    data = {"train_labels": str(folder / "ladders" / "train.csv"), "video_root": str(folder / "ladders")}
    own = {"model": str(out / "start"), "output_dir": str(out), "overwrite_output_dir": True}
    own["frame_cache"] = str(folder / "cache")
    (out / "config.yaml").write_text(yaml.safe_dump(settings | data | own), encoding="utf-8")
    sft_lsvq.main(["--config", str(out / "config.yaml")])


def judge(checkpoint: Path, manifest: Path, readout: str) -> dict:
    """Held-out ladders by the expectation of the score: flip rate by CRF difference, SRCC and error against labels."""
    scorer = QualityScorer.from_pretrained(checkpoint, readout=readout, max_new_tokens=24)
    scorer.processor.use_cache(checkpoint.parent.parent / "cache")
    rows = read_labels(manifest, manifest.parent, "identity")
    scores = {s.video: s.score for batch in scorer.score_many([row.video for row in rows]) for s in batch}
    known = [row for row in rows if scores[row.video] == scores[row.video]]
    rates = flip_rates(read_manifest(manifest), scores, DIFFERENCES)
    prompt = scorer.processor.render()
    return {
        "visual_tokens": sum(prompt.counts),
        "prompt_tokens": len(prompt.ids),
        "parameters": scorer.policy.num_parameters(),
        "flip_rate": {"all" if rate.difference is None else str(rate.difference): rate.rate for rate in rates},
        "srcc": srcc([scores[row.video] for row in known], [row.mos for row in known]),
        "mae": statistics.fmean(abs(scores[row.video] - row.mos) for row in known) if known else None,
        "unscored": len(rows) - len(known),
        "seconds": json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["log_history"][-1][
            "train_runtime"
        ],
        "streams": [stream.name for stream in streams_of(scorer.processor)],
    }


def render(results: dict[str, list[dict]]) -> str:
    """Mean and standard deviation over the seeds."""
    rows = []
    for arm, runs in results.items():
        rates = [mean_and_deviation([run["flip_rate"][d] for run in runs]) for d in ("3", "6", "all")]
        rows.append([arm, runs[0]["visual_tokens"], *rates, mean_and_deviation([run["srcc"] for run in runs])])
    return tabulate(rows, ["arm", "visual tokens", "flip rate at 3", "at 6", "all", "SRCC"], tablefmt="github")


if __name__ == "__main__":
    main()

"""Does a motion token for each frame see freezes and jumps that one for the clip does not? On synthetic questions.

    python recipes/motion_tokens.py                  # three arms, one seed
    python recipes/motion_tokens.py --seeds 0,1,2    # mean and deviation over three seeds
    python recipes/motion_tokens.py --quick          # under a minute; the numbers mean nothing

Arms differ in the motion tokens of the tiny policy alone. The motion encoder and all else start from the shipped base,
the motion projector anew, since the base's was made for six tokens; the same warm start trains it and the language
model on questions about when and how often clips freeze or skip frames, and about which half is worse.

    one          one token for the clip, both pathways of SlowFast (published VQAThinker)
    six          six tokens, as the shipped base has them
    per_frame    the fast pathway alone, one token per frame, behind all key frames (VQA²'s code)
    interleaved  the same, behind the key frame that each follows (VQA²'s figure)

A result stands in runs/motion_tokens/ARM/SEED/result.json and is kept until clips, base or settings change. The table
of all is printed and written to runs/motion_tokens/motion_tokens.json.
"""

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from tabulate import tabulate
from torch import nn
from transformers import AutoProcessor

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import read_questions
from vqathinker.evaluation import evaluate_questions
from vqathinker.policy import STREAMS, VQAThinkerConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.scoring import QualityScorer
from vqathinker.scoring.predict import encode_clips
from vqathinker.synth import QuestionSpec, make_questions
from vqathinker.synth.build import is_made
from vqathinker.synth.default import copy_base
from vqathinker.synth.tiny import tiny_motion

sys.path.insert(0, str(Path(__file__).parent))
import sft_lsvq
from runner import integers, mean_and_deviation, one_by_one

FOLDER = Path("runs/motion_tokens")
SPEC = QuestionSpec(splits={"train": 800, "test": 400})
QUICK = {"train": 24, "test": 12}
ASKED = ("freezes", "which_third", "where_seen", "worse_half")
"""Types of questions that are trained and asked; the last one is about still pictures."""
KINDS = ("stutter", "frame_drop")
ARMS = ("one", "six", "per_frame", "interleaved")
TOKEN_STD = 0.3
"""Of the motion tokens where they enter the language model, as in the base."""
TRAINING = {
    "freeze": ["vision_tower", "multi_modal_projector"],
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 20,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "logging_steps": 20,
    "dtype": "float32",
    "save_strategy": "no",
    "report_to": "none",
}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=integers, default="0", help="comma-separated training seeds")
    parser.add_argument(
        "--arms",
        default="one,per_frame,interleaved",
        help=f"comma-separated arms: {', '.join(ARMS)}; default: all but six",
    )
    parser.add_argument("--steps", type=int, default=500, help="steps of the warm start")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    arms, seeds = options.arms.split(","), options.seeds
    if unknown := sorted(set(arms) - set(ARMS)):
        parser.error(f"--arms {unknown}: choose from {ARMS}.")
    folder, spec, training = FOLDER, SPEC, TRAINING | {"max_steps": options.steps}
    if options.quick:
        folder, spec, seeds = FOLDER / "quick", replace(SPEC, splits=QUICK), seeds[:1]
        training |= {"max_steps": 2, "per_device_train_batch_size": 4}
    set_verbose(False)

    # Clips, questions of the asked types, and base policy
    data = folder / "data"
    if not is_made(data, spec):
        make_questions(data, spec)
    for split in spec.splits:
        keep_types(data / f"{split}.jsonl", data / f"{split}_motion.jsonl")
    copy_base(folder / "base")

    # Warm start and held-out questions, arm by arm
    def run(arm: str, seed: int, out: Path) -> dict:
        start_arm(folder, out / "start", arm, seed)
        return train(folder, out, training | {"seed": seed}) | judge(out, data)

    results = one_by_one(folder, arms, seeds, lambda seed: fingerprint(folder, training | {"seed": seed}), run)

    # Table
    (folder / "motion_tokens.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(render(results))


def keep_types(source: Path, target: Path) -> None:
    """The questions of a file that are of the asked types."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    target.write_text("".join(line for line in lines if json.loads(line)["type"] in ASKED), encoding="utf-8")


def fingerprint(folder: Path, settings: dict) -> str:
    """Changes with clips, base and training."""
    files = (folder / "data" / "spec.json", folder / "base" / "model.safetensors")
    own = json.dumps([settings, ASKED, TOKEN_STD])
    return hashlib.sha256(b"".join([*(file.read_bytes() for file in files), own.encode()])).hexdigest()[:12]


def start_arm(folder: Path, out: Path, arm: str, seed: int) -> None:
    """The policy that an arm trains: all of the base but the motion projector, and of the encoder what the arm has."""
    torch.manual_seed(seed)
    fast = arm in ("per_frame", "interleaved")
    known = VQAThinkerConfig.from_pretrained(folder / "base").to_dict()
    if fast:
        known |= {"motion_config": tiny_motion("fast").to_dict(), "motion_tokens": 1, "motion_run_length": 1}
    config = VQAThinkerConfig(**known | ({"motion_tokens": 1} if arm == "one" else {}))
    policy = VQAThinkerForConditionalGeneration(config)
    base = VQAThinkerForConditionalGeneration.from_pretrained(folder / "base")
    own = policy.state_dict().keys()
    weights = {
        name: value for name, value in base.state_dict().items() if name in own and "motion_projector" not in name
    }
    policy.load_state_dict(weights, strict=False)
    policy.generation_config = base.generation_config
    saved = AutoProcessor.from_pretrained(folder / "base")
    sizes = {name: getattr(config, name) for name in ("motion_tokens", "motion_run_length", "motion_max_frames")}
    layout = {"layout": "interleaved"} if arm == "interleaved" else {}
    processor = VQAThinkerProcessor.from_args_and_dict(
        [saved.tokenizer], saved.to_dict() | sizes | layout, chat_template=saved.chat_template
    )
    start_projector(policy, processor, folder / "data")
    policy.save_pretrained(out)
    processor.save_pretrained(out)


@torch.no_grad()
def start_projector(
    policy: VQAThinkerForConditionalGeneration, processor: VQAThinkerProcessor, data: Path, clips: int = 16
) -> None:
    """First weights whose tokens have the spread of the base's, on some clips; positions are as large as features."""
    projector, stream = policy.model.motion_projector, STREAMS["motion"]
    for linear in (projector.linear_1, projector.linear_2):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    videos = sorted((data / "videos" / "train").glob("*.mp4"))[:clips]
    shown = [processor.load_clip(video).motion_frames for video in videos]
    features = stream.features(policy.model, shown)
    if hasattr(projector, "positions"):
        nn.init.normal_(projector.positions.weight, std=float(torch.cat(features).std()))
    spread = torch.cat(stream.project(policy.model, features)).std()
    projector.linear_2.weight.mul_(TOKEN_STD / spread)


def train(folder: Path, out: Path, settings: dict) -> dict:
    """The recipe of the warm start, with a config of the arm's own; seconds of a step."""
    data = {"questions": [str(folder / "data" / "train_motion.jsonl")], "video_root": str(folder / "data")}
    own = {"model": str(out / "start"), "output_dir": str(out), "overwrite_output_dir": True}
    own["frame_cache"] = str(folder / "cache")
    (out / "config.yaml").write_text(yaml.safe_dump(settings | data | own), encoding="utf-8")
    sft_lsvq.main(["--config", str(out / "config.yaml")])
    state = json.loads((out / "trainer_state.json").read_text(encoding="utf-8"))
    return {"seconds_per_step": state["log_history"][-1]["train_runtime"] / state["global_step"]}


def judge(checkpoint: Path, data: Path) -> dict:
    """Held-out questions by type and by fault, tokens of a clip's prompt, and seconds to encode a clip."""
    scorer = QualityScorer.from_pretrained(checkpoint, max_new_tokens=48)
    samples = read_questions(data / "test_motion.jsonl", data)
    report = evaluate_questions(scorer, samples, blank=False, rotate=False, progress=True)
    summary = report.summary
    named = {"all": summary.accuracy} | summary.by_type | {kind: summary.by_tag[f"kind: {kind}"] for kind in KINDS}
    clip = scorer.processor.load_clip(samples[0].clips[0])
    prompt = scorer.processor.render(frames=[clip.length])
    slots = zip(prompt.slots, prompt.counts, strict=True)
    encode_clips(scorer.policy, [clip])
    start = time.perf_counter()
    for _ in range(10):
        encode_clips(scorer.policy, [clip])
    return {
        "accuracy": {name: own.value for name, own in named.items()},
        "count": {name: own.count for name, own in named.items()},
        "majority": {name: own.accuracy for name, own in summary.majority_by_type.items()},
        "motion_tokens": sum(count for slot, count in slots if slot.stream == "motion"),
        "prompt_tokens": len(prompt.ids),
        "encoding_seconds": (time.perf_counter() - start) / 10,
        "parameters": scorer.policy.num_parameters(),
    }


def render(results: dict[str, list[dict]]) -> str:
    """Accuracy by type and by fault, then what an arm costs; mean and standard deviation over the seeds."""
    first = next(iter(results.values()))[0]
    names = {name: f"{name} ({count})" for name, count in first["count"].items()}
    rows = []
    for name, title in names.items():
        found = [mean_and_deviation([run["accuracy"][name] for run in runs]) for runs in results.values()]
        rows.append([title, *found, first["majority"].get(name)])
    costs = {
        "motion tokens": lambda run: str(run["motion_tokens"]),
        "tokens of a prompt": lambda run: str(run["prompt_tokens"]),
        "seconds of a step": lambda run: f"{run['seconds_per_step']:.2f}",
        "milliseconds to encode a clip": lambda run: f"{1000 * run['encoding_seconds']:.0f}",
        "parameters": lambda run: f"{run['parameters']:,}",
    }
    rows += [[name, *(cost(runs[0]) for runs in results.values())] for name, cost in costs.items()]
    return tabulate(
        rows,
        ["", *results, "majority"],
        floatfmt=".3f",
        tablefmt="github",
        disable_numparse=list(range(1, 1 + len(results))),
    )


if __name__ == "__main__":
    main()

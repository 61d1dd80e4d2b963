"""What pairs and pixels are worth on the embedded default: rungs as copies, the task of comparing, the low-level
stream.

    python recipes/pairs_controls.py                                # every arm, 3 seeds; takes hours
    python recipes/pairs_controls.py --arms score,rungs --seeds 0

    score     GRPO on the demo's labelled clips alone
    rungs     and on rungs of ladders, paid for their order
    compare   as rungs, and on pairs of clips and of rungs in one prompt
    low       as rungs, by a policy with a low-level stream

Every arm starts from a warm start of its seed, and all take as many steps on as many answers. A result stands in
runs/pairs_controls/ARM/SEED/result.json and is kept, so that a second call goes on where the first stopped, until data,
base, configs or arguments change. The table of all is printed and written to runs/pairs_controls/controls.json.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate
from transformers import set_seed

from vqathinker.policy.conversion import add_low_level
from vqathinker.synth.default import prepare_default

sys.path.insert(0, str(Path(__file__).parent))
import demo
import grpo_lsvq
import pairs
import runner
import sft_lsvq

FOLDER = Path("runs/pairs_controls")
LADDERS = pairs.FOLDER / "ladders"
SFT_CONFIG, SCORE_CONFIG, PAIRS_CONFIG = (pairs.CONFIGS / f"{name}.yaml" for name in ("demo_sft", "demo", "pairs"))
LOW_LEVEL = {
    "low_tokens": 4,
    "low_patches": 4,  # of 48 pixels: the whole frame, of which the vision tower sees the central 64
    "low_config": {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "image_size": 48,
        "patch_size": 8,
    },
}
SFT_STEPS, GRPO_STEPS = ["--max_steps", "150"], ["--max_steps", "240"]
WARM_STARTS = {"sft": SFT_STEPS, "sft_compare": [*SFT_STEPS, "--pairs", "0.5"], "sft_low": SFT_STEPS}
ARMS = {"score": "sft", "rungs": "sft", "compare": "sft_compare", "low": "sft_low"}
"""Arm -> its warm start."""
FROZEN = ["vision_tower", "multi_modal_projector", "motion_projector", "low_encoder", "low_projector"]
LONGER = ["--max_completion_length", str(pairs.LONGEST_COMPARISON)]
ADDED = {"compare": ["--pairs", "0.25", *LONGER], "low": ["--freeze", *FROZEN]}
"""What an arm adds to `rungs`; like the demo's other encoders the low-level one is trained by the warm start alone."""


def main(argv: list[str] | None = None) -> None:
    parser = runner.arguments(__doc__, ARMS)
    options = parser.parse_args(argv)
    if options.run:
        arm, seed = options.run.split(":")
        return run_arm(arm, int(seed))
    arms = runner.wanted_arms(parser, options, ARMS)

    prepare_default(demo.FOLDER)
    pairs.prepare_ladders(None)
    starts = [start for start in WARM_STARTS if start in {ARMS[arm] for arm in arms}]
    runner.run_missing(__file__, (starts, arms), options, FOLDER, read_result)
    write_table()


def folder_of(arm: str, seed: int) -> Path:
    return FOLDER / arm / str(seed)


def read_result(arm: str, seed: int) -> dict[str, Any] | None:
    return runner.read_result(folder_of(arm, seed), fingerprint(arm))


def fingerprint(arm: str) -> str:
    """Changes with clips, ladders, base, configs and the arm's arguments."""
    files = [
        demo.DATA / "spec.json",
        demo.FOLDER / "base" / "model.safetensors",
        SFT_CONFIG,
        SCORE_CONFIG,
        PAIRS_CONFIG,
    ]
    files += [LADDERS / split / "ladder.json" for split in ("train", "held_out")]
    own = repr([WARM_STARTS.get(ARMS.get(arm, arm)), arguments(arm), LOW_LEVEL if "low" in arm else None])
    return hashlib.sha256(b"".join([*(file.read_bytes() for file in files), own.encode()])).hexdigest()[:12]


def arguments(arm: str) -> list[str]:
    """What an arm adds to its config."""
    if arm in WARM_STARTS:
        return WARM_STARTS[arm]
    ladders = [] if arm == "score" else ["--ladders", str(LADDERS / "train" / "train.csv")]
    return [*GRPO_STEPS, *ladders, *ADDED.get(arm, [])]


def run_arm(arm: str, seed: int) -> None:
    """Train and judge one arm."""
    folder = folder_of(arm, seed)
    own = ["--seed", str(seed), "--output_dir", str(folder), *arguments(arm)]
    if arm in WARM_STARTS:
        base = demo.FOLDER / "base"
        if arm == "sft_low":
            set_seed(seed)  # of the new parts
            base = folder / "base"
            add_low_level(demo.FOLDER / "base", base, **LOW_LEVEL)
        sft_lsvq.main(["--config", str(SFT_CONFIG), "--model", str(base), *own])
    else:
        config = SCORE_CONFIG if arm == "score" else PAIRS_CONFIG
        start = folder_of(ARMS[arm], seed)
        grpo_lsvq.main(["--config", str(config), "--model", str(start), *own])
    result = pairs.evaluate(folder, LADDERS / "held_out" / "test.csv", compares="compare" in arm)
    runner.write_result(folder, result, fingerprint(arm))


def write_table() -> None:
    """Every value of every seed to controls.json; mean and standard deviation over the seeds to the screen."""
    table = runner.found_results(FOLDER, (*WARM_STARTS, *ARMS), read_result)
    (FOLDER / "controls.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(render(table))


def render(table: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Correlations and comparisons, and flip rates by CRF difference."""
    columns = {"srcc": "SRCC", "srcc_vmaf": "SRCC with VMAF", "accuracy": "comparisons right"}
    rates = []
    for arm, results in table.items():
        flips = ([run["flip_rate"][str(d)]["rate"] for run in results.values()] for d in pairs.DIFFERENCES)
        rates.append([arm, *(runner.mean_and_deviation(values) for values in flips)])
    first = runner.mean_table(table, columns | {"consistency": "order consistency"})
    names = ["flip rate at", *map(str, pairs.DIFFERENCES)]
    return f"{first}\n\n{tabulate(rates, names, tablefmt='github', disable_numparse=True)}"


if __name__ == "__main__":
    main()

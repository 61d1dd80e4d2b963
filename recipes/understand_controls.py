"""What VQA²'s stages, their order, and reinforcement learning are worth on the embedded default.

    python recipes/understand_controls.py                              # every arm, 3 seeds; takes hours
    python recipes/understand_controls.py --arms sequence,mix --seeds 0

    sequence       stage 1, then levels (stage 2), then questions (stage 3)
    mix            stage 1, then levels and questions together, for as many steps as both and as much of each
    no_stage1      levels, then questions, each for half of stage 1's steps more
    more_sft       sequence, then supervised on GRPO's clips and answers, for as long as its GRPO took, not validating
    grpo_...       GRPO behind each of the first three

All arms but more_sft and GRPO's take as many steps on as many clips. One set of clips; the seeds are those of the
training. What an arm starts from is made too. A result stands in runs/understand_controls/ARM/SEED/result.json and is
kept, so that a second call goes on where the first stopped, until clips, base, configs or arguments change. The table
of all is printed and written to runs/understand_controls/controls.json.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from vqathinker.data.tables import read_table

sys.path.insert(0, str(Path(__file__).parent))
import grpo_lsvq
import runner
import sft_lsvq
import understand

FOLDER = Path("runs/understand_controls")
STARTS = {
    "format": "",  # the shipped base
    "stage1_spatial": "format",
    "stage1_motion": "stage1_spatial",
    "stage2": "stage1_motion",
    "stage2_no_stage1": "format",
    "sequence": "stage2",
    "mix": "stage1_motion",
    "no_stage1": "stage2_no_stage1",
    "grpo_sequence": "sequence",
    "grpo_mix": "mix",
    "grpo_no_stage1": "no_stage1",
    "more_sft": "sequence",
}
"""Arm -> the arm whose policy it starts from."""
CONFIGS = {
    "stage2_no_stage1": "stage2",
    "sequence": "stage3",
    "mix": "stage3",
    "no_stage1": "stage3",
    "more_sft": "format",  # whose parts GRPO trains
    "grpo_sequence": "grpo",
    "grpo_mix": "grpo",
    "grpo_no_stage1": "grpo",
}
"""Arm -> its config `understand_NAME.yaml`, where that is not called like the arm."""
ARMS = ("sequence", "mix", "no_stage1", "more_sft", "grpo_sequence", "grpo_mix", "grpo_no_stage1")
TIMED = {"more_sft": "grpo_sequence"}
"""Arm -> the arm whose training time it is given."""
TABLES = (
    {"all questions": "questions", "all, no video": "no video", "level": "level", "level, SRCC": "level, SRCC"},
    {"spatial faults": "spatial faults", "motion faults": "motion faults", "all, unparsable": "unparsable"},
)
"""Key of a result -> what its column is called."""


def main(argv: list[str] | None = None) -> None:
    parser = runner.arguments(__doc__, ARMS)
    options = parser.parse_args(argv)
    if options.run:
        arm, seed = options.run.split(":")
        return run_arm(arm, int(seed))
    needed = {name for arm in runner.wanted_arms(parser, options, ARMS) for name in lineage(arm)}

    understand.prepare(understand.SPEC)
    order = sorted(needed, key=lambda arm: len(lineage(arm)))
    depths = dict.fromkeys(len(lineage(arm)) for arm in order)
    stages = [[arm for arm in order if len(lineage(arm)) == depth] for depth in depths]
    runner.run_missing(__file__, stages, options, FOLDER, read_result)
    write_table()


def lineage(arm: str) -> list[str]:
    """The arm and all that has to be there before it."""
    before = [name for name in (STARTS[arm], TIMED.get(arm, "")) if name]
    return [*dict.fromkeys(name for own in before for name in lineage(own)), arm]


def folder_of(arm: str, seed: int) -> Path:
    return FOLDER / arm / str(seed)


def config_of(arm: str) -> Path:
    return understand.config_of(CONFIGS.get(arm, arm))


def read_result(arm: str, seed: int) -> dict[str, Any] | None:
    return runner.read_result(folder_of(arm, seed), fingerprint(arm))


def fingerprint(arm: str) -> str:
    """Changes with clips, base, and configs and arguments of the arm and of all before it."""
    files = [understand.DATA / "spec.json", understand.FOLDER / "base" / "model.safetensors"]
    files += [config_of(name) for name in lineage(arm)]
    own = repr([arguments(name) for name in lineage(arm)])
    return hashlib.sha256(b"".join([*(file.read_bytes() for file in files), own.encode()])).hexdigest()[:12]


def steps_of(*stages: str) -> int:
    """Steps of the embedded default's stages together."""
    return sum(yaml.safe_load(understand.config_of(stage).read_text("utf-8"))["max_steps"] for stage in stages)


def labels_weight() -> float:
    """Of the levels beside the questions: arm `mix` then sees as much of each as arm `sequence`, whose stages have one
    batch size and whose stage 3 asks for levels too."""
    own, between = (len(read_table(understand.DATA / f"{stage}.csv").rows) for stage in ("stage2", "stage3"))
    questions = len(understand.read_rows(understand.DATA / "stage3.jsonl"))
    between *= yaml.safe_load(understand.config_of("stage3").read_text("utf-8"))["labels_weight"]
    asked = steps_of("stage3") * questions / (questions + between)
    return (steps_of("stage2", "stage3") - asked) / asked * questions / own


def arguments(arm: str) -> list[str]:
    """What an arm adds to its config."""
    half, data = steps_of("stage1_spatial", "stage1_motion") // 2, understand.DATA
    levels = ["--mos_scale", "identity", "--ask", "level", "--level_words", understand.WORDS]
    both = str(steps_of("stage2", "stage3"))
    if arm == "mix":
        weight = ["--labels_weight", str(labels_weight())]
        return ["--train_labels", str(data / "stage2.csv"), *levels, *weight, "--max_steps", both]
    return {
        "stage2_no_stage1": ["--max_steps", str(steps_of("stage2") + half)],
        "no_stage1": ["--max_steps", str(steps_of("stage3") + half)],
        "more_sft": ["--train_labels", str(data / "train.csv"), "--questions", str(data / "train.jsonl")],
    }.get(arm, [])


def run_arm(arm: str, seed: int) -> None:
    """Train and judge one arm."""
    folder, start = folder_of(arm, seed), STARTS[arm]
    model = folder_of(start, seed) if start else understand.FOLDER / "base"
    own = ["--model", str(model), "--output_dir", str(folder), "--seed", str(seed), *arguments(arm)]
    if timed := TIMED.get(arm):
        pace, goal = (runner.training_of(folder_of(name, seed)) for name in (CONFIGS[arm], timed))
        seconds = goal["seconds"] - goal["validation_seconds"]
        own += ["--max_steps", str(max(1, round(seconds / pace["seconds"] * pace["steps"])))]
    recipe = grpo_lsvq if CONFIGS.get(arm) == "grpo" else sft_lsvq
    recipe.main(["--config", str(config_of(arm)), *own])
    judged = understand.evaluate(folder) if arm in ARMS else {}
    runner.write_result(folder, judged | runner.training_of(folder), fingerprint(arm))


def write_table() -> None:
    """Every value of every seed to controls.json; mean and standard deviation over the seeds to the screen."""
    table = runner.found_results(FOLDER, ARMS, read_result)
    (FOLDER / "controls.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(render(table))


def render(table: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Mean and deviation over the seeds: questions and levels, then faults."""
    return "\n\n".join(runner.mean_table(table, columns) for columns in TABLES)


if __name__ == "__main__":
    main()

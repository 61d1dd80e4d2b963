"""Questions about when and where a fault is, how often a clip freezes and how strong a fault is, learnt on the embedded
default: clips whose answers are exact numbers -> tiny policy -> warm start -> GRPO, paid by how near an answer is.

    python recipes/grpo_places.py

Writes runs/places: data, checkpoints, summary.json and places.md. With files of your own take grpo_lsvq.py and its
option --questions.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import read_questions
from vqathinker.evaluation import evaluate_questions
from vqathinker.evaluation.placed import evaluate_placed
from vqathinker.evaluation.report import Table
from vqathinker.scoring import QualityScorer
from vqathinker.synth import QuestionSpec

sys.path.insert(0, str(Path(__file__).parent))
from demo import finite, stopwatch
from grpo_questions import PHASES, train
from pairs import shown
from runner import side_by_side

FOLDER = Path("runs/places")
SPEC = QuestionSpec(splits={"sft": 320, "train": 1200, "val": 48, "test": 400}, places=True)
"""`sft`: the few clips whose questions the warm start sees answered, with reasons. `train`: those of GRPO."""
QUICK = {"sft": 8, "train": 16, "val": 4, "test": 8}
LONGEST = 56
"""Tokens of an answer."""
SHOWN = {
    "when_iou": "when, IoU",
    "when_hit": "when, IoU above 0.5",
    "where_iou": "where, IoU",
    "where_hit": "where, IoU above 0.5",
    "count_accuracy": "how often, right",
    "count_error": "how often, mean error",
    "severity": "how strong, nearness",
    "unparsable": "unparsable",
}
"""What is measured, and what the table calls it."""
NOTE = (
    "Greedy answers about clips of unseen scenes, half of the questions in wordings that training had not. An answer "
    "without a value counts as an IoU of 0, a wrong count, or a nearness of 0; the mean error leaves it out. nearness: "
    "1 - d / 4, d steps of five from the right one. constant: the median of all right answers, or the best degree, "
    "given to each question; it knows them. no video: GRPO's policy with a black clip."
)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the clips, the questions and the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    command = shlex.join(["python", "recipes/grpo_places.py", *(sys.argv[1:] if argv is None else argv)])
    spec = replace(SPEC, seed=options.seed, **({"splits": QUICK} if options.quick else {}))
    seconds = train(FOLDER, spec, "demo_places", options.quick)
    with stopwatch(seconds, "evaluate"):
        results = side_by_side({phase: (evaluate, FOLDER / phase) for phase in PHASES})

    summary = {"results": results, "seed": options.seed, "command": command, "torch": torch.__version__}
    summary |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table = before_and_after(results)
    text = f"{shown(table)}\n\n{table.note}"
    (FOLDER / "places.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{sum(seconds.values()):.0f} s; numbers in {FOLDER}/summary.json")


def evaluate(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint on the held-out questions: metric -> value of the policy, of a constant, without the video."""
    set_verbose(False)  # a process of its own
    scorer = QualityScorer.from_pretrained(checkpoint, max_new_tokens=LONGEST, batch_size=32)
    scorer.processor.use_cache(FOLDER / "cache")
    samples = read_questions(FOLDER / "data" / "test.jsonl", FOLDER / "data")
    degrees = [sample for sample in samples if sample.task == "choice"]
    reports = evaluate_placed(scorer, [sample for sample in samples if sample.task != "choice"], progress=True)
    found = dict(measured(reports))
    chosen = evaluate_questions(scorer, degrees, rotate=False, progress=True)
    near = chosen.ordered[""]
    found["severity"] = [near.severity.value, near.constant, near.no_video]
    silent = sum(len(report.ids) * report.metrics[f"{report.task}_unparsable"] for report in reports)
    found["unparsable"] = [(silent + len(degrees) * chosen.summary.unparsable) / len(samples)]
    counts = {report.task: len(report.ids) for report in reports} | {"degree": len(degrees)}
    return {"questions": counts} | {name: list(map(finite, values)) for name, values in found.items()}


def measured(reports: list) -> Iterator[tuple[str, list[float]]]:
    """Each metric of the reports: of the policy, of a constant, without the video."""
    for report in reports:
        for name, value in report.metrics.items():
            yield name, [value, report.constant[name], report.no_video[name]]


def before_and_after(results: dict[str, dict[str, Any]]) -> Table:
    """A line for each measure: after each phase, beside a constant answer and no video."""
    before, after = (results[phase] for phase in PHASES)
    rows = [[title, before[name][0], *after[name]] for name, title in SHOWN.items()]
    count = sum(after["questions"].values())
    title = f"{count} held-out questions about clips of unseen scenes"
    return Table(title, ["measure", *PHASES.values(), "constant", "no video"], rows, NOTE)


if __name__ == "__main__":
    main()

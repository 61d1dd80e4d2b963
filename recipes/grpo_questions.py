"""Questions about quality, and scores, learnt in one run on the embedded default: synthetic clips and questions about
them whose answers are known -> tiny policy -> warm start -> GRPO on both tasks -> accuracy before and after.

    python recipes/grpo_questions.py

Writes runs/questions: data, checkpoints, summary.json, questions.md and each answer. With files of your own take
grpo_lsvq.py and its option --questions.
"""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import read_labels, read_questions
from vqathinker.evaluation import QuestionReport, compare_questions, evaluate_questions, question_table, summarize
from vqathinker.evaluation.report import Table
from vqathinker.policy import load_policy
from vqathinker.rollout import Sampling
from vqathinker.scoring import QualityScorer, predict
from vqathinker.synth import QuestionSpec, make_questions
from vqathinker.synth.build import is_made
from vqathinker.synth.default import copy_base

sys.path.insert(0, str(Path(__file__).parent))
import grpo_lsvq
import sft_lsvq
from demo import finite, stopwatch
from runner import side_by_side

FOLDER = Path("runs/questions")
SPEC = QuestionSpec(splits={"sft": 240, "train": 1200, "val": 48, "test": 240})
"""`sft`: the few clips whose questions the warm start sees answered, with reasons. `train`: those of GRPO."""
QUICK = {"sft": 8, "train": 16, "val": 4, "test": 8}
LONGEST = 48
"""Tokens of an answer."""
PHASES = {"sft": "warm start", "grpo": "GRPO"}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the clips, the questions and the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    command = shlex.join(["python", "recipes/grpo_questions.py", *(sys.argv[1:] if argv is None else argv)])
    spec = replace(SPEC, seed=options.seed, **({"splits": QUICK} if options.quick else {}))
    seconds = train(FOLDER, spec, "demo_questions", options.quick)

    # Held-out scenes after each phase, half of the questions in wordings that training had not
    with stopwatch(seconds, "evaluate"):
        reports, scores = judge()

    # Summary and tables
    change = compare_questions(reports["sft"], reports["grpo"], options.seed)
    table = before_and_after(reports)
    summary = {"accuracy": {phase: accuracies(report) for phase, report in reports.items()}, "srcc": scores}
    summary |= {"gain": change.__dict__, "seed": options.seed, "command": command, "torch": torch.__version__}
    summary |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = tabulate(table.rows, table.columns, floatfmt=".3f", missingval="-", tablefmt="github")
    (FOLDER / "questions.md").write_text(f"{table.title}\n\n{text}\n\n{table.note}\n", encoding="utf-8")
    print(f"\n{table.title}:\n{text}\n{table.note}")
    print(
        f"\nGRPO against the warm start: {change.difference:+.3f} [{change.low:+.3f}, {change.high:+.3f}]; SRCC of the "
        f"same clips' scores {scores['sft']} -> {scores['grpo']}. {sum(seconds.values()):.0f} s; numbers in "
        f"{FOLDER}/summary.json"
    )


def train(folder: Path, spec: QuestionSpec, config: str, quick: bool) -> dict[str, float]:
    """Clips, questions and base policy, then warm start and GRPO: the very recipes, with the embedded configs
    `CONFIG_sft.yaml` and `CONFIG.yaml`. Returns the seconds of each."""
    seconds: dict[str, float] = {}
    with stopwatch(seconds, "synth"):
        if not is_made(folder / "data", spec):
            make_questions(folder / "data", spec)
        copy_base(folder / "base")
    steps = ["--max_steps", "2"] if quick else []
    configs = Path(__file__).parent / "configs"
    for phase, recipe, name in (("sft", sft_lsvq, f"{config}_sft.yaml"), ("grpo", grpo_lsvq, f"{config}.yaml")):
        with stopwatch(seconds, phase):
            recipe.main(["--config", str(configs / name), "--seed", str(spec.seed), *steps])
    return seconds


def judge() -> tuple[dict[str, QuestionReport], dict[str, float | None]]:
    """What `evaluate` says of each phase."""
    found = side_by_side({phase: (evaluate, FOLDER / phase) for phase in PHASES})
    return {phase: report for phase, (report, _) in found.items()}, {phase: srcc for phase, (_, srcc) in found.items()}


def evaluate(checkpoint: Path) -> tuple[QuestionReport, float | None]:
    """A checkpoint on the held-out questions, and SRCC of its scores of the same clips."""
    set_verbose(False)  # a process of its own
    policy, processor = load_policy(checkpoint)
    processor.use_cache(FOLDER / "cache")
    data = FOLDER / "data"
    scorer = QualityScorer(policy, processor, max_new_tokens=LONGEST)
    report = evaluate_questions(scorer, read_questions(data / "test.jsonl", data), progress=True)
    rows = read_labels(data / "test.csv", data, "identity")
    scored = predict(policy, processor, [row.video for row in rows], sampling=Sampling(LONGEST), progress=True)
    return report, finite(summarize(scored, rows).srcc)


def accuracies(report: QuestionReport) -> dict[str, float | None]:
    """Accuracy over all questions, by type and by wording, and the baselines over all."""
    summary = report.summary
    named = {"all": summary.accuracy} | summary.by_type
    named |= {tag: value for tag, value in summary.by_tag.items() if tag.startswith("wording")}
    baselines = {"majority": summary.majority, "random": summary.random, "rotation consistency": report.consistency}
    baselines["no video"] = report.no_video.accuracy.value
    values = {name: value.value for name, value in named.items()} | baselines
    return {name: finite(value) for name, value in values.items()}


def before_and_after(reports: dict[str, QuestionReport]) -> Table:
    """Accuracy by type after each phase, beside the best baseline."""
    sft, grpo = question_table(reports["sft"]), question_table(reports["grpo"])
    before = {row[0]: row[2] for row in sft.rows}
    rows = [[f"{name} ({count})", before[name], accuracy, *rest] for name, count, accuracy, *rest in grpo.rows]
    columns = [f"{grpo.columns[0]} ({grpo.columns[1]})", *PHASES.values(), *grpo.columns[3:]]
    title = f"Accuracy on {len(reports['grpo'].questions)} held-out questions about clips of unseen scenes"
    return Table(title, columns, rows, grpo.note)


if __name__ == "__main__":
    main()

"""VQA²'s stages and GRPO on the embedded default: a tiny policy learns the form of answers -> stage 1, faults in frames
(vision tower) and in motion (motion encoder) -> stage 2, scoring by level words -> stage 3, questions about quality ->
GRPO on questions and levels -> what each phase can do on held-out scenes.

    python recipes/understand.py

Writes runs/understand: data, checkpoints, summary.json and understand.md. What each stage trains is told in
docs/understanding.md; what it is worth: recipes/understand_controls.py.
"""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import level_samples, read_labels, read_questions
from vqathinker.evaluation import QuestionReport, evaluate_questions
from vqathinker.evaluation.report import Table
from vqathinker.scoring import QualityScorer
from vqathinker.scoring.asking import ask_samples
from vqathinker.synth import SPATIAL, TEMPORAL, QuestionSpec, make_questions
from vqathinker.synth.build import is_made
from vqathinker.synth.default import copy_base
from vqathinker.tasks import find_task

sys.path.insert(0, str(Path(__file__).parent))
import grpo_lsvq
import sft_lsvq
from demo import finite, stopwatch
from pairs import shown
from runner import side_by_side

FOLDER = Path("runs/understand")
DATA = FOLDER / "data"
CONFIGS = Path(__file__).parent / "configs"
SPEC = QuestionSpec(
    splits={"format": 240, "stage1": 1200, "stage2": 480, "stage3": 480, "train": 480, "val": 32, "test": 120}
)
"""Each stage has scenes of its own; `train` are GRPO's, of which no reasons are shown."""
QUICK = {"format": 8, "stage1": 24, "stage2": 8, "stage3": 8, "train": 16, "val": 4, "test": 8}
LONGEST = 48
"""Tokens of an answer."""
RECOGNITION = ("which_fault", "yesno")
"""Question types of stage 1, a part of all: which fault there is, if any."""
FAULTS = {"spatial": SPATIAL, "motion": TEMPORAL}
"""Part of stage 1 -> the kinds of distortions that it shows, beside clean clips."""
STAGES: dict[str, ModuleType] = {
    "format": sft_lsvq,
    "stage1_spatial": sft_lsvq,
    "stage1_motion": sft_lsvq,
    "stage2": sft_lsvq,
    "stage3": sft_lsvq,
    "grpo": grpo_lsvq,
}
"""Run one after the other, each on the policy of the one before, with `configs/understand_STAGE.yaml`."""
PHASES = {
    "format": "answer format",
    "stage1_motion": "stage 1",
    "stage2": "stage 2",
    "stage3": "stage 3",
    "grpo": "GRPO",
}
"""Stages that are judged, and what the table calls them."""
NOTE = (
    "Greedy answers about clips of unseen scenes, half of the questions in wordings that training had not. spatial and "
    "motion faults: questions which fault a clip has. level: right level word of five; SRCC: of the levels said with "
    "pseudo-MOS. constant answers: the most frequent right answer to each type of question. no video: the last policy "
    "and the same questions with a black clip."
)
WORDS = "vqa2"
"""Level words: those of VQA²."""


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the clips, the questions and the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    command = shlex.join(["python", "recipes/understand.py", *(sys.argv[1:] if argv is None else argv)])
    seconds: dict[str, float] = {}

    spec = replace(SPEC, seed=options.seed, **({"splits": QUICK} if options.quick else {}))
    if options.quick and (DATA / "spec.json").exists() and not is_made(DATA, spec):
        parser.error(f"--quick would replace the clips in {DATA}: run it from another folder.")
    with stopwatch(seconds, "synth"):
        prepare(spec)

    # The very recipes, with the embedded configs
    quick = ["--max_steps", "2"] if options.quick else []
    for stage, recipe in STAGES.items():
        with stopwatch(seconds, stage):
            recipe.main(["--config", str(config_of(stage)), "--seed", str(options.seed), *quick])

    with stopwatch(seconds, "evaluate"):
        results = judge({phase: FOLDER / phase for phase in PHASES})

    summary = {"results": results, "seed": options.seed, "command": command, "torch": torch.__version__}
    summary |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table = phase_table({PHASES[phase]: result for phase, result in results.items()})
    text = f"{shown(table)}\n\n{table.note}"
    (FOLDER / "understand.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{sum(seconds.values()):.0f} s; numbers in {FOLDER}/summary.json")


def config_of(stage: str) -> Path:
    return CONFIGS / f"understand_{stage}.yaml"


# ---------------------------------------------------------------- data


def prepare(spec: QuestionSpec) -> None:
    """Clips and questions of all stages, and the base policy; what is there and just so is kept."""
    if not is_made(DATA, spec):
        make_questions(DATA, spec)
    rows = read_rows(DATA / "stage1.jsonl")
    for name, kinds in FAULTS.items():
        kept = [row for row in rows if row["type"] in RECOGNITION and row["tags"]["kind"] in (*kinds, "none")]
        write_rows(DATA / f"stage1_{name}.jsonl", kept)
    copy_base(FOLDER / "base")


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# ---------------------------------------------------------------- judging


def judge(checkpoints: Mapping[str, Path]) -> dict[str, dict[str, float | None]]:
    """What `evaluate` says of each policy, of the last one without the video too, which takes longest."""
    *others, last = checkpoints
    found = side_by_side({name: (evaluate, checkpoints[name], name == last) for name in (last, *others)})
    return {name: found[name] for name in checkpoints}


def evaluate(checkpoint: Path, blank: bool = True) -> dict[str, float | None]:
    """A checkpoint on the held-out questions, where `blank` is set with a black clip too, and levels: what the table
    says, by the names of its rows."""
    set_verbose(False)  # a process of its own
    scorer = QualityScorer.from_pretrained(checkpoint, max_new_tokens=LONGEST, batch_size=32)
    scorer.processor.use_cache(FOLDER / "cache")
    report = evaluate_questions(scorer, read_questions(DATA / "test.jsonl", DATA), blank, rotate=False, progress=True)
    return faults(report) | levels(scorer) | accuracies(report)


def faults(report: QuestionReport) -> dict[str, float | None]:
    """How many of the faults in pictures and in motion are named."""
    found = {}
    for name, kinds in FAULTS.items():
        tags = {f"kind: {kind}" for kind in kinds}
        own = [q.is_right for q in report.questions if q.type == "which_fault" and tags & set(q.tags)]
        found[f"{name} faults"] = finite(sum(own) / len(own)) if own else None
    return found


def levels(scorer: QualityScorer) -> dict[str, float | None]:
    """Share of right level words, SRCC of the levels said with the labels, and what the most frequent level reaches."""
    task = find_task("level")
    samples = level_samples(read_labels(DATA / "test.csv", DATA, "identity"), WORDS)
    said = [answer.answers[0] for batch in ask_samples(scorer, samples, greedy=True) for answer in batch]
    rows = [task.columns(sample) for sample in samples]
    measured = task.measure(said, rows)
    found = {"level": measured["level_accuracy"], "level, SRCC": measured["level_srcc"]}
    found |= {"level, unparsable": measured["level_unparsable"]}
    [(_, most)] = Counter(row["level"] for row in rows).most_common(1)
    return {name: finite(value) for name, value in (found | {"level, constant answer": most / len(rows)}).items()}


def accuracies(report: QuestionReport) -> dict[str, float | None]:
    """Accuracy by type of question and over all, and its baselines."""
    summary, no_video = report.summary, report.no_video
    found = {name: own.value for name, own in summary.by_type.items()} | {"all questions": summary.accuracy.value}
    found |= {"all, no video": no_video.accuracy.value if no_video else float("nan")}
    found |= {"all, constant answers": summary.majority, "all, unparsable": summary.unparsable}
    return {name: finite(value) for name, value in found.items()}


def phase_table(results: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A line for each measure, a column for each phase."""
    names = next(iter(results.values()))
    rows = [[name, *(result[name] for result in results.values())] for name in names]
    return Table("What each phase can do", ["share of right answers", *results], rows, NOTE)


if __name__ == "__main__":
    main()

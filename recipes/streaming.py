"""Does a policy that scores streamed clips look at them, or does it read what the prompt says of their stalls? Clips
that stall, and static scenes that do not -> tiny policy -> warm start with such a text in none, half or all of its
rows -> held-out scenes under a true, a missing and a false text.

    python recipes/streaming.py

Writes runs/streaming: clips, policies, summary.json and streaming.md. docs/streaming.md says what the tables mean.
"""

import csv
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import Stalls, read_labels, score_samples, stalls_of
from vqathinker.data.stalls import WORDINGS
from vqathinker.evaluation.report import Table
from vqathinker.metrics.correlation import srcc
from vqathinker.scoring import QualityScorer
from vqathinker.synth import StallSpec, make_stalls
from vqathinker.synth.build import is_made, write_labels
from vqathinker.synth.default import copy_base
from vqathinker.synth.stalls import TEXTS, stalled_mos

sys.path.insert(0, str(Path(__file__).parent))
import sft_lsvq
from demo import finite, stopwatch
from pairs import shown
from runner import side_by_side

FOLDER = Path("runs/streaming")
DATA = FOLDER / "data"
CONFIG = Path(__file__).parent / "configs" / "streaming_sft.yaml"
SPEC = StallSpec(splits={"train": 480, "test": 200})
QUICK = {"train": 16, "test": 16}
SHARES = {"never": 0.0, "half": 0.5, "always": 1.0}
"""Policy -> share of its training rows whose prompt tells of the stalls."""
LONGEST = 48
"""Tokens of an answer."""
GROUPS = ("static, no stall", "moving, no stall", "stalled, spinner", "stalled, no spinner")


@dataclass(frozen=True)
class Asked:
    """A held-out clip: what is known of it, and what a prompt may say.

    Attributes:
        video: Path.
        mos: Its label.
        group: One of `GROUPS`.
        stalls: "true" or "false" -> stalls.
        implied: What its MOS would be if the false text were true.
    """

    video: str
    mos: float
    group: str
    stalls: dict[str, Stalls]
    implied: float


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the clips and the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    command = shlex.join(["python", "recipes/streaming.py", *(sys.argv[1:] if argv is None else argv)])
    seconds: dict[str, float] = {}

    # Clips, texts and base policy
    spec = replace(SPEC, seed=options.seed, **({"splits": QUICK} if options.quick else {}))
    with stopwatch(seconds, "synth"):
        if not is_made(DATA, spec):
            make_stalls(DATA, spec)
        copy_base(FOLDER / "base")

    # One warm start for each share of rows with a text: the very recipe
    for policy, share in SHARES.items():
        with stopwatch(seconds, policy):
            labels = told_in(share, options.seed, DATA / f"train_{policy}.csv")
            own = ["--train_labels", str(labels), "--output_dir", str(FOLDER / policy), "--seed", str(options.seed)]
            sft_lsvq.main(["--config", str(CONFIG), *own, *(["--max_steps", "2"] if options.quick else [])])

    # Held-out scenes, each clip under every text
    with stopwatch(seconds, "evaluate"):
        results = judge()

    summary = {"results": results, "seed": options.seed, "command": command, "torch": torch.__version__}
    summary |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = "\n\n".join(map(shown, tables(results)))
    (FOLDER / "streaming.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{sum(seconds.values()):.0f} s; numbers in {FOLDER}/summary.json")


def told_in(share: float, seed: int, out: Path) -> Path:
    """The training labels with the stalls told in a share of the rows, drawn by the seed."""
    with (DATA / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = np.random.default_rng(seed).permutation(len(rows)) < round(share * len(rows))
    write_labels(out, [row if keep else row | {"stalls": ""} for row, keep in zip(rows, kept, strict=True)])
    return out


def held_out() -> list[Asked]:
    """The clips of the split `test`."""
    true, _, false = (read_labels(DATA / f"test{end}.csv", DATA, "identity") for end in TEXTS)
    asked = []
    for row, sample, other in zip(true, score_samples(true), false, strict=True):
        stalls = {"true": stalls_of(row), "false": stalls_of(other)}
        severity = max((value for kind, value in sample.distortions.items() if kind != "stall"), default=0.0)
        moving = f"{'static' if row.extra['static'] == '1' else 'moving'}, no stall"
        stalled = f"stalled, {'' if row.extra['spinner'] == '1' else 'no '}spinner"
        group = stalled if stalls["true"].stalls else moving
        asked.append(Asked(row.video, row.mos, group, stalls, stalled_mos(stalls["false"], severity)))
    return asked


def judge() -> dict[str, dict[str, Any]]:
    """What `evaluate` says of each policy."""
    return side_by_side({policy: (evaluate, FOLDER / policy) for policy in SHARES})


def evaluate(checkpoint: Path) -> dict[str, Any]:
    """Scores of the held-out clips under each text: their SRCC with the labels and means of each group of clips. The
    scores are expected ones, which are finer than two decimals."""
    set_verbose(False)  # a process of its own
    scorer = QualityScorer.from_pretrained(checkpoint, readout="expected", max_new_tokens=LONGEST)
    scorer.processor.use_cache(FOLDER / "cache")
    asked = held_out()
    scores, asked_for = {"missing": score(scorer, asked, {})}, dict[str, np.ndarray]()
    for text in ("true", "false"):
        for wording in WORDINGS:
            events = {one.video: replace(one.stalls[text], wording=wording) for one in asked}
            asked_for[f"{text}, {wording}"] = score(scorer, asked, events)
        scores[text] = np.mean([asked_for[f"{text}, {wording}"] for wording in WORDINGS], axis=0)
    scores |= asked_for
    mos, implied = (np.array([getattr(one, name) for one in asked]) for name in ("mos", "implied"))
    groups = {"all": np.ones(len(asked), bool)}
    groups |= {name: np.array([one.group == name for one in asked]) for name in GROUPS}
    return {
        "srcc": {text: agreement(values, mos) for text, values in scores.items()},
        "srcc_false_text": agreement(scores["false"], implied),
        "unscored": int(np.isnan([scores["missing"], *asked_for.values()]).sum()),
        "clips": {name: int(where.sum()) for name, where in groups.items()},
        "mean": {
            name: {"MOS": mean(mos[where])} | {text: mean(values[where]) for text, values in scores.items()}
            for name, where in groups.items()
        },
    }


def score(scorer: QualityScorer, asked: Sequence[Asked], events: dict[str, Stalls]) -> np.ndarray:
    """Scores of the clips, NaN where there is none."""
    batches = scorer.score_many([one.video for one in asked], events)
    return np.array([result.score for batch in batches for result in batch])


def agreement(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """SRCC of the clips that have a score, where at least half have one."""
    known = ~np.isnan(scores)
    return finite(srcc(scores[known].tolist(), labels[known].tolist())) if known.mean() >= 0.5 else None


def mean(values: np.ndarray) -> float | None:
    """Mean of the values that are known."""
    known = values[~np.isnan(values)]
    return finite(float(known.mean())) if len(known) else None


def tables(results: dict[str, dict[str, Any]]) -> list[Table]:
    """What each policy goes by, and its mean scores of each group of clips."""
    texts = ["true", "missing", "false"]
    first = [
        [policy, *(result["srcc"][text] for text in texts), result["srcc_false_text"], result["unscored"]]
        for policy, result in results.items()
    ]
    columns = ["text in training", *texts, "false, with its text", "unscored"]
    columns_of_means = ("MOS", "true", "missing", "false")
    groups = [
        Table(
            f"Mean score of held-out clips; text in training: {policy}",
            ["clips", *columns_of_means],
            [
                [f"{name} ({result['clips'][name]})", *(result["mean"][name][column] for column in columns_of_means)]
                for name in GROUPS
            ],
        )
        for policy, result in results.items()
    ]
    return [Table("SRCC of held-out clips by the text in the prompt", columns, first), *groups]


if __name__ == "__main__":
    main()

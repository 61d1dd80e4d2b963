"""Which read-out agrees best with MOS, and what does a score cost by each?

python -m benchmarks.readouts                  # after `make demo`: its held-out clips and its sets of unseen kinds
python -m benchmarks.readouts --model runs/mine --heads runs/hidden runs/visual --labels test.csv --videos clips/

All read-outs of one policy and the score heads of others (`--heads`: the same policy with a head fitted to it), side by
side; prints a table and writes a JSON file.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from vqathinker.data import LabelRow, read_labels
from vqathinker.evaluation import plcc, srcc
from vqathinker.policy import load_policy
from vqathinker.scoring import READOUTS, QualityScorer

DEMO = Path("runs/demo")
SETS = ("test", "ood_banding", "ood_ghosting", "ood_pixelation")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readouts", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=str(DEMO / "grpo"), help="policy folder; default the demo's")
    parser.add_argument("--heads", nargs="*", default=[], metavar="FOLDER", help="further policies: only their heads")
    parser.add_argument("--labels", help="label file; default the demo's sets")
    parser.add_argument("--videos", default=".", help="folder of its clips")
    parser.add_argument("--mos-scale", default="identity", help="scale of its labels")
    parser.add_argument("--timed", type=int, default=8, help="clips that are timed, decoded before")
    parser.add_argument("--rounds", type=int, default=5, help="how often each read-out takes its turn")
    parser.add_argument("--out", type=Path, default=Path("runs/readouts.json"))
    return parser


def make_scorers(model: str, heads: Sequence[str]) -> dict[str, QualityScorer]:
    """By name: each read-out that the policy has, and `head (FORM)` of the others."""
    policy, processor = load_policy(model)
    readouts = [name for name in READOUTS if name != "head" or policy.config.score_head]
    scorers = {name: QualityScorer(policy, processor, readout=name) for name in readouts}
    if "head" in scorers:
        scorers[f"head ({policy.config.score_head})"] = scorers.pop("head")
    for folder in heads:
        policy, processor = load_policy(folder)
        name = f"head ({policy.config.score_head})"
        if name in scorers:
            raise ValueError(f"--heads {folder}: there is a {name} already. Name one policy for each form.")
        scorers[name] = QualityScorer(policy, processor, readout="head")
    return scorers


def agreement(scorer: QualityScorer, rows: Sequence[LabelRow]) -> list[float]:
    """SRCC, PLCC, number of different scores, of scores and of clips."""
    results = [result for batch in scorer.score_many([row.video for row in rows]) for result in batch]
    pairs = [(result.score, row.mos) for result, row in zip(results, rows, strict=True) if result.parsed]
    scores, mos = zip(*pairs, strict=True) if pairs else ((), ())
    return [srcc(scores, mos), plcc(scores, mos), len(set(scores)), len(scores), len(rows)]


def cost(scorers: Mapping[str, QualityScorer], rows: Sequence[LabelRow], rounds: int) -> dict[str, Any]:
    """Seconds a clip, decoding left out, taken in turns; and times over those of `answer`. Each policy gets the clips
    as its own processor reads them."""
    processors = {id(own.processor): own.processor for own in scorers.values()}
    clips = {key: [processor.load_clip(row.video) for row in rows] for key, processor in processors.items()}
    ways = {name: lambda own=own: own.score_clips(clips[id(own.processor)]) for name, own in scorers.items()}
    found = measure.in_turns({measure.OURS: ways.pop("answer"), **ways}, rounds)
    found["arms"]["answer"] = found["arms"].pop(measure.OURS)
    seconds = {name: found["arms"][name]["median"] / len(rows) for name in scorers}
    return {"clips": len(rows), "seconds": seconds, "over_answer": {"answer": 1.0, **found["ratios"]}}


def main(argv: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(argv)
    measure.quiet()
    if options.labels:
        name = Path(options.labels).stem
        sets = {name: read_labels(options.labels, options.videos, options.mos_scale)}
    else:
        sets = {name: read_labels(DEMO / f"data/{name}.csv", DEMO / "data", "identity") for name in SETS}
    scorers = make_scorers(options.model, options.heads)
    agreed = {
        readout: {name: agreement(scorer, rows) for name, rows in sets.items()} for readout, scorer in scorers.items()
    }
    times = cost(scorers, next(iter(sets.values()))[: options.timed], options.rounds)
    header = ["read-out", *(f"{name} {m}" for name in sets for m in ("SRCC", "PLCC")), "s / clip", "/ answer"]
    lines = [
        [name, *(value for r in found.values() for value in r[:2]), times["seconds"][name], times["over_answer"][name]]
        for name, found in agreed.items()
    ]
    measure.show("Read-outs", header, lines)
    policies = {"model": options.model, "heads": options.heads, "labels": options.labels}
    measure.save({"environment": measure.environment(), **policies, "agreement": agreed, "cost": times}, options.out)


if __name__ == "__main__":
    main()

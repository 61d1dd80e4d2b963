"""Which read-out agrees best with MOS? All three on the demo's held-out clips and its sets of unseen kinds.

python -m benchmarks.readouts     # after `make demo`; prints a table and writes runs/readouts.json
"""

import json
from pathlib import Path

from tabulate import tabulate

from vqathinker.data import read_labels
from vqathinker.evaluation import plcc, srcc
from vqathinker.scoring import READOUTS, QualityScorer

DEMO = Path("runs/demo")
SETS = ("test", "ood_banding", "ood_ghosting", "ood_pixelation")


def main() -> None:
    sets = {name: read_labels(DEMO / f"data/{name}.csv", DEMO / "data", "identity") for name in SETS}
    found: dict[str, dict[str, list[float]]] = {}
    for readout in READOUTS:
        scorer = QualityScorer.from_pretrained(DEMO / "grpo", readout=readout)
        found[readout] = {}
        for name, rows in sets.items():
            results = [result for batch in scorer.score_many([row.video for row in rows]) for result in batch]
            pairs = [(result.score, row.mos) for result, row in zip(results, rows, strict=True) if result.parsed]
            scores, mos = zip(*pairs, strict=True)
            found[readout][name] = [srcc(scores, mos), plcc(scores, mos), len(set(scores)), len(scores), len(rows)]
    rows = [[readout, *(value for r in values.values() for value in r[:2])] for readout, values in found.items()]
    print(tabulate(rows, ["read-out", *(f"{name} {m}" for name in SETS for m in ("SRCC", "PLCC"))], floatfmt=".3f"))
    (Path("runs") / "readouts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""SRCC and PLCC of a checkpoint on sets of distortion kinds it was never trained on.

    python recipes/eval_ood.py --model runs/demo/grpo --data runs/demo/data

Reads every ood_*.csv of the data folder (columns video, mos); prints a table and writes ood.json beside the checkpoint.
"""

import argparse
import json
import math
from pathlib import Path

from tabulate import tabulate

from vqathinker.data import read_labels
from vqathinker.evaluation import predict, summarize
from vqathinker.policy import load_policy
from vqathinker.rollout import Sampling


def main(argv: list[str] | None = None) -> dict[str, dict[str, float | None]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/grpo"), help="checkpoint folder")
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data"), help="folder with ood_*.csv")
    parser.add_argument("--max_new_tokens", type=int, default=2048, help="longest answer")
    options = parser.parse_args(argv)
    files = sorted(options.data.glob("ood_*.csv"))
    for needed, found in ((options.model / "config.json", (options.model / "config.json").exists()),
                          (options.data / "ood_*.csv", bool(files))):  # fmt: skip
        if not found:
            parser.error(f"{needed} does not exist: run `make demo` first, or pass --model and --data.")

    policy, processor = load_policy(options.model)
    table = {}
    for file in files:
        rows = read_labels(file, options.data, "identity")
        predictions = predict(
            policy, processor, [row.video for row in rows], sampling=Sampling(options.max_new_tokens), progress=True
        )
        table[file.stem] = summarize(predictions, rows)
    print("\nUnseen distortion kinds (synthetic):")
    lines = [[n, s.num_clips, s.num_unreadable, s.parse_rate, s.srcc, s.plcc] for n, s in table.items()]
    print(tabulate(lines, ["set", "clips", "unreadable", "parse_rate", "srcc", "plcc"], floatfmt=".3f"))
    report = {name: {"srcc": finite(s.srcc), "plcc": finite(s.plcc)} for name, s in table.items()}
    (options.model / "ood.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def finite(value: float) -> float | None:
    """Rounded; `None` where a correlation is undefined."""
    return None if math.isnan(value) else round(value, 4)


if __name__ == "__main__":
    main()

"""Do the demo's gains hold on clips that nobody has looked at? Another held-out set for the trained seeds.

    python recipes/fresh_clips.py     # after: python recipes/controls.py --arms sft,demo --seeds 0,1,2,3,4,5,6,7,8,9

Judges what is in runs/controls on 400 clips of another seed, made for this alone, prints the table and writes
runs/fresh_clips/fresh_clips.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from vqathinker.synth.default import SPEC, prepare_default

sys.path.insert(0, str(Path(__file__).parent))
import controls
import demo

FOLDER = Path("runs/fresh_clips")
SEED = 1000


def main() -> None:
    prepare_default(FOLDER, replace(SPEC, splits={"test": SPEC.splits["test"]}, ood=0, seed=SEED))
    rows, longer = (demo.labels("test", FOLDER / name) for name in ("data", "longer"))
    names = (*controls.QUALITY, *controls.MANNERS)
    table: dict[str, dict[str, list]] = {}
    for arm in ("sft", "demo"):
        seeds = [seed for seed in range(10) if controls.read_result(arm, seed) is not None]
        runs = [demo.evaluate(controls.folder_of(arm, seed), rows, seed, longer=longer)[0] for seed in seeds]
        table[arm] = {"seeds": seeds} | {name: [run[name] for run in runs] for name in names}
    (FOLDER / "fresh_clips.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(*controls.render_stability(table))


if __name__ == "__main__":
    main()

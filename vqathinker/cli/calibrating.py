"""`calibrate`: from a policy's scores to the scale of your labels, with intervals."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_models
from vqathinker.cli.policy import add_policy, is_main, load_scorer, say, scored_line
from vqathinker.places import check_file, check_folder, check_output

NAME = re.compile(r"(?!.*\.json\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "calibrate",
        "what is a score on the scale of your labels, and how sure is it?",
        [
            "--labels mine.csv --videos clips/ --model models/mine",
            "--labels mine.csv --videos clips/ --scale 0,100 --readout expected",
        ],
        "Then: vqathinker score clips/ --calibration NAME, with the same policy and settings.\n"
        "Exit code: 0 all clips scored, 1 some were not and are left out, 2 wrong input.",
    )
    parser.add_argument("--labels", type=Path, required=True, help="CSV with video,mos, on any scale; 50 clips or more")
    parser.add_argument("--videos", type=Path, required=True, help="folder that its video names are relative to")
    parser.add_argument(
        "--scale", help="lowest and highest label that can be given, e.g. 0,100: values and intervals end there"
    )
    parser.add_argument(
        "--coverage", type=float, default=0.9, help="share of clips whose label lies in the interval, on average"
    )
    parser.add_argument("--name", help="of the calibration; default that of the label file")
    parser.add_argument("--out", type=Path, help="folder for NAME.json and NAME.png; default MODEL/calibration")
    add_policy(parser)
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    name, out, scale = _check(options)
    from vqathinker.data import BenchmarkSet
    from vqathinker.data.benchmarks import split_of
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.evaluation.calibrating import calibrate, check_labels
    from vqathinker.evaluation.comparison import score_set
    from vqathinker.evaluation.plots import plot_calibration, pyplot
    from vqathinker.scoring import fingerprint, settings_of

    pyplot()  # what is missing at the end is told before anything is scored
    # scores/SETTINGS/clips.csv names clips by path, so that calibrations of one policy share it
    one = BenchmarkSet("clips", options.labels.name, "", options.labels, options.videos)
    rows = one.rows()
    check_labels(one, rows, options.coverage, scale)
    if is_main() and split_of(options.labels.stem) == "train":
        say(f"{options.labels}: clips that the policy was trained on make intervals too narrow", sys.stderr)
    scorer = load_scorer(options)
    settings = settings_of(scorer)
    scored = score_set(scorer, one, rows, out, fingerprint(settings))
    failed = [row for row in scored if math.isnan(row["score"])]
    if is_main():
        say(scored_line(scored, options.readout), sys.stderr)
        fitted = calibrate(one, rows, scored, settings, options.coverage, scale)
        fitted.calibration.save(out / f"{name}.json")
        plot_calibration(fitted, one.title, out / f"{name}.png")
        say(markdown([fitted.table]))
        say(f"{out}/{name}.json, {out}/{name}.png")
    return 1 if failed and is_main() else 0


def _check(options: argparse.Namespace) -> tuple[str, Path, tuple[float, float] | None]:
    """Name, folder and scale of the calibration.

    Raises:
        ValueError: If one of them does not fit.
        OSError: If a file or folder is not there, or cannot be written.
    """
    check_file("--labels", options.labels)
    check_folder("--videos", options.videos)
    check_models(options)
    name = options.labels.stem if options.name is None else options.name
    if not NAME.fullmatch(name):
        raise ValueError(
            f"--name {name!r}: must be letters, digits, '.', '_' and '-', at most 100, not beginning with a sign and "
            "not ending in .json. (The default is the label file's name.)"
        )
    if options.out is None and not Path(options.model).is_dir():
        raise ValueError(f"--model {options.model} is no folder, to lay the calibration into: name one with --out.")
    from vqathinker.scoring.calibration import FOLDER

    out = Path(options.model) / FOLDER if options.out is None else options.out
    check_output("--out", out)
    return name, out, _scale(options.scale)


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    from vqathinker.data.scales import mos_scale

    try:
        found = mos_scale(f"linear:{text}")
    except ValueError:
        raise ValueError(
            f"--scale {text!r}: must be the lowest and the highest label that can be given, LO,HI with LO < HI, e.g. "
            "0,100."
        ) from None
    return found.low, found.high

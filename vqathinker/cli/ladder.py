"""`ladder`: which rung of a clip's ladder is the cheapest that keeps a quality, without a reference?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_models, find_existing_videos, numbers
from vqathinker.cli.policy import add_policy, is_main, load_scorer, say
from vqathinker.places import check_file, check_output
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.evaluation.ladder_calibration import Calibration, LadderTable
    from vqathinker.scoring import QualityScorer

NEEDS = {"CLIP": ("target", "calibration"), "--calibrate": ("out",), "--check": ("target", "calibration")}
"""What is done -> options without which it cannot be."""
RUNGS = ("target", "calibration", "codec", "crf", "heights")
TAKES = {"CLIP": (*RUNGS, "format"), "--calibrate": ("out",), "--check": RUNGS}
"""What is done -> options that it takes, of those that not everything does."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "ladder",
        "the cheapest encode of a clip that keeps a quality",
        [
            "--calibrate ladders/val.csv --model models/mine --out cal.json",
            "--check ladders/test.csv --target 3.8 --calibration cal.json --model models/mine",
            "clip.mp4 --target 3.8 --calibration cal.json --model models/mine",
        ],
        "Exit code: 0 promised, 1 not promised or a rung without a score, 2 wrong input.",
    )
    parser.add_argument("clip", nargs="?", metavar="CLIP", help="video to encode, at best uncompressed")
    parser.add_argument("--target", type=float, help="quality to keep, as a score of 1 to 5")
    parser.add_argument("--risk", type=float, default=0.1, help="share of clips whose rung may break its promise")
    parser.add_argument("--calibration", type=Path, help="file that --calibrate made with this policy")
    parser.add_argument("--calibrate", type=Path, metavar="TABLE", help="ladders of `synth --ladder` not trained on")
    parser.add_argument("--check", type=Path, metavar="TABLE", help="other such ladders: does it hold there?")
    parser.add_argument("--out", type=Path, help="with --calibrate: JSON file to write")
    parser.add_argument("--codec", help="only these codecs of the calibration, e.g. h264,vp9")
    parser.add_argument("--crf", help="only these CRFs of it, e.g. 24,30")
    parser.add_argument("--heights", help="only these heights of it, e.g. source,360")
    parser.add_argument("--encodes", type=Path, default=Path("runs/ladder"), help="folder for encodes and scores")
    parser.add_argument("--format", choices=["table", "json"], help="output format; default table")
    add_policy(parser)
    parser.set_defaults(run=_ladder)


def _ladder(options: argparse.Namespace) -> int:
    given = {"CLIP": options.clip, "--calibrate": options.calibrate, "--check": options.check}
    tasks = [name for name, value in given.items() if value is not None]
    if len(tasks) != 1:
        raise ValueError(f"{', '.join(tasks) or 'no task'}: give one of CLIP, --calibrate TABLE and --check TABLE.")
    [task] = tasks
    _check(options, task)
    check_models(options)
    return {"CLIP": _choose, "--calibrate": _calibrate, "--check": _check_held_out}[task](options)


def _check(options: argparse.Namespace, task: str) -> None:
    """Raise for options that are missing or do not belong to what is done, and for files that are not there."""
    if missing := [f"--{name}" for name in NEEDS[task] if getattr(options, name) is None]:
        hint = " (made with --calibrate)" if "--calibration" in missing else ""
        raise ValueError(f"{task} without {', '.join(missing)}{hint}: see `vqathinker ladder --help`.")
    foreign = {*RUNGS, "format", "out"} - {*TAKES[task]}
    if other := [f"--{name}" for name in sorted(foreign) if getattr(options, name) is not None]:
        raise ValueError(f"{task} with {', '.join(other)}: leave {'it' if len(other) == 1 else 'them'} out.")
    for name in ("calibration", "calibrate", "check"):
        check_file(f"--{name}", getattr(options, name))
    check_output("--out", options.out, folder=False)
    check_output("--encodes", options.encodes)
    if options.clip is not None:
        if Path(options.clip).is_dir():
            raise ValueError(f"CLIP {options.clip!r} is a folder: name one video.")
        find_existing_videos([options.clip])


def _calibrate(options: argparse.Namespace) -> int:
    from vqathinker.evaluation.ladder_calibration import Calibration, hash_of, read_ladder_table
    from vqathinker.evaluation.ladder_choice import count_scenes
    from vqathinker.metrics.conformal import min_units
    from vqathinker.scoring import settings_of

    table, needed = read_ladder_table(options.calibrate), min_units(options.risk)
    scenes = count_scenes(table.ladders)
    if scenes < needed:
        raise ValueError(
            f"{options.calibrate}: {counted(scenes, 'scene')}; a risk of {options.risk:g} needs at least {needed}. "
            "Take more, or a larger --risk. (Clips of one scene count once.)"
        )
    scorer = load_scorer(options)
    ladders = table.scored(_scores(options, scorer, table))
    name = f"{options.calibrate} ({hash_of(options.calibrate)})"
    found = Calibration(settings_of(scorer), name, table.labels, table.encoders, table.kinds, ladders, table.sizes)
    unscored = sum(int(math.isnan(score)) for ladder in ladders for score in ladder.predicted)
    if is_main():
        found.save(options.out)
        say(
            f"{counted(scenes, 'scene')}, {counted(len(ladders), 'source')} of {counted(len(table.kinds), 'rung')} "
            f"each, {counted(unscored, 'rung')} without a score; labels: {table.labels}"
        )
        say(str(options.out))
    return 1 if unscored and is_main() else 0


def _check_held_out(options: argparse.Namespace) -> int:
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.evaluation.ladder_calibration import load_calibration, read_ladder_table
    from vqathinker.evaluation.ladder_pilot import check_tables

    whole, known = read_ladder_table(options.check), load_calibration(options.calibration)
    known.check_held_out(whole)
    calibration = _narrowed(known, options)
    if lacking := [str(kind) for kind in calibration.kinds if kind not in whole.kinds]:
        raise ValueError(
            f"{options.check} has no rungs {lacking[:3]}, which the calibration has: leave these out with --codec, "
            "--crf or --heights."
        )
    if whole.labels != calibration.labels:
        raise ValueError(f"{options.check} is labelled by {whole.labels}, the calibration by {calibration.labels}.")
    calibration.check_encoders(whole.encoders)
    table = _as_large(whole, calibration).narrowed(calibration.kinds)
    scorer = _scorer(options, calibration)
    ladders = table.scored(_scores(options, scorer, table))
    if is_main():
        print(markdown(check_tables(calibration, ladders, options.target, options.risk)))
    return 1 if is_main() and any(math.isnan(score) for ladder in ladders for score in ladder.predicted) else 0


def _choose(options: argparse.Namespace) -> int:
    from vqathinker.clips.codecs import encoder_settings
    from vqathinker.evaluation.benchmark import finite, markdown
    from vqathinker.evaluation.ladder_calibration import load_calibration
    from vqathinker.evaluation.ladder_pilot import choose_rung, encode_clip

    calibration = _narrowed(load_calibration(options.calibration), options)
    encoders = encoder_settings({kind.codec: () for kind in calibration.kinds})["codecs"]
    for codec in calibration.check_encoders(encoders):
        say(f"{codec}: the encoder's library has another version than the calibration's", sys.stderr)
    scorer = _scorer(options, calibration)
    rungs = encode_clip(options.clip, calibration, options.encodes)
    scores = _score(options, scorer, [str(rung.path) for rung in rungs])
    choice = choose_rung(
        options.clip, rungs, [scores[str(rung.path)] for rung in rungs], calibration, options.target, options.risk
    )
    if is_main():
        if options.format == "json":
            say(json.dumps(finite(choice.record())))
        else:
            say(markdown([choice.table()]) + "\n" + choice.text())
    unscored = any(math.isnan(score) for score in scores.values())
    return 1 if is_main() and (unscored or not choice.promised) else 0


def _as_large(table: LadderTable, calibration: Calibration) -> LadderTable:
    """The sources of a table for which a calibration holds; what is left out is told."""
    taken = [source for source, size in table.sizes.items() if calibration.holds_for(size)]
    if others := [source for source in table.sizes if source not in taken]:
        low, high = calibration.sides
        told = (
            f"{counted(len(others), 'source')} of {len(table.sizes)} of {table.path} left out, {', '.join(others[:5])}"
            f": the shorter sides of the calibration's sources are {low} to {high}"
        )
        if not taken:
            raise ValueError(f"{told}. Calibrate with sources of this size.")
        if is_main():
            say(told, sys.stderr)
    return table.of_sources(taken)


def _narrowed(whole: Calibration, options: argparse.Namespace) -> Calibration:
    """What a calibration holds of the rungs that are asked for; whether it does for the target and the risk."""
    asked = {
        "codec": None if options.codec is None else options.codec.split(","),
        "crf": numbers("--crf", options.crf),
        "height": numbers("--heights", options.heights, {"source": 0}),
    }
    for name, values in asked.items():
        known = sorted({getattr(kind, name) for kind in whole.kinds})
        if unseen := [value for value in values or () if value not in known]:
            shown = ["source" if value == 0 and name == "height" else value for value in known]
            raise ValueError(
                f"{name} {unseen}: {options.calibration} was made without; it knows {shown}. Calibrate with ladders "
                "that have it."
            )
    found = whole.narrowed(lambda kind: all(v is None or getattr(kind, name) in v for name, v in asked.items()))
    if not found.kinds:
        raise ValueError(
            f"--codec, --crf, --heights: no rung is all of this, of {[str(kind) for kind in whole.kinds]}."
        )
    found.threshold(options.target, options.risk)
    return found


def _scorer(options: argparse.Namespace, calibration: Calibration) -> QualityScorer:
    """The policy, if it is the one that the calibration was made with."""
    from vqathinker.scoring import settings_of

    scorer = load_scorer(options)
    calibration.check_policy(settings_of(scorer))
    return scorer


def _scores(options: argparse.Namespace, scorer: QualityScorer, table: LadderTable) -> dict[str, float]:
    return _score(options, scorer, [video for videos in table.videos.values() for video in videos])


def _score(options: argparse.Namespace, scorer: QualityScorer, videos: Sequence[str]) -> dict[str, float]:
    """Video -> score; a table in `--encodes` keeps them."""
    from vqathinker.scoring import fingerprint, score_files, settings_of

    made_with = fingerprint(settings_of(scorer))
    rows = score_files(scorer, videos, made_with, [options.encodes / "scores" / f"{made_with}.csv"])
    return {row["video"]: row["score"] for row in rows}

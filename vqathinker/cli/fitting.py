"""`fit`: from a table of ratings and a folder of clips to a judged policy."""

from __future__ import annotations

import argparse
from pathlib import Path

from vqathinker.arguments import add_command
from vqathinker.cli.policy import say
from vqathinker.clips import VIEWS
from vqathinker.places import check_checkpoint, check_file, check_folder, check_output


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "fit",
        "train a policy on your own ratings, and judge it on held-out clips",
        ["ratings.csv --videos clips/", "ratings.csv --videos clips/ --scale 1,10 --minutes 120 --model models/mine"],
    )
    parser.add_argument(
        "ratings", metavar="RATINGS", type=Path, help="CSV of clips and ratings, separated by comma, semicolon or tab"
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder that its video names are relative to")
    parser.add_argument("--raters", help="comma-separated rater columns; default those found in the file")
    parser.add_argument("--scale", help="lowest and highest rating, e.g. 1,10; default 1,5 if the ratings lie there")
    parser.add_argument("--video-column", help="column of the video name; default the one found in the file")
    parser.add_argument("--hold-out", type=float, default=0.2, help="share of the clips to hold out; default 0.2")
    parser.add_argument("--minutes", type=float, default=30.0, help="time limit for everything; default 30")
    parser.add_argument(
        "--view", choices=tuple(VIEWS), help="whole frames, resized, or their central pixels; default the policy's"
    )
    parser.add_argument("--model", help="policy folder to start from; default the small one that is shipped")
    parser.add_argument("--out", type=Path, default=Path("runs/fit"), help="folder for all output; default runs/fit")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, training and bootstrap; default 0")
    parser.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> None:
    check_file("RATINGS", options.ratings)
    check_folder("--videos", options.videos)
    if options.model is not None:
        check_checkpoint(options.model)
    check_output("--out", options.out)
    from vqathinker.fitting.spec import FitSpec

    raters = tuple(name.strip() for name in options.raters.split(",")) if options.raters else ()
    names = ("ratings", "videos", "out", "model", "scale", "hold_out", "minutes", "video_column", "view", "seed")
    spec = FitSpec(raters=raters, **{name: getattr(options, name) for name in names})
    spec.parts  # noqa: B018  # mistakes are told here, without the seconds that loading torch takes
    from vqathinker.fitting.run import fit

    fit(spec, say)

"""`timeline`: when is a video bad, and what is wrong with it then?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_clip, check_models
from vqathinker.cli.policy import add_policy, command_line, is_main, load_scorer, say
from vqathinker.places import check_output
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.scoring import QualityScorer
    from vqathinker.scoring.timeline import ScoredWindow, Timeline


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "timeline",
        "when is this video bad, and what is wrong with it then?",
        ["clip.mp4", "clip.mp4 --window 1 --step 0.5 --model models/mine"],
        "Writes OUT/CLIP.EXT.json and, with matplotlib (extra `plots`), OUT/CLIP.EXT.png.\n"
        "Exit code: 0 all windows scored, 1 some were not, 2 wrong input.",
    )
    parser.add_argument("clip", metavar="CLIP", help="video file")
    parser.add_argument("--window", type=float, default=2.0, help="seconds that a window lasts")
    parser.add_argument("--step", type=float, default=1.0, help="seconds from one window to the next")
    parser.add_argument("--out", type=Path, default=Path("runs/timeline"), help="folder for the plot and the JSON file")
    add_policy(parser)
    parser.add_argument("--explain", action="store_true", help="show the reasoning")
    parser.set_defaults(run=_timeline)


def _timeline(options: argparse.Namespace) -> int:
    check_clip(options.clip)
    check_output("--out", options.out)
    _check_other(options)
    check_models(options)
    from vqathinker.scoring.seen import seen_line
    from vqathinker.scoring.timeline import score_timeline

    scorer = load_scorer(options)
    found = score_timeline(scorer, options.clip, options.window, options.step, progress=is_main())
    if is_main():
        say(seen_line(scorer.processor, {}, 1), sys.stderr)
        for window in found.windows:
            say(line_of(window))
            if options.explain and window.result.reasoning:
                say("    " + " ".join(window.result.reasoning.split()))
        _tell(options, found)
        _write(options, found, scorer)
    return 0 if found.windows and not any(map(math.isnan, found.scores)) else 1


def line_of(window: ScoredWindow) -> str:
    """`0.0-2.0 s  3.42  ok  strong blur, noise`, or what went wrong."""
    result = window.result
    spread = "" if math.isnan(result.spread) else f" (spread {result.spread:.2f})"
    cells = [f"{window.start:.1f}-{window.end:.1f} s", f"{result.score:.2f}{spread}".ljust(4), result.status]
    faults = [f"{degree} {kind}".strip() for kind, degree in window.faults.items()]
    return "  ".join([*cells, *filter(None, [", ".join(faults), window.error])])


def _tell(options: argparse.Namespace, found: Timeline) -> None:
    """What was scored and what was not, on stderr."""
    if found.error:
        say(f"{found.video}: unreadable: {found.error}", sys.stderr)
        return
    scored = sum(window.result.parsed for window in found.windows)
    say(
        f"{counted(len(found.windows), 'window')} over {found.duration:.1f} s: {scored} scored, "
        f"{len(found.windows) - scored} not",
        sys.stderr,
    )
    if found.duration < found.window:
        say(f"the clip is shorter than a window of {found.window:g} s: all of it is one window", sys.stderr)
    from vqathinker.scoring.readouts import generates

    if not generates(options.readout, options.level_asked):
        say(f"--readout {options.readout} gives no reasoning, so no fault is named", sys.stderr)


def _output(options: argparse.Namespace) -> Path:
    """The JSON file: with the clip's suffix in its name, as clip.mp4 may lie beside clip.webm."""
    return Path(options.out / f"{Path(options.clip).name}.json")


def _check_other(options: argparse.Namespace) -> None:
    """Raise ValueError where the JSON file to be written is that of another clip."""
    path = _output(options)
    try:
        other = json.loads(path.read_text("utf-8"))["video"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is no timeline: move it away, or name another folder with --out.") from error
    if Path(other).resolve() != Path(options.clip).resolve():
        raise ValueError(f"{str(path)!r} is the timeline of {other!r}: name another folder with --out.")


def _write(options: argparse.Namespace, found: Timeline, scorer: QualityScorer) -> None:
    """The JSON file, and the plot where there is something to draw and to draw with."""
    from vqathinker.evaluation.plots import plot_timeline
    from vqathinker.scoring import settings_of, versions
    from vqathinker.scoring.timeline import timeline_record
    from vqathinker.writing import write_whole

    facts = {"command": command_line(), "settings": settings_of(scorer), "versions": versions()}
    options.out.mkdir(parents=True, exist_ok=True)
    path = _output(options)
    write_whole(path, json.dumps(timeline_record(found) | facts, indent=1) + "\n")
    say(str(path), sys.stderr)
    if not found.windows:
        return
    try:
        plot_timeline(found, path.with_suffix(".png"))
        say(str(path.with_suffix(".png")), sys.stderr)
    except ImportError as error:
        say(f"no plot: {error}", sys.stderr)

"""`compare` and `rank`: which of two clips is better, and in which order are many?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_clip, check_models, find_existing_videos
from vqathinker.cli.policy import add_policy, command_line, is_main, load_scorer, say
from vqathinker.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vqathinker.places import check_output, check_table
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.scoring import QualityComparison
    from vqathinker.scoring.ranking import Ranking

LONGEST_ANSWER = 160
"""Characters of an answer that are shown where it gives no preference; JSON has it whole."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    _add_compare(commands)
    _add_rank(commands)


# ---------------------------------------------------------------- compare


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "compare",
        "which of two videos is better?",
        ["a.mp4 b.mp4 --model models/mine --explain", "a.mp4 b.mp4 --format json"],
        "Exit code: 0 compared, 1 no preference, 2 wrong input.",
    )
    parser.add_argument("first", metavar="A", help="video file; an image is a clip of one frame")
    parser.add_argument("second", metavar="B", help="the other one")
    add_policy(parser, readouts=False, sampled=False)
    parser.add_argument("--explain", action="store_true", help="show the reasoning in both orders")
    parser.add_argument(
        "--format", default="text", choices=["text", "json"], help="output format: lines to read, or one JSON object"
    )
    parser.set_defaults(run=_compare, readout="answer", samples=0, seed=0)


def _compare(options: argparse.Namespace) -> int:
    for clip in (options.first, options.second):
        check_clip(clip)
    check_models(options)
    from vqathinker.scoring.comparing import NOT_LEARNED
    from vqathinker.scoring.seen import seen_line
    from vqathinker.writing import finite

    scorer = load_scorer(options, clips=2)
    [[found]] = scorer.compare_many([(options.first, options.second)])
    if is_main():
        say(seen_line(scorer.processor, {}, 2), sys.stderr)
        if options.format == "json":
            say(json.dumps(finite(asdict(found)) | {"reasoning": list(found.reasoning)}))
        else:
            say("\n".join(lines_of(found)))
            for number, reasoning in enumerate(found.reasoning if options.explain else ()):
                say(f"    {'second' if number else 'first'} shown first: {' '.join(reasoning.split())}")
        if not found.parsed and found.status != "unreadable":
            print(NOT_LEARNED, file=sys.stderr)
    return 0 if found.parsed else 1


def lines_of(found: QualityComparison) -> list[str]:
    """Both clips with their scores, and which one is preferred or why none is."""
    width = max(len(found.first), len(found.second))
    pair = zip(("first ", "second"), (found.first, found.second), found.scores, strict=True)
    lines = [f"{place}  {clip.ljust(width)}  {score:.2f}" for place, clip, score in pair]
    if not found.parsed:
        why = found.error or " | ".join(shorten(answer, LONGEST_ANSWER, placeholder=" ...") for answer in found.answers)
        return [*lines, f"no preference  {found.status}  {why}"]
    verdict = {"first": "first is better", "second": "second is better", "similar": "similar"}[found.better]
    shown = f"{found.orders[0]:.2f} shown first, {found.orders[1]:.2f} shown second"
    agree = "" if found.consistent else "  the answers of the two orders disagree"
    return [*lines, f"{verdict}  P(first is better) {found.preference:.2f} ({shown}){agree}"]


# ---------------------------------------------------------------- rank


def _add_rank(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "rank",
        "which of these videos are the best?",
        ["clips/ --model models/mine --csv ranking.csv", "clips/ --by compare --model models/mine"],
        "Exit code: 0 all ranked, 1 some were not, 2 wrong input.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, globs; an image is a clip of one frame"
    )
    parser.add_argument(
        "--by",
        default="score",
        choices=["score", "compare"],
        help="score: score all, and compare those whose scores tie; compare: comparisons alone",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/rank"),
        help="folder of what was asked; a second run continues it",
    )
    parser.add_argument("--csv", type=Path, help="also write the table")
    parser.add_argument("--json", type=Path, help="also write the table as JSON lines")
    parser.add_argument(
        "--format",
        default="table",
        choices=["table", "csv", "json"],
        help="output format: a table to read, or the same as in files",
    )
    add_policy(parser)
    parser.set_defaults(run=_rank)


def _rank(options: argparse.Namespace) -> int:
    if options.by == "compare" and (given := for_scores(options)):
        raise ValueError(f"--by compare with {', '.join(given)}: nothing is scored. Leave this out, or use --by score.")
    videos = find_existing_videos(options.paths, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
    for name, path in (("--csv", options.csv), ("--json", options.json)):
        if path is not None:
            check_table(path)
            check_output(name, path, folder=False)
    check_output("--out", options.out)
    check_models(options)
    from vqathinker.scoring.comparing import NOT_LEARNED
    from vqathinker.scoring.ranking import rank_files, ranking_text
    from vqathinker.scoring.seen import seen_line

    scorer = load_scorer(options, clips=2)
    ranking = rank_files(scorer, videos, options.by, options.out)
    ranked = [clip for clip in ranking.clips if clip.rank is not None]
    if is_main():
        for path in filter(None, (options.csv, options.json)):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = ranking_text(ranking.clips, path.suffix.lower() == ".csv")
            path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        if options.format == "table":
            say(_table(ranking))
        else:
            say(ranking_text(ranking.clips, options.format == "csv").rstrip("\n"))
        say(seen_line(scorer.processor, {}, len(videos)), sys.stderr)
        say(_summary(ranking, options.by == "score"), sys.stderr)
        if ranking.compared and not ranking.answered:
            print(NOT_LEARNED, file=sys.stderr)
    failed = len(ranked) < len(ranking.clips) or (ranking.compared and not ranking.answered)
    return 1 if failed and is_main() else 0


def _table(ranking: Ranking) -> str:
    """Ranked clips as a table, and a line for each of the others."""
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.evaluation.report import Table

    rows = [
        [
            clip.rank,
            clip.video,
            None if math.isnan(clip.ability) else f"{clip.ability:.2f}",
            None if math.isnan(clip.low) else f"{clip.low:.2f} to {clip.high:.2f}",
            None if math.isnan(clip.score) else f"{clip.score:.2f}",
            clip.comparisons,
        ]
        for clip in ranking.clips
        if clip.rank is not None
    ]
    note = (
        "ability: log-odds of being preferred among the clips it was compared with, directly or through others, whose "
        "mean is 0; interval: 90 %."
    )
    text = markdown([Table("Ranking", ["rank", "clip", "ability", "interval", "score", "comparisons"], rows, note)])
    lost = [f"not ranked  {clip.video}  {clip.status}  {clip.error}" for clip in ranking.clips if clip.rank is None]
    return "\n".join([text.rstrip(), *lost])


def _summary(ranking: Ranking, by_score: bool) -> str:
    """What was done, and what of it says nothing."""
    ranked = sum(clip.rank is not None for clip in ranking.clips)
    lines = [
        f"{counted(len(ranking.clips), 'clip')}: {ranked} ranked, {len(ranking.clips) - ranked} not; "
        f"{counted(ranking.compared, 'pair')} asked about, {ranking.compared - ranking.answered} without an answer, "
        f"{ranking.inconsistent} with another answer when swapped"
    ]
    if not by_score and ranking.groups > 1:
        lines.append(
            f"no comparison joins {ranking.groups} groups of clips (column `group`): the order between them is unknown"
        )
    return "\n".join(lines)


def for_scores(options: argparse.Namespace) -> list[str]:
    """Those of `add_policy`'s options that were given and change scores only; a comparison takes none of them."""
    known = {"--readout": options.readout != "answer", "--samples": options.samples}
    known["--question"] = options.score_question is not None
    return [name for name, given in known.items() if given]


# ---------------------------------------------------------------- eval --pairs


def evaluate_labelled_pairs(options: argparse.Namespace) -> int:
    """`vqathinker eval --labels FILE --videos DIR --pairs N`: tables on stdout and in `--out`.

    Raises:
        ValueError: If the labels do not fit, or give no pair.
    """
    from vqathinker.data import label_table, mos_scale, pairs_of, read_labels, score_samples
    from vqathinker.evaluation.pairs import evaluate_pairs, write_pairs
    from vqathinker.scoring import settings_of, versions
    from vqathinker.scoring.comparing import NOT_LEARNED

    scale = mos_scale(label_table(options.labels, options.videos, options.mos_scale).mos_scale or "identity")
    clips = score_samples(read_labels(options.labels, options.videos, scale.name))
    pairs = pairs_of(clips, options.pairs, options.seed, sd_factor=scale.factor)
    scorer = load_scorer(options, clips=2)
    report = evaluate_pairs(scorer, pairs, progress=is_main())
    if is_main():
        facts = {"command": command_line(), "labels": str(options.labels), "seed": options.seed}
        say(write_pairs(options.out, report, facts | settings_of(scorer) | {"versions": versions()}))
        say(f"{options.out}/pairs.md, {options.out}/pairs.json")
        if report.pairs and not any(one.found.parsed for one in report.pairs):
            print(NOT_LEARNED, file=sys.stderr)
    return 0 if any(one.found.parsed for one in report.pairs) else 1

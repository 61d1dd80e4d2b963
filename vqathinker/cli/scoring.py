"""`score`, `flip-rate`, `temporal-sensitivity`, `doctor`: what a trained policy is for and worth."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_models, find_existing_videos, find_videos, numbers
from vqathinker.cli.policy import DEMO, KNOWS_LITTLE, add_looks, add_policy, is_main, load_scorer, say, scored_line
from vqathinker.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vqathinker.places import check_checkpoint, check_file, check_folder, check_output, check_table
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.data import Stalls
    from vqathinker.evaluation.encodes import Encode
    from vqathinker.scoring import QualityScorer

KEPT_EVERY = 64
"""Comparisons after which they are written to disk."""
LONGEST_NAME = 60
"""Characters up to which names widen the column of all."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    for add in (_add_score, _add_flip_rate, _add_temporal, _add_doctor):
        add(commands)


# ---------------------------------------------------------------- score


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "score",
        "how good are these videos?",
        ["clips/ --csv scores.csv --sort score", "clip.mp4 --model models/mine --samples 8 --explain"],
        "Exit code: 0 all scored, 1 some were not, 2 wrong input.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, globs; an image is a clip of one frame"
    )
    add_policy(parser)
    parser.add_argument("--csv", type=Path, help="also write a table; a second run continues it")
    parser.add_argument("--json", type=Path, help="also write the table as JSON lines")
    parser.add_argument(
        "--format",
        default="table",
        choices=["table", "csv", "json"],
        help="output format: a table to read, or the same as in files",
    )
    parser.add_argument(
        "--sort",
        choices=["name", "score"],
        help="print after all are scored, by path or worst first; default as they are scored",
    )
    parser.add_argument("--explain", action="store_true", help="show the reasoning")
    parser.add_argument(
        "--events",
        metavar="FILE",
        help="stalls to tell the policy of: a table video,stalls, the .json file of one clip, or sidecar: clip.mp4's "
        "in clip.stalls.json",
    )
    parser.add_argument(
        "--calibration",
        dest="score_calibration",
        metavar="NAME",
        help="also score on the scale of your labels, with an interval; made by `calibrate`",
    )
    parser.set_defaults(run=_score)


SPREAD_NOTE = (
    "spread: how far apart the model's answers lie. This is not its error; to measure that on labelled clips: "
    "vqathinker eval --labels FILE --videos DIR"
)


def _score(options: argparse.Namespace) -> int:
    videos = find_existing_videos(options.paths, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
    tables = {name: path for name, path in (("--csv", options.csv), ("--json", options.json)) if path}
    for name, path in tables.items():
        check_table(path)
        check_output(name, path, folder=False)
    check_models(options)
    events = _events(options.events, videos)
    from vqathinker.data.stalls import stall_text
    from vqathinker.scoring import fingerprint, score_files, settings_of, told_settings
    from vqathinker.scoring.seen import seen_in, seen_line, unanswered_line

    told = (len(stall_text(stalls, video)) for video, stalls in events.items())
    scorer = load_scorer(options, events_tokens=max(told, default=0))  # a token is a character or more
    if options.model == DEMO and is_main():
        print(KNOWS_LITTLE, file=sys.stderr)
    show = _printer(options, videos)
    at_once = None if options.sort else show
    calibration = scorer.calibration
    by = {} if calibration is None else {"calibration": calibration.digest}
    made_with = fingerprint(settings_of(scorer) | told_settings(events) | by)
    rows = score_files(scorer, videos, made_with, [*tables.values()], at_once, events=events)
    if options.sort and is_main():
        for row in sorted(rows, key=lambda row: row["video"] if options.sort == "name" else _worst_first(row)):
            show(row)
    failed = [row for row in rows if math.isnan(row["score"])]
    if is_main():
        say(seen_line(scorer.processor, seen_in(rows), len(rows)), sys.stderr)
        say(scored_line(rows, options.readout), sys.stderr)
        if events:
            print(f"stalls told of {len(events)} of {counted(len(rows), 'clip')}", file=sys.stderr)
        if line := unanswered_line(scorer.processor, rows, scorer.batch_size):
            say(line, sys.stderr)
        if calibration is not None:
            say(calibration.line([row["score"] for row in rows]), sys.stderr)
        if any(not math.isnan(row["std"]) for row in rows):
            print(SPREAD_NOTE, file=sys.stderr)
    return 1 if failed and is_main() else 0


def _events(source: str | None, videos: Sequence[str]) -> dict[str, Stalls]:
    """Path -> stalls of the clips that `--events` tells of."""
    if source is None:
        return {}
    from vqathinker.data import read_events

    return read_events(source, videos)


def _printer(options: argparse.Namespace, videos: Sequence[str]) -> Callable[[Mapping[str, Any]], None]:
    """What shows a row, in the format that is asked for. The header of a CSV is printed at once."""
    from vqathinker.scoring.table import CALIBRATED, HEADER, table_line

    header = HEADER if options.score_calibration is None else (*HEADER, *CALIBRATED)
    if options.format == "csv" and is_main():
        say(",".join(header))
    width = max(min(len(video), LONGEST_NAME) for video in videos)

    def show(row: Mapping[str, Any]) -> None:
        if options.format != "table":
            return say(table_line(row, header, options.format == "csv").rstrip("\n"))
        say(line_of(row, width))
        if options.explain and row["reasoning"]:
            say(f"    {row['reasoning']}")

    return show


def _worst_first(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Key of a row; those without a score come last."""
    failed = math.isnan(row["score"])
    return failed, 0 if failed else row["score"], row["video"]


def line_of(row: Mapping[str, Any], width: int = 0) -> str:
    """`clip.mp4  3.42 (spread 0.11)  ok`, what was done to its frames, what went wrong, if anything. With a calibration
    the score is followed by ` = 61.2 [48.0, 74.4]`, on the user's scale with its interval, in as many decimals
    as the interval's width has in three digits.

    Args:
        row: Of the table.
        width: Of the first column.
    """
    spread = "" if math.isnan(row["std"]) else f" (spread {row['std']:.2f})"
    decimals = 2 if math.isclose(row["score"], round(row["score"], 2), abs_tol=1e-9) else 3  # finer than text
    calibrated = row.get("calibrated", math.nan)
    on_scale = "" if math.isnan(calibrated) else f" = {_on_scale(calibrated, row['low'], row['high'])}"
    cells = [row["video"].ljust(width), f"{row['score']:.{decimals}f}{spread}{on_scale}".ljust(5), row["status"]]
    if row["num_answers"] > 1:
        cells.append(f"{row['num_parsed']} of {row['num_answers']} answers")
    return "  ".join(cells + [row[name] for name in ("notes", "error") if row[name]])


def _on_scale(value: float, low: float, high: float) -> str:
    """`61.2 [48.0, 74.4]`: the width's third digit is the last one that is shown, never an exponent."""
    width = high - low
    decimals = max(0, 2 - math.floor(math.log10(width))) if 0 < width < math.inf else 2
    return f"{value:z.{decimals}f} [{low:z.{decimals}f}, {high:z.{decimals}f}]"


# ---------------------------------------------------------------- flip-rate


def _add_flip_rate(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "flip-rate",
        "how often does harder compression get the higher score (CP-LLM)?",
        ["--sources pristine/ --model models/mine", "--manifest ladder/manifest.csv --model models/mine"],
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sources", type=Path, help="folder of sources to encode at CRF 15, 17, ..., 51")
    what.add_argument("--manifest", type=Path, help="CSV of existing ladders: video,source,crf, and ladder or codec")
    parser.add_argument("--out", type=Path, default=Path("runs/flip_rate"), help="folder for encodes and results")
    parser.add_argument("--codec", help="of --sources: h264, hevc, vp9 or av1; default h264")
    parser.add_argument("--crf", help="of --sources: CRFs on the codec's scale, e.g. 15,25,35,45")
    parser.add_argument("--compare", action="store_true", help="also ask which of each pair is better, in both orders")
    add_policy(parser)
    parser.set_defaults(run=_flip_rate)


def _flip_rate(options: argparse.Namespace) -> int:
    check_file("--manifest", options.manifest)
    check_folder("--sources", options.sources)
    if options.manifest and (options.codec or options.crf):
        raise ValueError("--manifest with --codec or --crf: its encodes are there already. Leave these options out.")
    crfs = numbers("--crf", options.crf) or ()
    if len(crfs) == 1:
        raise ValueError(f"--crf {options.crf!r}: name at least two, e.g. 15,25,35.")
    check_output("--out", options.out)
    check_models(options)
    if options.sources:
        find_videos([str(options.sources)])  # names what is not encoded
    from vqathinker.evaluation.flip_rate import ladder_pairs, write_flip_rates
    from vqathinker.scoring import fingerprint, score_files, settings_of
    from vqathinker.scoring.asking import check_lengths
    from vqathinker.scoring.comparing import pair_sample

    encodes, made_with = _encodes(options, crfs)
    scorer = load_scorer(options, clips=2 if options.compare else 1)
    if options.compare:
        check_lengths(scorer, [pair_sample(m.video, h.video) for m, h in ladder_pairs(encodes)[:1]])
    settings = settings_of(scorer)
    table = options.out / "scores" / f"{fingerprint(settings)}.csv"
    rows = score_files(scorer, [encode.video for encode in encodes], fingerprint(settings), [table])
    scores = {row["video"]: row["score"] for row in rows}
    judged: dict[str, dict[str, Any]] = {"scores": {"scores": scores}}
    if options.compare:
        judged["comparison"] = {"preferences": _preferences(scorer, encodes, options.out)}
    if is_main():
        print(write_flip_rates(options.out, encodes, judged, {"policy": settings, "encodes": made_with}))
    failed = [value for by in judged.values() for known in by.values() for value in known.values() if math.isnan(value)]
    return 1 if is_main() and failed else 0


def _preferences(scorer: QualityScorer, encodes: Sequence[Encode], folder: Path) -> dict[tuple[str, str], float]:
    """(Milder, harder) -> how probably the milder one is better, of all pairs; a second run goes on."""
    from vqathinker.evaluation.flip_rate import ladder_pairs
    from vqathinker.scoring.comparing import NOT_LEARNED
    from vqathinker.scoring.ranking import Comparisons

    pairs = [(mild.video, hard.video) for mild, hard in ladder_pairs(encodes)]
    compare, preferences = Comparisons(scorer, folder), list[float]()
    with compare.shown(len(pairs), progress=True):
        for first in range(0, len(pairs), KEPT_EVERY):
            preferences += compare(pairs[first : first + KEPT_EVERY])
    if is_main() and all(map(math.isnan, preferences)):
        print(NOT_LEARNED, file=sys.stderr)
    return dict(zip(pairs, preferences, strict=True))


def _encodes(options: argparse.Namespace, crfs: Sequence[int]) -> tuple[list[Encode], dict[str, Any]]:
    """The ladders, made where they are not there, and what they were made with."""
    from vqathinker.clips.codecs import check_codecs, encoder_settings
    from vqathinker.evaluation.encodes import crf_range, encode_ladder, read_manifest, settings_beside

    if options.manifest:
        return read_manifest(options.manifest), settings_beside(options.manifest)
    codec = options.codec or "h264"
    check_codecs([codec])
    crfs = crfs or crf_range(codec)
    if is_main():
        say(f"encoding every video of {options.sources} {len(crfs)} times; existing encodes are kept", sys.stderr)
    folder = options.out / ("ladder" if codec == "h264" else f"ladder_{codec}")
    return encode_ladder(options.sources, folder, crfs, codec=codec), encoder_settings({codec: crfs})


# ---------------------------------------------------------------- temporal-sensitivity


def _add_temporal(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "temporal-sensitivity",
        "do originals outscore copies with frames out of order?",
        ["clips/ --model models/mine", "a.mp4 b.mp4 --readout levels"],
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, globs")
    add_policy(parser)
    parser.set_defaults(run=_temporal)


def _temporal(options: argparse.Namespace) -> int:
    videos = find_existing_videos(options.paths)
    check_models(options)
    from vqathinker.evaluation import sensitivity_table, temporal_sensitivity
    from vqathinker.evaluation.benchmark import markdown

    results = temporal_sensitivity(load_scorer(options), videos, options.seed, progress=True)
    compared = max(result.num_clips for result in results.values())
    if is_main():
        print(markdown([sensitivity_table(results)]))
        told = f"{compared} compared, {len(videos) - compared} without a score"
        print(f"{counted(len(videos), 'clip')}: {told}", file=sys.stderr)
    return 1 if is_main() and compared < len(videos) else 0


# ---------------------------------------------------------------- doctor


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "doctor",
        "did every weight load, and do worse clips score lower?",
        ["runs/demo/grpo", "models/mine --device cuda --frames 12"],
        "Exit code: 0 fine, 1 a check failed, 2 wrong input.",
    )
    parser.add_argument("model", metavar="MODEL", help="checkpoint folder or hub id")
    add_looks(parser, "8")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    check_checkpoint(options.model)
    from vqathinker.chatter import set_verbose
    from vqathinker.synth.doctor import examine, verdict

    set_verbose(options.verbose)
    looks = (options.frames, options.image_size, options.sampling, options.max_new_tokens, options.batch_size)
    findings = []
    for finding in examine(options.model, options.device, *looks, options.view, options.score_question):
        say(f"{'ok' if finding.ok else 'FAILED':8}{finding.check}: {finding.text}")
        findings.append(finding)
    say(verdict(findings))
    return 0 if all(finding.ok for finding in findings) else 1

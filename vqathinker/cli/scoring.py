"""`score`, `flip-rate`, `temporal-sensitivity`, `doctor`: what a trained policy is for and worth."""

from __future__ import annotations

import argparse
import glob
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vqathinker.cli.policy import DEMO, add_looks, add_policy, is_main, load_scorer, say
from vqathinker.clips import IMAGE_SUFFIXES, PASSED_OVER_SUFFIXES, VIDEO_SUFFIXES


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    for add in (_add_score, _add_flip_rate, _add_temporal, _add_doctor):
        add(commands)


def find_videos(paths: Sequence[str], suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[str]:
    """Files as they are, those of folders and their sub-folders and those that globs match, by suffix; each once.

    What looks like a video or an image there and is not taken is named in one line on stderr.

    Raises:
        ValueError: If a folder or a glob gives none.
    """
    found: list[str] = []
    passed_over: list[str] = []
    others = sorted({*PASSED_OVER_SUFFIXES, *IMAGE_SUFFIXES} - {*suffixes})
    for path in paths:
        if os.path.isdir(path):
            names: Iterable[str] = map(str, sorted(Path(path).rglob("*")))
        elif os.path.exists(path) or not glob.has_magic(path):
            found.append(path)  # a file that is missing is reported with the others
            continue
        else:
            names = sorted(glob.glob(path, recursive=True))
        # "._a.mp4" is no video but what macOS keeps beside "a.mp4" on foreign disks.
        files = [name for name in names if os.path.isfile(name) and not os.path.basename(name).startswith("._")]
        taken = _ending_in(files, suffixes)
        passed_over += _ending_in(files, others)
        if not taken:
            _say_passed_over(passed_over)
            raise ValueError(f"{path!r} gives no video: a folder must hold files that end in one of {tuple(suffixes)}.")
        found += taken
    _say_passed_over(passed_over)
    return list(dict.fromkeys(found))


def _ending_in(files: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    return [file for file in files if Path(file).suffix.lower() in suffixes]


def _say_passed_over(files: Sequence[str]) -> None:
    if files and is_main():
        shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
        kinds = ", ".join(sorted({Path(file).suffix.lower() for file in files}))
        say(f"not taken: {len(files)} files that end in {kinds}: {shown}", sys.stderr)


# ---------------------------------------------------------------- score


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("score", help="how good are these videos?")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, globs; an image is a clip of one frame"
    )
    add_policy(parser)
    parser.add_argument("--csv", type=Path, help="also write a table; a second run goes on with it")
    parser.add_argument("--json", type=Path, help="the same as JSON lines")
    parser.add_argument("--explain", action="store_true", help="show the reasoning")
    parser.set_defaults(run=_score)


SPREAD_NOTE = (
    "spread: how far apart the model's own answers lie; its error is another matter, which labelled clips tell: "
    "vqathinker eval --labels FILE --videos DIR"
)


def _score(options: argparse.Namespace) -> int:
    videos = find_videos(options.paths, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
    from vqathinker.scoring import fingerprint, score_files, settings_of
    from vqathinker.scoring.seen import seen_in, seen_line, unanswered_line

    scorer = load_scorer(options)
    if options.model == DEMO and is_main():
        print(f"{DEMO} knows the demo's synthetic distortions only: it is no judge of real clips", file=sys.stderr)
    tables = [path for path in (options.csv, options.json) if path]

    def show(row: Mapping[str, Any]) -> None:
        say(line_of(row))
        if options.explain and row["reasoning"]:
            say(f"    {row['reasoning']}")

    rows = score_files(scorer, videos, fingerprint(settings_of(scorer)), tables, show)
    failed = [row for row in rows if math.isnan(row["score"])]
    if is_main():
        say(seen_line(scorer.processor, seen_in(rows), len(rows)), sys.stderr)
        unreadable = sum(row["status"] == "unreadable" for row in failed)
        print(
            f"{len(rows)} clips: {len(rows) - len(failed)} scored, {unreadable} unreadable, "
            f"{len(failed) - unreadable} without a usable number in the answer",
            file=sys.stderr,
        )
        if line := unanswered_line(scorer.processor, rows, scorer.batch_size):
            say(line, sys.stderr)
        if any(not math.isnan(row["std"]) for row in rows):
            print(SPREAD_NOTE, file=sys.stderr)
    return 1 if failed and is_main() else 0


def line_of(row: Mapping[str, Any]) -> str:
    """`clip.mp4  3.42 (spread 0.11)  ok`, what was done to its frames, what went wrong, if anything; tabs between."""
    spread = "" if math.isnan(row["std"]) else f" (spread {row['std']:.2f})"
    decimals = 2 if math.isclose(row["score"], round(row["score"], 2), abs_tol=1e-9) else 3  # finer than text
    cells = [row["video"], f"{row['score']:.{decimals}f}{spread}", row["status"]]
    if row["num_answers"] > 1:
        cells.append(f"{row['num_parsed']} of {row['num_answers']} answers")
    return "\t".join(cells + [row[name] for name in ("notes", "error") if row[name]])


# ---------------------------------------------------------------- flip-rate


def _add_flip_rate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("flip-rate", help="how often harder compression gets the higher score (CP-LLM)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sources", type=Path, help="folder of sources to encode with H.264 at CRF 15, 17, ..., 51")
    what.add_argument("--manifest", type=Path, help="CSV of an existing ladder: video,source,crf")
    parser.add_argument("--out", type=Path, default=Path("runs/flip_rate"), help="folder for encodes and results")
    parser.add_argument("--crf", help="rungs of the ladder, e.g. 15,25,35,45")
    add_policy(parser)
    parser.set_defaults(run=_flip_rate)


def _flip_rate(options: argparse.Namespace) -> int:
    from vqathinker.evaluation import flip_rate
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.scoring import fingerprint, score_files, settings_of

    scorer = load_scorer(options)
    if options.manifest:
        encodes = flip_rate.read_manifest(options.manifest)
    else:
        try:
            crfs = [int(crf) for crf in options.crf.split(",")] if options.crf else flip_rate.LADDER
            if len(crfs) < 2:
                raise ValueError
        except ValueError:
            raise ValueError(f"--crf {options.crf!r}: write two whole numbers or more, e.g. 15,25,35.") from None
        if is_main():
            say(f"encoding every video of {options.sources} {len(crfs)} times; what is there is kept", sys.stderr)
        encodes = flip_rate.encode_ladder(options.sources, options.out / "ladder", crfs)
    made_with = fingerprint(settings_of(scorer))
    table = options.out / "scores" / f"{made_with}.csv"
    rows = score_files(scorer, [encode.video for encode in encodes], made_with, [table])
    if is_main():
        rates = flip_rate.flip_rates(encodes, {row["video"]: row["score"] for row in rows})
        text = markdown([flip_rate.table(rates)])
        (options.out / "flip_rate.md").write_text(text, encoding="utf-8")
        print(text)
    return 1 if is_main() and any(math.isnan(row["score"]) for row in rows) else 0


# ---------------------------------------------------------------- temporal-sensitivity


def _add_temporal(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("temporal-sensitivity", help="do originals outscore copies with frames out of order?")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, globs")
    add_policy(parser)
    parser.set_defaults(run=_temporal)


def _temporal(options: argparse.Namespace) -> int:
    from vqathinker.evaluation import sensitivity_table, temporal_sensitivity
    from vqathinker.evaluation.benchmark import markdown

    videos = find_videos(options.paths)
    results = temporal_sensitivity(load_scorer(options), videos, options.seed, progress=True)
    compared = max(result.num_clips for result in results.values())
    if is_main():
        print(markdown([sensitivity_table(results)]))
        print(f"{len(videos)} clips: {compared} compared, {len(videos) - compared} without a score", file=sys.stderr)
    return 1 if is_main() and compared < len(videos) else 0


# ---------------------------------------------------------------- doctor


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="did every weight load, and do worse clips score lower?")
    parser.add_argument("model", metavar="MODEL", help="checkpoint folder or hub id")
    add_looks(parser, "8")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from vqathinker.synth.doctor import examine, verdict

    looks = (options.frames, options.image_size, options.sampling, options.max_new_tokens, options.batch_size)
    findings = []
    for finding in examine(options.model, options.device, *looks, options.view, options.score_question):
        say(f"{'ok' if finding.ok else 'FAILED':8}{finding.check}: {finding.text}")
        findings.append(finding)
    say(verdict(findings))
    return 0 if all(finding.ok for finding in findings) else 1

"""`check-data`, `clean-cache`: what comes before training, and what is left behind it."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.arguments import add_command
from vqathinker.places import check_file, check_folder, check_output
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.data.check import DataCheck

BAR = 40
"""Characters of the histogram's longest bar."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    for add in (_add_check, _add_clean):
        add(commands)


# ---------------------------------------------------------------- check-data


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "check-data",
        "find what is wrong with labels and clips, before training",
        ["train.csv --videos clips/ --mos-scale linear:0,100", "train.csv --also val.csv test.csv --out runs/check"],
        "Exit code: 0 fine, 1 problems that training would run into, 2 wrong arguments.",
    )
    parser.add_argument("labels", metavar="LABELS", type=Path, help="label file, in any format that the recipes read")
    parser.add_argument(
        "--videos", type=Path, help="folder that its video names are relative to; default the label file's"
    )
    parser.add_argument(
        "--mos-scale",
        help="scale of the labels: linear:LO,HI, div20 (MOS / 20, for 0-100) or identity (scores, 1 to 5)",
    )
    parser.add_argument(
        "--also", nargs="+", type=Path, default=[], metavar="LABELS", help="label files of the set's other splits"
    )
    parser.add_argument("--video-column", default="video", help="CSV column of the video name")
    parser.add_argument("--mos-column", default="mos", help="CSV column of the label")
    parser.add_argument("--source-column", help="CSV column of a clip's source; default source, or scene")
    parser.add_argument(
        "--source-names",
        default="",
        help="how to read sources from names: a regular expression with a group `source`, or a public set",
    )
    parser.add_argument("--frames", type=int, default=6, help="key frames per clip in training (published: 6)")
    parser.add_argument("--threads", type=int, default=4, help="clips read in parallel")
    parser.add_argument("--out", type=Path, help="folder for a page, report.html, and a table of all clips, clips.csv")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    check_file("LABELS", options.labels)
    check_folder("--videos", options.videos)
    check_output("--out", options.out)
    from vqathinker.data import BENCHMARKS
    from vqathinker.data.check import check_data

    known = BENCHMARKS.get(options.source_names)
    if known and not known.source_pattern:
        raise ValueError(
            f"--source-names {known.name}: file names in this set do not show their sources. Leave the option out."
        )
    result = check_data(
        options.labels,
        options.videos or options.labels.parent,
        options.mos_scale,
        options.also,
        (options.video_column, options.mos_column),
        (options.source_column, known.source_pattern if known else options.source_names),
        options.threads,
        options.frames,
        progress=True,
    )
    print(text_of(result))
    if options.out:
        _write(result, options.out)
        print(f"{options.out}/report.html, {options.out}/clips.csv")
    return 1 if result.problems else 0


def text_of(result: DataCheck) -> str:
    """Labels, findings and the verdict, a line each."""
    from vqathinker.data.check import NO_SCALE

    values = [row.mos for row in result.rows]
    lines = [f"{result.labels}: {counted(len(values), 'clip')} with labels"]
    if values:
        lines[0] += f" from {min(values):g} to {max(values):g}, mean {sum(values) / len(values):.4g}"
    bins = result.histogram()
    most = max((count for *_, count in bins), default=0)
    for low, high, count in bins:
        lines.append(f"{low:8.4g} to {high:<8.4g}{count:8d}  {'#' * round(BAR * count / most)}")
    lines += [f"{'PROBLEM' if finding.problem else 'note':9}{finding.text()}" for finding in result.findings]
    verdict = f"{counted(len(result.problems), 'problem')} that training would run into"
    named = not any(finding.what == NO_SCALE for finding in result.findings)
    fine = "fine: no problems" if named else "no problems but the scale, without which nothing trains"
    return "\n".join([*lines, verdict if result.problems else fine])


def _write(result: DataCheck, folder: Path) -> None:
    """The page, and a table that has every clip where the page has three examples."""
    from vqathinker.cli.policy import command_line
    from vqathinker.evaluation.report import Report, Table

    folder.mkdir(parents=True, exist_ok=True)
    kinds = {True: "problem", False: "note"}
    found = [(kinds[f.problem], f.count or None, f.what, ", ".join(f.examples), f.fix) for f in result.findings]
    bars = [(f"{low:.4g} to {high:.4g}", count) for low, high, count in result.histogram()]
    tables = [
        Table(
            "Findings",
            ("", "count", "what", "examples", "what to do"),
            found,
            "Training would run into the problems; notes are only worth knowing.",
        ),
        Table("Labels", ("label", "clips"), bars, "As in the file."),
    ]
    scale = result.scale.name if result.scale else "not stated"
    facts = {"command": command_line(), "labels": result.labels, "clips": len(result.rows), "scale": scale}
    page = Report(f"Check of {result.labels.name}", facts, tables, _histogram(result, folder / "labels.png"))
    page.write(folder / "report.html")
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video", "frames", "notes", "error"))
        writer.writerows((v, p.num_frames, "; ".join(p.notes), p.error) for v, p in result.probes.items())


def _histogram(result: DataCheck, path: Path) -> dict[str, Path]:
    """Caption -> picture; none without labels or without matplotlib, as the table says the same."""
    from vqathinker.evaluation.plots import pyplot

    bins = result.histogram()
    try:
        plt = pyplot()
    except ImportError:
        return {}
    if not bins:
        return {}
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    axis.bar([low for low, *_ in bins], [count for *_, count in bins], bins[0][1] - bins[0][0], align="edge")
    axis.set(xlabel="label", ylabel="clips")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return {"Labels": path}


# ---------------------------------------------------------------- clean-cache


def _add_clean(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "clean-cache",
        "delete the decoded frames that runs keep in their frame_cache",
        ["runs/demo/cache", "/data/frame_cache"],
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a frame cache and nothing else")
    parser.set_defaults(run=_clean)


def _clean(options: argparse.Namespace) -> None:
    from vqathinker.clips import clear_cache

    deleted, freed = clear_cache(options.folder)
    print(f"{options.folder}: {counted(deleted, 'file')} deleted, {freed / 2**20:.1f} MiB freed")

"""The sections of docs/performance.md about clips."""

from __future__ import annotations

from typing import Any

from benchmarks.cells import ratio, seconds, table, times


def files(found: dict[str, Any]) -> str:
    """From files to model inputs."""
    lines = [
        [name, seconds(arm["per_clip"]), ratio(row["load"]["ratios"], name), ratio(row["load"]["warm_ratios"], name)]
        for row in found["data_path"]["rows"]
        for name, arm in row["load"]["arms"].items()
    ]
    return f"""## From files to model inputs

Per clip of a step. Warm: frames kept from an earlier step (`frame_cache`).

{table(["way", "time", "over ours", "over ours, warm"], lines)}"""


def decoding(found: dict[str, Any]) -> str:
    """Parts of a clip's way, exact frames, and how fast kept ones are read."""
    rows = found["clip_parts"]["rows"]
    names = [name for name in rows[0]["seconds"] if name != "whole"]
    sums = [sum(row["seconds"][name] for name in names) for row in rows]
    parts = [
        [name, *(part_of(row["seconds"][name], whole) for row, whole in zip(rows, sums, strict=True))] for name in names
    ]
    exact = []
    for row in found["exact_frames"]["rows"]:
        [(way, times_ours)] = row["frames"]["ratios"].items()
        arms = [seconds(row["frames"]["arms"][name]["median"]) for name in ("ours", way)]
        exact.append([row["name"], arms[0], f"{arms[1]} ({way})", times(times_ours)])
    [kept] = found["kept_frames"]["rows"]
    ours, raw = (f"{kept['bytes'] / arm['median'] / 1e9:.0f}" for arm in kept["read"]["arms"].values())
    return f"""### Parts of a clip

Six frames, at 448 pixels for the vision tower and at 224 for the motion branch; one thread.

{table(["part", *(row["name"] for row in rows)], parts)}

{RESIZING}

Exact frames, from opening the file on, against decoding one frame after another with nothing checked (plain), and
against the same reader that never seeks:

{table(["file and frames", "ours", "other way", "ratio"], exact)}

Kept frames are read at {ours} GB a second where the system has them in memory, and the plain bytes of their file at
{raw}: the limit is the disk."""


def part_of(part: float, whole: float) -> str:
    return f"{seconds(part)} ({part / whole:.0%})"


RESIZING = """\
Resizing is Pillow's bicubic, as published, whose two passes round to whole levels; it is done without the interpreter
lock. Nothing faster that gives the same pixels is known: torch's kernel for bytes takes a twelfth of the time and is
off by one level in 0.5 % of them, its kernel for floats takes as long as Pillow."""

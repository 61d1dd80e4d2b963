"""`synth`: sets of clips with labels, with questions, with stalls, or of ladders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqathinker.arguments import add_command
from vqathinker.cli.files import find_videos, numbers
from vqathinker.places import check_folder, check_output

LABELLED = "train=240,val=64,test=160"
"""Clips of each split, by default."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "synth",
        "make a set of synthetic clips: with labels, questions, or stalls, or of ladders labelled by VMAF",
        [
            "--out data/synthetic --splits train=240,val=64",
            "--out data/mine --source pristine/ --size source",
            "--out data/ladder --ladder --source pristine/ --codec h264,av1",
            "--out data/stalls --stalls --splits train=240,test=160",
        ],
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write the set to")
    parser.add_argument("--force", action="store_true", help="replace an existing set")
    parser.add_argument("--source", help="folder of your own clips to take; default procedural scenes")
    parser.add_argument(
        "--questions", action="store_true", help="make clips for questions, and files of questions with answers"
    )
    parser.add_argument(
        "--places",
        action="store_true",
        help="of --questions: instead ask when, where, how often and how strong, of faults in a part of a clip",
    )
    parser.add_argument("--stalls", action="store_true", help="make clips that stall, and labels that tell of it")
    parser.add_argument("--ladder", action="store_true", help="encode each source at many strengths, label by VMAF")
    parser.add_argument(
        "--splits", help=f"SPLIT=CLIPS,...; default {LABELLED}; of --ladder sources: train=24,val=6,test=10"
    )
    parser.add_argument("--ood", type=int, default=0, help="clips per set of an unseen distortion kind")
    parser.add_argument("--frames", type=int, help="frames per clip; default 24, or two seconds with --fps source")
    parser.add_argument(
        "--size",
        type=side,
        help="side in pixels; with --source also WxH, or source to keep theirs; default 96, of --ladder 192",
    )
    parser.add_argument(
        "--fps", type=rate, help="frames per second; with --source also source, to keep theirs; default 12"
    )
    parser.add_argument("--codec", help="h264, hevc, vp9, av1, or several of these, comma-separated; default h264")
    parser.add_argument("--crf", help="of --ladder: CRFs on each codec's own scale; default 7 to 12 over its range")
    parser.add_argument("--heights", help="of --ladder: shorter sides to encode at, e.g. source,360; default source")
    parser.add_argument("--vmaf-model", help="of --ladder: the model built into libvmaf; default vmaf_v0.6.1")
    parser.add_argument(
        "--short",
        default="skip",
        choices=["skip", "take"],
        help="what to do with sources shorter than a clip: leave them out, or take them whole",
    )
    parser.add_argument("--seed", type=int, help="seed of scenes and distortions; default 0")
    parser.add_argument("--workers", type=int, default=2, help="clips made in parallel")
    parser.set_defaults(run=_synth)


def _synth(options: argparse.Namespace) -> None:
    _check(options)
    check_output("--out", options.out)
    if options.source is not None:
        check_folder("--source", options.source)
        find_videos([options.source])  # names what is not taken
    if options.ladder:
        return _ladder(options)
    files = (_questions if options.questions else _stalls if options.stalls else _labelled)(options)
    for name, file in files.items():
        print(f"{name}: {file}")


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    own = {"--crf": options.crf, "--heights": options.heights, "--vmaf-model": options.vmaf_model}
    if not options.ladder and (given := [name for name, value in own.items() if value is not None]):
        raise ValueError(f"{', '.join(given)} without --ladder: add it, or leave these options out.")
    if options.places and not options.questions:
        raise ValueError("--places without --questions: add it; only questions ask for places.")
    if options.questions and (options.ood or options.source or options.codec):
        raise ValueError(
            f"--questions with --ood {options.ood}, --source {options.source} or --codec {options.codec}: "
            "questions are only about drawn scenes, known kinds and H.264. Leave these options out."
        )
    if options.questions and (isinstance(options.size, str) or isinstance(options.fps, str)):
        raise ValueError(f"--size {options.size}, --fps {options.fps} with --questions: give numbers.")
    if options.stalls and (options.questions or options.ladder or options.ood or options.codec):
        raise ValueError(
            "--stalls with --questions, --ladder, --ood or --codec: such a set has stalls, and H.264. Leave them out."
        )
    if options.stalls and isinstance(options.fps, str):
        raise ValueError(f"--fps {options.fps} with --stalls: give a number.")
    if not options.ladder:
        return
    if options.questions or options.ood or options.short != "skip":
        raise ValueError("--ladder with --questions, --ood or --short: ladders have neither. Leave these options out.")
    drawn = {"--frames": options.frames, "--size": options.size, "--fps": options.fps, "--seed": options.seed}
    given = [name for name, value in drawn.items() if value is not None]
    if options.source and given:
        raise ValueError(
            f"{', '.join(given)} with --ladder --source: clips are encoded as they are. Leave them out; --heights "
            "encodes at other sizes."
        )
    if isinstance(options.size, str) or isinstance(options.fps, str):
        raise ValueError(f"--size {options.size}, --fps {options.fps} with --ladder: give numbers.")


def _ladder(options: argparse.Namespace) -> None:
    from vqathinker.synth.ladders import LadderSpec, found_line, make_ladders

    drawn = {"num_frames": options.frames, "size": options.size, "fps": options.fps, "seed": options.seed}
    given = {"splits": _splits(options.splits) if options.splits else None, "vmaf_model": options.vmaf_model}
    spec = LadderSpec(
        source=options.source,
        codecs=("h264",) if options.codec is None else tuple(options.codec.split(",")),
        crfs=numbers("--crf", options.crf) or (),
        heights=numbers("--heights", options.heights, {"source": 0}) or (0,),
        **{name: value for name, value in (drawn | given).items() if value is not None},
    )
    files = make_ladders(options.out, spec, options.workers, force=options.force)
    for name, file in files.items():
        print(f"{name}: {file}")
    print(found_line(options.out))


def _questions(options: argparse.Namespace) -> dict[str, Path]:
    from vqathinker.synth import QuestionSpec, make_questions

    splits = _splits(options.splits or LABELLED)
    _free_for(options, [part for name in splits for part in (f"{name}.jsonl", f"{name}.csv", f"videos/{name}")])
    return make_questions(options.out, QuestionSpec(splits, places=options.places, **_shape(options)), options.workers)


def _stalls(options: argparse.Namespace) -> dict[str, Path]:
    from vqathinker.synth import StallSpec, make_stalls
    from vqathinker.synth.stalls import TEXTS

    splits = _splits(options.splits or LABELLED)
    labels = [f"{name}{end}.csv" for name in splits for end in TEXTS]
    _free_for(options, [*labels, *(f"videos/{name}" for name in splits)])
    return make_stalls(options.out, StallSpec(splits, source=options.source, **_shape(options)), options.workers)


def _labelled(options: argparse.Namespace) -> dict[str, Path]:
    from vqathinker.synth import SynthSpec, make_set

    spec = SynthSpec(
        _splits(options.splits or LABELLED),
        options.ood,
        source=options.source,
        codecs=() if options.codec is None else tuple(options.codec.split(",")),
        short=options.short,
        **_shape(options),
    )
    _free_for(options, [part for name in spec.sets for part in (f"{name}.csv", f"videos/{name}")])
    return make_set(options.out, spec, options.workers)


def _shape(options: argparse.Namespace) -> dict[str, Any]:
    """Frames, size, rate and seed of a set."""
    frames = (0 if options.fps == "source" else 24) if options.frames is None else options.frames
    size, fps = 96 if options.size is None else options.size, 12 if options.fps is None else options.fps
    return {"num_frames": frames, "size": size, "fps": fps, "seed": options.seed or 0}


def _splits(text: str) -> dict[str, int]:
    try:
        return {name: int(count) for name, count in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(f"--splits {text!r}: write SPLIT=CLIPS,... e.g. train=240,val=64.") from None


def side(text: str) -> int | str:
    """A side in pixels; a size with two sides, or "source", stays a text."""
    return int(text) if text.isdecimal() else text


def rate(text: str) -> float | str:
    """Frames per second, or "source"."""
    return text if text == "source" else float(text)


def _free_for(options: argparse.Namespace, written: Sequence[str]) -> None:
    """Refuse to replace what is there, without --force."""
    there = [part for part in ("spec.json", *written) if (options.out / part).exists()]
    if there and not options.force:
        raise ValueError(
            f"--out {options.out} already holds {', '.join(there)}, which the new set would replace: choose another "
            "folder, or add --force."
        )

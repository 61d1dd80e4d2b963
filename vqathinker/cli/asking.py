"""`ask`: what does a trained policy say of a clip?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_clip, check_models
from vqathinker.cli.policy import DEMO, add_policy, is_main, load_scorer, say
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.scoring import QualityAnswer


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "ask",
        "ask any question about a video",
        [
            'clip.mp4 "Which fault does this clip have?" --options Blur Noise --samples 8',
            'clip.mp4 "What is wrong with this clip?" --json',
            'a.mp4 "Which video is sharper?" --second b.mp4 --options "The first" "The second"',
        ],
        "Exit code: 0 answered, 1 no answer, 2 wrong input.\nTo measure accuracy on a file of questions: `vqathinker "
        "eval --questions FILE`.",
    )
    parser.add_argument("clip", metavar="CLIP", help="video file; an image is a clip of one frame")
    parser.add_argument("question", metavar="QUESTION", help="question to ask, without its options")
    parser.add_argument(
        "--options",
        nargs="+",
        metavar="TEXT",
        help="answers to choose from, e.g. --options Yes No; default a free answer",
    )
    parser.add_argument("--second", metavar="CLIP", help="another clip, shown behind the first one")
    add_policy(parser, readouts=False)
    parser.add_argument("--explain", action="store_true", help="show the reasoning")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.set_defaults(run=_ask, readout="answer")


def _ask(options: argparse.Namespace) -> int:
    clips = [clip for clip in (options.clip, options.second) if clip is not None]
    for clip in clips:
        check_clip(clip)
    check_models(options)
    from vqathinker.scoring.asking import question_sample
    from vqathinker.scoring.seen import seen_line

    sample = question_sample(clips, options.question, options.options)
    scorer = load_scorer(options, clips=len(clips))
    if options.model == DEMO and is_main():
        print(f"{DEMO} learned to score the demo's synthetic clips, not to answer questions", file=sys.stderr)
    [[answer]] = scorer.ask_many([sample])
    if is_main():
        say(seen_line(scorer.processor, {}, len(clips)), sys.stderr)
        if options.json:
            say(json.dumps(_record(answer)))
        else:
            say(line_of(answer))
            if options.explain and answer.reasoning:
                say("    " + " ".join(answer.reasoning.split()))
    return 0 if answer.parsed else 1


def line_of(answer: QualityAnswer) -> str:
    """`Noise (B)  ok  6 of 8 answers`, or `-` and what went wrong; tabs between."""
    said = " ".join(answer.answer.split()) if answer.parsed else "-"
    cells = [f"{said} ({answer.letter})" if answer.letter else said, answer.status]
    if not math.isnan(answer.agreement):
        count = len(answer.answers)
        cells.append(f"{round(answer.agreement * count)} of {counted(count, 'answer')}")
    if not answer.parsed:
        cells.append(" ".join((answer.error or "".join(answer.answers[:1])).split()))
    return "\t".join(cells)


def _record(answer: QualityAnswer) -> dict[str, Any]:
    agreement = None if math.isnan(answer.agreement) else answer.agreement
    return asdict(answer) | {"letter": answer.letter, "agreement": agreement, "reasoning": answer.reasoning}

"""What the commands that ask a policy share: their options, loading it, and printing."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vqathinker.clips import SAMPLINGS, VIEWS
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.scoring import QualityScorer

DEMO = "runs/demo/grpo"
KNOWS_LITTLE = f"{DEMO} knows only the demo's synthetic distortions: its scores of real clips mean nothing"


def add_policy(parser: argparse.ArgumentParser, readouts: bool = True, sampled: bool = True) -> None:
    """Options of everything that shows a policy clips of the user's; read-outs are of scores only, and comparisons are
    not sampled."""
    parser.add_argument("--model", default=DEMO, help=f"checkpoint folder or hub id; default {DEMO}, from `make demo`")
    if readouts:
        parser.add_argument(
            "--readout",
            default="answer",
            choices=["answer", "expected", "levels", "head"],
            help="answer: the number in the text; expected: its expectation over the model's probabilities; "
            "levels: from the probabilities of level words; head: a score head's",
        )
        # of --readout levels (docs/evaluation.md); not in the help, which is to stay on a screen
        parser.add_argument("--level-words", default="itu", choices=["itu", "vqa2"], help=argparse.SUPPRESS)
        parser.add_argument(
            "--level-asked", default="score", choices=["score", "level", "reasoning"], help=argparse.SUPPRESS
        )
        parser.add_argument(
            "--level-weights", default="quarters", choices=["quarters", "fifths"], help=argparse.SUPPRESS
        )
    counts = "the score is their mean" if readouts else "the most frequent one wins"
    if sampled:
        parser.add_argument(
            "--samples", type=int, default=0, help=f"answers to sample ({counts}); 0: one greedy answer"
        )
    parser.add_argument("--decode-threads", type=int, default=2, help="clips decoded in parallel")
    parser.add_argument(
        "--engine", default="transformers", choices=["transformers", "vllm"], help="engine that generates the answers"
    )
    parser.add_argument("--vllm-memory", type=float, default=0.5, help="share of the device's memory for vLLM")
    if sampled:
        parser.add_argument("--seed", type=int, default=0, help="seed of sampling and bootstrap")
    add_looks(parser, "8, with vLLM 64", question=readouts)


def add_looks(parser: argparse.ArgumentParser, batch_size: str, question: bool = True) -> None:
    """Where a policy runs, what it sees of a clip and how long it may answer."""
    parser.add_argument("--device", help="default the accelerator if there is one, else cpu")
    parser.add_argument("--batch-size", type=int, help=f"clips per batch; default {batch_size}")
    parser.add_argument("--frames", type=int, help="key frames per clip (paper: 12); default the checkpoint's")
    parser.add_argument(
        "--image-size", type=int, help="side of the key frames in pixels (paper: 560); default the checkpoint's"
    )
    parser.add_argument(
        "--sampling",
        choices=SAMPLINGS,
        help="key frames evenly spaced by frame number or time; default the checkpoint's",
    )
    parser.add_argument(
        "--view", choices=tuple(VIEWS), help="whole frames, resized, or their central pixels; default the checkpoint's"
    )
    if question:
        parser.add_argument(
            "--question",
            dest="score_question",
            metavar="TEXT",
            help="question that asks for a score; default the checkpoint's",
        )
    parser.add_argument("--max-new-tokens", type=int, help="longest answer, in tokens; default the checkpoint's")
    parser.add_argument(
        "--verbose", action="store_true", help="show the output of other libraries: bars, notes, vLLM's log"
    )


def load_scorer(
    options: argparse.Namespace, model: str | None = None, clips: int = 1, events_tokens: int = 0
) -> QualityScorer:
    """What `add_policy`'s options ask for; of another checkpoint, if one is named. Says what it was not trained for.

    `clips` is how many a prompt may show, `events_tokens` how long what it tells of their stalls may be.
    """
    from vqathinker.chatter import set_verbose
    from vqathinker.scoring import QualityScorer
    from vqathinker.scoring.seen import trained_line

    set_verbose(options.verbose)
    scorer = QualityScorer.from_pretrained(
        options.model if model is None else model,
        options.device,
        options.frames,
        options.image_size,
        options.sampling,
        options.view,
        getattr(options, "score_question", None),  # `ask` has its own
        getattr(options, "score_calibration", None),  # `ladder` has its own
        readout=options.readout,
        samples=options.samples,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        engine=options.engine,
        vllm_memory=options.vllm_memory,
        seed=options.seed,
        decode_threads=options.decode_threads,
        clips_per_prompt=clips,
        level_words=getattr(options, "level_words", "itu"),
        level_asked=getattr(options, "level_asked", "score"),
        level_weights=getattr(options, "level_weights", "quarters"),
        events_tokens=events_tokens,
    )
    if is_main() and (line := trained_line(scorer.processor)):
        say(line, sys.stderr)
    return scorer


def is_main() -> bool:
    """Whether this process prints and writes."""
    from vqathinker.scoring.scorer import process_state

    return process_state().is_main_process


def command_line() -> str:
    """As it was typed."""
    return shlex.join(["vqathinker", *sys.argv[1:]])


def say(text: str, file: TextIO | None = None) -> None:
    """Print; a file name that is no UTF-8 is escaped."""
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True, file=file)


def scored_line(rows: Sequence[Mapping[str, Any]], readout: str) -> str:
    """How many clips of a table were scored, and what the others lack.

    Args:
        rows: Of `score_files`.
        readout: That they were scored by: what an answer must hold for it.
    """
    unscored = [row for row in rows if math.isnan(row["score"])]
    unreadable = sum(row["status"] == "unreadable" for row in unscored)
    lacking = "level word" if readout == "levels" else "usable number"
    return (
        f"{counted(len(rows), 'clip')}: {len(rows) - len(unscored)} scored, {unreadable} unreadable, "
        f"{len(unscored) - unreadable} without a {lacking} in the answer"
    )


def free_memory() -> None:
    """Give back what a policy that nothing refers to any more took of the device, before the next one is loaded."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""`eval`: how well a policy agrees with labels, or how often it is right, and whether it beats another one."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.arguments import add_command
from vqathinker.cli.comparing import evaluate_labelled_pairs, for_scores
from vqathinker.cli.files import check_models
from vqathinker.cli.policy import add_policy, command_line, free_memory, is_main, load_scorer, say
from vqathinker.cli.question_files import evaluate_file
from vqathinker.places import check_file, check_folder, check_output
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.data import Absent, BenchmarkSet
    from vqathinker.evaluation.comparison import PolicyScores


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "eval",
        "SRCC, PLCC ... on labelled clips; accuracy on questions; two policies compared",
        [
            "--labels test.csv --videos clips/ --mos-scale linear:0,100 --model models/mine",
            "--questions test.jsonl --video-root clips/ --model models/b --baseline models/a",
        ],
    )
    parser.add_argument("--labels", type=Path, help="one label file (CSV with video,mos ...); needs --videos")
    parser.add_argument("--videos", type=Path, help="folder that the video names in --labels are relative to")
    parser.add_argument(
        "--mos-scale",
        help="scale of --labels or of one public set: linear:LO,HI, div20 (MOS / 20, for 0-100) or identity; default "
        "identity (scores, 1 to 5)",
    )
    parser.add_argument("--baseline", help="checkpoint to compare --model with, on the same clips, questions")
    parser.add_argument(
        "--benchmarks",
        help="in-domain, ood, all, own, names with commas between, or one public set of questions; default ood, or own "
        "with --sets",
    )
    parser.add_argument("--data-root", type=Path, help="folder with NAME/labels.* and NAME/videos/ of public sets")
    parser.add_argument("--sets", type=Path, help="YAML list of your own sets")
    parser.add_argument(
        "--questions", type=Path, nargs="+", help="questions (.jsonl, .json, .tsv), to measure answers to them"
    )
    parser.add_argument("--video-root", type=Path, help="folder that the video names in --questions are relative to")
    parser.add_argument("--judge-url", help="judge of open questions, OpenAI-compatible: http://HOST:PORT/v1")
    parser.add_argument("--judge-model", help="its name there; without --judge-url recorded verdicts count")
    parser.add_argument("--pairs", type=int, help="compare so many pairs of the clips of --labels, in both orders")
    parser.add_argument("--out", type=Path, default=Path("runs/eval"), help="folder for tables, plots and report.html")
    add_policy(parser)
    parser.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> int:
    _find_questions(options)
    _check(options)
    check_output("--out", options.out)
    check_models(options)
    if options.questions is not None:
        return evaluate_file(options)
    if options.pairs is not None:
        return evaluate_labelled_pairs(options)
    found, absent = _sets(options)
    from vqathinker.evaluation.benchmark import run_benchmarks
    from vqathinker.scoring.seen import seen_line

    baseline = None
    if options.baseline is not None:
        baseline = _score_baseline(options, found)
        free_memory()
    scorer = load_scorer(options, events_tokens=_events_tokens(options, found))
    main = is_main()
    if main and baseline is not None:
        say(f"now the policy {options.model}", sys.stderr)
    command = command_line()
    results = run_benchmarks(scorer, found, absent, options.out, command, options.seed, main, baseline)
    if main:
        seen = sum((Counter(result.seen) for result in results), Counter())
        say(seen_line(scorer.processor, seen, sum(result.num_videos for result in results)), sys.stderr)
        say((options.out / "results.md").read_text(encoding="utf-8"))
        say(f"{options.out}/report.html, {options.out}/results.json")
    return 1 if any(result.num_scored == 0 for result in results) else 0


def _find_questions(options: argparse.Namespace) -> None:
    """Point --questions and --video-root at the public set of questions that --benchmarks names, if it names one."""
    if options.benchmarks is None or options.questions is not None:
        return
    from vqathinker.data.question_sets import QUESTION_SETS, find_questions

    names = [name.strip() for name in options.benchmarks.split(",")]
    if not (asked := [name for name in names if name in QUESTION_SETS]):
        return
    if len(names) > 1:
        raise ValueError(
            f"--benchmarks {options.benchmarks}: {asked[0]} is a set of questions and is evaluated alone. Run `eval` "
            "once for each."
        )
    options.questions, options.video_root = find_questions(asked[0], options.data_root)
    options.benchmarks = options.data_root = None


def _score_baseline(options: argparse.Namespace, found: Sequence[BenchmarkSet]) -> PolicyScores:
    from vqathinker.evaluation.comparison import score_sets
    from vqathinker.evaluation.plots import pyplot

    pyplot()  # what is missing at the end is told before anything is scored
    if is_main():
        say(f"every clip is scored twice: first by the baseline {options.baseline}", sys.stderr)
    scorer = load_scorer(options, options.baseline, events_tokens=_events_tokens(options, found))
    return score_sets(scorer, found, options.out)


def _events_tokens(options: argparse.Namespace, found: Sequence[BenchmarkSet]) -> int:
    """How long what prompts tell of stalls may be. Only vLLM has to know it beforehand."""
    if options.engine != "vllm":
        return 0
    from vqathinker.data.stalls import stall_text
    from vqathinker.evaluation.comparison import events_of

    told = (stall_text(stalls, video) for one in found for video, stalls in events_of(one.rows()).items())
    return max(map(len, told), default=0)  # a token is a character or more


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if options.questions is None and options.video_root is not None:
        raise ValueError("--video-root without --questions: it goes with a question file. For --labels use --videos.")
    if options.questions is None and (options.judge_url or options.judge_model):
        raise ValueError(
            "--judge-url and --judge-model without --questions: a judge looks at answers to open questions."
        )
    if options.pairs is not None:
        _check_pairs(options)
    if options.labels is None:
        of_set = options.benchmarks is not None and options.questions is None
        own = {"--videos": options.videos} | ({} if of_set else {"--mos-scale": options.mos_scale})
        if given := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} without --labels: name the label file, e.g. --labels test.csv.")
        return
    if options.videos is None:
        raise ValueError(
            f"--labels {options.labels} without --videos: name the folder that the file's video names are relative to."
        )
    others = {"--questions": options.questions, "--benchmarks": options.benchmarks}
    others |= {"--data-root": options.data_root, "--sets": options.sets}
    if given := [name for name, value in others.items() if value is not None]:
        raise ValueError(
            f"--labels with {', '.join(given)}: a label file is evaluated alone. Run `eval` once for each."
        )
    check_file("--labels", options.labels)
    check_folder("--videos", options.videos)


def _check_pairs(options: argparse.Namespace) -> None:
    """Raise ValueError for what does not go with `--pairs`."""
    if options.pairs < 1 or options.labels is None:
        raise ValueError(f"--pairs {options.pairs}: needs at least 1, and the --labels whose clips are compared.")
    if given := for_scores(options) + ["--baseline"] * (options.baseline is not None):
        raise ValueError(
            f"--pairs with {', '.join(given)}: each pair gets one greedy answer in each order, to a question of its "
            "own. Leave this out, and run `eval` once for each policy."
        )


def _sets(options: argparse.Namespace) -> tuple[list[BenchmarkSet], list[Absent]]:
    """The sets to evaluate, and those that are absent; without any, the synthetic ones are made."""
    from vqathinker.data import find_benchmarks, label_table

    if options.labels is not None:
        own = label_table(options.labels, options.videos, options.mos_scale)
        rows = own.rows()
        if rows and not any(os.path.exists(row.video) for row in rows):
            raise FileNotFoundError(
                f"--videos {options.videos} holds none of the {counted(len(rows), 'clip')} of {options.labels}, as "
                f"{rows[0].video}: name the folder that their names are relative to."
            )
        return [own], []
    sets = options.sets
    choice = options.benchmarks or ("own" if sets else "ood")
    synthetic = choice in ("ood", "all") or "synthetic_" in choice
    if options.data_root is None and sets is None and synthetic:
        sets = _synthetic_sets()
    found, absent = find_benchmarks(choice, options.data_root, sets, options.mos_scale)
    if not found:
        reasons = "; ".join(f"{missing.title}: {missing.reason}" for missing in absent)
        raise ValueError(f"--benchmarks {choice}: none of these sets was found. {reasons}")
    return found, absent


def _synthetic_sets() -> Path:
    from vqathinker.scoring.scorer import process_state
    from vqathinker.synth import make_ood_sets

    if is_main():
        print(
            "no --labels, --data-root or --sets: running on the synthetic sets in runs/ood, five of 60 small "
            "clips each; making them the first time takes a minute or more",
            file=sys.stderr,
        )
    with process_state().main_process_first():
        return make_ood_sets("runs/ood")

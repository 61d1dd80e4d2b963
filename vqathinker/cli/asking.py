"""`ask`, and `eval --questions`: what does a trained policy say of a clip, and how often is it right?"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_clip, check_models
from vqathinker.cli.policy import DEMO, add_policy, command_line, free_memory, is_main, load_scorer, say
from vqathinker.places import check_file, check_folder
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.data import Sample
    from vqathinker.evaluation import Judge, OpenReport, QuestionReport
    from vqathinker.evaluation.question_tables import QuestionComparison
    from vqathinker.scoring import QualityAnswer, QualityScorer

VERDICTS = "verdicts.jsonl"
"""File in `--out`."""


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


def evaluate_file(options: argparse.Namespace) -> int:
    """`vqathinker eval --questions FILE --video-root DIR`: tables on stdout and in `--out`.

    Raises:
        ValueError: If options do not go together, the file has no question with a right answer, or the judge cannot be
            asked.
    """
    _check(options)
    from vqathinker.data import read_questions
    from vqathinker.evaluation import evaluate_open, evaluate_questions

    samples = read_questions(options.questions, options.video_root)
    asked = {task: [sample for sample in samples if sample.task == task] for task in ("choice", "open")}
    questions, opened = asked["choice"], asked["open"]
    if not questions + opened:
        raise ValueError(
            f"--questions {str(options.questions)!r} has no question with options and no open one: evaluate scores "
            "with `eval --labels`."
        )
    if is_main():
        _tell_skipped([sample.task for sample in samples if sample.task not in asked])
    judge = _judge(options, bool(opened))
    before, baseline = _ask_baseline(options, questions)
    free_memory()
    scorer = load_scorer(options, clips=_most_clips(questions + opened))
    report = evaluate_questions(scorer, questions, seed=options.seed, progress=True) if questions else None
    own_words = evaluate_open(scorer, opened, seed=options.seed, progress=True) if opened else None
    if is_main():
        own_words = _judged(judge, own_words, options.seed) if judge and own_words else own_words
        _tell(options, scorer, report, own_words, _comparison(before, baseline, report, options.seed))
    return 0 if (report and report.questions) or (own_words and own_words.questions) else 1


def _tell_skipped(tasks: Sequence[str]) -> None:
    """Say what is not evaluated here."""
    for task, count in Counter(tasks).items():
        if task == "score":
            print(
                f"{counted(count, 'row asks', 'rows ask')} for a score: skipped here, use `eval --labels`",
                file=sys.stderr,
            )
        else:
            print(f"{counted(count, 'row')} of the task {task!r}: skipped, `eval` does not measure it", file=sys.stderr)


def _tell(
    options: argparse.Namespace,
    scorer: QualityScorer,
    report: QuestionReport | None,
    opened: OpenReport | None,
    comparison: QuestionComparison | None,
) -> None:
    """Write and print the tables."""
    from vqathinker.evaluation import result_tables, write_questions
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.scoring import decoder, settings_of, versions
    from vqathinker.scoring.seen import seen_line

    facts = {"command": command_line(), "questions": str(options.questions), "bootstrap_seed": options.seed}
    facts |= settings_of(scorer) | {"decoder": decoder(), "versions": versions(), "judge": options.judge_model}
    facts |= {"device": str(scorer.policy.device), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    write_questions(options.out, report, facts, comparison, opened)
    asked = sum(len(one.questions) + len(one.unreadable) for one in (report, opened) if one)
    say(seen_line(scorer.processor, {}, asked), sys.stderr)
    print(markdown(result_tables(report, comparison, opened)))
    files = ["questions.md", "questions.json"] + (["answers.csv"] if report else [])
    files += ["open_answers.csv"] if opened else []
    print(", ".join(f"{options.out}/{name}" for name in files))


def _judge(options: argparse.Namespace, needed: bool) -> Judge | None:
    """The judge that is asked for, if it answers; its verdicts stand in `--out`.

    Raises:
        ValueError: If nothing is to be judged, the endpoint cannot be used, or there is neither an endpoint nor a file
            of verdicts.
    """
    from vqathinker.evaluation import Judge

    if options.judge_model is None:
        return None
    if not needed:
        raise ValueError(
            f"--judge-model {options.judge_model}: {options.questions} has no open question, and answers to others "
            "need no judge. Leave it out."
        )
    judge = Judge(options.judge_model, options.out / VERDICTS, options.judge_url or "")
    if options.judge_url is None and not judge.record.is_file():
        raise ValueError(
            f"--judge-model {options.judge_model} without --judge-url: no verdicts are recorded at {judge.record}. "
            "Name the endpoint, e.g. --judge-url http://localhost:8000/v1."
        )
    if is_main():
        judge.check()
    return judge


def _judged(judge: Judge, opened: OpenReport, seed: int) -> OpenReport:
    """The report with the judge's verdicts."""
    from tqdm.auto import tqdm

    from vqathinker.evaluation import with_verdicts

    shown = tqdm(opened.questions, desc="judging", unit="answer")
    verdicts = [judge.verdicts(question.question, question.said, question.reference) for question in shown]
    if judge.last_failure:
        print(f"judge: calls without a reply, the last one because {judge.last_failure}", file=sys.stderr)
    return with_verdicts(opened, verdicts, seed)


def _comparison(
    before: QuestionReport | None, baseline: dict[str, Any], report: QuestionReport | None, seed: int
) -> QuestionComparison | None:
    from vqathinker.evaluation import compare_questions
    from vqathinker.evaluation.question_tables import QuestionComparison

    if before is None or report is None:
        return None
    return QuestionComparison(baseline, before.summary.accuracy.value, compare_questions(before, report, seed))


def _ask_baseline(
    options: argparse.Namespace, questions: Sequence[Sample]
) -> tuple[QuestionReport | None, dict[str, Any]]:
    """The answers of `--baseline`, with the video and the options in one order only, and what they were made with."""
    from vqathinker.evaluation import evaluate_questions
    from vqathinker.scoring import settings_of

    if options.baseline is None:
        return None, {}
    if not questions:
        raise ValueError(
            f"--baseline {options.baseline}: {options.questions} has no question with options, which two policies are "
            "compared on. Leave it out, and run `eval` once for each."
        )
    if is_main():
        say(f"first the baseline {options.baseline}, then the policy {options.model}", sys.stderr)
    scorer = load_scorer(options, options.baseline, _most_clips(questions))
    report = evaluate_questions(scorer, questions, blank=False, rotate=False, seed=options.seed, progress=True)
    return report, settings_of(scorer)


def _most_clips(questions: Sequence[Sample]) -> int:
    return max(len(question.clips) for question in questions)


def _check(options: argparse.Namespace) -> None:
    if options.video_root is None:
        raise ValueError(
            "--questions without --video-root: name the folder that the file's video names are relative to."
        )
    others = {"--benchmarks": options.benchmarks, "--data-root": options.data_root, "--sets": options.sets}
    if given := [name for name, value in others.items() if value is not None]:
        raise ValueError(
            f"--questions with {', '.join(given)}: these evaluate scores. Run `eval` once for scores and once for "
            "questions."
        )
    if options.score_question is not None:
        raise ValueError(
            f"--questions with --question {options.score_question!r}: the file has its own questions. Leave "
            "--question out."
        )
    if options.samples or options.readout != "answer":
        raise ValueError(
            f"--questions with --samples {options.samples} --readout {options.readout}: each question gets one greedy "
            "answer, read from its text. Leave both options out."
        )
    if options.judge_url is not None and options.judge_model is None:
        raise ValueError(f"--judge-url {options.judge_url} without --judge-model: name the model to be asked there.")
    check_file("--questions", options.questions)
    check_folder("--video-root", options.video_root)

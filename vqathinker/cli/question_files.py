"""`eval --questions`: how often is a trained policy right about a file of questions?"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vqathinker.cli.policy import command_line, free_memory, is_main, load_scorer, say
from vqathinker.places import check_file, check_folder
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.data import Sample
    from vqathinker.evaluation import Judge, OpenReport, QuestionReport
    from vqathinker.evaluation.named_dimensions import NamedDimensions
    from vqathinker.evaluation.placed import PlacedReport
    from vqathinker.evaluation.question_tables import QuestionComparison
    from vqathinker.scoring import QualityScorer

VERDICTS = "verdicts.jsonl"
"""File in `--out`."""


def evaluate_file(options: argparse.Namespace) -> int:
    """`vqathinker eval --questions FILE --video-root DIR`: tables on stdout and in `--out`.

    Raises:
        ValueError: If options do not go together, the file has no question with a right answer, or the judge cannot be
            asked.
    """
    _check(options)
    from vqathinker.data import read_questions
    from vqathinker.data.stalls import stall_text
    from vqathinker.evaluation import evaluate_open, evaluate_questions
    from vqathinker.evaluation.named_dimensions import evaluate_named
    from vqathinker.evaluation.placed import ASKED, evaluate_placed
    from vqathinker.scoring.seen import seen_line

    samples = read_questions(options.questions, options.video_root)
    questions = [sample for sample in samples if sample.task == "choice"]
    opened = [sample for sample in samples if sample.task == "open"]
    placed = [sample for sample in samples if sample.task in ASKED]
    asked = [*questions, *opened, *placed]
    if not asked:
        raise ValueError(
            f"--questions {_files(options)} has no question with options, no open one and none that is "
            "answered in numbers or with a level word: evaluate scores with `eval --labels`."
        )
    if is_main():
        tasks = {sample.task for sample in asked}
        _tell_skipped([sample.task for sample in samples if sample.task not in tasks])
    judge = _judge(options, bool(opened))
    before, baseline = _ask_baseline(options, questions, len(asked) - len(questions))
    free_memory()
    told = max(len(stall_text(sample.stalls, sample.clips[0])) for sample in asked)  # a token is a character or more
    scorer = load_scorer(options, clips=_most_clips(asked), events_tokens=told)
    report = evaluate_questions(scorer, questions, seed=options.seed, progress=True) if questions else None
    own_words = evaluate_open(scorer, opened, seed=options.seed, progress=True) if opened else None
    named = evaluate_named(scorer, questions, progress=True)
    in_numbers = evaluate_placed(scorer, placed, seed=options.seed, progress=True) if placed else []
    if is_main():
        own_words = _judged(judge, own_words, options.seed) if judge and own_words else own_words
        say(seen_line(scorer.processor, {}, len(asked)), sys.stderr)
        comparison = _comparison(before, baseline, report, options.seed)
        _tell(options, scorer, report, own_words, named, in_numbers, comparison)
    answered = [*(one.questions for one in (report, own_words) if one), *(one.ids for one in in_numbers)]
    return 0 if any(answered) else 1


def _tell_skipped(tasks: Sequence[str]) -> None:
    """Say what is not evaluated here."""
    for task, count in Counter(tasks).items():
        if task == "score":
            print(
                f"{counted(count, 'row asks', 'rows ask')} for a score: skipped here, evaluate a label file with "
                "`eval --labels`",
                file=sys.stderr,
            )
        else:
            print(f"{counted(count, 'row')} of the task {task!r}: skipped, `eval` does not measure it", file=sys.stderr)


def _tell(
    options: argparse.Namespace,
    scorer: QualityScorer,
    report: QuestionReport | None,
    opened: OpenReport | None,
    named: NamedDimensions | None,
    in_numbers: Sequence[PlacedReport],
    comparison: QuestionComparison | None,
) -> None:
    """Write and print the tables."""
    from vqathinker.evaluation import result_tables, write_questions
    from vqathinker.evaluation.benchmark import markdown
    from vqathinker.evaluation.placed import placed_table, write_placed
    from vqathinker.scoring import decoder, settings_of, versions

    facts = {"command": command_line(), "questions": _files(options), "bootstrap_seed": options.seed}
    facts |= settings_of(scorer) | {"decoder": decoder(), "versions": versions(), "judge": options.judge_model}
    facts |= {"device": str(scorer.policy.device), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    files, tables = [], []
    if report or opened:
        write_questions(options.out, report, facts, comparison, opened, named)
        tables = result_tables(report, comparison, opened, named)
        files = ["questions.md", "questions.json"] + (["answers.csv"] if report else [])
        files += ["open_answers.csv"] if opened else []
    if in_numbers:
        write_placed(options.out, in_numbers, facts)
        tables.append(placed_table(in_numbers))
        files += ["places.md", "places.json"]
    print(markdown(tables))
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
            f"--judge-model {options.judge_model}: {_files(options)} has no open question, and answers to others "
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
    options: argparse.Namespace, questions: Sequence[Sample], others: int
) -> tuple[QuestionReport | None, dict[str, Any]]:
    """The answers of `--baseline`, with the video and the options in one order only, and what they were made with.
    `others` is how many further questions are not compared."""
    from vqathinker.evaluation import evaluate_questions
    from vqathinker.scoring import settings_of

    if options.baseline is None:
        return None, {}
    if not questions:
        raise ValueError(
            f"--baseline {options.baseline}: {_files(options)} has no question with options, which two policies are "
            "compared on. Leave it out, and run `eval` once for each."
        )
    if is_main():
        say(f"first the baseline {options.baseline}, then the policy {options.model}", sys.stderr)
        if others:
            say(f"{counted(others, 'question')} without options: not compared, the policy alone is asked", sys.stderr)
    scorer = load_scorer(options, options.baseline, _most_clips(questions))
    report = evaluate_questions(scorer, questions, blank=False, rotate=False, seed=options.seed, progress=True)
    return report, settings_of(scorer)


def _files(options: argparse.Namespace) -> str:
    return ", ".join(map(str, options.questions))


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
    for file in options.questions:
        check_file("--questions", file)
    check_folder("--video-root", options.video_root)

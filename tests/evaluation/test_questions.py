import csv
import json
import math
from dataclasses import replace

import pytest

from vqathinker import QualityScorer
from vqathinker.data import Sample
from vqathinker.evaluation import (
    AnsweredQuestion,
    compare_questions,
    evaluate_questions,
    question_table,
    question_tables,
    write_questions,
)
from vqathinker.evaluation.questions import summarize_questions

FAULTS = ("Blur", "Noise", "Freezing")
MANY = tuple(f"fault {i}" for i in range(7))


def question(name, video, asked, options, answer, **tags):
    return Sample(name, "choice", (str(video),), asked, {"options": options, "answer": answer}, tags)


@pytest.fixture
def samples(train_rows, tmp_path):
    a, b = (row.video for row in train_rows[:2])
    return [
        question("1", a, "Which fault?", FAULTS, "B", type="which", concern="Technical"),
        question("2", b, "Which fault?", FAULTS, "B", type="which"),
        question("3", a, "Is it sharp?", ("Yes", "No"), "A"),
        question("4", b, "Is it sharp? Look twice.", ("Yes", "No"), "B", type="yesno"),
        question("5", tmp_path / "gone.mp4", "Is it sharp?", ("Yes", "No"), "B"),
        question("6", a, "Which of many?", MANY, "E"),
    ]


def options_of(text):
    lines = [line.partition(". ") for line in text.splitlines()]
    return {option: letter for letter, _, option in lines if len(letter) == 1 and letter.isupper()}


def knows(text, blank):
    """Right about all that the samples ask, if there is a video; else the first letter."""
    if blank:
        return "<think>dark</think><answer>A</answer>"
    right = {"Which fault": "Noise", "Look twice": "No", "Is it sharp": "Yes", "Which of many": "fault 4"}
    option = next(option for asked, option in right.items() if asked in text)
    return f"<think>seen</think><answer>{options_of(text)[option]}. {option}</answer>"


def always_a(text, blank):
    return "<answer>A</answer>"


@pytest.fixture
def evaluate(policy, processor, reading_engine):
    def run(say, samples, **settings):
        scorer = QualityScorer(policy, processor, max_new_tokens=8)
        scorer.engine = run.engine = reading_engine(say)
        return evaluate_questions(scorer, samples, **settings)

    return run


def test_a_policy_that_knows_is_right_and_without_video_is_not(evaluate, samples):
    report = evaluate(knows, samples)
    summary, blank = report.summary, report.no_video
    assert [q.id for q in report.questions] == ["1", "2", "3", "4", "6"] and list(report.unreadable) == ["5"]
    assert "no such file" in report.unreadable["5"]
    assert (summary.accuracy.value, summary.accuracy.count, summary.unparsable) == (1, 5, 0)
    assert blank.accuracy.value == 1 / 5  # "A" is right once, as Yes
    assert {name: own.value for name, own in blank.by_type.items()} == {"which": 0, "yesno": 0.5, "choice": 0}
    assert summary.majority == pytest.approx((2 + 1 + 1) / 5)
    assert summary.random == pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2 + 1 / 7) / 5)
    assert (report.consistency, report.num_rotated) == (1, 4)  # seven options are not rotated
    assert summary.yes_no["yesno"].mcc == 1 and summary.yes_no["yesno"].count == 2
    assert {name: own.count for name, own in summary.by_tag.items()} == {"concern: Technical": 1}


def test_each_prompt_is_asked_once_and_equal_ones_without_video_are_one(evaluate, samples):
    evaluate(knows, samples)
    asked = evaluate.engine.asked
    assert sum(not blank for _, blank in asked) == 3 + 3 + 2 + 2 + 1
    blank = [text for text, blank in asked if blank]
    assert len(blank) == 4 and len(set(blank)) == 4  # two clips, one question
    shown = [text for text, blank in asked if not blank]
    assert {text for text in shown if "Which of many" in text} == {text for text in blank if "Which of many" in text}


def test_a_question_about_two_clips_is_asked_about_both_and_about_two_black_ones(evaluate, train_rows):
    a, b = (row.video for row in train_rows[:2])
    right = {"options": ("The first", "The second"), "answer": "B"}
    samples = [Sample(name, "choice", clips, "Is it dull?", right) for name, clips in (("1", (a, b)), ("2", (b, a)))]
    samples.append(question("3", a, "Is it dull?", ("Yes", "No"), "A"))
    report = evaluate(lambda text, blank: "<answer>A</answer>" if blank else "<answer>B</answer>", samples)
    assert [q.video for q in report.questions] == [f"{a} + {b}", f"{b} + {a}", a]
    assert [(q.chosen, q.no_video, q.rotated) for q in report.questions] == [(1, 0, (1, 1))] * 3
    without = [text for text, blank in evaluate.engine.asked if blank]
    assert len(without) == 2 and without[0].count("Frame1:") == 2 and without[1].count("Frame1:") == 1


def test_always_a_is_never_consistent_and_no_better_without_video(evaluate, samples):
    report = evaluate(always_a, samples)
    assert report.consistency == 0 and set(report.consistency_by_type.values()) == {0}
    assert report.summary.accuracy == report.no_video.accuracy and report.summary.accuracy.value == 1 / 5
    assert report.summary.yes_no["yesno"].balanced_accuracy == 0.5


def test_what_names_no_option_is_wrong_and_counted(evaluate, samples):
    report = evaluate(lambda text, blank: "no idea", samples, blank=False, rotate=False)
    assert report.summary.accuracy.value == 0 and report.summary.unparsable == 1
    assert {q.status for q in report.questions} == {"no_answer"} and report.no_video is None
    assert math.isnan(report.consistency) and len(evaluate.engine.asked) == 5
    assert [row[-1] for row in question_table(report).rows] == [None] * 4


def test_the_table_and_the_files_say_the_same(evaluate, samples, tmp_path):
    report = evaluate(knows, samples)
    table = question_table(report, "Mine")
    assert table.title == "Mine" and len(table.columns) == 6
    assert table.rows[0][:2] == ["which", 2] and table.rows[0][2].startswith("1.000 [")
    assert table.rows[-1][0] == "all" and table.rows[-1][3:] == [0.8, pytest.approx(0.3619, abs=1e-4), 0.2]
    assert "Left out because their clips cannot be read: 1 question." in table.note
    assert [one.title for one in question_tables(report)] == [
        "Questions with options",
        "By tag",
        "Yes or no",
        "Rotated options",
    ]
    write_questions(tmp_path / "out", report, {"seed": 0})
    whole = json.loads((tmp_path / "out" / "questions.json").read_text())
    assert whole["summary"]["accuracy"]["value"] == 1 and whole["provenance"] == {"seed": 0}
    with (tmp_path / "out" / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["chosen"] for row in rows] == ["B", "B", "A", "B", "E", ""]
    assert rows[0]["rotated"] == "B A C" and rows[0]["no_video"] == "A" and rows[5]["status"] == "unreadable"
    assert "| which" in (tmp_path / "out" / "questions.md").read_text()


def test_intervals_are_no_narrower_where_clips_have_several_questions(evaluate, train_rows):
    right = {row.video: number % 2 for number, row in enumerate(train_rows[:4])}
    samples = [
        question(f"{video} {i}", video, f"Is it {i}?", ("Yes", "No"), "A" if hit else "B")
        for video, hit in right.items()
        for i in range(6)
    ]
    samples[:12] = [replace(sample, tags={"concern": "Technical"}) for sample in samples[:12]]
    samples[12:13] = [replace(samples[12], tags={"concern": "Temporal"})]
    report = evaluate(always_a, samples, rotate=False)
    own, tagged = report.summary.accuracy, report.summary.by_tag
    for mean, (low, high) in (
        (own, report.intervals[""]),
        (tagged["concern: Technical"], report.tag_intervals["concern: Technical"]),
    ):
        assert mean.value == 0.5 and low < mean.low and high > mean.high  # clips are all right or all wrong
    alone = tagged["concern: Temporal"]
    assert report.tag_intervals["concern: Temporal"] == (alone.low, alone.high)  # of one question
    table = question_tables(report)[1]
    assert table.columns == ["tag", "questions", "accuracy", "majority", "random", "no video"]
    assert table.rows[0][:2] == ["concern: Technical", 12] and table.rows[0][3:] == [0.5, 0.5, 0.5]
    assert table.rows[1][:2] == ["concern: Temporal", 1] and table.rows[1][3:] == [1.0, 0.5, 0.0]
    alone = evaluate(always_a, samples[::6], blank=False, rotate=False)
    assert alone.intervals[""] == (alone.summary.accuracy.low, alone.summary.accuracy.high)


def test_ordered_options_have_their_nearness_beside_a_constant_step_guessing_and_no_video():
    scale, turned = ("none", "weak", "strong", "severe"), ("weak", "strong", "severe", "none")
    steps = {scale: (0, 1, 2, 3), turned: (1, 2, 3, 0)}

    def answered(name, video, options, right, chosen, blank, kind="degree"):
        own = (right, chosen, "ok", "", blank)
        return AnsweredQuestion(name, video, kind, (), "How strong?", options, *own, steps=steps.get(options, ()))

    report = summarize_questions(
        [
            answered("1", "a", scale, 3, 3, 0),  # 1, without video 0
            answered("2", "a", turned, 0, 2, 0),  # weak, severe named: 1/3; without video 1
            answered("3", "b", scale, 1, None, 2),  # weak, none named: 0; without video 2/3
            answered("4", "b", FAULTS, 1, 1, 1, "which"),
        ],
        {},
    )
    own = report.ordered["degree"]
    assert own == report.ordered[""] and report.ordered.keys() == {"degree", ""}
    assert own.severity.value == pytest.approx((1 + 1 / 3) / 3) and own.no_video == pytest.approx((0 + 1 + 2 / 3) / 3)
    assert (own.severity.low, own.severity.high) == pytest.approx((0, 2 / 3))  # clip b alone, clip a alone
    assert own.constant == pytest.approx((1 / 3 + 1 + 1) / 3)  # weak
    assert own.random == pytest.approx(((3 + 2 + 1) / 3 / 4 + 2 * (2 + 3 + 2 + 1) / 3 / 4) / 3)
    table = next(one for one in question_tables(report) if one.title == "Ordered options")
    assert [row[:2] for row in table.rows] == [["degree", 3], ["all", 3]]
    assert table.rows[0][2] == "0.444 [0.000, 0.667]"


def test_two_policies_are_compared_question_by_question(evaluate, samples):
    before = evaluate(always_a, samples, blank=False, rotate=False)
    after = evaluate(knows, samples, blank=False, rotate=False)
    change = compare_questions(before, after)
    assert (change.difference, change.gained, change.lost) == (0.8, 4, 0)
    with pytest.raises(ValueError, match=r"1 question is answered in one report only \(first: '6'\)"):
        compare_questions(before, evaluate(knows, samples[:5], blank=False, rotate=False))


def test_what_cannot_be_counted_is_refused(evaluate, samples):
    for changed, message in [
        ([], "samples is empty"),
        ([Sample("s", "score", ("a.mp4",), target={"mos": 3.0})], "has the task 'score'"),
        ([replace(samples[0], target={"options": FAULTS})], "with 'options' and 'answer'"),
        ([replace(samples[0], target={"options": FAULTS, "answer": "Ringing"})], "neither an option's letter"),
        ([samples[0], samples[0]], "2 samples have the id '1'"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate(knows, changed)


def test_answers_do_not_depend_on_what_else_is_asked(policy, processor, samples):
    scorer = QualityScorer(policy, processor, max_new_tokens=6, batch_size=2)
    whole = evaluate_questions(scorer, samples)
    part = evaluate_questions(scorer, samples[2:4][::-1])
    assert [q for q in whole.questions if q.id in "34"] == list(part.questions)[::-1]

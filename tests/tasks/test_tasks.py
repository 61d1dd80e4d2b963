import math
import re
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from vqathinker.data import Sample
from vqathinker.messages import text_in, videos_in
from vqathinker.rewards import Distortion, Severity
from vqathinker.tasks import TASKS, Score, by_task, find_task, mixture, rotated, sample_dataset, task_of
from vqathinker.training import VQAGRPOConfig
from vqathinker.training.samples import with_tasks

QUESTION = Sample(
    "a: Which?",
    "choice",
    ("a.mp4",),
    "Which fault?",
    {"options": ("Blur", "Noise", "None"), "answer": "B", "kind": "x"},
)
SURE = {"better": "first", "preference": 1.0, "mos_first": 4.5, "mos_second": 3.1, "rank_difference": 6.0}
UNSURE = {"better": "similar", "mos_first": 3.4, "mos_second": 3.2, "difference": 0.2, "spread": 0.5}
UNSURE |= {"preference": NormalDist().cdf(0.2 / 0.5)}
SAMPLES = {
    "score": [
        Sample("a", "score", ("a.mp4",), target={"mos": 3.25, "kind": "blur", "severity": "0.4"}),
        Sample("b", "score", ("b.mp4",), "How sharp is it?", {"mos": 1.0}),
    ],
    "choice": [
        QUESTION,
        Sample("b: Noise?", "choice", ("b.mp4",), "Is there noise?", {"options": ("Yes", "No"), "answer": "no"}),
    ],
    "when": [Sample("t", "when", ("a.mp4",), "When is it noisy?", {"answer_interval": [0.5, 1.25], "reason": "Late."})],
    "where": [Sample("p", "where", ("a.mp4",), "Where is it noisy?", {"answer_box": [10.0, 20.0, 62.5, 80.0]})],
    "count": [Sample("n", "count", ("a.mp4",), "How many freezes?", {"answer_count": 3, "kind": "x"})],
    "compare": [
        Sample("ab", "compare", ("a.mp4", "b.mp4"), target=SURE | {"kind_first": "blur", "severity_first": "0.1"}),
        Sample("ba", "compare", ("b.mp4", "a.mp4"), "Which?", {"better": "second", "mos_first": 1, "mos_second": 3.5}),
        Sample("ac", "compare", ("a.mp4", "c.mp4"), target=UNSURE),
    ],
    "level": [
        Sample("a: level", "level", ("a.mp4",), target={"mos": 3.4, "kind": "blur", "severity": "0.4"}),
        Sample(
            "b: level", "level", ("b.mp4",), "How good?", {"level": "low", "words": "vqa2", "reason": "It flickers."}
        ),
    ],
    "open": [
        Sample("o", "open", ("a.mp4",), "What is wrong?", {"reference": "Noise in the sky.", "reason": "I see grain."}),
        Sample("p", "open", ("a.mp4", "b.mp4"), "How do they differ?", {"reference": "The second is darker."}),
    ],
}


@pytest.mark.parametrize("name", list(TASKS))
def test_the_gold_answer_earns_the_full_reward_and_is_right(name, processor):
    task = TASKS[name]
    assert SAMPLES[name], f"give task {name!r} samples here"
    for sample in SAMPLES[name]:
        row = sample_dataset([sample], processor)[0]
        rubric = task.rubric() if "kind" not in row else task.rubric().plus(Distortion())
        rubric = rubric.without([r.__name__ for r in rubric.rewards if getattr(r, "compares_videos", False)])
        for seed in range(8):
            gold = task.gold(sample, np.random.default_rng(seed))
            columns = {key: [value] * 2 for key, value in row.items() if key not in ("prompt", "mos")}
            columns |= {"mos": [row.get("mos")] * 2, "video_id": [sample.id] * 2}
            worse = [gold, "<think>a</think><answer>9</answer>"]
            table = rubric.score([gold, gold], **columns)
            for reward, values in table.rewards.items():
                assert values[0] is None or values[0] == pytest.approx(1), reward
            assert table.total[0] > rubric.score(worse, **columns).total[1]
            assert task.parse(gold, row).value == pytest.approx(task.truth(row))
        assert set(task.measure([gold], [row])) == set(task.metrics)


def test_prompts_are_true_and_rows_have_what_their_task_needs(processor):
    samples = [*SAMPLES["score"], *SAMPLES["choice"]]
    dataset = sample_dataset(samples, processor)
    assert [videos_in(row["prompt"]) for row in dataset] == [["a.mp4"], ["b.mp4"], ["a.mp4"], ["b.mp4"]]
    assert dataset["sample_id"] == ["a", "b", "a: Which?", "b: Noise?"]
    texts = [text_in(row["prompt"]) for row in dataset]
    assert texts[0].startswith(processor.question) and texts[1].startswith("How sharp is it? First output")
    assert texts[2].startswith("Which fault?\nA. Blur\nB. Noise\nC. None\nAnswer with one option. F")
    assert dataset[2]["answer"] == "B" and dataset[3]["answer"] == "B" and dataset[0]["answer"] is None
    assert dataset[2]["mos"] is None and dataset[2]["kind"] is None  # a label of the clip, but nothing to be rewarded
    shown = processor.tokenizer.decode(processor.render(dataset[2]["prompt"]).ids)
    assert "Motion Feature:<img>" in shown and "B. Noise" in shown
    assert {task.name: places for task, places in by_task(list(dataset)).items()} == {"score": [0, 1], "choice": [2, 3]}


def test_system_messages_are_rendered(processor):
    sample = Sample("a", "score", ("a.mp4",), target={"mos": 3.0}, system="You are strict.")
    text = processor.tokenizer.decode(processor.render(sample_dataset([sample], processor)[0]["prompt"]).ids)
    assert text.startswith("<|im_start|>system\nYou are strict.<|im_end|>\n<|im_start|>user\nNow you")


def test_options_change_places_and_the_letter_follows(processor):
    row = sample_dataset([QUESTION], processor)[0]
    task, seen = TASKS["choice"], set()
    for seed in range(40):
        asked = task.vary(row, processor, np.random.default_rng(seed))
        assert asked["options"][ord(asked["answer"]) - ord("A")] == "Noise"
        assert f"{asked['answer']}. Noise" in text_in(asked["prompt"]) and videos_in(asked["prompt"]) == ["a.mp4"]
        assert sorted(asked["options"]) == ["Blur", "Noise", "None"]
        seen.add(tuple(asked["options"]))
    assert len(seen) == 6 and row["options"] == ["Blur", "Noise", "None"]
    own = row | {"prompt": processor.messages("a.mp4", "Which fault, blur (A) or noise (B)?")}
    assert task.vary(own, processor, np.random.default_rng(0)) == own
    assert TASKS["score"].vary(row, processor, np.random.default_rng(0)) == row


def test_choices_are_measured():
    rows = [{"options": ["Yes", "No"], "answer": "A"}] * 4
    said = ["<answer>A</answer>", "<answer>no</answer>", "good", None]
    found = TASKS["choice"].measure(said, rows)
    assert found["choice_accuracy"] == found["choice_unparsable"] == pytest.approx(1 / 3)
    assert math.isnan(found["choice_consistency"])  # options in one order only
    assert math.isnan(found["choice_severity"])  # and no steps of a scale
    assert math.isnan(TASKS["choice"].measure([None], rows[:1])["choice_accuracy"])


def test_open_answers_are_measured():
    rows = [{"reference": "Noise in the sky."}] * 4
    said = ["<answer>a noisy sky</answer>", "<answer>noise</answer>", "<answer> </answer>", None]
    assert TASKS["open"].measure(said, rows) == {
        "open_key_terms": pytest.approx((1 + 2 / 3 + 0) / 3),
        "open_unanswered": pytest.approx(1 / 3),
    }
    assert TASKS["open"].parse(said[1], rows[1]).value == pytest.approx(2 / 3)
    assert TASKS["open"].parse("noise", rows[1]).status == "no_answer"


def test_questions_in_every_rotation_measure_consistency(processor):
    ordered = replace(QUESTION, id="o", question="How strong?", target=QUESTION.target | {"steps": (0, 1, 2)})
    samples = rotated([QUESTION, ordered, *SAMPLES["score"][:1]])
    assert [sample.target.get("options") for sample in samples[:3]] == [
        ("Blur", "Noise", "None"),
        ("Noise", "None", "Blur"),
        ("None", "Blur", "Noise"),
    ]
    assert [sample.target.get("answer") for sample in samples[:3]] == ["B", "A", "C"] and len(samples) == 7
    assert samples[4].target["steps"] == (1, 2, 0) and len({sample.id for sample in samples}) == 7
    rows = list(sample_dataset(samples[:6], processor))
    looks, letters = ["<answer>noise</answer>"] * 3, ["<answer>A</answer>"] * 3
    found = TASKS["choice"].measure(looks + letters, rows)
    assert found["choice_consistency"] == 0.5 and found["choice_accuracy"] == pytest.approx(4 / 6)
    # the right option is Noise, of three steps; options in the third row's order, so that B is Blur, a step away
    said = ["<answer>noise</answer>", "?", "<answer>B</answer>"]
    assert TASKS["choice"].measure(said, rows[3:])["choice_severity"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert TASKS["choice"].measure([*looks[:2], "?"], rows[:3])["choice_consistency"] == 0
    assert TASKS["choice"].measure([*looks[:2], None], rows[:3])["choice_consistency"] == 1


def test_places_are_measured_and_asked_for():
    rows = [{"answer_interval": [0.0, 2.0]}] * 4
    said = ["<answer>0-2</answer>", "<answer>1-2</answer>", "late", None]
    assert TASKS["when"].measure(said, rows) == {
        "when_iou": pytest.approx(0.5),
        "when_hit": pytest.approx(1 / 3),  # an IoU of 0.5 is none
        "when_unparsable": pytest.approx(1 / 3),
    }
    assert TASKS["when"].parse(said[1], rows[0]).value == 0.5 and TASKS["when"].parse("late", rows[0]).value is None
    boxes = [{"answer_box": [0, 0, 50, 100]}] * 2
    found = TASKS["where"].measure(["<answer>0, 0, 100, 100</answer>", "<answer>0, 0, 50, 90</answer>"], boxes)
    assert found == {"where_iou": pytest.approx(0.7), "where_hit": 0.5, "where_unparsable": 0.0}
    counts = [{"answer_count": 3}] * 3
    found = TASKS["count"].measure(["<answer>3</answer>", "<answer>one</answer>", "<answer>?</answer>"], counts)
    assert found == {
        "count_accuracy": pytest.approx(1 / 3),
        "count_error": 1.0,
        "count_unparsable": pytest.approx(1 / 3),
    }
    assert all(
        math.isnan(value) for name in ("when", "where", "count") for value in TASKS[name].measure([], []).values()
    )
    assert (
        TASKS["when"].text(SAMPLES["when"][0]) == "When is it noisy? Answer with start and end in seconds, as 1.2-2.4."
    )
    assert "in percent of width and height" in TASKS["where"].text(SAMPLES["where"][0])
    gold = [TASKS[name].gold(SAMPLES[name][0], np.random.default_rng(0)) for name in ("when", "where", "count")]
    assert gold[0] == "<think>Late.</think><answer>0.5-1.25</answer>"
    assert gold[1].endswith("<answer>10, 20, 62.5, 80</answer>") and gold[2].endswith("<answer>3</answer>")


def test_the_steps_of_a_scale_move_with_its_options(processor):
    target = {"options": ("None", "Mild", "Strong"), "answer": "B", "steps": (0, 1, 2)}
    sample = Sample("s", "choice", ("a.mp4",), "How strong?", target)
    row = sample_dataset([sample], processor)[0]
    assert row["steps"] == [0, 1, 2]
    for seed in range(5):
        asked = TASKS["choice"].vary(row, processor, np.random.default_rng(seed))
        assert [target["options"][step] for step in asked["steps"]] == asked["options"]
        wrong = [f"<answer>{name}</answer>" for name in ("Mild", "Strong")]
        columns = {key: [asked[key]] * 2 for key in ("answer", "options", "steps")}
        assert Severity()(wrong, **columns) == [1.0, 0.5]
    rubric = with_tasks(None, [sample, *SAMPLES["when"]], {"choice": 0.5})
    assert dict(zip(rubric.names, rubric.weights, strict=True)) == {
        "format": 1,
        "choice": 0.5,
        "when": 1,
        "severity": 0.5,
    }
    assert "severity" not in with_tasks(None, [QUESTION]).names


def test_label_columns_with_names_of_other_tasks_stay_out_of_score_rows(processor):
    score = Sample("s", "score", ("a.mp4",), target={"mos": 3.0, "level": "2", "answer": "x", "kind": "blur"})
    level = Sample("l", "level", ("a.mp4",), target={"level": "good", "words": "itu"})
    rows = sample_dataset([score, level], processor)
    assert (rows["level"][:], rows["kind"][:]) == ([None, 4], ["blur", None]) and "answer" not in rows.column_names


def test_a_slip_does_not_count_as_a_score():
    row = {"mos": 3.0}
    assert TASKS["score"].parse("<answer>34.2</answer>", row).value is None
    assert TASKS["score"].parse([{"role": "assistant", "content": "<answer>3.4</answer>"}], row).value == 3.4


def test_a_mixture_shows_each_sample_as_often_as_its_weight_says():
    samples = [Sample(str(i), "score", (f"{i}.mp4",), target={"mos": 3.0}) for i in range(10)]
    mixed = mixture([(samples, 1), ([QUESTION], 2), (SAMPLES["choice"][1:], 1)], seed=0)
    assert [s.id for s in mixed] == [*map(str, range(10)), QUESTION.id, QUESTION.id, "b: Noise?"]
    half = mixture([(samples, 1.5)], seed=0)
    assert len(half) == 15 and len({s.id for s in half[10:]}) == 5
    assert half == mixture([(samples, 1.5)], seed=0) != mixture([(samples, 1.5)], seed=1)
    for weight in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="must be a number above 0"):
            mixture([(samples, weight)], seed=0)
    other = Sample("3", "score", ("other.mp4",), target={"mos": 3.0})
    with pytest.raises(ValueError, match="sample '3' is in two files"):
        mixture([(samples, 1), ([other], 1)], seed=0)


def test_an_unknown_task_is_refused(processor):
    with pytest.raises(ValueError, match=f"task 'loud' is unknown: must be one of {re.escape(str(sorted(TASKS)))}"):
        find_task("loud")
    with pytest.raises(ValueError, match="'loud'"):
        sample_dataset([Sample("a", "loud", ("a.mp4",))], processor)
    with pytest.raises(ValueError, match="empty"):
        sample_dataset([], processor)
    assert task_of({}).name == task_of({"task": None}).name == "score"


class Loud(Score):
    name, metrics = "loud", ("loud_error",)


@pytest.mark.parametrize("entry", [Loud, TASKS["score"]])
def test_an_entry_that_is_no_task_of_that_name_is_refused(monkeypatch, entry):
    monkeypatch.setitem(TASKS, "loud", entry)
    with pytest.raises(ValueError, match=r"TASKS\['loud'\] is .*: it must be an instance of a Task whose name"):
        find_task("loud")


def test_a_run_may_go_by_the_metric_of_a_task_of_ones_own(monkeypatch, tmp_path):
    settings = {"max_completion_length": 8, "bf16": False, "use_cpu": True, "metric_for_best_model": "loud_error"}
    with pytest.raises(ValueError, match="metric_for_best_model='loud_error': validation reports srcc, plcc"):
        VQAGRPOConfig(str(tmp_path), **settings)
    monkeypatch.setitem(TASKS, "loud", Loud())
    monkeypatch.setattr(Loud, "metrics", ("plcc",))
    with pytest.raises(ValueError, match="tasks 'score' and 'loud' both have the metric 'plcc'"):
        VQAGRPOConfig(str(tmp_path), **settings)
    monkeypatch.setattr(Loud, "metrics", ("loud_error",))
    assert VQAGRPOConfig(str(tmp_path), **settings).metric_for_best_model == "loud_error"

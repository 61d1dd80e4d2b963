import math
import re
from statistics import NormalDist

import numpy as np
import pytest

from vqathinker.data import Sample
from vqathinker.messages import text_in, videos_in
from vqathinker.rewards import Distortion
from vqathinker.tasks import TASKS, Score, by_task, find_task, mixture, sample_dataset, task_of
from vqathinker.training import VQAGRPOConfig

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
    assert TASKS["choice"].measure(said, rows) == {
        "choice_accuracy": pytest.approx(1 / 3),
        "choice_unparsable": pytest.approx(1 / 3),
    }
    assert math.isnan(TASKS["choice"].measure([None], rows[:1])["choice_accuracy"])


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

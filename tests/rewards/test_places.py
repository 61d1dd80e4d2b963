import math

import pytest

import rewards
from rewards import Count, Severity, When, Where, box_iou, interval_iou, parse_box, parse_count, parse_interval


def said(*texts):
    return [f"<think>1-2</think><answer>{text}</answer>" for text in texts]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        *((text, (1.2, 2.4)) for text in ("1.2-2.4", "1.2 - 2.4 s", "from 1.2s to 2.4s", "[1.2, 2.4]", "1,2-2,4")),
        *((text, (1.2, 2.4)) for text in ("[1.2,2.4]", "1.2,2.4")),
        *((text, "no_value") for text in ("-1.2-2.4", "from -1.2 to 2.4", "[-1.2, 2.4]")),
        *(
            (text, (1.2, 2.4))
            for text in ("1.2\u20132.4", "between 1.2 and 2.4 seconds.", "1.2 seconds to 2.4 seconds")
        ),
        ("0:59-1:02", (59, 62)),
        *((text, "no_value") for text in ("1.2", "1-2-3", "frames 3-9", "10%-20%", "1-2 minutes", "late", "")),
        ("2.4-1.2", "out_of_order"),
    ],
)
def test_an_interval_is_two_numbers_in_seconds(text, values):
    found = parse_interval(said(text)[0])
    assert (found.values if found.status == "ok" else found.status) == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        *((text, (10, 20, 60, 80)) for text in ("10, 20, 60, 80", "[10,20,60,80]", "x1=10, y1=20, x2=60, y2=80")),
        *((text, (10, 20, 60, 80)) for text in ("10% 20% 60% 80%", "(10,20)-(60,80).", "10-20-60-80")),
        *((text, "no_value") for text in ("10 20 60", "the left half", "10, 20, 60, 80 pixels")),
        ("60, 20, 10, 80", "out_of_order"),
        ("-5, 10, 20, 30", "out_of_range"),
        ("10, 20, 160, 80", "out_of_range"),
    ],
)
def test_a_box_is_four_numbers_in_percent(text, values):
    found = parse_box(said(text)[0])
    assert (found.values if found.status == "ok" else found.status) == values


@pytest.mark.parametrize(
    ("text", "count"),
    [("3", 3), ("three", 3), ("Three times (3).", 3), ("0", 0), ("It freezes 3 times.", 3)]
    + [(text, None) for text in ("2 or 3", "2-3", "2 -3", "2.5", "-1", "1080p", "30%", "often")],
)
def test_a_count_is_one_whole_number(text, count):
    assert parse_count(said(text)[0]).values == (() if count is None else (count,))
    assert parse_count(f"<think>{text}</think>").status == "no_answer"


def test_overlaps_are_those_by_hand():
    assert interval_iou((1, 3), (2, 4)) == pytest.approx(1 / 3) and interval_iou((0, 1), (1, 2)) == 0
    assert interval_iou((0, 4), (1, 2)) == 0.25
    assert box_iou((0, 0, 50, 50), (25, 25, 75, 75)) == pytest.approx(625 / (2500 + 2500 - 625))
    assert box_iou((0, 0, 10, 10), (20, 0, 30, 10)) == 0 and box_iou((5, 5, 95, 95), (5, 5, 95, 95)) == 1


def test_what_is_near_pays_more_and_other_rows_are_left_out():
    logged = {}
    answers = said("1-3", "2-4", "?", "1-3")
    truth = [[1.0, 3.0]] * 3 + [None]
    found = When()(answers, answer_interval=truth, log_metric=logged.__setitem__)
    assert found == [1.0, pytest.approx(1 / 3), 0.0, None] and logged == {"when_unparsable": pytest.approx(1 / 3)}
    box = [[0, 0, 50, 50]] * 2 + [None]
    assert Where()(said("0, 0, 50, 50", "50, 50, 99, 99", "0, 0, 50, 50"), answer_box=box) == [1.0, 0.0, None]
    counts = Count()(said("3", "2", "six", "?", "3"), answer_count=[3, 3, 3, 3, None])
    assert counts == [1.0, pytest.approx(math.exp(-1)), pytest.approx(math.exp(-3)), 0.0, None]
    for name, column in (("when", "answer_interval"), ("where", "answer_box"), ("count", "answer_count")):
        reward = rewards.named_rewards(name).rewards[0]
        assert reward(answers) == [None] * 4 and not reward.applies({column: None}) and reward.applies({column: 1})


def test_a_severity_is_paid_by_its_distance_in_any_order_of_the_options():
    options = ["None", "Mild", "Strong", "Extreme"]
    row = {"answer": ["Strong"] * 5, "options": [options] * 5, "steps": [[0, 1, 2, 3]] * 5}
    found = Severity()(said("C", "Mild", "A", "Extreme", "?"), **row)
    assert found == [1.0, pytest.approx(2 / 3), pytest.approx(1 / 3), pytest.approx(2 / 3), 0.0]
    moved = {"answer": ["A"], "options": [["Strong", "None", "Extreme", "Mild"]], "steps": [[2, 0, 3, 1]]}
    assert Severity()(said("None"), **moved) == [pytest.approx(1 / 3)]
    assert Severity()(said("A"), **moved | {"steps": [None]}) == [None] and not Severity().applies({"steps": None})
    assert Severity()(said("A")) == [None]


@pytest.mark.parametrize(
    ("reward", "columns", "message"),
    [
        (When(), {"answer_interval": [[3, 1]]}, r"answer_interval\[0\]: interval \[3.0, 1.0\]: must be start and end"),
        (When(), {"answer_interval": ["1-3"]}, "'1-3': must be an interval"),
        (When(), {"answer_interval": []}, "0 entries for 1 completions"),
        (Where(), {"answer_box": [[0, 0, 10, 120]]}, "in percent of width and height, 0 to 100"),
        (Count(), {"answer_count": [-1]}, "count -1: must be a whole number from 0"),
        (Severity(), {"answer": ["A"], "options": [["x", "y"]], "steps": [[0, 2]]}, r"steps=\[0, 2\] .* each once"),
    ],
)
def test_a_bad_label_names_value_rule_and_fix(reward, columns, message):
    with pytest.raises(ValueError, match=message):
        reward(said("A"), **columns)

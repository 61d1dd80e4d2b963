import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vqathinker.metrics.choices import (
    Accuracy,
    Majority,
    accuracy,
    majority,
    rotation_consistency,
    rotations,
    summarize_choices,
    yes_no,
)
from vqathinker.metrics.paired import paired_difference

YES_NO = ["Yes", "No"]
LEVELS = ["low", "fair", "high"]


def test_half_a_right_answer_counts_as_half_in_the_interval_too():
    for hits, count in ((0, 4), (3, 4), (4, 4), (37, 90)):
        wanted = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
        found = accuracy([True] * hits + [False] * (count - hits))
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    ties = accuracy([0.5] * 40)
    assert (ties.value, ties.low, ties.high) == pytest.approx(
        (0.5, *stats.binomtest(20, 40).proportion_ci(method="wilson"))
    )


def test_accuracy_has_a_wilson_interval():
    found = accuracy([True] * 8 + [False] * 2)
    # (0.8 + 1.96^2 / 20 -+ 1.96 sqrt(0.8 * 0.2 / 10 + 1.96^2 / 400)) / (1 + 1.96^2 / 10)
    assert (found.value, found.count) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert accuracy([True]).high == 1.0 and accuracy([True]).low == pytest.approx(0.2065, abs=1e-4)
    assert math.isnan(accuracy([]).value) and accuracy([]).count == 0


def test_a_small_set_by_hand():
    chosen = [0, 1, 1, None, 2, 0, 0]
    answers = [0, 1, 0, 0, 2, 1, 0]
    shuffled = [["low", "fair", "high"], ["high", "low", "fair"]]
    options = [YES_NO, YES_NO, YES_NO, YES_NO, *shuffled, ["blur", "noise"]]
    types = ["yesno"] * 4 + ["level"] * 2 + ["what"]
    tags = [("Global",), ("Global", "Temporal"), (), (), ("Temporal",), ("Temporal", "Temporal"), ()]
    found = summarize_choices(chosen, answers, options, types, tags)
    assert found.accuracy.value == pytest.approx(4 / 7) and found.unparsable == pytest.approx(1 / 7)
    assert {name: (a.value, a.count) for name, a in found.by_type.items()} == {
        "yesno": (0.5, 4),
        "level": (0.5, 2),
        "what": (1.0, 1),
    }
    assert found.by_tag["Temporal"] == accuracy([True, True, False]) and found.by_tag["Global"].value == 1.0
    # Yes, No, Yes, Yes; high (third), low (second): both once; blur
    assert found.majority_by_type == {
        "yesno": Majority(0.75, "Yes", "text"),
        "level": Majority(0.5, "high", "text"),
        "what": Majority(1.0, "blur", "text"),
    }
    assert found.majority == pytest.approx((3 + 1 + 1) / 7)
    assert found.random == pytest.approx((4 / 2 + 2 / 3 + 1 / 2) / 7)
    # Global: Yes, No; Temporal: No of one yesno, high and low of two levels
    assert found.majority_by_tag == pytest.approx({"Global": 1 / 2, "Temporal": (1 + 1) / 3})
    assert found.random_by_tag == pytest.approx({"Global": 1 / 2, "Temporal": (1 / 2 + 2 / 3) / 3})
    assert found.random_by_type == pytest.approx({"yesno": 1 / 2, "level": 1 / 3, "what": 1 / 2})
    # of three Yes one is right, the only No is right: TP 1, FN 2, TN 1, FP 0
    assert list(found.yes_no) == ["yesno"]
    assert found.yes_no["yesno"].balanced_accuracy == pytest.approx((1 / 3 + 1) / 2)
    assert found.yes_no["yesno"].f1 == pytest.approx(2 / (2 + 2))
    assert found.yes_no["yesno"].mcc == pytest.approx(1 / math.sqrt(1 * 3 * 1 * 3))


def test_options_that_differ_have_a_majority_letter():
    found = majority([1, 1, 0], [["a1", "b1"], ["a2", "b2"], ["a3", "b3"]])
    assert found == Majority(2 / 3, "B", "letter")
    assert majority([0, 1, 0], [["Yes", "No"], ["no", "yes "], ["No", "Yes"]]) == Majority(2 / 3, "Yes", "text")


def test_types_with_other_options_are_no_yes_no_questions():
    found = summarize_choices([0, 0], [0, 0], [YES_NO, ["Yes", "No", "Unclear"]], ["x", "x"])
    assert found.yes_no == {} and found.by_tag == {}


def test_yes_no_by_hand():
    # TP 6, FN 2, TN 3, FP 1
    found = yes_no([True] * 6 + [False] * 2 + [True] * 3 + [False], [True] * 8 + [False] * 4)
    assert found.balanced_accuracy == pytest.approx(0.75) and found.f1 == pytest.approx(12 / 15)
    assert found.mcc == pytest.approx((6 * 3 - 1 * 2) / math.sqrt(7 * 8 * 4 * 5)) and found.count == 12


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcc_is_the_correlation_of_answer_and_truth(pairs):
    truth, said = np.array(pairs).T
    found = yes_no(list(truth == said), list(truth))
    if truth.std() and said.std():
        assert found.mcc == pytest.approx(np.corrcoef(truth, said)[0, 1])
    else:
        assert math.isnan(found.mcc)


def test_what_is_undefined_is_nan():
    always = yes_no([True, True, False], [True, True, False])  # always "Yes"
    assert math.isnan(always.mcc) and always.balanced_accuracy == 0.5 and always.f1 == pytest.approx(0.8)
    one_class = yes_no([True, True], [False, False])
    assert math.isnan(one_class.balanced_accuracy) and math.isnan(one_class.f1) and math.isnan(one_class.mcc)
    nothing = summarize_choices([], [], [], [])
    assert nothing.accuracy == Accuracy(*[pytest.approx(math.nan, nan_ok=True)] * 3, 0)
    assert all(math.isnan(value) for value in (nothing.unparsable, nothing.majority, nothing.random))
    assert math.isnan(rotation_consistency([])) and math.isnan(paired_difference([], []).difference)


def test_the_same_option_in_every_rotation_is_consistent():
    assert rotations(LEVELS) == [LEVELS, ["fair", "high", "low"], ["high", "low", "fair"]]
    always_fair = [own.index("fair") for own in rotations(LEVELS)]
    assert always_fair == [1, 0, 2]
    assert rotation_consistency([always_fair, [0, 0, 0], [0, 1], [1, 0], [0, None], [None, None]]) == 3 / 6


def test_before_and_after_by_hand():
    before = [True] * 40 + [False] * 60
    after = [True] * 35 + [False] * 5 + [True] * 15 + [False] * 45
    found = paired_difference(before, after)
    assert (found.difference, found.gained, found.lost) == (pytest.approx(0.1), 15, 5)
    # two-sided: 2 * sum of C(20, k) for k <= 5, over 2^20
    assert found.p_value == pytest.approx(2 * sum(math.comb(20, k) for k in range(6)) / 2**20)
    # the standard error is sqrt((20 / 100 - 0.1^2) / 100) = 0.0436
    assert found.low == pytest.approx(0.1 - 1.96 * 0.0436, abs=0.02)
    assert found.high == pytest.approx(0.1 + 1.96 * 0.0436, abs=0.02)
    assert found == paired_difference(before, after)
    same = paired_difference(before, before)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_sources_are_drawn_whole():
    before, after = [False] * 100, [True] * 50 + [False] * 50
    alone = paired_difference(before, after)
    together = paired_difference(before, after, sources=[i // 25 for i in range(100)])
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarize_choices([0], [0, 1], [YES_NO], ["x"]), "'answers': 2.*one entry of each per question"),
        (lambda: summarize_choices([2], [0], [YES_NO], ["x"]), r"chosen\[0\]=2: must be an index of the 2 options"),
        (lambda: summarize_choices([0], [-1], [YES_NO], ["x"]), r"answers\[0\]=-1: must be an index"),
        (lambda: summarize_choices([0], [None], [YES_NO], ["x"]), r"answers\[0\]=None"),
        (lambda: rotation_consistency([[0, 2]]), r"chosen\[0\]=\[0, 2\]"),
        (lambda: rotation_consistency([[0]]), "n answers, one per rotation"),
        (lambda: yes_no([True], []), "right has 1 entries, yes 0"),
        (lambda: paired_difference([True], []), "need the same questions"),
    ],
)
def test_bad_input_names_value_and_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()

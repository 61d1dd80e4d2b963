"""Answers about two clips: how they are read, what they earn, and that no other reward pays for them."""

import math
from statistics import NormalDist

import pytest

import rewards
from rewards import Agreement, PairOrder, Preference, pair_order_fidelity, parse_comparison, word_reward

PHI = NormalDist().cdf


def said(answer):
    return f"<think>2 cars; first</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("text", "better", "first", "second", "status"),
    [
        (said("first; 3.42; 2.87"), "first", 3.42, 2.87, "ok"),
        (said("\n Second ;2;  4,5 "), "second", 2.0, 4.5, "ok"),
        (said("second; 4.00; 1.00"), "second", 4.0, 1.0, "ok"),  # a contradiction stays as it is
        (said("similar; 5.01; 3"), "similar", 5.01, 3.0, "out_of_range"),
        (said("first"), "first", None, None, "no_numbers"),
        (said("first; 3.42"), "first", None, None, "no_numbers"),
        (said("first; 3.42; 2.87; 1"), "first", None, None, "no_numbers"),
        (said("first; 3.4.2; 2"), "first", None, None, "no_numbers"),
        (said("first; -3; 2"), "first", None, None, "no_numbers"),
        (said("first; 3 2"), "first", None, None, "no_numbers"),
        (said("A; 3.42; 2.87"), None, None, None, "no_word"),
        (said("the first; 3.42; 2.87"), None, None, None, "no_word"),
        (said("3.42; 2.87"), None, None, None, "no_word"),
        (said("first; 3; 2") + "<answer>second; 2; 3</answer>", None, None, None, "several"),
        ("first; 3; 2", None, None, None, "no_answer"),
        ("<answer>first; 3; 2", None, None, None, "no_answer"),
    ],
)
def test_an_answer_is_a_word_and_two_scores_in_one_block(text, better, first, second, status):
    found = parse_comparison([{"role": "assistant", "content": text}])
    assert (found.better, found.first, found.second, found.status) == (better, first, second, status)
    assert found.scores == ((first, second) if status == "ok" else None)
    assert (found.start is None) == (better is None)
    if better:
        assert text[found.start :].lower().startswith(better)


def test_a_word_earns_as_much_as_the_label_is_unsure_of_it():
    words = (*rewards.COMPARISON_WORDS, None)
    labels = {"first": 0.9, "second": 0.25, "similar": 0.6}
    table = {better: [word_reward(word, better, p) for word in words] for better, p in labels.items()}
    assert table["first"] == pytest.approx([1, 0, 0.2, 0])
    assert table["second"] == pytest.approx([0, 1, 0.5, 0])
    assert table["similar"] == pytest.approx([0.2, 0, 1, 0])
    assert [word_reward("similar", "first", p) for p in (None, 1.0)] == [0, 0]


def test_the_order_of_both_scores_is_paid_by_fidelity():
    """Two answers with scores (3, 2) and (2, 2.5): variances 0.5 and 0.125, leads 1 and -0.5."""
    p = [PHI(1 / math.sqrt(0.625 + 0.36)), PHI(-0.5 / math.sqrt(0.625 + 0.36))]
    expected = [math.sqrt(x * 0.8) + math.sqrt((1 - x) * 0.2) for x in p]
    assert pair_order_fidelity([3, 2], [2, 2.5], 0.8, spread=0.6) == pytest.approx(expected)
    sure = [math.sqrt(PHI(lead / math.sqrt(0.635))) for lead in (1, -0.5)]
    assert pair_order_fidelity([3, 2], [2, 2.5], 1.0) == pytest.approx(sure)
    assert pair_order_fidelity([3.1], [3.0], 0.0) == pytest.approx([math.sqrt(1 - PHI(1))])
    # MOS that differ as the label's earn 1, others less
    p = PHI(0.5 / 0.9)
    values = [pair_order_fidelity([3 + lead], [3], p, spread=0.9)[0] for lead in (0.3, 0.5, 0.7)]
    assert values[1] == pytest.approx(1) and max(values[0], values[2]) < 1 - 1e-3


def test_groups_are_those_of_one_name_and_unscorable_answers_get_none():
    answers = [said("first; 3; 2"), said("first; 4; 2"), said("second; 2; 2.5"), said("second"), said("3.2"), "-"]
    columns = {"video_id": list("abacdc"), "better": ["first", "second", "first", "similar", None, "similar"]}
    columns |= {"preference": [0.8, None, 0.8, None, None, None], "spread": [0.6, None, 0.6, None, None, None]}
    values = PairOrder()(answers, **columns)
    own = pair_order_fidelity([3, 2], [2, 2.5], 0.8, spread=0.6)
    assert values == [own[0], pytest.approx(math.sqrt(1 - PHI(20)), abs=1e-9), own[1], None, None, None]
    assert Preference()(answers, **columns) == [1, 0, 0, 0, None, 0]
    assert Agreement()(answers, **columns) == [1, 1, 1, None, None, None]
    floored = rewards.Rubric([PairOrder()])
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    table = floored.floored(floored.score(answers, mos=[None] * 6, **columns), rows)
    assert table.rewards["pair_order"][3:] == [0, None, 0] and table.counters["floored"] == 2


def test_words_agree_with_the_answers_own_scores_right_or_wrong():
    texts = (
        "first; 3; 2.99",
        "first; 3; 3",
        "second; 3; 2.9",
        "similar; 3; 3.25",
        "similar; 3; 3.26",
        "similar; 3; 3.6",
    )
    answers = [said(text) for text in texts]
    better, spread = ["second"] * 6, [None] * 5 + [0.9]  # 0.674 x 0.9 = 0.607
    assert Agreement()(answers, better=better, spread=spread) == [1, 0, 0, 1, 0, 1]
    assert Agreement(similar=0.5)(answers, better=better)[3:] == [1, 1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"better": ["yes"]}, "better='yes': must be one of"),
        ({"better": ["first"], "preference": [1.2]}, "preference=1.2 with better='first'"),
        ({"better": ["first"], "preference": [0.3]}, "probability, from 0 to 1, that the first clip is better"),
        ({"better": ["first", "second"]}, "better has 2 entries for 1 completions"),
        ({"better": ["first"]}, "video_id is missing"),
        ({"better": ["first"], "video_id": ["a"], "spread": [0.0]}, "spread=0.0: must be above 0"),
    ],
)
def test_labels_that_say_nothing_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        rewards.Rubric([Preference(), PairOrder()]).score(
            [said("first; 3; 2")], mos=[None], **({"video_id": None} | columns)
        )


OTHERS = [name for name in rewards.REWARDS if name not in ("preference", "pair_order", "agreement")]


@pytest.mark.parametrize("name", list(rewards.REWARDS))
def test_scores_and_comparisons_in_one_batch_are_paid_by_their_own_rewards(name):
    """`parse_answer` would read a number in "first; 3.42; 9"."""
    scores = [said(number) for number in ("4.1", "3.9", "2.2", "1.9")]
    pairs = [said(text) for text in ("first; 3.42; 9", "second; 2; 3", "similar; 0.1; 4.42", "first; 4; 3")]
    both = {
        "mos": [4.0, 4.0, 2.0, 2.0],
        "video_id": ["a", "a", "b", "b"],
        "perturbed_completions": [said(number) for number in ("3.3", "3.9", "2.5", "1.0")],
        "kind": ["blur"] * 4,
        "severity": ["0.4"] * 4,
    }
    alone = rewards.named_rewards(name).score(scores, **both).rewards[name]
    mixed = {key: [*column, *[None] * 4] for key, column in both.items()}
    mixed |= {
        "video_id": ["a", "a", "b", "b", "ab", "ab", "ba", "ba"],
        "better": [None] * 4 + ["first"] * 2 + ["second"] * 2,
    }
    table = rewards.named_rewards(name).score([*scores, *pairs], **mixed)
    assert table.rewards[name][:4] == alone
    own = name not in OTHERS or name in ("format", "length")
    assert any(value is not None for value in table.rewards[name][4:]) == own

import math

import numpy as np
import pytest
from scipy.stats import norm

import rewards

ANSWER = "<think>a</think><answer>{:.2f}</answer>"


def test_a_copy_is_paid_for_ranking_below_its_original():
    original, copy = [4.0, 3.6], [3.0, 4.5]
    spread = math.sqrt(np.var(original, ddof=1) + np.var(copy, ddof=1) + 0.01)
    expected = [math.sqrt(norm.cdf((3.8 - score) / spread)) for score in copy]
    assert rewards.contrast_fidelity(original, copy) == pytest.approx(expected)
    assert rewards.contrast_fidelity([3.0, 3.0], [3.0, 3.0]) == pytest.approx([math.sqrt(0.5)] * 2)
    assert rewards.contrast_fidelity([5.0, 5.0], [1.0, 1.0]) == pytest.approx([1.0] * 2)
    assert (
        rewards.contrast_fidelity([3.1, 3.1], [3.0, 3.0])[0]
        < rewards.contrast_fidelity([3.1, 3.1], [3.0, 3.0], eps=1e-4)[0]
    )


def test_only_answers_to_copies_are_paid_in_any_order():
    scores = {"a": [4.0, 3.6], "a (copy)": [3.0, 4.5], "b": [2.0, 2.0], "b (copy)": [1.0, 1.5]}
    rows = [(name, score) for place in range(2) for name in scores for score in scores[name][place : place + 1]]
    names = [name for name, _ in rows]
    reward = rewards.Contrast()
    assert reward.needs_perturbed and reward.trains_copies and reward.__name__ == "contrast"
    values = reward(
        [ANSWER.format(score) for _, score in rows],
        video_id=names,
        copy_of=[name.removesuffix(" (copy)") if "copy" in name else None for name in names],
    )
    for name in ("a", "b"):
        expected = rewards.contrast_fidelity(scores[name], scores[f"{name} (copy)"])
        assert [v for v, other in zip(values, names, strict=True) if other == f"{name} (copy)"] == pytest.approx(
            expected
        )
        assert [v for v, other in zip(values, names, strict=True) if other == name] == [None, None]


@pytest.mark.parametrize(
    "answers",
    [
        ["nothing", ANSWER.format(4), ANSWER.format(2), ANSWER.format(3)],  # one score of the original
        [ANSWER.format(4), ANSWER.format(4), ANSWER.format(2), ANSWER.format(9)],  # one of the copy
    ],
)
def test_too_few_scores_are_not_paid(answers):
    ids, copy_of = ["a", "a", "c", "c"], [None, None, "a", "a"]
    assert rewards.Contrast()(answers, video_id=ids, copy_of=copy_of) == [None] * 4


def test_a_copy_without_its_original_or_the_column_pays_nothing():
    answers = [ANSWER.format(4), ANSWER.format(3)]
    assert rewards.Contrast()(answers, video_id=["c", "c"], copy_of=["gone", "gone"]) == [None, None]
    assert rewards.Contrast()(answers, [4.0, 4.0], video_id=["c", "c"]) == [None, None]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"eps=0: must be positive"):
        rewards.Contrast(eps=0)
    with pytest.raises(ValueError, match="video_id is missing"):
        rewards.Contrast()([ANSWER.format(4)], copy_of=[None])
    with pytest.raises(ValueError, match="copy_of has 2 entries for 1 completions"):
        rewards.Contrast()([ANSWER.format(4)], video_id=["a"], copy_of=[None, None])


LADDER = {  # video: rank, scores of its answers
    "mild": (23.0, [4.0, 3.6]),
    "middle": (27.0, [3.0, 3.4]),
    "hard": (35.0, [2.0, 2.5]),
    "unread": (40.0, [1.5]),
}


def ladder_rows(ladder=LADDER, name="park"):
    """Answers, names, ladders and ranks, rows of different rungs in turns."""
    rows = [
        (ANSWER.format(scores[place]), video, name, rank)
        for place in range(2)
        for video, (rank, scores) in ladder.items()
        if place < len(scores)
    ]
    completions, videos, ladders, ranks = map(list, zip(*rows, strict=True))
    return completions, {"video_id": videos, "ladder": ladders, "rank": ranks}


def slow_order(own, other, better):
    """Every answer's fidelity, one by one, with scipy's Phi."""
    sign = 1 if better else -1
    spread = math.sqrt(np.var(own, ddof=1) + np.var(other, ddof=1) + 0.01)
    return np.array([math.sqrt(norm.cdf(sign * (score - np.mean(other)) / spread)) for score in own])


@pytest.mark.parametrize(("min_difference", "pairs"), [(0, "all"), (8, "far"), (13, "none")])
def test_a_rung_is_paid_for_its_order_against_the_others_of_its_ladder(min_difference, pairs):
    mild, middle, hard = (scores for _, scores in list(LADDER.values())[:3])
    far = {
        "mild": slow_order(mild, hard, True),
        "middle": slow_order(middle, hard, True),
        "hard": (slow_order(hard, mild, False) + slow_order(hard, middle, False)) / 2,
    }
    close = {
        "mild": slow_order(mild, middle, True),
        "middle": slow_order(middle, mild, False),
    }
    expected = far | {name: (far[name] + values) / 2 for name, values in close.items()} if pairs == "all" else far
    completions, columns = ladder_rows()
    values = rewards.Contrast(perturbed=False, min_difference=min_difference)(completions, **columns)
    for name in LADDER:
        found = [v for v, other in zip(values, columns["video_id"], strict=True) if other == name]
        unpaid = pairs == "none" or name not in expected  # "unread" has one score: no spread
        assert found == [None] * len(found) if unpaid else found == pytest.approx(expected[name].tolist())


def test_rungs_of_other_ladders_copies_and_other_rows_do_not_meet():
    completions, columns = ladder_rows()
    alone = rewards.Contrast(perturbed=False)(completions, **columns)
    more = {
        "video_id": ["c", "c", "far", "far", "plain", "plain"],
        "ladder": [None, None, "lake", "lake", None, None],
        "rank": [None, None, 5.0, 5.0, None, None],
    }
    both = {name: values + more[name] for name, values in columns.items()}
    copy_of = [None] * len(completions) + ["mild", "mild"] + [None] * 4
    texts = completions + [ANSWER.format(score) for score in (3.0, 4.5, 2, 2, 3, 3)]
    copies = rewards.contrast_fidelity([4.0, 3.6], [3.0, 4.5])
    assert rewards.Contrast()(texts, copy_of=copy_of, **both) == [*alone, *copies, None, None, None, None]
    order, contrast = rewards.named_rewards("order,contrast").rewards  # each pays its own
    assert order(texts, copy_of=copy_of, **both) == [*alone] + [None] * 6
    assert contrast(texts, copy_of=copy_of, **both) == [None] * len(alone) + copies + [None] * 4
    assert (order.needs_perturbed, order.trains_copies, order.compares_rungs, order.compares_videos) == (0, 0, 1, 1)
    assert (contrast.trains_copies, contrast.compares_rungs, contrast.compares_videos) == (1, 0, 0)
    rung, copy = {"ladder": "park", "rank": 23.0}, {"copy_of": "mild", "ladder": None}
    assert [r.applies(row) for r in (order, contrast, rewards.Contrast()) for row in (rung, copy, {})] == [
        True, False, False, False, True, False, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": None}, "rank is missing"),
        ({"rank": [23.0, None]}, r"row 1 has ladder='park' and rank=None: a rung has both, any other row neither"),
        ({"ladder": ["park", None]}, r"row 1 has ladder=None and rank=27\.0"),
        ({"rank": [23.0, "27"]}, r"rank\[1\]='27': the rank of a rung must be a finite number"),
        ({"rank": [math.nan, 27.0]}, r"rank\[0\]=nan"),
    ],
)
def test_rungs_that_say_half_are_refused(changes, message):
    columns = {"video_id": ["a", "b"], "ladder": ["park", "park"], "rank": [23.0, 27.0]} | changes
    with pytest.raises(ValueError, match=message):
        rewards.Contrast()([ANSWER.format(4)] * 2, **columns)


def test_a_contrast_that_pays_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing is left to pay for"):
        rewards.Contrast(perturbed=False, ladders=False)
    with pytest.raises(ValueError, match="min_difference=-1: must be at least 0"):
        rewards.Contrast(min_difference=-1)

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

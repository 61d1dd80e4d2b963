"""Pairwise rewards of other papers, against numbers computed by hand."""

import math

import pytest

import rewards

ANSWER = "<think>a</think><answer>{}</answer>"
SCORES = {"a": (4.0, 3.0), "b": (3.0, 2.0), "c": (2.5, 3.5), "unlabelled": (5.0, 1.0), "unread": ("?", "none")}
MOS = {"a": 4.0, "b": 2.0, "c": 2.0, "unlabelled": None, "unread": 1.0}


def batch(scores=SCORES, mos=MOS):
    names = [name for name in scores for _ in scores[name]]
    return [ANSWER.format(score) for own in scores.values() for score in own], {
        "video_id": names, "mos": [mos[name] for name in names]
    }  # fmt: skip


def test_preference_pays_the_word_alone():
    answers = ["first; 3.42; 2.87", " Second ; 1; 2", "similar", "both", "first", "3.42; first"]
    better = ["first", "first", "similar", "similar", None, "first"]
    texts = [ANSWER.format(answer) for answer in answers]
    reward = rewards.Preference()
    assert reward(texts, better=better) == [1.0, 0.0, 1.0, 0.0, None, 0.0]
    assert reward(["no block", "<answer>second</answer><answer>first</answer>"], better=["first"] * 2) == [0.0, 1.0]
    assert reward(texts) == [None] * 6 and reward.applies({"better": "first"}) and not reward.applies({"mos": 3.0})
    with pytest.raises(ValueError, match=r"better=\['A'\]: a label must be one of"):
        reward(texts[:1], better=["A"])


def test_cp_llms_rank_term():
    assert rewards.product_hinge(0.5, 2.0) == rewards.product_hinge(0.0, 2.0) == rewards.product_hinge(-1.0, 0.0) == 0
    assert rewards.product_hinge(-1.5, 2.0) == rewards.product_hinge(1.5, -2.0) == 3.0
    texts, columns = batch()
    # Means: a 3.5, b 2.5, c 3.0. No answer lies on the wrong side of another clip's mean: a's 3 and c's 3.5 are level
    # with those of c and a, and the labels of b and c are equal.
    values = rewards.ProductHinge()(texts, **columns)
    assert values == [1.0] * 6 + [None] * 4
    texts, columns = batch({"a": (4.0, 2.0), "b": (3.0, 2.5)})
    # a: 2.0 lies 0.75 below b's mean of 2.75, labels differ by 2. b: 3.0 and 2.5 against a's mean of 3.0.
    assert rewards.ProductHinge()(texts, **columns) == [1.0, 1 - 1.5 / 16, 1.0, 1.0]
    texts, columns = batch({"a": (1.0, 1.0), "b": (5.0, 5.0)}, {"a": 5.0, "b": 1.0})
    assert rewards.ProductHinge()(texts, **columns) == [0.0] * 4
    assert rewards.ProductHinge(span=2)(texts, **columns) == [0.0] * 4  # at least 0


def test_bradley_terry_with_ties_is_a_distribution_and_videoaligns_loss():
    for d in (-4.0, -1.0, 0.0, 0.3, 2.5):
        chances = [rewards.tie_likelihood(d, outcome) for outcome in (1, 0, -1)]
        assert sum(chances) == pytest.approx(1)

        def log_sigmoid(x):
            return -math.log1p(math.exp(-x))

        both = -log_sigmoid(d - math.log(5)) - log_sigmoid(-d - math.log(5)) - math.log(5**2 - 1)
        losses = [-log_sigmoid(d - math.log(5)), both, -log_sigmoid(-d - math.log(5))]
        assert [-math.log(chance) for chance in chances] == pytest.approx(losses)
    assert [rewards.tie_likelihood(0, outcome) for outcome in (1, 0)] == pytest.approx([1 / 6, 2 / 3])


def test_bradley_terry_pays_what_the_labels_say():
    texts, columns = batch()
    better, tie = rewards.tie_likelihood, lambda d: rewards.tie_likelihood(d, 0)
    expected = [
        (better(4 - 2.5, 1) + better(4 - 3.0, 1)) / 2,
        (better(3 - 2.5, 1) + better(3 - 3.0, 1)) / 2,
        (better(3 - 3.5, -1) + tie(3 - 3.0)) / 2,
        (better(2 - 3.5, -1) + tie(2 - 3.0)) / 2,
        (better(2.5 - 3.5, -1) + tie(2.5 - 2.5)) / 2,
        (better(3.5 - 3.5, -1) + tie(3.5 - 2.5)) / 2,
    ]
    found = rewards.BradleyTerry()(texts, **columns)
    assert found[:6] == pytest.approx(expected) and found[6:] == [None] * 4
    assert rewards.BradleyTerry(tie=2)(texts, **columns)[0] == pytest.approx((tie(1.5) + tie(1.0)) / 2)


@pytest.mark.parametrize("reward", [rewards.ProductHinge(), rewards.BradleyTerry()], ids=lambda r: r.__name__)
def test_what_there_is_to_compare(reward):
    texts, columns = batch({"a": (4.0, 3.0)})
    assert reward(texts, **columns) == [None, None] and reward.compares_videos
    assert reward.applies({"mos": 3.0}) and not reward.applies({"mos": None})
    with pytest.raises(ValueError, match="video_id is missing"):
        reward(texts, mos=[1.0, 1.0])
    named = rewards.named_rewards(reward.__name__).rewards[0]
    assert type(named) is type(reward)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rewards.ProductHinge(span=0), "span=0: must be positive"),
        (lambda: rewards.BradleyTerry(k=1), "k=1: must be above 1"),
        (lambda: rewards.BradleyTerry(tie=-0.1), "tie=-0.1: must be at least 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Rewards by name or place, what they declare, and the columns that they need."""

import sys

import pytest

import rewards
from rewards.reward import missing_columns

OWN = """
def concise(completions, **columns):
    return [float(len(text.split()) <= 80) for text in completions]


class Sharp:
    __name__ = "sharp"

    def __call__(self, completions, mos, sharpness, **columns):
        return [None if value is None else float(value) for value in sharpness]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_own_rewards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_own_rewards"
    sys.modules.pop("my_own_rewards", None)


@pytest.mark.parametrize("name", list(rewards.REWARDS))
def test_every_name_makes_the_reward_of_that_name(name):
    rubric = rewards.named_rewards(f"{name}=0.25")
    assert rubric.names == [name] and rubric.weights == [0.25]
    assert isinstance(rubric.rewards[0], rewards.Reward)


def test_names_are_those_of_the_recommended_preset():
    named, preset = rewards.named_rewards("format,regression,rank,temporal"), rewards.preset("recommended")
    answers = [
        "<think>a</think><answer>4.2</answer>",
        "<answer>3.9</answer>",
        "<think>a</think><answer>1.5</answer>",
        "-",
    ]
    batch = {"mos": [4.3, 4.3, 1.6, 1.6], "video_id": list("aabb"), "perturbed_completions": answers[::-1]}
    assert named.score(answers, **batch).rewards == preset.score(answers, **batch).rewards


def test_ones_own_are_found_by_their_place(own):
    rubric = rewards.named_rewards(["format", f"{own}:concise=0.5", f"{own}:Sharp"])
    assert rubric.names == ["format", "concise", "sharp"] and rubric.weights == [1, 0.5, 1]
    table = rubric.score(["a b"], mos=[3.0], video_id=["a"], sharpness=["0.5"])
    assert table.rewards["sharp"] == [0.5] and table.total == [0.5 + 0.5 + table.rewards["format"][0]]
    assert missing_columns(rubric.rewards[2], ["video", "video_id", "mos"]) == ["sharpness"]
    assert missing_columns(rubric.rewards[2], ["sharpness"]) == [] == missing_columns(rewards.Ranking(), [])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("colour", r"reward 'colour' is unknown: choose among \['bradley_terry', 'choice'"),
        ("format,regresion", r"reward 'regresion' is unknown: did you mean regression\? They are \['bradley_terry'"),
        ("math:pi", "reward 'math:pi': 3.14159.* is not a reward: it must be callable and have a `__name__`"),
        ("no.such:thing", "No module named 'no'"),
        ("math:nothing", "has no attribute 'nothing'"),
        ("format=much", "'format=much' must be NAME=WEIGHT with a finite number, e.g. format=0.5"),
        ("format=inf", "must be NAME=WEIGHT with a finite number"),
        ("", "rewards is empty"),
        ("format,format", r"two rewards are named \['format'\]"),
    ],
)
def test_entries_that_name_nothing_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        rewards.named_rewards(entries)


def declared(**attributes):
    def reward(completions, **columns):
        return [1.0] * len(completions)

    for name, value in attributes.items():
        setattr(reward, name, value)
    return reward


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (
            declared(need_perturbed=True),
            ValueError,
            "declares need_perturbed, which nothing reads: did you mean needs_pert",
        ),
        (declared(compares_video=False), ValueError, "did you mean compares_videos"),
        (declared(trains_copies="yes"), ValueError, "has trains_copies='yes': it must be True or False"),
        (rewards.Format, TypeError, r"'Format' is a class: give an instance, Format\(\)"),
        (lambda texts: texts, TypeError, "does not accept `completions`"),
        (3, TypeError, "3 is not a reward"),
    ],
)
def test_what_is_declared_wrongly_is_refused(reward, error, message):
    with pytest.raises(error, match=message):
        rewards.Rubric([reward])


def test_what_is_declared_rightly_is_taken():
    rewards.Rubric([declared(needs_perturbed=True, strict=True, floor=0.0)])

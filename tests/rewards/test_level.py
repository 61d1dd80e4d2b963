import pytest

import rewards
from rewards import LEVEL_WORDS, level_of, parse_level


def test_levels_are_those_of_vqa2s_rule():
    """floor(5 m) + 1 with m = (mos - 1) / 4; bounds belong to the upper level, m = 1 to the fifth."""
    bounds = [1 + 4 * m for m in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    assert [level_of(bound) for bound in bounds] == [1, 2, 3, 4, 5, 5]
    assert [level_of(bound - 1e-6) for bound in bounds[1:]] == [1, 2, 3, 4, 5]
    assert [level_of(1 + 0.04 * mos) for mos in (20, 40, 60, 80)] == [2, 3, 4, 5]  # as linear:0,100 rescales
    for mos in (0.99, 5.01, float("nan")):
        with pytest.raises(ValueError, match=f"mos {mos} has no level"):
            level_of(mos)


@pytest.mark.parametrize(
    ("answer", "level", "status"),
    [
        ("<answer>The quality of the video is Good.</answer>", 4, "ok"),
        ("<answer>low</answer><answer>HIGH</answer>", 5, "ok"),
        ("<think>good</think><answer>not good, poor</answer>", 2, "ok"),
        ("<think>good</think>", None, "no_answer"),
        ("<answer>excellent</answer>", None, "no_level"),
        ("<answer>between fair and good</answer>", None, "several"),
    ],
)
def test_the_level_is_that_of_the_word_in_the_last_answer(answer, level, status):
    assert parse_level(answer, LEVEL_WORDS["vqa2"]) == rewards.ParsedLevel(level, status)


def test_the_reward_falls_with_the_distance():
    words = [list(LEVEL_WORDS["itu"])] * 5
    said = [f"<answer>{word}</answer>" for word in ("excellent", "good", "bad", "nice", "fair")]
    logged = {}
    values = rewards.Level()(
        said, level=[5, 5, 5, 5, None], level_words=[*words[:4], None], log_metric=logged.__setitem__
    )
    assert values == [1, 0.75, 0, 0, None] and logged == {"level_unparsable": 0.25}
    assert rewards.Level()(said) == [None] * 5
    assert rewards.Level().applies({"level": 3, "level_words": words[0]}) and not rewards.Level().applies({"level": 3})
    with pytest.raises(ValueError, match=r"level=6: must be 1 \(worst\) to 5 \(best\)"):
        rewards.Level()(said[:1], level=[6], level_words=words[:1])  # VQA²'s files have such a level

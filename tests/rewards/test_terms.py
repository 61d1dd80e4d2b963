"""Key terms of answers in a policy's own words, and their F1 against a reference."""

import pytest

import rewards
from rewards.terms import STOP_WORDS, key_term_f1, key_terms


@pytest.mark.parametrize(
    "words",
    [
        "blur blurry blurred blurring blurriness Blurs BLUR",
        "noise noisy noises",
        "flicker flickers flickering flickered",
        "compression compressed compress",
        "artifact artefacts Artifacts",
        "colour color colours",
        "lag lags lagging laggy",
        "saturation saturated",
        "overexposed overexposure Overexposing",
        "exposure exposed",
        "ﬂicker flicker",  # a ligature
    ],
)
def test_forms_of_a_word_are_one_term(words):
    assert len(key_terms(words)) == 1


def test_what_counts_as_a_term():
    assert key_terms("In the video, there is NO blur!") == {"no", "blur"}
    assert len(key_terms("overexposure underexposed exposure")) == 3
    assert key_terms("3.5 s, twice; 35") == {"3.5", "s", "twic", "35"}
    assert key_terms("The clip is... of it.") == frozenset() and not {"no", "not", "without"} & STOP_WORDS


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("Strong noise in the sky", "There is strong noise in the sky.", 1),
        ("noise noise noise", "noise", 1),  # each term once
        ("noise, blur, flicker, lag", "noise", 2 * 1 / (4 + 1)),  # to name everything does not pay
        ("no blur", "blur", 2 / 3),
        ("", "noise", 0),
        ("It is.", "noise", 0),
        ("sharp", "noise", 0),
        ("noise", "It is what it is.", None),
    ],
)
def test_f1_of_distinct_terms(answer, reference, f1):
    assert key_term_f1(answer, reference) == (f1 if f1 is None else pytest.approx(f1))


def test_the_reward_pays_what_stands_in_the_answer():
    logged = {}
    reward = rewards.KeyTerms()
    answers = [
        "<think>noise</think><answer>blur</answer>",
        "<answer>Noise.</answer>",
        "noise",
        "<answer>1</answer>",
        "",
    ]
    reference = ["noise", "noise", "noise", None, "of it"]
    assert reward(answers, reference=reference, log_metric=logged.__setitem__) == [0, 1, 0, None, None]
    assert logged == {"key_terms_unanswered": 2 / 4}
    assert [reward.applies({"reference": text}) for text in ("noise", "of it", "", None)] == [True, False, False, False]
    assert reward(answers) == [None] * 5
    with pytest.raises(ValueError, match="reference has 1 entries for 5 completions"):
        reward(answers, reference=["noise"])

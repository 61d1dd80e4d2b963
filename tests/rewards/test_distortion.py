import pytest

from rewards import Distortion
from rewards.distortion import DEGREES, degree, named_distortions, parse_distortions

SEVERE = "<think>I see severe blur and slight frame drop late. Overall bad.</think><answer>1.20</answer>"


def score(text, kind, severity, **options):
    return Distortion(**options)([text], kind=[kind], severity=[severity])[0]


def test_the_reasoning_is_read_and_nothing_else():
    assert named_distortions(SEVERE) == {"blur": "severe", "frame drop": "slight"}
    assert named_distortions("<think>Moderate Frame_Drop, some noise</think> blur <answer>2</answer>") == {
        "noise": None,
        "frame drop": "moderate",
    }
    assert named_distortions("<think>no blurring, unnoised</think>") == {}
    assert named_distortions("<think>severe blur<answer>1</answer>") == {}  # never closed
    assert [degree(s) for s in (0, 0.2, 0.5, 0.79, 1.0)] == list(DEGREES)


def test_kind_and_degree_pay_half_each():
    assert score(SEVERE, "blur+frame_drop", "0.9+0.3") == 1.0
    assert score(SEVERE, "blur+frame_drop", "0.7+0.1") == 1.0  # one level away still counts
    assert score(SEVERE, "blur+frame_drop", "0.1+0.3") == 0.75
    assert score("<think>blur</think>", "blur", 0.5) == 0.5
    assert score("<think>strong noise</think>", "blur", 0.5) == 0.0
    assert score("<think></think><answer>3</answer>", "blur", 0.5) == 0.0


def test_naming_everything_does_not_pay():
    everything = "<think>" + ", ".join(f"moderate {k}" for k in Distortion().kinds) + "</think>"
    assert score(everything, "blur", 0.5) < 0.3 < score("<think>moderate blur</think>", "blur", 0.5)


def test_clips_without_labels_are_not_scored_and_other_names_can_be_given():
    assert Distortion()([SEVERE, SEVERE], kind=["", None], severity=["", None]) == [None, None]
    assert score("<think>slight flicker</think>", "flicker", 0.3, kinds=["flicker", "blur"]) == 1.0
    assert score("<think>slight flicker, severe blur</think>", "flicker", 0.3, kinds=["flicker", "blur"]) < 1.0


def test_bad_input_names_value_rule_and_fix():
    with pytest.raises(ValueError, match="kind"):
        Distortion()([SEVERE])
    twice = ("blur+blur", "0.1+0.2")
    for kind, severity in (("blur", ""), ("blur", "2"), twice, ("blur+noise", "0.5"), ("blur", None)):
        with pytest.raises(ValueError, match="one severity from 0 to 1 per kind"):
            parse_distortions(kind, severity)
    with pytest.raises(ValueError, match="kinds is empty"):
        Distortion([])

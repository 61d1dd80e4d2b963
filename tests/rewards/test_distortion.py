import time

import pytest

from rewards import Distortion
from rewards.distortion import DEGREES, degree, named_distortions, parse_distortions
from rewards.naming import faults_named

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


@pytest.mark.parametrize(
    "text",
    [
        *("no blur", "without noise", "free of banding", "not blurry", "neither noise nor blur", "blur is absent"),
        *(
            "no noise, blur or banding",
            "no blur and noise in the frames",
            "without noise and without blur",
            "no blur/noise",
        ),
        *("no visible banding effects or blur", "no faults, such as blur or noise", "no faults (blur, noise)"),
        *(
            "I do not see any blur or noise",
            "it doesn't suffer from blur",
            "I cannot see noise",
            "there isn\u2019t any blur",
        ),
        *("blur and noise are not present", "blur isn't really noticeable", "noise is no longer visible", "blur: none"),
        *(
            "noise is not visible, nor is blur",
            "blur is nowhere to be seen",
            "blur-free",
            "lacks noise",
            "never blurry",
        ),
        *("low noise", "Noise is absent, with minimal blur", "negligible blur", "little blur or noise", "low-noise"),
        *("absence of blur or noise", "not clearly visible blur", "does not look noisy or blurry", "blur? no."),
        *("does not appear to be blurry", "none of the frames is blurry", "no part of the frame has visible noise"),
        *("not a single frame shows signs of blur", "nothing is noisy", "zero noise", "non-blurry", "blur absent"),
        *("blur, noise and banding are all absent", "noise not visible"),
    ],
)
def test_what_is_denied_is_not_named(text):
    assert faults_named(text, ["blur", "noise", "banding"]) == {}
    assert faults_named(f"Overall good. {text.capitalize()}; but blur late", ["blur", "noise", "banding"]) == {
        "blur": None
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("not only blur but also noise", "blur noise"),
        ("no noise and severe blur", "blur"),
        ("no noise, slight blur", "blur"),
        ("no noise, blur is strong", "blur"),
        ("no noise and the blur is severe", "blur"),
        ("there is no noise and blur dominates", "blur"),
        ("no noise with slight blur", "blur"),
        ("no visible noise in the first half, severe blur in the second", "blur"),
        ("no artifacts, blur everywhere", "blur"),
        ("lack of detail and blur", "blur"),
        ("not sharp, blur everywhere", "blur"),
        ("not sharp because of blur", "blur"),
        ("not sharp and blurry", "blur"),
        ("not blurry but noisy", "noise"),
        ("noise rather than blur", "noise"),
        ("no doubt: blur. No fault except noise", "blur noise"),
        ("not without blur, not free of noise", "blur noise"),
        ("nothing but blur", "blur"),
        ("a little blur", "blur"),
        ("low light noise, little detail, blur", "blur noise"),
        ("blur is not severe; the noise is not the main problem", "blur noise"),
        ("noise is strong and blur is absent", "noise"),
        ("No, there is blur", "blur"),
        ("no motion blur, slight blur", "blur"),
        ("no detail is kept in blurred areas", "blur"),
        ("no frame is sharp and blur dominates", "blur"),
        ("not all frames are blurry, all show noise", "blur noise"),
        ("non-uniform noise, details missing in the blur", "noise blur"),
        ("severe motion blur", "motion blur"),
    ],
)
def test_a_denial_reaches_no_farther_than_it_is_meant_to(text, named):
    expected = {"motion blur"} if named == "motion blur" else set(named.split())
    assert faults_named(text, ["blur", "noise", "banding", "motion blur"]).keys() == expected


def test_the_first_mention_that_is_not_denied_has_the_degree():
    text = "<think>No severe blur early, slightly blurry late. Dropped frames, not stutter.</think>"
    assert named_distortions(text) == {"blur": "slight", "frame drop": None}
    assert score("<think>moderate blur, no noise, no stutter</think>", "blur", 0.5) == 1.0


def test_reading_is_linear_in_the_text():
    parts = ("blur, ", "no ", "no visible banding, ", "or blur and ", "no artifacts, w, ", "blur in the ")
    start = time.process_time()
    for part in parts:
        faults_named(part * 5000, ["blur", "noise"])
    assert time.process_time() - start < 5

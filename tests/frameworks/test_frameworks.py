"""Each adapter in the framework it is for, by the framework's own loader: it pays what the rewards pay directly.

`make test-frameworks`; each framework has an environment of its own, see `environments.py`.
"""

import json

import pytest

from rewards import Format, Ranking, Regression

pytestmark = pytest.mark.framework

ANSWERS = [f"<think>a</think><answer>{score}</answer>" for score in (4.21, 3.95, 1.52, 2.1)] + ["I cannot tell."]
MOS, CLIPS = [4.3, 4.3, 1.6, 1.6, 1.6], ["a", "a", "b", "b", "b"]
LABELS = [4.3, "4.3", json.dumps({"mos": 1.6, "video_id": "b"}), {"mos": 1.6}, 1.6]
FORMAT = Format(strict=True)(ANSWERS)
REGRESSION = [value or 0.0 for value in Regression()(ANSWERS, MOS)]
RANK = Ranking()(ANSWERS, MOS, video_id=CLIPS)
SUMS = [a + b for a, b in zip(FORMAT, REGRESSION, strict=True)]
GIVEN = {"answers": ANSWERS, "mos": MOS, "video_id": CLIPS, "labels": LABELS}


def close(values):
    return pytest.approx(values, abs=1e-6)


def test_the_values_that_the_frameworks_are_held_to():
    assert FORMAT == [1, 1, 1, 1, 0]
    assert REGRESSION == close([0.983931, 0.782705, 0.987282, 0.606531, 0])  # exp(-2 d^2), d = 0.09, 0.35, 0.08, 0.5
    assert all(value > 0.9 for value in RANK[:4]) and RANK[4] is None


def test_openrlhf_pays_by_file(run):
    found, output = run("openrlhf", GIVEN)
    assert [row["reward"] for row in found["paid"]] == close(SUMS)  # the text ends with <|im_end|> there
    assert [row["scores"] for row in found["paid"]] == close(SUMS)
    assert [row["extra_logs"]["format"] for row in found["paid"]] == FORMAT
    assert [row["extra_logs"]["regression"] for row in found["paid"]] == close(REGRESSION)
    assert found["ended"].startswith("RewardError: no reward can be paid, the run ends: ValueError: label ''")
    assert "which rank, temporal cannot be paid for: left out" in output


def test_verifiers_pays_by_a_function_of_the_configuration(run):
    found, output = run("verifiers", GIVEN)
    assert [row["reward"] for row in found["paid"]] == close(SUMS)
    assert [(row["format"], row["regression"]) for row in found["paid"]] == [
        close(pair) for pair in zip(FORMAT, REGRESSION, strict=True)
    ]
    assert found["ended"].startswith("TaskError") and "none of ['regression'] can be paid for" in found["ended"]
    assert "which rank, temporal cannot be paid for: left out" in output


def test_verifiers_0_1_pays_by_a_rubric_and_never_a_silent_zero(run):
    found, _ = run("verifiers_v0", GIVEN)
    for how in ("alone", "grouped"):
        assert [row["reward"] for row in found[how]] == close(SUMS)
        assert [row["format"] for row in found[how]] == FORMAT
        assert [row["regression"] for row in found[how]] == close(REGRESSION)
    assert all(text.startswith("RewardError: no reward can be paid, the run ends") for text in found["ended"])
    assert found["bare"] == [0.0] * 5  # what the documentation warns of: a reward given to it as it is


def test_ms_swift_pays_by_a_plug_in(run):
    found, _ = run("ms_swift", GIVEN)
    missing = Regression()(ANSWERS, MOS)
    assert found["paid"]["vqa_format"] == FORMAT
    assert found["paid"]["vqa_regression"] == [value and close(value) for value in missing]
    assert found["paid"]["vqa_rank"] == [value and close(value) for value in RANK]
    assert found["paid"]["vqa_recommended"] == close(
        [a + (b or 0) + (c or 0) for a, b, c in zip(FORMAT, missing, RANK, strict=True)]
    )
    assert found["names"] == ["vqa_format", "vqa_regression", "vqa_rank", "vqa_recommended"]
    assert "which temporal cannot be paid for: leave it out" in found["refused"]
    assert found["hidden"] == []  # its loader puts the file's folder first on the path, where verl.py would hide verl


def test_verl_pays_by_its_reward_manager(run):
    found, output = run("verl", GIVEN)
    assert [row["reward_score"] for row in found["paid"]] == close(SUMS)
    assert [row["reward_extra_info"]["format"] for row in found["paid"]] == FORMAT
    assert [row["reward_extra_info"]["regression"] for row in found["paid"]] == close(REGRESSION)
    assert found["ended"].startswith("ValueError: a label has {'video_id': 'a'")
    assert "which rank, temporal cannot be paid for: left out" in output

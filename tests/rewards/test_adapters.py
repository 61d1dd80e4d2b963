"""The rewards in other trainers: labels from one column, what can be paid, numbers alone."""

import importlib.util
import json
import math
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

from rewards import Format, Ranking, Regression, Rubric, preset
from rewards.adapters.__main__ import NAMES, described
from rewards.adapters.__main__ import main as told
from rewards.adapters.core import label, pointwise, score, whole_batch

GOOD = "<think>a</think><answer>{}</answer>"
ANSWERS = [GOOD.format(value) for value in ("4.25", "3.75", "2.5")] + ["no idea"]
LABELS = [{"mos": mos, "video_id": name} for mos, name in ((4.25, "a"), (4.25, "a"), (2.0, "b"), (2.0, "b"))]
BELL = math.exp(-0.5)  # of an answer that is off by sigma, half a score
QUIET = pytest.mark.filterwarnings("ignore:the trainer sees")


def by_path(name):
    """An adapter as trainers load it that take a file: a module outside any package."""
    spec = importlib.util.spec_from_file_location("custom_module", described(name).splitlines()[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        (3, {"mos": 3.0}),
        ("3.4", {"mos": 3.4}),
        ('{"mos": "3.4", "video_id": 7}', {"mos": 3.4, "video_id": 7}),
        ({"answer": "B", "options": ["Yes", "No"]}, {"answer": "B", "options": ["Yes", "No"], "mos": None}),
    ],
)
def test_a_label_is_a_number_or_columns(value, columns):
    assert label(value) == columns


@pytest.mark.parametrize(
    "value", [None, "good", "", "NaN", float("inf"), True, [3.4], "[3.4]", {"mos": "good"}, "null"]
)
def test_what_is_no_label_is_refused(value):
    with pytest.raises(ValueError, match="must be a finite MOS"):
        label(value)


def test_a_label_with_a_key_of_the_trainers_is_refused():
    with pytest.raises(ValueError, match=r"\['completions'\] is what rewards get from the trainer"):
        label({"mos": 3, "completions": "x"})


def test_a_preset_leaves_out_what_cannot_be_paid_and_says_so():
    pointwise.cache_clear(), whole_batch.cache_clear()
    with pytest.warns(
        UserWarning, match=r"one answer at a time, so rank, temporal of preset 'official' cannot be paid: left out"
    ):
        assert pointwise("official").names == ["format", "regression"]
    with pytest.warns(
        UserWarning, match=r"without perturbed copies, so temporal of preset .* Paid are \['format', 'regression'"
    ):
        assert whole_batch().names == ["format", "regression", "rank"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pointwise("format=2,choice").weights == [2, 1]
        assert pointwise("official").names == ["format", "regression"]  # said once


@pytest.mark.parametrize(
    ("make", "rewards", "message"),
    [
        (pointwise, "format,rank", "one answer at a time, so rank cannot be paid: leave it out"),
        (pointwise, preset("paper"), "so rank, temporal cannot be paid: leave them out"),
        (pointwise, "format,order", "so order cannot"),
        (pointwise, "product_hinge,bradley_terry", "so product_hinge, bradley_terry cannot"),
        (whole_batch, "format,contrast", "without perturbed copies, so contrast cannot"),
        (whole_batch, "format,temporal", "so temporal cannot"),
        (pointwise, "format,colour", "reward 'colour' is unknown"),
        (pointwise, Rubric([Format(name="score")]), "a reward is named 'score'"),
    ],
)
def test_rewards_asked_for_by_name_are_refused_where_they_cannot_be_paid(make, rewards, message):
    with pytest.raises(ValueError, match=message):
        make(rewards)
    with pytest.raises(ValueError, match="missing='never'"):
        make(rewards, missing="never")


def test_a_misspelt_preset_is_answered_with_the_presets():
    with pytest.raises(
        ValueError, match="rewards 'recomended': no preset, as paper, official, recommended, and no reward"
    ):
        pointwise("recomended")


def test_nothing_left_to_pay_is_refused_in_any_case():
    with pytest.raises(ValueError, match="so rank cannot"):
        pointwise(Rubric([Ranking()]), missing="leave out")


def test_answers_earn_numbers_and_nothing_else():
    rubric = Rubric([Format(strict=True), Regression()], [0.5, 2])
    found = score([*ANSWERS, ANSWERS[0] + "<|im_end|>"], [4.25, "4.25", '{"mos": 2.0}', 2, LABELS[0]], rubric)
    assert [row["format"] for row in found] == [1, 1, 1, 0, 1]
    assert [row["regression"] for row in found] == pytest.approx([1, BELL, BELL, 0, 1])
    assert [row["score"] for row in found] == pytest.approx([2.5, 0.5 + 2 * BELL, 0.5 + 2 * BELL, 0, 2.5])
    assert score([], [], rubric) == []


def test_a_reward_of_ones_own_keeps_its_floor():
    class Sure(Regression):
        floor = -1.0

    [unread, question] = score(
        ["no idea", GOOD.format("B")],
        [3, {"answer": "B", "options": ["Yes", "No"]}],
        Rubric([Sure(), *pointwise("choice").rewards]),
    )
    assert unread == {"score": -1.0, "regression": -1.0, "choice": 0.0}
    assert question == {"score": 1.0, "regression": 0.0, "choice": 1.0}


@pytest.mark.parametrize(
    ("labels", "rewards", "message"),
    [
        ([3.4], "format", "1 labels for 4 answers"),
        ([{"MOS": 3.4}] * 4, "format,regression", r"a label has {'MOS': 3.4}: none of \['regression'\] can be paid"),
        ([3.4] * 4, "format,rank", "a label has no video_id, by which rank tells clips apart"),
        ([{"mos": 3, "video_id": "a"}] * 4, "rank", "the batch holds 1 video"),
        ([62.5] * 4, "format,regression", r"mos\[0\]=62.5: labels must be on the scale of the scores, 1 to 5"),
    ],
)
def test_labels_that_pay_for_nothing_are_refused(labels, rewards, message):
    with pytest.raises(ValueError, match=message):
        score(ANSWERS, labels, whole_batch(rewards))


@QUIET
def test_a_validation_with_one_answer_to_a_clip_leaves_the_ranking_out():
    with pytest.warns(UserWarning, match="no clip of this batch has two answers, as in a validation: rank left out"):
        found = score(ANSWERS[1:3], LABELS[1:3], whole_batch())
    assert found == [{"score": 1 + BELL, "format": 1.0, "regression": BELL}] * 2


@QUIET
def test_verl_pays_an_answer_by_name_of_the_package_and_by_its_path():
    modules = [import_module(f"{name}.adapters.verl") for name in ("rewards", "vqathinker.rewards")]
    assert modules[0] is modules[1]
    given = {"data_source": "mine", "solution_str": ANSWERS[1], "reward_router_address": None}
    for module in (modules[0], by_path("verl")):
        pay = module.compute_score
        assert pay(**given, ground_truth=4.25) == {"score": 1 + BELL, "format": 1.0, "regression": BELL}
        assert pay(**given, ground_truth="", extra_info={"mos": 3.75, "num_turns": None})["score"] == 2
        assert pay(**given, ground_truth="3.75", extra_info={"video_id": None})["score"] == 2
        assert pay(**given, ground_truth='{"mos": 3.75}', extra_info={"mos": 1.0})["score"] == 2
        assert pay(**given, ground_truth="3.75", rewards="regression=0.5")["score"] == 0.5
        with pytest.raises(ValueError, match="so rank cannot be paid"):
            pay(**given, ground_truth="3.75", rewards="rank")
        with pytest.raises(TypeError, match="reward"):
            pay(**given, ground_truth="3.75", reward="official")


@QUIET
def test_whole_batches_earn_what_the_rubric_says():
    table = preset("recommended").score(ANSWERS, [x["mos"] for x in LABELS], [x["video_id"] for x in LABELS])
    clips = [ANSWERS[0], ANSWERS[1], ANSWERS[2], GOOD.format("2.25")]
    ranked = preset("recommended").score(clips, [x["mos"] for x in LABELS], [x["video_id"] for x in LABELS])
    easyr1, verl = by_path("easyr1"), by_path("verl")
    assert easyr1.REWARD_TYPE == "batch"
    for texts, expected in ((ANSWERS, table), (clips, ranked)):
        given = [
            {"response": text, "response_length": 9, "ground_truth": json.dumps(own)}
            for text, own in zip(texts, LABELS, strict=True)
        ]
        found = easyr1.main(given)
        assert list(found[0]) == ["overall", "format", "regression", "rank"]
        assert [row["overall"] for row in found] == pytest.approx(expected.total)
        batch = verl.compute_scores(["x"] * 4, texts, [x["mos"] for x in LABELS], LABELS)
        assert [row["score"] for row in batch] == [row["overall"] for row in found]
    nulls = {"video_id": None, "note": None}  # as parquet fills missing values in
    assert verl.columns("3.4", nulls) == verl.columns(3.4, nulls | {"mos": 1.0}) == {"mos": 3.4}
    assert min(row["rank"] for row in found) > 0.9  # in order
    assert easyr1.main(given, rewards="format,rank=0.5")[0]["overall"] == pytest.approx(1 + 0.5 * found[0]["rank"])


@pytest.mark.parametrize("package", ["rewards", "vqathinker.rewards"])
def test_the_command_prints_path_and_configuration(tmp_path, package):
    if package.startswith("vqathinker"):
        (tmp_path / "rewards.py").write_text("MINE = True\n")
    command = [sys.executable, "-m", f"{package}.adapters", "easyr1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path, *said = done.stdout.splitlines()
    assert path.endswith("rewards/adapters/easyr1.py") and f"    worker.reward.reward_function={path}:main" in said


def test_every_adapter_says_how_it_is_configured(capsys):
    assert {"easyr1", "verl", "verl_trainer"} <= set(NAMES)
    for name in NAMES:
        path, *said = described(name).splitlines()
        assert path.endswith(f"/{name}.py") and any(line.startswith("    ") for line in said), name
        assert "{path}" not in described(name), name
    assert told([]) == 0 and "verl_trainer" in capsys.readouterr().out
    assert told(["trl"]) == 2 and "'trl' must be one of" in capsys.readouterr().err


def test_a_misspelt_label_is_told_also_beside_a_reward_that_pays_every_row():
    def concise(completions, **columns):
        return [1.0] * len(completions)

    rubric = Rubric([Format(), Regression(), concise])
    with pytest.raises(ValueError, match=r"a label has \{'MOS': 3.0.*none of \['regression'\] can be paid for it"):
        score([GOOD.format(3)], [{"MOS": 3.0}], rubric)
    assert score([GOOD.format(3)], [{"mos": 3.0}], rubric)[0]["concise"] == 1.0


def test_comparisons_alone_need_two_answers_to_a_clip():
    with pytest.raises(ValueError, match="no clip of this batch has two answers, and rank need them"):
        score(ANSWERS[:2], [LABELS[0], LABELS[2]], Rubric([Ranking()]))

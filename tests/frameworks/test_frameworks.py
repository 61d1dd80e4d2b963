"""Each adapter in the framework it is for, by the framework's own loader: it pays what the rewards pay directly.

`make test-frameworks`; each framework has an environment of its own, see `conftest.py`.
"""

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from rewards import Format, Ranking, Regression
from rewards.adapters.__main__ import described

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
    bell = [0.983931, 0.782705, 0.987282, 0.606531, 0]  # exp(-2 d^2) of d = 0.09, 0.35, 0.08 and 0.5
    assert close(bell) == REGRESSION
    assert all(value > 0.9 for value in RANK[:4]) and RANK[4] is None


def test_openrlhf_pays_by_file(run):
    found, output = run("openrlhf", GIVEN)
    assert [row["reward"] for row in found["paid"]] == close(SUMS)  # the text ends with <|im_end|> there
    assert [row["scores"] for row in found["paid"]] == close(SUMS)
    assert [row["extra_logs"]["format"] for row in found["paid"]] == FORMAT
    assert [row["extra_logs"]["regression"] for row in found["paid"]] == close(REGRESSION)
    assert found["ended"].startswith("RewardError: no reward can be paid, the run ends: ValueError: label ''")
    assert "so rank, temporal of preset 'recommended' cannot be paid: left out" in output


def test_verifiers_pays_by_a_function_of_the_configuration(run):
    found, output = run("verifiers", GIVEN)
    assert [row["reward"] for row in found["paid"]] == close(SUMS)
    assert [(row["format"], row["regression"]) for row in found["paid"]] == [
        close(pair) for pair in zip(FORMAT, REGRESSION, strict=True)
    ]
    assert found["ended"].startswith("TaskError") and "none of ['regression'] can be paid for" in found["ended"]
    assert "so rank, temporal of preset 'recommended' cannot be paid: left out" in output


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
    assert "so temporal cannot be paid: leave it out" in found["refused"]
    assert found["absent"].startswith("vqa_regression needs the column mos, which the data set does not have")
    assert found["hidden"] == []  # its loader puts the file's folder first on the path, where verl.py would hide verl


def test_verl_pays_by_its_reward_manager(run):
    found, output = run("verl", GIVEN)
    assert [row["reward_score"] for row in found["paid"]] == close(SUMS)
    assert [row["reward_extra_info"]["format"] for row in found["paid"]] == FORMAT
    assert [row["reward_extra_info"]["regression"] for row in found["paid"]] == close(REGRESSION)
    assert found["ended"].startswith("ValueError: a label has {'video_id': 'a'")
    assert "so rank, temporal of preset 'recommended' cannot be paid: left out" in output


def test_the_command_of_ms_swift_trains_a_step(run_command, text_policy, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"rate {clip}"}], "mos": mos, "video_id": clip}
        for clip, mos in zip("ab", (4.3, 1.6), strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "rlhf_type": "grpo",
        "model": text_policy,
        "model_type": "qwen2",
        "template": "qwen",
        "tuner_type": "full",
        "torch_dtype": "float32",
        "use_cpu": "true",
        "dataset": "rows.jsonl",
        "split_dataset_ratio": "0",
        "beta": "0",
        "max_steps": "1",
        "num_generations": "2",
        "per_device_train_batch_size": "4",
        "gradient_accumulation_steps": "1",
        "max_completion_length": "8",
        "logging_steps": "1",
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": "out",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    plugins = [described("ms_swift").splitlines()[0], Path(__file__).parent / "programs" / "told_ms_swift.py"]
    rewards = ["vqa_format", "vqa_regression", "vqa_rank", "told_regression", "told_rank"]
    answers = json.dumps({"a": ANSWERS[:2], "b": ANSWERS[2:4]})
    command = ["swift", "rlhf", *arguments, "--external_plugins", *plugins, "--reward_funcs", *rewards]
    run_command("ms_swift", command, TOLD_ANSWERS=answers)
    [log] = tmp_path.glob("out/**/logging.jsonl")
    step = json.loads(log.read_text().splitlines()[0])
    assert step["rewards/vqa_format/mean"] == 0.0  # random weights: nothing parses; what has no value is not logged
    assert not {"rewards/vqa_regression/mean", "rewards/vqa_rank/mean"} & step.keys()
    assert step["rewards/told_regression/mean"] == close(sum(REGRESSION[:4]) / 4)
    assert step["rewards/told_rank/mean"] == close(sum(RANK[:4]) / 4)


def test_stock_trl_trains_with_a_rubric_and_ranks_across_processes(run_processes, text_policy):
    answers = {"a": ANSWERS[:2], "b": ANSWERS[2:4]}
    given = {"policy": str(text_policy), "answers": answers, "mos": {"a": 4.3, "b": 1.6}}
    found = run_processes("trl", given)
    paid = {name: [found["paid"][name][text] for text in ANSWERS[:4]] for name in ("told_rubric", "told_rank", "told")}
    assert paid["told_rubric"] == close([0.5 + value for value in REGRESSION[:4]])
    assert paid["told_rank"] == close(RANK[:4])
    assert paid["told"] == close([1 + a + b for a, b in zip(REGRESSION[:4], RANK[:4], strict=True)])
    logged = found["logged"]
    assert logged["rewards/told_rank/mean"] == close(sum(RANK[:4]) / 4)
    assert logged["rewards/rubric/mean"] == 0.0  # random weights: nothing parses, the format is wrong


def test_the_trainer_mode_of_verl_adds_what_compares_clips_before_the_advantages(run):
    found, _ = run("verl", GIVEN, program="verl_trainer")
    assert found["modes"] == ["sync"] * 3
    assert found["buffer"] == "ReplayBuffer"  # not ReplayBufferAsync, which verl takes for every other name
    assert found["prompts"] == 2  # a whole step: asynchronous modes ask for one prompt at a time

    rank = [value or 0.0 for value in RANK]
    sums = [alone + 0.5 * value for alone, value in zip(SUMS, rank, strict=True)]
    assert found["padding"] == [False] * 5 + [True]
    assert [row[-1] for row in found["paid"]] == close([*sums, 0.0])
    assert not any(any(row[:-1]) for row in found["paid"])
    groups = [sums[:2], sums[2:]]  # GRPO: (sum - mean) / standard deviation, of the answers to a prompt
    advantages = [(value - fmean(group)) / (stdev(group) + 1e-6) for group in groups for value in group]
    for row, value in zip(found["advantages"], [*advantages, 0.0], strict=True):
        assert row == pytest.approx([value] * len(row), abs=1e-4)
    assert found["metrics"]["rewards/rank/mean"] == close(sum(rank) / 5)

    refused = found["refused"]
    assert "Set it to pkg://rewards.adapters.verl_trainer" in refused["other function"]
    assert "an agent loop gave several outputs for one answer" in refused["two outputs"]
    assert "a step has 2 answers to 1 clips: rank needs" in refused["one clip"]
    assert "a step has 2 answers to 2 clips: rank needs" in refused["one answer each"]

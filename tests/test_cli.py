import json
import os
import subprocess
import sys

import pytest
import torch

from vqathinker.cli import main
from vqathinker.data import read_questions
from vqathinker.policy import load_policy


def write_answers(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def answer(video, mos, score, **more):
    text = f"<think>a</think><answer>{score}</answer>"
    return {"completion": text, "mos": mos, "video_id": video, **more}


def test_inspect_rewards_shows_every_reward_total_advantage_and_flat_groups(tmp_path, capsys):
    rows = [answer("a.mp4", 4, 4.01), answer("a.mp4", 4, 3.11), answer("b.mp4", 2, 2.11), answer("b.mp4", 2, 2.11)]
    rows[0]["perturbed_completion"] = "<answer>2.0</answer>"
    assert main(["inspect-rewards", write_answers(tmp_path / "x.jsonl", rows)]) == 0
    out = capsys.readouterr().out
    for word in ("format", "regression", "rank", "temporal", "total", "advantage", "completions 4"):
        assert word in out
    assert "warning: all answers to 'b.mp4' earn the same total" in out and "'a.mp4' earn" not in out


def test_inspect_rewards_scores_distortions_where_they_are_labelled(tmp_path, capsys):
    rows = [answer("a", 4, s) | {"kind": "blur", "severity": 0.2} for s in (4, 3)] + [answer("b", 2, s) for s in (2, 3)]
    rows[0]["completion"] = "<think>slight blur</think><answer>4.00</answer>"
    assert main(["inspect-rewards", write_answers(tmp_path / "x.jsonl", rows)]) == 0
    lines = capsys.readouterr().out.splitlines()
    column = lines[0].split().index("distortion")
    assert [line.split()[column] for line in lines[2:6]] == ["1.000", "0.000", "-", "-"]


def test_inspect_rewards_asks_for_what_it_can_be_given(tmp_path, capsys):
    rows = [answer("a", 4, s) | {"kind": "blur"} for s in (4, 3)] + [answer("b", 2, s) for s in (2, 3)]
    assert main(["inspect-rewards", write_answers(tmp_path / "x.jsonl", rows)]) == 0
    assert "distortion" not in capsys.readouterr().out  # it needs the severity too
    assert main(["inspect-rewards", write_answers(tmp_path / "x.jsonl", [rows[0] | {"mos": 73}])]) == 2
    assert "x.jsonl:1: mos 73: labels must be on the scale of the scores, 1 to 5" in capsys.readouterr().err


def test_inspect_rewards_takes_named_ones_and_ones_own(tmp_path, capsys, monkeypatch):
    (tmp_path / "some_rewards.py").write_text(
        "def long(completions, **columns):\n    return [9.0] * len(completions)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    rows = [{"completion": "<answer>3</answer>", "mos": 3.0, "video_id": "a"}] * 2
    file = write_answers(tmp_path / "x.jsonl", rows)
    assert main(["inspect-rewards", file, "--rewards", "regression=0.5", "some_rewards:long"]) == 0
    out = capsys.readouterr().out
    assert "regression" in out and "9.500" in out and "temporal" not in out
    assert main(["inspect-rewards", file, "--rewards", "colour"]) == 2
    assert "reward 'colour' is unknown" in capsys.readouterr().err


def test_inspect_rewards_pays_for_what_the_columns_of_a_file_say(tmp_path, capsys):
    rows = [{"completion": f"<answer>{n}</answer>", "video_id": "a", "answer_count": 3} for n in (3, 4)]
    rows += [{"completion": "<answer>1-2</answer>", "video_id": "b", "answer_interval": [0, 2]}]
    file = write_answers(tmp_path / "x.jsonl", rows)
    assert main(["inspect-rewards", file, "--rewards", "count", "when"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts, times = (lines[0].split().index(name) for name in ("count", "when"))
    assert [line.split()[counts] for line in lines[2:5]] == ["1.000", "0.368", "-"]
    assert [line.split()[times] for line in lines[2:5]] == ["-", "-", "0.500"]
    assert main(["inspect-rewards", file, "--rewards", "count", "where"]) == 2
    assert "reward 'where' applies to no row" in (said := capsys.readouterr().err) and "answer_box" in said
    assert main(["inspect-rewards", file, "--rewards", "count", "linear"]) == 2
    assert "lacks ['mos']" in capsys.readouterr().err


def test_inspect_rewards_needs_neither_torch_nor_trl(tmp_path, repo):
    file = write_answers(tmp_path / "x.jsonl", [answer("a", 4, s) for s in (4, 3)] + [answer("b", 2, 2)])
    code = (
        "import sys; from vqathinker.cli import main; "
        f"assert main(['inspect-rewards', {file!r}, '--preset', 'official']) == 0; "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repo, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: not valid JSON"),
        ('{"completion": "x", "mos": 3}', r"lacks ['video_id']"),
        ("[1]", "lacks"),
        ('{"completion": 5, "mos": 3, "video_id": "a"}', ":1: completion 5 must be str or list"),
        ('{"completion": "x", "mos": "abc", "video_id": "a"}', ":1: mos 'abc' must be"),
        ('{"completion": "x", "mos": true, "video_id": "a"}', ":1: mos True must be"),
        ('{"completion": "x", "mos": 67, "video_id": "a"}', ":1: mos 67: labels must be on the scale of the scores"),
        ("", "holds no answers"),
        ('{"completion": "x", "mos": 3, "video_id": "a"}', "1 video"),
    ],
)
def test_bad_answers_end_in_one_clear_line(tmp_path, capsys, text, message):
    (tmp_path / "x.jsonl").write_text(text)
    assert main(["inspect-rewards", str(tmp_path / "x.jsonl")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_synth_makes_a_set(tmp_path, capsys):
    assert main(["synth", "--out", str(tmp_path), "--splits", "train=4,val=2", "--frames", "4"]) == 0
    assert "train.csv" in capsys.readouterr().out and len(list(tmp_path.rglob("*.mp4"))) == 6
    for arguments, message in (
        (["--splits", "train=4"], "already holds spec.json, train.csv, videos/train"),
        (["--force", "--splits", "train"], "SPLIT=CLIPS"),
        (["--force", "--splits", "../up=2"], "names must be letters"),
        (["--force", "--source", "/nope"], "--source '/nope' is not a folder"),
    ):
        assert main(["synth", "--out", str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["synth", "--out", str(tmp_path), "--force", "--splits", "train=2", "--frames", "4"]) == 0
    assert len(list((tmp_path / "videos" / "train").glob("*.mp4"))) == 2
    own = tmp_path / "own" / "train.csv"  # no set of ours
    own.parent.mkdir()
    own.write_text("mine")
    assert main(["synth", "--out", str(own.parent)]) == 2 and own.read_text() == "mine"


def test_synth_makes_questions(tmp_path, capsys):
    command = ["synth", "--questions", "--out", str(tmp_path), "--splits", "train=3,test=2", "--size", "32"]
    assert main(command) == 0 and "test.jsonl" in capsys.readouterr().out
    assert len(read_questions(tmp_path / "train.jsonl", tmp_path)) >= 3 and (tmp_path / "train.csv").exists()
    for arguments, message in (
        ([], "already holds spec.json, train.jsonl, train.csv, videos/train, test.jsonl"),
        (["--force", "--ood", "2"], "Leave these options out"),
        (["--force", "--frames", "12"], "num_frames=12: must be 24 or more"),
    ):
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_init_makes_a_policy_and_says_what_is_wrong(tmp_path, capsys, base, internvl):
    out = tmp_path / "policy"
    assert main(["init", "--internvl", str(internvl), "--slowfast", "random", "--out", str(out)]) == 0
    policy, processor = load_policy(out)
    assert policy.config.motion_config.feature_size == 2304 and policy.config.motion_tokens == 1
    assert processor.motion_image_size == 224 and policy.dtype == torch.bfloat16
    assert main(["init", "--internvl", str(base), "--slowfast", "random", "--out", str(tmp_path / "x")]) == 2
    assert "model_type 'vqathinker'" in capsys.readouterr().err
    assert main(["init", "--internvl", "/nope", "--slowfast", "random", "--out", str(tmp_path / "x")]) == 2
    assert "no checkpoint folder at '/nope'" in capsys.readouterr().err


def test_train_without_a_recipe_says_which_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "grpo_lsvq  GRPO" in capsys.readouterr().out
    for given, message in (([], "name a recipe: grpo_lsvq or sft_lsvq."), (["gpro-lsvq"], "did you mean grpo_lsvq?")):
        with pytest.raises(SystemExit) as stopped:
            main(["train", *given])
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and message in err and err.startswith("usage: vqathinker train RECIPE")


@pytest.mark.slow
def test_train_hands_over_to_the_recipe(tmp_path, without_vllm):
    command = [sys.executable, "-m", "vqathinker.cli", "train", "grpo-lsvq", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | without_vllm)
    assert done.returncode == 0 and "--preset" in done.stdout and "--num-generations" in done.stdout

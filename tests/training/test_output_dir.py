"""A run does not take the place of another one unasked."""

import json
import shutil

import pytest

from vqathinker.training import VQASFTConfig
from vqathinker.training.checkpoints import check_output_dir, delete_other_checkpoints


def config(folder, **options):
    return VQASFTConfig(str(folder), use_cpu=True, report_to="none", **options)


def test_a_run_that_is_there_is_kept(tmp_path):
    check_output_dir(config(tmp_path / "new"))
    (tmp_path / "metrics.jsonl").touch()  # of a run that had not saved anything
    check_output_dir(config(tmp_path))
    (tmp_path / "trainer_state.json").touch()
    with pytest.raises(ValueError, match=r"holds a run already.* another folder, or replace it with --overwrite"):
        check_output_dir(config(tmp_path))
    (tmp_path / "checkpoint-40").mkdir()
    with pytest.raises(ValueError, match="another folder, go on from its newest checkpoint with --resume-from"):
        check_output_dir(config(tmp_path))
    for resume in ("true", str(tmp_path / "checkpoint-40")):
        check_output_dir(config(tmp_path, resume_from_checkpoint=resume))
        delete_other_checkpoints(config(tmp_path, resume_from_checkpoint=resume))
    assert (tmp_path / "checkpoint-40").exists()


def test_one_that_is_replaced_leaves_no_checkpoint(tmp_path):
    for name in ("checkpoint-40", "checkpoint-80", "plots"):
        (tmp_path / name).mkdir()
    delete_other_checkpoints(config(tmp_path, resume_from_checkpoint="false"))
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]


@pytest.mark.parametrize("recipe", ["sft_lsvq", "grpo_lsvq"])
def test_the_recipes_ask_first(recipe, tmp_path, repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    own = repo / "recipes/configs" / ("own_sft.yaml" if recipe == "sft_lsvq" else "own.yaml")
    (tmp_path / "trainer_state.json").touch()
    labels = ["--train-labels", "a.csv", "--video-root", ".", "--mos-scale", "identity", "--use-cpu", "true"]
    options = ["--config", str(own), "--model", "none", "--output-dir", str(tmp_path), *labels]
    with pytest.raises(ValueError, match=r"output_dir='.*' holds a run already"):
        __import__(recipe).main(options)


def test_a_policy_among_the_checkpoints_is_read_before_they_are_deleted(base, clip_set, tmp_path, repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import sft_lsvq

    shutil.copytree(base, tmp_path / "checkpoint-40")
    own = ["--model", tmp_path / "checkpoint-40", "--output-dir", tmp_path, "--max-steps", "1", "--use-cpu", "true"]
    labels = ["--train-labels", clip_set / "train.csv", "--video-root", clip_set, "--frame-cache", ""]
    options = [str(part) for part in ("--config", repo / "recipes/configs/demo_sft.yaml", *own, *labels)]
    with pytest.raises(ValueError, match=r"none\.csv"):  # a run that does not begin deletes nothing
        sft_lsvq.main([*options, "--train-labels", "none.csv"])
    assert (tmp_path / "checkpoint-40/model.safetensors").exists()
    sft_lsvq.main(options)
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 1
    assert not (tmp_path / "checkpoint-40").exists()

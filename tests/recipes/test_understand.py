"""VQA²'s stages on the embedded default, with a few clips and two steps."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

ONE_PROCESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, "recipes")
import runner
import understand
import understand_controls

class InTurn(ThreadPoolExecutor):
    def __init__(self, *_):
        super().__init__(1)


runner.ProcessPoolExecutor = InTurn
understand.main(["--quick", "--seed", "1"])
understand.SPEC = understand.replace(understand.SPEC, seed=1, splits=understand.QUICK)


def here(script, arm, seed, jobs, folder):
    understand_controls.run_arm(arm, seed)
    print(f"{arm}, seed {seed}: done", flush=True)


runner.launch = here
for _ in range(2):
    print("---- controls ----")
    understand_controls.main(["--seeds", "0", "--jobs", "1", "--arms", "no_stage1"])
"""
"""Most of several processes' time would be imports."""
TRAINED = {
    "format": {"language_model"},
    "stage1_spatial": {"vision_tower", "multi_modal_projector"},
    "stage1_motion": {"motion_encoder", "motion_projector"},
    "stage2": {"language_model", "vision_tower", "multi_modal_projector", "motion_encoder", "motion_projector"},
    "grpo": {"language_model"},
}
"""Stage -> the parts that it trains (METHOD: VQA², section on training); stage 3 as stage 2."""


@pytest.fixture
def understand(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import understand

    return understand


def test_stages_train_what_the_paper_says_and_follow_one_another(understand):
    last = "base"
    for stage in understand.STAGES:
        settings = yaml.safe_load(understand.config_of(stage).read_text(encoding="utf-8"))
        parts = TRAINED["stage2"] - set(settings.get("freeze", []))
        trained = parts if "motion_encoder" in settings.get("unfreeze", []) else parts - {"motion_encoder"}
        assert trained == TRAINED[{"stage3": "stage2"}.get(stage, stage)], stage
        assert settings["model"] == f"runs/understand/{last}" and settings["output_dir"] == f"runs/understand/{stage}"
        last = stage


def test_an_adapter_and_the_motion_encoder_are_not_trained_together(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import sft_lsvq

    config = repo / "recipes/configs/understand_stage1_motion.yaml"
    with pytest.raises(ValueError, match=r"unfreeze=\['motion_encoder'\] with use_peft=True: .* leave unfreeze out"):
        sft_lsvq.main(["--config", str(config), "--use_peft", "true"])


@pytest.fixture
def controls(understand, tmp_path, monkeypatch):
    """With 30 levels in stage 2, 25 in stage 3, and 50 questions."""
    import understand_controls

    monkeypatch.setattr(understand, "DATA", tmp_path)
    (tmp_path / "stage2.csv").write_text("video,mos\n" + "a.mp4,3\n" * 30)
    (tmp_path / "stage3.csv").write_text("video,mos\n" + "a.mp4,3\n" * 25)
    (tmp_path / "stage3.jsonl").write_text('{"type": "yesno"}\n' * 50)
    return understand_controls


def test_mix_sees_as_much_of_each_as_the_sequence(understand, controls):
    first, second = (yaml.safe_load(understand.config_of(f"stage{n}").read_text(encoding="utf-8")) for n in (2, 3))
    assert first["per_device_train_batch_size"] == second["per_device_train_batch_size"]
    level_share = second["labels_weight"] * 25 / (second["labels_weight"] * 25 + 50)  # of stage 3, 25 levels beside 50
    levels = first["max_steps"] + second["max_steps"] * level_share
    questions = second["max_steps"] * (1 - level_share)
    added = controls.arguments("mix")
    weight = float(added[added.index("--labels_weight") + 1])
    assert weight * 30 / 50 == pytest.approx(levels / questions)
    assert int(added[added.index("--max_steps") + 1]) == pytest.approx(levels + questions)


def test_time_of_validations_is_told_apart(controls, tmp_path):
    history = [{"eval_runtime": 3.0, "step": 0}, {"loss": 1.0, "step": 5}, {"eval_runtime": 4.5, "step": 10}]
    history.append({"train_runtime": 60.0, "step": 10})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    known = {"seconds": 60.0, "validation_seconds": 7.5, "steps": 10}
    assert controls.runner.training_of(tmp_path) == known


def test_controls_start_from_what_is_there_before_them(understand, controls):

    before = ["format", "stage1_spatial", "stage1_motion", "stage2", "sequence"]
    assert controls.lineage("grpo_sequence") == [*before, "grpo_sequence"]
    assert controls.lineage("more_sft") == [*before, "grpo_sequence", "more_sft"]
    assert controls.lineage("no_stage1") == ["format", "stage2_no_stage1", "no_stage1"]
    steps = {stage: controls.steps_of(stage) for stage in understand.STAGES}
    taken = {arm: 0 for arm in ("sequence", "mix", "no_stage1")}
    for arm in taken:
        for own in controls.lineage(arm):
            added = controls.arguments(own)
            given = int(added[-1]) if "--max_steps" in added else steps[controls.CONFIGS.get(own, own)]
            taken[arm] += given
    assert len(set(taken.values())) == 1


def test_tables_of_arms_show_what_counts_and_only_seeds_that_have_a_result(repo, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import runner

    for seed, level in ((0, 0.5), (1, 0.7), (2, 0.9)):
        folder = tmp_path / "mix" / str(seed)
        folder.mkdir(parents=True)
        runner.write_result(folder, {"level": level, "faults": None}, "old" if seed == 2 else "new")

    def read(arm, seed):
        return runner.read_result(tmp_path / arm / str(seed), "new")

    table = runner.found_results(tmp_path, ["sequence", "mix"], read)
    assert {arm: list(runs) for arm, runs in table.items()} == {"mix": [0, 1]}
    [_, _, row] = runner.mean_table(table, {"level": "levels right", "faults": "faults"}).splitlines()
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["mix", "2", "0.600 ± 0.141", "-"]


@pytest.mark.engine
@pytest.mark.slow
def test_stages_end_in_one_table_and_controls_go_on_where_they_stopped(repo, tmp_path, without_vllm):
    shutil.copytree(repo / "recipes", tmp_path / "recipes")
    for file in (tmp_path / "recipes/configs").glob("understand_*.yaml"):
        file.write_text(re.sub(r"max_steps: \d+", "max_steps: 2", file.read_text()))
    command, env = [sys.executable, "-c", ONE_PROCESS], os.environ | without_vllm
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    stages, made, again = done.stdout.split("---- controls ----\n")

    summary = json.loads((tmp_path / "runs/understand/summary.json").read_text())
    assert summary["seed"] == 1 and list(summary["results"]) == ["format", "stage1_motion", "stage2", "stage3", "grpo"]
    blank = [result["all, no video"] for result in summary["results"].values()]
    assert blank[:-1] == [None] * 4 and 0 <= blank[-1] <= 1  # only the last policy is asked without the video
    table = (tmp_path / "runs/understand/understand.md").read_text()
    assert table in stages and all(f"| {name} " in table for name in ("motion faults", "level, SRCC", "yesno"))
    assert made.count("done") == 3 and "| no_stage1 " in made
    assert "done" not in again and "| no_stage1 " in again

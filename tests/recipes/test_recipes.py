"""Every shipped YAML loads, and every recipe runs on the tiny policy."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

RECIPES = Path(__file__).parent.parent.parent / "recipes"
FILES = {"model": "", "train_labels": "labels.csv", "video_root": "", "mos_scale": "identity"}


def run(command, cwd, env):
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=os.environ | env, timeout=500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


@pytest.mark.parametrize("file", sorted(RECIPES.glob("configs/*.yaml")), ids=lambda file: file.name)
def test_config_is_understood_to_the_last_key(file, tmp_path, monkeypatch):
    from vqathinker.training import VQAGRPOConfig, VQASFTConfig
    from vqathinker.training.arguments import parse_recipe

    monkeypatch.syspath_prepend(str(RECIPES))
    import grpo_lsvq
    import sft_lsvq

    settings = yaml.safe_load(file.read_text())
    if settings.get("use_vllm"):
        pytest.importorskip("vllm", reason="vllm is not installed")
    kinds = (sft_lsvq.SFTArguments, VQASFTConfig)
    grpo = bool({"num_generations", "preset"} & set(settings))
    if grpo:
        kinds = (grpo_lsvq.GRPOArguments, VQAGRPOConfig)
    options = ["--config", str(file), "--output_dir", str(tmp_path), "--report_to", "none", "--use_cpu", "true"]
    if file.name.startswith("own"):  # whose labels the command line names
        options += ["--model", "m", "--train_labels", "a.csv", "--video_root", ".", "--mos_scale", "identity"]
        options += ["--learning_rate", "1e-6"]
        settings |= {"dtype": "auto", "mos_scale": "identity", "learning_rate": 1e-6}
    data, args = parse_recipe(options, *kinds)
    if grpo:
        assert args.loss_type == settings["loss_type"]  # stated, so that a change of defaults cannot change a config
    assert data.dtype == settings["dtype"]
    assert data.mos_scale == settings.get("mos_scale") and args.learning_rate == settings["learning_rate"]


def test_the_8_gpu_config_is_the_papers():
    settings = yaml.safe_load((RECIPES / "configs" / "lsvq_8gpu.yaml").read_text())
    paper = {
        "num_generations": 4, "learning_rate": 1e-6, "num_train_epochs": 3, "gradient_accumulation_steps": 2,
        "beta": 0.04, "epsilon": 0.2, "temperature": 0.9, "top_p": 1.0, "top_k": 50, "max_completion_length": 2048,
        "per_device_train_batch_size": 8, "bf16": True, "loss_type": "grpo",
    }  # fmt: skip
    assert {key: settings[key] for key in paper} == paper
    assert not settings.get("use_bias_correction_kl", False)
    assert yaml.safe_load((RECIPES / "configs" / "demo.yaml").read_text())["use_bias_correction_kl"] is True


@pytest.mark.parametrize("file", sorted(RECIPES.glob("accelerate/*.yaml")), ids=lambda file: file.name)
def test_accelerate_config_loads(file):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    expected = {"cpu": "NO", "single_gpu": "NO", "ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert config.distributed_type.value == expected[file.stem]
    if file.stem.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(file.stem[-1])


def test_demo_writes_its_summary_plots_and_page(demo):
    folder, out = demo
    summary = json.loads((folder / "runs/demo/summary.json").read_text())
    assert summary.keys() == {"phases", "ood", "seconds", "seed", "clips", "command"} and summary["seed"] == 3
    keys = {"srcc", "plcc", "srcc_sample", "srcc_mean4", "parse_rate", "naming", "spread", "common_score"}
    keys |= {"beats_shuffle", "beats_stutter", "beats_drop"}
    assert {phase: set(row) for phase, row in summary["phases"].items()} == {"sft": keys, "grpo": keys}
    for phase in ("sft", "grpo"):
        assert set(summary["ood"][phase]) == {"ood_banding", "ood_pixelation", "ood_ghosting"}
    assert {"synth", "sft", "grpo"} <= summary["seconds"].keys()
    for name in ("rewards.png", "scatter.png", "grpo/trainer_state.json", "grpo/processor_config.json"):
        assert (folder / "runs/demo" / name).stat().st_size > 0
    page = (folder / "runs/demo/report.html").read_text()
    assert page.count("<article>") == 8 and "--quick --seed 3" in page
    assert "srcc_mean4" in out and "ood_ghosting" in out
    history = json.loads((folder / "runs/demo/grpo/trainer_state.json").read_text())["log_history"]
    assert any("rewards/distortion/mean" in entry for entry in history)


@pytest.mark.parametrize("name", ["distortion_weight", "contrast_weight", "order_weight"])
def test_a_reward_cannot_be_turned_into_a_penalty(name, monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    with pytest.raises(ValueError, match=f"{name}=-1.0: must be at least 0"):
        grpo_lsvq.main(["--config", str(RECIPES / "configs/demo.yaml"), f"--{name}", "-1"])


def test_reward_weights_are_those_of_all_rewards_that_are_there(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    from vqathinker.data import Sample

    rows = [Sample("a.mp4", "score", ("a.mp4",), target={"mos": 3.0, "kind": "blur", "severity": "0.3"})]
    data = grpo_lsvq.GRPOArguments(**FILES, leave_out=["rank"], contrast_weight=0.5)
    own = grpo_lsvq.make_rubric(data, rows)
    assert dict(zip(own.names, own.weights, strict=True)) == {
        "format": 1, "regression": 1, "temporal": 1, "distortion": 1, "contrast": 0.5
    }  # fmt: skip
    given = grpo_lsvq.make_rubric(data, rows, [0.2, 1, 2, 3, 4])
    assert given.names == own.names and given.weights == [0.2, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"4 weights for 5 rewards \['format', .*'contrast'\]"):
        grpo_lsvq.make_rubric(data, rows, [1, 1, 1, 1])


def test_a_bias_chooses_no_checkpoint(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    settings = {"use_cpu": True, "bf16": False, "report_to": "none", "eval_strategy": "steps", "eval_steps": 1}
    data = grpo_lsvq.GRPOArguments(**FILES, val_labels="labels.csv", val_pairs=1.0)
    for metric in ("compare_accuracy", "compare_first_bias"):
        args = grpo_lsvq.VQAGRPOConfig(str(tmp_path), metric_for_best_model=metric, **settings)
        if metric == "compare_accuracy":
            grpo_lsvq.check_validation(data, args)
    with pytest.raises(ValueError, match="metric_for_best_model='compare_first_bias': the best bias is 0"):
        grpo_lsvq.check_validation(data, args)


def test_questions_add_the_rewards_of_their_task(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    from vqathinker.data import Sample

    label = Sample("a.mp4", "score", ("a.mp4",), target={"mos": 3.0})
    question = Sample("q", "choice", ("a.mp4",), "Blur?", {"options": ("Yes", "No"), "answer": "A"})

    def weights(samples, **options):
        rubric = grpo_lsvq.make_rubric(grpo_lsvq.GRPOArguments(**FILES, **options), samples)
        return dict(zip(rubric.names, rubric.weights, strict=True))

    assert weights([label, question], choice_weight=2.0)["choice"] == 2
    assert weights([label, question]).keys() == {"format", "regression", "rank", "temporal", "choice"}
    assert weights([question]) == {"format": 1, "choice": 1}
    with pytest.raises(ValueError, match=r"choice_weight=2\.0: there are no questions"):
        weights([label], choice_weight=2.0)
    with pytest.raises(ValueError, match="neither train_labels nor questions"):
        grpo_lsvq.GRPOArguments(model="", video_root="")
    with pytest.raises(ValueError, match=r"train_labels='labels\.csv' without mos_scale"):
        grpo_lsvq.GRPOArguments(**FILES | {"mos_scale": None})


def test_ladders_add_the_order_reward_and_need_no_labels(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    (tmp_path / "ladders.csv").write_text("video,ladder,rank\na.mp4,park,20\nb.mp4,park,30\n")
    (tmp_path / "labels.csv").write_text("video,mos,ladder,rank\na.mp4,4,lake,20\nb.mp4,3,lake,30\nc.mp4,3,,\n")
    (tmp_path / "plain.csv").write_text("video,mos\nc.mp4,3\n")
    ladders, root = str(tmp_path / "ladders.csv"), str(tmp_path)

    def made(labels=None, **options):
        files = {"train_labels": labels and str(tmp_path / labels), "video_root": root, "mos_scale": "identity"}
        data = grpo_lsvq.GRPOArguments(model="", **files, **options)
        samples = data.training(0)
        rubric = grpo_lsvq.make_rubric(data, samples)
        return samples, dict(zip(rubric.names, rubric.weights, strict=True)), rubric.rewards[-1]

    samples, weights, order = made(ladders=[f"{ladders}=2"])
    assert [sample.target for sample in samples] == [{"ladder": "park", "rank": r} for r in (20.0, 30.0)] * 2
    assert weights == {"format": 1, "order": 1} and not order.needs_perturbed
    _, weights, order = made("labels.csv", ladders=[ladders], order_weight=0.5, order_min_difference=4)
    assert weights == {"format": 1, "regression": 1, "rank": 1, "temporal": 1, "order": 0.5}
    assert order.min_difference == 4
    _, weights, _ = made("labels.csv", order_weight=0, contrast_weight=1)
    assert "order" not in weights and weights["contrast"] == 1
    _, weights, order = made(ladders=[ladders], rewards=["format", "order=2"], order_min_difference=4)
    assert weights == {"format": 1, "order": 2} and order.min_difference == 4
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "orders_of_mine.py").write_text(
        "from rewards import Contrast\n\n\nclass Mine(Contrast):\n    pass\n\n\n"
        "def mine():\n    return Mine(perturbed=False, name='mine', min_difference=9)\n\n\nordered = mine()\n"
    )
    _, weights, order = made(ladders=[ladders], rewards=["format", "orders_of_mine:ordered"])
    assert type(order).__name__ == "Mine" and order.min_difference == 9  # as its owner set it
    for rewards, options, message in (
        (["orders_of_mine:ordered"], {"order_min_difference": 4}, "order_min_difference=4 .*: only `order` takes it"),
        (["format"], {}, r"ladders=.* with rewards=\['format'\]: none of them pays for ladders.* Add order"),
        (
            [],
            {"order_min_difference": 4, "order_weight": 0},
            "with order_weight=0: there is no order reward to take it",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            made(ladders=[ladders], rewards=rewards, **options)
    assert grpo_lsvq.GRPOArguments(model="", ladders=[ladders]).training(0)[0].target["ladder"] == "park"
    for options, message in (
        ({"order_weight": 1.0}, r"order_weight=1\.0: there are no rungs of ladders. Leave it out, or give ladders, or"),
        ({"order_min_difference": 4.0}, r"order_min_difference=4\.0: there are no rungs of ladders"),
        ({"ladders": [f"{ladders}=x"]}, "ladders: '.*ladders.csv=x' must be FILE or FILE=WEIGHT with a number"),
    ):
        with pytest.raises(ValueError, match=message):
            made("plain.csv", **options)
    (tmp_path / "own.csv").write_text("video,mos,rank\nc.mp4,3,B\n")
    assert made("own.csv")[0][0].target["rank"] == "B"
    with pytest.raises(ValueError, match=r"own\.csv has a column rank, but no column ladder, beside ladders"):
        made("own.csv", ladders=[ladders])
    with pytest.raises(ValueError, match=r"ladder 'park' is in .*ladders\.csv and in .*again\.csv: rungs of one"):
        shutil.copy(ladders, tmp_path / "again.csv")
        made(ladders=[ladders, str(tmp_path / "again.csv")])


def test_a_weight_for_distortions_needs_labels_that_name_them(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    from vqathinker.data import Sample

    def weights(weight, kind):
        data = grpo_lsvq.GRPOArguments(**FILES, distortion_weight=weight)
        target = {"mos": 3.0, "kind": kind, "severity": kind and "0.3"}
        rubric = grpo_lsvq.make_rubric(data, [Sample("a.mp4", "score", ("a.mp4",), target=target)])
        return dict(zip(rubric.names, rubric.weights, strict=True)).get("distortion")

    assert [weights(weight, "blur") for weight in (None, 0, 2.0)] == [1, None, 2]
    assert weights(None, "") is None and weights(0, "") is None
    with pytest.raises(ValueError, match=r"distortion_weight=1\.0: no label has a distortion"):
        weights(1.0, "")


def test_the_warm_start_refuses_what_would_go_wrong(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import sft_lsvq

    with pytest.raises(ValueError, match=r"^label_smoothing_factor=0\.1: "):
        sft_lsvq.main(["--config", str(RECIPES / "configs/demo_sft.yaml"), "--label_smoothing_factor", "0.1"])


def test_what_training_shows_and_asks_is_what_scoring_shows_and_asks(base, clip_set, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq
    import sft_lsvq

    from vqathinker import QualityScorer
    from vqathinker.scoring import settings_of

    looks = ["--frames", "3", "--image_size", "96", "--view", "resize", "--question", "How sharp is it?"]
    looks += ["--sampling", "time"]
    own = ["--model", str(base), "--train_labels", str(clip_set / "train.csv"), "--video_root", str(clip_set)]
    own += ["--frame_cache", "", "--max_steps", "1", "--logging_steps", "1", "--use_cpu", "true"]
    grpo = ["--val_labels", "", "--per_device_train_batch_size", "8", "--num_generations", "4"]
    grpo += ["--gradient_accumulation_steps", "1", "--steps_per_generation", "1", "--max_completion_length", "6"]
    made = {}
    for recipe, config, more in ((sft_lsvq, "demo_sft.yaml", []), (grpo_lsvq, "demo.yaml", grpo)):
        out = tmp_path / recipe.__name__
        settings = ["--config", str(RECIPES / "configs" / config), "--output_dir", str(out)]
        recipe.main([*settings, *own, *more, *looks])
        said = capsys.readouterr().out
        told = "first answers have a number, and the policy was trained differently: frames 3, trained with 6;"
        assert (told in said) == (recipe is grpo_lsvq)  # the warm start is what it advises
        scorer = QualityScorer.from_pretrained(out, "cpu")
        asked = scorer.processor
        assert asked.changes == {} and asked.question == "How sharp is it?" and asked.sampling == "time"
        assert "How sharp is it?" in asked.tokenizer.decode(asked.prompt_ids())
        made[recipe.__name__] = settings_of(scorer)
    for settings in made.values():
        assert (settings["num_frames"], settings["image_size"], settings["fit"]) == (3, 96, "stretch")
    given = QualityScorer.from_pretrained(base, "cpu", 3, 96, "time", "resize", "How sharp is it?")
    assert {s["prompt_hash"] for s in made.values()} == {settings_of(given)["prompt_hash"]}


def test_rewards_are_taken_by_name_and_from_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    from vqathinker.data import Sample

    (tmp_path / "rewards_of_mine.py").write_text(
        "from rewards import text_of\n\n\ndef short(completions, **columns):\n"
        "    return [float(len(text_of(completion)) < 9) for completion in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    target = {"mos": 3.0, "kind": "my_own_fault", "severity": "0.3"}
    rows = [Sample("a.mp4", "score", ("a.mp4",), target=target)]
    named = ["format", "distortion=0.5", "rewards_of_mine:short=2"]
    rubric = grpo_lsvq.make_rubric(grpo_lsvq.GRPOArguments(**FILES, rewards=named), rows)
    assert rubric.names == ["format", "distortion", "short"] and rubric.weights == [1, 0.5, 2]
    assert "my_own_fault" in rubric.rewards[1].kinds
    for others in ({"leave_out": ["rank"]}, {"distortion_weight": 1.0}, {"contrast_weight": 0.5}):
        with pytest.raises(ValueError, match=f"rewards=.* with .*{next(iter(others))}"):
            grpo_lsvq.make_rubric(grpo_lsvq.GRPOArguments(**FILES, rewards=named, **others), rows)


def test_a_quick_demo_does_not_replace_a_whole_one(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(RECIPES)
    import demo

    monkeypatch.chdir(tmp_path)
    summary = tmp_path / "runs/demo/summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text('{"command": "python recipes/demo.py"}')
    with pytest.raises(SystemExit):
        demo.main(["--quick"])
    assert "would replace the whole demo" in capsys.readouterr().err and list(summary.parent.iterdir()) == [summary]


@pytest.mark.slow
def test_the_recipe_trains_on_copies(demo, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    monkeypatch.chdir(demo[0])
    steps = ["--max_steps", "1", "--val_labels", "", "--max_completion_length", "8"]
    grpo_lsvq.main(["--config", str(RECIPES / "configs/demo.yaml"), *steps, "--output_dir", str(tmp_path / "run")])
    [file] = (tmp_path / "run" / "completions").glob("*.parquet")
    answers = pd.read_parquet(file)  # so untrained that few have a score
    assert "contrast" in answers and answers["video_id"].str.endswith(" (copy)").mean() == 0.5


ONE_PROCESS = """
import shutil, sys
from vqathinker.synth import default
default.is_made = lambda *a: True  # keep the small set
sys.path.insert(0, "recipes")
import controls, fresh_clips

launch = controls.launch


def here(arm, seed, jobs):
    if arm == "sft":  # one as it is run for real; most of the others' time would be imports
        return launch(arm, seed, jobs)
    controls.folder_of(arm, seed).mkdir(parents=True, exist_ok=True)
    controls.run_arm(arm, seed)
    print(f"{arm}, seed {seed}: done", flush=True)


controls.launch = here
for arms in sys.argv[1:]:
    controls.main(["--seeds", "0", "--jobs", "1", "--arms", arms])
    print("---- next ----")
shutil.copytree("runs/demo/data", "runs/fresh_clips/data")
shutil.copytree("runs/demo/longer", "runs/fresh_clips/longer")
fresh_clips.main()
"""


@pytest.fixture
def before_the_demo(tmp_path):
    """A folder with few of the demo's clips, and the base."""
    from vqathinker.synth.default import SPEC, prepare_default

    splits = {"sft": 16, "train": 24, "val": 4, "test": 4}
    prepare_default(tmp_path / "runs/demo", replace(SPEC, seed=3, splits=splits, ood=2))
    return tmp_path


@pytest.mark.engine
@pytest.mark.slow
def test_controls_run_every_arm_and_go_on_where_they_stopped(before_the_demo, without_vllm):
    """Two-step runs of the arms that are built differently."""
    tmp_path = before_the_demo
    configs = tmp_path / "recipes"
    shutil.copytree(RECIPES, configs)
    for name in ("demo.yaml", "demo_sft.yaml"):
        file = configs / "configs" / name
        file.write_text(re.sub(r"max_steps: \d+", "max_steps: 2", file.read_text()))
    file = configs / "controls.py"
    file.write_text(re.sub(r'"--max_steps", "\d+"', '"--max_steps", "2"', file.read_text()))
    arms = [
        "sft",
        "sft_no_motion",
        "sft_no_reasoning",
        "demo",
        "grpo",
        "no_reasoning",
        "more_sft",
    ]
    all_arms = ",".join(arms)
    out = run([sys.executable, "-c", ONE_PROCESS, all_arms, "sft,grpo"], tmp_path, without_vllm)
    first, second, fresh = out.split("---- next ----\n")
    made = [*arms, "sft_longer"]  # what `grpo` starts from
    assert "failed" not in first and first.count("done") == len(made) and "| without reasoning " in first
    table = json.loads((tmp_path / "runs/controls/controls.json").read_text())
    assert sorted(table) == sorted(made)  # after the second call, whose other arms stay in the table
    assert table["grpo"]["seeds"] == [0] and len(table["sft"]["ood_banding"]) == 1
    assert "done" not in second and "| without reasoning " in second
    assert " demo, range " in fresh
    found = json.loads((tmp_path / "runs/fresh_clips/fresh_clips.json").read_text())
    assert [found[arm]["seeds"] for arm in ("sft", "demo")] == [[0], [0]] and len(found["demo"]["srcc"]) == 1


def test_controls_compare_arms_over_the_same_seeds(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import controls

    names = (*controls.QUALITY, *controls.MANNERS, "ood_banding")
    arms = {"sft": [0, 1, 2, 3], "grpo": [0, 2, 3], "paper": [3]}
    table = {
        arm: {"seeds": seeds} | {name: [seed / 10 for seed in seeds] for name in names} for arm, seeds in arms.items()
    }
    quality = controls.render(table).split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")][:3] for line in quality]
    assert rows == [["sft", "3", "0.100 ± 0.100"], ["grpo", "2", "0.100 ± 0.141"]]


@pytest.mark.engine
@pytest.mark.slow
def test_grpo_recipe_under_accelerate_without_a_config_says_so(before_the_demo, without_vllm):
    folder = before_the_demo
    shutil.copytree(folder / "runs/demo/base", folder / "runs/demo/sft")
    launch = [Path(sys.executable).parent / "accelerate", "launch", "--config_file", RECIPES / "accelerate/cpu.yaml"]
    steps = ["--max_steps", "1", "--output_dir", "runs/again", "--eval_steps", "9", "--max_completion_length", "8"]
    out = run([*launch, RECIPES / "grpo_lsvq.py", *steps], folder, without_vllm)
    assert "No --config and no labels given: running the embedded default, recipes/configs/demo.yaml." in out
    assert (folder / "runs/again/model.safetensors").exists()


@pytest.mark.slow
def test_grpo_trains_on_the_users_own_clips(clip_set, tmp_path, monkeypatch):
    """`vqathinker synth --source` on a folder of clips, then the same recipe."""
    monkeypatch.syspath_prepend(RECIPES)
    import grpo_lsvq

    from vqathinker.cli import main
    from vqathinker.synth.default import BASE

    monkeypatch.chdir(tmp_path)
    source = str(clip_set / "videos" / "val")
    assert main(["synth", "--source", source, "--out", "own", "--splits", "train=24,val=4"]) == 0
    own = ["--train_labels", "own/train.csv", "--val_labels", "own/val.csv", "--video_root", "own"]
    steps = ["--max_steps", "2", "--max_completion_length", "8", "--strict_clips", "true", "--output_dir", "run"]
    grpo_lsvq.main(["--config", str(RECIPES / "configs/demo.yaml"), "--model", str(BASE), *own, *steps])
    state = json.loads((tmp_path / "run/trainer_state.json").read_text())
    assert state["global_step"] == 2

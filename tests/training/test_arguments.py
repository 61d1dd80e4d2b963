"""What recipes read from the command line and from YAML, their help, and what they say of typos."""

import pytest

from vqathinker.training import VQAGRPOConfig, VQASFTConfig
from vqathinker.training.arguments import lacks_config, parse_recipe

FIXED = ["--use-cpu", "true", "--report-to", "none"]


@pytest.fixture
def grpo(monkeypatch, repo):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_lsvq

    return grpo_lsvq.GRPOArguments, VQAGRPOConfig, grpo_lsvq.__doc__


@pytest.fixture
def sft(monkeypatch, repo):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import sft_lsvq

    return sft_lsvq.SFTArguments, VQASFTConfig, sft_lsvq.__doc__


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"model: policy\ntrain-labels: a.csv\nvideo_root: clips\nmos_scale: identity\noutput-dir: {tmp_path}/out\n"
        "max_steps: 7\nlearning-rate: 1.0e-5\nfreeze: [vision_tower]\n"
    )
    return file


def said(argv, recipe, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_recipe(argv, *recipe)
    out, err = capsys.readouterr()
    return stopped.value.code, out or err


@pytest.mark.parametrize("recipe", ["grpo", "sft"])
def test_help_has_the_recipes_own_options_first_and_all_others_on_request(recipe, request, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    recipe = request.getfixturevalue(recipe)
    code, text = said(["--help"], recipe, capsys)
    lines = text.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    assert code == 0 and len(lines) <= 100 and max(map(len, lines[lines.index("options:") :])) <= 100
    assert shown[:2] == ["--config", "--help-all"] and not [name for name in shown if "_" in name]
    assert shown.index("--train-labels") < shown.index("--model") < shown.index("--learning-rate")
    assert "--resume-from-checkpoint" in shown and "--adam-beta1" not in shown
    assert len([line for line in lines if line.startswith("    vqathinker train ")]) == 1
    code, everything = said(["--help-all"], recipe, capsys)
    assert code == 0 and "--adam-beta1" in everything and len(everything.splitlines()) > 300
    assert all(name in everything for name in shown)


def test_dashes_and_underscores_are_one_and_the_command_line_goes_before_the_file(sft, config):
    own, args = parse_recipe([f"--config={config}", *FIXED], *sft)
    assert (own.train_labels, own.freeze, own.video_root) == ("a.csv", ["vision_tower"], "clips")
    assert (args.max_steps, args.learning_rate, args.output_dir) == (7, 1e-5, f"{config.parent}/out")
    given = ["--max_steps", "3", "--train_labels=b_c.csv", "--freeze", "vision_tower", "motion_projector"]
    own, args = parse_recipe([*given, "--config", str(config), *FIXED, "--frame-cache="], *sft)
    assert (own.train_labels, own.freeze, args.max_steps) == ("b_c.csv", ["vision_tower", "motion_projector"], 3)
    assert own.frame_cache == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--modle", "x"], "unknown option --modle: did you mean --model?"),
        (
            ["--per_device_train_batchsize=2"],
            "batchsize: did you mean --per-device-train-batch-size?",
        ),
        (["--max", "3"], "unknown option --max: "),  # no beginnings
        (["--max-steps", "many"], "argument --max-steps: invalid int value: 'many'"),
        (["model"], "unknown argument 'model': see --help."),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "/none.yaml"], "--config /none.yaml cannot be read: [Errno 2] No such file"),
    ],
)
def test_a_wrong_command_line_is_one_line(sft, config, capsys, argv, message):
    code, text = said(argv if "--config" in argv else ["--config", str(config), *argv], sft, capsys)
    assert code == 2 and message in text.splitlines()[-1] and len(text.splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: x\n", "unknown key modle in {file}: did you mean model?"),
        ("max-step: 3\n", "unknown key max-step in {file}: did you mean max_steps?"),
        ("help_all: true\n", "unknown key help_all in {file}: see --help."),
        ("max-steps: 1\nmax_steps: 2\n", "{file} has max_steps twice, with - and with _. Keep one of them."),
        ("- a\n", "--config {file}: must be a mapping of options"),
        ("a: [\n", "--config {file} cannot be read: while parsing"),
    ],
)
def test_a_wrong_file_is_one_line(sft, config, capsys, text, message):
    config.write_text(text)
    code, said_of_it = said(["--config", str(config)], sft, capsys)
    assert code == 2 and message.format(file=config) in said_of_it.splitlines()[-1]


def test_settings_that_break_a_rule_stay_errors_of_the_classes(sft, config):
    with pytest.raises(ValueError, match="lora_r=8"):
        parse_recipe(["--config", str(config), *FIXED, "--lora-r", "8", "--lora_alpha", "0", "--use-peft"], *sft)


def test_a_list_that_a_file_fills_is_emptied_by_an_empty_text(sft, grpo, config, capsys):
    given = ["--config", str(config), *FIXED]
    own, _ = parse_recipe([*given, "--freeze", "", "--questions", "a.jsonl", "b.jsonl"], *sft)
    assert own.freeze == [] and own.questions == ["a.jsonl", "b.jsonl"]  # the file has [vision_tower]
    assert "expected at least one argument" in said([*given, "--freeze"], sft, capsys)[1]
    config.write_text(config.read_text() + "leave_out: [temporal]\n")
    own, training = parse_recipe([*given, "--leave_out="], *grpo)
    assert own.leave_out == [] and training.reward_weights is None
    code, text = said([*given, "--reward-weights", ""], grpo, capsys)
    assert code == 2 and "--reward-weights: invalid float value: ''" in text  # no list by default


def test_whether_a_file_is_named_and_typos_before_anything_is_made(sft, capsys):
    for argv in (["--config", "x"], ["--seed", "1", "--config=x"], ["-h"], ["--help-all"], ["--help_all"]):
        assert not lacks_config(argv, *sft[:2])
    assert lacks_config(["--model", "x"], *sft[:2]) and lacks_config([], *sft[:2])
    with pytest.raises(SystemExit):
        lacks_config(["--modle", "x"], *sft[:2])
    assert "unknown option --modle: did you mean --model?" in capsys.readouterr().err

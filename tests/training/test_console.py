"""What a run shows, writes and warns of; what it reports to."""

import json
import logging
import math
import re
from types import SimpleNamespace

import pytest
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import integration_utils
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.utils import logging as transformers_logging

from vqathinker import chatter
from vqathinker.data import clip_dataset
from vqathinker.synth import tiny_policy
from vqathinker.training import VQAGRPOTrainer, VQASFTConfig
from vqathinker.training.collapse import PATIENCE, SIGNS, CollapseWatch
from vqathinker.training.console import HEADER_EVERY, Console, DropUnknown, MetricsFile, add_console, closing_summary
from vqathinker.training.reporting import check_reporting

ROW = {
    "loss": 0.1, "reward": 1.5, "kl": 0.0123, "completions/mean_length": 31.25, "quality/parse_rate": 0.75,
    "rewards/temporal/mean": None,
}  # fmt: skip
VALIDATION = {"eval_srcc": 0.5, "eval_plcc": 0.25, "eval_parse_rate": 1.0, "eval_skipped_clips": 0.0}


class Screen:
    """A console, its lines, and a clock that is set by hand."""

    def __init__(self, tmp_path, steps=100):
        self.lines, self.now = [], 0.0
        self.console = Console(lambda: self.now, self.lines.append)
        self.args = TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True)
        self.state = TrainerState(max_steps=steps, is_world_process_zero=True)
        self.console.on_train_begin(self.args, self.state, None)

    def log(self, step, seconds=0.0, **logs):
        self.now += seconds
        self.state.global_step = step
        self.console.on_log(self.args, self.state, None, logs=logs)

    def rows(self):
        """Title -> cell, of each row below the last header."""
        places = [i for i, line in enumerate(self.lines) if line.lstrip().startswith("step")]
        titles = re.split(r"\s{2,}", self.lines[places[-1]].strip())
        rows = [line for line in self.lines[places[-1] + 1 :] if "validation" not in line and "warning" not in line]
        return [dict(zip(titles, line.split(), strict=True)) for line in rows]


@pytest.fixture
def screen(tmp_path):
    return Screen(tmp_path)


def test_a_row_has_the_values_of_its_step(screen):
    screen.log(10, 20, **ROW)
    assert screen.rows() == [
        {"step": "10/100", "reward": "1.500", "parsed": "0.75", "KL": "0.0123", "length": "31.2", "s/step": "2.00"}
        | {"left": "0:03:00"}
    ]
    header, row = screen.lines
    assert len(header) == len(row) <= 120  # aligned


def test_steps_that_draw_no_answers_keep_the_columns(screen):
    for step, logs in enumerate([ROW, {"loss": 0.1, "grad_norm": 0.2}, ROW], start=1):
        screen.log(step, 1, **logs)
    assert [row["reward"] for row in screen.rows()] == ["1.500", "-", "1.500"]  # below one header


def test_a_validation_has_a_line_and_then_a_column_and_its_time_is_no_steps(screen):
    screen.log(10, 10, **ROW)
    screen.log(10, 500, **VALIDATION, eval_runtime=500.0, eval_samples_per_second=1.0)
    screen.log(20, 10, **ROW)
    assert " 10/100  validation: SRCC 0.500, PLCC 0.250, parsed 1.000" in screen.lines
    [row] = screen.rows()
    assert row["val SRCC"] == "0.500" and row["s/step"] == "1.00"


def test_questions_and_several_sets_are_shown_too(screen):
    screen.log(0, eval_choice_accuracy=0.625, eval_choice_unparsable=0.125, eval_skipped_clips=2.0, eval_runtime=1.0)
    screen.log(0, eval_live_parse_rate=0.5, eval_live_runtime=1.0)
    assert screen.lines[0].endswith("validation: accuracy 0.625, no option named 0.125, unreadable clips 2")
    assert screen.lines[1].endswith("validation live: SRCC -, PLCC -, parsed 0.500")  # undefined, so not in the log
    screen.log(1, **{"loss": 0.0, "reward": 1.0, "quality/choice_unparsable": 0.25})
    [row] = screen.rows()
    assert row["val accuracy"] == "0.625" and row["options named"] == "0.75" and row["length"] == "-"


def test_a_run_that_goes_on_knows_its_log(tmp_path):
    screen, spread = Screen(tmp_path), "quality/score_spread"
    screen.state.log_history = [{**ROW, spread: 0.1, "step": step} for step in range(1, PATIENCE)]
    screen.state.log_history += [{**VALIDATION, "eval_runtime": 1.0, "step": 2}]
    screen.state.global_step = 50
    screen.console.on_train_begin(screen.args, screen.state, None)
    screen.log(51, 3, **ROW, **{spread: 0.1})
    [row] = screen.rows()
    assert row["val SRCC"] == "0.500" and row["s/step"] == "3.00"
    assert "warning: quality/score_spread" in screen.lines[-1]
    screen.log(51, eval_parse_rate=0.0, eval_runtime=0.0)
    screen.log(52, **ROW)
    assert screen.rows()[-1]["val SRCC"] == "-"  # undefined now


def test_the_warm_start_has_rows_of_its_own(screen):
    screen.log(10, 5, loss=2.5, grad_norm=math.nan, learning_rate=1e-4)
    assert screen.rows() == [
        {"step": "10/100", "loss": "2.5000", "grad norm": "nan", "lr": "1.00e-04", "s/step": "0.50", "left": "0:00:45"}
    ]


def test_headers_come_again_and_other_logs_are_no_rows(screen):
    for step in range(1, HEADER_EVERY + 2):
        screen.log(step, **ROW)
    screen.log(100, train_runtime=9.0, train_loss=0.1)
    assert sum("reward" in line for line in screen.lines) == 2 and len(screen.rows()) == 1
    screen.state.is_world_process_zero = False
    screen.log(101, **ROW)
    assert len(screen.rows()) == 1


def test_few_numbers_after_a_change_are_told_once(tmp_path):
    def warnings(changed, *logs, history=()):
        screen = Screen(tmp_path)
        screen.console = Console(lambda: 0.0, screen.lines.append, changed)
        screen.state.log_history = list(history)
        screen.console.on_train_begin(screen.args, screen.state, None)
        for entry in logs:
            screen.log(1, **entry)
        return [line for line in screen.lines if "first answers" in line]

    low, high = ROW | {"quality/parse_rate": 0.03}, ROW | {"quality/parse_rate": 0.5}
    [line] = warnings("view resize, trained with center_crop", low, low)
    assert "warning: 3% of the first answers have a number" in line and "view resize, trained with center_crop" in line
    assert "warm start with the change (recipes/sft_lsvq.py)" in line
    assert not warnings("view resize", high, low) and not warnings("", low)
    assert not warnings("view resize", low, history=[ROW | {"step": 1}])  # a run that goes on
    assert warnings("view resize", VALIDATION | {"eval_parse_rate": 0.1, "eval_runtime": 1.0}, high)
    assert not warnings("view resize", {"loss": 2.5, "grad_norm": 1.0, "learning_rate": 1e-4})  # the warm start


BEYOND = {sign: sign.threshold + (0.01 if sign.above else -0.01) for sign in SIGNS}


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: f"{sign.metric} {sign.rule}")
def test_each_sign_of_a_collapse_fires_after_some_rows_and_not_before(sign, screen):
    first = sign.threshold / sign.growth if sign.growth else sign.threshold
    screen.log(1, **ROW, **{sign.metric: first})  # at the threshold is not beyond it
    for step in range(2, 10):
        screen.log(step, **ROW, **{sign.metric: BEYOND[sign]})
        fired = [line for line in screen.lines if f"warning: {sign.metric}" in line]
        assert len(fired) == (step > PATIENCE), step  # once
    assert sign.rule in fired[0] and sign.means in fired[0]


def test_signs_come_again_after_they_were_gone_and_unknown_values_change_nothing():
    watch, spread = CollapseWatch(), "quality/score_spread"
    found = [bool(watch.update({spread: value})) for value in (0.1, None, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1)]
    assert found == [False, False, False, True, False, False, False, False, True]
    assert [sign.metric for sign in watch.shown] == [spread]
    watch.update({spread: math.nan})
    assert not watch.shown
    grown = [watch.update({"entropy": value}) for value in (0.9, 1.5, 1.5, 1.5)]
    assert not any(grown)  # above 1, but not twice the first


def test_the_page_states_the_thresholds(repo):
    page = (repo / "docs/rewards.md").read_text(encoding="utf-8")
    for sign in SIGNS:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{sign.metric}` |")]
        assert sign.rule in row
    assert f"{PATIENCE} rows in a row" in page.replace("three", "3")


def test_the_summary_tells_before_and_after(tmp_path):
    history = [{"step": 0, **VALIDATION}]
    history += [{"step": step, **ROW, "reward": step / 8} for step in range(1, 17)]
    history += [{"step": 8, "eval_srcc": 0.9}, {"step": 16, "eval_srcc": 0.8}, {"step": 16, "train_runtime": 75.4}]
    history += [{"step": 16, "loss": 0.0, "quality/score_spread": 0.1}] * PATIENCE
    state = TrainerState(global_step=16, max_steps=16, log_history=history)
    args = TrainingArguments("runs/mine", use_cpu=True)
    text = closing_summary(state, args, ["first", "second"])
    assert "Trained to step 16 of 16 in 0:01:15." in text
    assert re.search(r"reward +0\.188 -> 1\.938\n", text)  # of 16 rows two each
    assert re.search(r"val SRCC +0\.500 \(step 0\) -> 0\.800 \(step 16\); best 0\.900 \(step 8\)", text)
    assert "warning: quality/score_spread 0.1 at the end, below 0.3" in text
    assert "Policy:   runs/mine\nMetrics:  runs/mine/metrics.jsonl\nNext:     first\n          second" in text
    args.report_to, args.load_best_model_at_end = ["tensorboard"], True
    state.best_global_step, state.best_model_checkpoint = 8, "runs/mine/checkpoint-8"
    text = closing_summary(state, args)
    assert "runs/mine (the best, from step 8)" in text and "tensorboard --logdir runs/mine" in text


def test_the_file_holds_what_the_state_holds(tmp_path):
    args = TrainingArguments(str(tmp_path / "run"), use_cpu=True)
    state = TrainerState(is_world_process_zero=True, log_history=[{"loss": 2.0, "kl": None, "step": 1}])
    file = MetricsFile()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.jsonl").write_text("of an older run\n")
    file.on_train_begin(args, state, None)
    state.global_step = 2
    file.on_log(args, state, None, logs={"loss": math.nan, "grad_norm": math.inf, "kl": 0.5})
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": None, "grad_norm": None, "kl": 0.5},
    ]


class Logger(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_a_grpo_run_prints_rows_and_gives_no_none_to_a_logger(base, train_rows, config, capsys):
    policy, processor = tiny_policy(seed=0)
    policy.config._name_or_path, logger = str(base), Logger()
    trainer = VQAGRPOTrainer(
        policy, "recommended", config(beta=0.0), clip_dataset(train_rows, processor), processor, callbacks=[logger]
    )
    trainer.train()
    out = capsys.readouterr().out
    assert "{" not in out and re.search(r"^step +reward .* s/step +left$", out, re.MULTILINE)
    assert len(re.findall(r"^ *[12]/2 ", out, re.MULTILINE)) == 2
    assert logger.seen and all(value is not None for logs in logger.seen for value in logs.values())
    history = trainer.state.log_history
    assert None in history[0].values()  # which stays as TRL has it
    known = [{name for name, value in entry.items() if value is not None} for entry in history]
    with open(f"{trainer.args.output_dir}/metrics.jsonl", encoding="utf-8") as file:
        assert [set(json.loads(line)) for line in file] == known


@pytest.mark.parametrize("disable", [True, False])
def test_only_transformers_own_printing_is_replaced(disable, base, tmp_path, policy):
    args = TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=disable)
    theirs = PrinterCallback if disable else DEFAULT_PROGRESS_CALLBACK
    for given in ([], [theirs()]):
        trainer = Trainer(policy, args, callbacks=list(given))
        add_console(trainer)
        kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
        assert kinds[0] is DropUnknown and kinds[-2:] == [Console, MetricsFile]
        assert [c for c in trainer.callback_handler.callbacks if type(c) is theirs] == given


@pytest.mark.parametrize("disable", [True, False])
def test_a_bar_is_for_terminals_and_can_be_disabled(disable, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True, write=len, flush=lambda: None))
    args = TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=disable)
    console, state = Console(), TrainerState(max_steps=4, is_world_process_zero=True)
    console.on_train_begin(args, state, None)
    assert bool(console._bar.disable) == disable
    state.global_step = 1
    console.on_step_end(args, state, None)
    console.on_log(args, state, None, logs=ROW)
    console.on_train_end(args, state, None)
    assert "1.500" in capsys.readouterr().out
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False, write=len, flush=lambda: None))
    console.on_train_begin(args, state, None)
    assert console._bar.disable  # a pipe


def test_what_cannot_be_reported_to_is_refused_by_both_configurations(config, tmp_path, monkeypatch):
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    with pytest.raises(ImportError, match=r"report_to='tensorboard'.*\[tensorboard\].*report_to: none"):
        config(report_to="tensorboard")
    with pytest.raises(ImportError, match=r"report_to='wandb'.*pip install wandb"):
        VQASFTConfig(str(tmp_path), use_cpu=True, report_to=["wandb"])
    with pytest.raises(ValueError, match=r"report_to='tensorbord': must be 'none', 'all' or some of .*trackio"):
        config(report_to="tensorbord")
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    check_reporting(["tensorboard"])


def test_every_service_of_transformers_can_be_asked_for():
    from vqathinker.training.reporting import _PROBES

    for name in integration_utils.INTEGRATION_TO_CALLBACK:
        assert callable(getattr(integration_utils, f"is_{_PROBES.get(name, name)}_available")), name


@pytest.mark.parametrize("recipe", ["grpo_lsvq", "sft_lsvq"])
def test_a_recipe_refuses_before_it_loads_anything(recipe, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    module = __import__(recipe)
    monkeypatch.setattr(module, "check_checkpoint", lambda path: pytest.fail("the policy was looked for"))
    config = repo / "recipes/configs" / {"grpo_lsvq": "demo.yaml", "sft_lsvq": "demo_sft.yaml"}[recipe]
    with pytest.raises(ImportError, match=r"report_to='tensorboard'"):
        module.main(["--config", str(config), "--report_to", "tensorboard"])


def test_nothing_is_pinned_where_there_is_no_accelerator(config, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert not config().dataloader_pin_memory
    assert not VQASFTConfig(str(tmp_path), use_cpu=True).dataloader_pin_memory


def test_tensorboard_gets_the_known_metrics(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from transformers.integrations import TensorBoardCallback

    board, warned = TensorBoardCallback(), []
    monkeypatch.setattr(integration_utils.logger, "warning", warned.append)
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    state, logs = TrainerState(is_world_process_zero=True), dict(ROW)
    board.on_train_begin(args, state, None)
    for callback in (DropUnknown(), board):
        callback.on_log(args, state, None, logs=logs)
    assert not warned
    board.on_log(args, state, None, logs=ROW)
    board.on_train_end(args, state, None)
    assert len(warned) == 1 and list(tmp_path.rglob("events.out.*"))


@pytest.fixture
def chatty():
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    yield
    chatter.set_verbose(True)
    chatter.hold_back_imports()
    (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()


def test_chatter_is_off_unless_asked_for(chatty):
    for name, start in chatter.SAID.items():
        said: list[str] = []
        logger, handler = logging.getLogger(name), logging.Handler()
        handler.emit = lambda record, said=said: said.append(record.getMessage())
        logger.addHandler(handler)
        try:
            chatter.set_verbose(False)
            assert not transformers_logging.is_progress_bar_enabled()
            logger.warning(f"{start}, but")
            logger.warning("something is wrong")
            assert said == ["something is wrong"]
            chatter.set_verbose(True)  # what was held back, and what comes
            logger.warning(f"{start}, and")
            assert said[1:] == [f"{start}, but", f"{start}, and"]
            assert transformers_logging.is_progress_bar_enabled()
        finally:
            logger.removeHandler(handler)

"""The recipe on questions, with a few clips and two steps."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.mark.slow
def test_the_recipe_on_questions_ends_in_its_table(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_questions

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grpo_questions, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))  # spares imports
    grpo_questions.main(["--quick", "--seed", "2"])
    out = capsys.readouterr().out
    folder = tmp_path / "runs/questions"
    summary = json.loads((folder / "summary.json").read_text())
    assert (
        summary.keys() == {"accuracy", "srcc", "gain", "seed", "command", "torch", "seconds"} and summary["seed"] == 2
    )
    baselines = {"all", "majority", "random", "no video", "rotation consistency", "wording: train", "wording: held-out"}
    for phase in ("sft", "grpo"):
        assert baselines <= summary["accuracy"][phase].keys()
        assert 0 <= summary["accuracy"][phase]["all"] <= 1 and summary["accuracy"][phase]["majority"] > 0
    table = (folder / "questions.md").read_text()
    assert "warm start" in table and "no video" in table and "GRPO against the warm start" in out
    history = json.loads((folder / "grpo/trainer_state.json").read_text())["log_history"]
    seen = {key for entry in history for key, value in entry.items() if value is not None}
    assert {"eval_srcc", "eval_choice_accuracy"} & seen and "quality/choice_accuracy" in seen

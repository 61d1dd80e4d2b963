"""The recipe on questions, with a few clips and two steps."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.mark.slow
def test_the_recipe_on_questions_ends_in_its_table(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_questions
    import runner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))  # spares imports
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


@pytest.mark.slow
def test_the_recipe_on_places_pays_by_nearness_and_ends_in_its_table(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_places
    import runner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))  # spares imports
    grpo_places.main(["--quick", "--seed", "2"])
    folder = tmp_path / "runs/places"
    results = json.loads((folder / "summary.json").read_text())["results"]
    for found in results.values():  # of 8 clips: 4 with a box and a span, 2 that freeze, 2 with a degree
        assert found["questions"] == {"when": 4, "where": 4, "count": 2, "degree": 2}
        assert all(0 <= found[name][0] <= 1 < len(found[name]) for name in ("when_iou", "where_hit", "severity"))
        assert 0.2 < found["where_iou"][1] < 0.8 and found["unparsable"][0] <= 1
    assert (folder / "places.md").read_text().strip() in capsys.readouterr().out
    history = json.loads((folder / "grpo/trainer_state.json").read_text())["log_history"]
    paid = {name.split("/")[1] for entry in history for name in entry if name.startswith("rewards/")}
    assert paid == {"format", "when", "where", "count", "choice", "severity"}

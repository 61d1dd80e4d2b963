"""docs/performance.md says what the committed files hold, no more and no less."""

import json

import pytest

from benchmarks import report, time_model

ENVIRONMENT = {"command": "python -m benchmarks", "python": "3.12", "packages": {"torch": "2.8"}}
ENVIRONMENT |= {"machine": "x86_64", "cores": 2, "threads": 2}


def timed(**ratios):
    ways = {"ours": 1.0} | {name.replace("_", " "): ratio for name, ratio in ratios.items()}
    arms = {name: {"median": ratio, "per_clip": ratio} for name, ratio in ways.items()}
    return {"arms": arms, "ratios": {name: ratio for name, ratio in ways.items() if name != "ours"}}


def update(tokens, ratio, peak=0.4):
    return {
        "shape": {"clips": 1, "answers": 4, "frames": 6, "tokens": tokens, "prompt": 1637},
        "update": timed(stock_TRL=ratio),
        "reference": timed(stock_TRL=2.9),
        "allowed": 3.0,
        "peak_bytes": {"ours": peak * 2**30, "stock TRL": 2**30},
        "peak_ratios": {"stock TRL": 1 / peak},
    }


@pytest.fixture
def folder(tmp_path):
    """Two files, in which one update and one peak miss their targets."""
    steps = [{"task": "whole", "step": timed(published_way=6.0)}, {"task": "part", "step": timed(stock_TRL=3.5)}]
    rows = {"group_update": [update(200, 2.71), update(1024, 2.69, peak=0.5)], "full_step": steps}
    bench = {name: {"rows": own, "elapsed": 1} for name, own in rows.items()}
    large = {"shape": update(2048, 1)["shape"], "needs_bytes": 20 * 2**30}
    scaling = {"rows": [update(64, 2.8), update(256, 1.5), large], "elapsed": 1}
    reasons = {"update": "The mask is dense.", "update, K=4, L=1024": "The mask takes a third of the time."}
    kept = {"bench": bench | {"quick": False, "reasons": reasons}, "bench_scaling": {"scaling": scaling}}
    for name, own in kept.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"environment": ENVIRONMENT, **own}))
    return tmp_path


def test_the_page_is_what_the_committed_files_give(repo):
    page = (repo / "docs/performance.md").read_text(encoding="utf-8")
    assert page == report.page(report.read(repo / "docs/results")), "run `python -m benchmarks.report`"


def test_the_model_of_time_foretells_the_committed_steps_within_a_quarter(repo):
    bench, found = (json.loads((repo / f"docs/results/{name}.json").read_text()) for name in ("bench", "time_model"))
    for row, now in zip(found["time_model"]["rows"], time_model.foretold(bench)["rows"], strict=True):
        assert row == now | {"foretold": pytest.approx(now["foretold"], rel=1e-6)}, (
            "run `python -m benchmarks.time_model`"
        )
        assert abs(row["foretold"] / row["measured"] - 1) < 0.25, row["name"]
    assert sum(not row["fitted"] for row in found["time_model"]["rows"]) >= 4


def test_targets_stand_beside_what_was_measured_and_misses_are_said(folder, monkeypatch):
    monkeypatch.setattr(report, "REASONS", {})  # which are about the committed numbers
    page = report.page(report.read(folder))
    assert "6 of 8 targets are met. Missed:" in page and "toy size" not in page.partition("##")[0]
    first, line = [line for line in page.splitlines() if line.startswith("| update, K=4, L=200 ")]
    assert "6 of 8 [targets](#targets) are met." in page.partition(first)[0]
    assert [cell.strip() for cell in first.split("|")[2:-1]] == ["1 s", "2.71 s", "2.71x"]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["1 s", "2.71 s", "2.71x", "at least 2.7x", "yes"]
    assert "- update, K=4, L=1024: 2.69x, asked at least 2.7x. The mask takes a third of the time.\n" in page
    assert "- peak memory of the update, K=4, L=1024: 0.50x, asked at most 0.45x.\n" in page  # no reason known
    assert "6 s (published)" in page and "at least 5x" in page
    assert "1 of 2 shapes reach 0.9 of what the tokens allow; the least is 0.50, at K=4, L=256." in page
    assert "Left out, as they do not fit into memory: K=4, L=2048 (20 GiB)." in page
    assert page.count("`python -m benchmarks` (full_step, group_update, scaling)") == 1
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert max(line.count("|") - 1 for line in tables) == 6


def test_without_numbers_it_says_so(tmp_path):
    assert "Nothing has been measured yet" in report.page(report.read(tmp_path))

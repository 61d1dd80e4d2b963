"""Every Python example in the README and the docs runs as printed; every file and command they name exists."""

import json
import re
import shutil
import subprocess
import sys

import pytest

PAGES = ("README.md", "docs/rewards.md", "docs/data.md", "docs/architecture.md", "docs/results.md")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_python_examples_run_as_printed(demo, repo):
    folder, _ = demo
    shutil.copy(folder / "runs/demo/data/videos/test/00000.mp4", folder / "clip.mp4")
    count = 0
    for page in PAGES:
        for code in blocks((repo / page).read_text(encoding="utf-8"), "python"):
            done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{page}:\n{code}\n{done.stderr[-3000:]}"
            assert done.stdout.strip()
            count += 1
    assert count >= 4


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(repo, page):
    text = (repo / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert ((repo / page).parent / target).exists(), target
    for path in re.findall(r"recipes/[\w/]+\.(?:py|yaml)", text):
        assert (repo / path).exists(), path
    makefile = (repo / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_readme_first_screen_shows_the_two_commands(repo):
    top = (repo / "README.md").read_text(encoding="utf-8").splitlines()[:60]
    assert any(line.startswith("make demo") for line in top) and any(line.startswith("make test") for line in top)


def test_numbers_in_the_results_are_those_that_were_measured(repo):
    page = (repo / "docs/results.md").read_text(encoding="utf-8")
    demo = json.loads((repo / "docs/results/demo.json").read_text(encoding="utf-8"))
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in page.splitlines() if line.startswith("|")}
    names = ("srcc", "plcc", "srcc_sample", "srcc_mean4", "parse_rate", "reward")
    for phase, label in (("sft", "warm start, 300 steps"), ("grpo", "GRPO, 100 steps")):
        assert [float(cell) for cell in rows[label]] == [round(demo["phases"][phase][name], 3) for name in names]
    kinds = ("ood_banding", "ood_exposure", "ood_ghosting")
    for phase, label in (("sft", "warm start"), ("grpo", "GRPO")):
        measured = [round(demo["ood_by_phase"][phase][kind]["srcc"], 3) for kind in kinds]
        assert [float(cell) for cell in rows[label]] == measured
    bench = json.loads((repo / "docs/results/bench.json").read_text(encoding="utf-8"))
    assert {what: float(rows[what][2]) for what in bench} == {what: round(row[2], 2) for what, row in bench.items()}
    assert f"{sum(demo['seconds'].values()):.0f} s" in page

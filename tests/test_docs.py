"""Every Python example in the README and the docs runs as printed; every file and command they name exists."""

import configparser
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest

from vqathinker.arguments import dashed
from vqathinker.cli import make_parser
from vqathinker.training.arguments import RecipeParser

PAGES = (
    "README.md",
    "docs/own_clips.md",
    "docs/rewards.md",
    "docs/adapters.md",
    "docs/options.md",
    "docs/data.md",
    "docs/streaming.md",
    "docs/ladders.md",
    "docs/ladder_pilot.md",
    "docs/evaluation.md",
    "docs/comparing.md",
    "docs/chat.md",
    "docs/understanding.md",
    "docs/architecture.md",
    "docs/extending.md",
    "docs/results.md",
    "docs/performance.md",
    "docs/tuning.md",
    "docs/glossary.md",
)
EXTENDING = "docs/extending.md"
DIVIDER = "---- next example ----"
ONE_AFTER_ANOTHER = f"""
import sys
for code in sys.argv[1:]:
    exec(compile(code, "example", "exec"), {{"__name__": "__main__"}})
    print({DIVIDER!r})
"""
"""Each with names of its own, in one process: most of an example's time is imports."""


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_python_examples_run_as_printed(demo, repo):
    folder, _ = demo
    shutil.copy(folder / "runs/demo/data/videos/test/00000.mp4", folder / "clip.mp4")
    pages = [page for page in PAGES if page != EXTENDING]  # whose examples need no demo
    examples = [(page, code) for page in pages for code in blocks((repo / page).read_text(encoding="utf-8"), "python")]

    def run(codes):
        command = [sys.executable, "-c", ONE_AFTER_ANOTHER, *codes]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    halves = [examples[::2], examples[1::2]]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, [[code for _, code in half] for half in halves]))
    for half, done in zip(halves, found, strict=True):
        *printed, last = done.stdout.split(DIVIDER)
        failed = half[len(printed)] if len(printed) < len(half) else ("", "")
        assert done.returncode == 0, f"{failed[0]}:\n{failed[1]}\n{done.stderr[-3000:]}"
        assert len(printed) == len(half) and all(text.strip() for text in printed) and not last.strip()
    assert len(examples) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("part", ["a reward", "a task", "a visual stream", "a label format", "an engine"])
def test_examples_of_parts_of_ones_own_run_as_printed(repo, tmp_path, without_vllm, part):
    page = (repo / EXTENDING).read_text(encoding="utf-8")
    [code] = blocks(page.partition(f"\n## {part.capitalize()}\n")[2].partition("\n## ")[0], "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 36
    env = os.environ | without_vllm
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, f"{code}\n{done.stderr[-3000:]}"
    assert done.stdout.strip()
    if part == "a task":
        assert "'eval_brightness_accuracy': 0.0, 'eval_skipped_clips': 0.0" in done.stdout


def test_the_architectures_names_are_those_of_the_code(repo):
    page = (repo / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z].*?) \| (`.*?`) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) >= 10
    for names, places, text in rows:
        places = re.findall(r"`([\w.]+)`", places)
        packages = [place.partition(".")[0] for place in places]
        homes = [importlib.import_module(f"vqathinker.{home}") for home in dict.fromkeys(places + packages)]
        for name in re.findall(r"`(\w+)`", names) + re.findall(r"`([A-Z]{3,})`", text):
            assert any(hasattr(home, name) for home in homes), name
    for path in re.findall(r"\b(?:[a-z_]+/)+[a-z_]+\.py\b", page):
        assert (repo / path).exists() or (repo / "vqathinker" / path).exists(), path
    code = "\n".join(file.read_text(encoding="utf-8") for file in (repo / "vqathinker").rglob("*.py"))
    code += "\n".join(file.read_text(encoding="utf-8") for file in (repo / "rewards").glob("*.py"))
    diagram = re.sub(r"\S+/\S*", "", page.partition("```")[2].partition("```")[0])  # without the files
    found = set(re.findall(r"\b[a-z]+_[a-z_]+\b", diagram)) | set(re.findall(r"\w\.([a-z_]+)\b", diagram))
    missing = [name for name in sorted(found) if not re.search(rf"\b(?:def )?{name}\b", code)]
    assert len(found) > 15 and missing == []


def test_the_architectures_packages_are_those_of_the_contracts(repo):
    config = configparser.ConfigParser()
    config.read(repo / "setup.cfg")
    layers = config["importlinter:contract:packages"]["layers"].replace("vqathinker.", "").split("\n")
    page = (
        (repo / "docs/architecture.md").read_text(encoding="utf-8").partition("## Packages")[2].partition("## Why")[0]
    )
    told = [re.findall(r"`(\w+)`", cell) for cell in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)]
    assert told == [*(layer.split(" | ") for layer in layers if layer), ["rewards", "perturb"]]


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


def typed(text):
    """Commands in a page's shell examples, a line each."""
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield list(takewhile(lambda word: word not in (">", "|"), words))


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_examples_can_be_typed(repo, page, monkeypatch):
    """The real parsers take every option of `vqathinker ...` and of the recipes."""
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    for words in typed((repo / page).read_text(encoding="utf-8")):
        if words[0] == "vqathinker":
            options = make_parser().parse_args(words[1:])
            recipe, *rest = options.recipe if words[1] == "train" else [None]
        else:
            place = next(
                (i for i, word in enumerate(words) if word.startswith("recipes/") and word.endswith(".py")), None
            )
            recipe = None if place is None else Path(words[place]).stem
            rest = [] if place is None else words[place + 1 :]
        if recipe in ("grpo_lsvq", "sft_lsvq"):
            module = importlib.import_module(recipe)
            own, config = (
                (module.GRPOArguments, module.VQAGRPOConfig)
                if recipe == "grpo_lsvq"
                else (module.SFTArguments, module.VQASFTConfig)
            )
            rest = dashed(rest)
            RecipeParser(own, config).refuse_options(rest)
            if "--config" not in rest and {"--train-labels", "--questions"} & {*rest}:
                assert "--model" in rest, words  # own.yaml, which these commands take, names no policy


def test_readme_first_screen_shows_the_two_commands(repo):
    top = (repo / "README.md").read_text(encoding="utf-8").splitlines()[:60]
    assert any(line.startswith("make demo") for line in top) and any(line.startswith("make test") for line in top)


def test_the_glossary_has_what_is_logged(repo):
    glossary = (repo / "docs/glossary.md").read_text(encoding="utf-8")
    trainer = (repo / "vqathinker/training/trainer.py").read_text(encoding="utf-8")
    metrics = re.findall(r"`([a-z]+_[a-z_]+)`", trainer.partition("Metrics beside TRL's")[2].partition('"""')[0])
    names = {"srcc", "plcc", *metrics} - {"log_metric"}
    assert len(names) > 10 and [name for name in sorted(names) if name.upper() not in glossary.upper()] == []


def table_rows(page):
    """First cell -> the others; of tables with one first cell the first one counts."""
    lines = [line for line in reversed(page.splitlines()) if line.startswith("|")]
    return {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}


def measured(repo, name):
    return json.loads((repo / "docs/results" / f"{name}.json").read_text(encoding="utf-8"))


def test_numbers_in_the_results_are_those_that_were_measured(repo):
    page = (repo / "docs/results.md").read_text(encoding="utf-8")
    rows, demo = table_rows(page), measured(repo, "demo")
    names = ("srcc", "plcc", "srcc_sample", "srcc_mean4", "parse_rate", "naming")
    names += ("beats_shuffle", "beats_stutter", "beats_drop", "common_score")
    sets = ("ood_banding", "ood_ghosting", "ood_pixelation")
    for phase, label in (("sft", "warm start"), ("grpo", "GRPO")):
        assert [float(cell) for cell in rows[label]] == [round(demo["phases"][phase][name], 3) for name in names]
        unseen = [float(cell) for cell in rows[f"{label}, unseen kinds"]]
        assert unseen == [round(demo["ood"][phase][name]["srcc"], 3) for name in sets]
    once = measured(repo, "once")
    assert {what: float(rows[what][2]) for what in once} == {what: round(row[2], 2) for what, row in once.items()}
    assert f"{sum(demo['seconds'].values()):.0f} s" in page


def test_the_tables_of_controls_are_those_that_were_measured(repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import controls

    page = (repo / "docs/results.md").read_text(encoding="utf-8")
    assert controls.render(measured(repo, "controls")) in page
    [fresh] = controls.render_stability(measured(repo, "fresh_clips"))
    assert fresh in page


def test_the_tables_of_ladders_are_those_that_were_measured(repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import pairs
    import pairs_controls

    page = (repo / "docs/results.md").read_text(encoding="utf-8")
    found = measured(repo, "pairs")
    for table in pairs.tables({pairs.PHASES[phase]: result for phase, result in found["results"].items()}):
        assert pairs.shown(table) in page
    assert f"{sum(found['seconds'].values()):.0f} s" in page
    assert pairs_controls.render(measured(repo, "pairs_controls")) in page


def test_the_table_of_read_outs_is_the_one_measured(repo):
    rows = table_rows((repo / "docs/results.md").read_text(encoding="utf-8"))
    for readout, found in measured(repo, "readouts")["agreement"].items():
        held_out, *unseen = found.values()
        cells = [round(value[0], 3) for value in (held_out, *unseen)] + [round(held_out[1], 3), held_out[2]]
        assert [float(cell) for cell in rows[f"`{readout}`"]] == cells


def test_the_table_of_synthetic_ood_sets_is_the_one_measured(repo):
    from vqathinker.evaluation.benchmark import SetResult, markdown, tables

    results = [SetResult(**entry) for entry in measured(repo, "eval_ood")["sets"]]
    grid = [line for line in markdown(tables(results, [])).splitlines() if line.startswith("|")]
    assert "\n".join(grid) in (repo / "docs/results.md").read_text(encoding="utf-8")


def test_the_check_of_the_pseudo_mos_is_the_one_measured(repo):
    rows = table_rows((repo / "docs/data.md").read_text(encoding="utf-8"))
    found = measured(repo, "pseudo_mos")
    assert found.pop("clips_per_kind") == 60
    for kind, values in found.items():
        label = "all together" if kind == "all" else kind
        assert [float(cell) for cell in rows[label]] == [round(values[name], 3) for name in ("psnr", "ssim")], kind


def test_the_bases_card_tells_what_was_measured(repo):
    folder = repo / "vqathinker/synth/base"
    card = (folder / "README.md").read_text(encoding="utf-8")
    report = json.loads((folder / "pretraining.json").read_text(encoding="utf-8"))
    for part in ("vision", "motion", "language"):
        for value in report[part].values():
            assert f"{value:.3f}" in card
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6

"""Every Python example in the README and the docs runs as printed; every file and command they name exists."""

import configparser
import importlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from vqathinker.arguments import dashed
from vqathinker.cli import make_parser
from vqathinker.training.arguments import RecipeParser

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/own_clips.md",
    "docs/rewards.md",
    "docs/adapters.md",
    "docs/options.md",
    "docs/data.md",
    "docs/streaming.md",
    "docs/ladders.md",
    "docs/ladder_pilot.md",
    "docs/evaluation.md",
    "docs/calibration.md",
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
UNSEEN = ("ood_banding", "ood_ghosting", "ood_pixelation")
"""Distortions that the demo's training has not."""


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_python_examples_run_as_printed(demo, repo, without_vllm):
    folder, _ = demo
    shutil.copy(folder / "runs/demo/data/videos/test/00000.mp4", folder / "clip.mp4")
    pages = [page for page in PAGES if page != EXTENDING]  # whose examples need no demo
    examples = [(page, code) for page in pages for code in blocks((repo / page).read_text(encoding="utf-8"), "python")]

    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, *(code for _, code in examples)]
    env = os.environ | without_vllm
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, env=env)
    *printed, last = done.stdout.split(DIVIDER)
    failed = examples[len(printed)] if len(printed) < len(examples) else ("", "")
    assert done.returncode == 0, f"{failed[0]}:\n{failed[1]}\n{done.stderr[-3000:]}"
    assert len(printed) == len(examples) >= 4 and all(text.strip() for text in printed) and not last.strip()


PARTS = ("a reward", "a task", "a visual stream", "a label format", "an engine")


def part_example(repo, part):
    page = (repo / EXTENDING).read_text(encoding="utf-8")
    [code] = blocks(page.partition(f"\n## {part.capitalize()}\n")[2].partition("\n## ")[0], "python")
    return code


@pytest.fixture(scope="module")
def parts_run(pytestconfig, tmp_path_factory, without_vllm):
    """The examples of all parts, run one after another: what each printed, up to the first that failed, and why."""
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, *(part_example(pytestconfig.rootpath, part) for part in PARTS)]
    folder, env = tmp_path_factory.mktemp("parts"), os.environ | without_vllm
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, env=env)
    assert done.returncode in (0, 1), done.stderr[-3000:]  # 1 of an example that failed
    return dict(zip(PARTS, done.stdout.split(DIVIDER)[:-1], strict=False)), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_examples_of_parts_of_ones_own_run_as_printed(repo, parts_run, part):
    code, (printed, error) = part_example(repo, part), parts_run
    assert len([line for line in code.splitlines() if line.strip()]) <= 36
    assert part in printed, f"{code}\n{error[-3000:]}"
    assert printed[part].strip()
    if part == "a task":
        assert "'eval_brightness_accuracy': 0.0, 'eval_skipped_clips': 0.0" in printed[part]


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
    for target, anchor in re.findall(r"\]\(((?!http)[^)#]*)#([^)]+)\)", text):
        file = (repo / page).parent / target if target else repo / page
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], anchor
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


def section(page, title):
    """A page from a heading to the next of any level."""
    return re.split(r"^#", page.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def measured(repo, name):
    return json.loads((repo / "docs/results" / f"{name}.json").read_text(encoding="utf-8"))


def mean_and_deviation(values):
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


@pytest.fixture
def results(repo):
    return (repo / "docs/results.md").read_text(encoding="utf-8")


def test_results_begin_with_sentences_and_one_small_table(results, repo):
    for page in (results, (repo / "docs/tuning.md").read_text(encoding="utf-8")):
        top = page.partition("\n## ")[0]
        assert len(re.findall(r"^\|---", top, re.MULTILINE)) == 1 and len(table_rows(top)) <= 12
        assert len(re.findall(r"\.\s", top.partition("\n|")[0])) <= 6
        tables = [line for line in page.splitlines() if line.startswith("|")]
        assert max(line.count("|") - 1 for line in tables) <= 6


def test_the_headline_of_the_results_is_what_was_measured(results, repo):
    rows, arms, runs = table_rows(results), measured(repo, "controls"), measured(repo, "questions")
    names = {"SRCC, greedy answers": "srcc", "SRCC, single drawn answers": "srcc_sample"}
    names |= {"clips that outscore their shuffled copy": "beats_shuffle"}
    found = {label: [arms[arm][name] for arm in ("sft", "demo")] for label, name in names.items()}
    seeds = [zip(*(arms[arm][name] for name in UNSEEN), strict=True) for arm in ("sft", "demo")]
    found["SRCC, unseen distortions"] = [[statistics.mean(kinds) for kinds in seed] for seed in seeds]
    right = [[run["accuracy"][phase]["all"] for run in runs] for phase in ("sft", "grpo")]
    chance = statistics.mean(run["accuracy"]["grpo"]["majority"] for run in runs)
    found[f"questions answered right (always the commonest: {chance:.3f})"] = right
    flips = measured(repo, "pairs")["results"]
    found["encodes in the wrong order, CRF difference 6"] = [
        [flips[phase]["flip_rate"]["6"]["rate"]] for phase in ("sft", "grpo")
    ]
    for label, phases in found.items():
        assert rows[label] == [str(len(phases[0])), *map(mean_and_deviation, phases)], label


def test_numbers_in_the_results_are_those_that_were_measured(results, repo):
    demo, rows = measured(repo, "demo"), table_rows(section(results, "The embedded default"))
    names = {"SRCC": "srcc", "PLCC": "plcc", "SRCC sample": "srcc_sample", "SRCC mean4": "srcc_mean4"}
    names |= {name: name.replace(" ", "_") for name in ("parse rate", "naming", "common score")}
    names |= {f"beats {kind}": f"beats_{kind}" for kind in ("shuffle", "stutter", "drop")}
    for column, phase in enumerate(("sft", "grpo")):
        for label, name in names.items():
            assert float(rows[label][column]) == round(demo["phases"][phase][name], 3), label
        for name in UNSEEN:
            assert float(rows[name.removeprefix("ood_")][column]) == round(demo["ood"][phase][name]["srcc"], 3), name
    once, rows = measured(repo, "once"), table_rows(section(results, "What computing once is worth"))
    assert {what: float(rows[what][2]) for what in once} == {what: round(row[2], 2) for what, row in once.items()}
    assert f"{sum(demo['seconds'].values()):.0f} s" in results


def test_the_table_of_questions_is_the_one_measured(results, repo):
    rows, runs = table_rows(section(results, "Questions")), measured(repo, "questions")
    names = {"all questions": "all", "wordings that training had": "wording: train"}
    names |= {"held-out wordings": "wording: held-out", "one option in every rotation": "rotation consistency"}
    names |= {"without the video": "no video", "majority": "majority"}
    found = {
        label: [[run["accuracy"][phase][name] for run in runs] for phase in ("sft", "grpo")]
        for label, name in names.items()
    }
    found["SRCC of the same clips' scores"] = [[run["srcc"][phase] for run in runs] for phase in ("sft", "grpo")]
    for label, (before, after) in found.items():
        gains = [b - a for a, b in zip(before, after, strict=True)]
        assert rows[label] == [mean_and_deviation(values) for values in (before, after, gains)], label


def test_the_table_of_places_is_the_one_measured(results, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import grpo_places

    found = measured(repo, "places")
    assert grpo_places.shown(grpo_places.before_and_after(found["results"])).split("\n\n")[1] in results
    assert f"{sum(found['seconds'].values()):.0f} s" in results


def test_the_tables_of_controls_are_those_that_were_measured(results, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import controls

    log = (repo / "dev/LOG.md").read_text(encoding="utf-8")
    tables = controls.render(measured(repo, "controls"))
    *_, ablation, stability = tables.split("\n\n")
    assert tables in log and ablation in results and stability in results
    [fresh] = controls.render_stability(measured(repo, "fresh_clips"))
    assert fresh in log


def test_the_tables_of_ladders_are_those_that_were_measured(results, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import pairs
    import pairs_controls

    found = measured(repo, "pairs")
    for table in pairs.tables({pairs.PHASES[phase]: result for phase, result in found["results"].items()}):
        assert pairs.shown(table) in results
    assert f"{sum(found['seconds'].values()):.0f} s" in results
    assert pairs_controls.render(measured(repo, "pairs_controls")) in results


def test_the_tables_of_stages_are_those_that_were_measured(results, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import understand
    import understand_controls

    found = measured(repo, "understand")["results"]
    assert (
        understand.shown(understand.phase_table({understand.PHASES[phase]: found[phase] for phase in found})) in results
    )
    assert understand_controls.render(measured(repo, "understand_controls")) in results


def test_the_table_of_motion_tokens_is_the_one_measured(results, repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / "recipes")
    import motion_tokens

    assert motion_tokens.render(measured(repo, "motion_tokens")) in results


def test_the_table_of_stalls_is_the_one_measured(results, repo):
    rows = table_rows(section(results, "Streaming and motion"))
    for policy, found in measured(repo, "streaming")["results"].items():
        values = [*(found["srcc"][text] for text in ("missing", "true", "false")), found["srcc_false_text"]]
        told = found["unscored"] < sum(found["clips"][name] for name in found["clips"] if name != "all")
        shown = [f"{value:.3f}" if told or not column else "-" for column, value in enumerate(values)]
        assert rows[policy] == shown, policy


def test_the_table_of_read_outs_is_the_one_measured(results, repo):
    rows = table_rows(section(results, "Read-outs"))
    for column, (readout, found) in enumerate(measured(repo, "readouts")["agreement"].items()):
        assert rows["measure"][column] == f"`{readout}`"
        held_out, *unseen = found.values()
        kinds = [name.removeprefix("ood_") for name in list(found)[1:]]
        cells = {"held-out SRCC": held_out[0], "held-out PLCC": held_out[1], "different scores": held_out[2]}
        cells |= {f"{kind} SRCC": value[0] for kind, value in zip(kinds, unseen, strict=True)}
        assert {label: float(rows[label][column]) for label in cells} == {k: round(v, 3) for k, v in cells.items()}


def test_the_table_of_synthetic_ood_sets_is_the_one_measured(results, repo):
    from vqathinker.evaluation.benchmark import SetResult, markdown, tables

    found = [SetResult(**entry) for entry in measured(repo, "eval_ood")["sets"]]
    grid = [line for line in markdown(tables(found, [])).splitlines() if line.startswith("|")]
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in grid]
    rows = table_rows(section(results, "Synthetic OOD sets"))
    assert rows.keys() == {"set", "---", *(line[0] for line in lines)}
    for line in lines:
        cells = dict(zip(head, line, strict=True))
        assert rows[cells["set"]] == [cells[name] for name in rows["set"]]
    assert all(entry.num_videos == entry.num_scored == 60 for entry in found)  # which the page says in words


def test_settings_to_start_with_are_those_of_the_configs(repo):
    page = (repo / "docs/tuning.md").read_text(encoding="utf-8")
    for title, name in (("GRPO", "demo"), ("The warm start", "demo_sft")):
        rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", section(page, title), re.MULTILINE)
        config = yaml.safe_load((repo / f"recipes/configs/{name}.yaml").read_text(encoding="utf-8"))
        assert rows and {key: yaml.safe_load(value) for key, value in rows} == {key: config[key] for key, _ in rows}


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

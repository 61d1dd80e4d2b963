"""Checkpoints, score tables and label files that earlier versions wrote or read load unchanged: tests/fixtures."""

import importlib.util
import json
import math
import shutil

import pytest

from vqathinker.cli import main
from vqathinker.scoring import QualityScorer, ScoreTable


@pytest.fixture(scope="module")
def fixtures(pytestconfig):
    return pytestconfig.rootpath / "tests/fixtures"


@pytest.fixture(scope="module")
def recorder(fixtures):
    """The script that wrote them; it says how they are read, too."""
    spec = importlib.util.spec_from_file_location("recorder", fixtures / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(fixtures):
    return json.loads((fixtures / "expected.json").read_text(encoding="utf-8"))


def test_label_files_give_the_rows_of_before(fixtures, recorder, expected):
    found = recorder.labels_in(fixtures / "labels")
    assert sorted(found) == sorted(file.name for file in (fixtures / "labels").iterdir())  # each one is looked at
    for file, rows in expected["labels"].items():
        for now, before in zip(found[file], rows, strict=True):
            assert now.items() >= (before | {"mos": now["mos"]}).items(), file  # a row may gain further columns
            assert now["mos"] == pytest.approx(before["mos"], abs=1e-12), file


@pytest.mark.contract
def test_a_checkpoint_is_the_policy_of_before(fixtures, recorder, expected):
    found = recorder.found_in(fixtures / "checkpoint")
    assert found["classes"] == expected["classes"] and found["tokens"] == expected["tokens"]
    assert found["parameters"] == expected["parameters"]
    assert found["prompts"] == expected["prompts"]
    assert found["logits"] == pytest.approx(expected["logits"], abs=1e-5)


@pytest.mark.parametrize("table", ["scores.csv", "scores.jsonl"])
def test_a_table_is_gone_on_with(fixtures, recorder, tmp_path, monkeypatch, table):
    for name in ("clips", "checkpoint"):
        shutil.copytree(fixtures / name, tmp_path / name)
    shutil.copy(fixtures / table, tmp_path)
    shutil.copy(tmp_path / "clips/a.mp4", tmp_path / "clips/d.mp4")
    recorder.date_clips(tmp_path / "clips")
    before = (tmp_path / table).read_bytes().splitlines(keepends=True)
    monkeypatch.chdir(tmp_path)
    asked, score_many = [], QualityScorer.score_many
    monkeypatch.setattr(QualityScorer, "score_many", lambda self, own, _: score_many(self, asked.extend(own) or own))
    names = [f"clips/{name}.mp4" for name in ("a", "b", "c", "missing", "d")]
    flag = "--csv" if table.endswith(".csv") else "--json"
    command = ["score", *names, "--model", "checkpoint", "--device", "cpu", *recorder.TABLES[table], flag, table]
    assert main(command) == 1  # one is missing
    assert asked == names[3:]  # what is not there, and what is new
    after = (tmp_path / table).read_bytes().splitlines(keepends=True)
    scored = [line for line in before if b"missing.mp4" not in line]
    assert after[: len(scored)] == scored and len(after) == len(scored) + 2

    made_with = json.loads(after[0])["made_with"] if flag == "--json" else after[1].decode().strip().split(",")[-1]
    rows = ScoreTable(table, made_with, write=False).rows
    old, new = rows["clips/a.mp4"], rows["clips/d.mp4"]  # the same clip
    assert old["notes"] == "" and new["notes"] == "sees the central 32x32 of 48x32, 67 %"  # which is new
    own = {"video": "", "score": 0, "std": 0, "notes": ""}
    assert new | own == old | own
    for name in ("score", "std"):
        assert new[name] == pytest.approx(old[name], abs=1e-4, nan_ok=True)
    assert math.isnan(new["score"]) == (flag == "--json")

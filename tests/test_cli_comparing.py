"""`vqathinker compare` and `vqathinker rank`, from the command line to the files they write."""

import csv
import json

import pytest

from vqathinker.cli import main


@pytest.fixture
def engine(monkeypatch, reading_engine):
    """A stand-in for the engine: all clips score 3.4, and of two clips it calls the first one better."""

    def say(text, blank):
        two = "comparing the quality of two videos" in text
        return "<think>sharp\nedges</think><answer>" + ("first; 3.42; 2.87" if two else "3.40") + "</answer>"

    made = reading_engine(say)
    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: made)
    return made


@pytest.fixture
def folder(clip_set):
    return clip_set / "videos" / "val"


@pytest.fixture
def run(base, engine, tmp_path):
    def call(command, *arguments):
        return main([command, *map(str, arguments), "--model", str(base), "--device", "cpu"])

    return call


def test_compare_tells_the_preference_both_scores_and_why(run, engine, folder, tmp_path, capsys):
    clips = [folder / "00000.mp4", folder / "00001.mp4"]
    assert run("compare", *clips, "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"first   {clips[0]}  3.15", f"second  {clips[1]}  3.15"]
    # letter by letter `first` is the shortest word, so the most probable one of random weights, in both orders
    assert lines[2].startswith("similar  P(first is better) 0.50 (1.00 shown first, 0.00 shown second)  the answers")
    assert lines[3:] == ["    first shown first: sharp edges", "    second shown first: sharp edges"]
    assert run("compare", *clips, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preference"] == pytest.approx(0.5, abs=0.01) and found["consistent"] is False
    assert (found["first"], found["second"], found["reasoning"]) == (*map(str, clips), ["sharp\nedges"] * 2)


def test_compare_says_plainly_what_a_policy_has_not_learned(run, engine, folder, tmp_path, capsys):
    engine.say = lambda text, blank: "<answer>3.40</answer>"
    assert run("compare", folder / "00000.mp4", folder / "00001.mp4") == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[2].startswith("no preference  no_word  <answer>3.40</answer> | <answer>")
    assert "this policy has not learned to compare: its answers are not of the form `first; 3.42; 2.87`" in err
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    assert run("compare", folder / "00000.mp4", tmp_path / "torn.mp4", "--format", "json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["preference"] is None and "torn.mp4: no readable video" in json.loads(out)["error"]
    assert "not learned" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "FOLDER", "b.mp4"], "is not one file: name one video"),
        (["ask", "FOLDER", "Which?"], "is not one file: name one video"),
        (["compare", "a.mp4", "b.mp4", "--samples", "2"], "unknown option --samples"),
        (["rank", "FOLDER", "--by", "compare", "--samples", "2"], "--by compare with --samples: nothing is scored"),
        (["rank", "FOLDER", "--by", "compare", "--readout", "levels", "--question", "?"], "with --readout, --question"),
    ],
)
def test_what_a_comparison_does_not_take_is_refused(arguments, said, folder, capsys):
    try:
        code = main([str(folder) if word == "FOLDER" else word for word in arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2 and said in capsys.readouterr().err


def test_rank_prints_and_writes_a_table(run, folder, tmp_path, capsys):
    files = [tmp_path / "new" / "r.csv", tmp_path / "r.json"]
    assert run("rank", folder, "--out", tmp_path / "kept", "--csv", files[0], "--json", files[1]) == 0
    out, err = capsys.readouterr()
    assert "| rank   | clip" in out
    assert "4 clips: 4 ranked, 0 not; 6 pairs asked about, 0 without an answer, 6 with" in err
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["video"] for row in rows) == [str(folder / f"0000{i}.mp4") for i in range(4)]
    assert {row["score"] for row in rows} == {"3.4"} and [row["comparisons"] for row in rows] == ["3"] * 4
    assert [json.loads(line)["rank"] for line in files[1].read_text().splitlines()] == [int(r["rank"]) for r in rows]
    assert run("rank", folder, "--out", tmp_path / "kept", "--format", "csv") == 0
    assert capsys.readouterr().out == files[0].read_text()


def test_rank_names_what_it_cannot_rank(run, engine, folder, tmp_path, capsys):
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    arguments = [folder / "00000.mp4", folder / "00001.mp4", tmp_path / "torn.mp4", "--out", tmp_path / "kept"]
    assert run("rank", *arguments) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"not ranked  {tmp_path}/torn.mp4  unreadable  no readable video")
    engine.say = lambda text, blank: "<answer>3.40</answer>"
    assert run("rank", *arguments[:2], "--by", "compare", "--out", tmp_path / "other") == 1
    out, err = capsys.readouterr()
    assert out.count("not_compared") == 2 and "has not learned to compare" in err and "2 clips: 0 ranked, 2 not" in err


def test_ask_shows_a_second_clip(run, engine, folder, capsys):
    engine.say = lambda text, blank: "<answer>B</answer>"
    options = ["--second", folder / "00001.mp4", "--options", "The first", "The second"]
    assert run("ask", folder / "00000.mp4", "Which is sharper?", *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "The second" and found["video"] == f"{folder}/00000.mp4 + {folder}/00001.mp4"
    assert engine.asked[-1][0].count("Frame1:") == 2

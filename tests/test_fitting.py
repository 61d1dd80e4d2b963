"""`fit`: from a table of ratings to a judged policy, and what it says of it."""

import csv
import math
import shlex
from dataclasses import replace

import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.data import Split, read_labels, read_ratings
from vqathinker.fitting import FitSpec, fit, run
from vqathinker.fitting.page import Outcome, described
from vqathinker.synth import SynthSpec, make_set
from vqathinker.training import small_set


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of eight clips of four scenes, and a table of three raters' ratings of them, 1 to 10."""
    folder = tmp_path_factory.mktemp("own")
    make_set(folder, SynthSpec({"clips": 8}, num_frames=8, size=64, fps=8))
    rows = read_labels(folder / "clips.csv", folder, "identity")
    rng = np.random.default_rng(0)
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["clip", "anna", "ben", "cara", "source"])
        for i, row in enumerate(rows):
            marks = [str(int(np.clip(round(2 * row.mos + rng.normal()), 1, 10))) for _ in range(3)]
            writer.writerow([row.video_id, *marks, f"scene{i // 2}"])
    return folder


@pytest.fixture
def quick(monkeypatch):
    """A few steps; the numbers mean nothing."""
    monkeypatch.setattr(small_set, "WARM_START_STEPS", 2)
    monkeypatch.setattr(small_set, "CLIPS_PER_STEP", 2)
    monkeypatch.setattr(small_set, "PACES", {"small": small_set.Pace(2e-4, 1, 1e-3)})
    monkeypatch.setattr(run, "SHIPPED_ANSWER", 8)
    monkeypatch.setattr(run, "PACE_BATCHES", 1)


@pytest.mark.slow
def test_from_ratings_to_a_page_and_on_again(clips, tmp_path, quick, capsys):
    spec = FitSpec(clips / "ratings.csv", clips, tmp_path / "fit", scale="1,10", hold_out=0.25)
    outcome = fit(spec)
    said = capsys.readouterr().out
    # Held-out sources are in no row that is trained on.
    sides = [read_labels(spec.out / f"data/{name}.csv", clips, "identity") for name in ("train", "test")]
    sources = [{row.extra["source"] for row in side} for side in sides]
    assert not sources[0] & sources[1]
    assert [len(side) for side in sides] == [6, 2]
    # What it says: the table, the raters, the recipes, and that two clips are too few.
    assert "8 clips, named in column 'clip'; columns separated by semicolon, a column for each rater." in said
    assert "Next:" not in said.partition("Too few")[0]  # the recipes leave that to fit
    assert "3 raters; one rater against the mean of the others: SRCC" in said
    assert "6 clips to train on, 2 held out: sources by column 'source'." in said
    assert "The policy sees all of 64x64 (8 of 8 clips)." in said
    assert f"--train-labels {spec.out}/data/train.csv" in outcome.commands["GRPO"]
    assert "Too few to say whether it is better (20 clips are needed)" in outcome.sentences()[0]
    page = (spec.out / "report.html").read_text("utf-8")
    for sentence in outcome.sentences():
        assert sentence.split(":")[0] in page
    assert "vqathinker train grpo_lsvq" in page
    assert len(outcome.before) == len(outcome.after) == 2
    # Nothing is hidden: the recipe command of the page, run by hand, ends in the same weights.
    weights = spec.out / "grpo" / "model.safetensors"
    command = shlex.split(outcome.commands["GRPO"])
    command[command.index("--output-dir") + 1] = str(tmp_path / "by_hand")
    run.importlib.import_module("vqathinker.recipes.grpo_lsvq").main(command[3:])
    assert (tmp_path / "by_hand/model.safetensors").read_bytes() == weights.read_bytes()
    # The same again has nothing left to do, and comes to the same.
    capsys.readouterr()
    made = weights.stat().st_mtime_ns
    again = fit(spec)
    assert "resuming with what is missing" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == made
    assert str(again.after) == str(outcome.after)  # no score is NaN, which equals nothing
    with pytest.raises(ValueError, match="holds a fit with different hold_out"):
        fit(replace(spec, hold_out=0.5))


def test_a_folder_of_something_else_is_left_alone(clips, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no fit"):
        fit(FitSpec(clips / "ratings.csv", clips, tmp_path, scale="1,10"))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def mistake(capsys, *arguments):
    """The one line that a wrong call ends in."""
    assert main(["fit", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def test_mistakes_get_one_line_with_the_fix(clips, tmp_path, capsys):
    table, out = clips / "ratings.csv", ("--out", tmp_path / "fit")
    right = ("--videos", clips, "--scale", "1,10")
    assert "no-such.csv' is not a file" in mistake(capsys, tmp_path / "no-such.csv", *right, *out)
    assert "nowhere" in mistake(capsys, table, "--videos", tmp_path / "nowhere", *out)
    assert "--scale" in mistake(capsys, table, "--videos", clips, *out)  # marks beyond 5
    assert "outside the raters' scale 1 to 5" in mistake(capsys, table, "--videos", clips, "--scale", "1,5", *out)
    assert "no columns ['dora'] for --raters" in mistake(capsys, table, *right, "--raters", "dora", *out)
    assert "must be above 0" in mistake(capsys, table, *right, "--minutes", "0", *out)
    assert "above 0 and below 1" in mistake(capsys, table, *right, "--hold-out", "1.5", *out)
    assert "nowhere" in mistake(capsys, table, *right, "--model", tmp_path / "nowhere", *out)
    one = tmp_path / "one.csv"
    one.write_text("\n".join(table.read_text().splitlines()[:2]) + "\n")
    assert "a held-out set needs at least 2 sources" in mistake(capsys, one, *right, *out)
    assert not (tmp_path / "fit").exists()  # nothing was begun


def test_a_clip_that_cannot_be_read_ends_it_before_anything_is_written(clips, tmp_path, capsys):
    for file in clips.rglob("*.mp4"):
        copy = tmp_path / file.relative_to(clips)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    copy.write_bytes(file.read_bytes()[:300])
    out = tmp_path / "fit"
    line = mistake(capsys, clips / "ratings.csv", "--videos", tmp_path, "--scale", "1,10", "--out", out)
    assert f"ratings.csv: 1 clip cannot be read: {copy.relative_to(tmp_path)}" in line
    assert line.endswith("Replace the files, or remove their rows from the table.")
    assert not out.exists()


def rows(scores):
    return [{"score": score, "status": "ok", "reasoning": ""} for score in scores]


def outcome_of(clips, before, after, mos, **spec):
    """An outcome with these scores of clips with these labels."""
    ratings = read_ratings(clips / "ratings.csv", clips, scale="1,10")
    labelled = [replace(ratings.rows[0], video_id=str(i), mos=value) for i, value in enumerate(mos)]
    test = type("Set", (), {"name": "test", "title": "test", "sources": staticmethod(lambda rows: NO_SOURCES)})()
    made = FitSpec(clips / "ratings.csv", clips, scale="1,10", hold_out=0.2, **spec)
    made.__dict__["parts"] = Split(train=(), held_out=tuple(labelled), reason="")  # in place of the table's
    return Outcome(made, test, rows(before), rows(after), {}, [])


class NO_SOURCES:
    names = ()

    @staticmethod
    def drawn(sources):
        return "clips"


def test_sentences_say_better_worse_and_neither(clips):
    mos = list(np.linspace(1, 5, 30))
    rng = np.random.default_rng(3)
    noise = list(rng.uniform(1, 5, 30))
    better, sure, following = outcome_of(clips, noise, mos, mos).sentences()
    assert better.startswith("Better: SRCC ")
    assert "1.000 after it on the 30 held-out clips." in better
    assert "the 95 % interval of a paired bootstrap over clips; given how far the raters agree" in sure
    assert following == "Next: score other clips with it: vqathinker score CLIPS --model runs/fit/grpo"
    worse, _, following = outcome_of(clips, mos, noise, mos).sentences()
    assert worse.startswith("Worse: ")
    assert "signs of a collapse" in following
    same, sure, following = outcome_of(clips, noise, [*noise[:-1], 3.0], mos).sentences()
    assert same.startswith("Not shown to be better: ")
    assert ", which contains 0" in sure
    assert "--minutes 60" in following


def test_sentences_on_few_clips_and_on_a_policy_that_gives_no_scores(clips):
    marks = [1.0, 2.0, 3.0, 4.0, 5.0]
    few = outcome_of(clips, [1.0, 2.0, 2.5, 4.0, 5.0], marks, marks).sentences()
    assert few[0].startswith("Too few to say whether it is better (20 clips are needed): SRCC 1.000 before")
    assert few[2] == "Next: rate more clips; with about 100 of them --hold-out 0.2 holds out 20."
    fewer = outcome_of(clips, marks[:3], marks[:3], marks[:3]).sentences()
    assert fewer[0].endswith("mean error 0.00 before GRPO and 0.00 after it on the 3 held-out clips.")
    mute = outcome_of(clips, [1.0] * 30, [2.0] * 10 + [math.nan] * 20, list(np.linspace(1, 5, 30))).sentences()
    assert "the policy gives 10 of 30 held-out clips a score" in mute[2]


def test_a_table_of_mos_says_that_agreement_is_not_known(clips, tmp_path):
    table = tmp_path / "mos.csv"
    names = [line.split(";")[0] for line in (clips / "ratings.csv").read_text().splitlines()[1:]]
    table.write_text("video,mos\n" + "".join(f"{name},{1 + i / 2}\n" for i, name in enumerate(names)))
    lines = described(read_ratings(table, clips))
    assert lines[1] == (
        "Scale: 1 to 5 (assumed, because all ratings lie there; set another one with --scale); scores are on 1 to 5."
    )
    assert "not known without their own ratings" in lines[2]

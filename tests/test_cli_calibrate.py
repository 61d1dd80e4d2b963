"""`vqathinker calibrate` and `score --calibration`: from labels on one's own scale to a calibrated table."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from vqathinker import QualityScorer
from vqathinker.cli import main
from vqathinker.data import BenchmarkSet
from vqathinker.evaluation.calibrating import calibrate
from vqathinker.metrics.monotone import MonotoneCurve
from vqathinker.scoring import QualityScore
from vqathinker.scoring.calibration import ScoreCalibration, load_score_calibration
from vqathinker.scoring.table import record

SETTINGS = ["--device", "cpu", "--readout", "levels"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_labels(path, labels):
    path.write_text("video,mos\n" + "".join(f"{video},{label:.3f}\n" for video, label in labels.items()))
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory, request):
    """A folder with a policy in `model`, 40 images in `clips`, their scores, and labels 0-100 that rise with these."""
    folder = tmp_path_factory.mktemp("calibrate")
    shutil.copytree(request.config.rootpath / "tests/fixtures/checkpoint", folder / "model")
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        picture = rng.normal(rng.uniform(40, 215), rng.uniform(0, 90), (32, 32, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / "clips" / f"{number:02d}.png")
    assert (
        main(
            [
                "score",
                str(folder / "clips"),
                "--model",
                str(folder / "model"),
                *SETTINGS,
                "--csv",
                str(folder / "s.csv"),
            ]
        )
        == 0
    )
    scores = {row["video"].rpartition("/")[2]: float(row["score"]) for row in read(folder / "s.csv")}
    ranks = stats.rankdata(list(scores.values())) / len(scores)
    labels = dict(zip(scores, (100 * ranks**2 + rng.normal(0, 4, 40)).clip(0, 100), strict=True))
    write_labels(folder / "mine.csv", labels)
    return folder, scores, labels


def test_a_calibration_is_made_beside_the_checkpoint_and_applied_by_name(work, tmp_path, capsys):
    folder, scores, labels = work
    model, clips = str(folder / "model"), str(folder / "clips")
    torn = folder / "clips" / "torn.mp4"
    torn.write_bytes(b"torn")
    write_labels(folder / "mine.csv", labels | {"torn.mp4": 50})
    command = ["calibrate", "--labels", str(folder / "mine.csv"), "--videos", clips, "--scale", "0,100"]
    assert main([*command, "--model", model, *SETTINGS]) == 1
    torn.unlink()
    out, err = capsys.readouterr()
    assert "41 clips: 40 scored, 1 unreadable, 0 without a level word in the answer" in err
    assert "| width without the policy   |" in out and "| 40      |" in out
    known = load_score_calibration(folder / "model/calibration/mine.json")
    assert known.about["without_score"] == 1 and known.settings["readout"] == "levels" and known.coverage == 0.9
    assert (folder / "model/calibration/mine.png").stat().st_size > 10_000 and len(known.left_out) == 40

    table = tmp_path / "t.csv"
    score = ["score", clips, "--model", model, "--calibration", "mine", "--csv", str(table)]
    for _ in range(2):  # the second one reads what the first one wrote
        assert main([*score, *SETTINGS]) == 0
        out, err = capsys.readouterr()
        assert "intervals hold for 90% of clips like those, on average" in err and "outside theirs" not in err
    rows = read(table)
    values, low, high = np.array([[float(row[name]) for name in ("calibrated", "low", "high")] for row in rows]).T
    given = np.array([float(row["score"]) for row in rows])
    assert 10 <= high[0] - low[0] < 100  # hence one decimal
    assert f") = {values[0]:.1f} [{low[0]:.1f}, {high[0]:.1f}]  ok" in out.splitlines()[0]
    assert given.tolist() == list(scores.values())  # the score itself stays
    ours = known.curve(given)
    inside = (ours > 0) & (ours < 100)
    assert stats.rankdata(values[inside]).tolist() == stats.rankdata(given[inside]).tolist()
    assert values == pytest.approx(ours.clip(0, 100), abs=1e-3)
    assert (low >= 0).all() and (low <= values).all() and (values <= high).all() and (high <= 100).all()
    curves = np.array([curve(given) for curve in known.left_out]).clip(0, 100)
    assert high == pytest.approx((curves.max(0) + known.margin).clip(0, 100), abs=1e-3)
    truth = np.array([labels[row["video"].rpartition("/")[2]] for row in rows])
    assert np.mean((low <= truth) & (truth <= high)) >= 0.9 and np.mean(np.abs(values - truth)) < 10

    scorer = QualityScorer.from_pretrained(model, "cpu", readout="levels", calibration="mine")
    found = scorer.score(rows[0]["video"])
    assert (found.calibrated, found.low, found.high) == pytest.approx((values[0], low[0], high[0]), rel=1e-6)
    assert record(found, "x", calibrated=True)["calibrated"] == pytest.approx(values[0], rel=1e-6)
    assert np.isnan(QualityScorer.from_pretrained(model, "cpu", readout="levels").score(rows[0]["video"]).calibrated)
    with pytest.raises(ValueError, match="with a calibration whose labels told of no stalls"):
        scorer.score(rows[0]["video"], events=[])


def test_another_policy_or_another_setting_is_refused_and_named(work, tmp_path, capsys):
    folder, _, labels = work
    model, clips = tmp_path / "model", str(folder / "clips")
    shutil.copytree(folder / "model", model)  # with the scores that there are, and no other calibration
    (model / "calibration/mine.json").unlink(missing_ok=True)
    write_labels(folder / "own.csv", labels)
    assert (
        main(["calibrate", "--labels", str(folder / "own.csv"), "--videos", clips, "--model", str(model), *SETTINGS])
        == 0
    )
    file = model / "calibration/own.json"
    shutil.copytree(model, tmp_path / "other")
    config = tmp_path / "other/config.json"
    config.write_text(config.read_text() + "\n")
    (tmp_path / "no.json").write_text("{}")
    capsys.readouterr()
    for options, message in (
        ([str(model), "--calibration", "own", "--device", "cpu"], "readout 'answer' and not 'levels'"),
        ([str(model), "--calibration", "own", *SETTINGS, "--max-new-tokens", "7"], "max_new_tokens 7 and not"),
        ([str(tmp_path / "other"), "--calibration", "own", *SETTINGS], "now checkpoint_hash "),
        ([str(model), "--calibration", "none", *SETTINGS], "Beside this checkpoint there are: own."),
        ([str(model), "--calibration", str(tmp_path / "no.json"), *SETTINGS], "is not a calibration of scores"),
        ([str(model), "--calibration", str(file), *SETTINGS, "--csv", str(folder / "s.csv")], "its header differs"),
    ):
        assert main(["score", clips, "--model", *options]) == 2
        assert message in capsys.readouterr().err
    for options, message in (
        (["--scale", "100,0"], "--scale '100,0': must be the lowest and the highest label"),
        (["--scale", "1,5"], "outside the scale 1 to 5"),
        (["--name", "a/b"], "--name 'a/b': must be letters"),
        (["--coverage", "1"], "coverage 1: must be at least 0.5 and below 1"),
        (["--coverage", "0.99"], "a coverage of 0.99 needs at least 99 sources"),
    ):
        command = ["calibrate", "--labels", str(folder / "own.csv"), "--videos", clips, "--model", str(model)]
        assert main([*command, *SETTINGS, *options]) == 2
        assert message in capsys.readouterr().err


def test_what_cannot_be_calibrated_is_refused(tmp_path):
    """And says which rule is broken, by which number."""
    quality = np.linspace(0, 1, 60)

    def refused(scores, labels, message, columns="video,mos", more=None):
        more = [""] * len(labels) if more is None else [f",{cell}" for cell in more]
        lines = [f"{i}.mp4,{label}{cell}\n" for i, (label, cell) in enumerate(zip(labels, more, strict=True))]
        (tmp_path / "mine.csv").write_text(columns + "\n" + "".join(lines))
        one = BenchmarkSet("mine", "mine.csv", "", tmp_path / "mine.csv", tmp_path)
        with pytest.raises(ValueError, match=message):
            calibrate(one, one.rows(), [{"score": score} for score in scores], {})

    refused(quality[:29], quality[:29], r"29 clips to fit; a calibration needs at least 30, at best 50 or more")
    gone = np.where(np.arange(60) < 29, quality, np.nan)
    refused(gone, quality, r"31 of 60 clips have no score; 29 clips to fit")
    refused(np.full(60, 3.1), quality, r"gives 60 clips 1 different score only, from 3\.1 to 3\.1; .* at least 5")
    refused(quality, np.full(60, 7), r"all labels are 7: label clips of different quality")
    refused(quality, 1 - quality, r"do not rise with the labels \(SRCC -1\.000 of 60 clips\).* turn the labels round")
    sources = [f"s{i // 8}" for i in range(60)]
    refused(quality, quality, r"clips of 8 sources; a coverage of 0\.9 needs at least 9", "video,mos,source", sources)


def test_values_and_intervals_end_with_the_scale():
    """By hand: curves of 24, 25 and 26 points a score, the middle one of all clips."""
    curve, *left_out = (MonotoneCurve(0.0, slope, 1.0, (), ()) for slope in (25.0, 24.0, 26.0))
    free = ScoreCalibration({}, curve, tuple(left_out), 5.0, 0.975, (1.0, 4.0))
    scores = [2.0, 3.9, 4.2, 5.0, -1.0, np.nan]
    low, high = free.interval(scores)
    assert free.values(scores)[:5] == pytest.approx([50, 97.5, 105, 125, -25])
    assert low[:5] == pytest.approx([43, 88.6, 95.8, 115, -31])
    assert high[:5] == pytest.approx([57, 106.4, 114.2, 135, -19])
    known = replace(free, scale=(0.0, 100.0))
    low, high = known.interval(scores)
    assert known.values(scores)[:5] == pytest.approx([50, 97.5, 100, 100, 0])
    assert low[:5] == pytest.approx([43, 88.6, 95, 95, 0]) and high[:5] == pytest.approx([57, 100, 100, 100, 5])
    assert np.isnan([known.values(scores)[5], low[5], high[5]]).all()
    result = known.applied(QualityScore("a.mp4", 4.2, np.nan, "ok"))
    assert (result.score, result.calibrated, result.low, result.high) == (4.2, 100, 95, 100)
    steep = replace(free, curve=replace(curve, slope=30.0))  # beyond the others by more than the margin
    assert (steep.values([4])[0], *np.ravel(steep.interval([4]))) == (120, 91, 120)
    assert "intervals hold for 97.5% of clips like those, on average; 2 scores outside theirs (1 to 4)" in free.line(
        [0.5, 2.0, 4.5]
    )


def test_whole_sources_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{i}.mp4,{10 * i + rng.normal(0, 20):.2f},s{i // 4}\n" for i in range(60)]
    (tmp_path / "mine.csv").write_text("video,mos,source\n" + "".join(lines))
    one = BenchmarkSet("mine", "mine.csv", "", tmp_path / "mine.csv", tmp_path)
    found = calibrate(one, one.rows(), [{"score": 1 + i / 15} for i in range(60)], {"checkpoint_hash": "x"}, 0.8)
    known = found.calibration
    assert len(known.left_out) == 15 and known.about["sources"] == "15 sources (column 'source')"
    known.save(tmp_path / "cal.json")
    again = load_score_calibration(tmp_path / "cal.json")
    assert again == known and again.digest == known.digest
    assert again.outside([0.9, 1.0, 4.0, 5.0, np.nan]) == 2 and "2 scores outside theirs" in again.line([0.9, 6.0])
    assert json.loads((tmp_path / "cal.json").read_text())["about"]["clips"] == 60

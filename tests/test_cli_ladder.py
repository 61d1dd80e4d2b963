"""`vqathinker ladder`, from ladders that `synth --ladder` makes to the rung of a clip."""

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import open_clip, write_video
from vqathinker.clips.rungs import encode_rungs
from vqathinker.evaluation.ladder_calibration import load_calibration, read_ladder_table
from vqathinker.evaluation.ladder_pilot import encode_clip
from vqathinker.synth.ladders import LadderSpec, make_ladders

COMMON = ("--readout", "levels", "--device", "cpu")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """Folder with ladders of 3 + 1 sources, `cal.json` made with the former, and scores."""
    folder = tmp_path_factory.mktemp("ladder")
    spec = LadderSpec({"val": 3, "test": 1}, crfs=(24, 45), heights=(0, 32), size=64, num_frames=6)
    make_ladders(folder, spec, workers=1, progress=False)
    write_video(folder / "large.mp4", np.zeros((2, 72, 128, 3), np.uint8), 25)
    arguments = ("--calibrate", folder / "val.csv", "--risk", 0.25, "--out", folder / "cal.json")
    assert ladder(base, folder, *arguments) == 0
    return folder


def ladder(base, folder, *arguments):
    given = ("--model", base, "--encodes", folder / "encodes", *COMMON, *arguments)
    return main(["ladder", *map(str, given)])


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def scores_of(folder):
    [table] = (folder / "encodes/scores").glob("*.csv")
    return {row["video"]: float(row["score"]) for row in read(table)}


def threshold_by_hand(sources, target, risk):
    """Brute force: of each source the last threshold that takes a rung which falls short; their k-th smallest."""
    ends = []
    for rungs in sources:
        end = -math.inf
        for limit in [predicted for _, predicted, _ in rungs]:
            above = [rung for rung in rungs if rung[1] > limit - 1e-9]
            if min(above)[2] < target:
                end = max(end, limit)
        ends.append(end)
    return sorted(ends)[math.ceil((len(ends) + 1) * (1 - risk)) - 1]


def test_a_calibration_keeps_scores_labels_and_what_made_them(made):
    found = json.loads((made / "cal.json").read_text())
    rows, scores = read(made / "val.csv"), scores_of(made)
    assert found["policy"]["readout"] == "levels" and found["encoders"]["h264"]["encoder"] == "libx264"
    assert found["rungs"] == [{"codec": "h264", "height": h, "crf": crf} for h in (0, 32) for crf in (24, 45)]
    assert found["labels"] == "vmaf_v0.6.1, as 1 + VMAF / 25" and list(found["sources"]) == [
        f"val_0000{i}" for i in "012"
    ]
    for row in rows:
        source = found["sources"][row["source"]]
        place = (row["width"] == "32") * 2 + (row["crf"] == "45")
        assert source["label"][place] == float(row["mos"])
        assert source["predicted"][place] == scores[str(made / row["video"])]
        assert source["kbps"][place] == pytest.approx((made / row["video"]).stat().st_size * 8 / 1000 / 0.5)


@pytest.mark.parametrize("shift", [0.0, -2.0])  # scores that are too high for a promise, and far too low
def test_the_rung_is_the_cheapest_above_the_bound(made, base, tmp_path, capsys, shift):
    calibration = json.loads((made / "cal.json").read_text())
    for source in calibration["sources"].values():
        source["predicted"] = [value + shift for value in source["predicted"]]
    (tmp_path / "cal.json").write_text(json.dumps(calibration))
    clip = made / "sources/test_00000.mp4"
    given = (clip, "--calibration", tmp_path / "cal.json", "--target", 3.8, "--risk", 0.25)
    code = ladder(base, made, *given, "--format", "json")
    out, _ = capsys.readouterr()
    found = json.loads(out)
    sources = [[*zip(s["kbps"], s["predicted"], s["label"], strict=True)] for s in calibration["sources"].values()]
    assert found["threshold"] == threshold_by_hand(sources, 3.8, 0.25)
    assert [rung["kbps"] for rung in found["rungs"]] == sorted(rung["kbps"] for rung in found["rungs"])
    assert {(rung["codec"], rung["crf"], rung["size"]) for rung in found["rungs"]} == {
        ("h264", crf, size) for crf in (24, 45) for size in ("64x64", "32x32")
    }
    for rung in found["rungs"]:
        assert rung["bound"] == pytest.approx(rung["predicted"] - found["threshold"] + 3.8, abs=2e-4)
        width, height = map(int, rung["size"].split("x"))
        assert open_clip(rung["video"]).frames([0]).shape == (1, height, width, 3)
        assert rung["kbps"] == pytest.approx(Path(rung["video"]).stat().st_size * 8 / 1000 / 0.5, abs=0.06)
    above = [rung for rung in found["rungs"] if rung["bound"] > 3.8] or found["rungs"][-1:]
    assert [rung for rung in found["rungs"] if rung["picked"]] == above[:1]
    assert (code, found["promised"]) == ((0, True) if shift else (1, False))
    if shift:
        assert found["promise"].startswith(
            "promised: a quality of 3.8 or more (vmaf_v0.6.1, as 1 + VMAF / 25), at a risk"
        )
        stamps = [Path(rung["video"]).stat().st_mtime_ns for rung in found["rungs"]]
        assert ladder(base, made, *given, "--heights", "source") == 0
        text = capsys.readouterr().out
        assert "64x64" in text and "32x32" not in text and "promised: a quality of 3.8" in text
        assert [Path(rung["video"]).stat().st_mtime_ns for rung in found["rungs"]] == stamps  # kept
    else:
        assert found["promise"].startswith("not promised: no rung's score is above ")


def test_held_out_sources_show_what_the_promise_is_worth(made, base, capsys):
    given = ("--check", made / "test.csv", "--calibration", made / "cal.json", "--target", 3.0, "--risk", 0.25)
    assert ladder(base, made, *given) == 0
    out, _ = capsys.readouterr()
    cells = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in out.splitlines()
        if "|" in line
    }
    scores, rungs = scores_of(made), {}
    for row in read(made / "test.csv"):
        size = (made / row["video"]).stat().st_size
        rungs.setdefault(row["source"], []).append((size, scores[str(made / row["video"])], float(row["mos"])))
    kept = [min(rung for rung in ladder if rung[2] >= 3.0)[0] for ladder in rungs.values()]
    saved = np.mean([1 - size / max(ladder)[0] for size, ladder in zip(kept, rungs.values(), strict=True)])
    assert cells["labels known"] == ["1", "0", "1.000", "0.025 to 1.000", f"{saved:.3f}"]
    plain = [min((rung for rung in ladder if rung[1] > 3.0), default=None) for ladder in rungs.values()]
    short = sum(rung is not None and rung[2] < 3.0 for rung in plain)
    assert cells["score above the target"][:2] == [str(sum(rung is not None for rung in plain)), str(short)]
    assert cells["the policy"][0] == cells["always h264 own size"][0] == "1"
    assert float(cells["the policy"][1]) >= 0 and "0.75 on average over calibrations (here 3 scenes)" in out


@pytest.mark.parametrize(
    "given, said",
    [
        ("CLIP --target 3", r"CLIP without --calibration \(made with --calibrate\)"),
        ("CLIP --calibration CAL", "CLIP without --target"),
        ("CLIP --calibration CAL --target 3 --risk 0.1", "risk 0.1 needs at least 9 calibration scenes, these are 3"),
        ("CLIP --calibration CAL --target 3 --risk 1.5", "risk 1.5: must be above 0 and below 1"),
        ("CLIP --calibration CAL --target 80 --risk 0.3", "target 80.0: must be a score above 0, at most 5"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --codec av1", r"codec \['av1'\]: .*it knows \['h264'\]"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --crf 24,25", r"crf \[25\]: .*it knows \[24, 45\]"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --heights 48", r"height \[48\]: .*it knows \['source', 32\]"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --crf x", "--crf 'x': write whole numbers"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --out x.json", "CLIP with --out: leave it out"),
        ("CLIP --calibration TABLE --target 3", "is not a calibration .*: make one with"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --question Sharp?", "settings .*; now prompt_hash .* and not"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --heights sources", "--heights 'sources': .* numbers or source"),
        ("CLIP --calibration CAL --target 3 --risk 0.3 --codec=", r"codec \[''\]: .*it knows \['h264'\]"),
        ("VIDEOS --calibration CAL --target 3 --risk 0.3", "videos' is a folder: name one video"),
        ("LARGE --calibration CAL --target 3 --risk 0.3", "128x72, and the shorter sides .* are 64 to 64"),
        ("--check TABLE --calibration CAL --target 3 --risk 0.3 --crf 24", r"made with 3 of its sources"),
        ("CLIP --calibrate TABLE --out x.json", "CLIP, --calibrate: give one of"),
        ("--calibrate TABLE", "--calibrate without --out"),
        ("--calibrate TABLE --out x.json", "3 scenes; a risk of 0.1 needs at least 9"),
        ("--calibrate OTHER --out x.json", "ladder.json cannot be read .*synth --ladder"),
        ("--check TABLE --calibration CAL --target 3 --risk 0.3", r"made with 3 of its sources, \['val_00000'"),
        ("", "no task: give one of CLIP"),
    ],
)
def test_what_has_no_promise_is_refused(made, base, tmp_path, capsys, given, said):
    places = {
        "CLIP": "sources/test_00000.mp4",
        "CAL": "cal.json",
        "TABLE": "val.csv",
        "VIDEOS": "videos",
        "LARGE": "large.mp4",
    }
    places = {word: made / name for word, name in places.items()} | {"OTHER": tmp_path / "other.csv"}
    places["OTHER"].write_text("video,mos\na.mp4,3\n")
    assert ladder(base, made, *(places.get(word, word) for word in given.split())) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert re.search(said, error), error


def rewritten(made, name, change):
    """A table of some rows of `val.csv`, changed."""
    rows = [row for row in map(change, read(made / "val.csv")) if row]
    with (made / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return read_ladder_table(made / name)


def test_a_rung_is_of_the_height_that_was_asked_for(made):
    """Also of a source that has that height, and of tables of before, which do not say it."""
    own = rewritten(made, "asked.csv", lambda row: row | {"height_asked": 64} if row["width"] == "64" else None)
    assert [kind.height for kind in own.kinds] == [64, 64] and own.sizes["val_00001"] == (64, 64)
    before = rewritten(
        made, "before.csv", lambda row: {k: v for k, v in row.items() if k not in ("height_asked", "scene")}
    )
    assert [kind.height for kind in before.kinds] == [0, 0, 32, 32] and before.ladders[0].unit == "val_00000"
    match = rewritten(made, "match.csv", lambda row: row | {"scene": "match"})
    assert {ladder.unit for ladder in match.ladders} == {"match"}


def test_sources_are_told_by_labels_and_rates_of_the_rungs_that_both_have(made):
    cal = load_calibration(made / "cal.json")
    few = rewritten(made, "few.csv", lambda row: row if row["crf"] == "24" else None)
    with pytest.raises(ValueError, match="made with 3 of its sources"):
        cal.check_held_out(few)
    with pytest.raises(ValueError, match="made with 3 of its sources"):
        cal.narrowed(lambda kind: kind.crf == 24).check_held_out(read_ladder_table(made / "val.csv"))
    other = tuple(replace(ladder, rates=ladder.rates + 1) for ladder in few.ladders)
    cal.check_held_out(replace(few, ladders=other))  # the same labels, as many encodes of a VMAF of 100 have


def test_a_clip_has_its_own_folder_and_each_rung_its_own_file(made, tmp_path):
    cal = load_calibration(made / "cal.json")
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(made / f"sources/val_0000{'ab'.index(name)}.mp4", tmp_path / name / "clip.mp4")
    first, second = (encode_clip(tmp_path / name / "clip.mp4", cal, tmp_path / "out") for name in "ab")
    assert all(rung.path.exists() for rung in (*first, *second)) and not {*first} & {*second}
    twice = replace(cal, kinds=tuple(replace(kind, height=kind.height and 64) for kind in cal.kinds))
    with pytest.raises(ValueError, match="its own size 64x64 is that of the rungs of height 64 too"):
        encode_clip(tmp_path / "a/clip.mp4", twice, tmp_path / "out")
    with pytest.raises(ValueError, match="several rungs would be one file"):
        encode_rungs(tmp_path / "a/clip.mp4", [first[0], first[0]])


def test_a_calibration_without_a_label_is_refused(made, tmp_path):
    found = json.loads((made / "cal.json").read_text())
    found["sources"]["val_00001"]["label"][2] = None
    (tmp_path / "cal.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match="source 'val_00001' has rungs without a label"):
        load_calibration(tmp_path / "cal.json")

import math
import shutil

import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import open_clip, write_video
from vqathinker.data import Stalls, read_labels, score_samples, stalls_of
from vqathinker.synth import StallSpec, make_stalls
from vqathinker.synth.build import is_made
from vqathinker.synth.stalls import Plan, draw_plan, stall, stall_severity, stalled_mos, with_spinner

SPEC = StallSpec(splits={"train": 16}, size=32, num_frames=10, distorted=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stalls")
    return folder, make_stalls(folder, SPEC, progress=False)


def test_a_stall_waits_and_goes_on_where_it_stopped():
    frames = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8) + 10
    plan = Plan((2, 5), (3, 1), startup=2)
    assert stall(frames, plan)[:, 0, 0, 0].tolist() == [0, 0, 10, 11, 11, 11, 11, 12, 13, 14, 14, 15]
    assert plan.stalls(6, 2) == Stalls(((2.0, 1.5), (5.0, 0.5)), startup=1.0, duration=6.0, fps=2)
    # where the digits are 1, the picture is that of the frame before, or black
    assert plan.stalls(6, 2).digits() == "110011100010"
    spun = stall(frames, plan, spinner=True)
    assert len(spun) == 12 and spun[2:4, 0, 0, 0].tolist() == [10, 11] and spun[4, 0, 0, 0] == int(0.6 * 11)
    assert spun[0].max() > 200 and (spun[0] != spun[1]).any()  # the start-up too, and it turns
    assert (with_spinner(frames[0], 0) == with_spinner(frames[0], 8)).all()


def test_plans_hold_what_is_asked_for():
    for seed in range(50):
        plan = draw_plan(np.random.default_rng(seed), 3, 10, 12)
        assert len(set(plan.after)) == 3 and min(plan.after) >= 2 and max(plan.after) < 9
        assert all(3 <= length <= 18 for length in plan.lengths) and (plan.startup == 0 or 3 <= plan.startup <= 18)


def test_pseudo_mos_falls_with_number_duration_and_start_up():
    assert stalled_mos(Stalls(), 0) == 5 and stalled_mos(Stalls(), 0.5) == 3
    one, long, two = Stalls(((1, 1),)), Stalls(((1, 2),)), Stalls(((1, 1), (3, 1)))
    assert stall_severity(one) == pytest.approx(1 - math.exp(-0.45 - 0.19))
    assert stall_severity(Stalls(startup=0.9)) == pytest.approx(1 - math.exp(-0.045))
    assert stalled_mos(one, 0) > stalled_mos(long, 0) > stalled_mos(two, 0) > stalled_mos(two, 0.5) >= 1


def test_the_events_are_those_of_the_files(made):
    folder, files = made
    assert list(files) == ["train", "train_missing", "train_false"] and is_made(folder, SPEC)
    rows, missing, false = (read_labels(file, folder, "identity") for file in files.values())
    counts, wordings = set(), set()
    for row, nothing, wrong in zip(rows, missing, false, strict=True):
        stalls, lie, clip = stalls_of(row), stalls_of(wrong), open_clip(row.video)
        assert (nothing.video, nothing.mos, wrong.mos, stalls_of(nothing)) == (row.video, row.mos, row.mos, None)
        assert clip.num_frames / clip.fps == pytest.approx(stalls.duration) == pytest.approx(lie.duration)
        assert bool(stalls.stalls) != bool(lie.stalls)  # one of them is a lie
        assert abs(row.mos - stalled_mos(stalls, 0)) < 0.5
        frames = clip.frames(range(clip.num_frames)).astype(int)
        differ = np.abs(np.diff(frames, axis=0))
        still = differ.mean((1, 2, 3)) < 4  # by what the encoder does
        digits = np.array(list(stalls.digits())) == "1"
        inside = digits[1:] & digits[:-1]
        if row.extra["static"] == "1":
            assert not digits.any() and still.all()
            assert row.extra["kind"] == "" and row.mos > 4.5
        elif row.extra["spinner"] == "0":
            assert still[inside].all() and (stalls.stalls or not digits.any())
        else:
            assert still[inside].all() and (differ[inside].max((1, 2, 3)) > 40).any()  # the spinner's dots
        assert not still[~digits[1:]].any() or row.extra["static"] == "1"
        assert score_samples([row])[0].distortions.keys() <= {"stall"}
        counts.add(len(stalls.stalls))
        wordings.add(stalls.wording)
    assert counts == {0, 1, 2, 3} and wordings == {"summary", "frames"}
    assert {row.extra["static"] for row in rows} == {"0", "1"}


def test_one_spec_gives_the_same_files_whatever_the_workers(made, tmp_path):
    folder, _ = made
    make_stalls(tmp_path, SPEC, workers=1, progress=False)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(names) == 16 + 3 + 1
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"static": 1.5}, "static=1.5: it is a share"),
        ({"size": 33}, r"size=33: .*sides must be even"),
        ({"num_frames": 7}, "need clips_per_scene >= 1, num_frames >= 8"),
        ({"splits": {"a_false": 2}}, "names must not end in"),
    ],
)
def test_specs_out_of_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        StallSpec(**given)


def test_the_command_makes_the_set(tmp_path, capsys):
    command = ["synth", "--stalls", "--out", str(tmp_path), "--splits", "train=2", "--size", "32", "--frames", "10"]
    assert main(command) == 0
    assert f"train_false: {tmp_path}/train_false.csv" in capsys.readouterr().out
    assert main(command) == 2 and "already holds spec.json, train.csv" in capsys.readouterr().err
    own = [*command[:4], "--splits", "cut=1,b=1", "--size", "64x48", "--frames", "8", "--fps", "2", "--source"]
    for name in ("x", "y"):
        write_video(
            tmp_path / "own" / f"{name}.mp4", np.random.default_rng(1).integers(0, 255, (24, 48, 64, 3), np.uint8)
        )
    assert main([*own, str(tmp_path / "own"), "--force"]) == 0
    assert open_clip(tmp_path / "videos/cut/00000.mp4").frames([0]).shape == (1, 48, 64, 3)
    for name, split in (("x", "cut"), ("y", "b")):
        shutil.copy(tmp_path / "own" / f"{name}.mp4", tmp_path / "videos" / split)
    assert main([*own, str(tmp_path / "videos"), "--force"]) == 2
    assert "lies where the new set would be written" in capsys.readouterr().err
    assert main([*command, "--codec", "av1"]) == 2
    assert "--stalls with --questions" in capsys.readouterr().err

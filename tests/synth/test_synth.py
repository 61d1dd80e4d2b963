import csv
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from transformers import AutoTokenizer

from rewards.distortion import parse_distortions
from vqathinker.clips import ClipError, open_clip, write_video
from vqathinker.data import read_labels
from vqathinker.synth import (
    DISTORTIONS,
    OOD_DISTORTIONS,
    TEMPORAL,
    SynthSpec,
    distort,
    make_set,
    pseudo_mos,
    render_scene,
    source_scenes,
)
from vqathinker.synth.build import is_made
from vqathinker.synth.default import BASE
from vqathinker.synth.distortions import source_length, split_severity
from vqathinker.synth.sources import cut_scene
from vqathinker.synth.tiny import tiny_tokenizer

SPEC = SynthSpec(splits={"train": 10, "val": 4}, ood=2, num_frames=8, seed=3)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_one_spec_gives_the_same_files_whatever_the_workers(tmp_path):
    make_set(tmp_path / "a", SPEC, workers=1, progress=False)
    make_set(tmp_path / "b", SPEC, workers=3, progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert is_made(tmp_path / "a", SPEC) and not is_made(tmp_path / "a", SynthSpec(seed=4))


def test_labels_are_readable_and_scenes_disjoint(tmp_path):
    files = make_set(tmp_path, SPEC, progress=False)
    assert set(files) == {"train", "val", *(f"ood_{kind}" for kind in OOD_DISTORTIONS)}
    scenes = {}
    for name, file in files.items():
        rows = read_labels(file, tmp_path, "identity")
        assert len(rows) == SPEC.sets[name][0]
        scenes[name] = {row.extra["scene"] for row in rows}
        truths = [parse_distortions(row.extra["kind"], row.extra["severity"]) for row in rows]
        kinds = {kind for truth in truths for kind in truth}
        assert kinds <= set(SPEC.sets[name][1])
        for row, truth in zip(rows, truths, strict=True):
            assert open_clip(row.video).num_frames == 8
            assert abs(row.mos - (1 + 4 * np.prod([1 - degree for degree in truth.values()]))) < 0.6
            assert bool(row.extra["when"]) == bool(truth.keys() & TEMPORAL.keys())
    assert not scenes["train"] & scenes["val"]
    assert not set(DISTORTIONS) & set(OOD_DISTORTIONS)


@pytest.mark.parametrize("kind", [k for k in [*DISTORTIONS, *OOD_DISTORTIONS] if k != "frame_drop"])
def test_more_severe_is_farther_from_the_original(kind, tmp_path):
    from vqathinker.clips import write_video

    frames = render_scene(np.random.default_rng(5))
    errors = []
    for severity in (0.1, 0.5, 0.9):
        out = distort(frames, {kind: severity}, np.random.default_rng(6))
        write_video(tmp_path / "x.mp4", out.frames, crf=out.crf)
        decoded = open_clip(tmp_path / "x.mp4").frames(range(len(frames)))
        errors.append(float(((decoded.astype(float) - frames) ** 2).mean()))
    assert errors == sorted(errors) and errors[2] > 1.2 * errors[0]


def test_scenes_move_and_differ():
    one, two = (render_scene(np.random.default_rng(seed)).astype(float) for seed in (1, 2))
    assert np.array_equal(one, render_scene(np.random.default_rng(1)))
    assert abs(one - two).mean() > 10 and abs(np.diff(one, axis=0)).mean() > 1
    assert one.shape == (24, 96, 96, 3)


def test_pseudo_mos_covers_the_scale():
    rng = np.random.default_rng(0)
    values = [pseudo_mos(s, rng) for s in np.linspace(0, 1, 200)]
    assert min(values) == 1 and max(values) == 5 and np.corrcoef(values, np.linspace(0, 1, 200))[0, 1] < -0.99
    with pytest.raises(ValueError, match="'warp'"):
        distort(np.zeros((2, 8, 8, 3), np.uint8), {"warp": 0.5}, rng)


def test_temporal_distortions_touch_only_time_and_say_when():
    frames = np.arange(72, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stuttered = distort(frames[:24], {"stutter": 0.1}, rng)
        skipped = distort(frames, {"frame_drop": 0.1}, rng)
        for out, events in ((stuttered, 0), (skipped, 6)):
            times = out.frames[:, 0, 0, 0].astype(int)
            steps = np.diff(times)
            places = 1 + np.flatnonzero(steps == events)
            thirds = {int(place) // 8 for place in places}
            assert len(out.frames) == 24 and (steps >= 0).all()
            assert out.when == ("throughout" if len(thirds) > 1 else ("early", "midway", "late")[thirds.pop()])
            seen.add(out.when)
    assert len(seen) == 4


def test_severity_tells_nothing_about_the_scene(tmp_path):
    """The first draws for a scene and for its first version must not be the same numbers."""
    make_set(tmp_path, SynthSpec(splits={"train": 48}, clips_per_scene=1, num_frames=2, pairs=0), progress=False)
    rows = read_labels(tmp_path / "train.csv", tmp_path, "identity")
    brightness = [open_clip(row.video).frames([0]).mean() for row in rows if row.extra["kind"] in ("stutter", "blur")]
    mos = [row.mos for row in rows if row.extra["kind"] in ("stutter", "blur")]
    assert abs(np.corrcoef(brightness, mos)[0, 1]) < 0.5


def test_more_severe_means_more_skips_and_freezes():
    frames = np.arange(72, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    for kind, event, source in (("stutter", 0, frames[:24]), ("frame_drop", 6, frames)):
        assert len(source) == source_length({kind: 1.0}, 24)
        times = [distort(source, {kind: s}, np.random.default_rng(0)).frames[:, 0, 0, 0] for s in (0.0, 0.3, 0.6, 1.0)]
        counts = [int((np.diff(t.astype(int)) == event).sum()) for t in times]
        assert counts == sorted(set(counts)) and counts[0] == 1


def test_a_pair_is_as_bad_as_its_total():
    for total in (0.05, 0.5, 0.95):
        first, second = split_severity(total, np.random.default_rng(1))
        assert 0 < first < total and 0 < second < total
        assert (1 - first) * (1 - second) == pytest.approx(1 - total)


def test_the_users_own_clips_are_shared_out_by_file(tmp_path, clip_set):
    for index in range(3):
        source = clip_set / "videos" / "train" / f"{index:05d}.mp4"
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / f"{index}.mp4").write_bytes(source.read_bytes())
    spec = SynthSpec(splits={"train": 6, "val": 2}, num_frames=8, size=64, source=str(tmp_path / "own"))
    files = make_set(tmp_path / "out", spec, progress=False)
    stems = {}
    for name, file in files.items():
        with file.open() as handle:
            stems[name] = {row["scene"].split("_")[0] for row in csv.DictReader(handle)}
    assert stems["train"] <= {"0", "1"} and stems["val"] == {"2"}
    assert open_clip(tmp_path / "out" / "videos" / "val" / "00000.mp4").frames([0]).shape == (1, 64, 64, 3)
    with pytest.raises(ClipError, match=r"3 scenes \['0', '1', '2'\] for the 4 splits"):
        make_set(tmp_path / "x", SynthSpec(splits=dict.fromkeys("abcd", 1), source=str(tmp_path / "own")))
    again = SynthSpec(splits={"train": 2}, num_frames=8, size=64, source=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"00000\.mp4 lies where the new set would be written"):
        make_set(tmp_path / "out", again, progress=False)
    assert open_clip(tmp_path / "out" / "videos" / "train" / "00000.mp4")


def test_scenes_of_the_users_own_clips_keep_their_colours_and_stand_upright(tmp_path):
    """A source in BT.709 that is stored on its side."""
    upper, lower = (199, 39, 40), (40, 60, 199)
    frames = np.zeros((12, 96, 96, 3), np.uint8)
    frames[:, :, :48], frames[:, :, 48:] = upper, lower  # turned by 90 degrees, left is up
    tags = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:range=tv"
    encode = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        "96x96",
        "-i",
        "-",
        "-vf",
        tags,
        "-c:v",
        "libx264",
        "-crf",
        "5",
    ]
    turn = ["-display_rotation:v:0", "-90", "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "turned.mp4"]
    for arguments in ([*encode, "-pix_fmt", "yuv420p", tmp_path / "plain.mp4"], turn):
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments)]
        subprocess.run(command, input=frames.tobytes(), check=True)
    scene = cut_scene(tmp_path / "turned.mp4", 12, 64)(np.random.default_rng(0))
    write_video(tmp_path / "clip.mp4", scene)
    picture = open_clip(tmp_path / "clip.mp4").frames([6])[0].astype(int)
    assert np.abs(picture[:24] - upper).max() <= 3 and np.abs(picture[40:] - lower).max() <= 3


def test_versions_of_one_scene_never_part(tmp_path, clip_set):
    content = (clip_set / "videos" / "train" / "00000.mp4").read_bytes()
    for name in ("park_pristine", "park_h264", "clip_01", "clip_02", "sea/a", "sea/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.mp4").write_bytes(content)
    shared = source_scenes(tmp_path, {"train": 8, "val": 2, "test": 2})
    stems = {split: {path.stem for path in files} for split, files in shared.items()}
    assert stems == {"train": {"clip_01", "clip_02"}, "val": {"a", "b"}, "test": {"park_pristine", "park_h264"}}
    for splits, scenes in (  # in proportion to the clips
        ({"train": 2, "test": 8}, [{"clip_01", "clip_02"}, {"a", "b", "park_pristine", "park_h264"}]),
        ({"train": 8, "test": 2}, [{"clip_01", "clip_02", "park_pristine", "park_h264"}, {"a", "b"}]),
    ):
        assert [{path.stem for path in files} for files in source_scenes(tmp_path, splits).values()] == scenes


def test_an_interrupted_set_does_not_look_finished(tmp_path, monkeypatch):
    make_set(tmp_path, SPEC, progress=False)
    monkeypatch.setattr("vqathinker.synth.build.write_video", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_set(tmp_path, SPEC, progress=False)
    assert not is_made(tmp_path, SPEC)


@pytest.mark.parametrize(
    "bad", [{"splits": {}}, {"size": 33}, {"num_frames": 1}, {"ood": -1}, {"fps": 0}, {"pairs": 2}]
)
def test_bad_specs_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SynthSpec(**bad)


def test_the_shipped_tokenizer_is_the_one_the_recipe_makes_today():
    assert tiny_tokenizer().get_vocab() == AutoTokenizer.from_pretrained(BASE).get_vocab()

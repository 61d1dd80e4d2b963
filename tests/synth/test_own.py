import csv
import json
import logging

import av
import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import ClipError, open_clip, write_video
from vqathinker.synth import SynthSpec, make_set
from vqathinker.synth.build import is_made
from vqathinker.synth.codecs import ENCODERS, crf_of, strongest
from vqathinker.synth.own import frame_size, rate_of
from vqathinker.synth.sources import cut_scene


def write_source(path, count=24, size=(48, 64), fps=12, seed=0, **more):
    """Frames that carry their number: frame i is 5 i grey."""
    rng = np.random.default_rng(seed)
    grain = rng.integers(0, 8, (*size, 3))
    frames = np.stack([np.clip(5 * (i % 50) + grain, 0, 255).astype(np.uint8) for i in range(count)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, fps, **more)


def labels(file):
    with file.open() as handle:
        return list(csv.DictReader(handle))


def codec_of(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.codec.canonical_name


def spec(folder, **changes):
    return SynthSpec(splits={"train": 8}, pairs=0.5, source=str(folder), **({"num_frames": 8, "size": 32} | changes))


def test_sources_that_are_too_short_are_left_out_with_a_word(tmp_path, caplog):
    for name, count in (("a.mp4", 24), ("b.mp4", 5), ("c.mp4", 7)):
        write_source(tmp_path / "own" / name, count)
    files = make_set(tmp_path / "out", spec(tmp_path / "own"), progress=False)
    assert {row["scene"][0] for row in labels(files["train"])} == {"a"}
    assert (
        "2 of 3 sources are left out because they have fewer frames than a clip: b.mp4 (5 of 8), c.mp4 (7 of 8)."
        in (caplog.text)
    )
    with pytest.raises(ClipError, match="it holds 0 scenes"):
        make_set(tmp_path / "none", spec(tmp_path / "own", num_frames=125), progress=False)
    assert "3 of 3 sources are left out" in caplog.text


def test_what_is_there_is_taken_where_this_is_asked_for(tmp_path, caplog):
    write_source(tmp_path / "own" / "b.mp4", 5)
    files = make_set(tmp_path / "out", spec(tmp_path / "own", short="take"), progress=False)
    for row in labels(files["train"]):
        assert open_clip(tmp_path / "out" / row["video"]).num_frames == 5 and "frame_drop" not in row["kind"]
    assert "left out" not in caplog.text
    with pytest.raises(ValueError, match="short='loop': must be one of"):
        spec(tmp_path, short="loop")


def test_no_frame_is_shown_twice(tmp_path, caplog):
    """A source of 20 frames has none to skip in clips of 8."""
    write_source(tmp_path / "own" / "a.mp4", 20)
    files = make_set(tmp_path / "out", spec(tmp_path / "own"), progress=False)
    assert not any("frame_drop" in row["kind"] for row in labels(files["train"]))
    assert "1 of 1 source is shorter than three clips, which frame_drop needs" in caplog.text
    for seed in range(8):
        scene = cut_scene(tmp_path / "own" / "a.mp4", 20 - seed, 32)(np.random.default_rng(seed))
        assert (np.diff(scene.mean(axis=(1, 2, 3))) > 3).all()
    with pytest.raises(ClipError, match="it has 20 frames and 21 are needed"):
        cut_scene(tmp_path / "own" / "a.mp4", 21, 32)(np.random.default_rng(0))


@pytest.mark.parametrize(("size", "shape"), [("64x32", (32, 64)), ("source", (48, 64)), (40, (40, 40))])
def test_clips_have_the_size_that_is_asked_for(tmp_path, size, shape):
    write_source(tmp_path / "own" / "a.mp4", 24)
    files = make_set(tmp_path / "out", spec(tmp_path / "own", size=size), progress=False)
    for row in labels(files["train"]):
        assert open_clip(tmp_path / "out" / row["video"]).frames([0]).shape == (1, *shape, 3)


def test_an_odd_row_of_a_source_is_left_out(tmp_path):
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = 65, 47, "bgr0"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((47, 65, 3), 99, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert cut_scene(tmp_path / "odd.mkv", 4, None)(np.random.default_rng(0)).shape == (4, 46, 64, 3)


def test_at_the_sources_rate_a_clip_shows_two_seconds(tmp_path):
    write_source(tmp_path / "own" / "a.mp4", 150, (270, 480), fps=25)
    command = ["synth", "--source", str(tmp_path / "own"), "--out", str(tmp_path / "out"), "--splits", "train=2"]
    assert main([*command, "--size", "source", "--fps", "source"]) == 0
    for row in labels(tmp_path / "out" / "train.csv"):
        clip = open_clip(tmp_path / "out" / row["video"])
        assert clip.num_frames == 50 and clip.fps == pytest.approx(25)
        assert clip.frames([0]).shape == (1, 270, 480, 3)
    assert rate_of(open_clip(tmp_path / "own" / "a.mp4")) == 25


def test_sources_that_are_compressed_already_are_told(tmp_path, caplog):
    write_source(tmp_path / "own" / "a.mp4", 24)
    write_source(tmp_path / "own" / "b.mkv", 24, codec="ffv1")
    make_set(tmp_path / "out", spec(tmp_path / "own"), progress=False)
    assert "1 of 2 sources are already compressed (h264 1): distortions are added" in caplog.text
    caplog.clear()
    (tmp_path / "own" / "a.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        make_set(tmp_path / "out2", spec(tmp_path / "own"), progress=False)
    assert caplog.text == ""


@pytest.mark.parametrize("codec", ENCODERS)
def test_clips_are_written_by_the_codec_that_is_asked_for(tmp_path, codec):
    made = SynthSpec(splits={"train": 8}, num_frames=6, size=64, codecs=(codec,))
    files = make_set(tmp_path, made, progress=False)
    for row in labels(files["train"]):
        assert codec_of(tmp_path / row["video"]) == row["codec"] == codec
        if row["kind"] == "compression":
            assert float(row["severity"]) <= strongest(codec) + 1e-4
    assert is_made(tmp_path, made)


def test_several_codecs_are_drawn_from_and_change_nothing_else(tmp_path):
    plain = SynthSpec(splits={"train": 12}, num_frames=6, size=64)
    several = SynthSpec(splits={"train": 12}, num_frames=6, size=64, codecs=("h264", "hevc"))
    one, two = (labels(make_set(tmp_path / str(i), s, progress=False)["train"]) for i, s in enumerate((plain, several)))
    assert {row.pop("codec") for row in two} == {"h264", "hevc"} and one == two


def test_codecs_that_are_not_offered_are_refused_by_name(tmp_path, capsys, monkeypatch):
    assert main(["synth", "--out", str(tmp_path), "--codec", "h264,vvc"]) == 2
    assert "codecs ['vvc']: the encoders" in capsys.readouterr().err
    monkeypatch.setitem(ENCODERS, "av1", "libnothing")
    with pytest.raises(ValueError, match=r"codecs \['av1'\]: .* offer \['h264', 'hevc', 'vp9'\]"):
        SynthSpec(codecs=("av1",))
    with pytest.raises(ValueError, match="name each once"):
        SynthSpec(codecs=("h264", "h264"))


def test_equal_compression_is_equal_in_all_codecs():
    assert [crf_of("h264", crf) for crf in range(52)] == list(range(52))
    assert (crf_of("vp9", 18), crf_of("av1", 18), crf_of("vp9", 51), crf_of("av1", 12)) == (28, 22, 63, 8)
    assert strongest("h264") == strongest("hevc") == 1 and 0.5 < strongest("av1") < strongest("vp9") < 0.7


def test_the_text_of_specs_from_before_stays(tmp_path):
    text = json.loads(SynthSpec(splits={"train": 1}).to_json())
    assert list(text) == ["generator", "splits", "ood", "clips_per_scene", "pairs", "num_frames", "size", "fps", "seed",
                          "source"]  # fmt: skip
    assert "codecs" in json.loads(SynthSpec(codecs=("hevc",)).to_json())


def test_sizes_and_rates_that_cannot_be_are_refused(tmp_path, capsys):
    assert frame_size("480x270") == (480, 270) and frame_size(96) == (96, 96) and frame_size("source") is None
    for size in ("480x", "x", "480x271", "30x40", "big", 33):
        with pytest.raises(ValueError, match=f"size={size!r}: write a side"):
            frame_size(size)
    for arguments, message in (
        (["--size", "source"], "without a source: drawn scenes are square"),
        (["--fps", "source"], "without a source"),
        (["--frames", "0"], "num_frames >= 2"),
        (["--questions", "--size", "64x64"], "with --questions: give numbers"),
        (["--questions", "--codec", "vp9"], "Leave these options out"),
    ):
        assert main(["synth", "--out", str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err

"""Real files through real decoders."""

import pickle
import subprocess
import sys

import av
import numpy as np
import pytest

from vqathinker.clips import ClipError, open_clip, uniform_indices, write_video

from .conftest import X264, number_of


@pytest.fixture(scope="module")
def ramp():
    """12 flat frames of known, distinct grey."""
    return np.stack([np.full((64, 96, 3), 20 + 15 * t, dtype=np.uint8) for t in range(12)])


@pytest.fixture(scope="module")
def h264(ramp, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, ramp, fps=24)
    return path


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "mp4"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("libsvtav1", "mp4")]
)
def test_every_codec_gives_the_frames_asked_for(ramp, tmp_path, codec, suffix):
    path = tmp_path / f"clip.{suffix}"
    write_video(path, ramp, codec=codec)
    clip = open_clip(path)
    assert clip.num_frames == len(ramp)
    means = clip.frames([11, 0, 5, 5]).mean(axis=(1, 2, 3))
    assert means == pytest.approx([185, 20, 95, 95], abs=4)


@pytest.mark.parametrize(
    ("height", "width", "pixel_format", "codec"),
    [
        (128, 72, "yuv420p", "libx264"),
        (66, 98, "yuv420p", "libx264"),
        (64, 96, "yuv420p10le", "libx265"),
        (64, 96, "gray", "libx264"),
    ],
)
def test_portrait_odd_10_bit_and_grey_clips(tmp_path, height, width, pixel_format, codec):
    frames = np.full((4, height, width, 3), 100, dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, codec=codec, pixel_format=pixel_format)
    out = open_clip(tmp_path / "clip.mp4").frames([0, 3])
    assert out.shape == (2, height, width, 3) and out.dtype == np.uint8
    assert abs(out.mean() - 100) < 4


def test_a_clip_of_odd_size(tmp_path):
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = 97, 63, "bgr0"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((63, 97, 3), 50, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    assert open_clip(path).frames([2]).shape == (1, 63, 97, 3)


def test_a_one_frame_clip(ramp, tmp_path):
    write_video(tmp_path / "one.mp4", ramp[:1])
    clip = open_clip(tmp_path / "one.mp4")
    assert clip.frames(uniform_indices(clip.num_frames, 6)).shape == (6, 64, 96, 3)


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("not a video at all\n" * 50), "no readable video"),
        (audio_only, "no video stream"),
    ],
)
def test_what_is_no_video_is_named(tmp_path, make, reason):
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(ClipError, match=reason) as caught:
        open_clip(path).frames([0])
    assert str(path) in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


TRUNCATED = [
    *((f"a.{end}", X264) for end in ["mp4", "mov", "mkv", "flv", "avi"]),
    ("a.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-g", 30)),
]


@pytest.mark.parametrize("sound", [None, 5, 7])
@pytest.mark.parametrize(("name", "options"), TRUNCATED)
def test_a_file_that_was_cut_off_says_how_much_is_there(ffmpeg, tmp_path, name, options, sound):
    whole, cut = tmp_path / name, tmp_path / f"cut_{name}"
    source = ("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=30:duration=5")
    source += ("-f", "lavfi", "-i", f"sine=duration={sound}") if sound else ()
    ffmpeg(*source, *options, "-g", 30, "-movflags", "faststart", whole)
    data = whole.read_bytes()
    assert open_clip(whole).num_frames == 150  # sound that outlasts the picture is healthy
    for share in (30, 60):
        cut.write_bytes(data[: len(data) * share // 100])
        with pytest.raises(ClipError, match=r"truncated: it holds \d\.\d of [5-7]\.\d s"):
            open_clip(cut)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "live.mkv"])
def test_what_states_no_length_is_read_as_far_as_it_goes(make, tmp_path, name):
    data = make(name, 150, *X264, "-g", 30, *(["-live", 1] if name == "live.mkv" else [])).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    clip = open_clip(tmp_path / name)
    assert 50 < clip.num_frames < 90 and number_of(clip.frames([50])[0]) == 50


def test_an_mp4_that_was_cut_between_two_packets(make, ffmpeg, tmp_path):
    ffmpeg("-i", make("a.mp4", 150, *X264), "-c", "copy", "-movflags", "faststart", tmp_path / "fast.mp4")
    with av.open(str(tmp_path / "fast.mp4")) as container:
        middle = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size][75]
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "fast.mp4").read_bytes()[:middle])
    with pytest.raises(ClipError, match=r"truncated: it holds 2\.\d of 5\.0 s"):
        open_clip(tmp_path / "cut.mp4")


def test_a_damaged_file_gives_no_frames(make, tmp_path):
    data = bytearray(make("a.mp4", 150, *X264, "-g", 250, "-x264-params", "cabac=0").read_bytes())
    start = data.index(b"mdat") + 3000
    data[start : start + 4000] = b"\xff" * 4000
    (tmp_path / "torn.mp4").write_bytes(data)
    with pytest.raises(ClipError, match=r"damaged"):
        open_clip(tmp_path / "torn.mp4").frames([0, 149])


def test_nothing_but_the_error_reaches_the_screen(tmp_path, make):
    data = make("a.mp4", 150, *X264).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "cut.ts").write_bytes(make("a.ts", 150, *X264).read_bytes()[188 * 40 :])
    script = "import sys; from vqathinker.clips import *\nfor path in sys.argv[1:]:\n"
    script += "    try: print(open_clip(path).frames([0]).shape)\n    except ClipError as error: print(error.path)"
    files = sorted(str(file) for file in tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 3


def test_an_index_outside_the_clip_is_refused(h264):
    with pytest.raises(IndexError, match="12"):
        open_clip(h264).frames([12])


SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=25:duration=6", "-f", "lavfi", "-i", "sine=duration=6")
H264 = (*X264, "-g", 25, "-c:a", "aac")
HEALTHY = {
    "late picture": ("-itsoffset", 3, *SOURCE, "-map", 0, "-map", 1),
    "late start": (*SOURCE, "-output_ts_offset", 20),
    "a still beginning": (*SOURCE[:4], "-vf", "select='eq(n,0)+gte(t,4)'", "-fps_mode", "vfr"),
    "slides": ("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=1/3:duration=12", "-fps_mode", "passthrough"),
    "long sound": (*SOURCE[:4], "-f", "lavfi", "-i", "sine=duration=9"),
    "another tag": (*SOURCE, "-metadata:s:v", "DURATION-eng=00:00:30.000000000"),
}


@pytest.mark.parametrize("end", ["mkv", "mp4", "mov", "flv", "avi", "wmv", "ts", "nut"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_file_is_not_taken_for_truncated(ffmpeg, tmp_path, name, end):
    ffmpeg(*HEALTHY[name], *H264, tmp_path / f"healthy.{end}")
    ffmpeg("-i", tmp_path / f"healthy.{end}", "-map", 0, "-c", "copy", tmp_path / f"copy.{end}")
    counts = [open_clip(tmp_path / f"{file}.{end}").num_frames for file in ("healthy", "copy")]
    assert min(counts) > 2 and counts[0] - counts[1] < 3


@pytest.mark.parametrize("name", ["2026-11-26T10:20:30.mp4", "http:a.mp4", "100%d.mp4", "a b.mp4", "_pipe:0.mp4"])
def test_odd_names_are_names_of_files(make, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(make("a.mp4", 150, *X264).read_bytes())
    assert open_clip(name).num_frames == 150


def test_no_index_at_all_is_refused(h264):
    with pytest.raises(ValueError, match="at least one frame"):
        open_clip(h264).frames([])

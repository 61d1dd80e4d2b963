"""Real files through real decoders."""

import pickle
import struct
import sys

import av
import numpy as np
import pytest

from vqathinker.clips import ClipError, open_clip, uniform_indices, write_video


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


def test_decord_and_pyav_agree(h264):
    first, second = open_clip(h264, "decord"), open_clip(h264, "pyav")
    assert (first.num_frames, first.fps) == (second.num_frames, second.fps) == (12, 24)
    assert np.array_equal(first.frames(range(12)), second.frames(range(12)))


def test_av1_which_decord_cannot_open_is_read_by_pyav(ramp, tmp_path):
    write_video(tmp_path / "clip.mp4", ramp, codec="libsvtav1")
    with pytest.raises(ClipError, match="decord"):
        open_clip(tmp_path / "clip.mp4", "decord")
    assert open_clip(tmp_path / "clip.mp4").decoder == "pyav"


def test_without_decord_pyav_reads(h264, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    clip = open_clip(h264)
    assert clip.decoder == "pyav" and clip.frames([3]).shape == (1, 64, 96, 3)


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


def test_a_rotated_clip_is_upright_with_both_decoders(tmp_path):
    frames = np.zeros((4, 64, 96, 3), np.uint8)
    frames[:, :32] = 200  # the upper half is bright
    write_video(tmp_path / "flat.mp4", frames)
    data = (tmp_path / "flat.mp4").read_bytes()
    # The display matrix of the track header: 90 degrees.
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    track = data.index(b"tkhd")
    place = data.index(identity, track)
    (tmp_path / "turned.mp4").write_bytes(data[:place] + turned + data[place + len(turned) :])
    one, two = (open_clip(tmp_path / "turned.mp4", decoder).frames([0, 3]) for decoder in ("decord", "pyav"))
    assert one.shape == two.shape == (2, 96, 64, 3)
    assert np.abs(one.astype(int) - two).mean() < 2


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


@pytest.mark.parametrize("decoder", [None, "decord", "pyav"])
def test_a_truncated_file_fails_and_gives_no_frames(tmp_path, decoder):
    path = tmp_path / "cut.mp4"
    rng = np.random.default_rng(0)
    write_video(tmp_path / "whole.mp4", rng.integers(0, 256, (48, 64, 64, 3), dtype=np.uint8))
    # Index first, so that the file opens although its end is missing.
    with (
        av.open(str(tmp_path / "whole.mp4")) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ClipError, match=r"truncated|damaged|cannot decode"):
        open_clip(path, decoder).frames([0, 47])


def test_an_index_outside_the_clip_is_refused(h264):
    with pytest.raises(IndexError, match="12"):
        open_clip(h264).frames([12])

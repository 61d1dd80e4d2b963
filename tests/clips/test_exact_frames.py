"""Frame i is FFmpeg's i-th frame, in every container and codec."""

import numpy as np
import pytest

from vqathinker.clips import ClipError, open_clip, uniform_indices

from .conftest import X264, number_of, numbered

H264 = (*X264, "-g", 15)
NO_B = (*X264, "-g", 15, "-bf", 0)
OPEN_GOP = (*X264, "-g", 20, "-x264-params", "open-gop=1:bframes=3")
REFRESH = (*X264, "-x264-params", "intra-refresh=1:keyint=25")
HEVC = ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-preset", "ultrafast")
HEVC += ("-x265-params", "log-level=error:keyint=30:bframes=3:open-gop=1")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", 3, "-g", 12, "-bf", 2)
MPEG4 = ("-c:v", "mpeg4", "-q:v", 3, "-g", 12, "-bf", 2)
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", 5, "-crf", 30, "-b:v", 0, "-g", 30, "-lag-in-frames", 20)
VP8 = ("-c:v", "libvpx", "-auto-alt-ref", 1, "-lag-in-frames", 20, "-b:v", "500k", "-g", 30, "-cpu-used", 5)
AV1 = ("-c:v", "libsvtav1", "-preset", 10, "-crf", 30, "-g", 30, "-svtav1-params", "lp=1")

KINDS = [
    *(
        (f"h264.{end}", H264)
        for end in ["mp4", "mov", "mkv", "ts", "m2ts", "avi", "flv", "asf", "wmv", "mpg", "3gp", "mxf"]
    ),
    *((f"no_b.{end}", NO_B) for end in ("avi", "wmv")),
    *((f"open_gop.{end}", OPEN_GOP) for end in ["mp4", "mkv", "ts", "avi"]),
    *((f"refresh.{end}", REFRESH) for end in ["mp4", "mkv", "ts"]),
    *((f"hevc.{end}", HEVC) for end in ["mp4", "mkv", "ts"]),
    *((f"mpeg2.{end}", MPEG2) for end in ["ts", "mpg", "avi", "mkv"]),
    *((f"mpeg4.{end}", MPEG4) for end in ["avi", "mp4"]),
    ("packed.avi", (*MPEG4, "-vtag", "XVID")),
    *((f"vp9.{end}", VP9) for end in ("webm", "mp4")),
    ("vp8.webm", VP8),  # packets without a frame
    *((f"av1.{end}", AV1) for end in ("mkv", "mp4")),
    ("theora.ogv", ("-c:v", "libtheora", "-q:v", 8)),
    ("msmpeg4.avi", ("-c:v", "msmpeg4v3", "-q:v", 3)),
    ("flv1.flv", ("-c:v", "flv1", "-q:v", 3)),
    ("mjpeg.avi", ("-c:v", "mjpeg", "-q:v", 3, "-pix_fmt", "yuvj420p")),
    ("ffv1.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p")),
    ("raw.y4m", ("-pix_fmt", "yuv420p")),
]


def check(path, truth):
    clip = open_clip(path)
    assert clip.num_frames == len(truth)
    for count in (6, 12):
        indices = uniform_indices(clip.num_frames, count)
        found = clip.frames(indices)
        assert [number_of(frame) for frame in found] == [number_of(frame) for frame in truth[indices]]
        # the pictures too, not their numbers only; decoders' and colour conversions' versions differ a little
        assert np.abs(found.astype(int) - truth[indices]).mean(axis=(1, 2, 3)).max() < 1.5
    return clip


@pytest.mark.parametrize(("name", "options"), KINDS, ids=[name for name, _ in KINDS])
def test_frames_are_those_of_ffmpeg(make, shown_by_ffmpeg, name, options):
    path = make(name, 120, *options)
    check(path, shown_by_ffmpeg(path))


LONG = {"long.mp4": (*X264, "-g", 60), "long_hevc.mp4": HEVC, "long_mpeg2.ts": MPEG2}


@pytest.mark.parametrize(
    ("source", "end"),
    [(source, end) for source in LONG for end in ("mp4", "mkv", "ts", "avi")]
    + [("long.mp4", "flv"), ("long_hevc.mp4", "flv")],  # which holds no MPEG-2
)
def test_a_clip_cut_without_encoding_it_anew(make, ffmpeg, shown_by_ffmpeg, tmp_path, source, end):
    path = tmp_path / f"cut.{end}"
    ffmpeg("-ss", 1.37, "-i", make(source, 200, *LONG[source]), "-t", 2.5, "-c", "copy", path)
    check(path, shown_by_ffmpeg(path))


def test_frames_that_an_edit_list_hides_are_not_counted(make, ffmpeg, tmp_path):
    whole = make("one_gop.mp4", 90, *X264, "-g", 250)
    ffmpeg("-ss", 2, "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    clip = open_clip(tmp_path / "cut.mp4")
    assert clip.num_frames == 30
    assert [number_of(frame) for frame in clip.frames(range(30))] == list(range(60, 90))


@pytest.mark.parametrize(("name", "options"), [("a.ts", (*X264, "-g", 60)), ("b.ts", HEVC), ("c.ts", MPEG2)])
def test_a_stream_that_begins_between_key_frames(make, shown_by_ffmpeg, tmp_path, name, options):
    data = make(name, 200, *options).read_bytes()
    (tmp_path / name).write_bytes(data[len(data) // 3 // 188 * 188 :])
    clip = check(tmp_path / name, shown_by_ffmpeg(tmp_path / name))
    assert clip.num_frames < 140


def test_a_stream_that_starts_over(make, shown_by_ffmpeg, tmp_path):
    one, two = make("a.ts", 90, *H264), make("b.ts", 60, *H264)
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + two.read_bytes())
    assert check(tmp_path / "both.ts", shown_by_ffmpeg(tmp_path / "both.ts")).num_frames == 150


@pytest.mark.parametrize(
    ("name", "options"), [("late.mp4", NO_B), ("late.mkv", H264), ("late.ts", H264), ("l.webm", AV1)]
)
def test_late_frames_are_not_decoded_from_the_beginning(make, monkeypatch, name, options):
    path = make(name, 240, *options)
    clip = open_clip(path)
    monkeypatch.setattr("vqathinker.clips.decode.decode_all", lambda *_: iter(()))
    assert [number_of(frame) for frame in clip.frames([150, 236])] == [150, 236]


def test_any_order_of_frames_and_repeats(make):
    clip = open_clip(make("h264.mp4", 120, *H264))
    wanted = [119, 0, 45, 45, 44, 46, 3]
    assert [number_of(frame) for frame in clip.frames(wanted)] == wanted
    assert np.array_equal(clip.times[:3], np.array([0, 1, 2]) / 30) and clip.fps == 30


def test_every_frame_of_a_clip_one_by_one(make):
    clip = open_clip(make("open_gop.ts", 120, *OPEN_GOP))
    assert [number_of(frame) for frame in clip.pictures(range(120))] == list(range(120))


def test_of_several_video_streams_the_one_counts_that_ffmpeg_takes(make, ffmpeg, shown_by_ffmpeg, tmp_path):
    path, cover = tmp_path / "two.mp4", tmp_path / "cover.png"
    one = make("h264.mp4", 120, *H264)
    scale = ("-filter:v:0", "scale=64:48", "-filter:v:1", "null", *X264)
    ffmpeg("-i", one, "-map", "0:v", "-map", "0:v", *scale, path)
    clip = open_clip(path)
    assert clip.frames([7]).shape == (1, 96, 128, 3) and clip.notes == ("video stream 2 of 2",)
    assert number_of(clip.frames([7])[0]) == 7
    ffmpeg("-i", one, "-frames:v", 1, "-vf", "scale=640:480", cover)
    attached = ("-c", "copy", "-disposition:v:1", "attached_pic")
    ffmpeg("-i", one, "-i", cover, "-map", 0, "-map", 1, *attached, tmp_path / "cover.mp4")
    clip = open_clip(tmp_path / "cover.mp4")
    assert clip.num_frames == 120 and clip.notes == ()


def test_a_cover_picture_is_no_video(make, ffmpeg, tmp_path):
    ffmpeg("-i", make("h264.mp4", 120, *H264), "-frames:v", 1, tmp_path / "cover.png")
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-i", tmp_path / "cover.png", "-map", 0, "-map", 1)
    ffmpeg(*sound, "-c:a", "aac", "-c:v", "copy", "-disposition:v", "attached_pic", tmp_path / "song.m4a")
    with pytest.raises(ClipError, match="no video stream"):
        open_clip(tmp_path / "song.m4a")


def test_numbers_are_read_from_frames():
    assert [number_of(frame) for frame in numbered(200)] == list(range(200))


@pytest.mark.parametrize("end", ["mp4", "mkv"])
def test_the_last_frames_of_an_intra_refresh(make, end):
    """After the last recovery point nothing is whole before the end."""
    path = make(f"refresh.{end}", 80, *REFRESH)
    assert [number_of(frame) for frame in open_clip(path).frames([79])] == [79]


def test_packets_without_a_picture(ffmpeg, shown_by_ffmpeg, tmp_path):
    late = (
        "-itsoffset",
        2,
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=128x96:duration=3",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=3",
    )
    ffmpeg(*late, "-c:v", "libtheora", "-c:a", "libvorbis", tmp_path / "late.ogv")
    clip, truth = open_clip(tmp_path / "late.ogv"), shown_by_ffmpeg(tmp_path / "late.ogv")
    assert clip.num_frames == len(truth)
    assert np.abs(clip.frames([0, len(truth) - 1]).astype(int) - truth[[0, -1]]).mean() < 1.5


@pytest.mark.parametrize("end", ["mp4", "ts", "mkv"])
def test_clips_joined_where_frames_need_those_that_are_gone(make, ffmpeg, shown_by_ffmpeg, tmp_path, end):
    path = make("open_gop.mp4", 120, *OPEN_GOP)
    parts = f"file '{path}'\noutpoint 2\nfile '{path}'\ninpoint 1.7\n"
    (tmp_path / "list.txt").write_text(parts)
    ffmpeg("-f", "concat", "-safe", 0, "-i", tmp_path / "list.txt", "-c", "copy", tmp_path / f"joined.{end}")
    check(tmp_path / f"joined.{end}", shown_by_ffmpeg(tmp_path / f"joined.{end}"))

"""Pictures are those a player shows: upright, square pixels, right colours, no combing."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageOps

from vqathinker.clips import ClipError, VideoWriter, open_clip, timed_indices, uniform_indices
from vqathinker.clips.hdr import KNEE, PEAK, WHITE, moebius, to_bt709

from .conftest import X264, number_of, numbered

RED = (199, 39, 40)


def flat(colour, size=(96, 128), count=6):
    return np.broadcast_to(np.array(colour, np.uint8), (count, *size, 3)).copy()


def corners():
    """A picture whose four corners have four different greys."""
    frames = flat((0, 0, 0), count=3)
    frames[:, :48, :64], frames[:, :48, 64:], frames[:, 48:, :64], frames[:, 48:, 64:] = 40, 100, 160, 220
    return frames


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("end", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("turn", "mirror"), itertools.product([0, 90, 180, 270], ["", "-display_hflip", "-display_vflip"])
)
def test_orientation_is_ffmpegs(ffmpeg, tmp_path, end, turn, mirror):
    plain, tagged = tmp_path / "plain.mp4", tmp_path / f"tagged.{end}"
    ffmpeg(*X264, plain, frames=corners())
    tags = ("-display_rotation:v:0", turn, *([f"{mirror}:v:0"] if mirror else []))
    ffmpeg(*tags, "-i", plain, "-c", "copy", tagged)
    found = open_clip(tagged).frames([1])[0]
    ffmpeg("-i", tagged, "-frames:v", 1, tmp_path / "shown.png")  # turns by itself
    shown = np.asarray(Image.open(tmp_path / "shown.png").convert("RGB"))
    assert found.shape == shown.shape and np.abs(found.astype(int) - shown).mean() < 1
    notes = " ".join(open_clip(tagged).notes)
    assert ("turned" in notes or "mirrored" in notes) == (turn > 0 or mirror != "")


# ---------------------------------------------------------------- colours

BT709 = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709", "-color_primaries", "bt709")
BT709 += ("-color_trc", "bt709", "-color_range", "tv")
FULL = ("-vf", "scale=out_color_matrix=bt709:out_range=pc", "-colorspace", "bt709", "-color_range", "pc")
BT601 = ("-vf", "scale=out_color_matrix=bt601:out_range=tv", "-colorspace", "smpte170m", "-color_range", "tv")


@pytest.mark.parametrize("tags", [BT709, FULL, BT601], ids=["bt709", "full range", "bt601"])
@pytest.mark.parametrize("end", ["mp4", "mkv"])
def test_colours_follow_the_tags(ffmpeg, tmp_path, tags, end):
    path = tmp_path / f"red.{end}"
    ffmpeg(*X264, *tags, path, frames=flat(RED))
    assert np.abs(open_clip(path).frames([0]).astype(int) - RED).max() <= 3


def inverse_eotf(transfer, linear709):
    """Code values 0-1 of linear BT.709 light (white = 1 = 203 nits), written down from BT.2100."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    nits = 203 * linear709 @ to_2020.T
    if transfer == "PQ":
        power = (nits / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    luminance = nits @ np.array([0.2627, 0.6780, 0.0593])
    scene = (nits / 1000) * (luminance / 1000)[..., None] ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


@pytest.mark.parametrize(("transfer", "name"), [("PQ", "smpte2084"), ("HLG", "arib-std-b67")])
@pytest.mark.parametrize("end", ["mp4", "mkv"])
def test_hdr_is_brought_to_bt709_and_noted(ffmpeg, tmp_path, transfer, name, end):
    colours = np.array([RED, (40, 180, 60), (40, 60, 200), (128, 128, 128), (250, 250, 250)])
    code = inverse_eotf(transfer, (colours / 255) ** 2.4)
    frames = np.repeat(np.repeat(code[None, None], 96, axis=1), 16, axis=2).reshape(1, 96, -1, 3)[:, :, :80]
    wide = np.round(np.repeat(frames, 3, axis=0) * 65535).astype("<u2")
    matrix = "scale=out_color_matrix=bt2020nc:out_range=tv,format=yuv420p10le"
    tags = f"setparams=color_primaries=bt2020:color_trc={name}:colorspace=bt2020nc:range=tv"
    raw = tmp_path / "wide.rgb"
    raw.write_bytes(wide.tobytes())
    source = ("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "80x96", "-r", 30, "-i", raw)
    options = ("-c:v", "libx265", "-crf", 5, "-x265-params", "log-level=error")
    ffmpeg(*source, "-vf", f"{matrix},{tags}", *options, tmp_path / f"hdr.{end}")
    clip = open_clip(tmp_path / f"hdr.{end}")
    assert clip.notes == (f"{transfer} to BT.709",)
    found = clip.frames([1])[0][48, 8::16]
    assert np.abs(found.astype(int) - colours).max() <= 8, found


def test_the_tone_mapping_keeps_what_is_below_its_knee_and_never_clips_below_the_peak():
    light = np.linspace(0, PEAK / WHITE, 500)
    shown = moebius(light)
    assert np.allclose(shown[light <= KNEE], light[light <= KNEE])
    assert (np.diff(shown) > 0).all() and shown[-1] == pytest.approx(1)
    code = np.broadcast_to(np.arange(0, 65536, 64, dtype=np.uint16)[:, None, None], (1024, 1, 3))
    for transfer in ("PQ", "HLG"):
        grey = to_bt709(code, transfer)[:, 0]
        assert (np.diff(grey.astype(int), axis=0) >= 0).all() and grey[-1].tolist() == [255] * 3 and not grey[0].any()
        assert (np.ptp(grey.astype(int), axis=1) <= 1).all()  # grey stays grey


# ---------------------------------------------------------------- interlaced, pixel aspect, rate, images


def combing(frames):
    """How much neighbouring lines differ, below the numbers."""
    return np.abs(np.diff(frames[:, 16:].astype(float), axis=1)).mean()


@pytest.mark.parametrize(("name", "codec"), [("i.mp4", X264), ("i.ts", ("-c:v", "mpeg2video", "-q:v", 2, "-bf", 2))])
def test_interlaced_content_is_deinterlaced_and_noted(ffmpeg, shown_by_ffmpeg, tmp_path, name, codec):
    weave = "interlace=scan=tff:lowpass=0"
    top = ("-x264-params", "tff=1") if codec == X264 else ()
    ffmpeg("-vf", weave, *codec, *top, "-flags", "+ildct+ilme", tmp_path / name, frames=moving(80), rate=50)
    clip = open_clip(tmp_path / name)
    assert clip.num_frames == 40 and clip.notes == ("deinterlaced",)
    stored = shown_by_ffmpeg(tmp_path / name)[[0, 20, 39]]
    shown = clip.frames([0, 20, 39])
    assert combing(stored[1:2]) > 10 and combing(shown[1:2]) < combing(stored[1:2]) / 5
    assert [number_of(frame) for frame in shown] == [number_of(frame) for frame in stored]
    # the same frame whatever else is asked for
    assert np.array_equal(clip.frames([20]), shown[1:2]) and np.array_equal(clip.frames(range(40))[[0, 20, 39]], shown)
    assert open_clip(tmp_path / name).frames([20]).tolist() == shown[1:2].tolist()


def moving(count):
    """Numbered in steps of two, with a bar that moves fast."""
    frames = np.repeat(numbered(count // 2), 2, axis=0)
    frames[:, 16:] = 60
    for i, frame in enumerate(frames):
        frame[16:, 8 * i % 96 : 8 * i % 96 + 24] = 200
    return frames


@pytest.mark.parametrize(("aspect", "shape"), [("2/1", (96, 256)), ("1/2", (192, 128)), ("12/11", (96, 140))])
def test_pixels_are_made_square(ffmpeg, tmp_path, aspect, shape):
    ffmpeg("-vf", f"setsar={aspect}", *X264, tmp_path / "wide.mp4", frames=numbered(10))
    clip = open_clip(tmp_path / "wide.mp4")
    frames = clip.frames([0, 9])
    assert frames.shape == (2, *shape, 3) and clip.notes == (f"pixels of {aspect.replace('/', ':')} made square",)
    assert [number_of(frame) for frame in frames] == [0, 9]


def test_pixels_that_are_nearly_square_stay_as_they_are(ffmpeg, tmp_path):
    ffmpeg("-vf", "setsar=400/399", *X264, tmp_path / "a.mp4", frames=numbered(10))
    clip = open_clip(tmp_path / "a.mp4")
    assert clip.frames([0]).shape == (1, 96, 128, 3) and clip.notes == ()


@pytest.mark.parametrize("end", ["mp4", "mkv"])
def test_sampling_by_time_follows_a_variable_rate(ffmpeg, processor, tmp_path, end):
    still = "select='not(mod(n\\,7))+lt(n\\,40)'"  # 30 frames a second, then every seventh only
    ffmpeg("-vf", still, "-fps_mode", "vfr", *X264, tmp_path / f"variable.{end}", frames=numbered(120))
    ffmpeg(*X264, tmp_path / f"constant.{end}", frames=numbered(120))
    variable, constant = open_clip(tmp_path / f"variable.{end}"), open_clip(tmp_path / f"constant.{end}")
    shown = [number_of(variable.frames([i])[0]) for i in timed_indices(variable.times, variable.rate, 6)]
    wanted = uniform_indices(120, 6)
    assert all(0 <= want - show < 7 for want, show in zip(wanted, shown, strict=True))  # the frame shown at that time
    by_number = [number_of(variable.frames([i])[0]) for i in uniform_indices(variable.num_frames, 6)]
    assert max(abs(want - show) for want, show in zip(wanted, by_number, strict=True)) > 25
    assert np.array_equal(timed_indices(constant.times, constant.rate, 6), wanted)  # at a constant rate nothing changes

    assert processor.sampling == "number"
    at_number = processor.load_clip(variable.path).indices.tolist()
    processor.sampling = "time"
    assert (
        processor.load_clip(variable.path).indices.tolist() == timed_indices(variable.times, variable.rate, 6).tolist()
    )
    assert at_number == uniform_indices(variable.num_frames, 6).tolist()


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 250])
def test_sampling_by_time_of_short_clips(count):
    times = np.arange(count) / 25
    assert np.array_equal(timed_indices(times, 25.0, 6), uniform_indices(count, 6))
    assert np.array_equal(timed_indices(times, float("nan"), 6), uniform_indices(count, 6))


@pytest.mark.parametrize("end", ["png", "jpg", "bmp", "webp"])
def test_an_image_is_a_clip_of_one_frame(tmp_path, end):
    Image.fromarray(flat(RED)[0]).save(tmp_path / f"red.{end}", quality=95)
    clip = open_clip(tmp_path / f"red.{end}")
    assert clip.num_frames == 1 and clip.notes == ("an image",)
    assert np.abs(clip.frames([0, 0]).astype(int) - RED).max() <= 4


def test_frames_of_several_sizes_are_refused(make, ffmpeg, tmp_path):
    ffmpeg("-i", make("a.ts", 60, *X264), "-vf", "scale=64:48", *X264, tmp_path / "small.ts")
    both = tmp_path / "both.ts"
    both.write_bytes(make("a.ts", 60, *X264).read_bytes() + (tmp_path / "small.ts").read_bytes())
    with pytest.raises(ClipError, match=r"the frame size changes: \[\(64, 48\), \(128, 96\)\]"):
        open_clip(both).frames([0, 100])


def test_interlaced_frames_behind_a_progressive_beginning(ffmpeg, shown_by_ffmpeg, tmp_path):
    codec = ("-c:v", "mpeg2video", "-q:v", 2, "-bf", 2, "-g", 10)
    ffmpeg(*codec, tmp_path / "one.ts", frames=moving(40)[::2], rate=25)
    ffmpeg(
        *("-vf", "interlace=scan=tff:lowpass=0", *codec, "-flags", "+ildct+ilme"),
        tmp_path / "two.ts",
        frames=moving(80),
        rate=50,
    )
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.ts").read_bytes())
    clip, stored = open_clip(both), shown_by_ffmpeg(both)
    assert clip.num_frames == len(stored) == 60 and clip.notes == ()
    shown = clip.frames([5, 40])
    assert clip.notes == ("deinterlaced",) and np.abs(shown[0].astype(int) - stored[5]).mean() < 1.5
    assert combing(shown[1:]) < combing(stored[40:41]) / 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("end", ["jpg", "png", "tif", "webp"])
def test_images_are_shown_as_their_exif_says_and_by_pixels_not_by_inches(tmp_path, end, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(corners()[0])
    image.save(tmp_path / f"a.{end}", exif=exif, dpi=(72, 144), **({"lossless": True} if end == "webp" else {}))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"a.{end}")).convert("RGB")).astype(int)
    found = open_clip(tmp_path / f"a.{end}").frames([0])[0]
    assert found.shape == shown.shape and np.abs(found - shown).mean() < 3


def test_a_turn_that_is_no_quarter_says_so(ffmpeg, tmp_path):
    ffmpeg(*X264, tmp_path / "plain.mp4", frames=corners())
    ffmpeg("-display_rotation:v:0", 30, "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "askew.mp4")
    clip = open_clip(tmp_path / "askew.mp4")
    assert clip.frames([0]).shape == (1, 96, 128, 3) and clip.notes == ("the rest of its turn left out",)


@pytest.mark.parametrize("stored", ["bgr24", "rgb24", "gbrp", "argb", "yuv444p", "yuv420p10le", "gray"])
def test_a_copy_of_any_pixel_format_has_its_colours(ffmpeg, tmp_path, stored):
    frames = flat((128, 128, 128))
    frames[:, :48, :64], frames[:, :48, 64:] = 255, 16
    codec = "rawvideo" if stored in ("bgr24", "rgb24", "gray") else "ffv1"
    ffmpeg("-c:v", codec, "-pix_fmt", stored, tmp_path / "source.nut", frames=frames)
    source = open_clip(tmp_path / "source.nut")
    with VideoWriter(tmp_path / "copy.mp4", source.rate, crf=1) as writer:
        for frame in source.for_encoder():
            writer.write(frame)
    difference = open_clip(tmp_path / "copy.mp4").frames([3]).astype(int) - source.frames([3])
    assert np.abs(difference).max() <= 3

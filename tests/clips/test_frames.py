import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.clips import ClipError, fit_frames, run_indices, seen_of, uniform_indices


@given(st.integers(1, 2000), st.integers(1, 40))
def test_uniform_indices_follow_the_published_rule(num_frames, count):
    segment = (num_frames - 1) / count
    expected = [int(segment / 2 + np.round(segment * i)) for i in range(count)]
    indices = uniform_indices(num_frames, count)
    assert indices.tolist() == expected
    assert (np.diff(indices) >= 0).all() and indices[0] >= 0 and indices[-1] < num_frames


def test_known_indices():
    assert uniform_indices(300, 6).tolist() == [24, 74, 124, 174, 223, 273]
    assert uniform_indices(1, 6).tolist() == [0] * 6
    with pytest.raises(ValueError, match="num_frames=0"):
        uniform_indices(0, 6)


@given(st.integers(1, 100), st.integers(1, 12), st.integers(1, 9))
def test_runs_are_neighbouring_frames_around_their_key_frame(num_frames, count, length):
    keys = uniform_indices(num_frames, count)
    runs = run_indices(keys, num_frames, length)
    assert runs.shape == (count, length) and runs.min() >= 0 and runs.max() < num_frames
    assert all(key in run for key, run in zip(keys, runs, strict=True))
    if num_frames >= length:
        assert (np.diff(runs, axis=1) == 1).all()


@pytest.mark.parametrize("shape", [(2, 96, 96, 3), (2, 144, 81, 3), (1, 30, 200, 3), (2, 64, 64, 3)])
@pytest.mark.parametrize("fit", ["stretch", "center_crop"])
def test_frames_of_any_shape_become_squares(shape, fit):
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert fit_frames(frames, 64, fit).shape == (shape[0], 3, 64, 64)


def test_a_crop_keeps_pixels_as_they_are(frames):
    assert np.array_equal(fit_frames(frames, 64, "center_crop"), frames[:, 16:80, 16:80].transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("size", "side", "view", "text", "altered"),
    [
        ((480, 270), 64, "center_crop", "sees the central 64x64 of 480x270, 3 %", True),
        ((1280, 720), 64, "center_crop", "sees the central 64x64 of 1280x720, 0.4 %", True),
        ((1001, 1000), 1000, "center_crop", "sees the central 1000x1000 of 1001x1000, 99 %", True),
        ((48, 32), 64, "center_crop", "sees the central 32x32 of 48x32, 67 %, enlarged to 64x64", True),
        ((48, 48), 64, "center_crop", "sees all of 48x48, enlarged to 64x64", True),
        ((64, 64), 64, "center_crop", "sees all of 64x64", False),
        ((1280, 720), 448, "resize", "sees all of 1280x720, resized to 448x448", False),
        ((448, 448), 448, "stretch", "sees all of 448x448", False),
    ],
)
def test_what_is_seen_is_said(size, side, view, text, altered):
    seen = seen_of(*size, side, view)
    assert (seen.text, seen.altered) == (text, altered)


@pytest.mark.parametrize(("width", "height"), [(96, 96), (101, 67), (70, 200)])
def test_a_crop_sees_its_box_and_nothing_else(width, height):
    frames = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    seen = seen_of(width, height, 64, "center_crop")
    left, top, right, bottom = seen.box
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    assert seen.share == inside.mean() and (right - left, bottom - top) == (64, 64)
    noise = np.where(inside[..., None], frames, 255 - frames)
    assert np.array_equal(fit_frames(noise, 64, "center_crop"), fit_frames(frames, 64, "center_crop"))
    other = np.where(inside[..., None], 255 - frames, frames)
    assert (fit_frames(other, 64, "center_crop") != fit_frames(frames, 64, "center_crop")).all()


def test_bad_frames_are_refused(frames):
    with pytest.raises(ValueError, match="uint8"):
        fit_frames(frames.astype(float), 64)
    with pytest.raises(ValueError, match="'zoom'"):
        fit_frames(frames, 64, "zoom")


def test_a_missing_clip_is_named_with_a_cache_too(processor, tmp_path):
    processor.use_cache(tmp_path)
    with pytest.raises(ClipError, match="no such file"):
        processor.load_clip(tmp_path / "no.mp4")

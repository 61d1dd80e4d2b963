import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perturb
from perturb import BLANK, MODES, FrameMap

lengths = st.one_of(st.integers(1, 9), st.integers(10, 300))
seeds = st.integers(0, 2**32 - 1)
variants = st.sampled_from(["paper", "official"])


def rng(seed):
    return np.random.default_rng(seed)


@given(lengths, seeds, st.sampled_from(list(MODES)))
def test_map_is_valid_and_changes_the_clip_where_the_mode_can(num_frames, seed, mode):
    frame_map = MODES[mode](num_frames, rng(seed))
    assert frame_map.num_frames == num_frames
    assert all(0 <= i < num_frames for i in frame_map.source)
    cannot = num_frames == 1 or (mode == "local_shuffle" and num_frames < 4)
    assert frame_map.is_identity == cannot


@given(lengths, seeds, variants)
def test_draw_never_returns_an_identity_when_the_clip_has_two_frames(num_frames, seed, variant):
    assert perturb.draw(num_frames, rng(seed), variant=variant).is_identity == (num_frames == 1)


@given(lengths, seeds, variants)
def test_draw_is_reproducible_from_a_seed(num_frames, seed, variant):
    assert perturb.draw(num_frames, rng(seed), variant=variant) == perturb.draw(num_frames, rng(seed), variant=variant)


@given(lengths, seeds)
def test_global_shuffle_is_a_permutation(num_frames, seed):
    assert sorted(perturb.global_shuffle(num_frames, rng(seed)).source) == list(range(num_frames))


@given(lengths, seeds, st.integers(2, 6), st.booleans())
def test_local_shuffle_keeps_frames_in_their_window(num_frames, seed, window, remainder):
    source = perturb.local_shuffle(num_frames, rng(seed), window, remainder).source
    assert sorted(source) == list(range(num_frames))
    assert all(position // window == index // window for position, index in enumerate(source))
    if not remainder:
        tail = num_frames // window * window
        assert source[tail:] == tuple(range(tail, num_frames))


def test_local_shuffle_of_the_official_variant_shuffles_the_remainder():
    tails = {perturb.local_shuffle(6, rng(seed), shuffle_remainder=True).source[4:] for seed in range(30)}
    assert tails == {(4, 5), (5, 4)}


@given(st.integers(2, 60), seeds)
def test_jitter_moves_at_most_one_frame_and_is_clamped(num_frames, seed):
    source = perturb.jitter(num_frames, rng(seed)).source
    assert all(abs(position - index) <= 1 for position, index in enumerate(source))


@given(st.integers(2, 60), seeds, st.data())
def test_duplicate_keeps_length_and_inserts_a_run(num_frames, seed, data):
    count = data.draw(st.integers(1, num_frames - 1))
    source = perturb.duplicate(num_frames, rng(seed), count).source
    assert len(source) == num_frames
    runs = [source[i : i + count] for i in range(num_frames - count + 1) if len(set(source[i : i + count])) == 1]
    rests = [source[:i] + source[i + count :] for i in range(num_frames - count + 1)]
    assert runs and any(list(rest) == sorted(set(rest)) for rest in rests)


@given(st.integers(2, 60), seeds, st.data())
def test_drop_removes_or_blanks(num_frames, seed, data):
    count = data.draw(st.integers(1, num_frames - 1))
    removed = perturb.drop(num_frames, rng(seed), count)
    blanked = perturb.drop(num_frames, rng(seed), count, blank=True)
    assert len(removed.source) == num_frames - count and list(removed.source) == sorted(set(removed.source))
    assert len(blanked.source) == num_frames and len(blanked.blanks) == count
    assert tuple(i for i in blanked.source if i != BLANK) == removed.source


@given(st.integers(2, 60), seeds)
def test_drop_and_duplicate_touch_at_most_three_frames_by_default(num_frames, seed):
    assert num_frames - len(perturb.drop(num_frames, rng(seed)).source) in range(1, min(3, num_frames - 1) + 1)


def test_draw_uses_every_mode_asked_for_and_no_other():
    drawn = {perturb.draw(8, rng(seed), modes=["reverse", "jitter"]).mode for seed in range(40)}
    assert drawn == {"reverse", "jitter"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: perturb.draw(6, rng(0), modes=["spin"]), "spin"),
        (lambda: perturb.draw(6, rng(0), modes=[]), "at least one"),
        (lambda: perturb.draw(6, rng(0), variant="x"), "'paper' or 'official'"),
        (lambda: perturb.drop(3, rng(0), count=3), "count=3"),
        (lambda: perturb.local_shuffle(6, rng(0), window=1), "window=1"),
        (lambda: perturb.reverse(0, rng(0)), "num_frames=0"),
        (lambda: FrameMap("x", 2, (0, 2)), r"\[2\]"),
        (lambda: FrameMap("x", 2, ()), "empty"),
        (lambda: FrameMap("x", 2, (1, 0)).apply(np.zeros(3)), "3 entries"),
    ],
)
def test_bad_input_names_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_apply_shows_the_blank_and_leaves_the_input_alone():
    torch = pytest.importorskip("torch")
    frame_map = FrameMap("drop", 3, (2, BLANK, 0))
    for frames in (np.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(3, 2)):
        out = frame_map.apply(frames, blank=9.0)
        assert out.tolist() == [[4, 5], [9, 9], [0, 1]]
        assert frames.tolist() == [[0, 1], [2, 3], [4, 5]]

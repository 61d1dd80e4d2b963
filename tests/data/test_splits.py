import math

import pytest

from vqathinker.data import LabelRow, Sources, split_by_source


def rows(*clips):
    return [LabelRow(f"/{i}.mp4", f"{i}.mp4", mos, {"scene": scene}) for i, (scene, mos) in enumerate(clips)]


@pytest.mark.parametrize("seed", range(5))
def test_whole_sources_are_held_out_from_all_over_the_range(seed):
    given = rows(*((f"s{i % 10}", 1 + (i % 10) / 3) for i in range(50)))  # 10 sources of 5 clips
    split = split_by_source(given, 0.2, seed)
    assert (len(split.train), len(split.held_out), split.reason) == (40, 10, "sources by column 'scene'")
    sources = sorted({row.extra["scene"] for row in split.held_out})
    assert len(sources) == 2 and sources[0] <= "s4" < sources[1]  # one of each half
    assert sorted((*split.train, *split.held_out), key=given.index) == given
    assert split == split_by_source(given, 0.2, seed)


def test_seeds_draw_different_sources():
    given = rows(*((f"s{i}", i) for i in range(20)))
    assert len({tuple(row.video for row in split_by_source(given, 0.1, seed).held_out) for seed in range(10)}) > 5


@pytest.mark.parametrize("seed", range(5))
def test_the_share_is_met_as_nearly_as_sources_allow(seed):
    uneven = rows(*[("big", 3.0)] * 100, *((f"s{i}", 1 + i / 25) for i in range(100)))
    assert len(split_by_source(uneven, 0.2, seed).held_out) == 40
    assert len(split_by_source(rows(("a", 1.0), ("b", 2.0), ("b", 3.0)), 0.01, seed).held_out) == 1
    assert len(split_by_source(rows(("a", 1.0), ("b", 2.0), ("b", 3.0)), 0.99, seed).held_out) == 2


def test_clips_of_unknown_source_are_their_own():
    given = [LabelRow(f"/{i}_1.mp4", f"{i}_1.mp4", i) for i in range(10)]
    split = split_by_source(given, 0.3)
    assert len(split.held_out) == 3
    assert split.reason == "each clip is taken as its own source: no column 'source' or 'scene' names them"
    told = split_by_source(given, 0.5, sources=Sources(tuple("aaaaabbbbb"), "file names"))
    assert {row.mos < 5 for row in told.held_out} in ({True}, {False}) and told.reason == "sources by file names"


@pytest.mark.parametrize(
    ("given", "share", "message"),
    [
        (
            rows(("a", 1.0), ("a", 2.0)),
            0.2,
            r"2 clips of one source .*\. Add clips of another scene",
        ),
        (rows(("", 1.0)), 0.2, r"1 clip of one source .*\. Add clips of another scene"),
        (rows(("a", 1.0), ("b", 2.0)), 0, "share 0 .* above 0 and below 1"),
        (rows(("a", 1.0), ("b", 2.0)), 1.0, "share 1.0"),
        (rows(("a", 1.0), ("b", 2.0)), math.nan, "share nan"),
    ],
)
def test_splits_that_cannot_be_made(given, share, message):
    with pytest.raises(ValueError, match=message):
        split_by_source(given, share)
    with pytest.raises(ValueError, match="1 sources for"):
        split_by_source([*given, *given], 0.5, sources=Sources(("a",)))

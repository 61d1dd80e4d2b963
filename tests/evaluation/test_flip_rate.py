import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from vqathinker.clips import ClipError, open_clip
from vqathinker.evaluation.encodes import settings_beside
from vqathinker.evaluation.flip_rate import (
    LADDER,
    Encode,
    crf_range,
    encode_ladder,
    flip_rates,
    ladder_pairs,
    published_table,
    read_manifest,
    table,
    write_flip_rates,
)


def test_pairs_are_counted_by_their_difference_and_ties_are_halves():
    encodes = [Encode(f"{s}{crf}", s, crf) for s in "ab" for crf in (15, 17, 19, 25)]
    scores = {"a15": 5, "a17": 4, "a19": 4, "a25": 1, "b15": 3, "b17": 4, "b19": 2, "b25": math.nan}
    by = {rate.difference: rate for rate in flip_rates(encodes, scores, (2, 4, 6, 10, 20))}
    assert [rate.difference for rate in flip_rates(encodes, scores)] == [2, 4, 6, 8, 10, None]
    assert [rate.difference for rate in flip_rates(encodes[::3], {**scores, "b15": 1, "b17": 1})][-1] is None
    # difference 2: a 5>4 right, 4=4 tie; b 3<4 wrong, 4>2 right
    assert (by[2].pairs, by[2].wrong, by[2].ties, by[2].rate) == (4, 1, 1, 0.375)
    assert (by[4].pairs, by[4].wrong, by[4].unscored) == (2, 0, 0)
    assert (by[6].pairs, by[6].unscored) == (1, 1) and by[10].unscored == 1 and by[20].pairs == 0
    assert math.isnan(by[20].rate) and by[None].pairs == 9 and by[None].unscored == 3
    assert table(list(by.values())).rows[0][:6] == ["2", 4, 1, 1, 0, 0.375]


def test_the_interval_draws_sources_and_pairs_are_those_of_one_ladder():
    """Of four sources one is ordered wrongly: how often it is drawn is binomial(4, 1/4), whose 2.5th and 97.5th
    percentiles are 0 and 3, whatever the number of pairs of each."""
    encodes = [
        Encode(f"{source}{size}{crf}", source, crf, size, "h264")
        for source in "abcd"
        for size in ("small", "large")
        for crf in (20, 26)
    ]
    scores = {e.video: e.crf if e.source == "d" else -e.crf for e in encodes}
    assert len(ladder_pairs(encodes)) == 8  # and not 4 of different size beside
    [six, every] = flip_rates(encodes, scores)
    assert (six.difference, six.pairs, six.wrong, six.rate, six.sources) == (6, 8, 2, 0.25, 4)
    assert (six.low, six.high) == (every.low, every.high) == (0, 0.75)
    assert table([six]).rows == [["6", 8, 2, 0, 0, 0.25, "0.000 to 0.750"]]
    right = {e.video: -e.crf for e in encodes}
    [none, _], [all_, _] = flip_rates(encodes, right), flip_rates(encodes, {v: -s for v, s in right.items()})
    assert (none.low, all_.high) == (0, 1)  # all resamples are equal: Clopper-Pearson of 0 and of 4 of 4 sources
    assert none.high == pytest.approx(1 - 0.025**0.25) and all_.low == pytest.approx(0.025**0.25)
    assert "over 4 sources; where no pair or every pair is wrong, Clopper-Pearson" in table([none]).note
    of_two = [replace(e, scene="match" if e.source in "abc" else "") for e in encodes]
    [two, _] = flip_rates(of_two, right)
    assert (two.sources, two.scenes) == (4, 2) and two.high == pytest.approx(1 - 0.025**0.5)
    [two, _] = flip_rates(of_two, scores)
    assert (two.low, two.high) == (0, 1)  # either scene twice
    assert "by bootstrap over 2 scenes of 4 sources" in table([two]).note
    [alone, _] = flip_rates([e for e in encodes if e.source == "d"], scores)
    assert math.isnan(alone.low) and table([alone]).rows[0][-1] == "-"
    preferences = {
        (f"{source}small20", f"{source}small26"): p for source, p in zip("abd", (0.9, 0.5, 0.2), strict=True)
    }
    [by_text, _] = flip_rates(encodes, preferences=preferences)
    assert (by_text.pairs, by_text.wrong, by_text.ties, by_text.unscored, by_text.rate) == (3, 1, 1, 5, 0.5)
    for both in ({}, {"scores": scores, "preferences": preferences}):
        with pytest.raises(ValueError, match="scores or preferences, and not both"):
            flip_rates(encodes, **both)


def test_the_published_table_stands_beside_one_of_its_protocol(tmp_path):
    encodes = [Encode(f"{s}{crf}", s, crf, "h264", "h264") for s in "ab" for crf in (15, 17, 21)]
    scores = {encode.video: -encode.crf for encode in encodes} | {"b17": math.nan}
    shown = published_table(encodes, {"scores": flip_rates(encodes, scores)})
    assert shown.columns[1:] == ["2", "4", "6"] and shown.rows[0] == ["this policy, by scores", 0, 0, 0]
    assert shown.rows[-1] == ["CP-LLM (published)", 0.125, 0.069, 0.048] and "53 for 51" in shown.note
    other = [Encode(f"{s}{crf}.webm", s, crf, "vp9", "vp9") for s in "ab" for crf in (15, 17)]
    known = {encode.video: -encode.crf for encode in other}
    assert published_table(other, {"scores": flip_rates(other, known)}) is None
    text = write_flip_rates(tmp_path, [*encodes, *other], {"scores": {"scores": scores | known}}, {"encodes": {"a": 1}})
    assert text.count("## Flip rate, ") == 2 and "## Flip rate, vp9" in text and "Beside CP-LLM" in text
    written = json.loads((tmp_path / "flip_rate.json").read_text())
    assert written["encodes"] == {"a": 1} and written["published"]["rates"]["DOVER"][0] == 0.268
    assert [rate["unscored"] for rate in written["flip_rates"] if rate["codec"] == "h264"] == [1, 1, 0, 2]
    assert written["flip_rates"][0]["rate"] == 0 and written["flip_rates"][0]["low"] is None  # one source is left


def test_any_codec_makes_a_ladder_on_its_own_scale(sources, tmp_path):
    assert crf_range("av1") == tuple(range(15, 64, 2)) and crf_range("hevc") == LADDER
    encodes = encode_ladder(sources, tmp_path / "vp9", (20, 63), progress=False, codec="vp9")
    assert {(e.ladder, e.codec) for e in encodes} == {("vp9", "vp9")}
    assert read_manifest(tmp_path / "vp9/manifest.csv") == encodes
    with av.open(encodes[0].video) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "vp9"
    with pytest.raises(ValueError, match="from 0 to 63, the largest of vp9"):
        encode_ladder(sources, tmp_path / "x", (20, 64), codec="vp9")


def test_a_manifest_tells_ladders_by_their_name_or_by_codec_and_size(tmp_path):
    (tmp_path / "a.csv").write_text("video,source,crf,codec,height\na,s,20,h264,360\nb,s,26,h264,720\n")
    assert [(e.ladder, e.codec) for e in read_manifest(tmp_path / "a.csv")] == [
        *(("h264/360", "h264"), ("h264/720", "h264")),
    ]
    (tmp_path / "b.csv").write_text("video,source,crf,codec,ladder\na,s,20,h264,x\nb,s,26,vp9,x\n")
    assert len(ladder_pairs(read_manifest(tmp_path / "b.csv"))) == 1


def test_encodes_of_equal_crf_are_no_pair_and_sources_are_never_mixed():
    encodes = [Encode("x", "a", 20), Encode("y", "a", 20), Encode("z", "b", 22)]
    assert flip_rates(encodes, {"x": 1, "y": 2, "z": 3})[-1].pairs == 0


@pytest.fixture
def sources(clip_set, tmp_path):
    folder = tmp_path / "sources"
    for name in ("one", "sub/two"):
        target = folder / f"{name}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((clip_set / "videos/val/00000.mp4").read_bytes())
    return folder


def test_the_ladder_is_real_h264_and_is_made_once(sources, clip_set, tmp_path):
    encodes = encode_ladder(sources, tmp_path / "ladder", (15, 33, 51), progress=False)
    assert [(e.source, e.crf) for e in encodes] == [(s, c) for s in ("one", "sub_two") for c in (15, 33, 51)]
    sizes = [Path(encode.video).stat().st_size for encode in encodes[:3]]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 2 * sizes[2]
    with av.open(encodes[0].video) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    source, copy = open_clip(sources / "one.mp4"), open_clip(encodes[0].video)
    assert (copy.num_frames, copy.fps) == (source.num_frames, source.fps)
    assert abs(copy.frames([5]).astype(int) - source.frames([5])).mean() < 5
    stamps = [Path(encode.video).stat().st_mtime_ns for encode in encodes]
    assert encode_ladder(sources, tmp_path / "ladder", (15, 33, 51), progress=False) == encodes
    assert [Path(encode.video).stat().st_mtime_ns for encode in encodes] == stamps
    assert read_manifest(tmp_path / "ladder/manifest.csv") == encodes
    other = (clip_set / "videos/val/00001.mp4").read_bytes()
    (sources / "one.mp4").write_bytes(other)  # another source of the same name
    first, kept = Path(encodes[0].video).read_bytes(), Path(encodes[3].video).stat().st_mtime_ns
    encode_ladder(sources, tmp_path / "ladder", (15, 33, 51), progress=False)
    assert Path(encodes[0].video).read_bytes() != first and Path(encodes[3].video).stat().st_mtime_ns == kept


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
@pytest.mark.parametrize("turn", [0, 90])
def test_a_rung_has_the_colours_orientation_shape_and_times_of_its_source(tmp_path, matrix, turn):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((4, 6, 1))).astype(np.uint8)
    picture[:24, :48] = (199, 39, 40)
    tags = {"bt709": "bt709", "bt601": "smpte170m"}[matrix]
    still = "select='not(mod(n\\,4))+lt(n\\,20)'"  # a variable rate
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x64"]
    command += ["-r", "30", "-i", "-", "-vf", f"{still},scale=out_color_matrix={matrix}:out_range=tv,setsar=2/1"]
    command += ["-colorspace", tags, "-fps_mode", "vfr", "-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, str(tmp_path / "plain.mp4")], input=picture.tobytes() * 40, check=True)
    (tmp_path / "sources").mkdir()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation:v:0", str(turn)]
    command += ["-i", str(tmp_path / "plain.mp4"), "-c", "copy", str(tmp_path / "sources/one.mp4")]
    subprocess.run(command, check=True)
    [rung] = encode_ladder(tmp_path / "sources", tmp_path / "ladder", (1,), progress=False)
    source, copy = open_clip(tmp_path / "sources/one.mp4"), open_clip(rung.video)
    assert copy.notes == source.notes and len(copy.notes) == (2 if turn else 1)
    assert np.array_equal(copy.times, source.times) and copy.num_frames == 25
    before, after = source.frames(range(25)).astype(float), copy.frames(range(25))
    assert 10 * np.log10(255**2 / ((before - after) ** 2).mean()) > 49
    red = after[0, 140, 10] if turn else after[0, 5, 10]
    assert np.abs(red.astype(int) - (199, 39, 40)).max() <= 3
    with av.open(rung.video) as container:
        assert next(container.decode(video=0)).colorspace == {"bt709": 1, "bt601": 6}[matrix]


def test_what_cannot_be_a_ladder_is_refused(sources, tmp_path):
    assert LADDER[0] == 15 and LADDER[-1] == 51
    for crfs in ((), (15, 53), (15, 15)):
        with pytest.raises(ValueError, match="from 0 to 51"):
            encode_ladder(sources, tmp_path / "x", crfs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds 0 videos"):
        encode_ladder(tmp_path / "empty", tmp_path / "x")
    for name in (b"caf\xe9.mp4", rb"a\b.mp4", b" a.mp4"):
        path = os.fsencode(sources) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(b"")
        with pytest.raises(ValueError, match=r"1 name cannot stand in a table of encodes\. Rename to UTF-8"):
            encode_ladder(sources, tmp_path / "x", (20,))
        os.unlink(path)
    (sources / "torn.mp4").write_bytes(b"torn")
    with pytest.raises(ClipError, match=r"torn\.mp4"):
        encode_ladder(sources, tmp_path / "x", (20,), progress=False)
    assert not list((tmp_path / "x").rglob(".*.mp4")) and not (tmp_path / "x/torn/crf20.mp4").exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("video,crf\na,1\n", "no columns"),
        ("video,source,crf\na,b,x\n", "m.csv:2: crf 'x' is not a number"),
        ("video,source,crf\na,b,nan\n", "m.csv:2: crf 'nan' is not a number"),
        ("video,source,crf\na,b,1_5\n", "m.csv:2: crf '1_5' is not a number"),
        ("video,source,crf,crf\na,b,1,2\n", r"m.csv: .*columns \['crf'\] more than once"),
        ("video,crf,source\na,1\n", "m.csv:2: the row has 2 cells, the header 3"),
        ("video,source,crf\na,b,1,2\n", "m.csv:2: the row has 4 cells, the header 3"),
        ("video,source,crf\n,b,1\n", "m.csv:2: .*needs a video"),
        ("video,source,crf,ladder\na,b,1,\n", "m.csv:2: .*a ladder where the header has one"),
        ("video,source,crf\n", "no rows below the header"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(ValueError, match="does not exist"):
        read_manifest(tmp_path / "n.csv")
    for text in ("[]", "{}", "{"):
        (tmp_path / "ladder.json").write_text(text)
        with pytest.raises(ValueError, match=r"ladder\.json (is not of|cannot be read .*) ?`?.*synth --ladder"):
            settings_beside(tmp_path / "m.csv")

import json

import pytest

from vqathinker.data import BENCHMARKS, BenchmarkSet, LabelError, LabelRow, Sources, find_benchmarks, sources_of


def rows(*names, **columns):
    cells = [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]
    return [LabelRow(f"/v/{n}", n, 3.0, extra) for n, extra in zip(names, cells or [{}] * len(names), strict=True)]


def test_the_column_source_comes_before_scene_and_before_the_names():
    both = rows("a_1.mp4", "a_2.mp4", source=["x", "y"], scene=["s", "s"])
    assert sources_of(both) == Sources(("x", "y"), "column 'source'")
    assert sources_of(both, "scene") == Sources(("s", "s"), "column 'scene'")
    pattern = r"(?P<source>\w)_\d\.mp4"
    assert sources_of(rows("a_1.mp4", "a_2.mp4", scene=["s", "t"]), pattern=pattern).names == ("s", "t")
    assert sources_of(rows("a_1.mp4", "a_2.mp4", kind=["s", "t"]), pattern=pattern) == Sources(("a", "a"), "file names")


def test_a_clip_with_an_empty_cell_is_a_source_of_its_own():
    told = sources_of(rows("a.mp4", "b.mp4", "c.mp4", "d.mp4", scene=["s", " ", "s ", ""])).names
    assert told[0] == told[2] and len(set(told)) == 3
    assert sources_of(rows("a.mp4", "b.mp4", source=["", ""], scene=["s", "s"])).reason == "column 'scene'"


def test_nothing_is_guessed():
    assert sources_of(rows("a_1.mp4", "a_2.mp4")) == Sources()
    told = sources_of(rows("a_1.mp4", "holiday.mp4"), pattern=r"(?P<source>\w)_\d\.mp4")
    assert told == Sources((), "the name 'holiday.mp4' does not show its source")


NAMES = {
    "live_yt_hfr": {
        "1Runner_crf_0_24fps": "1Runner",
        "bobblehead/bobblehead_crf_0_120fps.webm": "bobblehead",
        "bobblehead_crf_63_98fps.mp4": "bobblehead",
    },
    "waterloo_ivc_4k": {
        "HEVC/01/960x540_1.mp4": "1",
        "AV1/20/3840x2160_4.mp4": "20",
        "Waterloo/H264_01_1920x1080_2.mp4": "1",
        "AVS2_1_540p_3.yuv": "1",
    },
    "cgvds": {
        "Bejeweled3_30s_1280x720_60_1000_h264_nvenc.mp4": "Bejeweled3",
        "Bejeweled3_30s_30_640x480_30_300_h264_nvenc.mp4": "Bejeweled3",
        "LoL_TF_30s_1_20_1920x1080_20_1000_h264_nvenc.mp4": "LoL_TF",
        "LoL_TF_30s_640x480_60_50000_h264_nvenc.mp4": "LoL_TF",
        "Overwatch_2_30_1280x720_60_1000_h264_nvenc.mp4": "Overwatch",
        "Overwatch_30_30fps_640x480_30_6000_h264_nvenc.mp4": "Overwatch",
        "GTA5_30_30_1920x1080_30_6000_h264_nvenc.mp4": "GTA5",
        "ffxv_30_1280x720_60_50000_h264_nvenc.mp4": "ffxv",
    },
    "vdpve": {"A0023_01.mp4": "A0023", "B0023_01.mp4": "B0023", "videos/C0004_05.mp4": "C0004"},
}
"""Names as the sets' authors and public code for the sets write them."""


@pytest.mark.parametrize("name", NAMES)
def test_names_of_public_sets_tell_their_sources(name):
    told = sources_of(rows(*NAMES[name]), pattern=BENCHMARKS[name].source_pattern)
    assert told == Sources(tuple(NAMES[name].values()), "file names")
    odd = sources_of(rows(*NAMES[name], "0001.mp4"), pattern=BENCHMARKS[name].source_pattern)
    assert not odd.names and "'0001.mp4'" in odd.reason


def test_sets_without_a_rule_have_none():
    assert {name for name, known in BENCHMARKS.items() if known.source_pattern} == set(NAMES)


def test_a_public_set_on_disk_has_its_rule(tmp_path):
    (tmp_path / "vdpve/videos").mkdir(parents=True)
    scores = [
        {"image_id": n, "ann_type": "score", "score": "5"} for n in ("A0001_01.mp4", "A0001_02.mp4", "C0001_01.mp4")
    ]
    (tmp_path / "vdpve/labels.json").write_text(json.dumps({"annotations": scores}))
    [found], [] = find_benchmarks("vdpve", tmp_path)
    assert found.sources(found.rows()).names == ("A0001", "A0001", "C0001")


def test_an_own_set_names_its_column_or_none(tmp_path):
    (tmp_path / "a.csv").write_text("file,mos,talk,source\na.mp4,3,x,web\nb.mp4,4,x,web\n")
    entry = f"- {{name: NAME, labels: a.csv, videos: {tmp_path}, video_column: file, source_column: COLUMN}}\n"
    entries = [entry.replace("NAME", n).replace("COLUMN", c) for n, c in (("mine", "talk"), ("each", "file"))]
    (tmp_path / "own.yaml").write_text("".join(entries))
    [mine, each], [] = find_benchmarks("own", own=tmp_path / "own.yaml")
    assert mine.sources(mine.rows()) == Sources(("x", "x"), "column 'talk'")
    assert each.sources(each.rows()) == Sources()


@pytest.mark.parametrize("column", ["tlak", "mos"])
def test_an_unknown_column_is_named(tmp_path, column):
    (tmp_path / "a.csv").write_text("video,mos,talk\na.mp4,3,x\n")
    one = BenchmarkSet("mine", "Mine", "ood", tmp_path / "a.csv", tmp_path, source_column=column)
    with pytest.raises(
        LabelError, match=rf"a\.csv: no column '{column}' .*header has \['video', 'talk'\].*leave it out"
    ):
        one.rows()
    (tmp_path / "a.txt").write_text("a.mp4, 1, 30, 3\n")
    one = BenchmarkSet("mine", "Mine", "ood", tmp_path / "a.txt", tmp_path, source_column=column)
    with pytest.raises(LabelError, match="only CSV files have columns"):
        one.rows()

import json
import logging
import unicodedata

import pytest

from vqathinker.data import (
    NATIVE,
    READERS,
    LabelError,
    RawRow,
    clip_dataset,
    distortions_of,
    find_benchmarks,
    lines_of,
    mos_scale,
    read_labels,
)


def official_row(video, value):
    turns = [{"from": "human", "value": "..."}, {"from": "gpt", "value": value}]
    return json.dumps({"id": 0, "dataset_name": "LSVQ", "image": [video], "conversations": turns})


def write(path, text, **kwargs):
    path.write_bytes(text.encode(kwargs.get("encoding", "utf-8")))
    return path


def test_published_training_jsonl(tmp_path):
    file = write(tmp_path / "train.jsonl", official_row("a/b.mp4", 2.61) + "\r\n\r\n" + official_row("c.mp4", 0.12))
    rows = read_labels(file, tmp_path, "identity")
    assert [(r.video, r.video_id, r.mos) for r in rows] == [
        (f"{tmp_path}/a/b.mp4", "a/b.mp4", 2.61),
        (f"{tmp_path}/c.mp4", "c.mp4", 0.12),
    ]


def test_dover_txt_with_unknown_fields_commas_and_bom(tmp_path):
    file = write(tmp_path / "val.txt", "\ufeffa, b.mp4, -1, -1, 62.5\nümlaut.mp4, 8.0, 30.0, 0\n")
    rows = read_labels(file, tmp_path, "linear:0,100")
    assert [(r.video_id, r.mos) for r in rows] == [("a, b.mp4", 3.5), ("ümlaut.mp4", 1.0)]


TEST_JSON = """{"annotations": [
    {"image_id": "x.mp4", "ann_type": "score", "score": "62.400"},
    {"image_id": "x.mp4", "ann_type": "caption", "caption": "a dog"},
    {"image_id": "y.mp4", "ann_type": "score", "score": "4"}]}"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("train.jsonl", official_row("a/b.mp4", 2.61) + "\n", {"a/b.mp4": 2.61}),
        ("test.json", TEST_JSON, {"x.mp4": 62.4, "y.mp4": 4.0}),
        ("dover.txt", "a.mp4, 8.0, 30.0, 67.75\nb.mp4, -1, -1, 0\n", {"a.mp4": 67.75, "b.mp4": 0.0}),
        ("qalign.json", '[{"img_path": "x.mp4", "gt_score": 4.64}]', {"x.mp4": 4.64}),
        ("qalign.json", '[{"id": 7, "image": "lsvq/x.mp4", "gt_score": 67.75}]', {"lsvq/x.mp4": 67.75}),
        ("qalign.json", '[{"image": ["lsvq/x.mp4"], "gt_score": "67.75"}]', {"lsvq/x.mp4": 67.75}),
        ("vqa2.json", '[{"img_path": "x.mp4",\n"mos": 67.75}]', {"x.mp4": 67.75}),
        ("vqa2.json", '[{"video_path": "x.mp4", "mos": 1.0, "level": 6}]', {"x.mp4": 1.0}),
        ("labels.csv", "video,mos\nx.mp4,-3.5\n", {"x.mp4": -3.5}),
    ],
)
def test_every_published_format_in_native_units(tmp_path, file, text, expected, bom, ending):
    rows = read_labels(write(tmp_path / file, bom + text.replace("\n", ending)), tmp_path, NATIVE)
    assert {row.video_id: row.mos for row in rows} == expected
    assert [row.video for row in rows] == [str(tmp_path / name) for name in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": []}', r"a.json: found the keys \['data'\]; .*\"annotations\""),
        ('{"annotations": {"image_id": "x.mp4"}}', r"a.json: found the keys \['annotations'\]"),
        ('"x.mp4"', r"a.json: found str 'x.mp4'"),
        (
            '[{"img_path": "x.mp4", "mos": 1}, {"name": "y.mp4", "mos": 1}]',
            r"entry 2 of 2: .*\['name', 'mos'\].*Q-Align",
        ),
        ('[{"img_path": "x.mp4", "mos": 1, "gt_score": 2}]', "entry 1 of 1: .*exactly one"),
        ('[["x.mp4", 3]]', "entry 1 of 1: found list"),
        (
            '{"annotations": [{"image_id": "x.mp4", "ann_type": "score"}]}',
            r"entry 1 of 1: .*\['image_id', 'ann_type'\]",
        ),
        ('{"annotations": [{"image_id": "x.mp4", "ann_type": "caption"}]}', "lists no video"),
        ('[{"image": ["x.mp4", "y.mp4"], "gt_score": 1}]', r"1 of 1: the row shows the videos \['x.mp4', 'y.mp4'\]"),
        ('[{"img_path": "x.mp4", "mos": null}]', "entry 1 of 1: label None is not a number"),
        ('[{"img_path": "x.mp4", "mos": true}]', "entry 1 of 1: label True is not a number"),
        ('[{"img_path": "x.mp4", "mos": [3]}]', r"entry 1 of 1: label \[3\] is not a number"),
        ('[{"img_path": "x.mp4", "mos": "3,75"}]', "entry 1 of 1: label '3,75' is not a number: .*decimal point"),
        ('[{"img_path": "x.mp4", "mos": 1e999}]', "entry 1 of 1: label inf is not finite"),
        ('[{"img_path": "x.mp4", "mos": ' + "9" * 400 + "}]", "entry 1 of 1: label 9+ is not finite"),
        ('[{"img_path": "x.mp4", "mos": ' + "9" * 5000 + "}]", "a.json: .* cannot be read as JSON"),
        (
            '[{"img_path": "x.mp4", "mos": 1, "mos": 2}]',
            r"a.json: .*keys \['mos'\] more than once, \[\('mos', 1\), \('mos', 2\)\]. Each key may appear once",
        ),
        ('{"annotations": [], "annotations": []}', r"a.json: .*keys \['annotations'\] more than once"),
        ('[{"img_path": "x.mp4", "mos": NaN}]', "entry 1 of 1: label nan is not finite"),
        ('[{"img_path": "x.mp4", "mos": 1}, {"img_path": "x.mp4", "mos": 2}]', "entry 2 of 2: 'x.mp4' is listed twice"),
        (official_row("x.mp4", 3) + "\n" + official_row("y.mp4", 3), "a.json: not valid JSON .*jsonl"),
    ],
)
def test_a_bad_json_entry_is_named(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read_labels(write(tmp_path / "a.json", text), tmp_path, NATIVE)


def test_a_file_in_another_encoding_is_named(tmp_path):
    file = write(tmp_path / "a.txt", "ümlaut.mp4,1,1,3\n", encoding="latin-1")
    with pytest.raises(LabelError, match=r"a.txt' is not UTF-8"):
        read_labels(file, tmp_path, NATIVE)


def found(tmp_path, *names):
    """What the names stand for, as paths below the video root."""
    file = write(tmp_path / "labels.json", json.dumps([{"img_path": name, "mos": 3} for name in names]))
    rows = read_labels(file, tmp_path / "videos", NATIVE)
    assert [row.video_id for row in rows] == list(names)
    return [row.video.removeprefix(f"{tmp_path}/videos/") for row in rows]


@pytest.fixture
def video(tmp_path):
    def create(name):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    return create


def test_a_name_without_extension_finds_its_video(tmp_path, video):
    for name in ("a.mp4", "a.json", "b/Mr.Robot.MKV", "c", "c.mp4"):
        video(name)
    assert found(tmp_path, "a", "b/Mr.Robot", "c", "gone", "nowhere/d", "e.mp4") == [
        "a.mp4",
        "b/Mr.Robot.MKV",
        "c",  # is there as written
        "gone",
        "nowhere/d",
        "e.mp4",
    ]


def test_a_name_that_fits_several_videos_is_refused(tmp_path, video):
    video("a.webm")
    video("a.mp4")
    with pytest.raises(LabelError, match=r"entry 1 of 1: video 'a' has no extension and matches \['a.mp4', 'a.webm'\]"):
        found(tmp_path, "a")


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_composed_and_decomposed_accents_are_one_name(tmp_path, video, written, on_disk):
    names = [unicodedata.normalize(on_disk, f"Öl/{name}.mp4") for name in ("café", "naïve")]
    for name in names:
        video(name)
    asked = [unicodedata.normalize(written, name) for name in ("Öl/café.mp4", "Öl/naïve", "Öl/gône.mp4")]
    assert found(tmp_path, *asked) == [*names, asked[2]]


def test_a_name_as_written_goes_before_other_spellings(tmp_path, video):
    names = [unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")]
    for name in names:
        video(name)
    assert found(tmp_path, *names) == names


def test_two_names_of_one_video_are_kept_once(tmp_path, video, caplog):
    video("v.mp4")
    file = write(tmp_path / "a.txt", "v,1,1,3\nv.mp4,1,1,3\n")
    assert [row.video_id for row in read_labels(file, tmp_path / "videos", NATIVE)] == ["v"]
    assert "1 row repeats" in caplog.text


def test_csv_with_other_column_names_keeps_the_rest(tmp_path):
    file = write(tmp_path / "x.csv", "name,score,kind\nv.mp4,67.75,blur\n")
    [row] = read_labels(file, tmp_path, "div20", video_column="name", mos_column="score")
    assert row.mos == pytest.approx(3.3875) and row.extra == {"kind": "blur"}
    message = r"no column video or mos; the columns are name, score, kind. .*--video-column and --mos-column \(video"
    with pytest.raises(LabelError, match=message):
        read_labels(file, tmp_path, "div20")


def test_spaces_around_the_cells_of_a_csv_are_cut(tmp_path):
    file = write(tmp_path / "x.csv", ' video , mos, scene \n a b.mp4 , 3 , the sea \n "c, d.mp4" ,4,\n')
    rows = read_labels(file, tmp_path, "identity")
    assert [(row.video_id, row.mos, row.extra) for row in rows] == [
        ("a b.mp4", 3, {"scene": "the sea"}),
        ("c, d.mp4", 4, {"scene": ""}),
    ]
    assert len(read_labels(file, tmp_path, "identity", " video", "mos ")) == 2


def test_swapped_columns_are_named(tmp_path):
    file = write(tmp_path / "x.csv", "video,mos\n3,a.mp4\n4,b.mp4\n")
    with pytest.raises(LabelError, match=r"look swapped: 'video' holds numbers \('3'\), 'mos' holds none \('a.mp4'\)"):
        read_labels(file, tmp_path, "identity")


@pytest.mark.parametrize("name", ["../x.mp4", "a/../../x.mp4", "/etc/x.mp4", "C:\\x.mp4", "..\\x.mp4", ".", ""])
def test_a_name_that_leaves_the_video_root_is_refused(tmp_path, name):
    file = write(tmp_path / "train.jsonl", official_row(name, 3))
    with pytest.raises(LabelError, match=r"train.jsonl:1: video"):
        read_labels(file, tmp_path, "identity")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "v.mp4, 1, 2, 67\n", r"a.txt:1: MOS 67.0 does not fit the scale 'identity'"),
        ("a.txt", "v.mp4, 1, 2, high\n", "'high' is not a number"),
        ("a.txt", "v.mp4, 1, 2, nan\n", "not finite"),
        ("a.txt", "v.mp4 3.2\n", "4 fields"),
        ("a.txt", "w.mp4, 8, 30, 3\nv.mp4, 8, 24, 30, 3.2\n", r"a.txt:2: .*4 fields\); the path would be 'v.mp4, 8'"),
        ("a.txt", "v.mp4, 8, 30, 3,75\n", "a.txt:1: .*the path would be 'v.mp4, 8'.*decimal point"),
        ("a.txt", "v.MKV, 8, 30, 3.2, 4\n", "a.txt:1: .*the path would be 'v.MKV, 8'"),
        ("a.txt", "v, 8, 30, 3,75\n", "a.txt:1: .*the path would be 'v, 8'.*extension"),
        ("a.txt", "a, b.mp4, 30, 3.2\n", "a.txt:1: .*the duration would be 'b.mp4': write a number, -1"),
        ("a.txt", "v.mp4, 8, , 3.2\n", "a.txt:1: .*the fps would be ''"),
        ("a.txt", "v.mp4, 1, 2, 1_0\n", "a.txt:1: label '1_0' is not a number: write digits with a decimal point"),
        ("a.txt", "v.mp4, 1, 2, 0x3\n", "'0x3' is not a number"),
        ("a.txt", "v.mp4, 1, 2, \u0663\n", "'\u0663' is not a number"),
        ("a.txt", "v.mp4, 1, 2, -inf\n", "not finite"),
        ("a.csv", 'video,mos\nv.mp4,"3,75"\n', r"a.csv:2: label '3,75' is not a number"),
        ("a.csv", "video,mos,mos\nv.mp4,3,4\n", r"names 'mos' more than once: video, mos, mos\..*rename or remove"),
        ("a.csv", "video,mos, mos\nv.mp4,3,4\n", r"the header names 'mos' more than once"),
        ("a.csv", "video,video,mos\nv.mp4,w.mp4,4\n", r"the header names 'video' more than once"),
        ("a.csv", "video,mos,kind,kind\nv.mp4,3,a,b\n", r"the header names 'kind' more than once"),
        ("a.jsonl", official_row("v.mp4", True), "a.jsonl:1: label True is not a number"),
        ("a.jsonl", official_row("v.mp4", "2,61"), "a.jsonl:1: label '2,61' is not a number"),
        (
            "a.jsonl",
            official_row("v.mp4", 3)[:-1] + ', "image": ["w.mp4"]}',
            r"a.jsonl:1: .*\['image'\] more than once",
        ),
        (
            "a.jsonl",
            '{"image": ["v.mp4"], "conversations": [{"from": "gpt", "value": 3}, {"from": "gpt", "value": 4}]}',
            r"a.jsonl:1: the row has 2 values from \"gpt\", \[3, 4\]; keep only the MOS",
        ),
        ("a.txt", "v.mp4,1,1,3\nw.mp4,1,1,2\nv.mp4,1,1,4\n", r"a.txt:3: 'v.mp4' is listed twice, with MOS 3.0 and 4.0"),
        ("a.jsonl", '{"image": "v.mp4"}\n', r"a.jsonl:1: .*conversations"),
        ("a.jsonl", "{\n", r"a.jsonl:1"),
        ("a.csv", "video,mos\nv.mp4\n", r"a.csv:2"),
        ("a.csv", "video,mos\n", "lists no video"),
        ("a.csv", "", "is empty"),
        ("a.xml", "", "suffix must be"),
    ],
)
def test_a_bad_line_is_named(tmp_path, file, text, message):
    with pytest.raises(LabelError, match=message):
        read_labels(write(tmp_path / file, text), tmp_path, "identity")


@pytest.mark.parametrize("text", ["3.75", "+3.75", " 3.75 ", "375e-2", "3.750", "003.75"])
def test_a_label_may_be_any_plain_number(tmp_path, text):
    file = write(tmp_path / "a.csv", f"video,mos\na.mp4,{text}\n")
    assert [row.mos for row in read_labels(file, tmp_path, NATIVE)] == [3.75]


def test_a_path_may_hold_commas(tmp_path):
    names = ["a, b.mp4", "a,2.mp4", "1, 2, 3.mkv", "take, two", "a.b, c.mp4"]
    file = write(tmp_path / "a.txt", "".join(f"{name}, 8, 30, 3.2\n" for name in names))
    assert [row.video_id for row in read_labels(file, tmp_path, NATIVE)] == names


def test_a_missing_video_root_is_named(tmp_path):
    file = write(tmp_path / "a.txt", "v.mp4,1,1,3\n")
    with pytest.raises(LabelError, match=r"video root '/nope' is not a folder"):
        read_labels(file, "/nope", "identity")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabelError, match="does not exist"):
        read_labels(tmp_path / "no.csv", tmp_path, "identity")


def test_a_repeated_row_is_kept_once_and_reported(tmp_path, caplog):
    file = write(tmp_path / "a.txt", "v.mp4,1,1,3\nv.mp4,1,1,3\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_labels(file, tmp_path, "identity")) == 1
    assert "1 row repeats" in caplog.text


def test_scales():
    assert mos_scale("linear:0,100")(0) == 1 and mos_scale("linear:0,100")(100) == 5
    assert mos_scale("linear:1,5")(2.5) == pytest.approx(2.5)
    assert mos_scale("div20")(90.6) == pytest.approx(4.53)
    for name in ("linear", "linear:5,1", "linear:0,x", "percent", ""):
        with pytest.raises(ValueError, match="must be 'linear:LO,HI'"):
            mos_scale(name)
    with pytest.raises(ValueError, match="takes 0 to 100"):
        mos_scale("linear:0,100")(101)


def test_native_labels_are_for_evaluation_only():
    assert NATIVE(-3.5) == -3.5 and NATIVE(100) == 100
    with pytest.raises(ValueError, match="'native' is unknown"):
        mos_scale("native")


def test_dataset_columns(train_rows, processor):
    dataset = clip_dataset(train_rows, processor)
    assert {"prompt", "video", "video_id", "mos", "kind", "severity", "when", "scene"} == set(dataset.column_names)
    with pytest.raises(ValueError, match="empty"):
        clip_dataset([], processor)


def test_distortion_columns_are_read_or_refused(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("video,mos,kind,severity\na.mp4,3,blur+noise,0.2+0.4\nb.mp4,4,,\n")
    assert [distortions_of(row) for row in read_labels(file, tmp_path, "identity")] == [{"blur": 0.2, "noise": 0.4}, {}]
    file.write_text("video,mos,kind\na.mp4,3,sports\n")  # no severity: another kind of kind
    assert distortions_of(read_labels(file, tmp_path, "identity")[0]) == {}
    file.write_text("video,mos,kind,severity\na.mp4,3,blur,4\n")
    with pytest.raises(LabelError, match=r"x\.csv:2: kind='blur' with severity='4'.*Rename the columns"):
        read_labels(file, tmp_path, "identity")


def read_pairs(path, video_column, mos_column):
    """`MOS;video`"""
    for place, text in lines_of(path):
        label, video = text.split(";")
        yield RawRow(place, video, label, {"kind": "blur", "severity": "0.2"})


def test_a_reader_of_ones_own_is_held_to_the_same_rules(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, ".pairs", read_pairs)
    file = tmp_path / "labels.PAIRS"
    file.write_text("62.5;a.mp4\n\n80;b/c.mp4\n")
    rows = read_labels(file, tmp_path, "linear:0,100")
    assert [(row.video_id, row.mos, distortions_of(row)) for row in rows] == [
        ("a.mp4", 3.5, {"blur": 0.2}),
        ("b/c.mp4", 4.2, {"blur": 0.2}),
    ]
    for text, message in (("3,5;a.mp4", "label '3,5' is not a number"), ("9;../a.mp4", "leaves the video root")):
        file.write_text(text)
        with pytest.raises(LabelError, match=f"labels.PAIRS:1: .*{message}"):
            read_labels(file, tmp_path, "linear:0,100")


def test_test_sets_are_found_by_a_reader_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, ".pairs", read_pairs)
    (tmp_path / "cgvds/videos").mkdir(parents=True)
    (tmp_path / "cgvds/labels.pairs").write_text("62.5;a.mp4\n80;b.mp4\n")
    [found], _ = find_benchmarks("cgvds", data_root=tmp_path)
    assert [row.mos for row in found.rows()] == [62.5, 80.0]


def test_further_columns_of_a_row_are_its_own():
    one, other = RawRow("a:1", "a.mp4", 1), RawRow("a:2", "b.mp4", 2)
    assert one.extra == {} == other.extra
    with pytest.raises(TypeError):
        one.extra["kind"] = "blur"  # no row can change what others have


def test_a_clip_listed_as_two_rungs_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("video,mos,ladder,rank\na.mp4,3,park,20\na.mp4,3,park,20.0\n")
    assert len(read_labels(tmp_path / "labels.csv", tmp_path, "identity")) == 1
    (tmp_path / "labels.csv").write_text("video,mos,ladder,rank\na.mp4,3,park,20\na.mp4,3,park,30\n")
    with pytest.raises(LabelError, match=r"'a\.mp4' is listed twice, with ladder and rank \('park', 20\.0\) and"):
        read_labels(tmp_path / "labels.csv", tmp_path, "identity")

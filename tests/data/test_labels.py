import json
import logging

import pytest

from vqathinker.data import LabelError, clip_dataset, distortions_of, mos_scale, read_labels


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


def test_csv_with_other_column_names_keeps_the_rest(tmp_path):
    file = write(tmp_path / "x.csv", "name,score,kind\nv.mp4,67.75,blur\n")
    [row] = read_labels(file, tmp_path, "div20", video_column="name", mos_column="score")
    assert row.mos == pytest.approx(3.3875) and row.extra == {"kind": "blur"}
    with pytest.raises(LabelError, match=r"no column \['video', 'mos'\].*'name', 'score', 'kind'"):
        read_labels(file, tmp_path, "div20")


@pytest.mark.parametrize("name", ["../x.mp4", "a/../../x.mp4", "/etc/x.mp4", "C:\\x.mp4", "..\\x.mp4", ""])
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


def test_a_missing_video_root_is_named(tmp_path):
    file = write(tmp_path / "a.txt", "v.mp4,1,1,3\n")
    with pytest.raises(LabelError, match=r"video root '/nope' is no folder"):
        read_labels(file, "/nope", "identity")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabelError, match="does not exist"):
        read_labels(tmp_path / "no.csv", tmp_path, "identity")


def test_a_repeated_row_is_kept_once_and_reported(tmp_path, caplog):
    file = write(tmp_path / "a.txt", "v.mp4,1,1,3\nv.mp4,1,1,3\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_labels(file, tmp_path, "identity")) == 1
    assert "1 rows repeat" in caplog.text


def test_scales():
    assert mos_scale("linear:0,100")(0) == 1 and mos_scale("linear:0,100")(100) == 5
    assert mos_scale("linear:1,5")(2.5) == pytest.approx(2.5)
    assert mos_scale("div20")(90.6) == pytest.approx(4.53)
    for name in ("linear", "linear:5,1", "linear:0,x", "percent", ""):
        with pytest.raises(ValueError, match="must be 'linear:LO,HI'"):
            mos_scale(name)
    with pytest.raises(ValueError, match=r"\[0, 100\]"):
        mos_scale("linear:0,100")(101)


def test_dataset_columns(train_rows):
    dataset = clip_dataset(train_rows, "How good?")
    assert {"prompt", "video", "video_id", "mos", "kind", "severity", "when", "scene"} == set(dataset.column_names)
    with pytest.raises(ValueError, match="empty"):
        clip_dataset([], "How good?")


def test_distortion_columns_are_read_or_refused(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("video,mos,kind,severity\na.mp4,3,blur+noise,0.2+0.4\nb.mp4,4,,\n")
    assert [distortions_of(row) for row in read_labels(file, tmp_path, "identity")] == [{"blur": 0.2, "noise": 0.4}, {}]
    file.write_text("video,mos,kind\na.mp4,3,sports\n")  # no severity: another kind of kind
    assert distortions_of(read_labels(file, tmp_path, "identity")[0]) == {}
    file.write_text("video,mos,kind,severity\na.mp4,3,blur,4\n")
    with pytest.raises(LabelError, match=r"x\.csv:2: kind='blur' with severity='4'.*other names"):
        read_labels(file, tmp_path, "identity")

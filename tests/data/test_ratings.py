import logging
import math
import os

import numpy as np
import pytest

from vqathinker.data import LabelError, read_labels, read_ratings, write_labels

WIDE = "video,r1,r2,r3,source\na.mp4,1,2,3,s\nb.mp4,4,NA,5,s\nc.mp4,2,2,,t\n"


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.mp4").touch()
    return folder


@pytest.fixture
def read(tmp_path, clips):
    def read(text, name="ratings.csv", encoding="utf-8", **options):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_ratings(file, clips, **options)

    return read


def test_a_column_for_each_rater(read, clips):
    found = read(WIDE)
    assert (found.raters, found.form, found.delimiter, found.video_column) == (("r1", "r2", "r3"), "wide", ",", "video")
    assert (found.scale.low, found.scale.high, found.scale_stated, found.not_rated) == (1, 5, False, 2)
    np.testing.assert_array_equal(found.matrix, [[1, 2, 3], [4, np.nan, 5], [2, 2, np.nan]])
    assert [row.video for row in found.rows] == [str(clips / name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    assert [(row.mean, row.sd, row.num_ratings) for row in found.rows] == [
        (2, 1, 3),
        (4.5, math.sqrt(0.5), 2),
        (2, 0, 2),
    ]
    assert [row.extra for row in found.rows] == [{"source": "s"}, {"source": "s"}, {"source": "t"}]


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        (WIDE.replace("\n", "\r\n"), "a.csv", "utf-8"),
        (WIDE, "a.csv", "utf-8-sig"),
        (WIDE.replace("\n", "\r\n"), "a.csv", "utf-16"),
        (WIDE.replace(",", "\t"), "a.tsv", "utf-8"),
        (WIDE.replace(",", ";"), "a.csv", "utf-8"),
        (WIDE.replace(",", " , ").replace("NA", " n/a").replace("\n", " \n\n"), "a.csv", "utf-8"),
        (WIDE.replace(",", ";").replace("\n", ";;\n").replace(";NA;", ";-;") + ";;;;;;\n;;\n", "a.csv", "utf-8"),
        (WIDE.replace("a.mp4", '"a.mp4"').replace("c.mp4", "c").rstrip(), "a.txt", "utf-8"),
    ],
    ids=["CRLF", "BOM", "UTF-16", "tab", "semicolon", "spaces", "empty rows and columns", "quotes"],
)
def test_what_spreadsheets_make_of_a_table_changes_nothing(read, text, name, encoding):
    found, plain = read(text, name, encoding), read(WIDE)
    np.testing.assert_array_equal(found.matrix, plain.matrix)
    assert [(row.video, row.extra) for row in found.rows] == [(row.video, row.extra) for row in plain.rows]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas(read, delimiter):
    found = read("video;r1;r2\na.mp4;3,5;4.5\n".replace(";", delimiter))
    assert (found.rows[0].mean, found.delimiter) == (4, delimiter)
    with pytest.raises(LabelError, match=r"csv:2: the row has 3 cells, the header 2.*decimal commas need semicolons"):
        read("video,mos\na.mp4,3,5\n")


@pytest.mark.parametrize("scale", ["1,10", (1, 10), " 1, 10 "])
def test_a_stated_scale_becomes_score_units(read, scale):
    found = read("clip,x,y\na.mp4,1,10\nb.mp4,10,10\n", scale=scale)
    assert found.scale_stated
    assert [(row.mean, row.mos) for row in found.rows] == [(5.5, 3), (10, 5)]
    # sqrt(2 * 4.5^2) = 6.36 on the raters' scale, times 4 / 9
    assert (found.rows[0].sd, found.rows[0].mos_sd) == pytest.approx((math.sqrt(40.5), math.sqrt(8)))


def test_scales_are_not_guessed(read):
    text = "video,r1\na.mp4,12\nb.mp4,87\n"
    with pytest.raises(LabelError, match=r"ratings from 12 to 87: give the scale .* --scale 0,100"):
        read(text)
    with pytest.raises(
        LabelError, match=r"ratings.csv:3: rating 87 of 'r1' is outside the raters' scale 1 to 10: .*--scale"
    ):
        read("video,r1\na.mp4,2\nb.mp4,87\n", scale="1,10")
    for wrong in ("5,1", "1", "a,b", "0,inf", "1,nan", (3, 3), "5-1", "1.2.3-4"):
        with pytest.raises(ValueError, match=r"--scale .* LO,HI with LO < HI: e.g. 1,10; if lower ratings are better"):
            read(text, scale=wrong)
    for wrong in ("0-100", "0:100", "0 to 100", "0 100", "0..100"):
        with pytest.raises(ValueError, match=f"--scale '{wrong}' must be the lowest .* with LO < HI: write 0,100.$"):
            read(text, scale=wrong)


def test_the_mos_alone_keeps_the_sd_and_count_that_it_states(read):
    found = read("Filename,MOS,SD,N,Scene,crf\na.mp4,50,10,20,x,23\nb.mp4,100,,,y,40\n", scale="0,100")
    assert (found.form, found.raters, found.matrix.tolist()) == ("mos", ("MOS",), [[50], [100]])
    first, second = found.rows
    assert (first.mos, first.num_ratings, first.mos_sd) == pytest.approx((3, 20, 0.4))
    assert second.num_ratings == 1 and math.isnan(second.sd)
    assert first.extra == {"scene": "x", "crf": "23"}


def test_mos_beside_other_numbers_is_for_the_user_to_tell(read):
    text = "video,r1,r2,mos\na.mp4,1,3,2\n"
    with pytest.raises(LabelError, match=r"'mos' looks like the MOS.*--raters mos or --raters r1,r2"):
        read(text)
    assert read(text, raters=["r1", "r2"]).matrix.tolist() == [[1, 3]]
    assert read(text, raters=["mos"]).form == "mos"
    assert read(text, raters=["r1", "r2"]).rows[0].extra == {}
    with pytest.raises(LabelError, match=r"no columns \['r9'\] for --raters; the columns are \['r1', 'r2', 'mos'\]"):
        read(text, raters=["r1", "r9"])


LONG = "video,rater,score,source,comment\na.mp4,u1,2,s,ok\nb.mp4,u1,3,t,\na.mp4,u2,4,s,dark\nb.mp4,u3,,t,\n"


def test_a_row_for_each_rating(read):
    found = read(LONG)
    assert (found.form, found.raters, found.not_rated) == ("long", ("u1", "u2", "u3"), 1)
    np.testing.assert_array_equal(found.matrix, [[2, 4, np.nan], [3, np.nan, np.nan]])
    assert [(row.video_id, row.mean, row.num_ratings) for row in found.rows] == [("a.mp4", 3, 2), ("b.mp4", 3, 1)]
    assert found.rows[0].extra == {"source": "s"}  # comments are on ratings, not on clips
    assert read(LONG, raters=["u1"]).matrix.tolist() == [[2], [3]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (LONG + "a.mp4,u1,2,s,\n", {}, r"csv:6: rater 'u1' rates 'a.mp4' twice, on lines 2 and 6: keep one"),
        (LONG + "a.mp4,,2,s,\n", {}, r"csv:6: the column 'rater' is empty: name the rater"),
        (LONG + "a.mp4,u4,2,t,\n", {}, r"the rows of 'a.mp4' differ in 'source': \['s', 't'\]"),
        (LONG, {"raters": ["u1", "me"]}, r"no raters \['me'\] for --raters; the raters are u1, u2, u3"),
        (
            "video,user,x,y\na.mp4,u1,1,2\n",
            {},
            r"one rater column and one rating column; found raters \['user'\], ratings \['x', 'y'\]",
        ),
        (
            LONG.replace("source", "subject"),
            {},
            r"one rater column and one rating column; found raters \['rater', 'subject'\]",
        ),
    ],
    ids=["twice", "no rater", "two sources", "unknown rater", "which numbers", "two columns of raters"],
)
def test_rows_of_ratings_that_do_not_fit(read, text, options, message):
    with pytest.raises(LabelError, match=message):
        read(text, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; the first line must be a header"),
        (" \n,,,\n", "is empty"),
        ("video,mos\n", "no rows below the header"),
        ("video mos\na.mp4 3\n", "has one column; .* commas, semicolons or tabs"),
        ("a.mp4,3\nb.mp4,4\n", "the first line names the video 'a.mp4': put a header above it"),
        ("video,,mos\na.mp4,x,3\n", "column 2 of .* has no name"),
        ("video,r1,R1\na.mp4,2,3\n", r"names the columns \['r1'\] more than once"),
        ("video,mos\n\na.mp4\n", "csv:3: the row has 1 cells, the header 2"),
        ('video,mos\n"a.mp4,3\nb.mp4,3\n', "quotes do not match"),
        (
            "video,mos\n3,a.mp4\n4,b.mp4\n",
            r"csv:2: the column 'video' should name videos but holds numbers \('3'\).*look swapped. Name .* video, mos",
        ),
        ("video,r1\na.mp4,3\nb.mp4,2\n\na.mp4,3\n", r"csv:5: video 'a.mp4' is listed twice, on lines 2 and 5"),
        ("video,r1\na.mp4,3\na,3\n", r"csv:3: video 'a.mp4' is listed twice, on lines 2 and 3"),
        ("video,r1,r2\na.mp4,3,2\nb.mp4,,NA\n", "1 clip has no rating: b.mp4; leave their rows out"),
        ("video,r1\na.mp4,3\nb.mp4,2\nc.mp4,3o\n", r"csv:4: column 'r1' holds numbers, but '3o' is not a number"),
        (
            "video,kind\na.mp4,x\n",
            r"none of the columns \['kind'\] holds ratings \(numbers\): name the rating columns with --raters",
        ),
        ("video,r1\n../a.mp4,3\n", "csv:2: video '../a.mp4' leaves the video root"),
        ("video,mos,sd\na.mp4,3,-1\n", "csv:2: column 'sd': -1 is below 0"),
        ("video,mos,kind,severity\na.mp4,3,blur,7\n", "a.mp4.*severity"),
    ],
)
def test_tables_that_do_not_fit(read, text, message):
    with pytest.raises(LabelError, match=message):
        read(text)


def test_the_column_of_videos(read):
    text = "what,where,r1\nx,a.mp4,3\ny,b,2\n"
    assert read(text).video_column == "where"
    assert read("name,path,r1\nx,a.mp4,3\n").video_column == "path"
    assert read(text.replace("x", "c"), video_column="where").rows[0].video_id == "a.mp4"
    with pytest.raises(
        LabelError, match=r"which of the columns what, where, r1 names files .*no column's cells all do.*--video-column"
    ):
        read(text.replace("b,", "d,"))
    with pytest.raises(
        LabelError, match=r"no video column 'clip': --video-column must be one of \['what', 'where', 'r1'\]"
    ):
        read(text, video_column="clip")


@pytest.mark.parametrize("head", ["video", "Clip name"])
def test_a_folder_without_clips_or_with_some(read, clips, head):
    text = f"{head},what,mos\n" + "".join(f"x{i}.mp4,w{i},3\n" for i in range(4)) + "a,u,2\n"
    with pytest.raises(LabelError, match=r"4 of 5 videos are not in '.*clips': 'x0.mp4' \(line 2\), .*; add the files"):
        read(text)
    for file in clips.iterdir():
        file.unlink()
    message = f"{str(clips)!r} holds no video: give the folder of the clips with --videos."
    with pytest.raises(LabelError) as caught:
        read(text)
    assert str(caught.value) == message
    (clips / "elsewhere").symlink_to(clips.parent)  # may hold some
    with pytest.raises(LabelError, match=r"5 of 5 videos are not in .*; name the folder"):
        read(text)


def test_missing_videos_are_named_with_their_folder(read, clips):
    text = "video,mos\na.mp4,3\n" + "".join(f"x{i}.mp4,3\n" for i in range(4))
    with pytest.raises(
        LabelError, match=r"4 of 5 videos are not in '.*clips': 'x0.mp4' \(line 3\), .*'x2.mp4' .*, \.\.\.;"
    ):
        read(text)
    with pytest.raises(LabelError, match=r"1 of 1 videos .* name the folder that the video names are relative to"):
        read("video,mos\nx.mp4,3\n")
    with pytest.raises(LabelError, match="is not a folder"):
        read_ratings(clips.parent / "ratings.csv", clips / "a.mp4")


@pytest.mark.parametrize(("text", "name"), [(b"PK\3\4", "a.xlsx"), (b"PK\3\4", "a.csv"), (b"\xd0\xcf", "a.xls")])
def test_a_spreadsheets_own_file_is_to_be_saved_as_csv(read, text, name):
    with pytest.raises(LabelError, match="save it as CSV"):
        read(text, name)


def test_text_of_another_encoding(read):
    with pytest.raises(LabelError, match="not UTF-8"):
        read("video,mos\nä.mp4,3\n", encoding="latin-1")
    with pytest.raises(LabelError, match="UTF-16"):
        read("video,mos".encode("utf-16")[:-1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_table_without_the_right_to_read(read, tmp_path, clips):
    read("video,mos\na.mp4,3\n")
    (tmp_path / "ratings.csv").chmod(0)
    with pytest.raises(LabelError, match=r"cannot be read .*permissions"):
        read_ratings(tmp_path / "ratings.csv", clips)


def test_an_error_of_the_disk_is_told(read, tmp_path, clips, monkeypatch):
    read("video,mos\na.mp4,3\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(LabelError, match=r"ratings.csv' cannot be read \(Permission denied\); check its permissions"):
        read_ratings(tmp_path / "ratings.csv", clips)


def test_labels_come_back_in_score_units(read, clips, tmp_path, caplog):
    found = read('video,r1,r2,source,kind,severity\na.mp4,0,30,"s, 1",blur,0.5\nb.mp4,90,,t,,\n', scale="0,90")
    write_labels(found.rows, tmp_path / "new" / "labels.csv")
    text = (tmp_path / "new" / "labels.csv").read_text()
    # (0 + 30) / 2 = 15 of 90 -> 1 + 4 / 6; the SD is sqrt(450) * 4 / 90
    assert text.splitlines() == [
        "video,mos,sd,num_ratings,source,kind,severity",
        'a.mp4,1.666667,0.942809,2,"s, 1",blur,0.5',
        "b.mp4,5.0,,1,t,,",
    ]
    with caplog.at_level(logging.WARNING):
        rows = read_labels(tmp_path / "new" / "labels.csv", clips, "identity")
    assert [row.video for row in rows] == [row.video for row in found.rows] and not caplog.records
    assert [row.mos for row in rows] == pytest.approx([5 / 3, 5], abs=1e-6)
    assert rows[0].extra == {"sd": "0.942809", "num_ratings": "2", "source": "s, 1", "kind": "blur", "severity": "0.5"}

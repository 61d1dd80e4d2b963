"""Ladder tables, and label files that say which rows are rungs."""

import pytest

from vqathinker.data import LabelError, clip_dataset, read_labels, read_ladders, score_samples

HEADER = "video,mos,vmaf,psnr,ssim,source,codec,crf,width,height,ladder,rank"
PARK = "park/h264/640x360"


def write(folder, *rows, header=HEADER, name="train.csv"):
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / name


def rung(video, crf, mos="4.2", ladder=PARK):
    return f"{video},{mos},80,40,0.98,park,h264,{crf},640,360,{ladder},{crf}"


class Asks:
    def messages(self, video):
        return [{"role": "user", "content": video}]


def test_a_ladder_table_gives_order_and_no_label(tmp_path):
    file = write(tmp_path, rung("a/crf23.mp4", 23), rung("a/crf27.5.mp4", "27.5"))
    first, second = read_ladders(file)
    assert (first.id, first.task, first.clips) == (f"{PARK}: a/crf23.mp4", "score", (f"{tmp_path}/a/crf23.mp4",))
    assert first.target == {"ladder": PARK, "rank": 23.0, "source": "park"}
    assert second.target["rank"] == 27.5 and first.question == ""
    bare = write(tmp_path, "x.mp4;a;3", "y.mp4;a;1", header="video;ladder;rank", name="bare.csv")
    assert [sample.target for sample in read_ladders(bare)] == [{"ladder": "a", "rank": r} for r in (3.0, 1.0)]


def test_the_same_table_as_labels_brings_its_order_along(tmp_path):
    file = write(tmp_path, rung("a.mp4", 23), rung("b.mp4", 27, "3.9"), "c.mp4,2.5,,,,lake,,,640,360,,")
    rows = read_labels(file, tmp_path, "identity")
    targets = [sample.target for sample in score_samples(rows)]
    assert [(t["mos"], t["ladder"], t["rank"]) for t in targets] == [
        (4.2, PARK, 23.0), (3.9, PARK, 27.0), (2.5, None, None)
    ]  # fmt: skip
    assert targets[0]["crf"] == "23"  # other columns stay text
    dataset = clip_dataset(rows, Asks())
    assert dataset["rank"][:] == [23.0, 27.0, None] and dataset["ladder"][:] == [PARK, PARK, None]
    own = write(tmp_path, "a.mp4,4.2,first", header="video,mos,rank", name="own.csv")
    assert score_samples(read_labels(own, tmp_path, "identity"))[0].target == {"mos": 4.2, "rank": "first"}  # no rung


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (rung("a.mp4", 23, ladder=""), r"train\.csv:2: the row has ladder '' and rank '23': a rung needs both"),
        (rung("a.mp4", ""), f"the row has ladder '{PARK}' and rank '': a rung needs both"),
        (rung("a.mp4", "many"), r"train\.csv:2: rank 'many'"),
        (rung("a.mp4", "nan"), "rank nan is not finite"),
    ],
)
@pytest.mark.parametrize("read", [read_ladders, lambda file: read_labels(file, file.parent, "identity")])
def test_half_a_rung_is_an_error_in_either_file(read, row, message, tmp_path):
    with pytest.raises(LabelError, match=message):
        read(write(tmp_path, row))


def test_a_label_file_with_ladders_but_no_ranks_is_refused(tmp_path):
    with pytest.raises(LabelError, match="has ladder 'park' and rank '': a rung needs both"):
        read_labels(write(tmp_path, "a.mp4,3,park", header="video,mos,ladder"), tmp_path, "identity")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a.mp4,park"], "video,ladder", "no column rank; the columns are video, ladder. A ladder table needs video"),
        ([rung("a.mp4", 23), rung("a.mp4", 25)], HEADER, r"train\.csv:3: 'a\.mp4' is listed at .*train\.csv:2 too"),
        ([rung("../a.mp4", 23)], HEADER, r"train\.csv:2: video '\.\./a\.mp4' leaves the video root"),
        (["a.mp4,,"], "video,ladder,rank", "the row has neither ladder nor rank: give both, or remove it"),
        ([], HEADER, "there are no rows below the header"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rows, header, message, tmp_path):
    with pytest.raises(LabelError, match=message):
        read_ladders(write(tmp_path, *rows, header=header))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"ladder table '.*no\.csv' does not exist"):
        read_ladders(tmp_path / "no.csv")

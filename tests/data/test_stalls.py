import json

import numpy as np
import pytest
from scipy.io import savemat

from vqathinker.clips import write_video
from vqathinker.data import (
    LabelError,
    Sample,
    Stalls,
    clip_dataset,
    parse_stalls,
    read_events,
    read_labels,
    read_questions,
    score_samples,
    sources_of,
    stalls_of,
)
from vqathinker.data.check import check_data
from vqathinker.data.stalls import stall_text
from vqathinker.data.streaming import live_nflx_table, stalls_of_frames
from vqathinker.messages import text_in
from vqathinker.policy.prompts import instructed
from vqathinker.tasks import TASKS, sample_dataset

TWO = Stalls(((4.0, 2.0), (9.0, 3.5)), startup=1.0, duration=20.0)
SUMMARY = "Stalling: 2 stalls of 2.0 s and 3.5 s, 28 % of 20.0 s; start-up 1.0 s; 7.5 s played after the last stall."


@pytest.fixture
def clip(tmp_path):
    """48 frames at 12 a second: four seconds."""
    frames = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, fps=12, crf=30)
    return tmp_path / "a.mp4"


def test_both_wordings_tell_the_same_list():
    assert TWO.text() == SUMMARY and TWO.total == 5.5
    assert Stalls(duration=3.0).text() == "Stalling: no stall in 3.0 s; start-up 0.0 s."
    assert Stalls(((1, 0.5),)).text() == "Stalling: 1 stall of 0.5 s; start-up 0.0 s."  # length not known
    four = Stalls(((2.0, 1.0),), startup=0.5, duration=4.0, fps=4, wording="frames")
    assert four.digits() == "1100" + "0000" + "1111" + "0000"
    assert four.text().endswith(": 1100000011110000.")
    # a frame counts by its middle, so rounded times move nothing
    assert Stalls(((0.333, 0.334),), duration=1, fps=12).digits() == "000011110000"
    with pytest.raises(ValueError, match=r"needs the clip's duration and fps.*Give both"):
        Stalls(wording="frames").text()


@pytest.mark.parametrize("stalls", [TWO, Stalls(), Stalls(((1, 2),)), Stalls(startup=2, fps=24, wording="frames")])
def test_what_is_written_is_read(stalls):
    assert parse_stalls(stalls.to_json()) == parse_stalls(json.loads(stalls.to_json())) == stalls


def test_adjacent_stalls_are_read_as_they_are_rounded():
    written = Stalls(((1.00006, 1.00006), (2.00012, 1.0))).to_json()
    assert parse_stalls(written).stalls == ((1.0001, 1.0001), (2.0001, 1.0))


def test_nothing_known_is_not_no_stall():
    assert parse_stalls("") is parse_stalls(None) is None and parse_stalls("[]") == Stalls()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[[1, 2], [2, 1]]", r"stall at 2 s for 1 s begins before the stall at 1 s for 2 s is over, at 3 s"),
        ('{"startup": 2, "stalls": [[1, 1]]}', r"begins before the start-up delay is over, at 2 s"),
        ('{"stalls": [[1, 5]], "duration": 3}', r"ends at 6 s, behind the clip's end at 3 s"),
        ("[[1, 0]]", r"a duration above 0"),
        ("[[1, -2]]", r"a duration above 0"),
        ('{"startup": -1}', r"startup -1 must be .* of at least 0"),
        ('{"fps": 0}', r"fps 0 must be .* above 0"),
        ('{"stals": []}', r"key 'stals' is unknown: did you mean stalls"),
        ('{"wording": "x"}', r"wording 'x' is unknown"),
        ("[[1]]", r"must be \[\[start, duration\]"),
        ("2", r"must be \[\[start, duration\]"),
        ("[[1, true]]", r"True is not a number"),
        ("soon", r"not valid JSON"),
    ],
)
def test_what_cannot_be_is_refused(value, says):
    with pytest.raises(ValueError, match=says):
        parse_stalls(value)


def test_a_label_table_tells_stalls_before_the_question(tmp_path, clip, processor):
    rows = ["video,mos,stalls", 'a.mp4,3.5,"[[1, 0.5]]"', "b.mp4,2,", "c.mp4,4,[]", "d.mp4,1,sidecar"]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    (tmp_path / "d.stalls.json").write_text('{"stalls": [[0.5, 1]], "duration": 2}')
    labels = read_labels(tmp_path / "train.csv", tmp_path, "identity")
    assert [stalls_of(row) for row in labels] == [Stalls(((1, 0.5),)), None, Stalls(), Stalls(((0.5, 1),), duration=2)]
    told = [
        "Stalling: 1 stall of 0.5 s, 12 % of 4.0 s; start-up 0.0 s; 2.5 s played after the last stall. ",  # of the file
        "",
        "Stalling: no stall; start-up 0.0 s. ",  # there is no such file
        "Stalling: 1 stall of 1.0 s, 50 % of 2.0 s; start-up 0.0 s; 0.5 s played after the last stall. ",
    ]
    expected = [instructed(text + processor.question, processor.prompt_style) for text in told]
    assert [text_in(row["prompt"]) for row in sample_dataset(score_samples(labels), processor)] == expected
    assert [text_in(row["prompt"]) for row in clip_dataset(labels, processor)] == expected
    with_question = Sample("a", "score", ("a.mp4",), "How sharp?", {"mos": 1, "stalls": "[]"})
    assert "start-up 0.0 s. How sharp?" in text_in(TASKS["score"].messages(with_question, processor))

    (tmp_path / "bad.csv").write_text('video,mos,stalls\na.mp4,3,"[[1, 5], [2, 1]]"\n')
    with pytest.raises(LabelError, match=r"bad.csv:2: the stall at 2 s"):
        read_labels(tmp_path / "bad.csv", tmp_path, "identity")
    (tmp_path / "late.csv").write_text('video,mos,stalls\na.mp4,3,"[[3, 2]]"\n')
    late = score_samples(read_labels(tmp_path / "late.csv", tmp_path, "identity"))
    with pytest.raises(ValueError, match=r"a.mp4: the stall at 3 s for 2 s ends at 5 s, behind the clip's end at 4 s"):
        sample_dataset(late, processor)


def test_json_labels_tell_stalls_as_tables_do(tmp_path):
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": 3.5}]
    for name, row in (
        ("train.jsonl", {"image": ["a.mp4"], "conversations": turns}),
        ("qalign.json", {"img_path": "a.mp4", "gt_score": 3.5}),
    ):
        told = [row | {"stalls": [[1, 0.5]]}, json.loads(json.dumps(row).replace("a.mp4", "b.mp4")) | {"stalls": None}]
        lines = "\n".join(map(json.dumps, told)) if name.endswith("l") else json.dumps(told)
        (tmp_path / name).write_text(lines)
        labels = read_labels(tmp_path / name, tmp_path, "identity")
        assert [stalls_of(one) for one in labels] == [Stalls(((1, 0.5),)), None]
        (tmp_path / name).write_text(lines.replace("[[1, 0.5]]", "[[1]]"))
        with pytest.raises(LabelError, match=rf"{name}.*stalls \[\[1\]\] must be"):
            read_labels(tmp_path / name, tmp_path, "identity")


def test_a_clip_with_two_lists_of_stalls_is_refused(tmp_path):
    rows = ["video,mos,stalls", 'a.mp4,3,"[[1, 0.5]]"', 'a.mp4,3,"[[1.0, 0.50]]"']
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert len(read_labels(tmp_path / "t.csv", tmp_path, "identity")) == 1  # one list, written in two ways
    (tmp_path / "t.csv").write_text("\n".join([*rows, "a.mp4,3,[]"]))
    with pytest.raises(LabelError, match=r"t.csv:4: 'a.mp4' is listed twice, with other stalls"):
        read_labels(tmp_path / "t.csv", tmp_path, "identity")
    found = " ".join(problem.text() for problem in check_data(tmp_path / "t.csv", tmp_path, "identity").problems)
    assert "t.csv:4: 'a.mp4' is listed twice, with other stalls" in found


def test_check_data_knows_the_column(tmp_path, clip):
    cells = ['"[[1, 0.5]]"', '"[[3, 2]]"', '"[[1]]"']
    for name, cell in zip("abc", cells, strict=True):
        if name != "a":
            (tmp_path / f"{name}.mp4").write_bytes(clip.read_bytes())
        (tmp_path / f"{name}.csv").write_text(f"video,mos,stalls\n{name}.mp4,3,{cell}\n")
    problems = {name: check_data(tmp_path / f"{name}.csv", tmp_path, "identity").problems for name in "abc"}
    assert problems["a"] == ()
    [late] = problems["b"]
    assert late.text().startswith("1 clip has stalls that end after its last frame: b.mp4 (the stall at 3 s for 2 s en")
    [bad] = problems["c"]
    assert "stalls [[1]] must be" in bad.text()


def test_question_files_take_the_key_with_scores_only(tmp_path, clip):
    rows = [{"video": "a.mp4", "mos": 3, "stalls": [[1, 0.5]]}, {"video": "a.mp4", "mos": 3, "id": "none"}]
    rows.append({"video": "a.mp4", "mos": 3, "id": "frames", "stalls": {"wording": "frames"}})
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [sample.stalls for sample in read_questions(file, tmp_path)] == [
        Stalls(((1, 0.5),)),
        None,
        Stalls(wording="frames"),
    ]
    file.write_text(json.dumps({"video": "a.mp4", "question": "Blur?", "type": "yesno", "answer": "no", "stalls": []}))
    with pytest.raises(LabelError, match=r"'stalls' and asks for a 'choice' answer"):
        read_questions(file, tmp_path)


def test_a_told_length_that_is_not_the_files_is_warned_of_once(clip, caplog):
    for seconds in (4.4, 9.0, 9.0):
        said = stall_text(Stalls(duration=seconds), clip)
        assert said == f"Stalling: no stall in {seconds} s; start-up 0.0 s."
    [warning] = caplog.messages
    assert "told with a duration of 9 s, but the file has 4.0 s" in warning


def test_events_come_from_a_table_one_file_or_sidecars(tmp_path, clip):
    other = tmp_path / "sub" / "b.mp4"
    other.parent.mkdir()
    other.write_bytes(clip.read_bytes())
    videos, known = [str(clip), str(other)], Stalls(((1, 0.5),), duration=4, fps=12)
    table = tmp_path / "events.csv"
    table.write_text("video;stalls\na.mp4;[[1, 0.5]]\nsub/b.mp4;\nz.mp4;[]\n")
    assert read_events(table, videos) == {str(clip): known}
    (tmp_path / "sub" / "b.stalls.json").write_text("[[1, 0.5]]")
    assert read_events("sidecar", videos) == {str(other): known}
    assert read_events(tmp_path / "sub" / "b.stalls.json", videos[:1]) == {str(clip): known}
    with pytest.raises(LabelError, match=r"the stalls of one clip, but there are 2"):
        read_events(tmp_path / "sub" / "b.stalls.json", videos)
    with pytest.raises(LabelError, match=r"names none of 1 clip; names are relative to its folder"):
        read_events(table, ["z/y.mp4"])
    with pytest.raises(LabelError, match=r"none of 1 clip has a file clip.stalls.json beside it"):
        read_events("sidecar", videos[:1])
    with pytest.raises(LabelError, match=r"no such file"):
        read_events(tmp_path / "x.csv", videos)


# The first rows of a log and the columns are Waterloo SQoE-I's, the stalls are made up.
LOG = """representation_index,rebuffering_duration,video_bitrate,chunk_duration,qp
1,5.0,1406.36,1.0,21.6
1,0.0,564.592,1.0,20.84
1,2.5,1569.016,1.0,18.2
1,0.0,1100.576,1.5,18.12
"""


def test_waterloo_tables_are_label_tables(tmp_path):
    (tmp_path / "streaming_logs").mkdir()
    (tmp_path / "streaming_logs" / "001.csv").write_text(LOG)
    (tmp_path / "002.csv").write_text(LOG.replace("5.0", "0").replace("2.5", "0"))
    (tmp_path / "001.mp4").write_bytes(b"")
    header = "streaming_log,mos,individual_scores,content,device\n"
    rows = "001.csv,62.5,[60 65],Ski,hdtv\n002.csv,0,[0 0],Ski,hdtv\n"
    (tmp_path / "data.csv").write_text(header + rows)
    found = read_labels(tmp_path / "data.csv", tmp_path, "linear:0,100")
    assert [(row.video, row.mos) for row in found] == [(f"{tmp_path}/001.mp4", 3.5), (f"{tmp_path}/002", 1.0)]
    # 5 s of start-up, 2 s played, 2.5 s stalled, 2.5 s played
    assert stalls_of(found[0]) == Stalls(((7.0, 2.5),), startup=5.0, duration=12.0)
    assert stalls_of(found[1]) == Stalls(duration=4.5)
    assert sources_of(found).names == ("Ski", "Ski") and found[0].extra["device"] == "hdtv"
    (tmp_path / "data.csv").write_text(header + rows + "003.csv,1,[],Ski,hdtv\n")
    with pytest.raises(LabelError, match=r"data.csv:4: the streaming log '003.csv' is missing: looked for"):
        read_labels(tmp_path / "data.csv", tmp_path, "linear:0,100")
    (tmp_path / "003.csv").write_text(LOG.replace("chunk_duration", "length"))
    with pytest.raises(LabelError, match=r"003.csv: no column chunk_duration"):
        read_labels(tmp_path / "data.csv", tmp_path, "linear:0,100")


def test_live_nflx_files_become_a_label_table(tmp_path):
    still = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    fields = {"content_name": "Asian Fusion", "frame_rate": 4.0, "is_rebuffered_bool": still}
    fields |= {"distorted_mp4_video": "AF_0.mp4", "retrospective_zscored_mos": -1.25, "height": 1080}
    savemat(tmp_path / "AF_0.mat", fields)
    assert live_nflx_table(tmp_path, tmp_path / "live.csv") == 1
    [row] = read_labels(tmp_path / "live.csv", tmp_path, "linear:-2.5,2.5")
    assert (row.video_id, row.mos) == ("AF_0.mp4", 2.0) and sources_of([row]).names == ("Asian Fusion",)
    stalls = stalls_of(row)
    assert stalls == Stalls(((1.5, 0.75),), startup=0.5, duration=3.0, fps=4)
    assert stalls.digits() == "".join(map(str, still))
    with pytest.raises(ValueError, match=r"must hold a 0 or 1 for each frame"):
        stalls_of_frames("0 0 2", 24)
    savemat(tmp_path / "AF_0.mat", {"frame_rate": 4.0})
    with pytest.raises(LabelError, match=r"no field distorted_mp4_video"):
        live_nflx_table(tmp_path, tmp_path / "live.csv")
    for content in (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", b"no such thing" * 20, b""):
        (tmp_path / "AF_0.mat").write_bytes(content)
        with pytest.raises(LabelError, match=r"AF_0.mat cannot be read \(.*before 7\.3"):
            live_nflx_table(tmp_path, tmp_path / "live.csv")

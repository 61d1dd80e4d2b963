"""Published question files, in their own shapes: FineVD's JSON lines and VLMEvalKit's tables of Q-Bench-Video."""

import json
import logging

import pytest

from vqathinker.data import QUESTION_SETS, LabelError, Sample, read_questions
from vqathinker.data.question_sets import FINEVD_PRESENCE, QBENCH_CONTEXT, QBENCH_TYPES, find_questions


def finevd(asked, answer, video="1_20.mp4"):
    return {"video": video, "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]}


def presence(what, answer, video="1_20.mp4", between=" "):
    asked = f"If there is no {what} in the video, please answer [No].{between}If there is {what} in the video, please "
    return finevd(asked + "answer [Yes]. ", answer, video)


DOMINATING = (
    "Which distortion dimension has the greatest impact on video quality, choose from the following options{A:[Noise], "
    "B:[Video quality is good], C:[Color], D:[Artifact]}(Just answer the corresponding letter)"
)
FAULT = (
    "Please select one distortion type from below options{A:[None], B:[low saturation], C:[moire pattern]}Just answer "
    "the corresponding letter."
)


def read(folder, *rows, name="q.jsonl"):
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return read_questions(folder / name, folder)


def test_finevds_three_tasks_are_told_apart(tmp_path):
    rows = [
        presence("color distortion", "No", between=""),
        presence("temporal distortion", "Yes"),
        presence("blur", "No"),
    ]
    samples = read(tmp_path, *rows, finevd(DOMINATING, "D"), finevd(FAULT, "A"))
    assert [sample.tags["type"] for sample in samples] == [
        "color",
        "temporal",
        "blur",
        "dominating dimension",
        "fault name",
    ]
    assert [sample.target["answer"] for sample in samples] == ["B", "A", "B", "D", "A"]
    assert {sample.tags["set"] for sample in samples} == {"FineVD"} and samples[0].tags["task"] == "presence"
    assert samples[3].question == DOMINATING.partition("{")[0]
    assert samples[3].target["options"] == ("Noise", "Video quality is good", "Color", "Artifact")
    assert samples[4].target["options"] == ("None", "low saturation", "moire pattern")
    assert samples[0].clips == (f"{tmp_path}/1_20.mp4",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (presence("smell", "No"), "q.jsonl:1: question .* is about 'smell': must be one of .*'artifact'"),
        (presence("blur", ""), "answer='' .* neither an option's letter"),
        (finevd(DOMINATING, "E"), "neither an option's letter nor its text"),
        (finevd(DOMINATING.replace("B:[V", "C:[V"), "A"), r"q.jsonl:1: options .* must be lettered A, B, C"),
        (finevd("Blur? If so, please answer [Yes].", "No"), "looks like FineVD's, but its wording is not known: 'If"),
    ],
)
def test_a_row_of_finevd_that_does_not_fit_is_named(tmp_path, row, message):
    with pytest.raises(LabelError, match=message):
        read(tmp_path, row)


MCQ = (
    "index\tvideo\tvideo_path\tquestion\tanswer\tdimensions\n"
    '0\tdark\t./video/dark.mp4\t"Is it dark?\nA. No\nB. Yes"\tB. Yes\t"[\'yes-or-no,Technical,Global\']"\n'
    '1\tlag\t./video/lag.mp4\t"What is wrong?\nA. Lag\nB. Blur"\tA. Lag\t"[\'what/how,Temporal,Referring,x\']"\n'
)
VQA = (
    "index\tvideo\tvideo_path\tquestion\tanswer\tdimensions\n"
    "0\tdark\t./video/gone.mp4\tWhat is wrong?\tIt is dark.\t\"['open_ended,Technical,Global']\"\n"
)


def test_vlmevalkits_tables(tmp_path):
    (tmp_path / "dark.mp4").touch()
    (tmp_path / "mcq.tsv").write_text(MCQ)
    (tmp_path / "vqa.tsv").write_text(VQA)
    dark, lag = read_questions(tmp_path / "mcq.tsv", tmp_path)
    tags = {"type": "yes-or-no", "set": "Q-Bench-Video", "concern": "Technical", "context": "Global"}
    options = {"options": ("No", "Yes"), "answer": "B"}
    clip = (f"{tmp_path}/dark.mp4",)  # under `video`, as there is no file at `video_path`
    assert dark == Sample("dark: Is it dark?", "choice", clip, "Is it dark?", options, tags)
    assert lag.clips == (f"{tmp_path}/video/lag.mp4",) and lag.target["answer"] == "A"
    others = {"concern": "Temporal", "context": "Referring", "dimension": "x"}
    assert lag.tags == {"type": "what/how", "set": "Q-Bench-Video"} | others
    [opened] = read_questions(tmp_path / "vqa.tsv", tmp_path)
    assert read_questions([tmp_path / "mcq.tsv", tmp_path / "vqa.tsv"], tmp_path) == [dark, lag, opened]
    with pytest.raises(LabelError, match=r"gone.tsv' does not exist"):
        read_questions([tmp_path / "mcq.tsv", tmp_path / "gone.tsv"], tmp_path)
    assert (opened.task, opened.target, opened.clips) == ("open", {"reference": "It is dark."}, clip)
    assert opened.tags == tags | {"type": "open"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n1\t2\n", r"the columns are \['a', 'b'\]: a .tsv file must be VLMEvalKit's"),
        (MCQ[: MCQ.index("1\t")].replace("\tB. Yes\t", "\tC. Maybe\t"), r"row 1: answer='C. Maybe' .* neither"),
        (
            MCQ[: MCQ.index("1\t")].replace("['yes-or-no,Technical,Global']", "[x"),
            r"row 1: dimensions '\[x' must be a list of texts",
        ),
        (MCQ + "2\tx\n", "row 3: the row must have 6 cells"),
        (MCQ[: MCQ.index("1\t")].replace("\nA. No\nB. Yes", ""), "row 1: question .* has no options"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path, text, message):
    (tmp_path / "mcq.tsv").write_text(text)
    with pytest.raises(LabelError, match=message):
        read_questions(tmp_path / "mcq.tsv", tmp_path)


def test_open_questions_have_a_reference(tmp_path, caplog):
    published = {"video_name": "a_cat_b.mp4", "question_type": ["open_ended"], "context": "Compare"}
    rows = [
        published | {"question": "How do they differ?", "answers": ["The second is darker."]},
        published | {"question": "And?", "answers": "Blur."},
        published | {"question": "Why?", "answers": ["Rain", "Fog"], "correct_choice": "B"},
        published | {"question": "When?"},
    ]
    (tmp_path / "dev.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING):
        samples = read_questions(tmp_path / "dev.json", tmp_path)
    assert [s.target["reference"] for s in samples] == ["The second is darker.", "Blur.", "Fog"]
    assert samples[0].clips == (f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4") and samples[0].tags["type"] == "open"
    assert "1 open question left out: an answer can only be measured against a reference" in caplog.text
    own = {"video": "a.mp4", "question": "What is wrong?", "type": "open", "answer": "Noise."}
    [one, two] = read(tmp_path, own, own | {"answer": "Grain."})
    assert [s.id for s in (one, two)] == ["a.mp4: What is wrong? [Noise.]", "a.mp4: What is wrong? [Grain.]"]
    for change, message in [
        ({"answer": None}, "has no 'answer': give the text"),
        ({"question": " "}, "must be a non-empty string"),
        ({"options": ["A", "B"]}, "type 'open' with options"),
    ]:
        with pytest.raises(LabelError, match=message):
            read(tmp_path, own | change)


def test_the_registry_of_question_sets(tmp_path):
    for name, one in QUESTION_SETS.items():
        assert one.name == name and one.source.startswith("https") and "MIT" not in one.licence and one.licence
    for published in (FINEVD_PRESENCE, QBENCH_TYPES, QBENCH_CONTEXT):
        assert all(len(row) == len(published.columns) for row in published.rows.values())
    for who, row in FINEVD_PRESENCE.rows.items():  # the last column is the plain mean, as published
        assert sum(row[:-1]) / 5 == pytest.approx(row[-1], abs=0.012), who
    folder = tmp_path / "finevd_presence"
    for what, fix in [("no data root", lambda: folder.mkdir()), (r"\[\], not one", lambda: None)]:
        with pytest.raises(ValueError, match=what + ".*yesno_test.jsonl.*huggingface"):
            find_questions("finevd_presence", None if what == "no data root" else tmp_path)
        fix()
    (folder / "questions.jsonl").touch()
    with pytest.raises(ValueError, match="holds no folder videos"):
        find_questions("finevd_presence", tmp_path)
    (folder / "videos").mkdir()
    assert find_questions("finevd_presence", tmp_path) == ([folder / "questions.jsonl"], folder / "videos")
    dev = tmp_path / "q_bench_video_dev"
    (dev / "videos").mkdir(parents=True)
    tables = [dev / f"qbenchvideo_single_{kind}.tsv" for kind in ("MCQ", "VQA")]
    tables[0].touch()
    with pytest.raises(
        ValueError, match=r"holds \['qbenchvideo_single_MCQ.tsv'\], not one .* and qbenchvideo_single_VQA"
    ):
        find_questions("q_bench_video_dev", tmp_path)
    tables[1].touch()
    assert find_questions("q_bench_video_dev", tmp_path) == (tables, dev / "videos")

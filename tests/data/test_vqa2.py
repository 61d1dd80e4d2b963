import json

import numpy as np
import pytest
from PIL import Image

from vqathinker.data import LabelError, Sample, level_samples, read_labels, read_questions
from vqathinker.data.vqa2 import listed_options


def row(question, answer, clip="k/17.mp4", **more):
    said = [{"from": "human", "value": f"<image>\n<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": "a1", "image": clip, "frames per sec": 24, "conversations": said, "task_mark": "x"} | more


def ported(question, answer, clip="k/17.mp4"):
    """As the Qwen2.5-VL port has it."""
    said = [{"from": "human", "content": f"<video>\n{question}"}, {"from": "gpt", "content": answer}]
    return {"id": 3, "video": clip, "conversations": said}


def read(folder, *rows, name="s2.json"):
    lines = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    (folder / name).write_text(lines)
    return read_questions(folder / name, folder)


VQA2 = {"set": "VQA2"}
RATE = "This stream pauses 2 times. How would you rate the quality of this video?"


@pytest.mark.parametrize("name", ["s2.json", "s2.jsonl"])
def test_published_rows_become_levels_choices_and_open_questions(tmp_path, name):
    rows = [
        row(RATE, "The quality of this video is Poor.", gt_score=31.5),
        ported("How would you rate the quality of this picture?", "High"),
        row("Does it shake? A. Yes B. No", "A. Yes"),
        row("How strong is the blur?\nA. None\nB. Mild\nC. Strong\nAnswer with a letter.", "C. Strong, in the sky."),
        row("Is there noise?", "No, it is clean."),
        row("What is the fault of this picture?", "It is noise."),
        row("How is the lighting?", "Good."),  # of an attribute, not of the video
    ]
    clips, faults = (f"{tmp_path}/k/17.mp4",), ("None", "Mild", "Strong")
    level = {"level": "poor", "words": "vqa2", "gt_score": 31.5}
    yes_no, asked = ("Yes", "No"), "How would you rate the quality of this picture?"
    assert read(tmp_path, *rows, name=name) == [
        Sample(f"k/17.mp4: {RATE}", "level", clips, RATE, level, VQA2),
        Sample(f"k/17.mp4: {asked}", "level", clips, asked, {"level": "high", "words": "vqa2"}, VQA2),
        Sample(
            "k/17.mp4: Does it shake?", "choice", clips, "Does it shake?",
            {"options": yes_no, "answer": "A"}, VQA2 | {"type": "choice"},
        ),
        Sample(
            "k/17.mp4: How strong is the blur?", "choice", clips, "How strong is the blur?",
            {"options": faults, "answer": "C", "reason": "Strong, in the sky."}, VQA2 | {"type": "choice"},
        ),
        Sample(
            "k/17.mp4: Is there noise?", "choice", clips, "Is there noise?",
            {"options": yes_no, "answer": "B", "reason": "No, it is clean."}, VQA2 | {"type": "yesno"},
        ),
        Sample(
            "k/17.mp4: What is the fault of this picture?", "open", clips, "What is the fault of this picture?",
            {"reference": "It is noise."}, VQA2 | {"type": "open"},
        ),
        Sample(
            "k/17.mp4: How is the lighting?", "open", clips, "How is the lighting?",
            {"reference": "Good."}, VQA2 | {"type": "open"},
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "answer", "found"),
    [
        (
            "What faults do you see?",
            "No obvious blur, but noise.",
            ("open", {"reference": "No obvious blur, but noise."}),
        ),
        ("It pauses. Does it shake?", "Yes, it does.", ("choice", "A")),
        ("Does it shake?", "Hardly.", ("open", {"reference": "Hardly."})),
        ("How is the frame rate and the quality?", "Poor", ("open", {"reference": "Poor"})),
        ("Please rate the quality of the lighting.", "Poor", ("open", {"reference": "Poor"})),
        ("What is the overall quality of this image?", "Poor.", ("level", {"level": "poor", "words": "vqa2"})),
        ("Rate the quality of this video. A. Good B. Poor", "Poor", ("choice", "B")),
        (
            RATE,
            "It shakes. Noise is strong, hence the quality of the video is Low.",
            ("level", {"level": "low", "words": "vqa2", "reason": "It shakes. Noise is strong."}),
        ),
    ],
)
def test_question_and_answer_decide_the_task(tmp_path, question, answer, found):
    [sample] = read(tmp_path, row(question, answer))
    told = sample.target["answer"] if sample.task == "choice" else sample.target
    assert (sample.task, told) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": []}, r"conversations of \[\]: must be one question and one answer"),
        ({"conversations": row("a", "b")["conversations"] * 2}, r"\['human', 'gpt', 'human', 'gpt'\]: must be one"),
        ({"conversations": row("a", 2.61)["conversations"]}, "answer 2.61 must be texts.*give it as a label file"),
        ({"conversations": row("How many?", "31.5")["conversations"]}, "the number '31.5' as answer: no reference"),
        ({"video": "b.mp4"}, "both 'image' and 'video'"),
        ({"image": "../b.mp4"}, "leaves the video root"),
        ({"conversations": row("Which? A. Blur B. Noise", "C.")["conversations"]}, "neither an option's letter"),
        ({"conversations": row("Which? A. Blur B. Noise", "A. Noise")["conversations"]}, "the letter means 'Blur'"),
    ],
)
def test_a_published_row_that_does_not_fit_is_named(tmp_path, changes, message):
    with pytest.raises(LabelError, match=f"s2.json: row 1: .*{message}"):
        read(tmp_path, row("Does it shake?", "Yes.") | changes)


def test_odd_rows_of_a_published_file_are_left_out_and_counted(tmp_path, caplog):
    both = row("Which? A. Blur B. Noise", "Both A and B")
    four = row("a", "b") | {"conversations": row("Does it shake?", "Yes.")["conversations"] * 2}
    differ = [row("Is it dark?", answer) for answer in ("Yes.", "No.")]
    again = [row("Is it red?", answer) for answer in ("Yes.", "Yes, very.")]
    samples = read(tmp_path, row("Does it shake?", "Yes."), both, four, *differ, *again)
    assert [s.question for s in samples] == ["Does it shake?", "Is it red?"]
    assert "5 published rows left out: first" in caplog.text and "s2.json: row 2: answer='Both A and B'" in caplog.text


def test_null_counts_as_absent_in_a_table_of_both_forms(tmp_path):
    """What a table of rows holds, where the keys of both forms are columns."""
    first, second = row("Is it dark?", "Yes."), ported("Is it red?", "No.")
    turns = {"from": None, "value": None, "content": None}
    for own in (first, second):
        own["conversations"] = [turns | turn for turn in own["conversations"]]
    keys = dict.fromkeys(first.keys() | second.keys() | {"gt_score"})
    samples = read(tmp_path, keys | first, keys | second)
    assert [(s.question, s.target["answer"]) for s in samples] == [("Is it dark?", "A"), ("Is it red?", "B")]


def test_what_lists_no_options():
    for text in ("Is A. Smith in it?", "Plan B. and A. are bad", "Which? A. Blur"):
        assert listed_options(text) == (text, ())
    assert listed_options("Which? (A) Blur; (B) Noise") == ("Which?", ("Blur", "Noise"))


def test_a_picture_is_a_clip_of_one_frame(tmp_path, processor, policy):
    """Stage 1 asks about images; they go through the warm start as any clip."""
    from vqathinker.data import ClipLoader
    from vqathinker.training import SFTCollator, sft_dataset

    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "17.jpg", quality=95)
    samples = read(tmp_path, row("Which fault dominates? A. Noise B. Blur", "A", clip="17.jpg"), name="s1.json")
    clip = processor.load_clip(samples[0].clips[0])
    assert set(clip.indices.tolist()) == {0} and "an image" in clip.notes
    rows = sft_dataset(samples, processor, 0).to_list()
    loss = policy(**SFTCollator(processor, ClipLoader(processor.load_clip), policy)(rows)).loss
    assert loss.isfinite() and loss > 0


def test_labels_become_level_samples_with_deviations_in_score_units(tmp_path):
    (tmp_path / "l.csv").write_text("video,mos,std,kind,severity\na.mp4,60,10,blur,0.4\nb.mp4,100,,blur,0.1\n")
    one, two = level_samples(read_labels(tmp_path / "l.csv", tmp_path, "linear:0,100"), "vqa2", 0.04)
    target = {"mos": pytest.approx(3.4), "words": "vqa2", "sd": pytest.approx(0.4), "kind": "blur", "severity": "0.4"}
    assert one == Sample("a.mp4: level", "level", (f"{tmp_path}/a.mp4",), target=target)
    assert two.target == {"mos": 5, "words": "vqa2", "kind": "blur", "severity": "0.1"}
    rows = read_labels(tmp_path / "l.csv", tmp_path, "div20")
    rows[0] = type(rows[0])(rows[0].video, "a.mp4", 0.5)
    with pytest.raises(ValueError, match=r"clip 'a\.mp4': mos 0\.5 has no level"):
        level_samples(rows)


def test_rows_of_our_own_ask_for_levels(tmp_path):
    first, second = read(
        tmp_path,
        {"video": "a.mp4", "level": "Good", "mos": 3.9, "std": 0.5},
        {"video": "a.mp4", "level": "low", "words": "vqa2", "question": "How good is it?"},
        name="own.jsonl",
    )
    clips = (f"{tmp_path}/a.mp4",)
    assert first == Sample(
        "a.mp4: level", "level", clips, "", {"mos": 3.9, "level": "good", "words": "itu", "std": 0.5}
    )
    assert second.target == {"level": "low", "words": "vqa2"} and second.id == "a.mp4: How good is it?"
    for changes, message in (
        ({"level": "low"}, r"level 'low' must be one of \['excellent', .*'bad'\], the words 'itu'"),
        ({"level": "good", "words": "qalign"}, "level words 'qalign' are unknown"),
        ({"level": 6}, "level 6 must be a string"),
        ({"level": "good", "answer": "A"}, r"has 'level' and \['answer'\]"),
    ):
        with pytest.raises(LabelError, match=message):
            read(tmp_path, {"video": "a.mp4"} | changes, name="own.jsonl")
    rows = [{"video": "a.mp4", "id": word, "level": word} for word in ("good", "bad")]
    with pytest.raises(LabelError, match="has the answer 'bad', but 'good' at"):
        read(tmp_path, *rows, name="own.jsonl")

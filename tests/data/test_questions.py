import json
import logging
import re

import pytest

from vqathinker.data import LabelError, LabelRow, Sample, read_questions, score_samples
from vqathinker.data.options import letter_of, options_in
from vqathinker.data.qbench import clip_names

FAULTS = ["Blur", "Noise", "None of these"]


def plain(**changes):
    return {"video": "a/b.mp4", "question": "Which fault?", "options": FAULTS, "answer": "B"} | changes


def chat(text="Which fault?", video="a/b.mp4", system=None, **changes):
    blocks = [{"type": "video", "video": video, "text": None}, {"type": "text", "text": text, "video": None}]
    before = [{"role": "system", "content": system}] if system else []
    return {"prompt": [*before, {"role": "user", "content": blocks}], "answer": "B"} | changes


def write(folder, *rows, start=""):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "q.jsonl").write_bytes((start + "\r\n".join(lines)).encode())
    return folder / "q.jsonl"


def read(folder, *rows, **options):
    return read_questions(write(folder, *rows, **options), folder)


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "BOM"])
def test_both_forms_and_scores_in_one_file(tmp_path, start):
    rows = read(
        tmp_path,
        plain(type="which_fault", tags={"concern": "Technical"}, kind="noise", severity=0.4, system=None),
        "",
        chat("Is it sharp?", system="Be brief.", options=["Yes", "No"], answer="no", id="sharp-1"),
        {"video": "ü.mp4", "mos": 3.25, "scene": "s1", "options": None},
        start=start,
    )
    target = {"options": tuple(FAULTS), "answer": "B", "kind": "noise", "severity": 0.4}
    tags = {"type": "which_fault", "concern": "Technical"}
    clip = (f"{tmp_path}/a/b.mp4",)
    assert rows == [
        Sample("a/b.mp4: Which fault?", "choice", clip, "Which fault?", target, tags),
        Sample("sharp-1", "choice", clip, "Is it sharp?", {"options": ("Yes", "No"), "answer": "B"}, {}, "Be brief."),
        Sample("ü.mp4", "score", (f"{tmp_path}/ü.mp4",), target={"mos": 3.25, "scene": "s1"}),
    ]


@pytest.mark.parametrize("lines", ["A. Blur\nB. Noise", "(A) Blur\n(B) Noise", "A) Blur \n\nB) Noise\n"])
def test_options_at_the_end_of_the_text_are_cut_from_it(tmp_path, lines):
    for row in (chat(f"Look. A. is no list.\nWhich fault?\n{lines}"), plain(question=f"Which?\n{lines}", options=None)):
        [sample] = read(tmp_path, row)
        assert sample.target == {"options": ("Blur", "Noise"), "answer": "B"}
        assert sample.question.endswith("?") and "Noise" not in sample.question
    [same] = read(tmp_path, chat(f"Which?\n{lines}", options=["Blur", "Noise"]))
    assert same.question == "Which?"


def test_a_list_that_does_not_begin_with_a_is_text():
    assert options_in("Which?\nB. Blur\nC. Noise")[1] == options_in("Which?\nA. Blur")[1] == ()


def test_the_video_may_stand_beside_plain_text(tmp_path):
    content = "Is it sharp?"
    beside = {"prompt": [{"role": "user", "content": content}], "video": "a/b.mp4", "type": "yesno", "answer": "YES"}
    marked = chat(video=None, type="yesno", answer="Yes") | {"video": "c.mp4"}
    samples = read(tmp_path, beside, marked)
    assert [(s.clips[0], s.target["options"], s.target["answer"]) for s in samples] == [
        (f"{tmp_path}/a/b.mp4", ("Yes", "No"), "A"),
        (f"{tmp_path}/c.mp4", ("Yes", "No"), "A"),
    ]


@pytest.mark.parametrize("answer", ["B", "b", "B.", "(B)", "noise", " Noise ", "B. Noise", "(b) noise"])
def test_an_answer_is_a_letter_or_a_text(answer):
    assert letter_of(answer, FAULTS) == "B"


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        ("D", FAULTS, "neither an option's letter nor its text. Give a letter, A to C"),
        ("A. Noise", FAULTS, "the letter means 'Blur', the text 'Noise'"),
        ("B", ("B", "A"), "the letter means 'A', the text 'B'"),
        (2, ("1", "2"), "answer 2 must be a string"),
    ],
)
def test_an_answer_that_names_no_option_is_refused(answer, options, message):
    with pytest.raises(ValueError, match=message):
        letter_of(answer, options)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"q.jsonl:2: '{' is not valid JSON"),
        ('["a.mp4"]', "q.jsonl:2: found list"),
        ('{"video": "a.mp4", "video": "b.mp4"}', r"keys \['video'\] more than once"),
        ({"conversations": []}, r"found the keys \['conversations'\]; a line must be one of"),
        (plain(video="../a.mp4"), "leaves the video root"),
        (plain(video=["a.mp4", "b.mp4", "c.mp4"]), "it must show one or two"),
        ({"video": ["a.mp4", "b.mp4"], "mos": 3}, "a score is of one clip"),
        (plain(options=["Blur"]), "a question needs 2 to 26 options"),
        (plain(options=[f"option {i}" for i in range(27)]), "a question needs 2 to 26 options"),
        (plain(options=["Blur", "blur "]), r"\['Blur', 'blur'\] must differ in more than case"),
        (plain(options=["0", 1]), "list of non-empty strings; put numbers in quotes"),
        (plain(options="Blur"), "options 'Blur' must be a list"),
        (plain(options=None), "has no options"),
        (plain(answer=None), "has no 'answer'"),
        (plain(answer="E"), "answer='E' .* neither an option's letter"),
        (plain(question=" "), "must be a non-empty string"),
        (plain(question=7), "question 7 must be a string"),
        (plain(question="Which?\nA. Blur\nB. Grain"), r"lists the options \['Blur', 'Grain'\] and the row"),
        (plain(id=""), "id '' must be a non-empty string"),
        (plain(tags={"concern": 1}), "tags .* must be an object of strings"),
        (plain(type="count", tags={"type": "yesno"}), "type 'count' and the tag 'type' 'yesno' disagree"),
        (plain(frames=[1, 2]), r"frames \[1, 2\] must be a string or a number"),
        (plain(kind="blur", severity=2), "kind='blur' with severity=2"),
        (plain(mos=3), r"has 'mos' and \['options', 'answer'\]"),
        ({"video": "a.mp4", "mos": 62.5}, "mos 62.5 must be in score units, 0 to 5"),
        ({"video": "a.mp4", "mos": True}, "mos True is not a number"),
        (chat(question="Which?"), "both 'question' and 'prompt'"),
        (chat(options=FAULTS, video=None), r"shows the videos \[\]: it must show one or two"),
        (chat(options=FAULTS) | {"video": "c.mp4"}, "and the key 'video' names 'c.mp4': keep one"),
        (chat(system="Be brief.", options=FAULTS) | {"system": "Be kind."}, "differs from the prompt's system message"),
        ({"prompt": "Which?", "answer": "B"}, "prompt 'Which\\?' must be a list of one user message"),
        ({"prompt": [{"role": "assistant", "content": "B"}]}, "Leave the answer out: it"),
        ({"prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}, "content .* must be"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, row, message):
    with pytest.raises(LabelError, match=f"(?s){message}") as caught:
        read(tmp_path, plain(video="first.mp4"), row)
    assert "q.jsonl:2: " in str(caught.value)


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(LabelError, match="holds no questions"):
        read(tmp_path, "")
    (tmp_path / "q.csv").write_text("video,question\n")
    with pytest.raises(LabelError, match=r"q.csv': suffix must be one of \['.jsonl', '.json', '.tsv'\]"):
        read_questions(tmp_path / "q.csv", tmp_path)
    with pytest.raises(LabelError, match="is not a folder"):
        read_questions(write(tmp_path, plain()), tmp_path / "gone")


def test_a_question_may_be_about_two_clips(tmp_path):
    blocks = [{"type": "video", "video": name} for name in ("a.mp4", "b.mp4")] + [{"type": "text", "text": "Which?"}]
    prompt = {"prompt": [{"role": "user", "content": blocks}], "options": FAULTS, "answer": "A"}
    samples = read(tmp_path, plain(video=["b.mp4", "a.mp4"]), prompt)
    clips = (f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4")
    assert [(one.id, one.clips) for one in samples] == [
        ("b.mp4 + a.mp4: Which fault?", clips[::-1]),
        ("a.mp4 + b.mp4: Which?", clips),
    ]


PUBLISHED = {
    "video_name": "1.mp4_cat_b.c.mp4.mp4",
    "question": "Which one is sharper?",
    "question_type": "what/how",
    "answers": ["The first", "The second", "Alike"],
    "correct_choice": "B",
    "context": ["Compare", "Global"],
    "quality_concern": "Technical",
    "video_id": 7,
}


def test_q_bench_videos_form_is_read_with_its_pairs(tmp_path, caplog):
    single = PUBLISHED | {"video_name": "1.mp4", "question": "Is it dark?", "question_type": ["yes-or-no question"]}
    single |= {"answers": ["No", "Yes"], "correct_choice": "B.", "context": "Global", "quality_concern": None}
    open_ended = {"video_name": "1.mp4", "question": "What is wrong?", "question_type": "open_ended"}
    (tmp_path / "dev.json").write_text(json.dumps([PUBLISHED, single, open_ended]))
    pair, alone = read_questions(tmp_path / "dev.json", tmp_path)
    assert pair.clips == (f"{tmp_path}/1.mp4", f"{tmp_path}/b.c.mp4") and pair.question == "Which one is sharper?"
    assert pair.target == {"options": ("The first", "The second", "Alike"), "answer": "B"}
    shared = {"set": "Q-Bench-Video"}
    assert pair.tags == shared | {"type": "what/how", "context": "Compare, Global", "concern": "Technical"}
    assert alone.clips == (f"{tmp_path}/1.mp4",) and alone.target["answer"] == "B"
    assert alone.tags == shared | {"type": "yes-or-no question", "context": "Global"}
    assert "1 open question left out" in caplog.text  # as there is no reference


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PUBLISHED | {"correct_choice": None}, r"row 1: the row has no \['correct_choice'\]"),
        (PUBLISHED | {"video_name": "a_cat_b_cat_c.mp4"}, "must join two clips by '_cat_': 3 found"),
        (PUBLISHED | {"video_name": 7}, "video_name 7 must be a string"),
        ("a.mp4", "row 1: found str"),
    ],
)
def test_a_published_row_that_does_not_fit_is_named(tmp_path, row, message):
    (tmp_path / "dev.json").write_text(json.dumps([row]))
    with pytest.raises(LabelError, match=message):
        read_questions(tmp_path / "dev.json", tmp_path)
    (tmp_path / "dev.json").write_text(json.dumps(PUBLISHED))
    with pytest.raises(LabelError, match="must hold one list of rows"):
        read_questions(tmp_path / "dev.json", tmp_path)


def test_names_of_pairs_with_one_suffix():
    assert clip_names("a_cat_b.mp4", lambda name: False) == ["a.mp4", "b.mp4"]
    assert clip_names("x/cat.mp4", lambda name: False) == ["x/cat.mp4"]


def test_a_clip_with_cat_in_its_name_is_one_clip_where_it_is_there(tmp_path):
    (tmp_path / "my_cat_video.mp4").touch()
    rows = [PUBLISHED | {"video_name": name} for name in ("my_cat_video.mp4", "your_cat_video.mp4")]
    (tmp_path / "dev.json").write_text(json.dumps(rows))
    one, two = read_questions(tmp_path / "dev.json", tmp_path)
    assert one.clips == (str(tmp_path / "my_cat_video.mp4"),)
    assert two.clips == (str(tmp_path / "your.mp4"), str(tmp_path / "video.mp4"))


def test_a_repeated_row_is_kept_once_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        samples = read(tmp_path, plain(), plain(answer="Noise"), plain(question="Other?"))
    assert len(samples) == 2 and "1 row repeats" in caplog.text


def test_one_question_has_one_answer(tmp_path):
    other = plain(options=FAULTS[::-1], answer="None of these")
    with pytest.raises(LabelError, match=r"q.jsonl:2: .*'a/b.mp4' has the answer 'none of these', but 'noise' at .*:1"):
        read(tmp_path, plain(), other)


def test_ids_are_unique_and_the_same_in_any_order(tmp_path):
    rows = [plain(), plain(options=["Noise", "Shake"], answer="A"), plain(video="c.mp4"), plain(id="mine")]
    names = {sample.id for sample in read(tmp_path, *rows)}
    assert names == {
        "a/b.mp4: Which fault? [Blur | Noise | None of these]",
        "a/b.mp4: Which fault? [Noise | Shake]",
        "c.mp4: Which fault?",
        "mine",
    }
    assert {sample.id for sample in read(tmp_path, *rows[::-1])} == names
    with pytest.raises(LabelError, match=r"q.jsonl:2: the row at .*q.jsonl:1 also has the id 'x'"):
        read(tmp_path, plain(id="x"), plain(id="x", question="Other?"))
    with pytest.raises(LabelError, match=r"also has the id 'a.mp4'"):
        read(tmp_path, {"video": "a.mp4", "mos": 3}, {"video": "a.mp4", "mos": 4})


def test_the_example_in_the_docs_is_read(repo, tmp_path):
    [rows] = re.findall(r"```json\n(.*?)```", (repo / "docs/data.md").read_text(encoding="utf-8"), re.DOTALL)
    samples = read(tmp_path, *rows.strip().split("\n"))
    assert [(s.task, s.question, s.target.get("answer")) for s in samples] == [
        ("choice", "Which fault does this clip have?", "B"),
        ("choice", "Is this clip sharp?", "B"),
        ("choice", "How strong is the noise?", "B"),
        ("score", "", None),
        ("level", "", None),
    ]


def test_answers_in_numbers_and_ordered_options_are_read(tmp_path):
    rows = [
        {"video": "a.mp4", "task": "when", "question": "When is it noisy?", "answer": "1.2-2.4", "type": "when_seen"},
        {"video": "a.mp4", "task": "where", "question": "Where is it noisy?", "answer": [10, 20, 60, 80]},
        {"video": "a.mp4", "task": "count", "question": "How many freezes?", "answer": 3, "reason": "I see three."},
        {"video": "a.mp4", "task": "count", "question": "How many jumps?", "answer": "two"},
        plain(question="How strong?", options=["Mild", "Clear", "Strong"], answer="C", ordered=True),
    ]
    when, where, count, jumps, strong = read(tmp_path, *rows)
    assert (when.task, when.target, when.tags) == ("when", {"answer_interval": [1.2, 2.4]}, {"type": "when_seen"})
    assert (where.task, where.target) == ("where", {"answer_box": [10, 20, 60, 80]})
    assert count.target == {"answer_count": 3, "reason": "I see three."} and jumps.target == {"answer_count": 2}
    assert strong.task == "choice" and strong.target["steps"] == (0, 1, 2) and when.id == "a.mp4: When is it noisy?"


WHEN = {"video": "a.mp4", "task": "when", "question": "When?", "answer": "1-2"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (WHEN | {"task": "how"}, r"task 'how' must be one of \['when', 'where', 'count'\]"),
        (WHEN | {"answer": "late"}, "answer 'late' of the task 'when' must be start and end in seconds.*no_value"),
        (WHEN | {"answer": [2, 1]}, r"interval \[2.0, 1.0\]: must be start and end"),
        (WHEN | {"answer": None}, "no 'answer': give start and end in seconds"),
        (WHEN | {"options": ["a", "b"]}, r"the task 'when' and \['options'\]"),
        (WHEN | {"question": ""}, "no question"),
        (WHEN | {"video": ["a.mp4", "b.mp4"]}, "it is about one clip"),
        (WHEN | {"task": "where", "answer": "0, 0, 10, 120"}, "left, top, right and bottom in percent.*out_of_range"),
        (WHEN | {"task": "count", "answer": 2.5}, "count 2.5: must be a whole number"),
        (WHEN | {"answer": "1-3"}, "has the answer .*, but .* at"),
        (plain(ordered="yes"), "ordered 'yes' must be true or false"),
    ],
)
def test_an_answer_in_numbers_that_does_not_fit_is_named(tmp_path, row, message):
    with pytest.raises(LabelError, match=message) as caught:
        read(tmp_path, WHEN, row)
    assert "q.jsonl:2: " in str(caught.value)


def test_label_rows_become_score_samples():
    row = LabelRow("/root/a.mp4", "a.mp4", 3.2, {"kind": "blur", "severity": "0.4"})
    [sample] = score_samples([row])
    assert sample == Sample("a.mp4", "score", ("/root/a.mp4",), target={"mos": 3.2, "kind": "blur", "severity": "0.4"})

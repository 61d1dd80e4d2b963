"""Q-Bench-Video-shaped and FineVD-shaped files, made by hand, through `vqathinker eval` from end to end."""

import csv
import json
import shutil

import pytest

from vqathinker.cli import main
from vqathinker.data import Sample
from vqathinker.data.question_sets import FINEVD_PRESENCE
from vqathinker.evaluation import evaluate_open
from vqathinker.evaluation.named_dimensions import dimensions_in
from vqathinker.evaluation.published import beaten_by_constant
from vqathinker.metrics.open_answers import blind_f1, mean_over_clips
from vqathinker.scoring import QualityScorer


@pytest.fixture
def engine(monkeypatch, reading_engine):
    made = reading_engine(lambda text, blank: "<think>a</think><answer>A</answer>")
    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: made)
    return made


def run(base, *arguments):
    return main(["eval", *map(str, arguments), "--model", str(base), "--device", "cpu"])


def table(text, title):
    """Rows of a printed table, cells without the spaces around them; the first cell -> the others."""
    part = text.split(f"## {title}")[1].split("\n##")[0]
    rows = [line.strip("| ").split("|") for line in part.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


def qbench(kind, question, answers, right, name="00000.mp4", context="Global", concern="Technical"):
    row = {"video_name": name, "question": question, "answers": answers, "video_type": "natural"}
    return row | {"question_type": kind, "correct_choice": right, "context": context, "quality_concern": concern}


QBENCH = [
    qbench("yes-or-no", "Is it dark?", ["Yes", "No"], "B"),
    qbench("yes-or-no", "Does it lag?", ["No", "Yes"], "A", concern="Temporal", context="Referring"),
    qbench("what/how", "What is wrong?", ["Blur", "Noise", "Lag"], "A", "00001.mp4", concern="Aesthetic"),
    qbench("what/how", "Which is worse?", ["First", "Second"], "A", "00000.mp4_cat_00001.mp4.mp4", "Compare-coarse"),
    qbench("open_ended", "Describe the noise.", ["There is strong noise."], None),
    qbench("open_ended", "Describe the light.", ["It is too dark."], None, "00001.mp4"),
]


def says(text, blank):
    if blank:
        return "<answer>A</answer>" if "A. " in text else "<answer>dark</answer>"
    if "Describe" not in text:
        return "<think>a</think><answer>A</answer>"
    return (
        "<think>a</think><answer>Strong noise!</answer>" if "noise" in text else "<think>dark</think><answer></answer>"
    )


def test_q_bench_videos_file_with_its_pair_open_questions_and_a_judge(
    engine, base, clip_set, tmp_path, judge_server, capsys
):
    engine.say = says
    (tmp_path / "dev.json").write_text(json.dumps(QBENCH))
    replies = iter(["2", "1", "2", "none", "2"])
    judge_server.reply = lambda body: next(replies, "2")
    out = tmp_path / "out"
    where = ["--questions", tmp_path / "dev.json", "--video-root", clip_set / "videos/val", "--out", out]
    assert run(base, *where, "--judge-url", judge_server.url, "--judge-model", "m") == 0
    said = capsys.readouterr().out
    assert table(said, "Questions with options")["yes-or-no"][:2][0] == "2"
    assert "| context: Compare-coarse" in said and "| concern: Temporal" in said
    opened = table(said, "Open questions")
    # {strong, nois} of {strong, nois}, and nothing of {dark}; blind: "dark" is right once
    assert opened["all"][0] == "2" and opened["all"][1].startswith("0.500 [") and opened["all"][4] == "0.500"
    assert opened["all"][2:4] == ["0.500", "0.000"]  # no two references share a term
    assert opened["all"][5].startswith("0.438 [")  # (7 / 4 / 2 + 0) / 2: an empty answer is 0 without a call
    published = table(said, "Q-Bench-Video: accuracy in percent")
    # yes/no 1 of 2, what/how 1 of 1 (the pair is no single video), open 0.4375, technical (0 + 0.875 + 0) / 3
    assert published["this policy"] == ["50.00", "100.00", "43.75", "29.17", "100.00", "100.00", "57.50"]
    assert published["test, VQA²-Assistant"][-1] == "56.78" and published["guessing"][:2] == ["50.00", "33.33"]
    assert published["constant answer, this file"][0] == "100.00" and published["this policy, no video"][1] == "100.00"
    assert published["guessing"][2:4] == ["-", "-"]  # open ones have no options
    assert published["guessing"][-1] == published["constant answer, this file"][-1] == "-"
    assert "Columns with open questions count them by the judge's verdicts" in said
    context = table(said, "Q-Bench-Video, dev, with options, by context: accuracy in percent")
    assert context["this policy"] == ["50.00", "100.00", "66.67"] and context["VQAThinker"][-1] == "57.56"
    assert "Verdicts: 5 valid, 1 invalid" in said and len(judge_server.asked) == 1 + 5  # and the first, which checks
    with (out / "open_answers.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert (
        rows["00000.mp4: Describe the noise."]["verdicts"].split()
        == sorted(rows["00000.mp4: Describe the noise."]["verdicts"].split(), key=lambda v: 0)
        and rows["00001.mp4: Describe the light."]["status"] == "no_answer"
    )
    whole = json.loads((out / "questions.json").read_text())
    assert whole["open"]["summaries"][""]["judged"]["value"] == pytest.approx(0.4375)
    assert whole["provenance"]["judge"] == "m" and (out / "questions.md").read_text() in said
    judge_server.shutdown()  # a second run needs no endpoint
    assert run(base, *where, "--judge-model", "m") == 0
    assert table(capsys.readouterr().out, "Open questions")["all"][5].startswith("0.438 [")


def finevd(what, answer, video):
    asked = (
        f"If there is no {what} in the video, please answer [No]. If there is {what} in the video, please answer [Yes]."
    )
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"video": video, "conversations": turns}


def test_finevds_file_as_a_benchmark_beside_its_constant_answer(engine, base, clip_set, tmp_path, capsys):
    clips = [f"{i:05}.mp4" for i in range(4)]
    folder = tmp_path / "finevd_presence"
    shutil.copytree(clip_set / "videos/val", folder / "videos")
    rows = [finevd("noise", answer, clip) for clip, answer in zip(clips, ("No", "No", "No", "Yes"), strict=True)]
    rows += [finevd("temporal distortion", answer, clip) for clip, answer in zip(clips[:2], ("Yes", "No"), strict=True)]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def say(text, blank):  # an empty answer is none: a substring of "No", but not right
        if "please answer" not in text:  # asked for a score
            return "<think>Grainy shadows, no stutter or blur.</think><answer>2.00</answer>"
        return "<think>a</think><answer></answer>" if "noise" in text and not blank else "<answer>Yes</answer>"

    engine.say = say
    assert run(base, "--benchmarks", "finevd_presence", "--data-root", tmp_path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    types = table(said, "Questions with options")
    assert types["noise"][1].startswith("0.000 [") and types["noise"][2:] == ["0.750", "0.500", "0.250"]
    assert types["temporal"][1].startswith("0.500 [") and "Answers that name no option: 0.667" in said
    assert table(said, "Yes or no")["temporal"] == ["2", "0.500", "0.667", "-"]  # always Yes: no correlation
    published = table(said, "FineVD, presence of faults: accuracy in percent")
    assert published["this policy"] == ["-", "0.00", "-", "-", "50.00", "-"]
    assert published["constant answer, this file"][1] == "75.00" and published["this policy, no video"][1] == "25.00"
    assert published["VQAThinker"][-1] == "72.45" and published["constant answer, published test file"][-1] == "70.79"
    # noise is named in all four, and one of them has it; temporal faults in none of the two
    named = table(said, "FineVD, faults named in the reasoning to a score")
    assert named["noise"][:3] == ["4", "1", "4"] and named["noise"][4:] == ["0.750", "0.500", "0.400"]
    assert named["noise"][3].startswith("0.250 [") and named["temporal"][:3] == ["2", "1", "0"]
    assert named.keys() & {"blur", "color", "artifact"} == set()
    row = published["this policy, faults named in its reasoning"]
    assert row == ["-", "25.00", "-", "-", "50.00", "-"]
    whole = json.loads((tmp_path / "out/questions.json").read_text())["named_in_reasoning"]
    assert whole["dimensions"]["temporal"]["presence"]["balanced_accuracy"] == 0.5
    assert "reaches 70.79 on the published test file, more than 5 of the 6 published rows" in said
    for arguments, message in [
        (["--benchmarks", "finevd_presence,cgvds", "--data-root", tmp_path], "is evaluated alone"),
        (["--benchmarks", "finevd_fault"], "no data root was given"),
        (
            ["--benchmarks", "finevd_presence", "--data-root", tmp_path, "--judge-url", "http://x/v1"],
            "without --judge-model",
        ),
        (["--benchmarks", "finevd_presence", "--data-root", tmp_path, "--judge-model", "m"], "has no open question"),
        (
            ["--labels", "x.csv", "--videos", tmp_path, "--judge-model", "m"],
            "a judge looks at answers to open questions",
        ),
    ]:
        assert run(base, *arguments) == 2
        assert message in capsys.readouterr().err


def test_a_reasoning_names_dimensions():
    for text, named in [
        ("The picture is washed out and too dark; motion blur is strong.", {"color", "blur"}),
        ("No flicker, but blockiness around edges, and moiré.", {"artifact", "noise"}),
        ("Compression blur, free of ringing.", {"blur"}),
        ("Sharp and clean, the motion is smooth.", set()),
        ("It lags, and the camera is shaky.", {"temporal"}),
        ("Over-dark scenes with low-contrast parts.", {"color"}),
    ]:
        assert dimensions_in(text) == named, text


def test_the_constant_answer_beats_most_published_rows():
    assert "(InternVL3 60.06, Qwen2.5-VL 54.61, FineVQ 65.59" in beaten_by_constant(FINEVD_PRESENCE)
    assert "VQAThinker" not in beaten_by_constant(FINEVD_PRESENCE)


def test_a_judge_that_is_away_is_told_before_anything_is_asked(engine, base, clip_set, tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"video": "00000.mp4", "question": "What?", "type": "open", "answer": "Noise."}')
    where = ["--questions", tmp_path / "q.jsonl", "--video-root", clip_set / "videos/val", "--out", tmp_path / "out"]
    assert run(base, *where, "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m") == 2
    assert "it cannot be reached" in capsys.readouterr().err and not engine.asked
    assert run(base, *where, "--judge-model", "m") == 2
    assert "no verdicts are recorded at" in capsys.readouterr().err
    assert run(base, *where, "--baseline", base) == 2
    assert "has no question with options, which two policies are compared on" in capsys.readouterr().err
    engine.say = lambda text, blank: "<answer>noisy</answer>"
    assert run(base, *where) == 0
    said = capsys.readouterr().out
    assert table(said, "Open questions")["all"] == ["1", "1.000", "1.000", "-", "1.000"]
    assert "Questions with options" not in said and not (tmp_path / "out/answers.csv").exists()


def test_blind_answers_and_means_of_open_questions():
    references = ["noise in the sky", "noise", "blur", "of it"]
    # F1 of each with each: noise-sky and noise 2/3, all others 0; "of it" has no terms
    constant, other = blind_f1(references)
    assert constant == pytest.approx((1 + 2 / 3) / 3) and other == pytest.approx(2 * (2 / 3) / 6)
    assert blind_f1(["noise"])[0] == 1 and blind_f1(["of"])[0] != blind_f1(["of"])[0]
    mean = mean_over_clips([1.0, 0.0, float("nan")], ["a", "b", "c"])
    assert (mean.value, mean.low, mean.high, mean.count) == (0.5, 0, 1, 2)


def test_open_answers_do_not_depend_on_what_else_is_asked(policy, processor, train_rows, tmp_path):
    a, b = (row.video for row in train_rows[:2])
    target = {"reference": "Noise."}
    samples = [Sample(str(i), "open", clips, f"What {i}?", target) for i, clips in enumerate([(a,), (b, a), (b,)])]
    samples.append(Sample("3", "open", (str(tmp_path / "gone.mp4"),), "What?", target))
    scorer = QualityScorer(policy, processor, max_new_tokens=4, batch_size=2)
    whole, part = evaluate_open(scorer, samples), evaluate_open(scorer, samples[2:0:-1])
    assert list(whole.questions[1:]) == list(part.questions)[::-1] and list(whole.unreadable) == ["3"]
    assert whole.summaries[""].f1.count == 3 and whole.questions[0].verdicts is None
    with pytest.raises(ValueError, match="2 samples have the id '0'"):
        evaluate_open(scorer, [samples[0]] * 2)
    with pytest.raises(ValueError, match="open questions need the task 'open'"):
        evaluate_open(scorer, [Sample("s", "score", (a,), target={"mos": 3.0})])

"""`vqathinker ask` and `vqathinker eval --questions`, from the command line to the files they write."""

import json

import pytest

from vqathinker.cli import main
from vqathinker.metrics.choices import accuracy


@pytest.fixture
def engine(monkeypatch, reading_engine):
    """A stand-in for the engine that says what it is set to."""
    made = reading_engine(lambda text, blank: "<think>grain\nall over</think><answer>B</answer>")
    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: made)
    return made


@pytest.fixture
def clip(clip_set):
    return clip_set / "videos" / "val" / "00000.mp4"


def run(base, command, *arguments):
    return main([command, *map(str, arguments), "--model", str(base), "--device", "cpu"])


def test_ask_prints_the_option_and_its_letter(engine, base, clip, capsys):
    assert run(base, "ask", clip, "Which fault?", "--options", "Blur", "Noise", "--explain") == 0
    out, err = capsys.readouterr()
    assert out == "Noise (B)\tok\n    grain all over\n" and "the policy sees the central 64x64 pixels of frames" in err
    assert run(base, "ask", clip, "Which fault?", "--options", "Blur", "Noise", "--samples", 3) == 0
    assert capsys.readouterr().out == "Noise (B)\tok\t3 of 3 answers\n"
    assert run(base, "ask", clip, "Which fault?") == 0
    assert capsys.readouterr().out == "B\tok\n"


def test_ask_as_json(engine, base, clip, capsys):
    assert run(base, "ask", clip, "Which fault?", "--options", "Blur", "Noise", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["letter"], found["index"], found["options"]) == ("Noise", "B", 1, ["Blur", "Noise"])
    assert found["video"] == str(clip) and found["agreement"] is None and found["reasoning"] == "grain\nall over"


def test_ask_tells_of_what_failed_by_its_exit_code(engine, base, clip, tmp_path, capsys):
    engine.say = lambda text, blank: "no\nidea"
    assert run(base, "ask", clip, "Which fault?", "--options", "Blur", "Noise") == 1
    assert capsys.readouterr().out == "-\tno_answer\tno idea\n"
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    assert run(base, "ask", tmp_path / "torn.mp4", "Which fault?") == 1
    assert capsys.readouterr().out.startswith("-\tunreadable\tno readable video")
    assert run(base, "ask", tmp_path / "gone.mp4", "Which fault?") == 2
    assert f"no such file: '{tmp_path}/gone.mp4'" in capsys.readouterr().err
    assert run(base, "ask", clip, "Which fault?", "--options", "Blur") == 2
    assert "needs 2 to 26 options" in capsys.readouterr().err


def write(folder, *rows):
    lines = [json.dumps({"video": "val/00000.mp4", "options": ["Blur", "Noise"]} | row) for row in rows]
    (folder / "q.jsonl").write_text("\n".join(lines))
    return folder / "q.jsonl"


def test_eval_answers_a_question_file(engine, base, clip_set, tmp_path, capsys):
    rows = [{"question": "Which?", "answer": "Noise", "type": "fault"}, {"question": "And?", "answer": "A"}]
    rows += [{"video": "val/00001.mp4", "mos": 3, "options": None}]
    file, out = write(tmp_path, *rows), tmp_path / "out"
    arguments = ["--questions", file, "--video-root", clip_set / "videos", "--out", out]
    assert run(base, "eval", *arguments) == 0
    said, err = capsys.readouterr()
    assert "| type   |" in said and "no video" in said and "1 row asks for a score: skipped" in err
    whole = json.loads((out / "questions.json").read_text())
    assert whole["summary"]["accuracy"]["value"] == 0.5 and whole["consistency"] == 0
    assert whole["provenance"]["checkpoint"] == str(base) and (out / "answers.csv").exists()
    assert (out / "questions.md").read_text() in said


def test_eval_compares_two_policies_on_the_same_questions(engine, base, clip_set, tmp_path, capsys):
    rows = [{"question": "Which?", "answer": "B"}, {"question": "And?", "answer": "A", "video": "val/00001.mp4"}]
    rows += [{"question": "How many?", "task": "count", "answer": 2, "options": None}]
    file, out = write(tmp_path, *rows), tmp_path / "out"
    where = ["--questions", file, "--video-root", clip_set / "videos", "--out", out, "--baseline", base]
    assert run(base, "eval", *where) == 0
    said, err = capsys.readouterr()
    assert "Against the baseline" in said and "+0.000 [+0.000, +0.000]" in said and f"first the baseline {base}" in err
    assert "1 question without options: not compared" in err
    found = json.loads((out / "questions.json").read_text())["comparison"]
    assert found["accuracy"] == 0.5 and (found["change"]["gained"], found["change"]["lost"]) == (0, 0)
    assert found["change"]["p_value"] == 1 and found["baseline"]["checkpoint"] == str(base)
    assert run(base, "eval", *where[:-1], tmp_path / "none") == 2
    assert "no checkpoint folder at" in capsys.readouterr().err


def test_eval_says_what_does_not_go_with_questions(engine, base, clip_set, tmp_path, capsys):
    file = write(tmp_path, {"question": "Which?", "answer": "Noise"})
    scores = tmp_path / "scores.jsonl"
    scores.write_text('{"video": "val/00000.mp4", "mos": 3}')
    for arguments, message in [
        (["--questions", file], "--questions without --video-root"),
        (["--video-root", clip_set], "--video-root without --questions"),
        (["--questions", file, "--video-root", clip_set, "--sets", file], "--questions with --sets"),
        (["--questions", file, "--video-root", clip_set, "--samples", 2], "--samples 2 --readout answer"),
        (["--questions", file, "--video-root", clip_set, "--question", "Why?"], "the file has its own questions"),
        (["--questions", scores, "--video-root", clip_set], "has no question with options"),
    ]:
        assert run(base, "eval", *arguments) == 2
        assert message in capsys.readouterr().err


def test_eval_fails_where_no_clip_can_be_read(engine, base, tmp_path, capsys):
    file = write(tmp_path, {"question": "Which?", "answer": "Noise"})
    assert run(base, "eval", "--questions", file, "--video-root", tmp_path, "--out", tmp_path / "out") == 1
    assert "cannot be read: 1 question." in capsys.readouterr().out


def test_eval_measures_answers_in_numbers_beside_a_constant_and_no_video(engine, base, clip_set, tmp_path, capsys):
    def said(text, blank):
        if "start and end" in text:
            return "<think>a</think><answer>0-1</answer>" if blank else "<think>a</think><answer>1-2 s</answer>"
        if "with one word" in text:
            assert ("Stalling: no stall in" in text) == ("told" in text)  # with the clip's length, without a video too
            return "<answer>Bad.</answer>" if blank else f"<answer>{'Fair' if 'b?' in text else 'Good'}.</answer>"
        return "<answer>two</answer>" if "whole number" in text else "<answer>B</answer>"

    engine.say = said
    rows = [{"question": f"When {i}?", "task": "when", "answer": f"{i}-2", "options": None} for i in (1, 0)]
    rows[1]["video"] = "val/00001.mp4"
    rows += [{"question": f"How many {n}?", "task": "count", "answer": n, "options": None} for n in (2, 3, 5)]
    words = (("a told?", "good", 4.2), ("b?", "fair", 2.9), ("c?", "fair", 3.1))
    rows += [{"question": q, "level": word, "mos": mos, "options": None} for q, word, mos in words]
    rows[-3]["stalls"] = []
    rows += [{"question": "Gone?", "video": "gone.mp4", "task": "count", "answer": 2, "options": None}]
    file, out = write(tmp_path, *rows), tmp_path / "out"
    where = ["--questions", file, "--video-root", clip_set / "videos", "--out", out]
    assert run(base, "eval", *where) == 0
    text = capsys.readouterr().out
    assert "Questions answered in numbers" in text and "cannot be read: 1 question." in text
    when, count, level = json.loads((out / "places.json").read_text())["tasks"]
    assert level["metrics"]["level_accuracy"] == pytest.approx(2 / 3) and level["no_video"]["level_accuracy"] == 0
    assert level["metrics"]["level_srcc"] == pytest.approx(3**0.5 / 2)  # ranks 2.5, 1, 2.5 and 3, 1, 2
    assert level["constant"] == {"level_accuracy": pytest.approx(2 / 3), "level_srcc": None, "level_unparsable": 0.0}
    assert when["metrics"] == {"when_iou": 0.75, "when_hit": 0.5, "when_unparsable": 0.0}
    assert when["intervals"]["when_iou"] == [0.5, 1.0]  # drawn: both clips, or one of them twice
    one_of_two = accuracy([True, False])
    assert when["intervals"]["when_hit"] == [one_of_two.low, one_of_two.high]
    assert "0.750 [0.500, 1.000]" in text
    assert count["intervals"]["count_error"] == [None, None]  # all of one clip
    assert when["constant"]["when_iou"] == 0.75 and when["no_video"]["when_iou"] == 0.25  # 0-2; 0-1
    assert count["metrics"]["count_error"] == pytest.approx(4 / 3) and count["constant"]["count_error"] == 1.0
    assert len(count["ids"]) == 3 and list(count["unreadable"]) == ["gone.mp4: Gone?"]
    assert (out / "places.md").read_text() in text and not (out / "questions.json").exists()
    assert run(base, "eval", *where, "--baseline", base) == 2
    assert "has no question with options, which two policies are compared on" in capsys.readouterr().err

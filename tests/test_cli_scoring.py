"""`vqathinker score`, `eval`, `flip-rate` and `temporal-sensitivity`, from the command line to the files they write."""

import csv
import json
import os
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vqathinker.cli import main
from vqathinker.cli.files import find_videos
from vqathinker.cli.scoring import line_of
from vqathinker.clips import VideoWriter
from vqathinker.rollout import Completion
from vqathinker.synth import OodSpec


@pytest.fixture
def judge(monkeypatch, processor):
    """A stand-in for the engine, whose scores follow from the frames."""

    class Judge:
        def generate(self, prompts, n, sampling, seeds=None):
            texts = [f"<think>soft\nedges</think><answer>{1 + seed % 400 / 100:.2f}</answer>" for seed in seeds]
            return [[Completion(processor.tokenizer(text)["input_ids"])] * n for text in texts]

    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: Judge())


@pytest.fixture
def folder(clip_set):
    return clip_set / "videos" / "val"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


SEEN = "sees the central 64x64 of 96x96, 44 %"
"""What is said of the clips of `folder`."""


def score(base, *arguments):
    return main(["score", "--model", str(base), "--device", "cpu", *map(str, arguments)])


def test_score_prints_a_line_per_clip_and_writes_tables(judge, base, folder, tmp_path, capsys):
    assert score(base, folder, "--csv", tmp_path / "s.csv", "--json", tmp_path / "s.json", "--explain") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 8 and lines[0].startswith(f"{folder}/00000.mp4  ") and lines[0].endswith(f"  ok  {SEEN}")
    assert lines[1] == "    soft edges" and "4 clips: 4 scored" in err
    assert err.count(f"the policy {SEEN} (4 of 4 clips)\n") == 1 and "trained" not in err
    table = read(tmp_path / "s.csv")
    assert [f"{row['video']}  {float(row['score']):.2f}   ok  {row['notes']}" for row in table] == lines[::2]
    assert [json.loads(line)["score"] for line in (tmp_path / "s.json").read_text().splitlines()] == [
        float(row["score"]) for row in table
    ]
    assert score(base, folder, "--csv", tmp_path / "s.csv") == 0
    assert capsys.readouterr().out.splitlines() == lines[::2]  # what the file has


def test_a_folder_names_what_it_passes_over_and_takes_images(judge, base, folder, tmp_path, capsys):
    for name in ("a.gif", "sub/b.265", "c.yuv", "notes.txt", "d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / "00000.mp4").read_bytes())
    Image.new("RGB", (96, 64), (200, 40, 40)).save(tmp_path / "e.png")
    assert score(base, tmp_path, "--csv", tmp_path / "s.csv") == 0
    out, err = capsys.readouterr()
    named = [line for line in err.splitlines() if line.startswith("skipped")]
    assert named == [
        f"skipped: 3 files that end in .265, .gif, .yuv: {tmp_path}/a.gif, {tmp_path}/c.yuv, {tmp_path}/sub/b.265"
    ]
    notes = [SEEN, "an image; sees the central 64x64 of 96x64, 67 %"]
    assert [line.split("   ok  ")[1] for line in out.splitlines()] == notes
    assert [row["notes"] for row in read(tmp_path / "s.csv")] == notes
    assert f"the policy {SEEN} (1 of 2 clips, and parts of 1 other size)" in err
    (tmp_path / "sub" / "f.png").write_bytes((tmp_path / "e.png").read_bytes())
    with pytest.raises(ValueError, match=r"no video in .*; looked for \.mp4, "):
        find_videos([str(tmp_path / "sub")])  # where images make no sense, as for temporal sensitivity
    assert "f.png" in capsys.readouterr().err


def test_scores_are_sorted_and_printed_for_programs(judge, base, folder, tmp_path, capsys):
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    clips = (tmp_path / "torn.mp4", folder)
    assert score(base, *clips, "--sort", "score", "--format", "csv", "--csv", tmp_path / "s.csv", "--explain") == 1
    out = capsys.readouterr().out
    rows = list(csv.DictReader(out.splitlines()))
    scores = [float(row["score"]) for row in rows]
    assert scores[:4] == sorted(scores[:4]) and np.isnan(scores[4]) and "no readable" in rows[4]["error"]
    assert out.splitlines()[0] == (tmp_path / "s.csv").read_text().splitlines()[0]
    assert sorted(out.splitlines()) == sorted((tmp_path / "s.csv").read_text().splitlines())
    assert score(base, *clips, "--sort", "name", "--format", "json") == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["video"] for row in printed] == sorted(row["video"] for row in rows)
    assert score(base, folder / "00000.mp4") == 0
    assert "\n1 clip: 1 scored" in "\n" + capsys.readouterr().err


def test_the_columns_of_names_of_several_lengths_are_aligned():
    row = {"score": 3.4, "std": np.nan, "status": "ok", "num_answers": 1, "notes": "", "error": ""}
    assert line_of(row | {"video": "a.mp4"}, 10) == "a.mp4       3.40   ok"
    assert line_of(row | {"video": "longer.mp4", "score": 3.4567}, 10) == "longer.mp4  3.457  ok"
    assert line_of(row | {"video": "b.mp4", "std": 0.25, "num_answers": 2, "num_parsed": 1}) == (
        "b.mp4  3.40 (spread 0.25)  ok  1 of 2 answers"
    )


def test_calibrated_numbers_have_the_digits_of_their_interval():
    row = {"video": "a.mp4", "score": 3.42, "std": np.nan, "status": "ok", "num_answers": 1, "notes": "", "error": ""}
    for calibrated, low, high, text in (
        (61.3421, 48.2, 74, "61.3 [48.2, 74.0]"),
        (3.4181, 2.6, 4.2049, "3.42 [2.60, 4.20]"),
        (123456.7, 98765.4, 148000.2, "123457 [98765, 148000]"),
        (-0.001, -4.0, 5.0, "0.00 [-4.00, 5.00]"),
        (7.0, 7.0, 7.0, "7.00 [7.00, 7.00]"),
    ):
        assert line_of(row | {"calibrated": calibrated, "low": low, "high": high}) == f"a.mp4  3.42 = {text}  ok"


def test_what_was_done_to_a_clip_stands_in_its_row(judge, base, tmp_path, capsys):
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    with VideoWriter(tmp_path / "wide.mp4", pixel_aspect=Fraction(2)) as writer:
        for frame in frames:
            writer.write(frame)
    assert score(base, tmp_path / "wide.mp4", "--csv", tmp_path / "s.csv", "--json", tmp_path / "s.jsonl") == 0
    notes = "pixels of 2:1 made square; sees the central 64x64 of 192x64, 33 %"
    assert capsys.readouterr().out.endswith(f"ok  {notes}\n")
    assert read(tmp_path / "s.csv")[0]["notes"] == notes
    assert json.loads((tmp_path / "s.jsonl").read_text())["notes"] == notes


def test_another_view_size_or_question_is_told_and_never_mixed_in(judge, base, folder, tmp_path, capsys):
    assert score(base, folder, "--csv", tmp_path / "s.csv") == 0
    capsys.readouterr()
    for option, value, told in (
        ("--view", "resize", "view resize, trained with center_crop"),
        ("--image-size", "32", "image_size 32, trained with 64"),
        ("--question", "How sharp?", "another question than in training"),
    ):
        assert score(base, folder, option, value, "--csv", tmp_path / "s.csv") == 2
        err = capsys.readouterr().err
        assert (
            f"not what the policy was trained with: {told}. Scores may be off" in err
            and "made with other settings" in err
        )
    assert score(base, folder, "--view", "resize") == 0
    out, err = capsys.readouterr()
    assert "sees" not in out and "the policy sees whole frames, resized to 64x64\n" in err
    assert "none of the first" not in err
    assert score(base, folder, "--view", "center_crop", "--frames", 12) == 0
    assert "trained" not in capsys.readouterr().err  # as it was trained, but for the number of frames


def test_where_a_change_leaves_no_number_the_end_says_so(base, folder, capsys):
    """The real engine on random weights, which say nothing sensible."""
    arguments = (folder / "00000.mp4", "--max-new-tokens", 4)
    told = "none of the first 1 clip got a score, and the policy was trained differently: frames 12, trained with 6."
    for frames, count in ((12, 1), (6, 0)):
        assert score(base, *arguments, "--frames", frames) == 1
        assert capsys.readouterr().err.count(told) == count


def test_score_tells_of_what_failed_by_its_exit_code(judge, base, folder, tmp_path, capsys):
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    assert score(base, tmp_path / "torn.mp4", folder / "00000.mp4", tmp_path / "gone.mp4") == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "  nan    unreadable  no readable video" in lines[0] and "no such file" in lines[2]
    assert lines[1].endswith(f"ok  {SEEN}") and "3 clips: 1 scored, 2 unreadable, 0 without a usable" in err


def test_names_that_are_no_utf8_or_too_long_stop_nothing(judge, base, folder, tmp_path, capsys):
    odd = os.fsencode(tmp_path) + b"/b\xff\xc3\xb6.mp4"
    with open(odd, "wb") as file:
        file.write((folder / "00000.mp4").read_bytes())
    arguments = (tmp_path / "*.mp4", "x" * 300, "--csv", tmp_path / "s.csv", "--json", tmp_path / "s.json")
    for _ in range(2):
        assert score(base, *arguments) == 1
        out, err = capsys.readouterr()
        assert "\\udcff" in out and "too long" in out and "2 clips: 1 scored, 1 unreadable" in err
    assert odd in (tmp_path / "s.csv").read_bytes()


def test_an_unparsable_answer_is_nan_never_a_number(base, folder, tmp_path, capsys):
    """The real engine on random weights, which say nothing sensible."""
    arguments = (folder, "--max-new-tokens", 6, "--samples", 2, "--csv", tmp_path / "s.csv")
    assert score(base, *arguments) == 1
    out, err = capsys.readouterr()
    assert out.count("  nan    no_answer  0 of 2 answers") == 4 and "4 without a usable number in the answer" in err
    assert {row["score"] for row in read(tmp_path / "s.csv")} == {"nan"}


def test_paths_are_files_folders_and_globs(folder, tmp_path):
    files = [str(folder / f"{i:05d}.mp4") for i in range(4)]
    assert find_videos([str(folder)]) == files == find_videos([str(folder / "*.mp4"), files[2]])
    assert find_videos([str(folder.parent.parent / "**" / "00000.mp4")])[-1] == files[0]
    assert find_videos(["gone.mp4"]) == ["gone.mp4"]
    (tmp_path / "sub.mp4").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert find_videos([str(folder), str(folder / "0000[12]*"), "x" * 300]) == [*files, "x" * 300]
    for path in (str(tmp_path), str(tmp_path / "*.mp4"), str(tmp_path / "*")):
        with pytest.raises(ValueError, match=r"no video in .*; looked for \.mp4, "):
            find_videos([path])


def test_wrong_input_is_one_line(base, folder, tmp_path, capsys):
    for arguments in (
        ["score", str(tmp_path), "--model", str(base)],
        ["score", str(folder), "--model", str(tmp_path / "none")],
        ["eval", "--benchmarks", "cgvd", "--data-root", str(tmp_path), "--model", str(base)],
        ["eval", "--benchmarks", "cgvds", "--data-root", str(tmp_path), "--model", str(base)],
        ["eval", "--benchmarks", "in-domain", "--model", str(base)],
        ["flip-rate", "--sources", str(folder), "--crf", "a", "--model", str(base)],
        ["flip-rate", "--sources", str(folder), "--crf", "15", "--model", str(base)],
        ["flip-rate", "--sources", str(tmp_path / "none"), "--model", str(base)],
        ["score", str(folder), "--model", str(base), "--device", "warp"],
        ["score", str(folder), "--model", str(base), "--frames", "0"],
        ["score", str(folder), "--model", str(base), "--image-size", "0"],
        ["score", str(folder), "--model", str(base), "--seed", "-1"],
        ["score", str(folder), "--model", str(base), "--max-new-tokens", "0"],
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        last = err.splitlines()[-1]  # behind what loading shows
        assert out == "" and last.startswith(f"vqathinker {arguments[0]}: ") and "Traceback" not in err


def test_eval_on_own_sets(judge, base, clip_set, tmp_path, capsys):
    (tmp_path / "sets.yaml").write_text(f"- {{name: mine, labels: {clip_set}/val.csv, videos: {clip_set}}}\n")
    arguments = ["--model", str(base), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["eval", "--sets", str(tmp_path / "sets.yaml"), *arguments]) == 0
    out, err = capsys.readouterr()
    assert "| mine " in out and "overall, ood, own sets" in out and "Absent" not in out
    assert err.count(f"the policy {SEEN} (4 of 4 clips)\n") == 1
    assert json.loads((tmp_path / "out/results.json").read_text())["sets"][0]["seen"] == {SEEN: 4}
    assert f"The policy {SEEN}: the framed part." in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert main(["eval", "--benchmarks", "ood", "--sets", str(tmp_path / "sets.yaml"), *arguments]) == 0
    assert "LIVE-YT-Gaming" in capsys.readouterr().out  # absent, and said so
    assert (tmp_path / "out/report.html").exists() and len(read(tmp_path / "out/mine.csv")) == 4


def test_eval_of_one_table_needs_no_yaml(judge, base, clip_set, tmp_path, capsys):
    where = ["eval", "--model", str(base), "--device", "cpu", "--out", str(tmp_path / "out")]
    table = ["--labels", str(clip_set / "train.csv"), "--videos", str(clip_set)]
    assert main([*where, *table, "--baseline", str(base)]) == 0
    out, err = capsys.readouterr()
    assert "| train.csv " in out and "| MAE   | RMSE   |" in out and "overall" not in out
    assert "train.csv: no fit of 4 parameters on 16 clips, it needs 20 or more" in out
    assert "## Against the baseline" in out and out.count("+0.000 [+0.000, +0.000]") == 2
    assert "every clip is scored twice" in err and len(list((tmp_path / "out/scores").iterdir())) == 1
    found = json.loads((tmp_path / "out/results.json").read_text())
    [one], [entry] = found["comparison"]["sets"], found["sets"]
    assert one["num_clips"] == 16 and one["srcc"]["difference"] == one["plcc"]["high"] == 0
    assert (
        entry["split"] == "train" and entry["interval_over"].endswith("sources (column 'scene')") and entry["mae"] > 0
    )
    assert one["interval_over"] == entry["interval_over"] and found["overall"] == {}
    table[-1] = str(tmp_path)
    assert main([*where, *table]) == 2
    assert f"--videos {tmp_path} holds none of the 16 clips of " in capsys.readouterr().err
    assert "spread" in read(tmp_path / "out/train.csv")[0] and "Against the baseline" in (
        tmp_path / "out/report.html"
    ).read_text(encoding="utf-8")


def test_eval_says_in_which_units_labels_are_taken(judge, base, clip_set, tmp_path, capsys):
    labels = tmp_path / "mine.csv"
    labels.write_text("video,mos\n" + "".join(f"train/{i:05d}.mp4,{20 * i}\n" for i in range(5)))
    where = ["eval", "--model", str(base), "--device", "cpu", "--out", str(tmp_path / "out")]
    table = ["--labels", str(labels), "--videos", str(clip_set / "videos")]
    assert main([*where, *table]) == 2
    err = capsys.readouterr().err
    assert "'train/00001.mp4' has the MOS 20, but without --mos-scale labels must be scores, 1 to 5" in err
    assert "--mos-scale 'linear:LO,HI'" in err
    assert main([*where, *table, "--mos-scale", "linear:0,100"]) == 0
    assert "| mine.csv " in capsys.readouterr().out
    assert [float(row["mos"]) for row in read(tmp_path / "out/mine.csv")] == pytest.approx([1, 1.8, 2.6, 3.4, 4.2])
    for arguments, message in [
        (table[:2], "without --videos: name the folder"),
        (table[2:], "--videos without --labels"),
        (["--mos-scale", "div20"], "--mos-scale without --labels"),
        ([*table, "--sets", str(labels)], "--labels with --sets: a label file is evaluated alone"),
        ([*table, "--mos-scale", "percent"], "mos scale 'percent' is unknown"),
        ([*table, "--baseline", str(tmp_path / "none")], "no checkpoint folder at"),
        ([*table, "--baseline", str(base), "--model", str(tmp_path / "no")], "/no': check its name"),
        ([*table, "--baseline", str(base), "--engine", "vllm"], "--baseline with --engine vllm"),
    ]:
        assert main([*where, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_samples_have_a_spread_which_is_not_called_an_error(judge, base, folder, capsys):
    assert score(base, folder / "00000.mp4", "--samples", 2) == 0
    out, err = capsys.readouterr()
    assert " (spread 0.00)  ok  2 of 2 answers" in out and "±" not in out
    assert "not its error; to measure that on labelled clips: vqathinker eval --labels" in err


def test_eval_without_data_runs_on_synthetic_sets(judge, base, tmp_path, capsys, monkeypatch):
    from vqathinker import synth

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synth, "make_ood_sets", lambda folder, make=synth.make_ood_sets: make(folder, OodSpec(6)))
    assert main(["eval", "--model", str(base), "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "running on the synthetic sets" in err and out.count("| Synthetic ") == 5 and "formula" in out
    results = json.loads((tmp_path / "runs/eval/results.json").read_text())
    assert [entry["num_scored"] for entry in results["sets"]] == [6] * 5 and len(results["absent"]) == 5


def test_flip_rate_and_temporal_sensitivity(judge, base, folder, tmp_path, capsys):
    arguments = ["--model", str(base), "--device", "cpu"]
    out = str(tmp_path / "flips")
    assert main(["flip-rate", "--sources", str(folder), "--crf", "15,17,51", "--out", out, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "| 2 " in printed and "| all " in printed and (tmp_path / "flips/flip_rate.md").read_text() in printed
    manifest = str(tmp_path / "flips/ladder/manifest.csv")
    assert main(["flip-rate", "--manifest", manifest, "--out", out, *arguments]) == 0
    assert capsys.readouterr().out == printed
    about = json.loads((tmp_path / "flips/flip_rate.json").read_text())
    assert about["encodes"] == {} and about["policy"]["checkpoint"] == str(base)  # of a manifest nothing more is known
    assert main(["flip-rate", "--manifest", manifest, "--compare", "--out", out, *arguments]) == 1
    printed, err = capsys.readouterr()
    assert "## Flip rate, h264, by comparison" in printed and "this policy has not learned to compare" in err
    assert main(["flip-rate", "--manifest", manifest, "--codec", "av1", "--out", out, *arguments]) == 2
    assert "--manifest with --codec or --crf: its encodes are there already" in capsys.readouterr().err
    assert main(["temporal-sensitivity", str(folder), *arguments]) == 0
    out, err = capsys.readouterr()
    assert "| global shuffle " in out and "4 clips: 4 compared, 0 without a score" in err
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    assert main(["temporal-sensitivity", str(folder), str(tmp_path / "torn.mp4"), *arguments]) == 1
    assert "5 clips: 4 compared, 1 without a score" in capsys.readouterr().err


def test_flip_rate_asks_about_both_orders_of_each_pair(base, folder, tmp_path, capsys, monkeypatch, processor):
    class Engine:
        asked = 0

        def generate(self, prompts, n, sampling, seeds=None):
            Engine.asked += len(prompts)
            answer = processor.tokenizer("<answer>first; 3.42; 2.87</answer>")["input_ids"]
            return [[Completion(answer)] * n for _ in prompts]

    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: Engine())
    command = ["flip-rate", "--sources", str(folder), "--codec", "vp9", "--crf", "20,40", "--compare"]
    command += ["--model", str(base), "--device", "cpu", "--out", str(tmp_path)]
    main(command)
    about = json.loads((tmp_path / "flip_rate.json").read_text())
    rates = [rate for rate in about["flip_rates"] if rate["by"] == "comparison"]
    assert [(rate["difference"], rate["pairs"], rate["unscored"]) for rate in rates] == [(20, 4, 0), (None, 4, 0)]
    [asked] = (tmp_path / "comparisons").glob("*.jsonl")
    kept = [json.loads(line) for line in asked.read_text().splitlines()]
    assert sum(row["preference"] < 0.5 for row in kept) == rates[-1]["wrong"] and len(kept) == 4
    assert all("crf20" in row["first"] and "crf40" in row["second"] for row in kept)  # the milder one is the first
    assert about["encodes"]["codecs"]["vp9"]["crfs"] == [20, 40] and "Beside CP-LLM" not in capsys.readouterr().out
    before = Engine.asked
    main(command)
    assert Engine.asked == before


SCRIPT = """
import sys
from vqathinker.cli import main
from vqathinker.scoring.scorer import process_state
code = main(sys.argv[1:])
sys.stderr.write(f"processes: {process_state().num_processes}\\n")  # at once: the processes share the file
sys.exit(code)
"""


@pytest.mark.engine
@pytest.mark.slow
def test_two_processes_share_the_clips_and_give_the_same_table(torchrun, base, folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def table(name, count):
        file = tmp_path / name
        command = ("score", folder, "--model", base, "--readout", "levels", "--csv", file, "--batch-size", 1)
        stdout, stderr = torchrun(count, tmp_path / "script.py", *command)
        assert stderr.count("4 clips: 4 scored") == 1 and stderr.count(f"processes: {count}") == count
        assert len(stdout.splitlines()) == 4  # one process speaks
        return sorted(file.read_text().splitlines())

    assert table("two.csv", 2) == table("one.csv", 1)

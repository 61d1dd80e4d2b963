"""Every example runs, at toy size; those for other trainers write what these read."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest

import rewards
from vqathinker.policy.prompts import INSTRUCTION, QUESTION

SHIPPED = "vqathinker/synth/base"
OTHERS = "examples/other_trainers"


@pytest.fixture
def example(repo):
    """Runs an example with these arguments, in this process."""

    def run(name, *arguments):
        return runpy.run_path(str(repo / "examples" / name))["main"]([str(a) for a in arguments])

    return run


def test_own_labels_become_a_policy_and_a_report(example, clip_set, tmp_path, capsys, repo):
    """With labels on another scale: from 0 to 100, as (MOS - 1) x 25."""
    table = tmp_path / "mine.csv"
    rows = list(csv.DictReader((clip_set / "train.csv").open()))
    table.write_text(
        "video,mos,scene\n" + "".join(f"{r['video']},{25 * (float(r['mos']) - 1)},{r['scene']}\n" for r in rows)
    )
    example(
        "own_labels.py", "--labels", table, "--videos", clip_set, "--scale", "0,100", "--steps", 1, "--out", tmp_path
    )
    [judged] = json.loads((tmp_path / "report/results.json").read_text())["sets"]
    assert judged["num_videos"] == 4  # one of four scenes
    assert f"{judged['num_scored']} of 4 held-out clips scored, SRCC" in capsys.readouterr().out
    held_out = {r["video"]: float(r["mos"]) for r in csv.DictReader((tmp_path / "test.csv").open())}
    assert held_out == pytest.approx({r["video"]: float(r["mos"]) for r in rows if r["video"] in held_out})
    assert (tmp_path / "report/report.html").stat().st_size and (tmp_path / "grpo/model.safetensors").exists()


def test_own_labels_take_thirty_lines(repo):
    body = (repo / "examples/own_labels.py").read_text(encoding="utf-8").partition("    # Clips to train on")[2]
    lines = [line for line in body.partition("\n\nif __name__")[0].splitlines() if line.strip()]
    assert len(lines) <= 30


def test_a_lora_is_trained_and_scores(example, repo, clip_set, tmp_path, frames):
    pytest.importorskip("peft", reason="peft is not installed")
    from vqathinker import QualityScorer

    own = [
        "--model",
        repo / SHIPPED,
        "--labels",
        clip_set / "val.csv",
        "--videos",
        clip_set,
        "--out",
        tmp_path / "lora",
    ]
    example("lora.py", *own, "--clips", 2, "--tokens", 8, "--steps", 1)
    assert json.loads((tmp_path / "lora/adapter_config.json").read_text())["r"] == 16
    assert not (tmp_path / "lora/model.safetensors").exists()
    assert QualityScorer.from_pretrained(tmp_path / "lora", max_new_tokens=8).score(frames).status


def rows_of(repo, clip_set, out):
    runpy.run_path(str(repo / OTHERS / "rows.py"))["main"](str(clip_set / "val.csv"), str(clip_set), str(out))


def test_rows_hold_the_prompt_the_clip_and_what_the_rewards_need(repo, clip_set, tmp_path):
    from pyarrow import parquet

    labels = [(r["video"], float(r["mos"])) for r in csv.DictReader((clip_set / "val.csv").open())]
    rows_of(repo, clip_set, tmp_path / "rows.jsonl")
    rows_of(repo, clip_set, tmp_path / "rows.parquet")
    swift = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    verl = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [(row["video_id"], row["mos"]) for row in swift] == labels
    truths = [json.loads(row["reward_model"]["ground_truth"]) for row in verl]
    assert [(truth["video_id"], truth["mos"]) for truth in truths] == labels
    for ours, theirs in zip(swift, verl, strict=True):
        [clip], [message] = ours["videos"], ours["messages"]
        assert Path(clip).is_file() and theirs["videos"][0]["video"] == f"file://{clip}"
        assert message["content"] == f"<video>{QUESTION} {INSTRUCTION}" and theirs["prompt"] == [message]
    # the columns pay for what ms-swift's command names; two answers to a clip, of which the first is right
    answers = [f"<think>a</think><answer>{mos - off:.2f}</answer>" for _, mos in labels for off in (0, 0.3)]
    columns = {name: [row[name] for row in swift for _ in range(2)] for name in ("mos", "video_id")}
    paid = {r.__name__: r(answers, **columns) for r in rewards.preset("recommended").without(["temporal"]).rewards}
    assert list(paid) == ["format", "regression", "rank"] and paid["format"] == [1.0] * 8
    assert all(first > second for first, second in zip(paid["regression"][::2], paid["regression"][1::2], strict=True))
    assert None not in paid["rank"]
    bad = tmp_path / "bad.csv"
    bad.write_text(f"video,mos\n{labels[0][0]},61\n")
    with pytest.raises(ValueError, match=r"bad.csv, line 2: .* its mos 61 in 1 to 5"):
        runpy.run_path(str(repo / OTHERS / "rows.py"))["main"](str(bad), str(clip_set), str(tmp_path / "rows.jsonl"))
    bad.write_text(f"video;mos\n{labels[0][0]};3\n")
    with pytest.raises(ValueError, match=r"has the columns .*: it needs video and mos"):
        runpy.run_path(str(repo / OTHERS / "rows.py"))["main"](str(bad), str(clip_set), str(tmp_path / "rows.jsonl"))


def test_the_list_names_every_example(repo):
    page = (repo / "examples/README.md").read_text(encoding="utf-8")
    links = [link for row in page.splitlines() if row.startswith("| [") for link in re.findall(r"\]\((.*?)\)", row)]
    files = [path for path in (repo / "examples").rglob("*") if path.suffix in (".py", ".sh")]
    assert sorted(links) == sorted(str(path.relative_to(repo / "examples")) for path in files)

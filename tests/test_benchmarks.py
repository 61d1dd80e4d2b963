"""The benchmarks at toy size: all ways compute the same, and the files hold all that is said of them."""

import argparse
import json

import numpy as np
import pytest
import torch

import benchmarks.__main__ as bench
from benchmarks import calibration_coverage, decoding, group_update, measure, report, scaling, work, work_counters
from benchmarks.arms import Batch, Shape, image_dataset, make_arms
from benchmarks.models import TOY, make_clips
from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD

WAYS = ["ours", "stock TRL", "published way"]
ABLE = [WAYS, ["ours", "published way"]]
"""Of InternVL alone, and of the whole method."""


@pytest.mark.parametrize("clips", [200, 400])
def test_calibrations_are_judged_on_other_clips(tmp_path, clips):
    (tmp_path / "s.csv").write_text("score,mos\n" + "".join(f"{i},{1000 + i}\n" for i in range(800)) + "nan,3\n")
    draw = calibration_coverage.pool_of(tmp_path / "s.csv", clips, argparse.ArgumentParser())
    for others in (clips, 1000):
        (scores, labels), (new, truth) = draw(np.random.default_rng(0), clips, others)
        assert len(scores) == clips and sorted([*scores, *new]) == list(range(800))
        assert (labels == 1000 + scores).all() and (truth == 1000 + new).all()


@pytest.mark.slow
def test_a_quick_run_has_all_ways_and_they_compute_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--quick"])
    bench.main(["--quick", "--out", str(tmp_path / "bench.json")])
    found = json.loads((tmp_path / "bench.json").read_text())
    assert (tmp_path / "bench.png").stat().st_size > 1000
    assert found["quick"] and found["environment"]["threads"] == torch.get_num_threads()
    assert found["environment"]["packages"]["trl"] and found["environment"]["command"].endswith("--quick")
    assert all(found[part]["elapsed"] > 0 for part in bench.PARTS)

    [update] = found["group_update"]["rows"]
    assert list(update["update"]["arms"]) == list(update["reference"]["arms"]) == list(update["peak_bytes"]) == WAYS
    assert all(0 <= apart < 1e-5 for own in update["differences"].values() for apart in own.values())
    assert list(update["differences"]) == WAYS[1:] and update["allowed"] == pytest.approx(2.69, abs=0.01)
    [rollout] = found["rollout"]["rows"]
    assert list(rollout["rollout"]["arms"]) == WAYS and list(rollout["rollout"]["ratios"]) == WAYS[1:]
    assert [list(row["step"]["arms"]) for row in found["full_step"]["rows"]] == ABLE
    [load] = found["data_path"]["rows"]
    assert {"ours", "ours, warm", "stock TRL", "published way"} < load["load"]["arms"].keys()
    assert {row["readout"] for row in found["score"]["rows"]} == {"answer", "levels"}

    counted = [row for row in found["work_counters"]["rows"] if "model" not in row]
    assert [list(row["counts"]) for row in counted] == [list(row["flops"]) for row in counted] == ABLE
    assert counted[0]["totals"]["ours"] == {
        "language tokens": 516 + 48 + 2 * 576,
        "language passes": 9,
        "vision frames": 24,
        "motion clips": 0,
        "opens": 4,
    }
    assert counted[1]["ratios"]["published way"]["motion clips"] == 6
    printed = capsys.readouterr().out
    assert all(title in printed for title in ("Counted", "Update of one group", "Whole step", "From MP4", "Scoring"))


def test_at_the_papers_setting_a_third_of_the_tokens_a_quarter_of_the_frames_an_eighth_of_the_files():
    """By the formula that the hooks on real steps agree with, see above."""

    def ratios(way, method, prompt):
        found = {name: work.counts(name, work_counters.PAPER, prompt, method) for name in ("ours", way)}
        totals = {name: {k: sum(v.values()) for k, v in own.items()} for name, own in found.items()}
        return work_counters.ratios_of(totals)[way]

    stock, published = ratios("stock TRL", False, 1682), ratios("published way", True, 1689)
    assert stock["language tokens"] == pytest.approx(3.03, abs=0.01)
    assert (stock["vision frames"], stock["opens"]) == (4, 8)
    assert published["language tokens"] == pytest.approx(3.03, abs=0.01)
    assert (published["vision frames"], published["opens"], published["motion clips"]) == (16 / 3, 8, 8)


def test_a_way_that_does_not_do_what_is_said_of_it_is_an_error(tmp_path, monkeypatch):
    shape = Shape(clips=2, answers=2, frames=2, tokens=2)
    arms = make_arms(tmp_path, TOY, make_clips(tmp_path, TOY, 2), shape)
    monkeypatch.setattr(work, "counts", lambda *_: {})
    with pytest.raises(ValueError, match="ours: counted"):
        work_counters.counted(arms, shape, method=False, operations=False)

    monkeypatch.setattr(group_update, "gradients", lambda arm: {"": torch.full((1,), 1.0 + (arm is not arms[0]))})
    batch = Batch(arms[0].processor, shape)
    with pytest.raises(ValueError, match="stock TRL differs from ours"):
        group_update.differences(arms[:2], batch)


def test_stock_trl_sees_the_same_prompt_and_the_same_pixels(tmp_path):
    from trl.data_utils import prepare_multimodal_messages

    [row] = make_clips(tmp_path, TOY, 1)
    ours, stock, _ = make_arms(tmp_path, TOY, [row] * 2, Shape(clips=2, answers=2, frames=4))
    shown = image_dataset([row], ours.processor, 4)[0]
    messages = prepare_multimodal_messages(shown["prompt"], images=shown["images"])
    [ids], _, fields = stock.trainer._tokenize_prompts([messages])
    assert tuple(ids) == ours.processor.prompt_ids(4)
    frames = ours.processor.load_clip(row.video).frames.numpy() / 255
    wanted = (frames - np.reshape(IMAGENET_MEAN, (3, 1, 1))) / np.reshape(IMAGENET_STD, (3, 1, 1))
    np.testing.assert_allclose(np.array(fields["pixel_values"]), wanted, atol=0.02)


def test_scaling_measures_every_shape_and_names_those_that_do_not_fit(tmp_path, monkeypatch, capsys):
    real = scaling.needed_bytes
    monkeypatch.setattr(
        scaling, "needed_bytes", lambda shape, *sizes: 2**60 * (shape == scaling.QUICK[-1]) or real(shape, *sizes)
    )
    scaling.main(["--quick", "--out", str(tmp_path / "scaling.json")])
    rows = json.loads((tmp_path / "scaling.json").read_text())["scaling"]["rows"]
    assert [row["shape"]["answers"] for row in rows] == [2, 2, 3, 3] and rows[-1]["needs_bytes"] == 2**60
    assert all(list(row["update"]["arms"]) == WAYS[:2] for row in rows[:-1]) and "update" not in rows[-1]
    assert "left out, needs 1073741824.0 GiB" in capsys.readouterr().out
    assert (tmp_path / "scaling.png").stat().st_size > 1000

    monkeypatch.setattr(scaling, "needed_bytes", real)
    measured, compared = [], scaling.group_update.compared
    monkeypatch.setattr(scaling.group_update, "compared", lambda *given: measured.append(given[1]) or compared(*given))
    scaling.main(["--quick", "--out", str(tmp_path / "scaling.json")])  # goes on
    again = json.loads((tmp_path / "scaling.json").read_text())["scaling"]["rows"]
    assert measured == [scaling.QUICK[-1]] and again[:3] == rows[:3] and "update" in again[3]


def test_what_exact_frames_cost_is_measured_on_equal_frames_and_written_on_the_page(tmp_path, monkeypatch):
    decoding.main(["--quick", "--out", str(tmp_path / "decoding.json")])
    page = report.page(report.read(tmp_path))
    assert "| frames, M" in page and "(plain)" in page and "toy size" in page  # of MP4 or MPEG-TS, the slower one here
    shares = [line.split("(")[1].split("%")[0] for line in page.splitlines() if line.startswith("| resizing")]
    assert len(shares) == 2 and all(0 < int(share) < 100 for share in shares)

    path = decoding.write_clip(tmp_path / "a.mp4", (64, 48), 1, 10)
    monkeypatch.setattr(decoding, "plain", lambda path, wanted: decoding.exact_frames(path, wanted + 1))
    with pytest.raises(ValueError, match="plain gives other frames"):
        decoding.in_turns(path, np.array([3]), {decoding.PLAIN: decoding.plain}, 1)


def test_peak_memory_counts_what_is_held_at_one_time():
    def hold():
        for _ in range(3):
            torch.empty(2**20)
        kept = [torch.empty(2**20) for _ in range(2)]
        return len(kept)

    assert measure.peak_bytes(hold) == 2 * 4 * 2**20


def test_ways_take_turns():
    order = []
    found = measure.in_turns({name: lambda name=name: order.append(name) for name in ("ours", "b", "c")}, 2)
    assert order == ["c", "ours", "b", "ours", "b", "c", "b", "c", "ours"]
    assert [len(found["arms"][name]["seconds"]) for name in ("ours", "b", "c")] == [2, 2, 2]
    assert found["ratios"].keys() == {"b", "c"}

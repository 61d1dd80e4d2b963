import csv
import json
import math
import shutil
import subprocess
from dataclasses import replace

import pytest
from scipy import stats

from vqathinker.data import BENCHMARKS, Absent, BenchmarkSet, LabelError
from vqathinker.evaluation.benchmark import judge, markdown, overall, run_benchmarks, tables, write_results
from vqathinker.evaluation.comparison import Comparison, compare_scores, comparison_table
from vqathinker.metrics.correlation import srcc

PROVENANCE = ("command", "checkpoint_hash", "num_frames", "image_size", "prompt_hash", "decoder", "versions", "readout")


@pytest.fixture
def sets(clip_set, tmp_path):
    """Two sets over the same clips; one lists a file that is missing and one that is broken."""
    shutil.copytree(clip_set / "videos", tmp_path / "data" / "videos")
    (tmp_path / "data/videos/torn.mp4").write_bytes(b"torn")
    clips = [f"train/{i:05d}.mp4" for i in range(12)]
    table = tmp_path / "data/a.csv"
    table.write_text("video,mos\n" + "".join(f"{clip},{20 + 5 * i}\n" for i, clip in enumerate(clips)))
    broken = tmp_path / "data/b.csv"
    broken.write_text("video,mos\ngone.mp4,50\ntorn.mp4,60\n" + "".join(f"{c},{i}\n" for i, c in enumerate(clips[:4])))
    videos = tmp_path / "data" / "videos"
    return [
        BenchmarkSet("cgvds", "CGVDS", "ood", table, videos, 357, (0.856, 0.845)),
        BenchmarkSet("mine", "Mine <b>", "in-domain", broken, videos, synthetic=True),
    ]


def run(scorer, sets, out, absent=()):
    return run_benchmarks(scorer, sets, absent, out, "vqathinker eval --benchmarks all")


def test_a_run_counts_everything_and_writes_everything(scorer, score_of, sets, tmp_path, caplog):
    absent = [Absent("vdpve", "VDPVE", "ood", "no data root was given")]
    first, second = run(scorer, sets, tmp_path / "out", absent)
    assert "lists 12 videos, not 357" in caplog.text
    mos = [20 + 5 * i for i in range(12)]
    scores = [round(score_of(row.video), 2) for row in sets[0].rows()]
    assert first.srcc == pytest.approx(stats.spearmanr(scores, mos).statistic)
    assert first.plcc == pytest.approx(stats.pearsonr(scores, mos).statistic)
    assert first.krcc == pytest.approx(stats.kendalltau(scores, mos).statistic)
    low, high = first.intervals["srcc"]
    assert low < first.srcc < high
    assert (second.num_videos, second.num_scored, second.num_missing, second.num_unreadable) == (6, 4, 1, 1)
    report = json.loads((tmp_path / "out/results.json").read_text())
    assert all(report["provenance"][key] for key in PROVENANCE)
    assert [entry["name"] for entry in report["sets"]] == ["cgvds", "mine"] and report["absent"][0]["name"] == "vdpve"
    assert report["overall"]["ood"]["srcc"] == first.srcc
    assert [entry["interval_over"] for entry in report["sets"]] == ["clips", "clips"]
    page = (tmp_path / "out/report.html").read_text()
    assert "Mine &lt;b&gt;" in page and "Mine <b>" not in page and "Largest errors" in page and "VDPVE" in page
    assert page.count("<figure>") == 2 and "policy: " in page
    with (tmp_path / "out/mine.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["video"] for line in lines[:3]] == ["gone.mp4", "torn.mp4", "train/00000.mp4"]
    assert lines[0]["status"] == "unreadable" and "no such file" in lines[0]["error"] and float(lines[2]["mos"]) == 0
    text = (tmp_path / "out/results.md").read_text()
    assert "Intervals over clips." in text and "Intervals over clips." in page
    assert text.count("0.856 / 0.845") == 2  # of the set, and of the mean of the sets that are there
    assert "| overall, in-domain, own sets " in text and "Absent sets" in text and "formula" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_real_browser_shows_the_page(scorer, sets, tmp_path):
    run(scorer, sets, tmp_path / "out", [Absent("vdpve", "VDPVE", "ood", "<script>document.title='owned'</script>")])
    page, shot = (tmp_path / "out/report.html").as_uri(), tmp_path / "shot.png"
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    subprocess.run([*browser, "--window-size=1200,1600", f"--screenshot={shot}", page], check=True, timeout=120)
    assert shot.stat().st_size > 30_000
    dom = subprocess.run([*browser, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=120).stdout
    assert "<title>Video quality: a policy against MOS</title>" in dom and dom.count("<article>") == 8


def test_a_second_run_scores_nothing_again(scorer, sets, tmp_path, monkeypatch):
    once = run(scorer, sets[:1], tmp_path / "out")
    monkeypatch.setattr(scorer, "score_many", lambda videos, _: iter(()) if not videos else pytest.fail(str(videos)))
    assert run(scorer, sets[:1], tmp_path / "out") == once


def test_unparsable_answers_are_counted_and_never_scored(scorer, sets, tmp_path):
    scorer.engine.say = lambda seed: "I cannot say." if seed % 2 else "<answer>3.00</answer>"
    result = run(scorer, sets[:1], tmp_path / "out")[0]
    assert 0 < result.num_unparsable < 12 and result.num_scored == 12 - result.num_unparsable
    assert math.isnan(result.srcc) and "no fit of 4 parameters on" in result.fit_error
    page = (tmp_path / "out/results.md").read_text()
    assert f"| {result.num_unparsable} " in page and "it needs 20 or more" in page and "nan" not in page
    scorer.engine.say = lambda seed: "?"
    nothing = run(scorer, sets[:1], tmp_path / "none")[0]
    assert nothing.num_scored == 0 and nothing.num_unparsable == 12 and (tmp_path / "none/report.html").exists()


def test_a_folder_takes_the_results_of_another_checkpoint(scorer, sets, tmp_path):
    first = run(scorer, sets[:1], tmp_path / "out")
    scorer.sampling = replace(scorer.sampling, max_new_tokens=13)
    assert run(scorer, sets[:1], tmp_path / "out") == first and len(list((tmp_path / "out/scores").iterdir())) == 2


def test_a_bad_label_file_is_told_before_anything_is_scored(scorer, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer, "score_many", lambda *_: pytest.fail("scored"))
    sets[1].labels.write_text("video,mos\na.mp4,x\n")
    with pytest.raises(LabelError, match="'x' is not a number"):
        run(scorer, sets, tmp_path / "out")


def test_without_a_correlation_a_set_is_named_and_not_averaged(sets):
    def result(scores):
        rows = sets[0].rows()[:4]
        return judge(sets[0], rows, [{"score": s, "status": "ok", "video": "x"} for s in scores])

    shown = markdown(tables([result([1, 2, 3, 4]), result([3, 3, 3, 3])], []))
    assert "No correlation, so not in the overall mean: CGVDS." in shown and "nan" not in shown


def test_overall_weighs_sets_by_their_scored_videos(sets):
    def result(one, n, flip):
        rows = one.rows()[:n]
        return judge(one, rows, [{"score": flip * row.mos, "status": "ok", "video": row.video} for row in rows])

    good, bad = result(sets[0], 9, 1), result(sets[0], 3, -1)
    assert overall([good, bad])["ood"]["srcc"] == pytest.approx((9 - 3) / 12)
    assert "overall, ood" in markdown(tables([good, bad], []))


def scored_as(rows, scores):
    return [{"score": float(s), "status": "ok", "video": row.video} for row, s in zip(rows, scores, strict=True)]


def test_training_and_test_sets_have_means_of_their_own(sets):
    one = sets[1]
    rows = one.rows()[:4]
    test = judge(replace(one, title="Test"), rows, scored_as(rows, [1, 2, 3, 4]))
    train = judge(replace(one, title="Train", split="train"), rows, scored_as(rows, [4, 3, 2, 1]))
    alone = judge(replace(one, title="Alone", domain=""), rows, scored_as(rows, [4, 3, 2, 1]))
    sign = srcc([1, 2, 3, 4], [row.mos for row in rows])
    means = overall([test, train, alone])
    assert {name: mean["srcc"] for name, mean in means.items()} == pytest.approx(
        {"in-domain, own sets": sign, "in-domain, own sets, training": -sign}
    )
    text = markdown(tables([test, train, alone], []))
    assert "Training clips, never averaged with test clips: Train." in text


def test_errors_are_told_where_labels_are_in_score_units(sets):
    one = replace(sets[1], title="Mine", mos_scale="identity")
    one.labels.write_text("video,mos\na.mp4,1.5\nb.mp4,2\nc.mp4,3\n")
    rows = one.rows()
    scored = [row | {"std": 0.1} for row in scored_as(rows, [1, 2, 4])]
    result = judge(one, rows, scored)
    assert (result.mae, result.rmse, result.spread) == pytest.approx((0.5, math.sqrt(1.25 / 3), 0.1))
    text = markdown(tables([result], []))
    assert "| MAE   | RMSE   |" in text and "no fit of 4 parameters on 3 clips" in text
    assert "mean spread of the model's own answers 0.100, mean error of its scores 0.500 (MAE)" in text
    native = judge(replace(one, mos_scale=None), rows, scored)
    assert math.isnan(native.mae) and "MAE" not in markdown(tables([native], []))


def test_a_policy_is_compared_with_a_baseline_on_clips_that_both_scored(sets):
    one = replace(sets[1], title="Mine")
    one.labels.write_text("video,mos,scene\n1.mp4,1,a\n2.mp4,2,a\n3.mp4,3,b\n4.mp4,4,b\n5.mp4,5,b\n")
    rows = one.rows()
    before, after = scored_as(rows, [2, 1, 3, 4, math.nan]), scored_as(rows, [1, 2, 3, 4, 1])
    found = compare_scores(one, rows, before, after)
    assert (found.num_clips, found.interval_over) == (4, "2 sources (column 'scene')")
    assert (found.srcc.before, found.srcc.after, found.srcc.difference) == pytest.approx((0.8, 1, 0.2))
    assert (found.srcc.low, found.srcc.high) == pytest.approx((0, 2))  # both of b, both of a
    table = comparison_table(Comparison({"checkpoint": "models/old"}, (found,))).shown()
    assert table.rows[0][:5] == ["Mine", "4", "0.800", "1.000", "+0.200 [+0.000, +2.000]"]
    assert "Baseline: models/old." in table.note and "Mine, 2 sources (column 'scene')" in table.note
    nothing = compare_scores(one, rows, scored_as(rows, [math.nan] * 5), after)
    assert nothing.num_clips == 0 and math.isnan(nothing.srcc.difference)
    assert comparison_table(Comparison({"checkpoint": "x"}, (nothing,))).shown().rows[0][4] == "-"


def judged(one, cells, column="scene"):
    """The result of a set whose CSV has that further column, scores a little off the labels."""
    lines = [f"{i}.mp4,{i},{cell}\n" for i, cell in enumerate(cells)]
    one.labels.write_text(f"video,mos,{column}\n" + "".join(lines))
    rows = one.rows()
    return judge(one, rows, [{"score": r.mos + i % 3, "status": "ok", "video": r.video} for i, r in enumerate(rows)])


def test_intervals_are_over_sources_where_a_column_tells_them_and_the_note_says_so(sets, tmp_path):
    mine = replace(sets[1], title="Mine")
    by_scene = judged(mine, "aaaabbbbcccc")
    by_clip = judged(replace(mine, title="Other"), range(12))
    assert by_scene.interval_over == "3 sources (column 'scene')" and by_clip.interval_over == "clips"
    assert by_scene.srcc == by_clip.srcc and by_scene.intervals["srcc"] != by_clip.intervals["srcc"]
    text = markdown(tables([by_scene, by_clip], []))
    over_sources = "Intervals over sources, each drawn with all of its clips: Mine, 3 sources (column 'scene')."
    assert f"{over_sources} Intervals over clips: Other." in text
    write_results(tmp_path, [by_scene], [], {})
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["sets"][0]["interval_over"] == "3 sources (column 'scene')"
    assert "Intervals over clips" not in (tmp_path / "results.md").read_text()


def test_only_sources_of_scored_clips_count(sets):
    one = sets[1]
    one.labels.write_text("video,mos,source\n1.mp4,1,a\n2.mp4,2,a\n3.mp4,3,b\n4.mp4,4,c\n")
    rows = one.rows()
    scored = [{"score": s, "status": "ok", "video": "x"} for s in (1.0, 3.0, 2.0, math.nan)]
    assert judge(one, rows, scored).interval_over == "2 sources (column 'source')"
    scored[2]["score"] = math.nan
    single = judge(one, rows, scored)
    assert single.interval_over == "1 source (column 'source'; no interval)" and math.isnan(single.intervals["srcc"][0])
    shown = markdown(tables([single], []))
    assert "1 source (column 'source'; no interval)" in shown and "nan" not in shown


def test_a_name_that_does_not_fit_the_sets_rule_is_told(sets):
    one = replace(sets[0], source_pattern=BENCHMARKS["vdpve"].source_pattern)
    result = judged(one, [""] * 6)
    assert result.interval_over == "clips (the name '0.mp4' does not show its source)"
    text = markdown(tables([result], []))
    assert "Intervals over clips: CGVDS (the name '0.mp4' does not show its source)." in text

import json
import math

import pytest

from vqathinker.scoring import QualityScore, ScoreTable
from vqathinker.scoring.duration import in_words
from vqathinker.scoring.table import record, score_files

RESULT = QualityScore(
    "a, ö\u2028b.mp4", 3.4212345678901234, 0.5, "ok", ('<think>fine\nand\n"sharp"</think>',) * 2, 2, (1, 5)
)
LOST = QualityScore("lost.mp4", math.nan, math.nan, "unreadable", error="torn,\nat once")
MUTE = QualityScore("mute.mp4", math.nan, math.nan, "no_answer", ("?",), 0, (1, 5))


def rows(*results):
    return [record(result, "s1") for result in results]


class Scorer:
    """Counts what it is asked to score."""

    batch_size, calibration = 2, None

    def __init__(self):
        self.asked = []

    def score_many(self, videos, events=None):
        for start in range(0, len(videos), self.batch_size):
            batch = videos[start : start + self.batch_size]
            self.asked += batch
            yield [QualityScore(v, 3.0, math.nan, "ok") if v != "lost.mp4" else LOST for v in batch]


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl"])
def test_what_was_written_is_read_again(tmp_path, name):
    ScoreTable(tmp_path / "new" / name, "s1").append(rows(RESULT, MUTE, LOST))
    again = ScoreTable(tmp_path / "new" / name, "s1")
    assert again.rows[RESULT.video] == rows(RESULT)[0] and list(again.rows) == [RESULT.video, "mute.mp4"]
    assert math.isnan(again.rows["mute.mp4"]["score"]) and again.rows[RESULT.video]["reasoning"] == 'fine and "sharp"'
    if name != "x.csv":
        assert [json.loads(line)["video"] for line in (tmp_path / "new" / name).read_text().split("\n")[:-1]] == list(
            again.rows
        )


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_a_torn_last_line_is_repaired_wherever_it_tore(tmp_path, name):
    file = tmp_path / name
    ScoreTable(file, "s1").append(rows(MUTE, RESULT))
    whole = file.read_bytes()
    assert "ö".encode() in whole and "\u2028".encode() in whole
    start = whole.rstrip().rfind(b"\n") + 1
    for end in range(start, len(whole) - 1):
        file.write_bytes(whole[:end])
        table = ScoreTable(file, "s1")
        assert list(table.rows) == ["mute.mp4"] and file.read_bytes() == whole[:start]
        table.append(rows(RESULT))
        assert file.read_bytes() == whole


def test_a_second_run_scores_only_what_is_new_or_was_unreadable(tmp_path):
    tables = [tmp_path / "a.csv", tmp_path / "b.json"]
    shown = []
    first = score_files(scorer := Scorer(), ["a", "lost.mp4", "b", "a"], "s1", tables, shown.append, progress=False)
    assert scorer.asked == ["a", "lost.mp4", "b"] and [row["video"] for row in first] == ["a", "lost.mp4", "b", "a"]
    assert [row["video"] for row in shown] == scorer.asked
    second = score_files(scorer := Scorer(), ["b", "c", "lost.mp4", "a"], "s1", tables, progress=False)
    assert scorer.asked == ["c", "lost.mp4"] and [row["video"] for row in second] == ["b", "c", "lost.mp4", "a"]
    tables[1].unlink()
    score_files(scorer := Scorer(), ["a", "b", "c"], "s1", tables, progress=False)
    assert scorer.asked == ["a", "b", "c"]  # the other file lacks them
    assert list(ScoreTable(tables[0], "s1").rows) == ["a", "b", "c"] == list(ScoreTable(tables[1], "s1").rows)


def test_a_clip_that_was_replaced_is_scored_anew(tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"one")
    table = [tmp_path / "t.csv"]
    score_files(Scorer(), [str(clip)], "s1", table, progress=False)
    score_files(scorer := Scorer(), [str(clip)], "s1", table, progress=False)
    assert scorer.asked == []
    clip.write_bytes(b"other")
    score_files(scorer := Scorer(), [str(clip)], "s1", table, progress=False)
    assert scorer.asked == [str(clip)] and len(table[0].read_text().splitlines()) == 2


@pytest.mark.parametrize("before", [{"source_stat": "file", "settings": "made_with"}, {"spread": "std"}])
@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_new_tables_say_what_columns_are_and_those_of_before_keep_their_names(tmp_path, name, before):
    file = tmp_path / name
    ScoreTable(file, "s1").append(rows(RESULT))
    old = new = file.read_text(encoding="utf-8")
    renamed = {"source_stat": "file", "settings": "made_with"} | before
    assert "3.421235" in new and not [name for name in (*renamed.values(), "std") if name in new]
    for now, then in renamed.items():
        assert new.count(now) == 1
        old = old.replace(now, then)
    file.write_text(old, encoding="utf-8")
    table = ScoreTable(file, "s1")
    assert table.rows[RESULT.video] == rows(RESULT)[0] and file.read_text(encoding="utf-8") == old
    table.append(rows(MUTE))
    assert not [name for name in renamed if name in file.read_text(encoding="utf-8")]  # one name in one file
    assert list(ScoreTable(file, "s1").rows) == [RESULT.video, "mute.mp4"]
    assert RESULT.spread == RESULT.std == 0.5


def test_after_the_first_batch_the_time_is_told_where_it_is_long(monkeypatch, capsys):
    clock = iter([0.0, 24.0, 100.0, 101.0, 200.0, 260.0, 300.0])
    monkeypatch.setattr("vqathinker.scoring.duration.monotonic", lambda: next(clock))
    names = [str(i) for i in range(60)]
    score_files(Scorer(), names, "s1", title="CGVDS")  # 24 s for two of 60
    assert "CGVDS: about 12 min for 60 clips\n" in capsys.readouterr().err
    score_files(Scorer(), names[:10], "s1")  # 1 s for two of ten: 5 s
    assert "about" not in capsys.readouterr().err
    score_files(Scorer(), names[:2], "s1")  # nothing is left
    assert "about" not in capsys.readouterr().err
    score_files(Scorer(), names, "s1", progress=False)
    assert "about" not in capsys.readouterr().err


def test_times_in_words():
    assert [in_words(seconds) for seconds in (20, 89.6, 700, 5399, 12600)] == [
        "20 s",
        "90 s",
        "12 min",
        "90 min",
        "3.5 h",
    ]


def test_scores_made_otherwise_are_never_mixed_in(tmp_path):
    ScoreTable(tmp_path / "x.csv", "s1").append(rows(RESULT))
    with pytest.raises(ValueError, match=r"made with other settings .*s1, now s2.*name another file"):
        ScoreTable(tmp_path / "x.csv", "s2")


def test_other_files_are_left_alone(tmp_path):
    other = tmp_path / "mos.csv"
    other.write_text("video,mos\na.mp4,3\n")
    with pytest.raises(ValueError, match="is not a score table"):
        ScoreTable(other, "s1")
    assert other.read_text() == "video,mos\na.mp4,3\n"
    for name, content in (("a.json", '{"results": 1}'), ("b.csv", "a note without an end"), ("c.csv", "a,b,c\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="its header differs"):
            ScoreTable(tmp_path / name, "s1")
        assert (tmp_path / name).read_text() == content
    with pytest.raises(ValueError, match=r"\.csv file"):
        ScoreTable(tmp_path / "x.xlsx", "s1")

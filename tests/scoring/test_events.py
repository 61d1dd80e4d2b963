import math
import shutil

import pytest
import torch

from vqathinker import QualityScorer
from vqathinker.cli import main
from vqathinker.data import BenchmarkSet, Stalls
from vqathinker.evaluation.comparison import score_set
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.scoring import fingerprint, told_settings

EVENTS = [[0.5, 0.5]]
TOLD = "Stalling: 1 stall of 0.5 s, 25 % of 2.0 s; start-up 0.0 s; 1.0 s played after the last stall."


@pytest.fixture
def scorer(policy, processor, reading_engine):
    """Its answer is 1.50 if the prompt tells of stalls, else 4.00."""
    made = QualityScorer(policy, processor, max_new_tokens=12)
    made.engine = reading_engine(lambda text, blank: f"<answer>{'1.50' if 'Stalling' in text else '4.00'}</answer>")
    return made


def test_events_stand_before_the_question_and_only_where_they_are_told(scorer, train_rows, frames):
    first, second = (row.video for row in train_rows[:2])
    assert scorer.score(first).score == 4.0 and scorer.score(first, events=EVENTS).score == 1.5
    plain, told = (text for text, _ in scorer.engine.asked)
    assert TOLD in told and told.replace(f"{TOLD} ", "") == plain
    [batch] = scorer.score_many([first, second], {second: Stalls(((0.5, 0.5),))})
    assert [result.score for result in batch] == [4.0, 1.5]
    # frames in memory have no length of their own
    scorer.score(frames, events=EVENTS)
    assert "Stalling: 1 stall of 0.5 s; start-up 0.0 s." in scorer.engine.asked[-1][0]
    with pytest.raises(ValueError, match=r"stall at 1.5 s for 1 s ends at 2.5 s, behind the clip's end at 2 s"):
        scorer.score(first, events=[[1.5, 1]])


def test_read_outs_without_answers_read_events_too(base, processor, train_rows):
    video = train_rows[0].video
    for readout, head in (("levels", None), ("head", "hidden")):
        torch.manual_seed(1)
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base, score_head=head)
        if head:
            with torch.no_grad():
                policy.model.score_head.linear_2.weight.mul_(50)
        scorer = QualityScorer(policy, processor, readout=readout)
        plain, told = scorer.score(video).score, scorer.score(video, events=EVENTS).score
        assert plain == scorer.score(video, events=None).score != told and not math.isnan(told)
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, score_head="visual")
    with pytest.raises(ValueError, match=r"with a visual score head, which reads no text"):
        QualityScorer(policy, processor, readout="head").score(video, events=EVENTS)


def test_a_test_sets_column_is_told_in_evaluation_too(scorer, train_rows, tmp_path):
    first, second = (row.video for row in train_rows[:2])
    (tmp_path / "a.mp4").symlink_to(first)
    (tmp_path / "b.mp4").symlink_to(second)
    (tmp_path / "labels.csv").write_text('video,mos,stalls\na.mp4,3,"[[0.5, 0.5]]"\nb.mp4,4,\n')
    own = BenchmarkSet("own", "own", "", tmp_path / "labels.csv", tmp_path)
    scores = [row["score"] for row in score_set(scorer, own, own.rows(), tmp_path, "x")]
    assert scores == [1.5, 4.0]
    assert not (tmp_path / "scores" / "x").exists()  # the settings that name the table tell of stalls


def test_settings_name_what_is_told():
    assert told_settings({}) == {}
    one, two = ({"a/b.mp4": Stalls(startup=seconds)} for seconds in (1.0, 2.0))
    assert told_settings(one) == told_settings({"a/b.mp4": Stalls(startup=1.0)}) != told_settings(two)
    swapped = {"c/b.mp4": Stalls(startup=2.0)} | one, {"c/b.mp4": Stalls(startup=1.0)} | two
    assert told_settings(swapped[0]) != told_settings(swapped[1])  # two clips of one name
    assert fingerprint({"x": 1} | told_settings(one)) != fingerprint({"x": 1})


def test_the_command_tells_of_stalls(base, train_rows, tmp_path, capsys):
    for row, name in zip(train_rows, ("a.mp4", "b.mp4"), strict=False):
        shutil.copy(row.video, tmp_path / name)
    (tmp_path / "a.stalls.json").write_text('{"stalls": [[0.5, 0.5]], "wording": "frames"}')
    (tmp_path / "events.csv").write_text('video,stalls\nb.mp4,"[[0.5, 9]]"\n')
    command = ["score", str(tmp_path), "--model", str(base), "--readout", "levels", "--csv", str(tmp_path / "s.csv")]
    assert main([*command, "--events", "sidecar"]) == 0
    found = capsys.readouterr()
    assert "stalls told of 1 of 2 clips" in found.err
    assert main(command) == 2 and "made with other settings" in capsys.readouterr().err
    assert main([*command, "--events", str(tmp_path / "events.csv")]) == 2
    assert "b.mp4: the stall at 0.5 s for 9 s ends at 9.5 s" in capsys.readouterr().err

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from vqathinker.clips import open_clip
from vqathinker.data import read_labels, read_questions
from vqathinker.synth import QuestionSpec, make_questions, render_scene
from vqathinker.synth.build import stream
from vqathinker.synth.distortions import FRAMEWISE, within
from vqathinker.synth.question_clips import ClipPlan
from vqathinker.synth.questions import plan_split

SPEC = QuestionSpec(splits={"train": 12, "test": 8}, size=64, seed=3, places=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    files = make_questions(folder, SPEC, progress=False)
    return folder, {name: read_questions(file, folder) for name, file in files.items()}


def changed(sample, name):
    """How far the brightness of decoded pixels is from the scene's, (N, H, W); colours are coded at half the size."""
    scene = int(sample.tags["scene"].split("_")[1])
    clean = render_scene(stream(SPEC.seed, name, "scene", scene), SPEC.num_frames, SPEC.size)
    shown = open_clip(sample.clips[0]).frames(range(SPEC.num_frames)).astype(float)
    return abs((shown - clean) @ [0.299, 0.587, 0.114])


def test_decoded_frames_differ_when_and_where_the_answer_says(made):
    seen = 0
    for name, samples in made[1].items():
        for when, where in pairwise(samples):
            if (when.task, where.task) != ("when", "where"):
                continue
            assert when.clips == where.clips
            start, end = (round(time * SPEC.fps) for time in when.target["answer_interval"])
            left, top, right, bottom = (round(edge / 100 * SPEC.size) for edge in where.target["answer_box"])
            difference = changed(when, name)
            inside = difference[start:end, top:bottom, left:right]
            beside = difference[start:end].sum() - inside.sum()
            around = beside / (difference[start:end].size - inside.size)
            before = np.concatenate([difference[:start], difference[end:]])
            assert inside.mean() > 2.5 * max(around, before.mean()), (when, inside.mean(), around, before.mean())
            assert SPEC.num_frames / 4 <= end - start <= SPEC.num_frames / 2
            assert min(left, top) >= 8 and max(right, bottom) <= 56
            assert f"The clip lasts {SPEC.num_frames / SPEC.fps:g} s" in when.question or "clip of 2 s" in when.question
            seen += 1
    assert seen == 10


def test_within_changes_its_part_and_nothing_else():
    frames = render_scene(np.random.default_rng(1), 6, 32)
    out = within(frames, "noise", 0.8, (2, 5), (25, 50, 75, 100), np.random.default_rng(0))
    same = (out == frames).all(-1)
    part = np.zeros_like(same)
    part[2:5, 16:32, 8:24] = True
    assert same[~part].all() and same[part].mean() < 0.02
    for bad in ((2, 2), (4, 8)):
        with pytest.raises(ValueError, match="must hold a frame and a pixel"):
            within(frames, "noise", 0.8, bad, (0, 0, 50, 50), np.random.default_rng(0))
    with pytest.raises(ValueError, match="kind='compression': only"):
        within(frames, "compression", 0.8, (0, 3), (0, 0, 50, 50), np.random.default_rng(0))


def test_all_four_questions_are_asked_and_read(made):
    folder, sets = made
    types = Counter(sample.tags["type"] for sample in sets["train"])
    assert types == {"when_is": 6, "where_is": 6, "how_many": 3, "degree": 3}
    for sample in sets["train"]:
        if sample.tags["type"] == "degree":
            step = "ABCDE".index(sample.target["answer"])
            assert sample.target["steps"] == (0, 1, 2, 3, 4) and sample.task == "choice"
            [row] = [
                row for row in read_labels(folder / "train.csv", folder, "identity") if row.video == sample.clips[0]
            ]
            assert step <= 5 * float(row.extra["severity"]) < step + 1
    assert Counter(sample.tags["wording"] for sample in sets["test"])["held-out"] == 6
    labels = read_labels(folder / "test.csv", folder, "identity")
    assert len(labels) == 8 and all(row.mos > 3 for row in labels[:2])  # a part of a clip weighs little


def test_answers_are_balanced_and_places_spread():
    spec = QuestionSpec(splits={"train": 200}, places=True)
    planned = plan_split(spec, "train")
    counts = Counter(row["answer"] for _, rows in planned for row in rows if row["type"] == "how_many")
    degrees = Counter(row["answer"] for _, rows in planned for row in rows if row["type"] == "degree")
    assert set(counts.values()) == {10} and set(degrees.values()) == {10}
    boxes = Counter(clip.box for clip, _ in planned if clip.box)
    kinds = Counter(clip.kind for clip, _ in planned if clip.box)
    assert max(boxes.values()) < 12 and set(kinds.values()) == {100 // len(FRAMEWISE)}
    assert plan_split(spec, "train") == planned


def test_sets_of_before_keep_their_spec():
    assert "places" not in QuestionSpec().to_json() and '"places": true' in SPEC.to_json()
    assert (
        ClipPlan("blur", 0.5).share(24) == 1
        and ClipPlan("blur", 0.5, span=(0, 6), box=(0, 0, 50, 50)).share(24) == 1 / 16
    )
    with pytest.raises(ValueError, match="size=90 with places: must be a multiple of 8"):
        QuestionSpec(size=90, places=True)

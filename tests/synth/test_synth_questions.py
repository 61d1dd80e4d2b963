import csv
import json
import re
from collections import Counter

import numpy as np
import pytest

from vqathinker.clips import open_clip, run_indices, uniform_indices
from vqathinker.data import read_labels, read_questions
from vqathinker.synth import DISTORTIONS, QuestionSpec, make_questions, render_scene
from vqathinker.synth.build import is_made, stream
from vqathinker.synth.distortions import SPATIAL, TEMPORAL, halves, hold, skip
from vqathinker.synth.question_clips import (
    ALIKE,
    MAX_FREEZES,
    MIN_FREEZE,
    MIN_MOVING,
    draw_freezes,
    draw_halves,
    draw_visible,
    draw_when,
    frames_needed,
    make_frames,
)
from vqathinker.synth.question_types import DEGREES, NAMES, NONE, THIRDS, TYPES
from vqathinker.synth.questions import plan_split

SPEC = QuestionSpec(splits={"train": 20, "test": 24}, size=64, seed=3)
PLANNED = QuestionSpec(splits={"train": 400, "val": 60, "test": 240})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    return folder, make_questions(folder, SPEC, progress=False)


@pytest.fixture(scope="module")
def planned():
    return {name: plan_split(PLANNED, name) for name in PLANNED.splits}


def rows_of(planned, kind, split="train"):
    return [(clip, row, right(row)) for clip, rows in planned[split] for row in rows if row["type"] == kind]


def right(row):
    return row["options"][ord(row["answer"]) - ord("A")]


def test_one_spec_gives_the_same_files_whatever_the_workers(tmp_path):
    spec = QuestionSpec(splits={"train": 6, "test": 3}, size=32)
    for name, workers in (("a", 1), ("b", 3)):
        make_questions(tmp_path / name, spec, workers, progress=False)
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
        for name in "ab"
    )
    assert one == two and len(one) == 9 + 2 * 2 + 1 and is_made(tmp_path / "a", spec)
    other = QuestionSpec(splits=spec.splits, size=32, seed=1)
    assert plan_split(other, "train") != plan_split(spec, "train") and not is_made(tmp_path / "a", other)


def test_the_files_are_read_as_questions_and_as_labels(made):
    folder, files = made
    for name, file in files.items():
        samples = read_questions(file, folder)
        rows = {row.video: row for row in read_labels(folder / f"{name}.csv", folder, "identity")}
        assert len(rows) == SPEC.splits[name] and {sample.clips[0] for sample in samples} == rows.keys()
        for sample in samples:
            row = rows[sample.clips[0]]
            assert sample.task == "choice" and sample.tags.keys() == {"type", "kind", "wording", "scene"}
            assert sample.tags["kind"] == (row.extra["kind"] or "none") and sample.tags["scene"] == row.extra["scene"]
            assert abs(row.mos - (5 - 4 * float(row.extra["severity"]))) < 0.6
            assert bool(row.extra["when"]) == (row.extra["kind"] in TEMPORAL)


def test_splits_share_no_scene(made):
    folder, files = made
    first = {}
    for name in files:
        with (folder / f"{name}.csv").open() as file:
            names = {row["scene"] for row in csv.DictReader(file)}
        assert all(scene.startswith(f"{name}_") for scene in names)
        scenes = [render_scene(stream(SPEC.seed, name, "scene", scene), 1, 32) for scene in range(len(names))]
        first[name] = {scene.tobytes() for scene in scenes}
        assert len(first[name]) == len(names)
    assert not first["train"] & first["test"]


def frozen_runs(frames):
    """Lengths of the runs of frames that hardly differ from the one before; "f" for each such frame."""
    change = abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))
    still = "".join("f" if value < 0.1 * np.percentile(change, 90) else " " for value in change)
    return [len(run) for run in still.split()], still


def test_freezes_and_their_thirds_are_those_of_the_decoded_frames(made):
    folder, files = made
    seen = Counter()
    for file in files.values():
        for sample in read_questions(file, folder):
            answer = sample.target["options"][ord(sample.target["answer"]) - ord("A")]
            if sample.tags["type"] not in ("freezes", "which_third"):
                continue
            runs, still = frozen_runs(open_clip(sample.clips[0]).frames(range(24)))
            if sample.tags["type"] == "freezes":
                assert len(runs) == int(answer) and all(run >= MIN_FREEZE for run in runs), (sample, still)
            elif sample.tags["kind"] == "stutter":
                hit = {(t + 1) // 8 for t, mark in enumerate(still) if mark == "f"}
                assert answer == list(THIRDS.values())[3 if len(hit) == 3 else hit.pop()]
            seen[sample.tags["type"], answer] += 1
    assert len(seen) == 9


def test_the_worse_half_is_farther_from_the_scene(made):
    folder, files = made
    seen = set()
    for name, file in files.items():
        for sample in read_questions(file, folder):
            if sample.tags["type"] != "worse_half":
                continue
            clean = render_scene(stream(SPEC.seed, name, "scene", int(sample.tags["scene"].split("_")[1])), 24, 64)
            shown = open_clip(sample.clips[0]).frames(range(24))
            error = ((shown.astype(float) - clean) ** 2).mean((1, 2, 3))
            first, second = error[:12].mean(), error[12:].mean()
            answer = sample.target["options"][ord(sample.target["answer"]) - ord("A")]
            if answer == "Both are alike":
                assert 0.4 < first / second < 2.5, sample
            else:
                assert answer == f"The {'first' if first > second else 'second'} half", sample
            seen.add(answer)
    assert len(seen) == 3


def test_clips_are_as_drawn():
    rng = np.random.default_rng(0)
    frames = np.arange(80, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    for _ in range(60):
        count = int(rng.integers(1, MAX_FREEZES + 1))
        plan = draw_freezes(count, 24, rng)
        times = make_frames(plan, frames[:24], 24, rng).frames[:, 0, 0, 0].astype(int)
        still = "".join("f" if step == 0 else "m" for step in np.diff(times))
        runs, gaps = [run for run in still.split("m") if run], [run for run in still.split("f") if run]
        assert len(runs) == count == plan.freezes and min(map(len, runs)) >= MIN_FREEZE
        assert all(len(gap) >= MIN_MOVING for gap in gaps[1:-1]) and still.endswith("m")
        for kind in TEMPORAL:
            when = str(rng.choice(list(THIRDS)))
            plan = draw_when(kind, when, 24, rng)
            out = make_frames(plan, frames[: frames_needed(plan, 24)], 24, rng)
            steps = np.diff(out.frames[:, 0, 0, 0].astype(int))
            hit = {int(t + 1) // 8 for t in np.flatnonzero(steps == (0 if kind == "stutter" else 6))}
            assert plan.when(24) == out.when == when and len(out.frames) == 24
            assert len(hit) == 3 if when == "throughout" else hit == {list(THIRDS).index(when)}


def test_every_event_is_seen_by_the_embedded_default():
    """At least one repeat of each freeze and one jump of each third lie within a run of the motion input."""
    runs = run_indices(uniform_indices(24, 6), 24, 4)
    seen = {int(t) for run in runs for t in run[1:]}
    rng = np.random.default_rng(0)
    for _ in range(200):
        events = draw_freezes(int(rng.integers(1, 5)), 24, rng).events
        starts = [t for t in events if t - 1 not in events]
        assert all(seen & {start, start + 1} for start in starts)
        jumps = set(draw_when("frame_drop", "throughout", 24, rng).events)
        assert all(seen & jumps & set(range(start, start + 8)) for start in (0, 8, 16))
        jumps = set(draw_when("frame_drop", str(rng.choice(list(THIRDS)[:3])), 24, rng).events)
        assert seen & jumps


def test_halves_differ_plainly_and_only_where_frames_are_changed():
    rng = np.random.default_rng(0)
    frames = render_scene(rng, 6, 32)
    for worse in (0, 1):
        for _ in range(20):
            plan = draw_halves(worse, rng)
            assert plan.halves[worse] - plan.halves[1 - worse] >= 0.5 and plan.visible
    out = halves(frames, "blur", (0.0, 0.8), rng)
    assert np.array_equal(out[:3], frames[:3]) and not np.array_equal(out[3], frames[3])
    with pytest.raises(ValueError, match=r"kind='compression': only \['blur'"):
        halves(frames, "compression", (0.0, 0.8), rng)
    assert np.array_equal(hold(frames, [2, 3])[:, 0], frames[[0, 1, 1, 1, 4, 5], 0])
    assert np.array_equal(skip(np.arange(12), 3, [2]), [0, 1, 7])


def test_answers_and_letters_are_balanced(planned):
    for split, clips in planned.items():
        for kind, form in TYPES.items():
            rows = [row for _, rows in clips for row in rows if row["type"] == kind]
            letters = Counter(row["answer"] for row in rows)
            answers = Counter(right(row) for row in rows)
            expected = len(rows) / len(rows[0]["options"])
            assert len(rows) > 15 and max(letters.values()) - min(letters.values()) <= 1, (split, kind, letters)
            if kind == "which_fault":
                assert abs(answers.pop(NONE) - expected) <= 2 and len(answers) == len(NAMES)
            assert max(answers.values()) - min(answers.values()) <= 2, (split, kind, answers)
            assert {len(row["options"]) for row in rows} == {len(rows[0]["options"])}
            assert len(form.wordings) >= 4 and len(form.held_out) == 2 and not set(form.wordings) & set(form.held_out)


def test_who_does_not_look_gains_nothing(planned):
    """How often a kind is right where it is listed, and "yes" where it is asked for, does not hang on the kind."""
    rows = rows_of(planned, "which_fault")
    listed = Counter(option for _, row, _ in rows for option in row["options"])
    found = Counter(answer for *_, answer in rows)
    assert all(abs(found[option] / listed[option] - 0.25) < 0.1 for option in listed)
    asked = Counter()
    for _, row, answer in rows_of(planned, "yesno"):
        [kind] = [kind for kind, name in NAMES.items() if name.lower() in row["question"]]
        asked[kind, answer] += 1
    assert all(abs(asked[kind, "Yes"] - asked[kind, "No"]) <= 3 and asked[kind, "Yes"] > 5 for kind in NAMES), asked


def test_held_out_wordings_are_in_the_test_split_only(planned):
    forms = (re.sub(r"\\{.*\\}", ".+", re.escape(text)) for form in TYPES.values() for text in form.held_out)
    held_out = "|".join(forms)
    for split, clips in planned.items():
        rows = [row for _, rows in clips for row in rows]
        assert all("{" not in row["question"] for row in rows)
        for row in rows:
            assert bool(re.fullmatch(held_out, row["question"])) == (row["tags"]["wording"] == "held-out")
        share = np.mean([row["tags"]["wording"] == "held-out" for row in rows])
        assert share == (pytest.approx(0.5, abs=0.02) if split == "test" else 0)


def test_there_is_one_right_option(planned):
    kind_of = {name: kind for kind, name in NAMES.items()}
    negatives = Counter()
    for clip, row, answer in rows_of(planned, "which_fault"):
        assert clip.visible or not clip.kind
        listed = {kind_of[option] for option in row["options"] if option != NONE}
        assert len(listed) == 3 and (answer == NONE or kind_of[answer] == clip.kind)
        assert answer == NONE or clip.kind in listed
        assert not any({clip.kind, other} in map(set, ALIKE) for other in listed)
        assert answer != NONE or clip.kind not in listed
        negatives[answer == NONE, bool(clip.kind)] += 1
    for clip, row, answer in rows_of(planned, "yesno"):
        [kind] = [kind for kind, name in NAMES.items() if name.lower() in row["question"]]
        assert (answer == "Yes") == (kind == clip.kind) and (clip.visible or not clip.kind)
        assert not any({clip.kind, kind} == set(pair) for pair in ALIKE)
        negatives[answer, bool(clip.kind)] += 1
    assert min(negatives[True, False], negatives[True, True], negatives["No", False], negatives["No", True]) > 10
    for clip, row, answer in rows_of(planned, "how_strong"):
        assert clip.kind in SPATIAL and NAMES[clip.kind].lower() in row["question"]
        step = 5 * clip.severity - DEGREES.index(answer)
        assert 0.1 < step < 0.9
    for clip, _, answer in rows_of(planned, "where_seen"):
        assert answer == ("In the motion" if clip.kind in TEMPORAL else WHERE_FRAMES if clip.kind else WHERE_NONE)


WHERE_FRAMES, WHERE_NONE = "In single frames", "Nowhere, there is no fault"


def test_what_is_asked_about_is_visible():
    """A visible spatial fault leaves less than 35 dB, and every kind can be drawn so."""
    rng = np.random.default_rng(0)
    scenes = {length: render_scene(np.random.default_rng(1), length, 64) for length in (24, 72)}
    for kind in DISTORTIONS:
        plan = draw_visible(kind, 24, rng)
        out = make_frames(plan, scenes[frames_needed(plan, 24)], 24, rng)
        error = ((out.frames.astype(float) - scenes[24]) ** 2).mean()
        assert plan.visible and (kind == "compression" or 10 * np.log10(255**2 / error) < 35), kind


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 20}, "num_frames=20: must be 24 or more"),
        ({"questions": 0}, "questions=0: must be 1 to 7"),
        ({"splits": {}}, "every split needs at least 1 clip"),
        ({"size": 33}, "an even size"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        QuestionSpec(**changes)


def test_each_question_of_a_clip_is_of_another_type(planned):
    for clips in planned.values():
        assert all(1 <= len(rows) <= 3 and len({row["type"] for row in rows}) == len(rows) for _, rows in clips)
    assert sum(len(rows) for _, rows in planned["train"]) > 2 * 400
    assert json.loads(PLANNED.to_json())["question_generator"] == 1

"""Making clips and questions about them whose answers are known from how the clips were made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import ascii_uppercase as LETTERS

import numpy as np

from vqathinker.clips import write_video
from vqathinker.synth.build import check_splits, run_jobs, stream, write_labels
from vqathinker.synth.distortions import pseudo_mos
from vqathinker.synth.place_questions import GRID, place_rows, plan_places, worded
from vqathinker.synth.question_clips import ClipPlan, frames_needed, make_frames, reason
from vqathinker.synth.question_types import TYPES, Balance
from vqathinker.synth.scenes import render_scene

GENERATOR = 1
"""Raised whenever the same spec begins to give other clips or questions."""
HELD_OUT_SPLIT = "test"
"""The split whose questions have held-out wordings, every second one of each type."""
MIN_FRAMES = 24
"""Room for four freezes with moving frames around each."""


@dataclass(frozen=True)
class QuestionSpec:
    """What to make.

    Args:
        splits: Split -> number of clips. Splits never share a scene; one of a `SynthSpec` with this seed has the scenes
            of the split of its name, and no other. The split named "test" alone has held-out wordings.
        questions: Questions per clip, at most, each of another type. A clip has fewer where more would give a type
            unequal answers.
        clips_per_scene: Versions of one scene.
        num_frames: Frames per clip, 24 or more.
        size: Side in pixels, even.
        fps: Frames per second.
        seed: Decides everything.
        places: Make the other set: distortions in a box and for a while, freezes, degrees, and questions about when,
            where, how often and how strong (`vqathinker.synth.place_questions`). `questions` does not count there.

    Raises:
        ValueError: If a number is out of range.
    """

    splits: dict[str, int] = field(default_factory=lambda: {"train": 240, "val": 64, "test": 160})
    questions: int = 3
    clips_per_scene: int = 4
    num_frames: int = 24
    size: int = 96
    fps: float = 12
    seed: int = 0
    places: bool = False

    def __post_init__(self) -> None:
        check_splits(self.splits)
        if not 1 <= self.questions <= len(TYPES):
            raise ValueError(
                f"questions={self.questions}: must be 1 to {len(TYPES)}, the number of types {list(TYPES)}."
            )
        if self.num_frames < MIN_FRAMES:
            raise ValueError(
                f"num_frames={self.num_frames}: must be {MIN_FRAMES} or more, so that four freezes fit into a clip."
            )
        if self.clips_per_scene < 1 or self.size < 32 or self.size % 2 or self.fps <= 0:
            raise ValueError(f"{self}: need clips_per_scene >= 1, an even size >= 32 and fps > 0.")
        if self.places and self.size % GRID:
            raise ValueError(
                f"size={self.size} with places: must be a multiple of {GRID}, so that boxes lie on pixels."
            )

    def to_json(self) -> str:
        """The spec as text; without `places` where it is not set, so that sets of before are known again."""
        fields = {name: value for name, value in asdict(self).items() if name != "places" or value}
        return json.dumps({"question_generator": GENERATOR} | fields, indent=1)


def make_questions(
    folder: str | Path, spec: QuestionSpec = QuestionSpec(), workers: int = 2, progress: bool = True
) -> dict[str, Path]:
    """Render, distort, encode, ask and label.

    Args:
        folder: Gets per split `videos/SPLIT/*.mp4`, a question file `SPLIT.jsonl` for `read_questions` with the tags
            type, kind ("none" for a clean clip), wording ("train" or "held-out") and scene, and a label file
            `SPLIT.csv` of the same clips as `make_set` writes it. A clean clip has an empty kind and severity 0, one
            that has two halves, or a distorted part, the mean severity of its pixels.
        spec: What to make. The same spec always gives the same files.
        workers: Clips made at a time.
        progress: Show a progress bar.

    Returns:
        Split -> question file. `spec.json` is written last: where it stands, the set is complete.
    """
    folder = Path(folder)
    (folder / "spec.json").unlink(missing_ok=True)
    plans = {name: plan_split(spec, name) for name in spec.splits}
    jobs = []
    for name, planned in plans.items():
        shutil.rmtree(folder / "videos" / name, ignore_errors=True)
        clips = [clip for clip, _ in planned]
        scenes = range(0, len(clips), spec.clips_per_scene)
        jobs += [(folder, spec, name, first, clips[first : first + spec.clips_per_scene]) for first in scenes]
    rows: dict[str, list[dict]] = {name: [] for name in spec.splits}
    for (_, _, name, *_), lines in zip(jobs, run_jobs(_make_scene, jobs, workers, progress, "scene"), strict=True):
        rows[name] += lines
    for name, lines in rows.items():
        write_labels(folder / f"{name}.csv", lines)
        questions = [question for _, asked in plans[name] for question in asked]
        text = "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    return {name: folder / f"{name}.jsonl" for name in rows}


def plan_split(spec: QuestionSpec, name: str) -> list[tuple[ClipPlan, list[dict]]]:
    """What is done to each clip of a split, and the rows of its question file.

    Each clip is drawn for a question of the type that was asked least, with the answer that was right least; further
    questions are those that keep answers equal, of types that were asked least.
    """
    balance = Balance(stream(spec.seed, name, "questions"))
    if spec.places:
        return [_plan_place(spec, name, index, balance) for index in range(spec.splits[name])]
    planned = []
    for index in range(spec.splits[name]):
        kind = balance.rarest(("asked",), dict.fromkeys(TYPES, 1))
        answer = balance.rarest(("right", kind), TYPES[kind].answers)
        clip = TYPES[kind].draw(answer, spec.num_frames, balance)
        rows = [_question(spec, name, index, clip, kind, answer, balance)]
        while len(rows) < spec.questions:
            open_types = _open_types(clip, spec.num_frames, [row["type"] for row in rows], balance)
            if not open_types:
                break
            kind = balance.rarest(("asked",), dict.fromkeys(open_types, 1))
            answer = balance.rarest(("right", kind), open_types[kind])
            rows.append(_question(spec, name, index, clip, kind, answer, balance))
        planned.append((clip, rows))
    return planned


def _plan_place(spec: QuestionSpec, name: str, index: int, balance: Balance) -> tuple[ClipPlan, list[dict]]:
    """What is done to a clip of a set of places, and its rows."""
    clip = plan_places(balance, index, spec.num_frames)
    rows = []
    for row in place_rows(clip, spec.num_frames, spec.fps):
        sets = ("train", "held-out") if name == HELD_OUT_SPLIT else ("train",)
        wording = balance.least(("set of wordings", row["type"]), sets)[0]
        asked = worded(row, clip, wording, spec.num_frames, spec.fps, balance)
        tags = {"kind": clip.kind or "none", "wording": wording, "scene": _scene(spec, name, index)}
        rows.append({"video": _video(name, index), **asked, "reason": reason(clip, spec.num_frames), "tags": tags})
    return clip, rows


def _open_types(clip: ClipPlan, num_frames: int, asked: Sequence[str], balance: Balance) -> dict[str, dict[str, int]]:
    """Types that can yet be asked about a clip -> answers, with their weights, that were right no oftener than others.

    One time more than the rarest is let pass: else few clips would have several questions.
    """
    found = {}
    for kind in TYPES.keys() - set(asked):
        weights = TYPES[kind].answers
        least = min(balance.load(("right", kind), answer, weight) for answer, weight in weights.items())
        fitting = {
            answer: weights[answer]
            for answer in TYPES[kind].of(clip, num_frames, balance)
            if balance.load(("right", kind), answer, weights[answer]) <= least + 1 / weights[answer]
        }
        if fitting:
            found[kind] = fitting
    return {kind: found[kind] for kind in TYPES if kind in found}  # in a fixed order: a set has none


def _question(
    spec: QuestionSpec, name: str, index: int, clip: ClipPlan, kind: str, answer: str, balance: Balance
) -> dict:
    """A row of a question file."""
    balance.taken.update([("asked", kind), ("right", kind, answer)])
    asked = TYPES[kind].ask(answer, clip, balance)
    sets = {"train": TYPES[kind].wordings, "held-out": TYPES[kind].held_out}
    wording = balance.least(("set of wordings", kind), list(sets))[0] if name == HELD_OUT_SPLIT else "train"
    text = balance.least(("wording", kind, wording), sets[wording])[0]
    options = [asked.others[i] for i in balance.rng.permutation(len(asked.others))]
    options.insert(_place(balance, kind, asked.right, len(options) + 1), asked.right)
    return {
        "video": _video(name, index),
        "question": text.format(**asked.names),
        "options": options,
        "answer": LETTERS[options.index(asked.right)],
        "type": kind,
        "reason": reason(clip, spec.num_frames),
        "tags": {"kind": clip.kind or "none", "wording": wording, "scene": _scene(spec, name, index)},
    }


def _place(balance: Balance, kind: str, right: str, count: int) -> int:
    """Where the right option stands: the place that was right least in the type, then for this option."""
    taken = balance.taken
    place = balance.ranked(range(count), lambda p: (taken["place", kind, p], taken["place", kind, right, p]))[0]
    taken.update([("place", kind, place), ("place", kind, right, place)])
    return place


def _video(name: str, index: int) -> str:
    return f"videos/{name}/{index:05d}.mp4"


def _scene(spec: QuestionSpec, name: str, index: int) -> str:
    return f"{name}_{index // spec.clips_per_scene:05d}"


def _make_scene(job: tuple) -> list[dict]:
    """Write the clips of one scene, which is rendered once for each number of frames; their label rows."""
    folder, spec, name, first, clips = job
    scene = first // spec.clips_per_scene
    rendered: dict[int, np.ndarray] = {}
    rows = []
    for version, clip in enumerate(clips):
        length = frames_needed(clip, spec.num_frames)
        if length not in rendered:
            rendered[length] = render_scene(stream(spec.seed, name, "scene", scene), length, spec.size)
        rng = stream(spec.seed, name, "question clip", scene, version)
        made = make_frames(clip, rendered[length], spec.num_frames, rng)
        video = _video(name, first + version)
        write_video(folder / video, made.frames, spec.fps, made.crf)
        severity = clip.severity * clip.share(spec.num_frames)
        rows.append(
            {
                "video": video,
                "mos": pseudo_mos(severity, rng),
                "kind": clip.kind,
                "severity": f"{severity:.4f}",
                "when": made.when,
                "scene": _scene(spec, name, first),
            }
        )
    return rows

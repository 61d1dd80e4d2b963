"""What the arms of `recipes/motion_tokens.py` start from, and its table."""

import json

import pytest
import torch

from vqathinker.policy import STREAMS, load_policy
from vqathinker.synth.default import copy_base


@pytest.fixture
def recipe(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import motion_tokens

    return motion_tokens


@pytest.mark.parametrize(("arm", "tokens"), [("one", 1), ("interleaved", 24)])
def test_arms_are_the_base_but_for_their_motion_tokens(recipe, clip_set, tmp_path, arm, tokens):
    copy_base(tmp_path / "base")
    (tmp_path / "data").symlink_to(clip_set)
    recipe.start_arm(tmp_path, tmp_path / arm, arm, 0)
    policy, processor = load_policy(tmp_path / arm, "cpu")
    base = load_policy(tmp_path / "base", "cpu")[0].state_dict()
    for name, value in policy.state_dict().items():
        assert "motion_projector" in name or torch.equal(value, base[name]), name
    clips = [processor.load_clip(video) for video in sorted((clip_set / "videos" / "train").glob("*.mp4"))]
    prompt = processor.render(frames=[clips[0].length])
    assert sum(prompt.counts) == 6 * 4 + tokens and (prompt.slots[1].stream == "motion") is (arm == "interleaved")
    stream = STREAMS["motion"]
    with torch.no_grad():
        features = stream.features(policy.model, [clip.motion_frames for clip in clips])
        assert float(torch.cat(stream.project(policy.model, features)).std()) == pytest.approx(0.3, rel=1e-3)


def test_the_questions_and_the_table(recipe, tmp_path):
    lines = [json.dumps({"type": name}) + "\n" for name in ("freezes", "how_strong", "which_third")]
    (tmp_path / "all.jsonl").write_text("".join(lines))
    recipe.keep_types(tmp_path / "all.jsonl", tmp_path / "kept.jsonl")
    assert (tmp_path / "kept.jsonl").read_text() == lines[0] + lines[2]
    run = {"accuracy": {"freezes": 0.5}, "count": {"freezes": 8}, "majority": {"freezes": 0.25}, "motion_tokens": 24}
    run |= {"prompt_tokens": 168, "seconds_per_step": 0.25, "encoding_seconds": 0.012, "parameters": 1510868}
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in recipe.render({"one": [run, run]}).splitlines()
    ]
    assert rows[0] == ["", "one", "majority"] and rows[2] == ["freezes (8)", "0.500 ± 0.000", "0.250"]
    assert [row[1] for row in rows[3:]] == ["24", "168", "0.25", "12", "1,510,868"]

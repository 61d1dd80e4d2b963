"""The arms of recipes/low_level.py differ in what they show, not in how many tokens it takes."""

import sys

import numpy as np
import pytest
import torch

from vqathinker.policy import STREAMS, load_policy
from vqathinker.policy.streams import find_streams
from vqathinker.synth.default import copy_base


@pytest.fixture
def recipe(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    monkeypatch.setitem(STREAMS, "tiles", None)  # so that what the recipe registers goes again
    sys.modules.pop("low_level", None)
    import low_level

    return low_level


def test_arms_see_a_large_clip_in_equally_many_tokens(recipe, tmp_path):
    copy_base(tmp_path / "base")
    frames = np.random.default_rng(0).integers(0, 256, (30, 256, 256, 3), dtype=np.uint8)
    shown, tokens = {}, {}
    for arm in recipe.ARMS:
        recipe.start_arm(tmp_path / "base", tmp_path / arm, arm, seed=0)
        policy, processor = load_policy(tmp_path / arm, "cpu")
        clip = processor.from_array(frames)
        shown[arm], tokens[arm] = clip, sum(processor.render().counts)
        batch = processor([frames])
        with torch.no_grad():
            assert policy(**batch).logits.isfinite().all()  # as many tokens as placeholders
        if arm == "tiles":
            [tiles] = find_streams(["spatial", "tiles"])[1].features(policy.model, [clip.patches])
            alone = policy.model.frame_features(clip.patches[2, 3:])[0]
            torch.testing.assert_close(tiles[2, 12:], alone)
        if arm == "low_tower":  # patches through the encoder are frames through the tower, but for ViT's last norm
            policy.model.low_encoder.layernorm = torch.nn.Identity()
            pixels = torch.randn(2, 3, 64, 64)
            seen = [part(pixels).last_hidden_state for part in (policy.model.low_encoder, policy.model.vision_tower)]
            torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-4)
    assert tokens == {"nothing": 24, "more_frames": 120, "tiles": 120, "low": 120, "low_tower": 120}
    assert shown["more_frames"].frames.shape == (30, 3, 64, 64)
    assert shown["tiles"].patches.shape == (6, 4, 3, 64, 64) and shown["low"].patches.shape == (6, 8, 3, 64, 64)

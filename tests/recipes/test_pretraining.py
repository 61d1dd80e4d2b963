"""The recipe that made the shipped base."""

import json

import numpy as np
import pytest
import torch


@pytest.mark.slow
def test_pretraining_writes_a_base_that_loads(repo, tmp_path, monkeypatch):
    from vqathinker.policy import VQAThinkerForConditionalGeneration

    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import pretrain_tiny

    def pretrain(name, *arguments):
        pretrain_tiny.main(["--out", str(tmp_path / name), "--clips", "24", *map(str, arguments)])
        weights = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path / name).state_dict()
        return json.loads((tmp_path / name / "pretraining.json").read_text()), weights

    report, base = pretrain("base", "--vision_steps", 2, "--motion_steps", 2, "--language_steps", 2)
    assert report["seed"] == 20_000 and report["language_steps"] == 2
    assert all(np.isfinite(list(report[stage].values())).all() for stage in ("vision", "motion"))
    assert 0 <= report["language"]["parsed"] <= 1

    kept, weights = pretrain("again", "--encoders", tmp_path / "base", "--language_steps", 3)
    assert kept["motion"] == report["motion"] and kept["vision_steps"] == 2 and kept["language_steps"] == 3
    changed = [name for name in base if not torch.equal(weights[name], base[name])]
    assert changed and all(name.startswith(("model.language_model.", "lm_head.")) for name in changed)

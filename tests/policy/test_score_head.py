"""The score head: what it reads, and where it is kept."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor

from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.policy.adapters import plain_parameters
from vqathinker.scoring import QualityScorer, create_metric
from vqathinker.scoring.predict import embed_prompts, encode_clips

load = VQAThinkerForConditionalGeneration.from_pretrained


@pytest.fixture
def clips(train_rows, processor):
    return [processor.load_clip(row.video) for row in train_rows[:2]]


@pytest.fixture
def with_head(base):
    """Makes a policy with a head whose weights are large enough to tell clips apart."""

    def make(form):
        torch.manual_seed(1)
        policy = load(base, score_head=form).eval()
        with torch.no_grad():
            for linear in (policy.model.score_head.linear_1, policy.model.score_head.linear_2):
                linear.weight.mul_(5)
        return policy

    return make


def mlp(head, states):
    """The head written out: layer norm, linear, ReLU, linear, from the middle of the scale."""
    centred = states - states.mean(-1, keepdim=True)
    states = centred / (states.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    hidden = (states @ head.linear_1.weight.T + head.linear_1.bias).clamp(min=0)
    return 3 + hidden @ head.linear_2.weight[0] + head.linear_2.bias


@torch.no_grad()
def test_a_hidden_head_reads_the_prompts_last_state(with_head, processor, clips):
    policy = with_head("hidden")
    scorer = QualityScorer(policy, processor, readout="head")
    found = [result.score for result in scorer.score_clips(clips)]
    for clip, score in zip(clips, found, strict=True):
        [prompt] = embed_prompts(policy, processor, [clip])
        state = policy.model.language_model(inputs_embeds=prompt[None]).last_hidden_state[0, -1]
        assert score == pytest.approx(float(mlp(policy.model.score_head, state)), abs=1e-4)
    assert found[0] != found[1]


@torch.no_grad()
def test_a_visual_head_reads_pooled_frames_without_the_language_model(with_head, processor, clips):
    policy = with_head("visual")
    features = encode_clips(policy, clips)
    policy.model.language_model.forward = None  # not called
    results = QualityScorer(policy, processor, readout="head").score_clips(clips)
    for clip, result in zip(features, results, strict=True):
        per_frame = mlp(policy.model.score_head, clip["spatial"].mean(1))
        assert len(per_frame) == 6 and result.score == pytest.approx(float(per_frame.mean()), abs=1e-4)
    assert {(r.status, r.answers, math.isnan(r.spread)) for r in results} == {("ok", (), True)}


def test_a_head_is_saved_and_loaded_with_the_policy_and_added_or_taken_away(base, with_head, tmp_path):
    policy = with_head("hidden")
    plain = load(base)
    own = {name: value for name, value in policy.state_dict().items() if "score_head" in name}
    assert len(own) == 6 and plain.state_dict().keys() == policy.state_dict().keys() - own.keys()
    policy.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() >= own.keys()
    again = load(tmp_path)
    assert again.config.score_head == "hidden" and again.model.score_head.linear_1.weight.requires_grad
    assert all(torch.equal(again.state_dict()[name], value) for name, value in policy.state_dict().items())
    same, other, without = (load(tmp_path, score_head=form) for form in ("hidden", "visual", ""))
    assert torch.equal(same.model.score_head.linear_1.weight, policy.model.score_head.linear_1.weight)
    assert other.config.score_head == "visual"  # begins anew
    assert not torch.equal(other.model.score_head.linear_1.weight, policy.model.score_head.linear_1.weight)
    assert without.state_dict().keys() == plain.state_dict().keys() and without.config.score_head == ""
    assert json.loads((base / "config.json").read_text()).get("score_head", "") == ""


def test_a_new_head_is_near_the_middle_of_the_scale_and_can_be_frozen(base, clips):
    policy = load(base, score_head="visual")
    seen = {"frames": [clip.frames for clip in clips], "motion_frames": [clip.motion_frames for clip in clips]}
    scores = policy(**seen, score_at=torch.tensor([1, 0, 1])).scores
    assert scores.shape == (3,) and scores[0] == scores[2] != scores[1] and (scores - 3).abs().max() < 0.5
    policy.freeze(["score_head"])
    assert not any(p.requires_grad for p in policy.model.score_head.parameters())


def test_the_engine_is_given_no_weight_of_the_head(with_head):
    """vLLM gets what is the language model's by name."""
    names = [name for name, _, _ in plain_parameters(with_head("hidden"))]
    head = [name for name in names if "score_head" in name]
    assert len(head) == 6 and not any(name.startswith(("model.language_model.", "lm_head.")) for name in head)


def test_what_cannot_be_is_refused(base, policy, processor):
    with pytest.raises(ValueError, match="score_head='text': must be 'visual'"):
        load(base, score_head="text")
    with pytest.raises(ValueError, match=r"readout='head', but the policy .* has no score head: use another read-out"):
        create_metric("vqathinker-head", model=base)
    with pytest.raises(ValueError, match="which generates nothing: leave both out"):
        QualityScorer(policy, processor, readout="head", samples=2)
    with pytest.raises(ValueError, match="this policy has none"):
        policy(torch.tensor([[1, 2]]), score_at=torch.tensor([1]))
    with pytest.raises(ValueError, match="visual head, but no clips"):
        load(base, score_head="visual")(torch.tensor([[1, 2]]), score_at=torch.tensor([0]))
    with pytest.raises(ValueError, match=r"freeze=\['score_head'\]: must be among"):
        policy.freeze(["score_head"])


def test_a_new_head_trained_beside_an_adapter_comes_back_with_it(base, tmp_path):
    from vqathinker.policy.adapters import save_adapter
    from vqathinker.training.adapters import AdapterArguments, get_peft_config, with_adapter
    from vqathinker.training.sft import VQASFTConfig

    torch.manual_seed(1)
    policy = load(base, score_head="visual")
    args = VQASFTConfig(str(tmp_path / "run"), use_cpu=True, report_to="none")
    model = with_adapter(policy, get_peft_config(AdapterArguments(use_peft=True), policy), args)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert sum("score_head.modules_to_save" in name for name in trained) == 6
    weight = policy.model.score_head.modules_to_save["default"].linear_1.weight
    with torch.no_grad():
        weight.add_(0.25)
    save_adapter(model, tmp_path / "adapter")
    AutoProcessor.from_pretrained(base).save_pretrained(tmp_path / "adapter")
    found = load(tmp_path / "adapter")
    assert found.config.score_head == "visual" and torch.equal(found.model.score_head.linear_1.weight, weight)

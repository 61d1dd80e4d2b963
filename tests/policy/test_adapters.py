"""A folder with an adapter is a policy: its base with the adapter's changes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

pytest.importorskip("peft", reason="peft is not installed")

import peft

from vqathinker import QualityScorer
from vqathinker.cli import main
from vqathinker.policy import IncompleteCheckpoint, VQAThinkerForConditionalGeneration, has_adapters, load_policy
from vqathinker.policy.adapters import plain_parameters, save_adapter
from vqathinker.scoring.provenance import checkpoint_hash
from vqathinker.training.adapters import AdapterArguments, completed, get_quantization_config, settle

LAYER = "model.language_model.layers.1.mlp.up_proj"


def randomized(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def write(policy, processor, folder, **options):
    """A random adapter on a policy, in a folder as training leaves it; the `PeftModel`."""
    model = peft.get_peft_model(policy, completed(peft.LoraConfig(r=3, lora_alpha=12, **options), policy))
    settle(model, AdapterRun())
    randomized(model).generation_config.max_new_tokens = 17
    save_adapter(model, folder)
    processor.save_pretrained(folder)
    return model.eval()


class AdapterRun:
    """What `settle` asks of a run."""

    gradient_checkpointing = False
    gradient_checkpointing_kwargs = None


@pytest.fixture
def adapter(policy, processor, tmp_path):
    write(policy, processor, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def clip(processor, frames):
    return processor.from_array(frames)


def logits(policy, processor, clip):
    inputs = {"frames": [clip.frames], "motion_frames": [clip.motion_frames]}
    inputs["visual_index"] = processor.index_of([processor.render()])
    with torch.no_grad():
        return policy(torch.tensor(processor.prompt_ids())[None], **inputs).logits


def test_loaded_weights_are_the_bases_with_scaled_products_added(base, adapter):
    before, saved = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    loaded, _ = load_policy(adapter)
    assert type(loaded) is VQAThinkerForConditionalGeneration and not has_adapters(loaded)
    after = loaded.state_dict()
    a, b = (saved[f"base_model.model.{LAYER}.lora_{part}.weight"] for part in "AB")
    assert torch.allclose(after[f"{LAYER}.weight"], before[f"{LAYER}.weight"] + 12 / 3 * b @ a, atol=1e-6)
    assert (after[f"{LAYER}.weight"] - before[f"{LAYER}.weight"]).abs().max() > 0.01
    whole = "model.motion_projector.linear_1.weight"
    assert torch.equal(after[whole], saved[f"base_model.model.{whole}"]) and not torch.equal(
        after[whole], before[whole]
    )
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    assert all("motion_projector" in key or key.endswith("_proj.weight") for key in changed)
    assert not any("vision_tower" in key for key in changed) and len(changed) == 6 + 4 * 7
    assert loaded.generation_config.max_new_tokens == 17 and loaded.name_or_path == str(adapter)
    assert sorted(path.name for path in adapter.iterdir() if path.suffix == ".safetensors") == [
        "adapter_model.safetensors"
    ]


def test_the_auto_class_gives_the_same(adapter):
    auto = AutoModelForImageTextToText.from_pretrained(adapter)
    assert type(auto) is VQAThinkerForConditionalGeneration and auto.name_or_path == str(adapter)
    pairs = zip(auto.state_dict().items(), load_policy(adapter)[0].state_dict().items(), strict=True)
    assert all(one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in pairs)


def test_whoever_trains_a_loaded_one_trains_all_of_it(base, adapter):
    plain, loaded = (VQAThinkerForConditionalGeneration.from_pretrained(folder) for folder in (base, adapter))
    trained = {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert not any("motion_encoder" in name for name in trained)


def test_weights_for_vllm_are_those_of_the_loaded_policy(policy, processor, tmp_path):
    from vqathinker.policy.adapters import merged_weight

    model = write(policy, processor, tmp_path)
    merged = {name: p if layer is None else merged_weight(layer) for name, p, layer in plain_parameters(policy)}
    loaded = dict(load_policy(tmp_path)[0].named_parameters())
    assert merged.keys() == loaded.keys() and all(torch.equal(merged[name], loaded[name]) for name in merged)
    assert model.peft_config["default"].r == 3


def test_an_adapter_scores_as_the_folder_that_merge_writes(adapter, tmp_path, frames, capsys):
    assert main(["merge", str(adapter), "--out", str(tmp_path / "whole")]) == 0
    scorers = [QualityScorer.from_pretrained(tmp_path / name, readout="expected") for name in ("adapter", "whole")]
    results = [scorer.score(frames) for scorer in scorers]
    assert results[0].answers == results[1].answers and results[0].std is not None
    pairs = zip(*(scorer.policy.state_dict().values() for scorer in scorers), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert {path.name for path in (tmp_path / "whole").iterdir()} >= {"model.safetensors", "processor_config.json"}


def test_an_adapter_of_an_adapter_changes_what_that_one_left(adapter, processor, tmp_path, clip):
    first, _ = load_policy(adapter)
    model = write(first, processor, tmp_path / "second")
    assert json.loads((tmp_path / "second/adapter_config.json").read_text())["base_model_name_or_path"] == str(adapter)
    expected = logits(model, processor, clip)
    assert torch.allclose(logits(load_policy(tmp_path / "second")[0], processor, clip), expected, atol=1e-3)


def test_the_hash_knows_base_and_scaling(base, policy, processor, tmp_path):
    mine = shutil.copytree(base, tmp_path / "base")
    write(VQAThinkerForConditionalGeneration.from_pretrained(mine), processor, tmp_path / "adapter")
    hashes = [checkpoint_hash(load_policy(tmp_path / "adapter")[0])]
    for file, change in (
        (tmp_path / "adapter/adapter_config.json", lambda text: text.replace('"lora_alpha": 12', '"lora_alpha": 13')),
        (tmp_path / "base/config.json", lambda text: text + " "),
    ):
        file.write_text(change(file.read_text()))
        hashes.append(checkpoint_hash(load_policy(tmp_path / "adapter")[0]))
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "no file", "cut off"])
def test_an_adapter_that_is_not_whole_is_refused(adapter, fault):
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    if fault == "no file":
        file.unlink()
    elif fault == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        weights |= {"unexpected": {"other": torch.ones(1)}, "shape": {name: torch.ones(2, 2)}}.get(fault, {})
        if fault == "missing":
            del weights[name]
        save_file(weights, file)
    messages = {"missing": r"1 of \d+ are missing", "unexpected": "no place", "shape": "another shape"}
    with pytest.raises(IncompleteCheckpoint, match=messages.get(fault, "no readable adapter_model.safetensors")):
        load_policy(adapter)


def test_a_base_that_is_gone_is_named_with_what_to_do(adapter, base, tmp_path, capsys):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone"}))
    with pytest.raises(FileNotFoundError, match="has the base policy '/gone', which does not exist: write its path"):
        load_policy(adapter)
    assert main(["merge", str(adapter), "--base", str(base), "--out", str(tmp_path / "whole")]) == 0
    assert main(["merge", str(adapter), "--base", str(base), "--out", str(base)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main(["merge", str(base), "--out", str(tmp_path / "other")]) == 2
    assert "holds no adapter_config.json" in capsys.readouterr().err
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="does not name its base policy"):
        load_policy(adapter)


def test_a_merge_of_16_bits_rounds_once_and_one_of_32_does_not(base, processor, tmp_path):
    halved = VQAThinkerForConditionalGeneration.from_pretrained(base, dtype=torch.bfloat16)
    halved.save_pretrained(tmp_path / "halved")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path / "halved", dtype="auto")
    write(policy, processor, tmp_path / "adapter")
    for dtype in ("auto", "float32"):
        assert main(["merge", str(tmp_path / "adapter"), "--out", str(tmp_path / dtype), "--dtype", dtype]) == 0
    rounded, exact = (load_file(tmp_path / name / "model.safetensors") for name in ("auto", "float32"))
    assert rounded[f"{LAYER}.weight"].dtype == torch.bfloat16 and exact[f"{LAYER}.weight"].dtype == torch.float32
    assert torch.equal(rounded[f"{LAYER}.weight"], exact[f"{LAYER}.weight"].bfloat16())


@pytest.mark.engine
def test_an_adapter_on_4_bits_loads_as_it_was_trained_and_merges_into_whole_weights(base, processor, tmp_path, clip):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    options = AdapterArguments(use_peft=True, load_in_4bit=True)
    quantization = get_quantization_config(options, torch.float32)
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, quantization_config=quantization)
    packed = {name.split(".")[1] for name, p in policy.named_parameters() if not p.is_floating_point()}
    assert packed == {"language_model"}
    model = write(policy, processor, tmp_path / "adapter")
    assert main(["merge", str(tmp_path / "adapter"), "--out", str(tmp_path / "whole")]) == 0
    loaded, whole = (load_policy(tmp_path / name)[0] for name in ("adapter", "whole"))
    assert loaded.is_quantized and not getattr(whole, "is_quantized", False)
    assert not hasattr(whole.config, "quantization_config")
    of_training, of_loaded, of_whole = (logits(one, processor, clip) for one in (model, loaded, whole))
    difference = of_whole - logits(VQAThinkerForConditionalGeneration.from_pretrained(base).eval(), processor, clip)
    # bitsandbytes' fast layout on CPUs computes in bfloat16
    assert (of_loaded - of_training).abs().max() < 0.1 * difference.std()
    assert (of_whole - of_training).abs().max() < 0.1 * difference.std()

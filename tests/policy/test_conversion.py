"""InternVLChat checkpoints as policies, against the published forward pass written out here in plain torch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from vqathinker.clips import uniform_indices
from vqathinker.policy import MotionConfig, convert_internvlchat, load_policy
from vqathinker.policy.conversion import SYSTEM_MESSAGE
from vqathinker.policy.motion import MotionEncoder, _create_slowfast
from vqathinker.policy.prompts import INSTRUCTION, QUESTION
from vqathinker.synth import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SLOWFAST = {"model_depth": 18, "stem_dim_outs": (16, 4), "channel_reduction_ratio": 4}
SIZE = 224  # twice the position embedding's, and the least that fills the motion head's windows
LLM = {
    "_attn_implementation_autoset": True,
    "architectures": ["Qwen2ForCausalLM"],
    "attn_implementation": "flash_attention_2",
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "model_type": "qwen2",
    "moe_config": None,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": False,
    "use_sliding_window": False,
    "vocab_size": len(TOKENIZER),
}
QWEN3 = LLM | {  # InternVL3.5
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 16,
    "model_type": "qwen3",
    "rope_scaling": None,
}
VIT = {
    "architectures": ["InternVisionModel"],
    "attention_dropout": 0.0,
    "drop_path_rate": 0.1,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 32,
    "image_size": SIZE // 2,
    "initializer_factor": 0.1,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-06,
    "model_type": "intern_vit_6b",
    "norm_type": "layer_norm",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 14,
    "qk_normalization": False,
    "qkv_bias": True,
    "use_flash_attn": True,
    "use_moe": False,
}
CONFIG = {
    "architectures": ["InternVLChatModel"],
    "auto_map": {
        "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": "modeling_internvl_chat.InternVLChatModel",
    },
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "llm_config": LLM,
    "model_type": "internvl_chat",
    "pad2square": False,
    "ps_version": "v2",
    "select_layer": -1,
    "system_message": None,
    "template": "internvl2_5",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_backbone_lora": 0,
    "use_llm_lora": 0,
    "vision_config": VIT,
}


class Layer(nn.Module):
    """One InternViT layer: fused query, key and value, and a scale on each branch."""

    def __init__(self, width, inner):
        super().__init__()
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.ls1, self.ls2 = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, x):
        heads = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, VIT["num_attention_heads"], -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        x = x + self.ls1 * self.attn["proj"]((weights @ value).transpose(1, 2).flatten(2))
        return x + self.ls2 * self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Published(nn.Module):
    """InternVLChat with the motion branch of the published code, under its names."""

    def __init__(self, motion=True, llm=LLM):
        super().__init__()
        width, side, hidden = VIT["hidden_size"], VIT["image_size"] // 14, llm["hidden_size"]
        embeddings = nn.Module()
        embeddings.class_embedding = nn.Parameter(torch.randn(1, 1, width))
        embeddings.patch_embedding = nn.Conv2d(3, width, 14, 14)
        embeddings.position_embedding = nn.Parameter(torch.randn(1, side**2 + 1, width))
        encoder = nn.Module()
        encoder.layers = nn.ModuleList(Layer(width, VIT["intermediate_size"]) for _ in range(VIT["num_hidden_layers"]))
        self.vision_model = nn.ModuleDict({"embeddings": embeddings, "encoder": encoder})
        self.mlp1 = self._mlp(4 * width, hidden)
        known = {k: v for k, v in llm.items() if "attn_implementation" not in k} | {"torch_dtype": "float32"}
        self.language_model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[llm["model_type"]](**known))
        if motion:
            self.motion_mlp = self._mlp(32 * 20, hidden)
            slowfast = _create_slowfast()(
                model_depth=18, stem_dim_outs=(16, 4), slowfast_channel_reduction_ratio=(4,), model_num_class=2
            )
            for module in slowfast.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 2)
            self.slowfast_model = nn.ModuleDict({"feature_extraction": nn.Sequential(*slowfast.blocks[:5])})
            self.head = [*slowfast.blocks[5].pool, slowfast.blocks[6].output_pool]  # a list: they have no weights
        self.eval()

    @staticmethod
    def _mlp(width, out):
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))

    def frame_tokens(self, pixels):
        embeddings = self.vision_model["embeddings"]
        patches = embeddings.patch_embedding(pixels)
        first, grid = embeddings.position_embedding[:, :1], embeddings.position_embedding[:, 1:]
        grid = grid.transpose(1, 2).unflatten(2, (VIT["image_size"] // 14, -1))
        grid = F.interpolate(grid, size=patches.shape[2:], mode="bicubic", align_corners=False)
        cls = (embeddings.class_embedding + first).expand(len(pixels), -1, -1)
        x = torch.cat([cls, (patches + grid).flatten(2).transpose(1, 2)], dim=1)
        for layer in self.vision_model["encoder"].layers:
            x = layer(x)
        rows, columns = patches.shape[2:]
        # Pixel shuffle v2: a token is the 2 x 2 block of patches around it, its rows outermost.
        x = x[:, 1:].reshape(len(x), rows // 2, 2, columns // 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return self.mlp1(x.flatten(3).flatten(1, 2))

    def motion_token(self, pixels, slow_share, repeats):
        video = pixels.transpose(0, 1)[None]
        count = video.shape[2]
        slow = video[:, :, torch.linspace(0, count - 1, count // slow_share).long()]
        pathways = self.slowfast_model["feature_extraction"]([slow, video])
        slow_pool, fast_pool, last = self.head
        pathways = [pathway.repeat_interleave(repeats, dim=2) for pathway in pathways]
        pooled = [last(slow_pool(pathways[0])), last(fast_pool(pathways[1]))]
        return self.motion_mlp(torch.cat(pooled, dim=1).flatten(1))

    @torch.no_grad()
    def forward(self, input_ids, pixels, slow_share=4, repeats=4):
        embeds = self.language_model.get_input_embeddings()(input_ids).clone()
        places = (input_ids == TOKENIZER.convert_tokens_to_ids("<IMG_CONTEXT>")).nonzero()[:, 0]
        if hasattr(self, "motion_mlp"):
            embeds[places[-1]] = self.motion_token(pixels, slow_share, repeats)[0]
            places = places[:-1]
        embeds[places] = self.frame_tokens(pixels).flatten(0, 1)
        return self.language_model(inputs_embeds=embeds[None]).logits


def write(folder, model, config=CONFIG, weights=None):
    """The folder of a checkpoint, as InternVL's are: code, tokenizer without named image tokens, one weights file."""
    folder.mkdir(exist_ok=True)
    TOKENIZER.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    named = json.loads(file.read_text())
    left = {k: v for k, v in named.items() if "image_token" not in k and k != "extra_special_tokens"}
    file.write_text(json.dumps(left | {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}))
    for name in ("configuration_internvl_chat.py", "modeling_internvl_chat.py"):
        (folder / name).write_text("raise RuntimeError('remote code ran')")
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(model.state_dict()) if weights is None else weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return Published()


@pytest.fixture(scope="module")
def checkpoint(published, tmp_path_factory):
    return write(tmp_path_factory.mktemp("published"), published)


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted")
    convert_internvlchat(checkpoint, out, motion_config=SLOWFAST, image_size=SIZE)
    return out


def pixels_of(frames, count):
    """(count, 3, SIZE, SIZE) normalised key frames, as the published test reads them."""
    shown = [
        Image.fromarray(frames[i]).resize((SIZE, SIZE), Image.BICUBIC) for i in uniform_indices(len(frames), count)
    ]
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in shown]).float() / 255
    return ((pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 3, 1, 2)


def test_logits_are_those_of_the_published_test_code(published, converted, frames):
    policy, processor = load_policy(converted, "cpu")
    batch = processor([frames])
    image = "<img>" + "<IMG_CONTEXT>" * 64 + "</img>"
    prompt = (
        f"<|im_start|>system\n{SYSTEM_MESSAGE}<|im_end|>\n<|im_start|>user\nNow you will receive a video:"
        + "".join(f"Frame{i}: {image}" for i in range(1, 13))
        + f"Motion Feature: <img><IMG_CONTEXT></img>{QUESTION}{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert batch["input_ids"][0].tolist() == TOKENIZER(prompt)["input_ids"]
    expected = published(batch["input_ids"][0], pixels_of(frames, 12))
    with torch.no_grad():
        torch.testing.assert_close(policy(**batch).logits, expected, atol=2e-5, rtol=1e-4)
    # The tolerance sees the motion branch: another of its frames moves the logits further.
    batch["motion_frames"][:, 5] = 0
    with torch.no_grad():
        assert (policy(**batch).logits - expected).abs().max() > 1e-3


def test_logits_are_those_of_the_published_training_code(published, checkpoint, frames, tmp_path):
    settings = {"num_frames": 6, "prompt_style": "train", "image_size": SIZE, "motion_config": SLOWFAST}
    convert_internvlchat(checkpoint, tmp_path, **settings)
    policy, processor = load_policy(tmp_path, "cpu")
    batch = processor([frames])
    assert "\nFrame6:" in processor.tokenizer.decode(batch["input_ids"][0])
    expected = published(batch["input_ids"][0], pixels_of(frames, 6), slow_share=3, repeats=6)
    with torch.no_grad():
        torch.testing.assert_close(policy(**batch).logits, expected, atol=2e-5, rtol=1e-4)


def test_a_converted_policy_generates_until_the_templates_end_token(converted, frames):
    policy, processor = load_policy(converted, "cpu")
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert (policy.generation_config.eos_token_id, policy.config.text_config.eos_token_id) == (end, end)
    assert policy.config.motion_config.feature_size == 640 and policy.config.image_seq_length == 16
    assert not any(p.requires_grad for p in policy.model.motion_encoder.parameters())
    assert policy.generate(**processor([frames]), max_new_tokens=3, do_sample=False).shape == (1, 3)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_parts_with_an_index_and_bin_files_are_the_same_checkpoint(published, checkpoint, converted, kind, tmp_path):
    weights = published.state_dict()
    folder = write(tmp_path / "in", published)
    (folder / "model.safetensors").unlink()
    stem = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
    names, parts = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = stem.replace(".", f"-{number}.")
        (save_file if kind == "safetensors" else torch.save)({name: weights[name] for name in part}, folder / file)
        parts |= dict.fromkeys(part, file)
    (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": parts}))
    convert_internvlchat(folder, tmp_path / "out", motion_config=SLOWFAST, image_size=SIZE)
    one, two = (load_file(place / "model.safetensors") for place in (converted, tmp_path / "out"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    (folder / parts[names[0]]).unlink()
    with pytest.raises(FileNotFoundError, match="named in the index but missing"):
        convert_internvlchat(folder, tmp_path / "no", motion_config=SLOWFAST, image_size=SIZE)


def test_the_command_converts_and_refuses_in_one_line(checkpoint, tmp_path, capsys):
    from vqathinker.cli import main

    folder = write(tmp_path / "in", Published(motion=False))
    sizes = ["--frames", "6", "--image-size", "112", "--prompt-style", "train"]
    assert main(["convert", str(folder), "--out", str(tmp_path / "out"), "--motion-tokens", "0", *sizes]) == 0
    _, processor = load_policy(tmp_path / "out", "cpu")
    assert (processor.num_frames, processor.image_size, processor.prompt_style) == (6, 112, "train")
    capsys.readouterr()
    assert main(["convert", str(checkpoint), "--out", str(tmp_path / "no")]) == 2  # its SlowFast is no R50
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "no").exists()


def test_weights_keep_their_dtype(published, tmp_path):
    half = {name: t.bfloat16() if t.is_floating_point() else t for name, t in published.state_dict().items()}
    folder = write(tmp_path / "in", published, weights=half)
    convert_internvlchat(folder, tmp_path / "out", motion_config=SLOWFAST, image_size=SIZE)
    policy, _ = load_policy(tmp_path / "out", "cpu")
    assert {p.dtype for p in policy.parameters()} == {torch.bfloat16}
    theirs = half["vision_model.encoder.layers.1.attn.qkv.weight"]
    attention = policy.model.vision_tower.encoder.layer[1].attention
    ours = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("repeated", [True, False])
def test_a_tied_head_is_the_embedding(published, tmp_path, repeated):
    weights = dict(published.state_dict())
    weights["language_model.lm_head.weight"] = weights["language_model.model.embed_tokens.weight"].clone()
    if not repeated:
        del weights["language_model.lm_head.weight"]
    config = CONFIG | {"llm_config": LLM | {"tie_word_embeddings": True}}
    folder = write(tmp_path / "in", published, config, weights)
    convert_internvlchat(folder, tmp_path / "out", motion_config=SLOWFAST, image_size=SIZE)
    policy, _ = load_policy(tmp_path / "out", "cpu")
    assert policy.lm_head.weight is policy.get_input_embeddings().weight
    assert torch.equal(policy.lm_head.weight, weights["language_model.model.embed_tokens.weight"])


@pytest.mark.parametrize("llm", [LLM, QWEN3])
def test_a_plain_internvl_converts_without_a_motion_branch(tmp_path, frames, llm):
    torch.manual_seed(1)
    plain = Published(motion=False, llm=llm)
    folder = write(tmp_path / "in", plain, CONFIG | {"llm_config": llm})
    convert_internvlchat(folder, tmp_path / "out", motion_tokens=0, image_size=112, num_frames=6, prompt_style="train")
    policy, processor = load_policy(tmp_path / "out", "cpu")
    batch = processor([frames])
    assert "Motion" not in processor.tokenizer.decode(batch["input_ids"][0])
    pixels = F.interpolate(torch.rand(6, 3, 8, 8), 112)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    batch["frames"] = (pixels * 255).round().to(torch.uint8)[None]
    expected = plain(batch["input_ids"][0], (batch["frames"][0].float() / 255 - mean) / std)
    with torch.no_grad():
        torch.testing.assert_close(policy(**batch).logits, expected, atol=2e-5, rtol=1e-4)


def test_a_plain_internvl_takes_slowfast_weights(tmp_path):
    torch.manual_seed(1)
    folder = write(tmp_path / "in", Published(motion=False))
    slowfast = MotionEncoder(MotionConfig(**SLOWFAST)).state_dict()
    torch.save({"model_state": slowfast}, tmp_path / "slowfast.pyth")
    settings = {"motion_config": SLOWFAST | {"image_size": 48}, "motion_tokens": 2, "image_size": 112}
    convert_internvlchat(folder, tmp_path / "out", slowfast=tmp_path / "slowfast.pyth", **settings)
    policy, processor = load_policy(tmp_path / "out", "cpu")
    assert (processor.motion_tokens, processor.motion_image_size, policy.config.motion_config.pooling) == (
        2,
        48,
        "mean",
    )
    assert all(torch.equal(t, slowfast[name]) for name, t in policy.model.motion_encoder.state_dict().items())
    weight = policy.model.motion_projector.linear_1.weight
    assert weight.min() >= 0 and 0.009 < weight.max() <= 0.01
    for wrong in ({}, {"slowfast": "random", "motion_tokens": 0}):
        with pytest.raises(ValueError, match="has no motion branch"):
            convert_internvlchat(folder, tmp_path / "no", **wrong)


def test_a_motion_branch_of_its_own_is_neither_replaced_nor_dropped(checkpoint, tmp_path):
    for wrong in ({"slowfast": "random"}, {"motion_tokens": 0}, {"motion_tokens": 2}):
        with pytest.raises(ValueError, match="has a motion branch"):
            convert_internvlchat(checkpoint, tmp_path / "no", **wrong)
    with pytest.raises(ValueError, match=r"pathway='fast', one motion token per frame: .* reads both pathways"):
        convert_internvlchat(checkpoint, tmp_path / "no", motion_config={"pathway": "fast"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("language_model.model.norm.weight", None), r"lacks 1 of \d+ weights, \['language_model.model.norm.weight'\]"),
        (("vision_model.encoder.layers.0.attn.qkv.bias", None), r"lacks 1 of \d+ weights, .*layers.0.attn.qkv.bias"),
        (("motion_mlp.3.bias", None), r"lacks 1 of \d+ weights, \['motion_mlp.3.bias'\]"),
        (
            ("vision_model.encoder.layers.0.attn.q_norm.weight", 32),
            r"1 weights that the policy has no place for.*attn.q_norm.weight",
        ),
        (("mlp1.2.weight", 4), r"1 weights that the policy has no place for.*mlp1.2.weight"),
        (("mlp1.1.weight", 7), r"mlp1.1.weight \(7,\), not \(48, 128\)"),
        (("vision_model.encoder.layers.1.attn.qkv.bias", 95), r"attn.qkv.bias \(95,\), not \(96,\)"),
    ],
)
def test_every_weight_must_have_its_place_and_shape(published, tmp_path, change, message):
    name, size = change
    weights = {key: tensor for key, tensor in published.state_dict().items() if key != name or size}
    if size:
        weights[name] = torch.zeros(size)
    folder = write(tmp_path / "in", published, weights=weights)
    with pytest.raises(ValueError, match=message):
        convert_internvlchat(folder, tmp_path / "out", motion_config=SLOWFAST, image_size=SIZE)
    assert not (tmp_path / "out").exists()


def test_a_slowfast_of_another_size_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"lacks \d+ of \d+ weights, .*slowfast_model"):
        convert_internvlchat(checkpoint, tmp_path / "out", image_size=SIZE)
    wider = SLOWFAST | {"stem_dim_outs": (32, 8)}
    with pytest.raises(ValueError, match=r"whose shape differs .*motion_config"):
        convert_internvlchat(checkpoint, tmp_path / "out", image_size=SIZE, motion_config=wider)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("", "ps_version", "v1", "has ps_version = 'v1': must be 'v2'"),
        ("", "ps_version", None, "ps_version = 'v1'"),
        ("", "select_layer", -4, "select_layer = -4: must be -1"),
        ("", "template", "Hermes-2", "template = 'Hermes-2'"),
        ("", "system_message", "Be brief.", "system_message = 'Be brief.'"),
        ("", "pad2square", True, "pad2square = True"),
        ("", "use_llm_lora", 16, "use_llm_lora = 16.*LoRA weights merged"),
        ("", "use_backbone_lora", 16, "use_backbone_lora = 16"),
        ("vision_config", "qk_normalization", True, "vision_config.qk_normalization = True: must be False"),
        ("vision_config", "qk_normalization", None, "vision_config.qk_normalization = True"),
        ("vision_config", "norm_type", "rms_norm", "vision_config.norm_type = 'rms_norm': must be 'layer_norm'"),
        ("vision_config", "model_type", "siglip", "vision_config.model_type = 'siglip'"),
        ("vision_config", "use_moe", True, "vision_config.use_moe = True"),
        ("vision_config", "num_attention_heads", None, r"lacks \['vision_config.num_attention_heads'\]"),
        ("llm_config", "model_type", "qwen3_moe", "llm_config.model_type = 'qwen3_moe': must be 'qwen2' or 'qwen3'"),
        ("llm_config", "architectures", ["InternLM2ForCausalLM"], "llm_config.architectures = "),
        ("llm_config", "vocab_size", 100, "no more than the 100 of the embedding"),
        ("", "model_type", "internvl", "model_type 'internvl': must be 'internvl_chat'.*vqathinker init"),
    ],
)
def test_settings_the_policy_cannot_express_are_refused(published, tmp_path, section, name, value, message):
    config = json.loads(json.dumps(CONFIG))
    part = config[section] if section else config
    part.pop(name)
    if value is not None:
        part[name] = value
    folder = write(tmp_path / "in", published, config, {"mlp1.0.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match=message):
        convert_internvlchat(folder, tmp_path / "out")


def test_what_is_no_checkpoint_is_refused(published, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nope"):
        convert_internvlchat(tmp_path / "nope", tmp_path / "out")
    with pytest.raises(ValueError, match="name another folder"):
        convert_internvlchat(checkpoint, checkpoint)
    folder = write(tmp_path / "in", published)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not a weight file"):
        convert_internvlchat(folder, tmp_path / "out")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        convert_internvlchat(folder, tmp_path / "out")
    torch.save({"code": torch.nn.Linear}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="not a weight file"):
        convert_internvlchat(folder, tmp_path / "out")


def test_a_tokenizer_without_the_image_tokens_is_refused(published, tmp_path):
    folder = write(tmp_path / "in", published)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<IMG_CONTEXT>", "<IMG_OTHER>"))
    with pytest.raises(ValueError, match=r"lacks \['<IMG_CONTEXT>'\]"):
        convert_internvlchat(folder, tmp_path / "out")
    file.unlink()
    with pytest.raises(ValueError, match="no readable tokenizer"):
        convert_internvlchat(folder, tmp_path / "out")


@pytest.mark.parametrize("num_frames", [1, 4, 7])
def test_the_published_pooling_takes_any_number_of_frames(num_frames):
    settings = {"image_size": 193, "slow_sampling": "linspace", "normalization": "imagenet", "pooling": "windows"}
    frames = torch.randint(0, 256, (1, num_frames, 3, 193, 193), dtype=torch.uint8)
    features = MotionEncoder(MotionConfig(**SLOWFAST, **settings))(frames, 2)
    assert features.shape == (1, 2, 640) and torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalization": "clip"}, "normalization='clip'"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"pooling": "windows", "image_size": 192}, "image_size=192"),
    ],
)
def test_bad_motion_settings_are_refused(settings, message):
    with pytest.raises(Exception, match=message):
        MotionConfig(**settings)

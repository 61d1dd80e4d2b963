"""Starting from an InternVL checkpoint that transformers itself saved, and from pytorchvideo weights."""

import sys

import pytest
import torch
from transformers import InternVLForConditionalGeneration

from vqathinker.policy import STREAMS, MotionConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.policy.motion import MotionEncoder, _create_slowfast, slow_indices

pytestmark = pytest.mark.contract

SMALL = MotionConfig(model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=64)


@pytest.fixture(scope="module")
def slowfast(tmp_path_factory):
    """A checkpoint in pytorchvideo's format, head included."""
    torch.manual_seed(1)
    model = _create_slowfast()(model_depth=18, stem_dim_outs=(16, 4), slowfast_channel_reduction_ratio=(4,))
    file = tmp_path_factory.mktemp("slowfast") / "SLOWFAST.pyth"
    torch.save({"model_state": model.state_dict()}, file)
    return file


def test_from_internvl_keeps_internvl_and_takes_slowfast(internvl, slowfast, frames):
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, slowfast, SMALL)
    source = InternVLForConditionalGeneration.from_pretrained(internvl)
    own = policy.state_dict()
    for name, tensor in source.state_dict().items():
        assert torch.equal(own[name], tensor), name
    weights = torch.load(slowfast, weights_only=True)["model_state"]
    for name, tensor in policy.model.motion_encoder.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert policy.model.motion_projector.linear_2.out_features == 48
    projector = policy.model.motion_projector
    assert projector.linear_1.weight.min() >= 0 and projector.linear_1.weight.max() <= 0.01
    assert projector.linear_1.bias.abs().max() == 0

    processor = VQAThinkerProcessor.from_internvl(internvl, policy.config)
    assert (processor.image_size, STREAMS["spatial"].tokens(processor), processor.motion_image_size) == (56, 4, 64)
    batch = processor([frames])
    with torch.no_grad():
        ours = policy.model.frame_features(batch["frames"][0])
        pixels = (batch["frames"][0].float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        theirs = source.model.get_image_features(pixel_values=pixels).pooler_output
        torch.testing.assert_close(ours, theirs)
        assert torch.isfinite(policy(**batch).logits).all()


def test_text_alone_runs_as_in_internvl(internvl):
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, "random", SMALL).eval()
    source = InternVLForConditionalGeneration.from_pretrained(internvl).eval()
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(policy(input_ids=ids).logits, source(input_ids=ids).logits)


def test_other_checkpoints_are_refused(internvl, slowfast, base, tmp_path):
    with pytest.raises(ValueError, match="'vqathinker'"):
        VQAThinkerForConditionalGeneration.from_internvl(base, slowfast, SMALL)
    with pytest.raises(ValueError, match="does not fit"):
        VQAThinkerForConditionalGeneration.from_internvl(internvl, slowfast, MotionConfig())
    (tmp_path / "page.pyth").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page.pyth' is not a weight file .*: download it again"):
        VQAThinkerForConditionalGeneration.from_internvl(internvl, tmp_path / "page.pyth", SMALL)
    torch.save({"model_state": {}}, tmp_path / "empty.pyth")
    with pytest.raises(ValueError, match=r"of 228 weights 228 are missing \(\['blocks.0"):
        VQAThinkerForConditionalGeneration.from_internvl(internvl, tmp_path / "empty.pyth", SMALL)


def test_slowfast_r50_gives_2304_channels_for_6_frames():
    config = MotionConfig()
    assert config.feature_size == 2304
    frames = torch.zeros(1, 6, 3, 64, 64, dtype=torch.uint8)
    assert MotionEncoder(config)(frames, 1).shape == (1, 1, 2304)


def test_slow_frames():
    assert slow_indices(6, "chunk").tolist() == [0, 3]
    assert slow_indices(12, "chunk").tolist() == [0, 4, 8]
    assert slow_indices(6, "linspace").tolist() == [0, 5]
    assert slow_indices(12, "linspace").tolist() == [0, 5, 11]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 7, 24])
def test_any_number_of_frames_passes_the_motion_encoder(num_frames):
    frames = torch.randint(0, 256, (2, num_frames, 3, 64, 64), dtype=torch.uint8)
    features = MotionEncoder(SMALL)(frames, 2)
    assert features.shape == (2, 2, 640) and torch.isfinite(features).all()


def test_no_stand_in_for_torchvision_stays_behind():
    MotionEncoder(SMALL)
    module = sys.modules.get("torchvision")
    assert module is None or getattr(module, "__file__", None)


def test_bad_motion_settings_are_refused():
    with pytest.raises(Exception, match="model_depth=34"):
        MotionConfig(model_depth=34)
    with pytest.raises(Exception, match="slow_sampling='first'"):
        MotionConfig(slow_sampling="first")

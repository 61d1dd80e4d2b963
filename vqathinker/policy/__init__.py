"""The policy: HF InternVL with a frozen SlowFast motion branch, its configuration and its processor."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

from vqathinker.policy.configuration import MotionConfig, VQAThinkerConfig
from vqathinker.policy.features import ClipFeatures, MotionCache
from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import ClipInput, VQAThinkerProcessor

# Checkpoints hold InternVL's weights under the names of InternVL's own checkpoints.
for own, internvl in ((VQAThinkerConfig.model_type, "internvl"), ("VQAThinkerModel", "InternVLModel")):
    register_checkpoint_conversion_mapping(own, get_checkpoint_conversion_mapping(internvl), overwrite=True)
AutoConfig.register(VQAThinkerConfig.model_type, VQAThinkerConfig)
AutoModelForImageTextToText.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
# TRL loads the reference model of a class that transformers does not ship through this one.
AutoModelForCausalLM.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
AutoProcessor.register(VQAThinkerConfig, VQAThinkerProcessor)

__all__ = [
    "ClipFeatures",
    "ClipInput",
    "MotionCache",
    "MotionConfig",
    "VQAThinkerConfig",
    "VQAThinkerForConditionalGeneration",
    "VQAThinkerProcessor",
]

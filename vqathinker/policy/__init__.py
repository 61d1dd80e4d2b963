"""The policy: HF InternVL with a frozen SlowFast motion branch, its configuration and its processor."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from vqathinker.policy.complete import IncompleteCheckpoint
from vqathinker.policy.configuration import MotionConfig, VQAThinkerConfig
from vqathinker.policy.conversion import convert_internvlchat
from vqathinker.policy.features import ClipFeatures, MotionCache
from vqathinker.policy.loading import check_checkpoint, check_whole_weights, load_policy
from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import ClipInput, VQAThinkerProcessor

AutoConfig.register(VQAThinkerConfig.model_type, VQAThinkerConfig)
AutoModelForImageTextToText.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
# TRL loads the reference model of a class that transformers does not ship through this one.
AutoModelForCausalLM.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
AutoProcessor.register(VQAThinkerConfig, VQAThinkerProcessor)

__all__ = [
    "ClipFeatures",
    "ClipInput",
    "IncompleteCheckpoint",
    "MotionCache",
    "MotionConfig",
    "VQAThinkerConfig",
    "VQAThinkerForConditionalGeneration",
    "VQAThinkerProcessor",
    "check_checkpoint",
    "check_whole_weights",
    "convert_internvlchat",
    "load_policy",
]

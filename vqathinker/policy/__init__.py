"""The policy: HF InternVL with a frozen SlowFast motion branch, its configuration and its processor."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from vqathinker.places import check_checkpoint
from vqathinker.policy.adapters import (
    base_policy,
    check_mergeable,
    has_adapters,
    import_peft,
    merge_adapter,
)
from vqathinker.policy.clip_input import ClipInput, ClipLength
from vqathinker.policy.complete import IncompleteCheckpoint
from vqathinker.policy.configuration import MotionConfig, VQAThinkerConfig
from vqathinker.policy.conversion import add_low_level, convert_internvlchat
from vqathinker.policy.features import ClipFeatures, FeatureCache, encoding_parameters, tokens_in
from vqathinker.policy.loading import load_policy, load_processor, not_as_trained
from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration
from vqathinker.policy.processing import VQAThinkerProcessor
from vqathinker.policy.prompts import Prompt, Slot, token_index
from vqathinker.policy.streams import STREAMS, VisualStream, copied_trunk

AutoConfig.register(VQAThinkerConfig.model_type, VQAThinkerConfig)
AutoModelForImageTextToText.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
# TRL loads the reference model of a class that transformers does not ship through this one.
AutoModelForCausalLM.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
AutoProcessor.register(VQAThinkerConfig, VQAThinkerProcessor)

__all__ = [
    "STREAMS",
    "ClipFeatures",
    "ClipInput",
    "ClipLength",
    "FeatureCache",
    "IncompleteCheckpoint",
    "MotionConfig",
    "Prompt",
    "Slot",
    "VQAThinkerConfig",
    "VQAThinkerForConditionalGeneration",
    "VQAThinkerProcessor",
    "VisualStream",
    "add_low_level",
    "base_policy",
    "check_checkpoint",
    "check_mergeable",
    "convert_internvlchat",
    "copied_trunk",
    "encoding_parameters",
    "has_adapters",
    "import_peft",
    "load_policy",
    "load_processor",
    "merge_adapter",
    "not_as_trained",
    "token_index",
    "tokens_in",
]

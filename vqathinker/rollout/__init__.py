"""Sampling answers: the engine protocol and the transformers engine.

The vLLM engine is imported from `vqathinker.rollout.vllm_engine`, as importing vLLM takes seconds.
"""

from vqathinker.rollout.engine import Completion, RolloutEngine, Sampling, eos_token_ids
from vqathinker.rollout.transformers_engine import TransformersEngine

__all__ = ["Completion", "RolloutEngine", "Sampling", "TransformersEngine", "eos_token_ids"]

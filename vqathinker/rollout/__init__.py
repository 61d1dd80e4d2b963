"""Sampling answers: the engine protocol, the transformers engine and the factory of both.

The vLLM engine is imported from `vqathinker.rollout.vllm_engine`, as importing vLLM takes seconds.
"""

from vqathinker.rollout.engine import Completion, RolloutEngine, Sampling, eos_token_ids
from vqathinker.rollout.factory import ENGINES, make_engine
from vqathinker.rollout.transformers_engine import TransformersEngine

__all__ = ["ENGINES", "Completion", "RolloutEngine", "Sampling", "TransformersEngine", "eos_token_ids", "make_engine"]

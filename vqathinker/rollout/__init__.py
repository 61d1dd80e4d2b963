"""Sampling answers: the engine protocol and the transformers engine."""

from vqathinker.rollout.engine import Completion, RolloutEngine, Sampling
from vqathinker.rollout.transformers_engine import TransformersEngine

__all__ = ["Completion", "RolloutEngine", "Sampling", "TransformersEngine"]

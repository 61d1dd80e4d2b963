"""The embedded default: synthetic clips with labels or questions as real mp4 files, and a tiny policy."""

from vqathinker.synth.build import SynthSpec, make_set
from vqathinker.synth.distortions import DISTORTIONS, OOD_DISTORTIONS, SPATIAL, TEMPORAL, distort, pseudo_mos
from vqathinker.synth.ladders import LadderSpec, make_ladders
from vqathinker.synth.ood import OodSpec, make_ood_sets
from vqathinker.synth.questions import QuestionSpec, make_questions
from vqathinker.synth.scenes import render_scene
from vqathinker.synth.sources import source_scenes
from vqathinker.synth.stalls import StallSpec, make_stalls
from vqathinker.synth.tiny import tiny_policy, tiny_tokenizer

__all__ = [
    "DISTORTIONS",
    "OOD_DISTORTIONS",
    "SPATIAL",
    "TEMPORAL",
    "LadderSpec",
    "OodSpec",
    "QuestionSpec",
    "StallSpec",
    "SynthSpec",
    "distort",
    "make_ladders",
    "make_ood_sets",
    "make_questions",
    "make_set",
    "make_stalls",
    "pseudo_mos",
    "render_scene",
    "source_scenes",
    "tiny_policy",
    "tiny_tokenizer",
]

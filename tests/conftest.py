"""Shared fixtures: a small synthetic set and a tiny policy, made once per run."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import copy
import gc
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).parent.parent
re._MAXCACHE = 8192  # transformers compiles a pattern for each weight that it loads: 512 are not kept for the next time

DEMO = ("tests/recipes/test_recipes.py", "tests/test_docs.py", "tests/synth/test_doctor.py")
"""Files whose tests need the demo."""


def scope_of(nodeid):
    file = nodeid.partition("::")[0]
    return "demo" if file in DEMO else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2` a file's tests go to one process, and all that need the demo to the one that makes it."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # by number of tests: a file with few slow ones would come last
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With `-n 2` the files with the most slow tests come first, then those with the most tests: else one process
    would wait in the end for the other."""
    if hasattr(config, "workerinput"):
        weight = Counter()
        for item in items:
            weight[scope_of(item.nodeid)] += 1000 if item.get_closest_marker("slow") else 1
        items.sort(key=lambda item: (-weight[scope_of(item.nodeid)], scope_of(item.nodeid)))


def pytest_collection_finish():
    """What is imported by now stays, and each training, which collects garbage, need not look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def clip_set(tmp_path_factory):
    """Folder with train.csv (16 clips), val.csv (4) and their videos."""
    from vqathinker.synth import SynthSpec, make_set

    folder = tmp_path_factory.mktemp("clips")
    make_set(folder, SynthSpec(splits={"train": 16, "val": 4}), progress=False)
    return folder


@pytest.fixture(scope="session")
def train_rows(clip_set):
    from vqathinker.data import read_labels

    return read_labels(clip_set / "train.csv", clip_set, "identity")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Folder of a tiny policy with random weights, and its processor."""
    from vqathinker.synth import tiny_policy

    folder = tmp_path_factory.mktemp("base")
    policy, processor = tiny_policy(seed=0)
    policy.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded_base(base):
    """The policy and its processor, to copy from: that takes half the time of loading, which most tests begin with."""
    from transformers import AutoProcessor

    from vqathinker.policy import VQAThinkerForConditionalGeneration

    return VQAThinkerForConditionalGeneration.from_pretrained(base).eval(), AutoProcessor.from_pretrained(base)


@pytest.fixture
def policy(loaded_base):
    return copy.deepcopy(loaded_base[0])


@pytest.fixture
def processor(loaded_base):
    return copy.deepcopy(loaded_base[1])


class ReadingEngine:
    """A stand-in for an engine that reads its prompts: `say(text, blank)` gives the answer to the question and options
    in `text`, about a clip or about a black one. `asked` counts the prompts."""

    def __init__(self, policy, processor, say):
        from vqathinker.scoring.predict import encode_clips

        self.policy, self.tokenizer, self.say, self.asked = policy, processor.tokenizer, say, []
        self.words = {row.numpy().tobytes(): i for i, row in enumerate(policy.get_input_embeddings().weight.detach())}
        [features] = encode_clips(policy, [processor.blank_clip()])
        self.black = features["spatial"].flatten(0, -2)[0]

    def generate(self, prompts, n, sampling, seeds=None):
        from vqathinker.rollout import Completion

        assert len(seeds) == len(prompts)
        texts = []
        for prompt in prompts:
            ids = [self.words.get(row.numpy().tobytes()) for row in prompt.detach()]
            text = self.tokenizer.decode([i for i in ids if i is not None], skip_special_tokens=True)
            blank = bool((prompt - self.black).abs().sum(-1).min() < 1e-4)
            self.asked.append((text, blank))
            texts.append(self.say(text, blank))
        return [[Completion(self.tokenizer(text)["input_ids"])] * n for text in texts]


@pytest.fixture
def reading_engine(policy, processor):
    """Makes a `ReadingEngine`."""
    return lambda say: ReadingEngine(policy, processor, say)


@pytest.fixture
def frames():
    """24 random frames that differ from one another, (24, 96, 96, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)


@pytest.fixture
def repo():
    return REPO


@pytest.fixture(scope="session")
def without_vllm(tmp_path_factory):
    """Environment of processes that do not use vLLM and do not find it: TRL would import it, which takes longer than
    all else that they do."""
    folder = tmp_path_factory.mktemp("without_vllm")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['vllm'] = None\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


FORKED = """
import os
import runpy
import socket
import sys

import torch.multiprocessing

import vqathinker.scoring
import vqathinker.training


def work(rank, count, port, argv):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
count = int(sys.argv[1])
torch.multiprocessing.start_processes(work, (count, port, sys.argv[2:]), count, start_method="fork")
"""
"""What starts several processes that find each other as those of torchrun do, after the imports, which take longest."""


@pytest.fixture
def torchrun(tmp_path, without_vllm):
    """Runs a script in several real processes on this machine, like torchrun, and gives what they wrote to stdout and
    stderr."""

    def run(processes, *arguments, **env):
        command = [sys.executable, "-c", FORKED, *(str(part) for part in (processes, *arguments))]
        outputs = [tmp_path / f"{processes}.{name}" for name in ("stdout", "stderr")]
        env = os.environ | {"OMP_NUM_THREADS": "1"} | without_vllm | env
        # files, no pipes: those stay open while any worker lives that outlived the first process
        with outputs[0].open("w") as out, outputs[1].open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=env, cwd=tmp_path)
            try:
                process.wait(300)
            finally:
                process.terminate()  # nothing if it has ended
        stdout, stderr = (file.read_text() for file in outputs)
        assert process.returncode == 0, stdout[-2000:] + stderr[-4000:]
        return stdout, stderr

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory, without_vllm):
    """A folder in which the whole demo ran, quickly, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(REPO / "recipes" / "demo.py"), "--quick", "--seed", "3"]
    env = os.environ | without_vllm
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return folder, done.stdout


LANGUAGE_MODELS = {
    "qwen2": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}},  # as InternVL3's
    "qwen3": {"head_dim": 32},  # as InternVL3.5's: heads wider than their share
    "qwen3, tied": {"head_dim": 32},
    "llama": {"head_dim": 32},
}


@pytest.fixture(scope="session", params=list(LANGUAGE_MODELS))
def internvl(request, tmp_path_factory):
    """Folder of a tiny InternVL, with each language model, of another width than the tiny policy's."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    from vqathinker.synth import tiny_policy

    _, processor = tiny_policy()
    tokenizer = processor.tokenizer
    family, _, tied = request.param.partition(", ")
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": 56,
            "patch_size": 14,
        },
        text_config={
            "model_type": family,
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            **LANGUAGE_MODELS[request.param],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=bool(tied),  # counts for transformers, the text_config's own does not
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("internvl")
    model = InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def from_internvl(internvl, tmp_path_factory):
    """Folder of a policy made from it, with a small motion branch, and its processor."""
    from vqathinker.policy import MotionConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor

    folder = tmp_path_factory.mktemp("from_internvl")
    motion = MotionConfig(model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=64)
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, "random", motion)
    policy.save_pretrained(folder)
    VQAThinkerProcessor.from_internvl(internvl, policy.config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_policy(tmp_path_factory):
    """A tiny text-only Qwen2 and a tokenizer, for trainers of language models."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from vqathinker.synth import tiny_tokenizer

    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

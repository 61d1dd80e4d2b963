import pytest

from rewards import text_of
from vqathinker.training import VQAGRPOConfig


class Noted:
    """Pays by the text, so that there is a gradient at random weights, and notes what it was given."""

    __name__ = "noted"

    def __init__(self):
        self.calls = []

    def __call__(self, completions, **columns):
        self.calls.append(columns | {"completions": completions})
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def noted():
    return Noted()


@pytest.fixture
def config(tmp_path):
    """Makes a configuration: 2 clips x 2 answers a micro-batch, 2 micro-batches a step."""

    def make(**changes):
        settings = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "gradient_accumulation_steps": 2,
            "max_completion_length": 12,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "gradient_checkpointing": False,
        }
        return VQAGRPOConfig(**(settings | changes))

    return make

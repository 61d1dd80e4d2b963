import pytest

from vqathinker.training import VQAGRPOConfig


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

"""Where metrics are sent beside the console: what is missing for it is told before the policy is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations import integration_utils

_PROBES = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}
"""Name of a service -> its name in transformers' `is_..._available`, where that is another one."""
_INSTALLED_BY = {
    "tensorboard": "'.[tensorboard]' in a clone of the repository",
    "azure_ml": "azureml-mlflow",
    "flyte": "flytekit",
}
"""Name of a service -> what pip installs for it, where that is another name."""


def check_reporting(report_to: Sequence[str]) -> None:
    """Check that a run can report where its configuration says.

    Args:
        report_to: Names of services, as `TrainingArguments` leaves them.

    Raises:
        ValueError: If transformers does not know one.
        ImportError: If a package is missing.
    """
    known = integration_utils.INTEGRATION_TO_CALLBACK
    for name in report_to:
        if name not in known:
            raise ValueError(f"report_to={name!r}: must be 'none', 'all' or some of {', '.join(known)}.")
        available = getattr(integration_utils, f"is_{_PROBES.get(name, name)}_available", None)
        if available is not None and not available():
            raise ImportError(
                f"report_to={name!r}: its package is missing, or switched off in the environment. Run pip install "
                f"{_INSTALLED_BY.get(name, name)}, or set report_to: none; metrics.jsonl in output_dir always has all "
                "metrics."
            )

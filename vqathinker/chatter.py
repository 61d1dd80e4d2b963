"""What other libraries say during a training run, off unless asked for; and whether a run says what comes next."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

IMPORTING_VLLM = "vllm.triton_utils.importing"
"""Speaks while TRL imports vLLM, which is before a recipe knows its options."""

SAID = {
    IMPORTING_VLLM: "Triton is installed",
    "transformers.trainer_utils": "The tokenizer has new PAD/BOS/EOS tokens",
}
"""Logger -> how the messages start that tell of nothing to be done."""


class _HeldBack(logging.Filter):
    """Keeps messages with a certain start from a logger's handlers."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith(self.start):
            return True
        self.records.append(record)
        return False


_filters = {name: _HeldBack(start) for name, start in SAID.items()}
_switched_off: list[str] = []
"""What `set_verbose` has switched off, and switches on again; not what the user has."""


_hints = [True]


def hints() -> bool:
    """Whether a run says what its user can do next."""
    return _hints[-1]


@contextmanager
def without_hints() -> Iterator[None]:
    """Runs in here are steps of something larger, which itself says what comes next."""
    _hints.append(False)
    try:
        yield
    finally:
        _hints.pop()


def hold_back_imports() -> None:
    """Keep what vLLM says while it is imported until `set_verbose` decides about it."""
    logging.getLogger(IMPORTING_VLLM).addFilter(_filters[IMPORTING_VLLM])


def set_verbose(verbose: bool) -> None:
    """Let other libraries speak, or not. Warnings and errors beside those of `SAID` are always shown.

    Args:
        verbose: True: all that they say, what was held back too. False: no bars for weights that are loaded, none of
            the messages of `SAID`, and of vLLM warnings only, unless `VLLM_LOGGING_LEVEL` is set.
    """
    from transformers.utils import logging as transformers_logging

    vllm = logging.getLogger("vllm")
    if verbose:
        for name, held in _filters.items():
            logger = logging.getLogger(name)
            logger.removeFilter(held)
            for record in held.records:
                logger.handle(record)
        if "bars" in _switched_off:
            transformers_logging.enable_progress_bar()
        if "vllm" in _switched_off:
            vllm.setLevel(logging.INFO)
        _switched_off.clear()
    else:
        for name, held in _filters.items():
            logging.getLogger(name).addFilter(held)
        if transformers_logging.is_progress_bar_enabled():
            transformers_logging.disable_progress_bar()
            _switched_off.append("bars")
        if "VLLM_LOGGING_LEVEL" not in os.environ and vllm.level == logging.INFO:
            vllm.setLevel(logging.WARNING)
            _switched_off.append("vllm")
    for held in _filters.values():
        held.records.clear()

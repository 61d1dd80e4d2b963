"""Loading that ends in an error where transformers would fill weights up at random and only report it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

SHOWN = 3
"""Names in an error message."""


class IncompleteCheckpoint(ValueError):
    """The files of a checkpoint do not hold the model's weights: its message names some, and says what to do."""


def load_complete(
    load: Callable[..., Any], path: str | Path, *args: Any, new: str = "", left_out: str = "", **kwargs: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model whose weights are those of a checkpoint, all of them, and transformers' report of the loading.

    What transformers knows to be no fault is none here: weights tied to others, buffers that are not saved, and what a
    class names in `_keys_to_ignore_on_load_missing` and `_keys_to_ignore_on_load_unexpected`.

    Args:
        load: `from_pretrained` of a class of transformers.
        path: Checkpoint folder or hub id.
        args: For `load`.
        new: Regular expression of names that the checkpoint may lack, as these weights start here.
        left_out: Of names that it may have beside the model's.
        kwargs: For `load`.

    Raises:
        IncompleteCheckpoint: If weights are missing, left over or of another shape, or a file of them cannot be read.
    """
    kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # told below, with names
    try:
        model, report = load(path, *args, **kwargs)
    except (SafetensorError, FileNotFoundError) as error:
        raise IncompleteCheckpoint(
            f"{str(path)!r} has a missing or damaged weight file ({str(error).splitlines()[0]}): download or copy the "
            "whole folder again."
        ) from error
    except NotImplementedError as error:  # transformers 5.17 compares tied weights, of which one has not been loaded
        raise IncompleteCheckpoint(
            f"{str(path)!r} has a tied weight (head or token embedding) whose shape differs from its config.json: "
            "download or copy the whole folder again."
        ) from error
    total = len(model.state_dict())
    missing, unexpected = (
        [name for name in report[kind] if not (allowed and re.search(allowed, name))]
        for kind, allowed in (("missing_keys", new), ("unexpected_keys", left_out))
    )
    check_names(repr(str(path)), total, missing, unexpected, report["mismatched_keys"])
    return model, report


def check_names(
    source: str,
    total: int,
    missing: Collection[str],
    unexpected: Collection[str],
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> None:
    """Raise `IncompleteCheckpoint` with how the weights of a checkpoint differ from a model's.

    Args:
        source: The checkpoint, in words.
        total: How many weights the model has.
        missing: Names that the checkpoint lacks.
        unexpected: Names that the model has no place for.
        mismatched: Name, shape in the checkpoint and shape in the model.
    """
    shapes = [f"{name} {tuple(found)}, not {tuple(wanted)}" for name, found, wanted in mismatched]
    faults = {
        f"of {total} are missing": missing,
        f"of {total} have another shape": shapes,
        "have no place in the model": unexpected,
    }
    told = [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]
    if told:
        raise IncompleteCheckpoint(
            f"{source} does not hold the weights of the model: {'; '.join(told)}. Download or copy the whole folder "
            "again, with the config.json that its weights were saved with."
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")

"""Checkpoints' weights, read as tensors; no code of theirs runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every weight by name, mapped from the files."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = path / f"{stem}.index.json"
        if index.is_file():
            parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            return {name: tensor for part in parts for name, tensor in _read_file(path / part).items()}
        if (path / stem).is_file():
            return _read_file(path / stem)
    raise FileNotFoundError(
        f"no weights in {str(path)!r}: it has neither model.safetensors nor pytorch_model.bin, nor an index of either. "
        "Download the whole folder."
    )


def _read_file(file: Path) -> dict[str, torch.Tensor]:
    """One file's weights; a `.bin` file is unpickled as tensors only."""
    if not file.is_file():
        raise FileNotFoundError(f"{str(file)!r} is named in the index but missing: download the whole folder.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(
            f"{str(file)!r} is not a weight file ({str(error).splitlines()[0]}): download it again."
        ) from error

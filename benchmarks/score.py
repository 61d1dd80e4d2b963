"""Clips per second of `vqathinker score`, by engine, read-out and batch size."""

from __future__ import annotations

import gc
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.models import LARGE, TOY, make_clips, make_policy
from vqathinker.scoring import QualityScorer

CLIPS, TOKENS = 8, 64
"""Clips, and tokens of an answer."""
CASES = [
    ("transformers", "answer", 1),
    ("transformers", "answer", 8),
    ("transformers", "levels", 8),
    ("vllm", "answer", 8),
]
QUICK = [("transformers", "answer", 2), ("transformers", "levels", 2)]
"""Engine, read-out and batch size."""


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per case; vLLM's only where it is installed, and without a number where it finds too little memory."""
    size, clips, cases, tokens = (TOY, 3, QUICK, 4) if quick else (LARGE, CLIPS, CASES, TOKENS)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_policy(folder, size, motion=True)
        videos = [row.video for row in make_clips(folder, size, clips)]
        for engine, readout, batch in cases:
            if importlib.util.find_spec(engine) is None:
                continue
            settings = {"engine": engine, "readout": readout, "batch_size": batch, "max_new_tokens": tokens}
            gc.collect()
            try:
                scorer = QualityScorer.from_pretrained(folder, **settings)
            except ValueError as error:
                rows.append({**settings, "clips": clips, "error": str(error)})
                continue
            scorer.score(videos[0])  # an engine's first answer takes longer
            seconds = measure.clock(lambda scorer=scorer: list(scorer.score_many(videos)))
            rows.append({**settings, "clips": clips, "seconds": seconds, "clips_per_second": clips / seconds})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    found = [row.get("clips_per_second", row.get("error")) for row in rows]
    table = [[row["engine"], row["readout"], row["batch_size"], own] for row, own in zip(rows, found, strict=True)]
    measure.show("Scoring", ["engine", "read-out", "batch", "clips a second"], table)

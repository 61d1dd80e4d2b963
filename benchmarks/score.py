"""Clips per second of `vqathinker score`, by engine, read-out and batch size."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.models import LARGE, TOY, make_clips, make_policy
from vqathinker.scoring import QualityScorer

CLIPS, BATCHES, TOKENS = 8, (1, 4, 8), 64
"""Clips, batch sizes, and tokens of an answer."""


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per engine, read-out and batch size."""
    size, clips, batches, tokens = (TOY, 3, (2,), 4) if quick else (LARGE, CLIPS, BATCHES, TOKENS)
    engines = ["transformers"] + (["vllm"] if importlib.util.find_spec("vllm") and not quick else [])
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_policy(folder, size, motion=True)
        videos = [row.video for row in make_clips(folder, size, clips)]
        for engine, readout in [*((engine, "answer") for engine in engines), ("transformers", "levels")]:
            for batch in batches:
                settings = {"engine": engine, "readout": readout, "batch_size": batch, "max_new_tokens": tokens}
                scorer = QualityScorer.from_pretrained(folder, **settings)
                seconds = measure.clock(lambda scorer=scorer: list(scorer.score_many(videos)))
                rows.append({**settings, "clips": clips, "seconds": seconds, "clips_per_second": clips / seconds})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = [[row["engine"], row["readout"], row["batch_size"], row["clips_per_second"]] for row in rows]
    measure.show("Scoring", ["engine", "read-out", "batch", "clips a second"], table)

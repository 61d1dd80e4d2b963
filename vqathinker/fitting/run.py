"""`fit`: read ratings, split by source, warm start, GRPO, and judge before and after on the held-out clips.

It runs the recipes as they are, with options that are printed; every step that is done is not done again.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import logging
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from vqathinker.chatter import set_verbose, without_hints
from vqathinker.data import BenchmarkSet, label_table, write_labels
from vqathinker.data.check import check_data
from vqathinker.evaluation.comparison import score_set
from vqathinker.evaluation.plots import pyplot
from vqathinker.fitting.page import Outcome, described, write_page
from vqathinker.fitting.spec import FitSpec
from vqathinker.policy import check_checkpoint, load_processor
from vqathinker.scoring import QualityScorer, fingerprint, settings_of
from vqathinker.scoring.duration import in_words
from vqathinker.synth.default import BASE, copy_base
from vqathinker.training.small_set import (
    CONFIG,
    SFT_CONFIG,
    as_arguments,
    fitted_settings,
    fitted_warm_start,
    own_config,
)
from vqathinker.training.stopping import STOPPED

SHIPPED_ANSWER = 48
"""Tokens that an answer of the shipped policy may take: its traces take up to 30."""
WARM_START_SHARE, PACE_SHARE = 0.5, 0.1
"""Of the minutes: what the warm start, and finding out how long a step takes, may use up."""
PACE_BATCHES = 4
"""Generation batches that tell it; one of them has perturbed copies (`perturb_every` of own.yaml)."""
SHIPPED_NOTE = (
    "The shipped policy has 2 million parameters: it shows whether the ratings can be learned from these clips. Do not "
    "rely on its scores, nor on its reasoning."
)
SEEN_WELL = 0.5
"""Share of a frame below which it is told what that means."""
PAGE_SECONDS = 15
"""For the plots and the page."""
FILE = "fit.json"


def fit(spec: FitSpec, say: Callable[[str], None] = print) -> Outcome:
    """Fit a policy to ratings. A second call with the same arguments goes on where the first stopped.

    Args:
        spec: What to fit to what.
        say: Takes each line of what happens.

    Returns:
        What has come out; the page is `out/report.html`.

    Raises:
        LabelError: If the table cannot be used.
        ValueError: If clips cannot be read, `out` holds another fit, the memory or the time is too short.
        SystemExit: With `STOPPED` after Ctrl-C; a checkpoint is there then.
    """
    set_verbose(False)
    pyplot()  # what is missing at the end is told before anything is done
    if spec.model is not None:
        check_checkpoint(spec.model)
    run = _Run(spec, say)
    run.find()
    run.check()
    run.open()
    try:
        first = run.warm_start()
        before = run.score(first, "before")
        run.train(first)
        after = run.score(spec.out / "grpo", "after")
    except (SystemExit, KeyboardInterrupt) as stop:
        if isinstance(stop, SystemExit) and stop.code != STOPPED:
            raise
        say("`vqathinker fit` with the same arguments continues from here.")
        raise SystemExit(STOPPED) from None
    outcome = Outcome(spec, run.test, before, after, run.commands, run.notes)
    write_page(outcome, spec.out / "report.html")
    for sentence in outcome.sentences():
        say(sentence)
    say(f"Page: {spec.out}/report.html")
    return outcome


class _Run:
    """The steps of a fit, each of which leaves files that tell that it is done.

    Attributes:
        test: The held-out clips.
        commands: What was run -> the command that does the same.
        notes: What a reader of the page should know.
    """

    test: BenchmarkSet

    def __init__(self, spec: FitSpec, say: Callable[[str], None]) -> None:
        self.spec, self.say, self.start = spec, say, time.monotonic()
        self.commands: dict[str, str] = {}
        self.notes: list[str] = []
        self.state: dict[str, Any] = {}
        self.scoring_seconds = 0.0
        self.labels = {"train": spec.out / "data/train.csv", "test": spec.out / "data/test.csv"}
        for line in described(spec.table):
            say(line)
        parts = spec.parts
        self._note(f"{len(parts.train)} clips to train on, {len(parts.held_out)} held out: {parts.reason}.")

    def _note(self, line: str) -> None:
        """Say a line, and keep it for the page."""
        self.notes.append(line)
        self.say(line)

    @property
    def left(self) -> float:
        """Seconds."""
        return 60 * self.spec.minutes - (time.monotonic() - self.start)

    def find(self) -> None:
        """What the folder holds of this fit; one of another fit is refused."""
        out, told = self.spec.out, {k: str(v) for k, v in asdict(self.spec).items() if k not in ("out", "minutes")}
        told["rows"] = str([(row.video_id, round(row.mos, 6)) for row in self.spec.table.rows])
        file = out / FILE
        if file.exists():
            self.state = json.loads(file.read_text(encoding="utf-8"))
            other = [name for name, value in told.items() if self.state["spec"].get(name) != value]
            if len(other) > 1 and "rows" in other:
                other.remove("rows")  # which follow from the rest
            if other:
                raise ValueError(
                    f"--out {out} holds a fit with different {', '.join(other)}: choose another folder, or delete it."
                )
            self.say(f"{out} holds this fit already: resuming with what is missing")
        elif out.exists() and any(out.iterdir()):
            raise ValueError(f"--out {out} is not empty and holds no fit: choose another folder.")
        self.state["spec"] = told

    def open(self) -> None:
        """The folder and its label files."""
        self.spec.out.mkdir(parents=True, exist_ok=True)
        self.save()
        self._write_labels(self.labels)
        self.test = label_table(self.labels["test"], self.spec.videos, "identity")

    def _write_labels(self, files: Mapping[str, Path]) -> None:
        write_labels(self.spec.parts.train, files["train"])
        write_labels(self.spec.parts.held_out, files["test"])

    def save(self) -> None:
        """Keep what is decided."""
        (self.spec.out / FILE).write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")

    def check(self) -> None:
        """Every clip is opened; what training would meet ends the fit here, before anything is written."""
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder, file.name) for name, file in self.labels.items()}
            self._write_labels(files)
            found = check_data(files["train"], self.spec.videos, "identity", [files["test"]], progress=True)
        for finding in found.findings:
            if not finding.problem and finding.count:
                self.say(f"note: {finding.text()}")
        if problems := [replace(finding, fix="").text().rstrip("., ") for finding in found.problems]:
            raise ValueError(
                f"{self.spec.ratings}: {'; '.join(problems)}. Replace the files, or remove their rows from the table."
            )
        self._tell_what_is_seen([probe.size for probe in found.probes.values()])

    def _tell_what_is_seen(self, sizes: Sequence[tuple[int, int]]) -> None:
        """In one line, of the most common size."""
        with resources.as_file(BASE) as base:
            processor = load_processor(self.spec.model or base, view=self.spec.view)
        (size, count), *others = Counter(sizes).most_common()
        seen = processor.seen(*size)
        line = (
            f"The policy {seen.text} ({count} of {len(sizes)} "
            f"clips{'; the same view of other sizes' if others else ''})."
        )
        if seen.share < SEEN_WELL:
            line += " The rest of the frame is not seen; with --view resize all of it is, but fine distortions fade."
        self._note(line)
        if self.spec.model is None:
            self.notes.append(SHIPPED_NOTE)

    def warm_start(self) -> Path:
        """The policy to start from; the shipped base learns the answer's form first."""
        if self.spec.model is not None:
            return Path(self.spec.model)
        base, folder = self.spec.out / "base", self.spec.out / "sft"
        options = {"model": base, **self._data(), **self._view(), "output_dir": folder, "seed": self.spec.seed}
        copy_base(base)
        if "sft" not in self.state:
            self.state["sft"] = fitted_warm_start(str(base), len(self.spec.parts.train), {})
            self.save()
        options |= self.state["sft"]
        options["max_minutes"] = round(WARM_START_SHARE * self.spec.minutes, 2)
        self._recipe("warm start", "sft_lsvq", SFT_CONFIG, options, folder)
        done = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        if done < options["max_steps"]:
            self._note(
                f"The warm start stopped at step {done} of {options['max_steps']}, because half of the time was used "
                "up."
            )
        return folder

    def train(self, model: Path) -> None:
        """GRPO: its steps from the number of clips and the time that is left."""
        folder = self.spec.out / "grpo"
        options = {"model": model, **self._data(), "output_dir": folder, "seed": self.spec.seed}
        options |= self._view() if self.spec.model else {}  # a warm start's checkpoint has it already
        if "grpo" not in self.state:
            given = {} if self.spec.model else {"max_completion_length": SHIPPED_ANSWER}
            settings = given | fitted_settings(str(model), len(self.spec.parts.train), given)
            self.state["grpo"] = self._in_time(options | settings, settings)
            self.save()
        options |= self.state["grpo"]
        options["max_minutes"] = round(max(1.0, self.left - self.reserve) / 60, 2)
        self._recipe("GRPO", "grpo_lsvq", CONFIG, options, folder)

    @property
    def reserve(self) -> float:
        """Seconds for judging the trained policy."""
        return 1.2 * self.scoring_seconds + PAGE_SECONDS

    def _in_time(self, options: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """The settings with as many steps as the time allows, told from a few steps that are thrown away."""
        rounds = settings["steps_per_generation"] // settings["gradient_accumulation_steps"]
        folder = self.spec.out / "pace"
        tried = {**options, "output_dir": folder, "max_steps": PACE_BATCHES * rounds, "logging_steps": rounds}
        tried["max_minutes"] = round(PACE_SHARE * self.spec.minutes, 2)
        self.say(f"measuring how long a step takes, on {PACE_BATCHES} generation batches that are then discarded:")
        logging.disable(logging.WARNING)  # what there is to say is said by the run itself
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._main("grpo_lsvq", CONFIG, {**tried, "save_strategy": "no", "overwrite_output_dir": True})
        finally:
            logging.disable(logging.NOTSET)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [entry for entry in map(json.loads, lines) if "step_time" in entry]
        seconds = sum(entry["step_time"] for entry in entries) / len(entries)
        shutil.rmtree(folder)
        left = self.left - self.reserve
        steps = min(settings["max_steps"], int(left / seconds) // rounds * rounds)
        if steps < rounds:
            raise ValueError(
                f"--minutes {self.spec.minutes:g} is too short: a generation batch takes {in_words(seconds * rounds)}, "
                f"and {in_words(max(0.0, left))} are left besides warm start and scoring. Raise --minutes; finished "
                "work is kept."
            )
        passes = steps * settings["per_device_train_batch_size"] / settings["num_generations"]
        passes *= settings["gradient_accumulation_steps"] / len(self.spec.parts.train)
        why = "as many as the time allows" if steps < settings["max_steps"] else "as many as a set of this size needs"
        self.say(f"{seconds:.2g} s per step: {steps} steps, {passes:.1f} passes over the clips, {why}")
        return settings | {"max_steps": steps, "save_steps": max(1, steps // rounds // 4) * rounds}

    def score(self, model: Path, name: str) -> Sequence[Mapping[str, Any]]:
        """The held-out clips, by one greedy answer each; what is in the table is not scored again."""
        self.say(f"scoring the {len(self.spec.parts.held_out)} held-out clips {name} GRPO, with {model}")
        began = time.monotonic()
        longest = None if self.spec.model else SHIPPED_ANSWER
        scorer = QualityScorer.from_pretrained(model, view=self.spec.view, max_new_tokens=longest)
        rows = score_set(scorer, self.test, self.spec.parts.held_out, self.spec.out, fingerprint(settings_of(scorer)))
        del scorer
        _free()
        self.scoring_seconds = max(self.scoring_seconds, time.monotonic() - began)
        return rows

    def _view(self) -> dict[str, Any]:
        return {"view": self.spec.view} if self.spec.view else {}

    def _data(self) -> dict[str, Any]:
        data = {"train_labels": self.labels["train"], "video_root": self.spec.videos, "mos_scale": "identity"}
        return data | {"frame_cache": self.spec.out / "cache"}

    def _recipe(self, title: str, name: str, config: str, options: dict[str, Any], folder: Path) -> None:
        """Run a recipe, unless its policy is there; from its newest checkpoint, if it has one."""
        named = {key: value.resolve() if isinstance(value, Path) else value for key, value in options.items()}
        shown = ["vqathinker", "train", name, "--config", str(own_config(config)), *as_arguments(named)]
        self.commands[title] = shlex.join(shown)
        if (folder / "trainer_state.json").exists():  # written last
            return
        self.say(f"{title}: {self.commands[title]}")
        if any(folder.glob("checkpoint-*")):
            options["resume_from_checkpoint"] = "true"
        self._main(name, config, options)

    def _main(self, name: str, config: str, options: Mapping[str, Any]) -> None:
        recipe = importlib.import_module(f"vqathinker.recipes.{name}")
        with without_hints():
            recipe.main(["--config", str(own_config(config)), *as_arguments(options)])
        _free()


def _free() -> None:
    """Give back what a policy that nothing refers to any more took, before the next one is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

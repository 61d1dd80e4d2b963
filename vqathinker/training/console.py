"""What a run shows while it trains: a row per logging step, validations, signs of a collapse; and a file of metrics."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from vqathinker.chatter import hints
from vqathinker.policy import VQAThinkerProcessor, not_as_trained
from vqathinker.training.collapse import CollapseWatch

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from vqathinker.policy import VQAThinkerForConditionalGeneration

METRICS_FILE = "metrics.jsonl"
"""In `output_dir`: one object per entry of the log."""
HEADER_EVERY = 20
"""Rows under one header."""
WIDTH = 7
"""Characters of a cell at least."""
MIN_PARSED = 0.5
"""Share of the first answers with a number below which it is told that a policy is shown or asked something new."""
_NOT_SHOWN = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class Column:
    """A column of the table of a run.

    Attributes:
        title: Header.
        read: Takes the values of a row, gives the cell's, `None` where it is unknown.
        form: How numbers are written.
        always: Whether the column is there before it has a value.
    """

    title: str
    read: Callable[[Mapping[str, Any]], float | None]
    form: str
    always: bool = False

    def cell(self, values: Mapping[str, Any]) -> str:
        """The cell, as wide as the header or wider; "-" if it is unknown."""
        value = self.read(values)
        text = "-" if value is None else format(value, self.form)
        return text.rjust(max(len(self.title), WIDTH))


def _of(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda values: values.get(name)


def _options_named(values: Mapping[str, Any]) -> float | None:
    unparsable = values.get("quality/choice_unparsable")
    return None if unparsable is None else 1 - unparsable


GRPO_COLUMNS = (
    Column("reward", _of("reward"), ".3f", always=True),
    Column("val SRCC", _of("eval_srcc"), ".3f"),
    Column("val accuracy", _of("eval_choice_accuracy"), ".3f"),
    Column("parsed", _of("quality/parse_rate"), ".2f"),
    Column("options named", _options_named, ".2f"),
    Column("KL", _of("kl"), ".4f"),
    Column("length", _of("completions/mean_length"), ".1f", always=True),
)
"""Of GRPO: mean total reward; the newest validation; share of answers with a number, or that name an option; KL penalty
before its weight; tokens of an answer."""
SUPERVISED_COLUMNS = (
    Column("loss", _of("loss"), ".4f", always=True),
    Column("val loss", _of("eval_loss"), ".4f"),
    Column("grad norm", _of("grad_norm"), ".3f", always=True),
    Column("lr", _of("learning_rate"), ".2e", always=True),
)
"""Of the supervised warm start."""
TITLES = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "parse_rate": "parsed",
    "choice_accuracy": "accuracy",
    "choice_unparsable": "no option named",
    "choice_consistency": "same in all orders",
    "choice_severity": "nearness of steps",
    "when_iou": "IoU of intervals",
    "when_hit": "above 0.5",
    "when_unparsable": "no interval",
    "where_iou": "IoU of boxes",
    "where_hit": "above 0.5",
    "where_unparsable": "no box",
    "count_accuracy": "counts right",
    "count_error": "error of counts",
    "count_unparsable": "no count",
    "compare_accuracy": "pairs right",
    "compare_unparsable": "no comparison",
    "compare_first_bias": "bias to the first",
    "compare_consistency": "same in both orders",
    "skipped_clips": "unreadable clips",
}
"""Metric of a validation -> its name in the line."""


def validation_prefix(logs: Mapping[str, Any]) -> str | None:
    """`"eval"`, or `"eval_NAME"` of one of several sets; `None` for a log that is of no validation."""
    ends = [name.removesuffix("_runtime") for name in logs if name.endswith("_runtime")]
    return next((prefix for prefix in ends if prefix != "train"), None)


def validation_line(logs: Mapping[str, Any], prefix: str) -> str:
    """What a validation found, on one line.

    Args:
        logs: As `trainer.log` gets it.
        prefix: Of its metrics' names.
    """
    found = {name.removeprefix(f"{prefix}_"): value for name, value in logs.items() if name.startswith(f"{prefix}_")}
    values = {name: value for name, value in found.items() if name not in _NOT_SHOWN}
    if "parse_rate" in values:  # correlations that are undefined are left out of the log
        values = {"srcc": None, "plcc": None} | values
    if not values.get("skipped_clips"):
        values.pop("skipped_clips", None)
    shown = [f"{TITLES.get(name, name)} {_short(value, name)}" for name, value in values.items()]
    name = prefix.removeprefix("eval").removeprefix("_")
    return f"validation{' ' if name else ''}{name}: {', '.join(shown)}"


def _short(value: Any, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name == "skipped_clips" else f"{value:.3f}"


class DropUnknown(TrainerCallback):
    """Takes metrics that are unknown in a step (`None`) out of what the callbacks after it get: TensorBoard warns of
    each. The state's `log_history` has them all the same."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As every callback's `on_log`."""
        for name in [name for name, value in (logs or {}).items() if value is None]:
            del (logs or {})[name]


class MetricsFile(TrainerCallback):
    """Writes every entry of the log to `metrics.jsonl` in `output_dir`, as it comes: `step` and the metrics that are
    known; `null` for what is not finite, for which JSON has no number. A run that goes on starts from the entries that
    its checkpoint knows. The main process writes."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """As every callback's."""
        if state.is_world_process_zero:
            file = self._file(args)
            file.write_text("".join(map(self._line, state.log_history)), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As every callback's."""
        if state.is_world_process_zero:
            with self._file(args).open("a", encoding="utf-8") as file:
                file.write(self._line({**(logs or {}), "step": state.global_step}))

    @staticmethod
    def _file(args: TrainingArguments) -> Path:
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / METRICS_FILE

    @staticmethod
    def _line(entry: Mapping[str, Any]) -> str:
        known = {"step": entry["step"]} | {name: value for name, value in entry.items() if value is not None}
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in known.items()
        }
        return json.dumps(finite, default=float) + "\n"


class Console(TrainerCallback):
    """Prints a row per logging step, a line per validation, and a warning for each sign of a collapse.

    The main process prints, to stdout. On a terminal a bar stays below the rows, unless `disable_tqdm` is set.

    Args:
        clock: Seconds.
        write: Takes a line.
        changed: What the policy is shown or asked otherwise than before this training, see `not_as_trained`: few
            numbers in its first answers are then told.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
        changed: str = "",
    ) -> None:
        self._clock, self._write, self._changed = clock, write or _print, changed
        self._bar: tqdm | None = None
        self._columns: list[Column] = []
        self._rows = 0
        self._begin(0)

    def _begin(self, step: int) -> None:
        self._watch = CollapseWatch()
        self._validation: dict[str, Any] = {}
        self._first_step = self._step = step
        self._spent, self._since = 0.0, self._clock()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up what a run that goes on has logged."""
        self._begin(state.global_step)
        for entry in state.log_history:
            self._watch.update(entry)
            if prefix := validation_prefix(entry):
                self._take_validation(entry, prefix)
        if state.log_history:  # its first answers were before
            self._changed = ""
        hidden = args.disable_tqdm or not state.is_world_process_zero
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=True if hidden else None,  # None: shown on a terminal only
        )

    def _take_validation(self, logs: Mapping[str, Any], prefix: str) -> None:
        older = {name: value for name, value in self._validation.items() if not name.startswith(f"{prefix}_")}
        self._validation = {**older, **logs}  # what is undefined now is not in the log

    def _warn_of_change(self, logs: Mapping[str, Any], state: TrainerState) -> None:
        """Where few of a policy's first answers have a number, and it is shown or asked something new, say so."""
        parsed = logs.get("quality/parse_rate", logs.get("eval_parse_rate"))
        if not self._changed or parsed is None:
            return
        if parsed < MIN_PARSED:
            self._write(
                f"{self._place(state)}  warning: {parsed:.0%} of the first answers have a number, and the policy was "
                f"trained differently: {self._changed}. Do a short warm start with the change (recipes/sft_lsvq.py), "
                "or undo it"
            )
        self._changed = ""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show a row, or a validation."""
        logs = logs or {}
        if not state.is_world_process_zero:
            return
        if prefix := validation_prefix(logs):
            self._take_validation(logs, prefix)
            self._since = min(self._clock(), self._since + logs[f"{prefix}_runtime"])  # not a step's time
            self._write(f"{self._place(state)}  {validation_line(logs, prefix)}")
        elif "loss" in logs:
            self._row(logs, state)
            for sign in self._watch.update(logs):
                value = self._watch.shown[sign]
                self._write(
                    f"{self._place(state)}  warning: {sign.metric} {value:.3g}, {sign.rule}: {sign.means} "
                    "(docs/rewards.md, What warns of a collapse)"
                )
        self._warn_of_change(logs, state)

    def _row(self, logs: Mapping[str, Any], state: TrainerState) -> None:
        now, steps = self._clock(), state.global_step - self._step
        taken = now - self._since
        self._spent += taken
        self._since, self._step = now, state.global_step
        draws = "reward" in logs or GRPO_COLUMNS[0] in self._columns  # a run that does, though not in each step
        every = GRPO_COLUMNS if draws else SUPERVISED_COLUMNS
        values = {**self._validation, **logs}
        columns = [c for c in every if c.always or c in self._columns or c.read(values) is not None]
        if columns != self._columns or self._rows % HEADER_EVERY == 0:
            titles = [column.title.rjust(max(len(column.title), WIDTH)) for column in columns]
            self._write("  ".join(["step".rjust(len(self._place(state))), *titles, " s/step", "   left"]))
            self._columns, self._rows = columns, 0
        self._rows += 1
        each = self._spent / max(1, state.global_step - self._first_step)
        left = timedelta(seconds=round(each * max(0, state.max_steps - state.global_step)))
        cells = [column.cell(values) for column in columns]
        pace = f"{taken / steps:7.2f}" if steps else "      -"
        self._write("  ".join([self._place(state), *cells, pace, str(left).rjust(7)]))

    @staticmethod
    def _place(state: TrainerState) -> str:
        last = str(state.max_steps)
        return f"{state.global_step:>{len(last)}}/{last}".rjust(len("step"))


def _print(line: str) -> None:
    tqdm.write(line, file=sys.stdout)  # above a bar, if there is one
    sys.stdout.flush()  # a pipe would keep the rows for long


def add_console(trainer: Trainer) -> None:
    """Show rows in place of transformers' bar and dicts, write `metrics.jsonl`, and keep `None` from loggers.

    Args:
        trainer: Any `Trainer`. A callback that its maker gave it stays.
    """
    callbacks = trainer.callback_handler.callbacks
    for place in reversed(range(len(callbacks))):  # transformers' own comes behind those that it was given
        if type(callbacks[place]) in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
            del callbacks[place]
            break
    callbacks.insert(0, DropUnknown())
    processor = trainer.processing_class
    changed = not_as_trained(processor) if isinstance(processor, VQAThinkerProcessor) else ""
    callbacks += [Console(changed=changed), MetricsFile()]


def parts_line(policy: VQAThinkerForConditionalGeneration, frozen: Sequence[str], adapter: bool = False) -> str:
    """What of a policy is trained, and what stays as it is.

    Args:
        policy: After `freeze` and `unfreeze`.
        frozen: The parts that it was given.
        adapter: Whether an adapter is trained instead of the weights.
    """
    every = sum(p.numel() for p in policy.parameters())
    own = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    fixed = [part for stream in policy.streams for part in stream.fixed]
    left = [part for part in fixed if not any(p.requires_grad for p in getattr(policy.model, part).parameters())]
    kept = ", ".join(dict.fromkeys([*frozen, *left]))
    what = "an adapter of the language model" if adapter else f"{own:,} of {every:,} parameters"
    return f"trained: {what}" + (f"; as they are: {kept}" if kept else "")


def closing_summary(state: TrainerState, args: TrainingArguments, next_steps: Sequence[str] = ()) -> str:
    """What a run has reached, where its policy is, and what can be done with it.

    Args:
        state: The trainer's, after training.
        args: The trainer's, with the folder that the policy was saved to.
        next_steps: Commands.

    Returns:
        Text of a few lines. Rewards and losses are means of the first and of the last eighth of the rows.
    """
    history = state.log_history
    seconds = next((entry["train_runtime"] for entry in reversed(history) if "train_runtime" in entry), None)
    took = "" if seconds is None else f" in {timedelta(seconds=round(seconds))}"
    lines = ["", f"Trained to step {state.global_step} of {state.max_steps}{took}."]
    lines += _before_and_after(history)
    watch = CollapseWatch()
    for entry in history:
        watch.update(entry)
    for sign, value in watch.shown.items():
        lines.append(f"  warning: {sign.metric} {value:.3g} at the end, {sign.rule}: {sign.means}")
    best = f" (the best, from step {state.best_global_step})" if _keeps_best(state, args) else ""
    lines.append(f"Policy:   {args.output_dir}{best}")
    boards = f"; tensorboard --logdir {args.output_dir}" if "tensorboard" in (args.report_to or []) else ""
    lines.append(f"Metrics:  {args.output_dir}/{METRICS_FILE}{boards}")
    if hints():
        lines += [f"{'' if i else 'Next:':<8}  {command}" for i, command in enumerate(next_steps)]
    return "\n".join(lines)


def _keeps_best(state: TrainerState, args: TrainingArguments) -> bool:
    return bool(args.load_best_model_at_end and state.best_model_checkpoint)


def _before_and_after(history: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [entry for entry in history if "loss" in entry]
    lines = []
    for column in GRPO_COLUMNS if any("reward" in row for row in rows) else SUPERVISED_COLUMNS:
        if column.title.startswith("val "):
            lines += _validations(column, history)
            continue
        known = [value for row in rows if (value := column.read(row)) is not None]
        share = math.ceil(len(known) / 8)
        if column.title in ("reward", "loss", "parsed", "options named", "length") and known:
            before, after = (sum(part) / share for part in (known[:share], known[-share:]))
            lines.append(f"  {column.title:<13} {before:{column.form}} -> {after:{column.form}}")
    return lines


def _validations(column: Column, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first validation, the last and the best."""
    found = [(value, entry["step"]) for entry in history if (value := column.read(entry)) is not None]
    if not found:
        return []
    (before, first), (after, last) = found[0], found[-1]
    if len(found) == 1:
        return [f"  {column.title:<13} {before:.3f} (step {first})"]
    best, when = (min if column.title == "val loss" else max)(found, key=lambda pair: pair[0])
    change = f"{before:.3f} (step {first}) -> {after:.3f} (step {last}); best {best:.3f} (step {when})"
    return [f"  {column.title:<13} {change}"]

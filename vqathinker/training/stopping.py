"""Ending a run early without losing it: after some minutes, or at Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from vqathinker.chatter import hints

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

STOPPED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""


def generation_period(args: TrainingArguments) -> int:
    """Steps that share one generation batch; between two of them a run could not be resumed exactly. 1 without GRPO."""
    shared = getattr(args, "steps_per_generation", None)
    if shared is None:
        return 1
    micro = args.gradient_accumulation_steps
    return math.lcm(shared * getattr(args, "num_iterations", 1), micro) // micro


class StopEarly(TrainerCallback):
    """Ends training after some minutes, or at the first Ctrl-C, which also saves a checkpoint. Both at the end of a
    generation batch, from where it can be resumed; a second Ctrl-C ends it at once. In a run of several processes
    Ctrl-C is left to the launcher.

    Args:
        minutes: Of training, without loading, > 0; `None`: no limit.

    Attributes:
        interrupted: Whether Ctrl-C has been pressed.
        timed_out: Whether the time was over before the last step.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.interrupted = self.timed_out = False
        self._start = 0.0
        self._before: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, and listen."""
        self._start = time.monotonic()
        if args.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(
            "\nCtrl-C: stopping after this generation batch, with a checkpoint. Press Ctrl-C again to stop at "
            "once, without one.",
            file=sys.stderr,
            flush=True,
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End training where it is time to, and can be."""
        late = time.monotonic() - self._start >= self.seconds
        if not (self.interrupted or late) or state.global_step % generation_period(args):
            return
        control.should_training_stop = True
        control.should_save = control.should_save or self.interrupted
        self.timed_out = late and state.global_step < state.max_steps
        if self.timed_out and state.is_world_process_zero:
            print(f"max_minutes={self.seconds / 60:g} are over: training ends at step {state.global_step}.", flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave Ctrl-C as it was."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def exit_if_interrupted(self, state: TrainerState, args: TrainingArguments) -> None:
        """End the process after Ctrl-C, and say how to go on.

        Raises:
            SystemExit: With `STOPPED`, if Ctrl-C was pressed before the last step.
        """
        if not self.interrupted or state.global_step >= state.max_steps:
            return
        checkpoint = f"{args.output_dir}/checkpoint-{state.global_step}"
        following = " Continue with the same command and --resume-from-checkpoint true." if hints() else ""
        print(
            f"Stopped at step {state.global_step} of {state.max_steps}; checkpoint: {checkpoint}.{following}",
            flush=True,
        )
        raise SystemExit(STOPPED)

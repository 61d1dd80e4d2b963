"""Ending a run early: after some minutes, and at Ctrl-C."""

import os
import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from vqathinker.training.stopping import StopEarly, generation_period


def args(**changed):
    known = {"world_size": 1, "steps_per_generation": 4, "num_iterations": 1, "gradient_accumulation_steps": 1}
    return SimpleNamespace(**{**known, "output_dir": "out", **changed})


def run(stopping, own=None, steps=12, during=lambda step: None):
    """Steps until training stops, and whether a checkpoint was asked for."""
    own, state, control = own or args(), TrainerState(max_steps=steps), TrainerControl()
    stopping.on_train_begin(own, state, control)
    while state.global_step < steps and not control.should_training_stop:
        state.global_step += 1
        during(state.global_step)
        stopping.on_step_end(own, state, control)
    stopping.on_train_end(own, state, control)
    return state, control.should_save


def test_period_is_that_of_a_generation_batch():
    assert generation_period(args()) == 4
    assert generation_period(args(gradient_accumulation_steps=2)) == 2
    assert generation_period(args(gradient_accumulation_steps=3, steps_per_generation=4)) == 4
    assert generation_period(args(num_iterations=2)) == 8
    assert generation_period(SimpleNamespace(gradient_accumulation_steps=2)) == 1  # the warm start


def test_without_a_limit_nothing_stops():
    stopping = StopEarly()
    assert run(stopping)[0].global_step == 12
    assert not stopping.timed_out


def test_the_time_ends_it_where_a_generation_batch_ends():
    stopping = StopEarly(minutes=1e-9)
    state, saved = run(stopping)
    assert (state.global_step, stopping.timed_out, saved) == (4, True, False)


def test_time_over_at_the_last_step_is_no_early_end():
    stopping = StopEarly(minutes=1e-9)
    assert run(stopping, steps=4)[0].global_step == 4
    assert not stopping.timed_out


def test_ctrl_c_ends_it_with_a_checkpoint_and_leaves_the_handler_as_it_was(capsys):
    before = signal.getsignal(signal.SIGINT)
    stopping = StopEarly()
    state, saved = run(stopping, during=lambda step: step == 2 and os.kill(os.getpid(), signal.SIGINT))
    assert (state.global_step, saved, stopping.interrupted) == (4, True, True)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this generation batch" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        stopping.exit_if_interrupted(state, args())
    assert stopped.value.code == 130
    assert (
        "out/checkpoint-4. Continue with the same command and --resume-from-checkpoint true" in capsys.readouterr().out
    )


def test_a_second_ctrl_c_ends_it_at_once():
    stopping = StopEarly()
    with pytest.raises(KeyboardInterrupt):
        run(stopping, during=lambda step: os.kill(os.getpid(), signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_run_of_several_processes_leaves_ctrl_c_to_the_launcher():
    before = signal.getsignal(signal.SIGINT)
    StopEarly().on_train_begin(args(world_size=2), TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGINT) is before

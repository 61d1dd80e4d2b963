"""The prompts of the published code, to the letter: trained weights expect them."""

from __future__ import annotations

QUESTION = (
    "You are doing the video quality assessment task. Here is the question: What is your overall rating on the "
    "quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
    "representing very poor quality and 5 representing excellent quality."
)
INSTRUCTION = (
    "First output the thinking process in <think> </think> tags and then output the final answer in "
    "<answer> </answer> tags."
)
STYLES = ("train", "test")
"""`"train"`: line breaks between the parts. `"test"`: none (published test script)."""


def video_prompt(frames: list[str], motion: str, style: str = "train", question: str = QUESTION) -> str:
    """The user's message.

    Args:
        frames: One placeholder text per frame.
        motion: The motion placeholder, "" without a motion branch.
        style: One of `STYLES`.
        question: The question, without the instruction on the answer's format.
    """
    if style == "train":
        lines = [f"Frame{i}:{frame}" for i, frame in enumerate(frames, start=1)]
        lines += [f"Motion Feature:{motion}"] if motion else []
        return "\n".join(["Now you will receive a video:", *lines, f"{question} {INSTRUCTION}"])
    parts = [f"Frame{i}: {frame}" for i, frame in enumerate(frames, start=1)]
    parts += [f"Motion Feature: {motion}"] if motion else []
    return "".join(["Now you will receive a video:", *parts, question, INSTRUCTION])

"""How the page looks, and which handler each button calls."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vqathinker.chat import texts
from vqathinker.chat.handlers import Handlers, sentence
from vqathinker.scoring.conversation import Turn
from vqathinker.scoring.timeline import STEP, WINDOW

logger = logging.getLogger(__name__)
OWN = {"api_visibility": "private"}
"""Of every event: buttons are pressed, not called by programs."""
DELETED = (600, 6 * 3600)
"""Seconds from one look for old uploads to the next, and their age from which they are deleted."""
AT_ONCE = {"show_progress": "hidden", **OWN}
"""Of events that empty what is shown: a sign of waiting would lie over what stands beside it."""
POLICY = {"concurrency_id": "policy", "concurrency_limit": 1, **OWN}
"""Of events that ask the policy: one at a time."""
Talk = tuple[list[Turn], texts.Said]
"""A conversation as the policy is shown it, and as the page shows it."""


def make_page(handlers: Handlers, about: str, folder: Path) -> gr.Blocks:
    """The page, not yet served.

    Args:
        handlers: What the buttons call.
        about: What stands at its top, see `texts.about`.
        folder: Where plots and tables go.
    """
    with gr.Blocks(title="vqathinker", analytics_enabled=False, delete_cache=DELETED) as page:
        gr.Markdown(about)
        with gr.Tab("One clip"):
            _one_clip(handlers, folder)
        with gr.Tab("Compare two"):
            _two_clips(handlers)
        with gr.Tab("Many files"):
            _many_files(handlers, folder)
    return page


# ---------------------------------------------------------------- one clip


class _Clip(NamedTuple):
    video: gr.Video
    example: gr.Dropdown
    frames: gr.Gallery
    seen: gr.HTML
    score: gr.Button
    card: gr.HTML


class _Questions(NamedTuple):
    chat: gr.Chatbot
    question: gr.Textbox
    options: gr.Textbox
    ask: gr.Button
    forget: gr.Button
    alone: gr.Checkbox


class _OverTime(NamedTuple):
    window: gr.Number
    step: gr.Number
    draw: gr.Button
    summary: gr.HTML
    plot: gr.Image


def _one_clip(handlers: Handlers, folder: Path) -> None:
    """The tab of one clip. Which one it is and what was said of it is kept for each visitor."""
    path, talk = gr.State(None), gr.State(([], []))
    clip, message, asking, over_time = _clip(handlers), _message("message"), _questions(), _over_time()
    everything = [path, clip.frames, clip.seen, clip.card, talk, asking.chat]
    everything += [over_time.plot, over_time.summary, message]

    def emptied() -> tuple[Any, ...]:
        return None, [], "", "", ([], []), [], None, "", gr.HTML("", visible=False)

    def looked(chosen: str | None) -> tuple[Any, ...]:
        found = handlers.look(chosen)
        return chosen, found.frames, f"<p>{escape(found.text)}</p>"

    look, shown = {"show_progress_on": clip.frames, **POLICY}, [path, clip.frames, clip.seen, message]
    clip.video.upload(emptied, None, everything, **AT_ONCE).then(told(looked, 3), clip.video, shown, **look)
    picked = clip.example.input(emptied, None, everything, **AT_ONCE)
    picked = picked.then(handlers.examples.get, clip.example, clip.video, **OWN)
    picked.then(told(lambda name: looked(handlers.examples.get(name)), 3), clip.example, shown, **look)
    clip.video.clear(emptied, None, everything, **AT_ONCE)
    _answer(handlers, clip, asking, path, talk, message)
    _draw(handlers, folder, over_time, path, message)


def _clip(handlers: Handlers) -> _Clip:
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            video = gr.Video(sources=["upload"], label="Clip", height=280, elem_id="clip")
            example = _examples(handlers)
        with gr.Column(scale=3, min_width=320):
            how: dict[str, Any] = {"format": "png", "columns": 6, "height": 160, "object_fit": "contain"}
            # without its label, which would lie over the first of them; the text below says what they are
            frames = gr.Gallery(show_label=False, interactive=False, buttons=[], elem_id="frames", **how)
            seen = gr.HTML(elem_id="seen")
            score = gr.Button("Score", variant="primary", elem_id="score")
            card = gr.HTML(elem_id="card")
    return _Clip(video, example, frames, seen, score, card)


def _questions() -> _Questions:
    chat = gr.Chatbot(
        label="Conversation", render_markdown=False, height=320, feedback_options=None, buttons=[], elem_id="chat"
    )
    bare: dict[str, Any] = {"show_label": False, "container": False}
    with gr.Row():
        question = gr.Textbox(placeholder="What is wrong with this clip?", scale=6, elem_id="question", **bare)
        options = gr.Textbox(placeholder="options, if any: Blur; Noise", scale=3, elem_id="options", **bare)
        ask = gr.Button("Ask", scale=1, min_width=80, elem_id="ask")
        forget = gr.Button("Start over", scale=1, min_width=120, elem_id="forget")
    alone = gr.Checkbox(label="Ask without what was said before", elem_id="alone")
    gr.Markdown(texts.CONVERSATION)
    return _Questions(chat, question, options, ask, forget, alone)


def _over_time() -> _OverTime:
    with gr.Accordion("Score over time", open=False, elem_id="over_time"):
        with gr.Row():
            window = gr.Number(WINDOW, label="Window, in seconds")
            step = gr.Number(STEP, label="From one window to the next, in seconds")
            draw = gr.Button("Draw", elem_id="draw")
        summary = gr.HTML(elem_id="summary")
        plot = gr.Image(label="Score over time", format="png", interactive=False, buttons=["download"], elem_id="plot")
    return _OverTime(window, step, draw, summary, plot)


def _answer(
    handlers: Handlers, clip: _Clip, asking: _Questions, path: gr.State, talk: gr.State, message: gr.HTML
) -> None:
    """Scoring and asking, and starting over."""

    def scored(chosen: str | None) -> tuple[Any, ...]:
        result, turns = handlers.score(chosen)
        said = [part for turn in turns for part in texts.messages(turn, texts.first_of(result))]
        return texts.card(result), (turns, said), said

    def asked(chosen: str | None, text: str, options: str, known: Talk, alone: bool) -> tuple[Any, ...]:
        answer, turns = handlers.ask(chosen, text, options, known[0], alone)
        agreement = "" if math.isnan(answer.agreement) else f"{answer.agreement:.0%} of the sampled answers say so"
        said = [*known[1], *texts.messages(turns[-1], agreement)]
        return (turns, said), said, "", ""  # the next question has its own options, or none

    changed = [clip.card, talk, asking.chat, message]
    clip.score.click(told(scored, 3), path, changed, show_progress_on=clip.card, **POLICY)
    given = [path, asking.question, asking.options, talk, asking.alone]
    changed = [talk, asking.chat, asking.question, asking.options, message]
    for event in (asking.ask.click, asking.question.submit, asking.options.submit):
        event(told(asked, 4), given, changed, show_progress_on=asking.chat, **POLICY)
    for event in (asking.forget.click, asking.chat.clear):
        event(lambda: (([], []), []), None, [talk, asking.chat], **AT_ONCE)


def _draw(handlers: Handlers, folder: Path, over_time: _OverTime, path: gr.State, message: gr.HTML) -> None:
    def drawn(chosen: str | None, window: float | None, step: float | None) -> tuple[Any, ...]:
        found, picture = handlers.timeline(chosen, window, step, folder)
        return str(picture), texts.summary(found)

    given, changed = [path, over_time.window, over_time.step], [over_time.plot, over_time.summary, message]
    over_time.draw.click(told(drawn, 2), given, changed, show_progress_on=over_time.plot, **POLICY)


# ---------------------------------------------------------------- two clips, many files


def _two_clips(handlers: Handlers) -> None:
    paths = gr.State(None), gr.State(None)
    verdict, message = gr.HTML(elem_id="verdict", render=False), _message("message_two")

    def emptied() -> tuple[Any, ...]:
        return "", gr.HTML("", visible=False)

    with gr.Row():
        for place, path in zip(("First", "Second"), paths, strict=True):
            with gr.Column():
                video = gr.Video(sources=["upload"], label=f"{place} clip", height=260, elem_id=f"clip_{place.lower()}")
                example = _examples(handlers)
            video.upload(lambda file: file, video, path, **OWN)
            video.clear(lambda: None, None, path, **OWN)
            example.input(lambda name: (handlers.examples.get(name),) * 2, example, [video, path], **OWN)
            for event in (video.upload, video.clear, example.input):  # a verdict is of the clips that are shown
                event(emptied, None, [verdict, message], **AT_ONCE)
    compare = gr.Button("Compare", variant="primary", elem_id="compare")
    verdict.render()

    def compared(first: str | None, second: str | None) -> str:
        return texts.verdict(handlers.compare(first, second))

    compare.click(told(compared, 1), [*paths], [verdict, message], show_progress_on=verdict, **POLICY)


def _many_files(handlers: Handlers, folder: Path) -> None:
    message = _message("message_many")
    files = gr.File(file_count="multiple", label="Files", elem_id="files")
    score = gr.Button("Score all", variant="primary", elem_id="score_all")
    how: dict[str, Any] = {"interactive": False, "wrap": True, "column_widths": texts.WIDTHS}
    table = gr.Dataframe(headers=texts.HEADERS, elem_id="table", **how)
    download = gr.DownloadButton("Download CSV", interactive=False, elem_id="download")

    def scored(paths: Sequence[str] | None) -> Iterator[tuple[Any, ...]]:
        yield [], gr.DownloadButton(interactive=False)
        for rows, path in handlers.batch(paths, folder):
            button = gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)
            yield texts.cells(rows), button

    score.click(told_along(scored, 2), files, [table, download, message], show_progress_on=table, **POLICY)


def _examples(handlers: Handlers) -> gr.Dropdown:
    return gr.Dropdown([*handlers.examples], value=None, label="or an example", visible=bool(handlers.examples))


def _message(name: str) -> gr.HTML:
    """Where the page says what went wrong; nowhere until then."""
    return gr.HTML(visible=False, elem_id=name)


# ---------------------------------------------------------------- errors


def told(handler: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    """A handler for gradio: its results, or nothing changed and a sentence that says what went wrong."""

    def along(*inputs: Any) -> Iterator[tuple[Any, ...]]:
        found = handler(*inputs)
        yield found if isinstance(found, tuple) else (found,)

    return lambda *inputs: next(told_along(along, outputs)(*inputs))


def told_along(handler: Callable[..., Iterator[tuple[Any, ...]]], outputs: int) -> Callable[..., Iterator[Any]]:
    """The same of a handler that gives several results, one after another."""

    def safely(*inputs: Any) -> Iterator[tuple[Any, ...]]:
        try:
            for found in handler(*inputs):
                yield (*found, gr.HTML("", visible=False))
        except (ValueError, OSError, ImportError) as error:
            yield wrong(error)
        except Exception as error:
            logger.exception("the page failed")
            yield wrong(RuntimeError(f"something failed inside ({type(error).__name__}): the terminal shows where"))

    def wrong(error: Exception) -> tuple[Any, ...]:
        shown = f'<div class="wrong">{escape(sentence(error))}</div>'
        return (*(gr.skip() for _ in range(outputs)), gr.HTML(shown, visible=True))

    return safely

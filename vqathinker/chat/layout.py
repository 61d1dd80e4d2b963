"""How the page looks, and which handler each button calls."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported, and whenever a page is made
import gradio as gr
from starlette.middleware import Middleware

from vqathinker.chat.handlers import Handlers, sentence
from vqathinker.rewards.parsing import answer_block
from vqathinker.scoring import QualityComparison, QualityScore
from vqathinker.scoring.comparing import NOT_LEARNED
from vqathinker.scoring.conversation import Turn
from vqathinker.scoring.seen import trained_line
from vqathinker.scoring.table import RENAMED
from vqathinker.scoring.timeline import STEP, WINDOW, Timeline

logger = logging.getLogger(__name__)
ABOUT = (
    "How good is a clip, and what is wrong with it? The policy {name} answers. Scores go from 1 (very poor) to 5 "
    "(excellent). Clips stay on this machine, and are deleted when the page is stopped."
)
CONVERSATION = (
    "Each question is asked behind all that was said of this clip before, the score included. A policy answers what it "
    "was trained on: one that has learnt to score alone answers everything as if it were asked for a score, and one "
    "that was trained on single questions may lose its thread."
)
CSS = """
button[aria-label^="Trim video"], button[aria-label^="Reset video"] { display: none }
.wrong { border-left: 4px solid #c0392b; background: #c0392b1a; padding: .6em .9em; border-radius: 4px }
.card { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2em 1em; padding: .4em 0 }
.card .number { font-size: 2.6em; font-weight: 600; line-height: 1.1 }
.card .dim { opacity: .7 }
.card .reasoning { flex-basis: 100%; white-space: pre-wrap }
"""
SOURCES = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
FONTS = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
ROW = ("video", "score", "std", "status", "reasoning", "error")
"""Columns of a batch's table on the page; the CSV has all."""
POLICY = {"concurrency_id": "policy", "concurrency_limit": 1, "api_visibility": "private"}
"""Of every event that asks the policy: one at a time."""


Said = list[dict[str, Any]]
"""Messages as the page shows them."""
Talk = tuple[list[Turn], Said]


def make_page(handlers: Handlers, name: str, folder: Path) -> gr.Blocks:
    """The page, not yet served.

    Args:
        handlers: What the buttons call.
        name: Of the policy.
        folder: Where plots and tables go.
    """
    about = " ".join([ABOUT.format(name=f"`{name}`"), trained_line(handlers.scorer.processor)])
    with gr.Blocks(title="vqathinker", analytics_enabled=False) as page:
        gr.Markdown(f"# Video quality\n{about}")
        with gr.Tab("One clip"):
            _one_clip(handlers, folder)
        with gr.Tab("Compare two"):
            _two_clips(handlers)
        with gr.Tab("Many files"):
            _many_files(handlers, folder)
    return page


def serve(page: gr.Blocks, handlers: Handlers, host: str, port: int, block: bool = True) -> str:
    """Serve a page until it is stopped, from this machine alone: no share link, nothing is loaded from elsewhere.

    Args:
        page: From `make_page`.
        handlers: Its handlers; their examples are the only files beside uploads that it may show.
        host: Address to listen on; 127.0.0.1 lets this machine in, 0.0.0.0 everyone who can reach it.
        port: Port.
        block: Wait for the end; else the address is returned at once.

    Returns:
        The page's address.

    Raises:
        OSError: If the port is taken.
    """
    page.queue(default_concurrency_limit=1)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=round(handlers.limits.megabytes * 1e6),
        allowed_paths=sorted({str(Path(path).resolve().parent) for path in handlers.examples.values()}),
        theme=gr.themes.Default(font=FONTS[0], font_mono=FONTS[1]),
        css=CSS,
        app_kwargs={"middleware": [Middleware(OwnFilesOnly)]},
        prevent_thread_lock=True,
    )
    if block:
        print(f"the page is at {address} (Ctrl+C stops it)", flush=True)
        page.block_thread()
    return address


class OwnFilesOnly:
    """Tells browsers to load nothing from other servers, whatever parts of gradio may ask for.

    Args:
        app: ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""

        async def with_rule(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"content-security-policy", SOURCES)]}
            await send(message)

        await self.app(scope, receive, with_rule)


# ---------------------------------------------------------------- one clip


def _one_clip(handlers: Handlers, folder: Path) -> None:
    path, talk = gr.State(None), gr.State(([], []))
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            video = gr.Video(sources=["upload"], label="Clip", height=280, elem_id="clip")
            example = _examples(handlers)
        with gr.Column(scale=3, min_width=320):
            frames = gr.Gallery(
                label="Key frames",
                format="png",
                columns=6,
                height=160,
                object_fit="contain",
                interactive=False,
                buttons=[],
                elem_id="frames",
            )
            seen = gr.HTML(elem_id="seen")
            score = gr.Button("Score", variant="primary", elem_id="score")
            card = gr.HTML(elem_id="card")
    message = gr.HTML(visible=False, elem_id="message")
    chat = gr.Chatbot(
        label="Conversation", render_markdown=False, height=320, feedback_options=None, buttons=[], elem_id="chat"
    )
    with gr.Row():
        question = gr.Textbox(
            placeholder="What is wrong with this clip?", show_label=False, container=False, scale=6, elem_id="question"
        )
        options = gr.Textbox(
            placeholder="options, if any: Blur; Noise", show_label=False, container=False, scale=3, elem_id="options"
        )
        ask = gr.Button("Ask", scale=1, min_width=80, elem_id="ask")
        forget = gr.Button("Start over", scale=1, min_width=110, elem_id="forget")
    gr.Markdown(CONVERSATION)
    with gr.Accordion("Score over time", open=False, elem_id="over_time"):
        with gr.Row():
            window = gr.Number(WINDOW, label="Window, in seconds")
            step = gr.Number(STEP, label="From one window to the next, in seconds")
            draw = gr.Button("Draw", elem_id="draw")
        summary = gr.HTML(elem_id="summary")
        plot = gr.Image(label="Score over time", format="png", interactive=False, buttons=["download"], elem_id="plot")

    def looked(chosen: str | None) -> tuple[Any, ...]:
        found = handlers.look(chosen)
        return chosen, found.frames, f"<p>{escape(found.text)}</p>"

    def scored(chosen: str | None) -> tuple[Any, ...]:
        result, turns = handlers.score(chosen)
        mean = f"the first of {len(result.answers)} answers, whose mean is {result.score:.2f}"
        said = [part for turn in turns for part in _said(turn, mean if len(result.answers) > 1 else "")]
        return card_of(result), (turns, said), said

    def asked(chosen: str | None, text: str, choices: str, known: Talk) -> tuple[Any, ...]:
        answer, turns = handlers.ask(chosen, text, choices, known[0])
        agreement = "" if math.isnan(answer.agreement) else f"{answer.agreement:.0%} of the sampled answers say so"
        said = [*known[1], *_said(turns[-1], agreement)]
        return (turns, said), said, ""

    def drawn(chosen: str | None, seconds: float | None, between: float | None) -> tuple[Any, ...]:
        found, picture = handlers.timeline(chosen, seconds, between, folder)
        return str(picture), summary_of(found)

    def emptied() -> tuple[Any, ...]:
        return None, [], "", "", ([], []), [], None, "", gr.HTML("", visible=False)

    everything = [path, frames, seen, card, talk, chat, plot, summary, message]
    shown = [path, frames, seen, message]
    dropped = video.upload(emptied, None, everything, api_visibility="private")
    dropped.then(told(looked, 3), video, shown, show_progress_on=frames, **POLICY)
    picked = example.input(emptied, None, everything, api_visibility="private")
    picked = picked.then(handlers.examples.get, example, video, api_visibility="private")
    picked.then(
        told(lambda name: looked(handlers.examples.get(name)), 3), example, shown, show_progress_on=frames, **POLICY
    )
    video.clear(emptied, None, everything, api_visibility="private")
    score.click(told(scored, 3), path, [card, talk, chat, message], show_progress_on=card, **POLICY)
    for event in (ask.click, question.submit, options.submit):
        given, changed = [path, question, options, talk], [talk, chat, question, message]
        event(told(asked, 3), given, changed, show_progress_on=chat, **POLICY)
    for event in (forget.click, chat.clear):
        event(lambda: (([], []), []), None, [talk, chat], api_visibility="private")
    draw.click(told(drawn, 2), [path, window, step], [plot, summary, message], show_progress_on=plot, **POLICY)


def _examples(handlers: Handlers) -> gr.Dropdown:
    return gr.Dropdown([*handlers.examples], value=None, label="or an example", visible=bool(handlers.examples))


def card_of(result: QualityScore) -> str:
    """A score as HTML, in which the policy's words are text; or why there is none."""
    reasoning = f'<span class="reasoning">{escape(result.reasoning)}</span>' if result.reasoning else ""
    if not result.parsed:
        said = escape("".join(result.answers[:1]))
        why = f"No score: {escape(result.status)}"
        return f'<div class="card"><span>{why}</span><span class="reasoning">{said}</span></div>'
    count = len(result.answers)
    spread = "one greedy answer, so no spread" if count < 2 else f"spread {result.spread:.2f} over {count} answers"
    lost = f", {count - result.num_parsed} of them without a number" if result.num_parsed < count else ""
    number = f'<span class="number">{result.score:.2f}</span><span class="dim">of 5; {spread}{lost}</span>'
    return f'<div class="card">{number}{reasoning}</div>'


def summary_of(found: Timeline) -> str:
    """The lowest window in a sentence, as HTML, and what has no score."""
    known = [window for window in found.windows if window.result.parsed]
    lost = len(found.windows) - len(known)
    reason = next((window.error for window in found.windows if not window.result.parsed), "")
    why = f" {lost} of {len(found.windows)} windows have no score ({reason})." if lost else ""
    if not known:
        return f"<p>{escape(why.strip())}</p>"
    worst = min(known, key=lambda window: window.result.score)
    faults = ", ".join(f"{degree} {kind}".strip() for kind, degree in worst.faults.items()) or "no fault is named"
    told = f"Lowest from {worst.start:.1f} to {worst.end:.1f} s: {worst.result.score:.2f} ({faults}).{why}"
    return f"<p>{escape(told)}</p>"


def _said(turn: Turn, note: str) -> Said:
    """A question and what was answered, as messages; the reasoning folds."""
    whole = turn.answer
    block = answer_block(whole, "last")
    content = whole[slice(*block)].strip() if block else ""
    shown = content or f"(no answer) {whole}"
    reasoning = whole.partition("<think>")[2].partition("</think>")[0].strip()
    said: Said = [{"role": "user", "content": turn.question}]
    if reasoning and content:
        said.append({"role": "assistant", "content": reasoning, "metadata": {"title": "Reasoning"}})
    return [*said, {"role": "assistant", "content": f"{shown}\n({note})" if note else shown}]


# ---------------------------------------------------------------- two clips


def _two_clips(handlers: Handlers) -> None:
    paths = gr.State(None), gr.State(None)
    message = gr.HTML(visible=False, elem_id="message_two")
    with gr.Row():
        for place, path in zip(("First", "Second"), paths, strict=True):
            with gr.Column():
                video = gr.Video(sources=["upload"], label=f"{place} clip", height=260, elem_id=f"clip_{place.lower()}")
                example = _examples(handlers)
            video.upload(lambda file: file, video, path, api_visibility="private")
            video.clear(lambda: None, None, path, api_visibility="private")
            example.input(
                lambda name: (handlers.examples.get(name),) * 2, example, [video, path], api_visibility="private"
            )
    compare = gr.Button("Compare", variant="primary", elem_id="compare")
    verdict = gr.HTML(elem_id="verdict")

    def compared(first: str | None, second: str | None) -> str:
        return verdict_of(handlers.compare(first, second))

    compare.click(told(compared, 1), [*paths], [verdict, message], show_progress_on=verdict, **POLICY)


def verdict_of(found: QualityComparison) -> str:
    """A comparison as HTML, in which the policy's words are text; or why there is no preference."""
    answers = "".join(
        f'<p class="reasoning">{place} shown first: {escape(text)}</p>'
        for place, text in zip(("First", "Second"), found.answers, strict=False)
    )
    if not found.parsed:
        return f"<p>No preference ({escape(found.status)}): {escape(NOT_LEARNED)}.</p>{answers}"
    better = {"first": f"{found.first} is better", "second": f"{found.second} is better", "similar": "Both are similar"}
    sure = f"the first is better with a probability of {found.preference:.2f}"
    scores = "; scores {:.2f} and {:.2f}".format(*found.scores) if not math.isnan(found.scores[0]) else ""
    disagree = "" if found.consistent else " The answers in the two orders disagree."
    return f"<p><b>{escape(better[found.better])}</b>: {sure}{scores}.{disagree}</p>{answers}"


# ---------------------------------------------------------------- many files


def _many_files(handlers: Handlers, folder: Path) -> None:
    message = gr.HTML(visible=False, elem_id="message_many")
    files = gr.File(file_count="multiple", label="Files", elem_id="files")
    score = gr.Button("Score all", variant="primary", elem_id="score_all")
    table = gr.Dataframe(
        headers=[RENAMED.get(name, name) for name in ROW], interactive=False, wrap=True, elem_id="table"
    )
    download = gr.DownloadButton("Download CSV", interactive=False, elem_id="download")

    def scored(paths: Sequence[str] | None) -> Iterator[tuple[Any, ...]]:
        yield [], gr.DownloadButton(interactive=False)
        for rows, path in handlers.batch(paths, folder):
            cells = [[_cell(row[name]) for name in ROW] for row in rows]
            yield cells, gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)

    score.click(told_along(scored, 2), files, [table, download, message], show_progress_on=table, **POLICY)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


# ---------------------------------------------------------------- errors


def told(handler: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    """A handler for gradio: its results, or nothing changed and a sentence that says what went wrong."""

    def along(*inputs: Any) -> Iterator[tuple[Any, ...]]:
        found = handler(*inputs)
        yield found if isinstance(found, tuple) else (found,)

    def once(*inputs: Any) -> tuple[Any, ...]:
        return next(told_along(along, outputs)(*inputs))

    return once


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
        return (
            *(gr.skip() for _ in range(outputs)),
            gr.HTML(f'<div class="wrong">{escape(sentence(error))}</div>', visible=True),
        )

    return safely

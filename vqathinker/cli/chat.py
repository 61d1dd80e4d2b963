"""`chat`: a page to drop clips on, and to ask about them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from vqathinker.arguments import add_command
from vqathinker.cli.files import check_models, find_videos
from vqathinker.cli.policy import DEMO, KNOWS_LITTLE, add_policy, load_scorer, say
from vqathinker.places import check_folder
from vqathinker.wording import install

SAMPLES = 4
"""Answers to sample: one alone has no spread."""
MOST_EXAMPLES = 12
"""Clips of the demo that are offered."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = add_command(
        commands,
        "chat",
        "a page to drop videos on, and to ask about them",
        ["--model models/mine", "--examples clips/ --port 8000"],
        f"Needs the extra `chat`: {install('chat')}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=7860, help="port")
    parser.add_argument("--examples", type=Path, help="folder of clips to pick from; default the demo's own")
    parser.add_argument("--max-mb", type=float, default=200, help="largest file taken, in MB")
    parser.add_argument("--max-seconds", type=float, default=120, help="longest clip taken")
    add_policy(parser)
    parser.set_defaults(run=_chat, samples=None)


def _chat(options: argparse.Namespace) -> int:
    check_folder("--examples", options.examples)
    examples = find_videos([str(options.examples)]) if options.examples else demo_clips(options.model)
    check_models(options)
    if not 0 < options.port < 65536:
        raise ValueError(f"--port {options.port} must be from 1 to 65535.")
    from vqathinker.chat import Handlers, Limits, texts
    from vqathinker.chat.layout import make_page
    from vqathinker.chat.server import serve

    limits = Limits(options.max_mb, options.max_seconds)
    if options.samples is None:
        from vqathinker.scoring.readouts import generates

        options.samples = SAMPLES if generates(options.readout, options.level_asked) else 0
    handlers = Handlers(load_scorer(options, clips=2), limits, examples)
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        say(f"--host {options.host}: everyone who reaches this machine can use the page", sys.stderr)
    with tempfile.TemporaryDirectory(prefix="vqathinker-chat-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads go there, and with it
        warning = KNOWS_LITTLE if options.model == DEMO else ""
        page = make_page(handlers, texts.about(options.model, handlers.scorer.processor, warning), Path(folder))
        serve(page, handlers, options.host, options.port)
    return 0


def demo_clips(model: str) -> list[str]:
    """Held-out clips beside a policy that a demo has trained: `runs/demo/data/videos/test` of `runs/demo/grpo`."""
    folder = Path(model).resolve().parent / "data" / "videos" / "test"
    return [str(path) for path in sorted(folder.glob("*.mp4"))[:MOST_EXAMPLES]]

"""Serves a page: to this machine unless told otherwise, and without anything from other servers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from vqathinker.chat.handlers import Handlers

CSS = """
button[aria-label^="Trim video"], button[aria-label^="Reset video"] { display: none }
.wrong { border-left: 4px solid #c0392b; background: #c0392b1a; padding: .6em .9em; border-radius: 4px }
.card { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2em 1em; padding: .4em 0 }
.card .number { font-size: 2.6em; font-weight: 600; line-height: 1.1 }
.card .dim { opacity: .7 }
.card .reasoning { flex-basis: 100%; white-space: pre-wrap }
"""
"""Trimming would encode a clip anew, and what is judged would be another one."""
SOURCES = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
TEXT_FONTS, CODE_FONTS = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
"""Of the system: gradio's own come from another server."""


def serve(page: gr.Blocks, handlers: Handlers, host: str, port: int, block: bool = True) -> str:
    """Serve a page until it is stopped. There is no share link.

    Args:
        page: From `make_page`.
        handlers: Its handlers; beside uploads and plots it may show their examples, and no other file.
        host: Address to listen on; 127.0.0.1 lets this machine in, 0.0.0.0 everyone who can reach it.
        port: Port.
        block: Wait for the end; else the address is returned at once.

    Returns:
        The page's address.

    Raises:
        OSError: If the port is taken, or the address is none of this machine.
    """
    if not is_free(host, port):
        raise OSError(f"cannot listen on {host}:{port}: it is taken, or no address of this machine. Name another one.")
    page.queue(default_concurrency_limit=1)
    _, address, _ = page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        share=False,
        quiet=True,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=round(handlers.limits.megabytes * 1e6),
        allowed_paths=allowed_files(handlers),
        theme=gr.themes.Default(font=TEXT_FONTS, font_mono=CODE_FONTS),
        css=CSS,
        app_kwargs={"middleware": [Middleware(OwnFilesOnly)]},
        prevent_thread_lock=True,
    )
    if block:
        print(f"the page is at {address} (Ctrl+C stops it)", flush=True)
        page.block_thread()
    return address


def allowed_files(handlers: Handlers) -> list[str]:
    """The examples themselves: of a folder gradio would serve everything below it."""
    return sorted({str(Path(path).resolve()) for path in handlers.examples.values()})


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError:
        return False


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

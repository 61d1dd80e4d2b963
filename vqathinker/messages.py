"""Conversational prompts: messages whose blocks are texts and videos, as chat templates and data sets hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]


def user_prompt(videos: Sequence[str | None], text: str, system: str = "") -> list[dict[str, Any]]:
    """A prompt that shows clips and asks about them.

    Args:
        videos: Paths; `None` for a clip that is in memory.
        text: What is asked.
        system: A system message; "" for the chat template's own.
    """
    content = [*({"type": "video", "video": video} for video in videos), {"type": "text", "text": text}]
    user = {"role": "user", "content": content}
    return [{"role": "system", "content": [{"type": "text", "text": system}]}, user] if system else [user]


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message's blocks, without the keys that Arrow fills with `None`.

    Raises:
        ValueError: If it has something else than texts and videos.
    """
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = [{k: v for k, v in block.items() if v is not None or k == block.get("type")} for block in content or ()]
    for block in blocks:
        kind = block.get("type")
        if kind not in ("text", "video") or kind not in block or (kind == "text" and not isinstance(block[kind], str)):
            raise ValueError(
                f"the prompt has the block {str(block)[:120]}: blocks must be "
                '{"type": "video", "video": path} or {"type": "text", "text": ...}.'
            )
    return blocks


def is_prompt(prompt: object) -> bool:
    """Whether this is a conversational prompt: a list of messages."""
    return isinstance(prompt, Sequence) and bool(prompt) and all(isinstance(message, Mapping) for message in prompt)


def videos_in(prompt: Messages) -> list[str]:
    """The clips that a prompt shows, in order."""
    return [block["video"] for message in prompt for block in blocks_of(message) if block["type"] == "video"]


def text_in(prompt: Messages, role: str = "user") -> str:
    """What the messages of a role say, without the clips."""
    texts = [b["text"] for m in prompt if m["role"] == role for b in blocks_of(m) if b["type"] == "text"]
    return "\n".join(texts)

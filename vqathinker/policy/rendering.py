"""A prompt's messages, with the clips in them, as token ids and slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqathinker.policy.clip_input import ClipLength
from vqathinker.policy.prompts import LAYOUTS, Line, Prompt, Slot, joined, slot_tokens, written
from vqathinker.policy.streams import streams_of

if TYPE_CHECKING:
    from vqathinker.policy.processing import VQAThinkerProcessor


def render_prompt(
    processor: VQAThinkerProcessor, blocks: Sequence[tuple[str, list[dict[str, Any]]]], lengths: Sequence[ClipLength]
) -> Prompt:
    """A conversational prompt to token ids and slots.

    Args:
        processor: The policy's.
        blocks: Role and content of each message.
        lengths: Of its clips.

    Raises:
        ValueError: If a text holds the placeholder of visual tokens, or tokens cannot be dealt out.
    """
    streams = streams_of(processor)
    by_name = {stream.name: stream for stream in streams}
    tokenizer, style = processor.tokenizer, processor.prompt_style
    slots: list[Slot] = []
    counts: list[int] = []

    def placeholders(slot: Slot) -> str:
        count = slot_tokens(slot, by_name[slot.stream], processor, lengths[slot.clip])
        slots.append(slot)
        counts.append(count)
        return tokenizer.start_image_token + tokenizer.context_image_token * count + tokenizer.end_image_token

    clip, rendered = 0, []
    for role, content in blocks:
        lines: list[Line] = []
        for block in content:
            if block["type"] == "video":
                lines += LAYOUTS[processor.layout](lengths[clip].frames, streams, style, clip, len(lengths))
                clip += 1
            elif tokenizer.context_image_token in block["text"]:
                raise ValueError(
                    f"the prompt's text {block['text'][:80]!r} holds {tokenizer.context_image_token}, which stands "
                    "for visual tokens: remove it."
                )
            else:
                lines.append([block["text"]])
        text = written(joined(lines, style), placeholders)
        rendered.append({"role": role, "content": [{"type": "text", "text": text}]})
    text = tokenizer.apply_chat_template(
        rendered, chat_template=processor.chat_template, add_generation_prompt=True, tokenize=False
    )
    return Prompt(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), tuple(slots), tuple(counts))

import pytest
import torch

from vqathinker.policy import Slot, token_index, tokens_in
from vqathinker.policy.prompts import STYLES
from vqathinker.synth import tiny_policy


def text_of(processor, **kwargs):
    ids = processor.render(**kwargs).ids
    return processor.tokenizer.decode(ids).replace("<IMG_CONTEXT>", "")


@pytest.mark.parametrize("style", STYLES)
def test_motion_follows_each_frame_where_it_is_interleaved(style):
    _, processor = tiny_policy()
    processor.prompt_style, processor.layout = style, "interleaved"
    prompt = processor.render(frames=[3])
    assert prompt.slots == tuple(Slot(name, 0, frame) for frame in range(3) for name in ("spatial", "motion"))
    assert prompt.counts == (4, 2) * 3  # six motion tokens, dealt out to three frames
    end = "\n" if style == "train" else ""
    space = "" if style == "train" else " "
    for i in (1, 2, 3):
        line = f"Frame{i}:{space}<img></img>{end}Motion Feature{i}:{space}<img></img>{end}"
        assert line in text_of(processor, frames=[3])
    with pytest.raises(ValueError, match="6 tokens of the stream 'motion' and 4 key frames"):
        processor.render(frames=[4])
    with pytest.raises(ValueError, match="layout='diagonal'"):
        type(processor)(processor.tokenizer, layout="diagonal")


def test_the_index_puts_every_token_into_its_slot(frames):
    """By layout and ragged lengths, against one prompt after another."""
    policy, processor = tiny_policy()
    for layout in ("motion_last", "interleaved"):
        processor.layout = layout
        clips = [processor.from_array(frames), processor.from_array(frames[::-1].copy())]
        shown = [clips[0].frames, clips[1].frames[:3]]
        runs = [clips[0].motion_frames, clips[1].motion_frames[:3]]
        prompts = [processor.render(frames=[len(clip)]) for clip in shown]
        with torch.no_grad():
            features = policy.encode(frames=shown, motion_frames=runs)
            table = policy.model.ordered({"frames": shown, "motion_frames": runs}, processor.index_of(prompts))
        expected = [tokens_in(prompt, [clip]) for prompt, clip in zip(prompts, features, strict=True)]
        torch.testing.assert_close(table, torch.cat(expected))
        order = ["spatial", "motion"]
        assert sorted(token_index(prompts, order).tolist()) == list(range(6 * 4 + 6 + 3 * 4 + 6))


def test_layouts_are_saved_with_the_processor(tmp_path):
    _, processor = tiny_policy()
    processor.layout = "interleaved"
    processor.save_pretrained(tmp_path)
    again = type(processor).from_pretrained(tmp_path)
    assert again.layout == "interleaved" and again.streams == ["spatial", "motion"]
    assert again.prompt_ids() == processor.prompt_ids()


def test_messages_are_asked_as_they_stand(processor):
    question = processor.messages("a.mp4", "What moves?", system="Be brief.")
    assert "What moves? First output" in text_of(processor, messages=question)
    filled = [
        {"role": m["role"], "content": [{"video": None, "text": None} | block for block in m["content"]]}
        for m in question
    ]
    assert processor.render(filled) == processor.render(question)  # as Arrow gives it back
    two = [
        {
            "role": "user",
            "content": [
                {"type": "video", "video": "a"},
                {"type": "text", "text": "or"},
                {"type": "video", "video": "b"},
            ],
        }
    ]
    prompt = processor.render(two, [6, 2])
    assert [slot.clip for slot in prompt.slots] == [0] * 7 + [1] * 3
    with pytest.raises(ValueError, match="shows 2 clips, but 1 came"):
        processor.render(two, [6])
    with pytest.raises(ValueError, match="blocks must be"):
        processor.render([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}])

import json
import threading

import pytest

from vqathinker.clips import ClipError
from vqathinker.data import ClipLoader
from vqathinker.messages import user_prompt


class Reader:
    def __init__(self):
        self.calls = []
        self.lock = threading.Lock()

    def __call__(self, video):
        with self.lock:
            self.calls.append(video)
        if "bad" in video:
            raise ClipError(video, "torn")
        return video.upper()


def rows(*videos):
    return [{"prompt": user_prompt([video], "How good?")} for video in videos]


def test_each_clip_of_a_batch_is_read_once_however_often_the_batch_is_drawn():
    reader = Reader()
    loader = ClipLoader(reader)
    batch = rows("a", "a", "b", "b")
    for _ in range(3):
        assert loader(batch) is batch
    assert [loader.get(v) for v in ("a", "b", "a")] == ["A", "B", "A"]
    loader(rows("c", "c"))
    assert loader.get("c") == "C" and loader.get("b") == "B"  # the batch before is still there
    assert sorted(reader.calls) == ["a", "b", "c"]


def test_old_batches_are_let_go():
    loader = ClipLoader(Reader())
    for video in "abc":
        loader(rows(video))
    assert [list(batch) for batch in loader._batches] == [["b"], ["c"]]


def test_batches_leave_out_what_is_unreadable_and_read_one_batch_ahead():
    reader = Reader()
    loader = ClipLoader(reader)
    batches = loader.batches(["a", "bad", "b", "c", "d"], 2)
    assert next(batches) == (["a", "bad"], {"a": "A"})
    loader._pool.shutdown(wait=True)
    assert sorted(reader.calls) == ["a", "b", "bad", "c"]
    assert next(ClipLoader(Reader()).batches(["a"], 2)) == (["a"], {"a": "A"})
    assert [names for names, _ in ClipLoader(Reader()).batches(list("abcde"), 2)] == [["a", "b"], ["c", "d"], ["e"]]


def test_an_unreadable_clip_is_skipped_counted_and_listed_once(tmp_path):
    loader = ClipLoader(Reader(), skipped_file=tmp_path / "run" / "skipped.jsonl")
    loader(rows("a", "bad"))
    assert loader.get("bad") is None and loader.get("bad") is None and loader.get("a") == "A"
    assert loader.skipped == {"bad": "torn"}
    lines = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"video": "bad", "reason": "torn"}]


def test_strict_raises():
    loader = ClipLoader(Reader(), strict=True)
    loader(rows("bad"))
    with pytest.raises(ClipError, match="torn"):
        loader.get("bad")


def test_a_set_without_a_readable_clip_is_given_up():
    loader = ClipLoader(Reader(), give_up_after=3)
    assert loader.get("bad1") is loader.get("bad1") is loader.get("bad2") is None
    with pytest.raises(ClipError, match="none of the 3 clips"):
        loader.get("bad3")
    lucky = ClipLoader(Reader(), give_up_after=3)
    assert lucky.get("a") == "A" and [lucky.get(f"bad{i}") for i in range(5)] == [None] * 5


def test_other_errors_are_not_swallowed():
    def read(video):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ClipLoader(read).get("a")

"""The page of `vqathinker chat`: its handlers without a page, then the page in a real browser."""

import csv
import functools
import json
import math
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vqathinker.chat import Handlers, Limits
from vqathinker.chat.handlers import sentence
from vqathinker.chat.texts import WIDTHS, card, cells
from vqathinker.cli import main
from vqathinker.cli.chat import demo_clips
from vqathinker.clips import ClipError, open_clip, write_video
from vqathinker.rollout import Completion
from vqathinker.scoring import QualityScore, QualityScorer

RATE = 12


class Judge:
    """A stand-in for an engine: every answer is the same, and calls that overlap are counted."""

    def __init__(self, processor):
        self.processor, self.running, self.overlaps, self.prompts = processor, 0, 0, []

    def generate(self, prompts, n, sampling, seeds=None):
        self.running += 1
        self.overlaps += self.running > 1
        self.prompts += prompts
        time.sleep(0.05)
        texts = [f"<think>I see noise.</think><answer>{3 + i / 10:.2f}</answer>" for i in range(n)]
        self.running -= 1
        return [[Completion(self.processor.tokenizer(text)["input_ids"]) for text in texts] for _ in prompts]


@pytest.fixture
def handlers(policy, processor):
    scorer = QualityScorer(policy, processor, samples=2)
    scorer.engine = Judge(processor)
    return Handlers(scorer, Limits(megabytes=1, seconds=3, files=4))


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "a clip.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (24, 96, 128, 3), dtype=np.uint8), fps=RATE, crf=30)
    return path


def test_a_clip_is_shown_scored_and_asked_about(handlers, clip, tmp_path):
    looked = handlers.look(str(clip))
    assert looked.text.startswith("a clip.mp4: 24 frames, 2.0 s. Key frames 1, 5, 9, 13, 16, 20. The policy sees the c")
    assert [caption for _, caption in looked.frames][:2] == ["0.08 s", "0.42 s"]
    shown, file = np.asarray(looked.frames[1][0]), open_clip(clip).frames([5])[0]
    inside = slice(16, 80), slice(32, 96)  # the central 64x64, which the policy sees
    assert (shown[inside] == file[inside]).all() and (shown != file).any()  # there is a line around them
    result, turns = handlers.score(str(clip))
    assert (result.score, round(result.spread, 4), result.reasoning) == (3.05, 0.0707, "I see noise.")
    handlers.ask(str(clip), "Why?", "", [])
    first = handlers.scorer.engine.prompts[-1]
    answer, turns = handlers.ask(str(clip), "Why?", "", turns)
    assert answer.answer == "3.00" and [turn.question for turn in turns] == [handlers.scorer.processor.question, "Why?"]
    chosen, turns = handlers.ask(str(clip), "Which?", "3.00; 3.10", turns)
    assert chosen.letter == "A" and turns[-1].question.startswith("Which?\nA. 3.00\nB. 3.10\n")
    _, turns = handlers.ask(str(clip), "Why?", "", turns, alone=True)
    asked = handlers.scorer.engine.prompts
    assert len(turns) == 4 and asked[-1].equal(first) and len(asked[-2]) > 2 * len(first)
    found, plot = handlers.timeline(str(clip), 1.0, 0.5, tmp_path)
    assert len(found.windows) == 3 and plot.read_bytes()[:4] == b"\x89PNG" and plot.name == "a clip.png"
    assert handlers.compare(str(clip), str(clip)).status != "unreadable"


def test_what_is_wrong_is_a_sentence(handlers, clip, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(clip.read_bytes()[:300])
    (tmp_path / "large.mp4").write_bytes(bytes(1_100_000))
    write_video(tmp_path / "long.mp4", np.zeros((40, 64, 64, 3), np.uint8), fps=RATE)
    told = {}
    for name in ("torn.mp4", "large.mp4", "long.mp4", "gone.mp4"):
        with pytest.raises((ValueError, OSError)) as error:
            handlers.score(str(tmp_path / name))
        told[name] = sentence(error.value)
    assert told["torn.mp4"].startswith("The clip torn.mp4 cannot be read: ") and str(tmp_path) not in told["torn.mp4"]
    large, long = told["large.mp4"], told["long.mp4"]
    assert large.startswith("The clip large.mp4 has 1.1 MB, and the page takes up to 1 MB: cut it, or start")
    assert long.startswith("The clip long.mp4 lasts 3.3 s, and the page takes up to 3 s: cut it, or start the page")
    for handler, inputs in (
        (handlers.look, (None,)),
        (handlers.compare, (str(clip), None)),
        (handlers.timeline, (str(clip), None, 1.0, tmp_path)),
        (handlers.ask, (str(clip), "", "", [])),
        (handlers.ask, (str(clip), "Which?", "one", [])),
    ):
        with pytest.raises(ValueError, match=r"\w") as error:
            handler(*inputs)
        assert re.fullmatch(r"[A-Z].*[.!?]", sentence(error.value)), sentence(error.value)
    assert sentence(ClipError("/x/y.mp4", "no such file")) == "The clip y.mp4 cannot be read: no such file."
    with pytest.raises(ValueError, match=r"seconds=0, files=100, .*: must be above 0"):
        Limits(seconds=0)
    assert told["gone.mp4"] == "The file gone.mp4: No such file or directory."
    handlers.limits = Limits(windows=3)
    assert len(handlers.timeline(str(clip), 1.0, 0.5, tmp_path)[0].windows) == 3
    for limits, message in (
        (Limits(windows=2), "windows every 0.5 s of 2.0 s are more than the 2 that"),
        (Limits(frames=23), "a clip.mp4 has 24 frames, and the page takes up to 23"),
        (Limits(pixels=12_000), "a clip.mp4 has frames of 128x96, and the page takes up to 12000 pixels"),
    ):
        handlers.limits = limits
        with pytest.raises(ValueError, match=message):
            handlers.timeline(str(clip), 1.0, 0.5, tmp_path)


def test_a_batch_has_a_row_for_every_file_and_a_table(handlers, clip, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(clip.read_bytes()[:300])
    write_video(tmp_path / "long.mp4", np.zeros((40, 64, 64, 3), np.uint8), fps=RATE)
    *before, (rows, table) = handlers.batch([str(tmp_path / n) for n in ("torn.mp4", clip.name, "long.mp4")], tmp_path)
    assert all(path is None for _, path in before)
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [row["video"] for row in written] == ["torn.mp4", "a clip.mp4", "long.mp4"]
    assert [row["status"] for row in written] == ["unreadable", "ok", "refused"]
    assert [row["score"] for row in written] == ["nan", "3.05", "nan"] and written[1]["spread"] == "0.070711"
    assert "takes up to 3 s" in written[2]["error"]
    assert [row[3] for row in cells(rows)] == [
        *("The clip cannot be read.", "ok", "The clip is more than the page takes."),
    ]
    assert len(WIDTHS) == len(cells(rows)[0]) and sum(int(width[:-1]) for width in WIDTHS) == 100
    lost = QualityScore("a.mp4", math.nan, math.nan, "no_number", answers=("<answer>bad</answer>",))
    assert "No score. The answer names no number." in card(lost)
    for wrong, message in (([], "no file to score"), ([str(clip)] * 5, "5 files are more than the 4")):
        with pytest.raises(ValueError, match=message):
            next(handlers.batch(wrong, tmp_path))


def test_calls_of_the_policy_wait_for_one_another_and_clips_are_decoded_once(handlers, clip, monkeypatch):
    loaded = []
    load = handlers.scorer.load
    monkeypatch.setattr(handlers.scorer, "load", lambda path: loaded.append(path) or load(path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: handlers.score(str(clip)), range(6)))
    assert len(handlers.scorer.engine.prompts) == 6 and handlers.scorer.engine.overlaps == 0 and len(loaded) == 1


def test_samples_that_a_readout_does_not_draw_are_refused(base, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed")
    assert main(["chat", "--model", str(base), "--device", "cpu", "--readout", "levels", "--samples", "8"]) == 2
    assert "samples=8" in capsys.readouterr().err


def test_the_examples_are_the_demos_clips(tmp_path):
    folder = tmp_path / "data" / "videos" / "test"
    folder.mkdir(parents=True)
    names = [f"{i:05d}.mp4" for i in range(14)]
    for name in names:
        (folder / name).touch()
    assert [os.path.basename(path) for path in demo_clips(str(tmp_path / "grpo"))] == names[:12]
    assert demo_clips("somebody/else") == []


def test_without_gradio_the_extra_is_named(base, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "vqathinker.chat.layout", raising=False)
    assert main(["chat", "--model", str(base)]) == 2
    assert "install the extra `chat`, pip install '.[chat]' in a clone" in capsys.readouterr().err


# ---------------------------------------------------------------- the page in a browser

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,1600")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture
def browser(tmp_path):
    """A new Chromium, which notes every request."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def address(handlers, clip, tmp_path, monkeypatch):
    """Of a page that is served, with one example."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    from vqathinker.chat.layout import make_page
    from vqathinker.chat.server import serve

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "examples").mkdir()
    shutil.copy(clip, tmp_path / "examples" / "grey.mp4")
    handlers.examples = {"grey.mp4": str(tmp_path / "examples" / "grey.mp4")}
    asked = []
    for name in ("getaddrinfo", "create_connection"):
        call = getattr(socket, name)
        noting = functools.partial(lambda call, *to, **how: asked.append(to) or call(*to, **how), call)
        monkeypatch.setattr(socket, name, noting)
    page, port = make_page(handlers, "# A page", tmp_path), free_port()
    yield serve(page, handlers, "127.0.0.1", port, block=False)
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: it is taken"):
        serve(page, handlers, "127.0.0.1", port)
    page.close()
    hosts = {to[0][0] if isinstance(to[0], tuple) else to[0] for to in asked}
    assert hosts <= {"127.0.0.1", "localhost", "::1", "", None}  # nobody else is called: no telemetry


def test_only_the_examples_are_served(address, tmp_path):
    (tmp_path / "examples" / "private.txt").write_text("not to be seen")
    examples = tmp_path / "examples"

    def status(path):
        try:
            return urllib.request.urlopen(f"{address}gradio_api/file={path}").status
        except urllib.error.HTTPError as error:
            return error.code

    assert [status(examples / name) for name in ("grey.mp4", "private.txt")] == [200, 403]
    assert status(examples) == 403


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Page:
    """What a user does: sees texts, presses buttons, drops files."""

    def __init__(self, driver):
        self.driver = driver

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, name):
        return "".join(element.text for element in self.find(f"#{name}"))

    def wait(self, name, text, seconds=200):
        end = time.monotonic() + seconds
        while text not in self.text(name):
            assert time.monotonic() < end, f"#{name} is {self.text(name)!r}, without {text!r}"
            time.sleep(0.1)

    def press(self, name):
        [button] = self.find(f"#{name}")
        self.driver.execute_script("arguments[0].click()", button)

    def drop(self, name, *files):
        end = time.monotonic() + 200
        while not self.find(f"#{name} input[type=file]"):
            assert time.monotonic() < end, f"#{name} takes no file"
            time.sleep(0.1)
        self.find(f"#{name} input[type=file]")[0].send_keys("\n".join(map(str, files)))

    def tab(self, number):
        self.find("button[role=tab]")[number].click()


@pytest.mark.engine
@pytest.mark.slow
def test_a_user_drops_a_clip_scores_it_and_asks(address, browser, clip, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(clip.read_bytes()[:300])
    page = Page(browser)
    browser.get(address)
    page.drop("clip", tmp_path / "torn.mp4")
    page.wait("message", "The clip torn.mp4 cannot be read: ")
    page.press("score")
    page.wait("message", "There is no clip that can be read: drop one on the page, or pick an example.")
    browser.refresh()
    page.drop("clip", clip)
    page.wait("seen", "24 frames, 2.0 s. Key frames 1, 5, 9, 13, 16, 20.")
    assert len(page.find("#frames img")) == 6 and page.text("message") == ""
    page.press("score")
    page.wait("card", "3.05\nof 5, spread 0.07 over 2 answers\nI see noise.")
    for question in ("Why?", "Is it sharp?"):
        page.find("#question textarea, #question input")[0].send_keys(question)
        page.press("ask")
        page.wait("chat", question)
    page.wait("chat", "50% of the sampled answers say so")
    [options] = page.find("#options textarea, #options input")
    page.find("#question textarea, #question input")[0].send_keys("Which?")
    options.send_keys("3.00; 3.10")
    page.press("ask")
    page.wait("chat", "A. 3.00")
    assert options.get_attribute("value") == ""  # the next question has its own
    page.find("#over_time button")[0].click()
    page.press("draw")
    page.wait("summary", "Lowest from 0.0 to 2.0 s: 3.05 (noise).")
    page.tab(1)
    page.press("compare")
    page.wait("message_two", "There is one clip too few: choose two to compare.")
    page.drop("clip_first", clip)
    page.drop("clip_second", clip)
    end = time.monotonic() + 200
    while "No preference" not in page.text("verdict") and time.monotonic() < end:
        time.sleep(0.5)  # until both are uploaded
        page.press("compare")
    assert "This policy has not learned to compare" in page.text("verdict")
    page.find("#clip_second button[aria-label='Clear']")[0].click()  # a verdict is of the clips that are shown
    end = time.monotonic() + 200
    while page.text("verdict") and time.monotonic() < end:
        time.sleep(0.1)
    assert page.text("verdict") == ""
    page.tab(2)
    page.drop("files", clip, tmp_path / "torn.mp4")
    page.wait("files", "torn")
    page.press("score_all")
    page.wait("table", "The clip cannot be read.")
    assert "3.05" in page.text("table")
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {r["params"]["request"]["url"] for r in requests if r["method"] == "Network.requestWillBeSent"}
    assert [url for url in asked if not url.startswith((address, "data:", "blob:", "chrome:"))] == []

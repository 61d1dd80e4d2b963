import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vqathinker import QualityScorer
from vqathinker.rollout import Completion


class Judge:
    """Stands in for the engine: every clip gets a score that follows from its frames."""

    def __init__(self, tokenizer, say=None):
        self.tokenizer = tokenizer
        self.say = say or (lambda seed: f"<think>seen</think><answer>{1 + seed % 400 / 100:.2f}</answer>")

    def generate(self, prompts, n, sampling, seeds=None):
        return [[Completion(self.tokenizer(self.say(seed))["input_ids"])] * n for seed in seeds]


@pytest.fixture
def scorer(policy, processor):
    scorer = QualityScorer(policy, processor, max_new_tokens=12)
    scorer.engine = Judge(processor.tokenizer)
    return scorer


@pytest.fixture
def score_of(processor):
    """What `Judge` says of a file."""
    return lambda video: 1 + zlib.crc32(processor.load_clip(video).frames.numpy()) % 400 / 100


@pytest.fixture
def judge_server(monkeypatch):
    """An OpenAI-compatible endpoint that answers what `reply(body)` gives: a text, or (HTTP status, body)."""
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append((self.path, dict(self.headers), body))
            said = made.reply(body)
            status, content = said if isinstance(said, tuple) else (200, {"choices": [{"message": {"content": said}}]})
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "http://127.0.0.1:9/v1/chat/completions")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.handle_error = lambda *_: None  # of clients that do not wait
    made.asked, made.reply = [], lambda body: "2"
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()

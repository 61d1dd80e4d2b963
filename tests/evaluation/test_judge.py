"""The judge behind an endpoint: a real HTTP server on this machine, and vLLM's own with a tiny model."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vqathinker.evaluation.judge import KEY_VARIABLE, PROMPT, Judge, JudgeError, Verdicts, parse_verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        *(("2", 2), ("Score: 1", 1), ("**0**.", 0), ("2/2", 2), ("1/2", None), ("1.5", None), ("3", None)),
        *(("-1", None), ("two", None), ("", None), ("20", None), ("I give 1, not 2", None)),
        *(("<think>0 or 1? 2 of 3</think>\n\n1", 1), ("1</think>", None), ("<think>1 </think> 0</think>2", 2)),
    ],
)
def test_a_verdict_is_the_one_number_of_a_reply(reply, verdict):
    assert parse_verdict(reply) == verdict


def test_five_calls_are_averaged_and_kept(judge_server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "not for you")
    replies = iter(["2", "1", "nothing", "2", "1"])
    judge_server.reply = lambda body: next(replies)
    record = tmp_path / "new" / "verdicts.jsonl"
    judge = Judge("m", record, judge_server.url)
    found = judge.verdicts("What is wrong?", 'noise "} {response}', "Noise.")
    assert sorted(found.values) == [1, 1, 2, 2] and (found.invalid, found.timeouts, found.failed) == (1, 0, 0)
    assert found.score == 6 / 8
    assert len(judge_server.asked) == 5 and {path for path, _, _ in judge_server.asked} == {"/v1/chat/completions"}
    _, headers, body = judge_server.asked[0]
    assert headers["Authorization"] == "Bearer secret" and body["model"] == "m"
    [message] = body["messages"]
    assert 'Answer to grade: "noise \\"} {response}"' in message["content"] and "0, 1 or 2" in message["content"]
    assert "secret" not in record.read_text()
    again = Judge("m", record, judge_server.url)
    assert again.verdicts("What is wrong?", 'noise "} {response}', "Noise.") == found and len(judge_server.asked) == 5
    assert Judge("m", record).verdicts("What is wrong?", 'noise "} {response}', "Noise.") == found
    judge_server.reply = lambda body: "0"
    for changed in [("other", "What is wrong?"), ("m", "What?")]:
        assert (
            Judge(changed[0], record, judge_server.url).verdicts(changed[1], 'noise "} {response}', "Noise.").score == 0
        )
    assert len(judge_server.asked) == 15
    monkeypatch.setattr("vqathinker.evaluation.judge.PROMPT", PROMPT + " ")
    assert Judge("m", record).verdicts("What is wrong?", 'noise "} {response}', "Noise.") is None  # another prompt


def test_an_answer_that_says_nothing_is_zero_without_a_call(judge_server, tmp_path):
    judge = Judge("m", tmp_path / "v.jsonl", judge_server.url)
    assert judge.verdicts("What?", " ", "Noise.") == Verdicts((0,)) and not judge_server.asked


def test_what_gives_no_verdict_is_counted_and_asked_again(judge_server, tmp_path):
    def slow(body):
        time.sleep(1)
        return "2"

    judge_server.reply = slow
    judge = Judge("m", tmp_path / "v.jsonl", judge_server.url, timeout=0.2)
    found = judge.verdicts("What?", "noise", "Noise.")
    assert found == Verdicts((), 0, 5, 0) and found.score != found.score
    assert judge.last_failure == "no reply within 0.2 s"
    judge_server.reply = lambda body: (503, {"error": "busy"})
    judge = Judge("m", tmp_path / "v.jsonl", judge_server.url)
    assert judge.verdicts("What?", "noise", "Noise.") == Verdicts((), 0, 0, 5)
    assert "HTTP 503" in judge.last_failure and "busy" in judge.last_failure
    judge_server.reply = lambda body: (307, {})
    assert (
        Judge("m", tmp_path / "v.jsonl", judge_server.url).verdicts("What?", "noise", "Noise.").failed == 5
    )  # not followed
    judge_server.reply = lambda body: (200, b"<html>")
    assert Judge("m", tmp_path / "v.jsonl", judge_server.url).verdicts("What?", "noise", "Noise.").failed == 5
    judge_server.reply = lambda body: "fine"
    assert Judge("m", tmp_path / "v.jsonl", judge_server.url).verdicts("What?", "noise", "Noise.") == Verdicts((), 5)
    asked = len(judge_server.asked)
    assert Judge("m", tmp_path / "v.jsonl", judge_server.url).verdicts("What?", "noise", "Noise.") == Verdicts((), 5)
    assert len(judge_server.asked) == asked  # it answered, so nothing new is to be learnt


def test_an_endpoint_that_cannot_be_used_is_told_at_once(judge_server, tmp_path):
    record = tmp_path / "v.jsonl"
    Judge("m", record, judge_server.url).check()
    Judge("m", record).check()
    judge_server.reply = lambda body: (404, {"message": "no model m"})
    with pytest.raises(JudgeError, match=r"HTTP 404 Not Found.*no model m.*ending in /v1.*" + KEY_VARIABLE):
        Judge("m", record, judge_server.url).check()
    with pytest.raises(JudgeError, match=r"'http://127.0.0.1:9/v1', model 'm': it cannot be reached"):
        Judge("m", record, "http://127.0.0.1:9/v1/").check()
    for url in ("file:///etc/passwd", "localhost:8000/v1", "http://"):
        with pytest.raises(JudgeError, match="must begin with http:// or https://"):
            Judge("m", record, url)
    assert not record.exists()


def test_a_torn_record_is_repaired_and_another_file_refused(judge_server, tmp_path):
    record = tmp_path / "v.jsonl"
    Judge("m", record, judge_server.url, calls=1).verdicts("What\u2028?", "noise", "Noise.")
    whole = record.read_text()
    record.write_text(whole + whole[:20])
    judge = Judge("m", record, judge_server.url, calls=1)
    assert judge.verdicts("What\u2028?", "noise", "Noise.") == Verdicts((2,)) and record.read_text() == whole
    judge.verdicts("And?", "noise", "Noise.")
    assert record.read_text().count("\n") == 2 and len(judge_server.asked) == 2
    record.write_text('{"question": 1}\n')
    with pytest.raises(JudgeError, match=r"v.jsonl:1: .* is no recorded verdict: remove the line"):
        Judge("m", record)


@pytest.fixture(scope="module")
def vllm_server(base, tmp_path_factory):
    """vLLM's own OpenAI server on this machine's CPU, with the tiny policy's language model."""
    pytest.importorskip("vllm", reason="vllm is not installed")
    import socket

    from transformers import AutoProcessor

    from vqathinker.policy import VQAThinkerForConditionalGeneration

    folder = tmp_path_factory.mktemp("judge")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
    save_language_model(policy, folder)
    AutoProcessor.from_pretrained(base).tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", "tiny", "--max-model-len", "400", "--enforce-eager"]
    command += ["--block-size", "32", "--gpu-memory-utilization", "0.2"]
    command += ["--dtype", "float32", "--max-num-seqs", "8", "--generation-config", str(folder)]
    env = os.environ | {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    yield f"http://127.0.0.1:{port}/v1", process, log
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its engine too


def save_language_model(policy, folder):
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = policy.config.text_config
    language = AutoModelForCausalLM.from_config(config)
    language.model.load_state_dict(policy.model.language_model.state_dict())
    language.lm_head.load_state_dict(policy.lm_head.state_dict())
    language.generation_config = GenerationConfig(max_new_tokens=8, eos_token_id=policy.generation_config.eos_token_id)
    language.save_pretrained(folder)


@pytest.mark.engine
@pytest.mark.slow
def test_vllms_own_server_is_asked_and_what_it_says_is_counted(vllm_server, tmp_path, monkeypatch):
    url, process, log = vllm_server
    monkeypatch.setattr("vqathinker.evaluation.judge.FIRST_TIMEOUT", 20.0)
    judge = Judge("tiny", tmp_path / "v.jsonl", url, timeout=30)
    until = time.monotonic() + 300  # on a busy machine; else half a minute
    while True:
        try:
            judge.check()
            break
        except JudgeError as error:
            assert process.poll() is None and time.monotonic() < until, f"{error}\n{log.read_text()[-3000:]}"
            time.sleep(1)
    found = judge.verdicts("What is wrong?", "noise", "Noise.")
    assert len(found.values) + found.invalid == 5 and (found.timeouts, found.failed) == (0, 0)
    assert found.invalid >= 1  # it has not learnt to obey: a digit comes by accident
    assert Judge("tiny", tmp_path / "v.jsonl").verdicts("What is wrong?", "noise", "Noise.") == found
    with pytest.raises(JudgeError, match=r"HTTP 404.*nobody"):
        Judge("nobody", tmp_path / "v.jsonl", url).check()

"""A judge for answers in a policy's own words: any model behind an OpenAI-compatible endpoint, asked by the rule of
Q-Bench-Video (arXiv 2409.20063). It sees question, answer and reference, never the clip. Its verdicts are recorded.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

PROMPT = """\
Grade an answer to a question about the quality of a video against the right answer. You do not see the video.
Question: {question}
Right answer: {reference}
Answer to grade: {response}
Judge completeness, accuracy and relevance.
2: it says all of the right answer, or nearly all.
1: it says part of the right answer.
0: it says nothing of the right answer, or is no answer to the question.
Reply with one digit, 0, 1 or 2, and nothing else."""
"""In our words, as the rule is published and its exact wording is not part of it. The three texts are JSON strings."""
KEY_VARIABLE = "VQATHINKER_JUDGE_KEY"
"""Environment variable of the endpoint's key. No other is read, so that no key goes to a place it is not meant for."""
CALLS = 5
TIMEOUT = 5.0
"""Calls per answer, and seconds that each may take (published)."""
FIRST_TIMEOUT = 60.0
"""Seconds that the first call may take, in which a server may still load its model."""


class JudgeError(ValueError):
    """The endpoint cannot be used as it was given."""


@dataclass(frozen=True)
class Verdicts:
    """What a judge said of one answer.

    Attributes:
        values: The valid verdicts, each 0, 1 or 2.
        invalid: Replies that are no verdict.
        timeouts: Calls without a reply in time.
        failed: Calls that the server refused or broke off.
    """

    values: tuple[int, ...]
    invalid: int = 0
    timeouts: int = 0
    failed: int = 0

    @property
    def score(self) -> float:
        """Mean of the valid verdicts over 2, in [0, 1]; NaN without one."""
        return sum(self.values) / (2 * len(self.values)) if self.values else math.nan


def parse_verdict(reply: str) -> int | None:
    """The verdict in a reply: the one number in it, if this is 0, 1 or 2; "1/2", "1.5" and "one" are none. What a model
    thinks aloud before it replies, up to the last `</think>`, does not count.

    Example:
        >>> parse_verdict("Score: 2"), parse_verdict("1 or 2"), parse_verdict("")
        (2, None, None)
    """
    numbers = set(re.findall(r"-?\d+(?:\.\d+)?", reply.rpartition("</think>")[2]))
    return int(numbers.pop()) if len(numbers) == 1 and numbers <= {"0", "1", "2"} else None


class Judge:
    """Asks an endpoint, and keeps what it says.

    Args:
        model: Its name there.
        record: JSON lines of verdicts: read, and added to. Equal question, answer, reference, model and prompt are not
            asked again.
        url: Base of the endpoint, to which `/chat/completions` is added: `http://localhost:8000/v1`. "" to use recorded
            verdicts only.
        calls: Per answer, at the same time.
        timeout: Seconds that each may take.

    Raises:
        ValueError: If the URL is none, or a line of `record` is no verdict.
    """

    def __init__(
        self, model: str, record: str | Path, url: str = "", calls: int = CALLS, timeout: float = TIMEOUT
    ) -> None:
        if url and not re.match(r"https?://[^/\s]", url):
            raise JudgeError(f"judge URL {url!r} must begin with http:// or https://, like http://localhost:8000/v1.")
        self.model, self.url, self.calls, self.timeout = model, url.rstrip("/"), calls, timeout
        self.record = Path(record)
        self.prompt = f"{zlib.crc32(PROMPT.encode()):08x}"
        self.last_failure = ""
        self._known = _read(self.record)

    def check(self) -> None:
        """One call, whose reply does not matter.

        Raises:
            JudgeError: If the endpoint cannot be reached, or refuses it; the message says what to change.
        """
        if self.url:
            reply = self._call(_prompt("Is the video sharp?", "Yes", "Yes"), FIRST_TIMEOUT)
            if isinstance(reply, _NoReply):
                raise JudgeError(
                    f"judge {self.url!r}, model {self.model!r}: {reply.reason}. Is the server up, is this its base URL "
                    f"(mostly ending in /v1), does it serve this model, and does it want a key in {KEY_VARIABLE}?"
                )

    def verdicts(self, question: str, response: str, reference: str) -> Verdicts | None:
        """What the judge says of an answer: `calls` verdicts, recorded or asked for.

        Args:
            question: As asked.
            response: The answer; one that says nothing gets a 0 without a call.
            reference: The right answer.

        Returns:
            `None` without an endpoint, if none is recorded. Where calls timed out or failed and no verdict is valid, it
            is asked for again.
        """
        if not response.strip():
            return Verdicts((0,))
        key = (question, response, reference, self.model, self.prompt)
        known = self._known.get(key)
        if known is not None and (known.values or not (known.timeouts or known.failed) or not self.url):
            return known
        if not self.url:
            return None
        asked = _prompt(question, response, reference)
        with ThreadPoolExecutor(self.calls) as pool:
            replies = list(pool.map(lambda _: self._call(asked, self.timeout), range(self.calls)))
        found = self._known[key] = self._counted(replies)
        self._keep(key, found)
        return found

    def _counted(self, replies: Sequence[str | _NoReply]) -> Verdicts:
        failures = [reply for reply in replies if isinstance(reply, _NoReply)]
        parsed = [parse_verdict(reply) for reply in replies if isinstance(reply, str)]
        timeouts = sum(failure.timed_out for failure in failures)
        self.last_failure = failures[-1].reason if failures else self.last_failure
        valid = tuple(value for value in parsed if value is not None)
        return Verdicts(valid, parsed.count(None), timeouts, len(failures) - timeouts)

    def _call(self, content: str, timeout: float) -> str | _NoReply:
        """The reply to one message."""
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=timeout) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except HTTPError as error:
            said = " ".join(error.read(500).decode(errors="replace").split())
            return _NoReply(f"it answers with HTTP {error.code} {error.reason}: {said:.300}")
        except TimeoutError:
            return _NoReply(f"no reply within {timeout:g} s", True)
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                return _NoReply(f"no reply within {timeout:g} s", True)
            return _NoReply(f"it cannot be reached ({error.reason})")
        except (OSError, http.client.HTTPException) as error:
            return _NoReply(f"the connection broke ({error!r:.200})")
        except (ValueError, LookupError, TypeError) as error:
            return _NoReply(f"its reply is no chat completion ({error!r:.200})")

    def _keep(self, key: tuple[str, ...], found: Verdicts) -> None:
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with self.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(zip(KEYS, key, strict=True)) | asdict(found)) + "\n")


KEYS = ("question", "response", "reference", "model", "prompt")
"""What a verdict is found by; `prompt` is a checksum of `PROMPT`."""


@dataclass(frozen=True)
class _NoReply:
    """Why a call has no reply."""

    reason: str
    timed_out: bool = False


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, which would hand the key on to another host."""

    def redirect_request(self, *args: Any, **settings: Any) -> None:
        return None


_OPENER = build_opener(_NoRedirect)


def _prompt(question: str, response: str, reference: str) -> str:
    texts = {"question": question, "response": response, "reference": reference}
    return PROMPT.format(**{name: json.dumps(text, ensure_ascii=False) for name, text in texts.items()})


def _read(record: Path) -> dict[tuple[str, ...], Verdicts]:
    """Recorded verdicts. A last line without its end was torn by a killed run, and is cut off."""
    if not record.is_file():
        return {}
    text = record.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        record.write_text(text, encoding="utf-8")
    known = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
            known[tuple(row[key] for key in KEYS)] = Verdicts(
                tuple(row["values"]), row["invalid"], row["timeouts"], row["failed"]
            )
        except (ValueError, LookupError, TypeError):
            raise JudgeError(f"{record}:{number}: {line!r:.80} is no recorded verdict: remove the line.") from None
    return known

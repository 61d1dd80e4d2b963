"""What the page says of results: HTML and messages in which a policy's words, and file names, are nothing but text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from vqathinker.policy import VQAThinkerProcessor
from vqathinker.rewards.parsing import answer_block
from vqathinker.scoring import QualityComparison, QualityScore
from vqathinker.scoring.comparing import NOT_LEARNED
from vqathinker.scoring.conversation import Turn
from vqathinker.scoring.seen import trained_line
from vqathinker.scoring.table import RENAMED
from vqathinker.scoring.timeline import Timeline

CONVERSATION = (
    "Each question is asked behind all that was said of this clip before, the score included. A policy answers what it "
    "was trained on: one that has learnt to score alone answers everything as if it were asked for a score, and where "
    "a policy was trained on single questions, answers behind others may fall apart: ask without what was said before."
)
ROW = ("video", "score", "std", "status", "reasoning", "error")
"""Columns of a batch's table on the page; the CSV has all."""
HEADERS = [RENAMED.get(name, name) for name in ROW]
WIDTHS = ["17%", "8%", "9%", "18%", "24%", "24%"]
"""Of them; without widths long cells would not be broken into lines, but pushed out of sight."""
REASONS = {
    "no_answer": "The answer has no <answer> block that says something.",
    "no_number": "The answer names no number.",
    "no_level": "The answer names no level word.",
    "no_numbers": "The answer does not name two numbers.",
    "no_word": "The answer does not begin with first, second or similar.",
    "several": "There are several <answer> blocks.",
    "out_of_range": "A number of the answer is outside 1 to 5.",
    "too_few_frames": "There are fewer frames than the policy looks at.",
    "unreadable": "The clip cannot be read.",
    "refused": "The clip is more than the page takes.",
}
"""Status of a result -> why there is no score or preference."""
Said = list[dict[str, Any]]
"""Messages as the page shows them."""


def about(name: str, processor: VQAThinkerProcessor, warning: str = "") -> str:
    """What the page is, as Markdown.

    Args:
        name: Of the policy.
        processor: Its processor; where it sees clips otherwise than in training, that is said.
        warning: What else should be known of this policy.
    """
    told = (
        f"How good is a clip, and what is wrong with it? The policy `{name}` answers. Scores go from 1 (very poor) to "
        "5 (excellent). Clips go to the machine that serves this page, no further, and are deleted when it stops."
    )
    more = [f"{line[0].upper()}{line[1:]}." for line in (warning, trained_line(processor)) if line]
    return "\n\n".join([f"# Video quality\n{told}", *(f"**{line}**" for line in more)])


def reason(status: str) -> str:
    """A status as a sentence; "ok" and unknown ones as they are."""
    return REASONS.get(status, status)


def card(result: QualityScore) -> str:
    """A score as HTML, or why there is none."""
    if not result.parsed:
        said = escape("".join(result.answers[:1]))
        why = f"No score. {escape(reason(result.status))}"
        return f'<div class="card"><span>{why}</span><span class="reasoning">{said}</span></div>'
    count = len(result.answers)
    spread = "" if math.isnan(result.spread) else f", spread {result.spread:.2f}"
    over = f" over {count} answers" if count > 1 else ""
    lost = f", {count - result.num_parsed} of them without a number" if result.num_parsed < count else ""
    number = f'<span class="number">{result.score:.2f}</span><span class="dim">of 5{spread}{over}{lost}</span>'
    reasoning = f'<span class="reasoning">{escape(result.reasoning)}</span>' if result.reasoning else ""
    return f'<div class="card">{number}{reasoning}</div>'


def first_of(result: QualityScore) -> str:
    """What the conversation shows beside the first answer of several."""
    count = len(result.answers)
    return f"the first of {count} answers, whose mean is {result.score:.2f}" if count > 1 and result.parsed else ""


def messages(turn: Turn, note: str = "") -> Said:
    """A question and what was answered; the reasoning folds.

    Args:
        turn: Both.
        note: What stands below the answer.
    """
    block = answer_block(turn.answer, "last")
    content = turn.answer[slice(*block)].strip() if block else ""
    shown = content or f"(no answer) {turn.answer}"
    reasoning = turn.answer.partition("<think>")[2].partition("</think>")[0].strip()
    said: Said = [{"role": "user", "content": turn.question}]
    if reasoning and content:
        said.append({"role": "assistant", "content": reasoning, "metadata": {"title": "Reasoning"}})
    return [*said, {"role": "assistant", "content": f"{shown}\n({note})" if note else shown}]


def summary(found: Timeline) -> str:
    """The lowest window in a sentence, as HTML, and what has no score."""
    known = [window for window in found.windows if window.result.parsed]
    lost = [window for window in found.windows if not window.result.parsed]
    why = f" {len(lost)} of {len(found.windows)} windows have no score ({lost[0].error})." if lost else ""
    if not known:
        return f"<p>{escape(why.strip())}</p>"
    worst = min(known, key=lambda window: window.result.score)
    faults = ", ".join(f"{degree} {kind}".strip() for kind, degree in worst.faults.items()) or "no fault is named"
    told = f"Lowest from {worst.start:.1f} to {worst.end:.1f} s: {worst.result.score:.2f} ({faults}).{why}"
    return f"<p>{escape(told)}</p>"


def verdict(found: QualityComparison) -> str:
    """A comparison as HTML, or why there is no preference."""
    answers = "".join(
        f'<p class="reasoning">{place} shown first: {escape(text)}</p>'
        for place, text in zip(("First", "Second"), found.answers, strict=False)
    )
    if not found.parsed:
        learned = NOT_LEARNED[0].upper() + NOT_LEARNED[1:]
        return f"<p>No preference. {escape(reason(found.status))} {escape(learned)}.</p>{answers}"
    better = {"first": f"{found.first} is better", "second": f"{found.second} is better", "similar": "Both are similar"}
    sure = f"the first is better with a probability of {found.preference:.2f}"
    scores = "" if math.isnan(found.scores[0]) else "; scores {:.2f} and {:.2f}".format(*found.scores)
    disagree = "" if found.consistent else " The answers in the two orders disagree."
    return f"<p><b>{escape(better[found.better])}</b>: {sure}{scores}.{disagree}</p>{answers}"


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Rows of `score_files` as the page's table has them, with the columns `HEADERS`."""
    told = [row | {"status": reason(row["status"])} for row in rows]
    return [[_cell(row[name]) for name in ROW] for row in told]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)
